//! What an activation did to the units of systemd.

use serde::{Deserialize, Serialize};

/// What an activation did to units. At most the first few of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitChanges {
    /// Those that ran and run anew.
    pub restarted: Vec<String>,
    /// Those that run and did not.
    pub started: Vec<String>,
    /// Those that ran and do not.
    pub stopped: Vec<String>,
    /// Those that have failed and had not before.
    pub failed: Vec<String>,
    /// How many more there are.
    pub left_out: usize,
}
