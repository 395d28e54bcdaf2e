//! What to deploy, and how.

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::commit::Commit;
use crate::model::names::{Operation, RemoteName};

/// What to deploy, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
#[display("{} ({remote}/{branch})", commit.short())]
pub struct Target {
    /// Of which remote.
    pub remote: RemoteName,
    /// Of which branch.
    pub branch: String,
    /// Whether that is a testing branch.
    pub testing: bool,
    /// Its head, or the newest ancestor that is signed where the owner wants that.
    pub commit: Commit,
    /// Who signed it, where that is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// How it is activated.
    pub operation: Operation,
    /// The main it stands on: accepted once it reaches activation.
    pub main: Commit,
}

impl Target {
    /// Whether it is this commit, activated in this way: what has become of one has become of the other,
    /// whichever remote has it.
    pub fn same_as(&self, commit: &Commit, operation: Operation) -> bool {
        (&self.commit, self.operation) == (commit, operation)
    }

    /// `testing` if this is the target of a testing branch, else `main`.
    pub fn choose<T>(&self, main: T, testing: T) -> T {
        if self.testing {
            testing
        } else {
            main
        }
    }

    /// Whether it is of this branch of this remote.
    pub fn is_of(&self, remote: &RemoteName, branch: &str, testing: bool) -> bool {
        (&self.remote, &*self.branch, self.testing) == (remote, branch, testing)
    }
}
