//! Why a head is not deployed, as a sentence with the cure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::commit::Commit;
use crate::signature::Unverified;

/// Why a head is not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The remote has not been fetched yet.
    NotFetched,
    /// The latest fetch of the remote failed.
    Unreachable,
    /// There is no such branch.
    Missing,
    /// A main that the accepted one of another remote has not been pushed to.
    Behind(Commit),
    /// A main that went back behind the accepted one.
    Rewound {
        /// Where it is.
        head: Commit,
        /// Where it was.
        accepted: Commit,
    },
    /// A main that does not contain the accepted one.
    Rewritten {
        /// Where it is.
        head: Commit,
        /// What it does not contain.
        accepted: Commit,
    },
    /// A testing branch without any main to stand on.
    NoMain,
    /// A testing branch that has nothing beyond main.
    InMain,
    /// A testing branch that does not contain main.
    NotOnMain(Commit),
    /// The history cannot be read.
    Unreadable(String),
    /// A commit without a signature that counts, where one is required.
    Unverified(Unverified),
}

impl Refusal {
    /// Whether it may be gone by itself after a while.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unverified(unverified) if unverified.may_pass())
    }

    /// Whether a person did something that is not going to have the effect they expect.
    #[must_use]
    pub fn is_news(&self) -> bool {
        match self {
            Self::Rewound { .. }
            | Self::Rewritten { .. }
            | Self::NotOnMain(_)
            | Self::Unreadable(_)
            | Self::Unverified(_) => true,
            Self::NotFetched
            | Self::Unreachable
            | Self::Missing
            | Self::Behind(_)
            | Self::NoMain
            | Self::InMain => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFetched => write!(f, "the remote has not been fetched yet"),
            Self::Unreachable => write!(f, "the remote cannot be fetched"),
            Self::Missing => write!(f, "there is no such branch"),
            Self::Behind(accepted) => write!(
                f,
                "it is behind the accepted main {} of another remote; push that there",
                accepted.short()
            ),
            Self::Rewound { head, accepted } => write!(
                f,
                "rewound, or not pushed yet: it is behind the accepted main {}; push that commit, or one on top of it, e.g. with git revert; or allow it once with comin accept {}",
                accepted.short(),
                head.short()
            ),
            Self::Rewritten { head, accepted } => write!(
                f,
                "diverged: it does not contain the accepted main {}; rebase or merge it onto that, or allow it once with comin accept {}",
                accepted.short(),
                head.short()
            ),
            Self::NoMain => write!(f, "there is no main to test on"),
            Self::InMain => write!(f, "it has nothing that main does not have"),
            Self::NotOnMain(main) => write!(
                f,
                "it does not contain main {}; rebase or merge it onto that",
                main.short()
            ),
            Self::Unreadable(error) => write!(f, "its history cannot be read: {error}"),
            Self::Unverified(unverified) => unverified.fmt(f),
        }
    }
}
