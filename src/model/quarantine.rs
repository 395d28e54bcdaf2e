//! A commit that is not deployed again, until a head moves or the operator says so.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::names::{Operation, RemoteName};
use crate::model::remote::{Head, RemoteFacts};
use crate::model::{candidate::Candidate, commit::Commit, refusal::Refusal, target::Target};

/// A commit in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The commit.
    pub commit: Commit,
    /// Only activated like this; another way of activating it is another thing.
    pub operation: Operation,
    /// Why, as a sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether a gate holds it, and nothing is wrong with the machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_gate: bool,
    /// Whether somebody went back by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Every followed head at that time.
    heads: Vec<String>,
}

impl Quarantine {
    /// Puts a target into quarantine.
    pub fn of(target: &Target, remotes: &[RemoteFacts], reason: String, since: Timestamp) -> Self {
        Self {
            commit: target.commit.clone(),
            operation: target.operation,
            reason,
            since,
            by_gate: false,
            by_hand: false,
            heads: heads(remotes),
        }
    }

    /// The same, by a gate.
    pub fn by_gate(self) -> Self {
        Self {
            by_gate: true,
            ..self
        }
    }

    /// The same, because somebody went back by hand.
    pub fn by_hand(self) -> Self {
        Self {
            by_hand: true,
            ..self
        }
    }

    /// Whether it is this target that may not be deployed. Whether remotes can be reached does not
    /// matter: else an outage would bring a bad commit back.
    pub fn holds(&self, target: &Target, candidates: &[Candidate]) -> bool {
        target.same_as(&self.commit, self.operation) && self.is_current(candidates)
    }

    /// Whether no head has moved since. One that does not verify, or cannot be read, moves nothing.
    pub fn is_current(&self, candidates: &[Candidate]) -> bool {
        let is_unmoved = |(before, now): (&String, &Candidate)| match now.refusal() {
            Some(Refusal::Unverified(_) | Refusal::Unreadable(_)) => {
                let branch = format!("{} ", branch(&now.remote, &now.head));
                before.starts_with(&branch)
            }
            Some(_) | None => *before == entry(&now.remote, &now.head),
        };
        let mut heads = self.heads.iter().zip(candidates);
        self.heads.len() == candidates.len() && heads.all(is_unmoved)
    }
}

/// In the order of a decision's candidates.
fn heads(remotes: &[RemoteFacts]) -> Vec<String> {
    let heads = remotes.iter().flat_map(|remote| {
        let heads = remote.main.iter().chain(&remote.testing);
        heads.map(|head| entry(&remote.name, head))
    });
    heads.collect()
}

fn entry(remote: &RemoteName, head: &Head) -> String {
    let commit = head.commit.as_ref().map_or("-", Commit::as_str);
    format!("{} {commit}", branch(remote, head))
}

fn branch(remote: &RemoteName, head: &Head) -> String {
    format!("{remote}/{}", head.branch.name)
}
