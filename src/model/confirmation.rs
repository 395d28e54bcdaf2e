//! The steps of a deployment that somebody may have to confirm.

use clap::ValueEnum;
use derive_more::Display;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is not done before somebody has confirmed it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum, Display,
)]
#[serde(rename_all = "lowercase")]
#[display(rename_all = "lowercase")]
pub enum ConfirmStep {
    /// To build what was evaluated.
    Build,
    /// To activate what was built.
    Deploy,
}

impl ConfirmStep {
    /// As in "it waits to be built".
    pub fn participle(self) -> &'static str {
        match self {
            Self::Build => "built",
            Self::Deploy => "deployed",
        }
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
