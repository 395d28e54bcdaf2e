//! A head, and what was found about it.

use serde::{Deserialize, Serialize};

use crate::model::signature::{Signer, Unverified};
use crate::model::{commit::Commit, names::RemoteName, refusal::Refusal, remote::Head};

/// Whether a head may be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Eligibility {
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

/// A head, and whether it may be deployed. Every head gets one, whatever is said of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The remote.
    pub remote: RemoteName,
    /// The branch and its head.
    pub head: Head,
    /// Whether this is a testing branch.
    pub testing: bool,
    /// What was found.
    #[serde(rename = "verdict")]
    pub eligibility: Eligibility,
}

impl Candidate {
    /// Why the head cannot be deployed, if it cannot.
    pub fn refusal(&self) -> Option<Refusal> {
        match &self.eligibility {
            Eligibility::Selected(qualified) | Eligibility::Qualifies(qualified) => {
                qualified.passed_over.clone().map(Refusal::Unverified)
            }
            Eligibility::Refused(refusal) => Some(refusal.clone()),
        }
    }
}
