//! What to deploy: a pure function from plain facts to a decision. No clock, no log, no disk.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::commit::Commit;
use crate::config::{Branch, Operation, RemoteName};

/// How long a failed deployment can wait for its next try. A time further ahead than this was
/// written by a clock that has been set back, and does not count.
pub const MAX_BACKOFF: SignedDuration = SignedDuration::from_hours(1);

/// A followed branch and its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its name and operation.
    pub branch: Branch,
    /// `None` where the remote has no such branch.
    pub commit: Option<Commit>,
}

/// Whether the latest fetch of a remote worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Not fetched since the machine booted, or since its URL changed.
    Never,
    /// The latest fetch failed.
    Unreachable,
    /// The latest fetch worked; its heads are those of the remote.
    Fetched,
}

/// What is known of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFacts {
    /// Its name.
    pub name: RemoteName,
    /// Whether its heads count.
    pub reach: Reach,
    /// The branch that is deployed to stay.
    pub main: Head,
    /// The branch that is tried, if one is followed.
    pub testing: Option<Head>,
}

/// Everything that a decision depends on, apart from the ancestry of the commits.
#[derive(Debug, Clone)]
pub struct Facts {
    /// In the order of the configuration.
    pub remotes: Vec<RemoteFacts>,
    /// The chosen main of the latest deployment that reached activation.
    pub accepted: Option<Commit>,
    /// The latest attempt, which has ended.
    pub last: Option<Last>,
    /// The time.
    pub now: Timestamp,
}

/// The latest attempt, as far as it matters to a decision.
#[derive(Debug, Clone)]
pub struct Last {
    /// What was deployed.
    pub commit: Commit,
    /// How.
    pub operation: Operation,
    /// When the same may be tried again; `None` where it succeeded or must not be repeated.
    pub retry_at: Option<Timestamp>,
}

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

/// Why a head is not deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The remote has not been fetched yet.
    NotFetched,
    /// The latest fetch of the remote failed.
    Unreachable,
    /// There is no such branch.
    Missing,
    /// A main that went back behind the accepted one.
    Rewound(Commit),
    /// A main that does not contain the accepted one.
    Rewritten(Commit),
    /// A testing branch without any main to stand on.
    NoMain,
    /// A testing branch that has nothing beyond main.
    InMain,
    /// A testing branch that does not contain main.
    NotOnMain(Commit),
    /// The history cannot be read.
    Unreadable(String),
}

impl Refusal {
    /// Whether a person did something that is not going to have the effect they expect.
    #[must_use]
    pub fn is_news(&self) -> bool {
        match self {
            Self::Rewound(_) | Self::Rewritten(_) | Self::NotOnMain(_) | Self::Unreadable(_) => {
                true
            }
            Self::NotFetched | Self::Unreachable | Self::Missing | Self::NoMain | Self::InMain => {
                false
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFetched => write!(f, "the remote has not been fetched yet"),
            Self::Unreachable => write!(f, "the remote cannot be fetched"),
            Self::Missing => write!(f, "there is no such branch"),
            Self::Rewound(accepted) => write!(
                f,
                "rewound: it is behind the accepted main {}; push a commit on top of that, e.g. with git revert",
                accepted.short()
            ),
            Self::Rewritten(accepted) => write!(
                f,
                "diverged: it does not contain the accepted main {}; rebase or merge it onto that",
                accepted.short()
            ),
            Self::NoMain => write!(f, "there is no main to test on"),
            Self::InMain => write!(f, "it has nothing that main does not have"),
            Self::NotOnMain(main) => write!(
                f,
                "it does not contain main {}; rebase or merge it onto that",
                main.short()
            ),
            Self::Unreadable(error) => write!(f, "its history cannot be read: {error}"),
        }
    }
}

/// What was found about a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one to deploy.
    Selected,
    /// It could be deployed, but another one comes first.
    Qualifies,
    /// It cannot.
    Refused(Refusal),
}

/// A head with its verdict. Every head gets one, whatever is said of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What to deploy, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Of which remote.
    pub remote: RemoteName,
    /// Of which branch.
    pub branch: String,
    /// Whether that is a testing branch.
    pub testing: bool,
    /// Its head.
    pub commit: Commit,
    /// How it is activated.
    pub operation: Operation,
    /// The main it stands on: accepted once it reaches activation.
    pub main: Commit,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deploy the selected target.
    Deploy,
    /// It failed; the same is tried again then.
    Retry(Timestamp),
    /// It is deployed, or its activation failed and is not repeated.
    Nothing,
}

/// The decision on one set of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the machine should run; `None` where no head qualifies.
    pub selected: Option<Target>,
    /// What is to be done about it.
    pub action: Action,
    /// Every head, remote by remote, main first.
    pub candidates: Vec<Candidate>,
}

