//! A rollback by hand.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::names::Operation;

/// A rollback by hand, as the state remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualRollback {
    /// The latest attempt at that time; 0 if there was none.
    pub after: u64,
    /// When, in whole seconds.
    pub at: Timestamp,
    /// Where it led: the generation of the profile, and its system.
    pub generation: u64,
    pub system: PathBuf,
    /// `Boot` if only a reboot could complete it.
    pub operation: Operation,
    /// The boot in which it was.
    pub boot: Option<String>,
    /// Who ordered it.
    pub by: String,
}
