//! The steps of a deployment that somebody may have to confirm.

use std::fmt;

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is not done before somebody has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// To build what was evaluated.
    Build,
    /// To activate what was built.
    Deploy,
}

impl Step {
    /// As in "it waits to be built".
    pub fn participle(self) -> &'static str {
        match self {
            Self::Build => "built",
            Self::Deploy => "deployed",
        }
    }
}

/// As in `comin confirm build`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Deploy => "deploy",
        })
    }
}

/// Whether something that waits for a confirmation may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// It may.
    Given,
    /// At this time, if nobody says so before. Where the clock has been set back, rather later than too early.
    At(Timestamp),
    /// Somebody has to say so.
    Missing,
}
