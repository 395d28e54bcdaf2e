//! Why a head is not deployed, as a sentence with the cure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{commit::Commit, signature::Unverified};

/// Of an accepted main that was amended or rebased.
const LOST: &str = ", which no followed branch contains any more";

/// The accepted main.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its commit.
    pub commit: Commit,
    /// The branch that it was deployed from, as `local/main`, if that is remembered.
    pub from: Option<String>,
}

/// As in `3f2a9c1e (local/main)`.
impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.commit.short())?;
        match &self.from {
            Some(from) => write!(f, " ({from})"),
            None => Ok(()),
        }
    }
}

/// What a person can do about a main that does not contain the accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cure {
    /// Push a commit that contains it.
    Push,
    /// No followed branch contains it any more: accept this head in its place.
    Accept,
    /// The same, but another head is the one to accept.
    AcceptAnother,
}

/// A main that is elsewhere than the accepted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Where it is.
    pub head: Commit,
    /// What it does not contain.
    pub accepted: Accepted,
    /// What helps.
    pub cure: Cure,
}

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
    Behind(Accepted),
    /// A main that went back behind the accepted one.
    Rewound(Displaced),
    /// A main that does not contain the accepted one.
    Rewritten(Displaced),
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
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unverified(unverified) if unverified.is_transient())
    }

    /// Whether a person did something that is not going to have the effect they expect.
    pub fn is_notable(&self) -> bool {
        match self {
            Self::Rewound(main) => main.cure != Cure::AcceptAnother,
            Self::Rewritten(_) | Self::NotOnMain(_) | Self::Unreadable(_) | Self::Unverified(_) => {
                true
            }
            Self::NotFetched
            | Self::Unreachable
            | Self::Missing
            | Self::Behind(_)
            | Self::NoMain
            | Self::InMain => false,
        }
    }

    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFetched => "not_fetched",
            Self::Unreachable => "unreachable",
            Self::Missing | Self::NoMain => "missing",
            Self::Behind(_) | Self::InMain => "behind",
            Self::Rewound(_) => "rewound",
            Self::Rewritten(_) | Self::NotOnMain(_) => "diverged",
            Self::Unreadable(_) => "unreadable",
            Self::Unverified(_) => "unsigned",
        }
    }

    /// The command that helps, if one does.
    pub fn command(&self) -> Option<String> {
        match self {
            Self::Rewound(main) | Self::Rewritten(main) if main.cure == Cure::Accept => {
                Some(format!("sudo comin accept {}", main.head.short()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFetched => write!(f, "the remote has not been fetched yet"),
            Self::Unreachable => write!(f, "the remote cannot be fetched"),
            Self::Missing => write!(f, "there is no such branch"),
            Self::Behind(accepted) => {
                write!(
                    f,
                    "it is behind the accepted main {accepted}; push that there"
                )
            }
            Self::Rewound(main) => {
                let (head, accepted) = (main.head.short(), &main.accepted);
                write!(
                    f,
                    "rewound, or not pushed yet: it is behind the accepted main {accepted}"
                )?;
                match main.cure {
                    Cure::Push => write!(
                        f,
                        "; push that commit, or one on top of it, e.g. with git revert; or allow it once with comin accept {head}"
                    ),
                    Cure::Accept => write!(
                        f,
                        "{LOST}; accept this one, or push that commit again, or one on top of it, e.g. with git revert"
                    ),
                    Cure::AcceptAnother => f.write_str(LOST),
                }
            }
            Self::Rewritten(main) => {
                let (head, accepted) = (main.head.short(), &main.accepted);
                write!(
                    f,
                    "diverged: it does not contain the accepted main {accepted}"
                )?;
                match main.cure {
                    Cure::Push => write!(
                        f,
                        "; rebase or merge it onto that, or allow it once with comin accept {head}"
                    ),
                    Cure::Accept => write!(f, "{LOST}; accept this one"),
                    Cure::AcceptAnother => f.write_str(LOST),
                }
            }
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
