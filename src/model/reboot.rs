//! A reboot that a deployment needs.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A reboot for a system, as the state remembers it. By it, there is at most one for each deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    /// The attempt that asked for it.
    pub attempt: u64,
    /// The system that the reboot brings.
    pub system: PathBuf,
    /// The boot that it ends.
    pub boot: Option<String>,
    /// When it was announced.
    pub announced_at: Timestamp,
    /// How far it is.
    pub stage: Stage,
}

/// How far a reboot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Everybody knows.
    Announced,
    /// systemd knows, too. One of a later version counts as that: no second reboot is ordered then.
    #[serde(other)]
    Ordered,
}
