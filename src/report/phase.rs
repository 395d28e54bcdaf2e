//! What comin is doing.

use std::fmt;

use serde::Serialize;

use crate::model::stage::Stage;

/// What comin is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing, but perhaps fetching.
    Idle,
    /// An attempt is in this stage.
    #[serde(untagged)]
    At(Stage),
}

/// As in the JSON.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::At(stage) => stage.name(),
        })
    }
}
