//! What is wrong with a machine.

use serde::{Deserialize, Serialize};

use crate::model::names::RemoteName;

/// What is wrong with a machine after an activation or a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As a sentence.
    pub error: String,
    /// The remotes that cannot be reached, if that is the fault.
    #[serde(default)]
    pub unreachable: Vec<RemoteName>,
}

impl Fault {
    /// A fault that has nothing to do with the remotes.
    pub fn local(error: String) -> Self {
        Self {
            error,
            unreachable: Vec::new(),
        }
    }
}
