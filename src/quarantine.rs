//! A commit that is not deployed again, until a head moves or the operator says so.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commit::Commit;
use crate::config::Operation;
use crate::select::{RemoteFacts, Target};

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
    /// Every followed head at that time.
    heads: Vec<String>,
}

impl Quarantine {
    /// Puts a target into quarantine.
    #[must_use]
    pub fn of(target: &Target, remotes: &[RemoteFacts], reason: String) -> Self {
        Self {
            commit: target.commit.clone(),
            operation: target.operation,
            reason,
            since: Timestamp::now(),
            heads: heads(remotes),
        }
    }

    /// Whether it is this target that may not be deployed. Whether remotes can be reached does not
    /// matter: else an outage would bring a bad commit back.
    #[must_use]
    pub fn holds(&self, target: &Target, remotes: &[RemoteFacts]) -> bool {
        target.is(&self.commit, self.operation) && self.is_current(remotes)
    }

    /// Whether no head has moved since.
    #[must_use]
    pub fn is_current(&self, remotes: &[RemoteFacts]) -> bool {
        self.heads == heads(remotes)
    }

    /// Whether it is about the same commit, activated in the same way.
    #[must_use]
    pub fn is_about_same(&self, other: &Self) -> bool {
        (&self.commit, self.operation) == (&other.commit, other.operation)
    }
}

fn heads(remotes: &[RemoteFacts]) -> Vec<String> {
    let heads = remotes.iter().flat_map(|remote| {
        let heads = remote.main.iter().chain(&remote.testing);
        heads.map(|head| {
            let commit = head.commit.as_ref().map_or("-", Commit::as_str);
            format!("{}/{} {commit}", remote.name, head.branch.name)
        })
    });
    heads.collect()
}
