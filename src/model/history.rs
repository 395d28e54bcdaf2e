//! What a decision asks about commits.

use crate::model::commit::Commit;
use crate::model::signature::{Signer, Unverified};

/// Where a commit stands relative to a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// The base is in its history.
    Descendant,
    /// It is in the history of the base.
    Ancestor,
    /// Neither is in the other's history.
    Diverged,
    /// The history cannot be read.
    Unreadable(String),
}

/// Whether a commit may be deployed for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// The owner requires none.
    NotRequired,
    /// It is by somebody who is trusted.
    By(Signer),
    /// There is none that counts.
    Refused(Unverified),
}

/// What a decision asks about commits; only about those that could still be chosen.
pub trait History {
    /// Where `head` stands relative to another commit, `base`.
    fn relation(&self, base: &Commit, head: &Commit) -> Relation;

    /// Whether a commit is signed by somebody whom the owner trusts, if that is required.
    fn signature(&self, commit: &Commit) -> Signature;

    /// The ancestors of `head` that are not in the history of `base`; newest first. Not necessarily all of
    /// them.
    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit>;
}