/// Decides. `relation(base, head)` tells where `head` stands relative to `base`; it is asked only
/// about heads that could still be chosen, and never whether a commit is itself.
///
/// 1. A main qualifies when it is the accepted main or a descendant of it. The first strict
///    descendant is chosen, else the first equal one; where none qualifies the accepted main stays
///    the base of 2.
/// 2. A testing head qualifies when it is a strict descendant of the chosen main. The first one
///    wins over main.
pub fn decide(facts: &Facts, relation: impl Fn(&Commit, &Commit) -> Relation) -> Decision {
    let relation = |base: &Commit, head: &Commit| {
        if base == head {
            Relation::Equal
        } else {
            relation(base, head)
        }
    };
    let mut mains: Vec<Judged> = facts
        .remotes
        .iter()
        .map(|remote| Judged::main(remote, facts.accepted.as_ref(), &relation))
        .collect();
    let chosen = first(&mains, Standing::Ahead).or_else(|| first(&mains, Standing::Level));
    let base = chosen
        .and_then(|main| mains[main].head.commit.clone())
        .or_else(|| facts.accepted.clone());
    let mut testings: Vec<Judged> = facts
        .remotes
        .iter()
        .filter_map(|remote| Judged::testing(remote, base.as_ref(), &relation))
        .collect();
    let tested = first(&testings, Standing::Ahead);

    let winner = match (tested, chosen) {
        (Some(testing), _) => Some(&mut testings[testing]),
        (None, Some(main)) => Some(&mut mains[main]),
        (None, None) => None,
    };
    let selected = winner
        .zip(base)
        .and_then(|(winner, base)| winner.select(base));
    let action = action(selected.as_ref(), facts);
    let mut candidates: Vec<Candidate> = mains
        .into_iter()
        .chain(testings)
        .map(Judged::done)
        .collect();
    let position = |c: &Candidate| facts.remotes.iter().position(|r| r.name == c.remote);
    candidates.sort_by_key(|candidate| (position(candidate), candidate.testing));
    Decision {
        selected,
        action,
        candidates,
    }
}

fn first(judged: &[Judged], standing: Standing) -> Option<usize> {
    judged.iter().position(|j| j.standing == Ok(standing))
}

fn action(selected: Option<&Target>, facts: &Facts) -> Action {
    let Some(target) = selected else {
        return Action::Nothing;
    };
    match &facts.last {
        Some(last) if (&last.commit, last.operation) == (&target.commit, target.operation) => {
            match last.retry_at {
                None => Action::Nothing,
                Some(at) if at <= facts.now || at > facts.now + MAX_BACKOFF => Action::Deploy,
                Some(at) => Action::Retry(at),
            }
        }
        Some(_) | None => Action::Deploy,
    }
}

/// How a head that qualifies stands to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ahead,
    Level,
}

struct Judged<'a> {
    remote: &'a RemoteName,
    head: &'a Head,
    testing: bool,
    standing: Result<Standing, Refusal>,
    selected: bool,
}

impl<'a> Judged<'a> {
    fn main(
        remote: &'a RemoteFacts,
        accepted: Option<&Commit>,
        relation: &impl Fn(&Commit, &Commit) -> Relation,
    ) -> Self {
        let standing = usable(remote, &remote.main).and_then(|commit| {
            let Some(accepted) = accepted else {
                return Ok(Standing::Ahead);
            };
            match relation(accepted, commit) {
                Relation::Equal => Ok(Standing::Level),
                Relation::Descendant => Ok(Standing::Ahead),
                Relation::Ancestor => Err(Refusal::Rewound(accepted.clone())),
                Relation::Diverged => Err(Refusal::Rewritten(accepted.clone())),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        });
        Self::new(remote, &remote.main, false, standing)
    }

    fn testing(
        remote: &'a RemoteFacts,
        base: Option<&Commit>,
        relation: &impl Fn(&Commit, &Commit) -> Relation,
    ) -> Option<Self> {
        let head = remote.testing.as_ref()?;
        let standing = usable(remote, head).and_then(|commit| {
            let base = base.ok_or(Refusal::NoMain)?;
            match relation(base, commit) {
                Relation::Descendant => Ok(Standing::Ahead),
                Relation::Equal | Relation::Ancestor => Err(Refusal::InMain),
                Relation::Diverged => Err(Refusal::NotOnMain(base.clone())),
                Relation::Unreadable(error) => Err(Refusal::Unreadable(error)),
            }
        });
        Some(Self::new(remote, head, true, standing))
    }

    fn new(
        remote: &'a RemoteFacts,
        head: &'a Head,
        testing: bool,
        standing: Result<Standing, Refusal>,
    ) -> Self {
        Self {
            remote: &remote.name,
            head,
            testing,
            standing,
            selected: false,
        }
    }

    fn select(&mut self, main: Commit) -> Option<Target> {
        self.selected = true;
        Some(Target {
            remote: self.remote.clone(),
            branch: self.head.branch.name.clone(),
            testing: self.testing,
            commit: self.head.commit.clone()?,
            operation: self.head.branch.operation,
            main,
        })
    }

    fn done(self) -> Candidate {
        Candidate {
            remote: self.remote.clone(),
            head: self.head.clone(),
            testing: self.testing,
            verdict: match self.standing {
                Ok(_) if self.selected => Verdict::Selected,
                Ok(_) => Verdict::Qualifies,
                Err(refusal) => Verdict::Refused(refusal),
            },
        }
    }
}

/// The head's commit, if it is known and counts.
fn usable<'a>(remote: &RemoteFacts, head: &'a Head) -> Result<&'a Commit, Refusal> {
    match remote.reach {
        Reach::Never => Err(Refusal::NotFetched),
        Reach::Unreachable => Err(Refusal::Unreachable),
        Reach::Fetched => head.commit.as_ref().ok_or(Refusal::Missing),
    }
}
