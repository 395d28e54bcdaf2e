//! What to deploy: a pure function from plain facts to a decision. No clock, no log, no disk.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::commit::Commit;
use crate::config::{Branch, Operation, RemoteName};

/// The longest that a failed deployment waits for its next try.
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
    /// Whether a person did something that is not going to have the effect they expect. A main that
    /// is behind while another remote's qualifies only waits for a push.
    #[must_use]
    pub fn is_news(&self, main_qualifies: bool) -> bool {
        match self {
            Self::Rewound(_) => !main_qualifies,
            Self::Rewritten(_) | Self::NotOnMain(_) | Self::Unreadable(_) => true,
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
                "rewound, or not pushed yet: it is behind the accepted main {}; push that commit, or one on top of it, e.g. with git revert",
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

/// As in `3f2a9c1e (origin/main)`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}/{})",
            self.commit.short(),
            self.remote,
            self.branch
        )
    }
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
                Some(at) if is_due(at, facts.now) => Action::Deploy,
                Some(at) => Action::Retry(at),
            }
        }
        Some(_) | None => Action::Deploy,
    }
}

/// Whether a time to try again has come. One further ahead than any wait was written by a clock that
/// has been set back since, and does not count.
#[must_use]
pub fn is_due(retry_at: Timestamp, now: Timestamp) -> bool {
    retry_at <= now || retry_at > now + MAX_BACKOFF
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The commit of a letter.
    fn commit(letter: &str) -> Commit {
        let byte = letter.bytes().next().unwrap();
        format!("{byte:02x}").repeat(20).parse().unwrap()
    }

    /// Where commits stand in a history such as `A-B-C B-D`: chains from parent to child.
    fn relation(history: &str, base: &Commit, head: &Commit) -> Relation {
        let edges: Vec<(Commit, Commit)> = history
            .split_whitespace()
            .flat_map(|chain| {
                let letters: Vec<&str> = chain.split('-').collect();
                let pairs = letters
                    .windows(2)
                    .map(|pair| (commit(pair[0]), commit(pair[1])));
                pairs.collect::<Vec<_>>()
            })
            .collect();
        let reaches = |from: &Commit, to: &Commit| {
            let mut seen = BTreeSet::from([from.clone()]);
            while !seen.contains(to) {
                let next = edges.iter().filter(|(parent, _)| seen.contains(parent));
                let next: Vec<Commit> = next.map(|(_, child)| child.clone()).collect();
                let before = seen.len();
                seen.extend(next);
                if seen.len() == before {
                    return false;
                }
            }
            true
        };
        assert_ne!(base, head, "nobody needs to ask");
        if reaches(base, head) {
            Relation::Descendant
        } else if reaches(head, base) {
            Relation::Ancestor
        } else {
            Relation::Diverged
        }
    }

    /// Remotes such as `o:B/C l!:A/-`: name, `!` unreachable or `?` not fetched, main/testing.
    fn facts(accepted: &str, remotes: &str) -> Facts {
        let head = |letter: &str, name: &str, operation| Head {
            branch: Branch {
                name: name.to_string(),
                operation,
            },
            commit: (letter != "-").then(|| commit(letter)),
        };
        let remotes = remotes.split_whitespace().map(|remote| {
            let (name, heads) = remote.split_once(':').unwrap();
            let (main, testing) = heads.split_once('/').unwrap();
            let reach = match name.chars().last() {
                Some('!') => Reach::Unreachable,
                Some('?') => Reach::Never,
                _ => Reach::Fetched,
            };
            let name = name.trim_end_matches(['!', '?']);
            RemoteFacts {
                name: serde_json::from_value(name.into()).unwrap(),
                reach,
                main: head(main, "main", Operation::Switch),
                testing: Some(head(testing, "testing", Operation::Test)),
            }
        });
        Facts {
            remotes: remotes.collect(),
            accepted: (accepted != "-").then(|| commit(accepted)),
            last: None,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// The decision in the words of the table: `o/testing C: ok, selected`.
    fn words(decision: &Decision) -> String {
        let selected = match &decision.selected {
            Some(target) => {
                let letter =
                    char::from(u8::from_str_radix(&target.commit.as_str()[..2], 16).unwrap());
                format!("{}/{} {letter}", target.remote, target.branch)
            }
            None => "nothing".to_string(),
        };
        let verdicts: Vec<&str> = decision
            .candidates
            .iter()
            .map(|candidate| match &candidate.verdict {
                Verdict::Selected => "selected",
                Verdict::Qualifies => "ok",
                Verdict::Refused(Refusal::NotFetched) => "not-fetched",
                Verdict::Refused(Refusal::Unreachable) => "unreachable",
                Verdict::Refused(Refusal::Missing) => "missing",
                Verdict::Refused(Refusal::Rewound(_)) => "rewound",
                Verdict::Refused(Refusal::Rewritten(_)) => "diverged",
                Verdict::Refused(Refusal::NoMain) => "no-main",
                Verdict::Refused(Refusal::InMain) => "in-main",
                Verdict::Refused(Refusal::NotOnMain(_)) => "not-on-main",
                Verdict::Refused(Refusal::Unreadable(_)) => "unreadable",
            })
            .collect();
        format!("{selected}: {}", verdicts.join(" "))
    }

    /// history | accepted | remotes | selected: verdict on main and testing of each remote.
    const TABLE: &str = "
        A           | - | o:A/-             | o/main A: selected missing
        A-B         | A | o:A/-             | o/main A: selected missing
        A-B         | A | o:B/-             | o/main B: selected missing
        A-B         | B | o:A/-             | nothing: rewound missing
        A-B A-C     | B | o:C/-             | nothing: diverged missing
        A X         | A | o:X/-             | nothing: diverged missing
        A-B-D A-C-D | B | o:D/-             | o/main D: selected missing
        A           | A | o:-/-             | nothing: missing missing
        A           | - | o:-/A             | nothing: missing no-main
        A           | - | o:-/-             | nothing: missing missing

        A-B         | A | o:A/B             | o/testing B: ok selected
        A-B         | - | o:A/B             | o/testing B: ok selected
        A-B         | A | o:A/A             | o/main A: selected in-main
        A-B         | A | o:B/A             | o/main B: selected in-main
        A-B         | A | o:B/B             | o/main B: selected in-main
        A-B A-C     | A | o:B/C             | o/main B: selected not-on-main
        A-B-C       | A | o:B/C             | o/testing C: ok selected
        A-B-C A-D   | A | o:B/D             | o/main B: selected not-on-main
        A-B-D A-C-D | A | o:B/D             | o/testing D: ok selected
        A-B-D A-C-D | A | o:D/C             | o/main D: selected in-main

        A-B         | A | o:-/B             | o/testing B: missing selected
        A-B-C       | B | o:A/C             | o/testing C: rewound selected
        A-B A-C     | B | o:A/C             | nothing: rewound not-on-main
        A-B-C       | B | o:A/B             | nothing: rewound in-main

        A-B         | A | o:A/- l:A/-       | o/main A: selected missing ok missing
        A-B         | A | o:A/- l:B/-       | l/main B: ok missing selected missing
        A-B         | A | o:B/- l:A/-       | o/main B: selected missing ok missing
        A-B-C       | A | o:B/- l:C/-       | o/main B: selected missing ok missing
        A-B-C       | B | o:B/- l:C/-       | l/main C: ok missing selected missing
        A-B A-C     | A | o:B/- l:C/-       | o/main B: selected missing ok missing
        A-B A-C     | B | o:B/- l:C/-       | o/main B: selected missing diverged missing
        A-B         | B | o:A/- l:B/-       | l/main B: rewound missing selected missing
        A-B         | - | o:-/- l:B/-       | l/main B: missing missing selected missing

        A-B         | A | o:A/- l:A/B       | l/testing B: ok missing ok selected
        A-B A-C     | A | o:A/B l:A/C       | o/testing B: ok selected ok ok
        A-B-C       | A | o:A/B l:B/C       | l/testing C: ok in-main ok selected
        A-B A-C     | A | o:A/B l:C/-       | l/main C: ok not-on-main selected missing
        A-B-C A-D   | A | o:B/D l:A/C       | l/testing C: ok not-on-main ok selected

        A-B         | A | o!:B/- l:A/-      | l/main A: unreachable unreachable selected missing
        A-B         | A | o!:B/-            | nothing: unreachable unreachable
        A-B         | A | o!:A/B l:A/-      | l/main A: unreachable unreachable selected missing
        A-B         | A | o!:A/- l:-/B      | l/testing B: unreachable unreachable missing selected
        A-B         | - | o?:B/- l:A/-      | l/main A: not-fetched not-fetched selected missing
        A-B         | A | o?:B/A            | nothing: not-fetched not-fetched
        A-B         | B | o:A/- l!:B/-      | nothing: rewound missing unreachable unreachable
    ";

    fn rows() -> Vec<[&'static str; 4]> {
        let row = |line: &'static str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            cells.try_into().ok()
        };
        TABLE.lines().filter_map(row).collect()
    }

    #[test]
    fn the_table() {
        assert!(rows().len() >= 40);
        for [history, accepted, remotes, wanted] in rows() {
            let decision = decide(&facts(accepted, remotes), |b, h| relation(history, b, h));
            assert_eq!(
                words(&decision),
                wanted,
                "{history} | {accepted} | {remotes}"
            );
        }
    }

    #[test]
    fn what_is_selected_never_goes_back_and_deciding_twice_says_the_same() {
        for [history, _, remotes, _] in rows() {
            for accepted in ["-", "A", "B", "C", "D"] {
                let facts = facts(accepted, remotes);
                let decision = decide(&facts, |b, h| relation(history, b, h));
                assert_eq!(decide(&facts, |b, h| relation(history, b, h)), decision);
                let (Some(target), Some(accepted)) = (decision.selected, &facts.accepted) else {
                    continue;
                };
                for commit in [&target.main, &target.commit] {
                    let forward = commit == accepted
                        || relation(history, accepted, commit) == Relation::Descendant;
                    assert!(forward, "{history} | {accepted} | {remotes}");
                }
            }
        }
    }

    #[test]
    fn an_unreadable_history_is_refused_and_hides_no_other_remote() {
        let decision = decide(&facts("A", "o:B/- l:C/-"), |_, head| {
            if *head == commit("B") {
                Relation::Unreadable("a pack is missing".to_string())
            } else {
                Relation::Descendant
            }
        });
        assert_eq!(
            words(&decision),
            "l/main C: unreadable missing selected missing"
        );
    }

    #[test]
    fn the_base_is_not_looked_for_in_heads_that_do_not_count() {
        let decision = decide(&facts("A", "o!:B/C l?:B/C"), |_, _| unreachable!());
        assert!(decision.selected.is_none());
    }

    #[test]
    fn what_was_deployed_is_left_alone_and_what_failed_waits() {
        let now = Timestamp::UNIX_EPOCH;
        let minute = SignedDuration::from_mins(1);
        let last = |letter, operation, retry_at| {
            Some(Last {
                commit: commit(letter),
                operation,
                retry_at,
            })
        };
        for (last, wanted) in [
            (None, Action::Deploy),
            (last("A", Operation::Switch, None), Action::Nothing),
            (last("A", Operation::Test, None), Action::Deploy),
            (last("B", Operation::Switch, None), Action::Deploy),
            (
                last("A", Operation::Switch, Some(now - minute)),
                Action::Deploy,
            ),
            (last("A", Operation::Switch, Some(now)), Action::Deploy),
            (
                last("A", Operation::Switch, Some(now + minute)),
                Action::Retry(now + minute),
            ),
            // The clock was set back since.
            (
                last("A", Operation::Switch, Some(now + minute * 600)),
                Action::Deploy,
            ),
        ] {
            let facts = Facts {
                last,
                ..facts("A", "o:A/-")
            };
            assert_eq!(
                decide(&facts, |_, _| unreachable!()).action,
                wanted,
                "{facts:?}"
            );
        }
    }
}
