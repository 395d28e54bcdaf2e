//! A head, and what was found about it.

use serde::{Deserialize, Serialize};

use crate::model::signature::{Signer, Unverified};
use crate::model::{commit::Commit, names::RemoteName, refusal::Refusal, remote::Head};

/// What was found about a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is the one to deploy.
    Selected(Qualified),
    /// It could be deployed, but another one comes first.
    Qualifies(Qualified),
    /// It cannot.
    Refused(Refusal),
}

/// What of a branch can be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qualified {
    /// The head, or an ancestor of it.
    pub commit: Commit,
    /// Who signed it, where that is required.
    pub signer: Option<Signer>,
    /// Why it is not the head.
    pub passed_over: Option<Unverified>,
}

/// A head with its verdict. Every head gets one, whatever is said of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The remote.
    pub remote: RemoteName,
    /// The branch and its head.
    pub head: Head,
    /// Whether this is a testing branch.
    pub testing: bool,
    /// What was found.
    pub verdict: Verdict,
}

impl Candidate {
    /// Why the head cannot be deployed, if it cannot.
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.verdict {
            Verdict::Selected(qualified) | Verdict::Qualifies(qualified) => {
                qualified.passed_over.clone().map(Refusal::Unverified)
            }
            Verdict::Refused(refusal) => Some(refusal.clone()),
        }
    }
}
