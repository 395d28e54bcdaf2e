//! What is known of a remote.

use serde::{Deserialize, Serialize};

use crate::model::commit::Commit;
use crate::model::names::{Branch, RemoteName};
use crate::model::target::Target;

/// A followed branch and its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its name and operation.
    pub branch: Branch,
    /// `None` where the remote has no such branch.
    pub commit: Option<Commit>,
}

/// Whether the latest fetch of a remote worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Not fetched since the machine booted, or since its URL changed.
    Never,
    /// The latest fetch failed.
    Unreachable,
    /// The latest fetch worked; its heads are those of the remote.
    Fetched,
    /// Its heads cannot be read from the mirror, for this reason. The next fetch brings them anew.
    Unreadable(String),
}

/// What is known of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFacts {
    /// Its name.
    pub name: RemoteName,
    /// Whether its heads count.
    pub reach: Reach,
    /// The branch that is deployed to stay, if one is followed.
    pub main: Option<Head>,
    /// The branch that is tried, if one is followed.
    pub testing: Option<Head>,
    /// The latest commit of the notes in which CI names systems.
    #[serde(default)]
    pub notes: Option<Commit>,
}

impl RemoteFacts {
    /// Whether the branch that is followed for the same purpose as a target's is at the target's commit.
    pub fn has(&self, target: &Target) -> bool {
        let head = target.choose(&self.main, &self.testing);
        let commit = head.as_ref().and_then(|head| head.commit.as_ref());
        commit == Some(&target.commit)
    }
}
