//! Why a head is not deployed, as a sentence with the cure.

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::{commit::Commit, cure::Cure, signature::Unverified};

/// The accepted main.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
#[display("{}{}", commit.short(), from.as_ref().map_or(String::new(), |from| format!(" ({from})")))]
pub struct Accepted {
    /// Its commit.
    pub commit: Commit,
    /// The branch that it was deployed from, as `local/main`, if that is remembered.
    pub from: Option<String>,
}

/// What a person can do about a main that does not contain the accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
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
    pub cure: Remedy,
}

impl Displaced {
    /// What helps: to do something else, such as `push` another commit, or to accept the head.
    fn advice(&self, instead: &str, or_instead: &str) -> String {
        let (head, accepted) = (self.head.short(), self.accepted.commit.short());
        let lost = format!("no followed branch contains {accepted} any more");
        match self.cure {
            Remedy::Push => format!("{instead}, or allow {head} once with comin accept {head}"),
            Remedy::Accept => format!("{lost}: accept {head}{or_instead}"),
            Remedy::AcceptAnother => lost,
        }
    }

    fn advice_if_rewound(&self) -> String {
        let accepted = self.accepted.commit.short();
        let push = format!("push {accepted}, or a git revert on top of {accepted}");
        self.advice(&push, &format!(", or {push}"))
    }

    fn advice_if_rewritten(&self) -> String {
        let accepted = self.accepted.commit.short();
        self.advice(&format!("rebase or merge it onto {accepted}"), "")
    }
}

/// Why a head is not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
pub enum Refusal {
    /// The remote has not been fetched yet.
    #[display("the remote has not been fetched yet")]
    NotFetched,
    /// The latest fetch of the remote failed.
    #[display("the remote cannot be fetched")]
    Unreachable,
    /// There is no such branch.
    #[display("there is no such branch")]
    Missing,
    /// A main that the accepted one of another remote has not been pushed to.
    #[display("it is behind the accepted main {_0}; push that there")]
    Behind(Accepted),
    /// A main that went back behind the accepted one.
    #[display("rewound, or not pushed yet: it is behind the accepted main {}; {}", _0.accepted, _0.advice_if_rewound())]
    Rewound(Displaced),
    /// A main that does not contain the accepted one.
    #[display("diverged: it does not contain the accepted main {}; {}", _0.accepted, _0.advice_if_rewritten())]
    Rewritten(Displaced),
    /// A testing branch without any main to stand on.
    #[display("there is no main to test on")]
    NoMain,
    /// A testing branch that has nothing beyond main.
    #[display("it has nothing that main does not have")]
    InMain,
    /// A testing branch that does not contain main.
    #[display("it does not contain main {}; rebase it onto main, or merge main into it", _0.short())]
    NotOnMain(Commit),
    /// The history cannot be read.
    #[display("its history cannot be read: {_0}")]
    Unreadable(String),
    /// A commit without a signature that counts, where one is required.
    #[display("{_0}")]
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
            Self::Rewound(main) => main.cure != Remedy::AcceptAnother,
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
    pub fn cure(&self) -> Option<Cure> {
        match self {
            Self::Rewound(main) if main.cure == Remedy::Accept => {
                Some(Cure::accept_to("go back", main.head.short()))
            }
            Self::Rewritten(main) if main.cure == Remedy::Accept => {
                Some(Cure::accept_to("deploy it all the same", main.head.short()))
            }
            _ => None,
        }
    }
}
