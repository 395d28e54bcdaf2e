use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::candidate::{Candidate, Eligibility};
use crate::model::confirmation::{Approval, ConfirmStep};
use crate::model::decision::{Action, Decision};
use crate::model::facts::{Facts, PastAttempt, PendingConfirmation};
use crate::model::history::{History, Relation, Signature};
use crate::model::refusal::{Accepted, Refusal, Remedy};
use crate::model::remote::{Head, Reach, RemoteFacts};
use crate::model::schedule::{Delay, NextTry};
use crate::model::{
    gate::ClosedGate, names::Operation, outcome::Trouble, prebuilt::Lookup, quarantine::Quarantine,
    signature::Key, stage::Stage, suspension::Suspension, target::Target,
};
use crate::sys::text;

/// The commit of a letter.
pub fn commit(letter: &str) -> Commit {
    let byte = letter.bytes().next().unwrap();
    format!("{byte:02x}").repeat(20).parse().unwrap()
}

/// A history such as `A-B-C B-D*`: chains from parent to child; a commit with a star is not signed.
/// Signatures are required where there is a star.
pub struct Diagram {
    edges: Vec<(Commit, Commit)>,
    unsigned: BTreeSet<Commit>,
}

impl Diagram {
    pub fn of(history: &str) -> Self {
        let chains = history.split_whitespace();
        let chains = chains.map(|chain| chain.split('-').collect::<Vec<_>>());
        let mut diagram = Self {
            edges: Vec::new(),
            unsigned: BTreeSet::new(),
        };
        for chain in chains {
            let star = chain.iter().filter(|name| name.ends_with('*'));
            diagram.unsigned.extend(star.map(|name| commit(name)));
            let pairs = chain.windows(2);
            let pairs = pairs.map(|pair| (commit(pair[0]), commit(pair[1])));
            diagram.edges.extend(pairs);
        }
        diagram
    }

    /// A commit and all that it comes from.
    fn past(&self, commit: &Commit) -> BTreeSet<Commit> {
        let mut seen = BTreeSet::from([commit.clone()]);
        loop {
            let parents = self.edges.iter().filter(|(_, child)| seen.contains(child));
            let parents: Vec<Commit> = parents.map(|(parent, _)| parent.clone()).collect();
            let before = seen.len();
            seen.extend(parents);
            if seen.len() == before {
                return seen;
            }
        }
    }
}

impl History for Diagram {
    fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        assert_ne!(base, head, "nobody needs to ask");
        if self.past(head).contains(base) {
            Relation::Descendant
        } else if self.past(base).contains(head) {
            Relation::Ancestor
        } else {
            Relation::Diverged
        }
    }

    fn signature(&self, commit: &Commit) -> Signature {
        if self.unsigned.is_empty() {
            Signature::NotRequired
        } else if self.unsigned.contains(commit) {
            Signature::Refused(Unverified::Unsigned)
        } else {
            Signature::By(signer())
        }
    }

    /// The newest first: the commits of a diagram are in the order of the alphabet.
    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit> {
        let mut ancestors = self.past(head);
        ancestors.remove(head);
        if let Some(base) = base {
            ancestors = &ancestors - &self.past(base);
        }
        ancestors.into_iter().rev().collect()
    }
}

fn signer() -> Signer {
    Signer {
        name: "alice".to_string(),
        key: Key::Ssh("SHA256:x".to_string()),
    }
}

/// Remotes such as `o:B/C l!:A/-`: name, `!` unreachable or `?` not fetched, main/testing; `-` is a branch that does
/// not exist, `_` a main that is not followed. An accepted main such as `A+`: if a head is not signed, an ancestor may
/// be taken.
pub fn facts(accepted: &str, remotes: &str) -> Facts {
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
            main: (main != "_").then(|| head(main, "main", Operation::Switch)),
            testing: Some(head(testing, "testing", Operation::Test)),
            notes: None,
        }
    });
    Facts {
        remotes: remotes.collect(),
        accepted: (!accepted.starts_with('-')).then(|| Accepted {
            commit: commit(accepted),
            from: None,
        }),
        signed_ancestors: accepted.ends_with('+'),
        tried: Vec::new(),
        recent: Vec::new(),
        quarantine: Vec::new(),
        awaited: None,
        prebuilt: None,
        gate: None,
        suspended: None,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// The verdict in the words of the table; `!` is the main to accept, `?` one beside that.
fn word(candidate: &Candidate) -> &'static str {
    match &candidate.eligibility {
        Eligibility::Selected(qualified) if qualified.passed_over.is_some() => "selected-below",
        Eligibility::Qualifies(qualified) if qualified.passed_over.is_some() => "ok-below",
        Eligibility::Selected(_) => "selected",
        Eligibility::Qualifies(_) => "ok",
        Eligibility::Refused(refusal) => match refusal {
            Refusal::NotFetched => "not-fetched",
            Refusal::Unreachable => "unreachable",
            Refusal::Missing => "missing",
            Refusal::Behind(_) => "behind",
            Refusal::Rewound(main) => match main.cure {
                Remedy::Push => "rewound",
                Remedy::Accept => "rewound!",
                Remedy::AcceptAnother => "rewound?",
            },
            Refusal::Rewritten(main) => match main.cure {
                Remedy::Push => "diverged",
                Remedy::Accept => "diverged!",
                Remedy::AcceptAnother => "diverged?",
            },
            Refusal::NoMain => "no-main",
            Refusal::InMain => "in-main",
            Refusal::NotOnMain(_) => "not-on-main",
            Refusal::Unreadable(_) => "unreadable",
            Refusal::Unverified(_) => "unsigned",
        },
    }
}

/// The decision in the words of the table: `o/testing C: ok, selected`.
fn words(decision: &Decision) -> String {
    let selected = match &decision.selected {
        Some(target) => {
            let letter = char::from(u8::from_str_radix(&target.commit.as_str()[..2], 16).unwrap());
            format!("{}/{} {letter}", target.remote, target.branch)
        }
        None => "nothing".to_string(),
    };
    let verdicts = decision.candidates.iter().map(word);
    let verdicts: Vec<&str> = verdicts.collect();
    format!("{selected}: {}", verdicts.join(" "))
}

/// history | accepted | remotes | selected: verdict on main and testing of each remote.
const TABLE: &str = "
    A           | - | o:A/-             | o/main A: selected missing
    A-B         | A | o:A/-             | o/main A: selected missing
    A-B         | A | o:B/-             | o/main B: selected missing
    A-B         | B | o:A/-             | nothing: rewound! missing
    A-B A-C     | B | o:C/-             | nothing: diverged! missing
    A X         | A | o:X/-             | nothing: diverged! missing
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
    A-B A-C     | B | o:A/C             | nothing: rewound! not-on-main
    A-B-C       | B | o:A/B             | nothing: rewound in-main

    A-B         | A | o:A/- l:A/-       | o/main A: selected missing ok missing
    A-B         | A | o:A/- l:B/-       | l/main B: ok missing selected missing
    A-B         | A | o:B/- l:A/-       | o/main B: selected missing ok missing
    A-B-C       | A | o:B/- l:C/-       | l/main C: ok missing selected missing
    A-B-C       | A | o:C/- l:B/-       | o/main C: selected missing ok missing
    A-B-C       | - | o:B/- l:C/-       | l/main C: ok missing selected missing
    A-B-C       | A | o:B/C l:C/-       | l/main C: ok in-main selected missing
    A-B-C       | A | o:B/- l!:C/-      | o/main B: selected missing unreachable unreachable
    A-B-C       | B | o:B/- l:C/-       | l/main C: ok missing selected missing
    A-B A-C     | A | o:B/- l:C/-       | o/main B: selected missing ok missing
    A-B A-C     | B | o:B/- l:C/-       | o/main B: selected missing diverged missing
    A-B         | B | o:A/- l:B/-       | l/main B: behind missing selected missing
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

    A-B-C-D     | A | o:B/- l:C/- u:D/- | u/main D: ok missing ok missing selected missing
    A-B-C A-D   | A | o:B/- l:D/- u:C/- | l/main D: ok missing selected missing ok missing
    A-B-C A-D   | A | o:D/- l:B/- u:C/- | o/main D: selected missing ok missing ok missing
    A-B-D A-C-D | A | o:B/- l:C/- u:D/- | u/main D: ok missing ok missing selected missing
    A-B-C A-D-E | A | o:B/- l:D/- u:E/- v:C/- | u/main E: ok missing ok missing selected missing ok missing

    A-B A-C     | B | o:A/- l:C/-       | nothing: rewound? missing diverged! missing
    A-B A-C     | B | o:C/- l:C/-       | nothing: diverged! missing diverged? missing
    A-B A-C     | B | o:-/- l:C/-       | nothing: missing missing diverged! missing
    A-B A-C     | B | o:A/B l:C/-       | nothing: rewound in-main diverged missing
    A-B A-C     | B | o!:A/- l:C/-      | nothing: unreachable unreachable diverged missing
    A-B A-C     | B | o?:-/- l:C/-      | nothing: not-fetched not-fetched diverged! missing
    A-B-D A-C   | B | o:D/- l:C/-       | o/main D: selected missing diverged missing

    A-B         | A | l:_/B o:A/-       | l/testing B: selected ok missing
    A-B         | - | l:_/B o:A/-       | l/testing B: selected ok missing
    A-B         | A | l:_/B o:-/-       | l/testing B: selected missing missing
    A-B         | - | l:_/B o:-/-       | nothing: no-main missing missing
    A-B         | A | l:_/- o:B/-       | o/main B: missing selected missing
    A-B         | B | l:_/B o:A/-       | nothing: in-main rewound missing

    A-B A-C A-D | A | o:B/- l:C/- u:D/-   | o/main B: selected missing ok missing ok missing
    A-B-C-D     | B | o:A/- l:B/- u:D/C   | u/main D: behind missing ok missing selected in-main
    A-B-C       | A | o:A/- l:A/- u:A/C   | u/testing C: ok missing ok missing ok selected
    A-B-C-D A-D | C | o:D/-               | o/main D: selected missing
    A-D B-D C-D | B | o:D/-               | o/main D: selected missing
    A-D B-D C-D | - | o:B/D               | o/testing D: ok selected
    A-B X-Y     | B | o:Y/X               | nothing: diverged! not-on-main
    A-B X-Y     | - | o:Y/B               | o/main Y: selected not-on-main

    A-B*        | A | o:B/-             | nothing: unsigned missing
    A-B*        | - | o:B/-             | nothing: unsigned missing
    A*-B        | - | o:B/-             | o/main B: selected missing
    A*-B        | A | o:A/-             | nothing: unsigned missing
    A*-B        | A | o:B/-             | o/main B: selected missing
    A-B* A-C    | A | o:B/- l:C/-       | l/main C: unsigned missing selected missing
    A-B* A-C    | A | o:B/C             | o/testing C: unsigned selected
    A-B*        | A | o:A/B             | o/main A: selected unsigned
    A-B* A-C    | A | o:A/B l:A/C       | l/testing C: ok unsigned ok selected
    A-B*        | B | o:A/-             | nothing: rewound! missing
    A-B* A-C    | B | o:C/-             | nothing: diverged! missing
    A-B A-C*    | B | o:A/- l:C/-       | nothing: rewound? missing unsigned missing
    A-B A-C* A-D | B | o:C/- l:D/-      | nothing: unsigned missing diverged! missing
    A-B-C* A-D  | B | o:C/- l:D/-       | nothing: unsigned missing diverged missing
    A-B*-C      | A | o:A/C             | o/testing C: ok selected
    A-B*        | - | o:A/B             | o/main A: selected unsigned
    A-B*        | - | o:-/B             | nothing: missing no-main

    A-B*        | A+ | o:B/-            | o/main A: selected-below missing
    A-B-C*      | A+ | o:C/-            | o/main B: selected-below missing
    A-B-C*-D*   | A+ | o:D/-            | o/main B: selected-below missing
    A-B-C*      | A+ | o:B/C            | o/main B: selected unsigned
    A-B-C*      | A+ | o:A/C            | o/testing B: ok selected-below
    A-B*-C*     | A+ | o:A/C            | o/main A: selected unsigned
    A-B*        | -+ | o:B/-            | o/main A: selected-below missing
    A*-B*       | -+ | o:B/-            | nothing: unsigned missing
    A-B* A-C    | A+ | o:B/- l:C/-      | l/main C: ok-below missing selected missing
    A-B-C*      | A  | o:B/- l:C/-      | o/main B: selected missing unsigned missing
    A-B-C-D*    | A+ | o:B/- l:D/-      | l/main C: ok missing selected-below missing
    A-B-D* A-C  | A+ | o:D/- l:C/-      | o/main B: selected-below missing ok missing
    A-B*        | B+ | o:A/-            | nothing: rewound! missing
    A-C* B-C    | A+ | o:C/-            | o/main A: selected-below missing
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
    assert!(rows().len() >= 70);
    for [history, accepted, remotes, wanted] in rows() {
        let decision = decide(&facts(accepted, remotes), &Diagram::of(history));
        assert_eq!(
            words(&decision),
            wanted,
            "{history} | {accepted} | {remotes}"
        );
    }
}

/// Every history of three commits, each with or without a signature, and every position in it of an
/// accepted main and of two remotes' heads: whatever is true of all of these is true.
#[test]
fn every_small_world() {
    let letters = ["A", "B", "C"];
    let histories = (0..8).map(|edges: u32| {
        let pairs = ["A-B", "A-C", "B-C"].into_iter().enumerate();
        let pairs = pairs.filter(move |(n, _)| edges >> n & 1 == 1);
        pairs.map(|(_, pair)| pair).collect::<Vec<_>>().join(" ")
    });
    let heads = ["-", "A", "B", "C"];
    let mut worlds = 0;
    for history in histories {
        for unsigned in 0..8 {
            let mut diagram = Diagram::of(&history);
            let bits = (0..3).filter(|n| unsigned >> n & 1 == 1);
            diagram.unsigned = bits.map(|n| commit(letters[n])).collect();
            for n in 0..4_usize.pow(5) {
                let head = |place: u32| heads[n / 4_usize.pow(place) % 4];
                let plus = if unsigned & 1 == 1 { "+" } else { "" };
                let accepted = format!("{}{plus}", head(0));
                let remotes = format!("o:{}/{} l:{}/{}", head(1), head(2), head(3), head(4));
                let facts = facts(&accepted, &remotes);
                let decision = decide(&facts, &diagram);
                check(&facts, &diagram, &decision);
                worlds += 1;
            }
        }
    }
    assert_eq!(worlds, 65_536);
}

/// history | accepted | what was tried last, as in `o/testing=B` | remotes | selected: verdicts.
const UNSIGNED_ON_TOP: &str = "
    A-B-C*      | A  | o/main=B           | o:C/-       | o/main B: selected-below missing
    A-B-C*      | B  | o/main=B           | o:C/-       | o/main B: selected-below missing
    A-B-C*-D*   | A  | o/main=B           | o:D/-       | o/main B: selected-below missing
    A-B-C*      | A  | o/testing=B        | o:A/C       | o/testing B: ok selected-below
    A-B-C*-D    | A  | o/main=B           | o:D/-       | o/main D: selected missing

    A-B-C*      | A  | -                  | o:C/-       | nothing: unsigned missing
    A-B-C*-D*   | A  | o/main=C           | o:D/-       | nothing: unsigned missing
    A-B-C*      | A  | o/main=B           | o:A/C       | o/main A: selected unsigned
    A-B-C*      | A  | o/testing=B        | o:C/-       | nothing: unsigned missing
    A-B-C*      | A  | l/main=B           | o:C/-       | nothing: unsigned missing
    A-B-C*      | A  | o/main=A o/testing=B | o:A/-     | o/main A: selected missing
    A-B A-C*    | A  | o/testing=B        | o:A/C       | o/main A: selected unsigned
    A-B-C*      | A  | o/testing=B        | o:A/A       | o/main A: selected in-main
    A-B-D A-D-C* | D | o/testing=B        | o:D/C       | o/main D: selected unsigned
    A-B-C*      | A  | o/testing=B        | o!:A/C l:A/- | l/main A: unreachable unreachable selected missing
    A-B-C* A-D  | A  | o/main=B           | o:C/- l:D/- | o/main B: selected-below missing ok missing

    A-B-C*      | A+ | o/main=A           | o:C/-       | o/main B: selected-below missing
    A-B-C*      | A+ | o/main=B           | o:C/-       | o/main B: selected-below missing
";

#[test]
fn an_unsigned_head_leaves_alone_what_was_tried_of_its_branch() {
    let rows = UNSIGNED_ON_TOP
        .lines()
        .filter(|line| !line.trim().is_empty());
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [history, accepted, tried, remotes, wanted] = cells.try_into().unwrap();
        let tried = tried.split(' ').filter_map(|tried| {
            let (branch, letter) = tried.split_once('=')?;
            let (remote, branch) = branch.split_once('/')?;
            Some(Target {
                remote: serde_json::from_value(remote.into()).unwrap(),
                branch: branch.to_string(),
                testing: branch == "testing",
                commit: commit(letter),
                signer: None,
                operation: Operation::Switch,
                main: commit(letter),
            })
        });
        let facts = Facts {
            tried: tried.collect(),
            ..facts(accepted, remotes)
        };
        let decision = decide(&facts, &Diagram::of(history));
        assert_eq!(words(&decision), wanted, "{row}");
    }
}

/// What holds for every decision.
fn check(facts: &Facts, diagram: &Diagram, decision: &Decision) {
    assert_eq!(decide(facts, diagram), *decision, "twice is the same");
    let heads = facts.remotes.len() * 2;
    assert_eq!(decision.candidates.len(), heads, "each gets a verdict");
    let selected = decision.candidates.iter();
    let selected = selected.filter(|c| matches!(c.eligibility, Eligibility::Selected(_)));
    assert_eq!(selected.count(), usize::from(decision.selected.is_some()));
    for candidate in &decision.candidates {
        let (Eligibility::Selected(qualified) | Eligibility::Qualifies(qualified)) =
            &candidate.eligibility
        else {
            continue;
        };
        let head = candidate.head.commit.as_ref().unwrap();
        assert!(!diagram.unsigned.contains(&qualified.commit), "{facts:?}");
        assert!(diagram.past(head).contains(&qualified.commit), "{facts:?}");
        assert!(facts.signed_ancestors || *head == qualified.commit);
        assert_eq!(qualified.passed_over.is_some(), *head != qualified.commit);
    }
    let Some(target) = &decision.selected else {
        return;
    };
    let past = diagram.past(&target.commit);
    assert!(past.contains(&target.main), "{facts:?}");
    assert!(!target.testing || target.main != target.commit, "{facts:?}");
    if let Some(accepted) = &facts.accepted {
        let past = diagram.past(&target.main);
        assert!(past.contains(&accepted.commit), "{facts:?}: {target}");
    }
    for main in decision.candidates.iter().filter(|it| !it.testing) {
        if let Eligibility::Selected(main) | Eligibility::Qualifies(main) = &main.eligibility {
            let contains = diagram.past(&main.commit).contains(&target.main);
            assert!(!contains || main.commit == target.main, "{facts:?}");
        }
    }
}

/// A history that counts the questions about it, and in which each commit contains the ones before it in the alphabet.
#[derive(Default)]
struct Counted {
    relations: Cell<u32>,
    signatures: Cell<u32>,
}

impl History for Counted {
    fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        self.relations.update(|asked| asked + 1);
        if base < head {
            Relation::Descendant
        } else {
            Relation::Ancestor
        }
    }
    fn signature(&self, _: &Commit) -> Signature {
        self.signatures.update(|asked| asked + 1);
        Signature::By(signer())
    }
    fn ancestors(&self, _: Option<&Commit>, _: &Commit) -> Vec<Commit> {
        unreachable!()
    }
}

#[test]
fn remotes_with_the_same_heads_cost_no_more_than_one() {
    for (accepted, heads, relations, signatures) in [
        ("A", "A/-", 0, 1),
        ("A", "B/-", 1, 1),
        ("-", "B/-", 0, 1),
        ("A", "B/C", 2, 2),
    ] {
        for remotes in [1, 100] {
            let remotes: Vec<String> = (0..remotes).map(|n| format!("r{n}:{heads}")).collect();
            let history = Counted::default();
            decide(&facts(accepted, &remotes.join(" ")), &history);
            let asked = (history.relations.get(), history.signatures.get());
            assert_eq!(asked, (relations, signatures), "{accepted} {heads}");
        }
    }
    // Those in a row are compared with the next one alone.
    let history = Counted::default();
    decide(&facts("A", "o:B/- l:C/- u:D/- v:E/-"), &history);
    assert_eq!(history.relations.get(), 4 + 3);
    let history = Counted::default();
    decide(&facts("A", "o:E/- l:D/- u:C/- v:B/-"), &history);
    assert_eq!(history.relations.get(), 4 + 3);
}

#[test]
fn an_unreadable_history_is_refused_and_hides_no_other_remote() {
    struct Damaged;
    impl History for Damaged {
        fn relation(&self, _: &Commit, head: &Commit) -> Relation {
            if *head == commit("B") {
                Relation::Unreadable("a pack is missing".to_string())
            } else {
                Relation::Descendant
            }
        }
        fn signature(&self, _: &Commit) -> Signature {
            Signature::NotRequired
        }
        fn ancestors(&self, _: Option<&Commit>, _: &Commit) -> Vec<Commit> {
            unreachable!()
        }
    }
    assert_eq!(
        words(&decide(&facts("A", "o:B/- l:C/-"), &Damaged)),
        "l/main C: unreadable missing selected missing"
    );
}

/// A history that nobody needs to look at.
struct Unasked;

impl History for Unasked {
    fn relation(&self, _: &Commit, _: &Commit) -> Relation {
        unreachable!()
    }
    fn signature(&self, _: &Commit) -> Signature {
        Signature::NotRequired
    }
    fn ancestors(&self, _: Option<&Commit>, _: &Commit) -> Vec<Commit> {
        unreachable!()
    }
}

#[test]
fn the_base_is_not_looked_for_in_heads_that_do_not_count() {
    let decision = decide(&facts("A", "o!:B/C l?:B/C"), &Unasked);
    assert!(decision.selected.is_none());
}

#[test]
fn the_signer_is_told_and_what_could_not_be_checked_is_checked_again() {
    let decision = decide(&facts("A", "o:B/-"), &Diagram::of("A-B A-C*"));
    let target = decision.selected.unwrap();
    assert_eq!(target.signer.unwrap(), "alice (SSH SHA256:x)");
    let unchecked = Unverified::Unchecked("gpg is missing".to_string());
    assert!(Refusal::Unverified(unchecked).is_transient());
    assert!(!Refusal::Unverified(Unverified::Unsigned).is_transient());
    assert!(!Refusal::InMain.is_transient());
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn tried(letter: &str, operation: Operation, again: NextTry) -> PastAttempt {
    PastAttempt {
        commit: commit(letter),
        operation,
        out: None,
        trouble: match again {
            NextTry::None => None,
            NextTry::OnNewCommit => Some(Trouble::RolledBack),
            NextTry::At(_) | NextTry::WhenReachable(_) => Some(Trouble::Failed(Stage::Building)),
        },
        again,
    }
}

fn after(from: Timestamp, wait: i64) -> NextTry {
    NextTry::At(Delay::new(from, minutes(wait)))
}

#[test]
fn what_was_deployed_is_left_alone_and_what_failed_waits() {
    let now = Timestamp::UNIX_EPOCH;
    let switch = Operation::Switch;
    let hour_ago = now - minutes(60);
    for (recent, wanted) in [
        (vec![], "deploy"),
        (vec![tried("A", switch, NextTry::None)], "nothing"),
        (vec![tried("A", switch, NextTry::OnNewCommit)], "given_up"),
        (vec![tried("A", Operation::Test, NextTry::None)], "deploy"),
        (vec![tried("B", switch, NextTry::None)], "deploy"),
        (vec![tried("A", switch, after(hour_ago, 59))], "deploy"),
        (vec![tried("A", switch, after(hour_ago, 60))], "deploy"),
        (vec![tried("A", switch, after(hour_ago, 61))], "retry"),
        // The clock was set back since, by a little or by more than the wait.
        (
            vec![tried("A", switch, after(now + minutes(1), 9))],
            "retry",
        ),
        (
            vec![tried("A", switch, after(now + minutes(10), 9))],
            "deploy",
        ),
        // Nothing has changed the machine since it was deployed.
        (
            vec![
                tried("B", switch, after(now, 9)),
                tried("A", switch, NextTry::None),
            ],
            "nothing",
        ),
    ] {
        let facts = Facts {
            recent,
            ..facts("A", "o:A/-")
        };
        let action = decide(&facts, &Unasked).action;
        assert_eq!(action.name(), wanted, "{facts:?}");
    }
}

#[test]
fn what_could_not_begin_is_not_said_to_have_failed() {
    let said = |trouble| {
        let attempt = tried("A", Operation::Switch, after(Timestamp::UNIX_EPOCH, 1));
        let facts = Facts {
            recent: vec![PastAttempt {
                trouble: Some(trouble),
                ..attempt
            }],
            ..facts("A", "o:A/-")
        };
        let action = decide(&facts, &Unasked).action;
        let hindrance = action.hindrance(&|_| "in 1 min".to_string()).unwrap();
        (hindrance.word, hindrance.sentence())
    };
    for (trouble, word, sentence) in [
        (
            Trouble::Failed(Stage::Building),
            "failed",
            "failed while building",
        ),
        (Trouble::Postponed, "postponed", "could not be activated"),
        (
            Trouble::Interrupted(Stage::Evaluating),
            "interrupted",
            "was interrupted while evaluating",
        ),
    ] {
        let sentence = format!("{sentence}, and is tried again in 1 min");
        assert_eq!(said(trouble), (word, sentence));
    }
}

#[test]
fn what_an_outage_undid_waits_for_one_of_the_servers() {
    let name = |name: &str| serde_json::from_value::<RemoteName>(name.into()).unwrap();
    for (remotes, wanted) in [
        ("o:A/- l!:A/-", "await_remotes"),
        ("o:A/- l?:A/-", "await_remotes"),
        ("o:A/- l:A/-", "deploy"),
        // It is not followed any more.
        ("o:A/-", "deploy"),
    ] {
        let again = NextTry::WhenReachable(vec![name("l")]);
        let facts = Facts {
            recent: vec![tried("A", Operation::Switch, again)],
            ..facts("A", remotes)
        };
        assert_eq!(decide(&facts, &Unasked).action.name(), wanted, "{remotes}");
    }
}

fn awaited(
    letter: &str,
    operation: Operation,
    step: ConfirmStep,
    consent: Approval,
) -> PendingConfirmation {
    PendingConfirmation {
        commit: commit(letter),
        operation,
        step,
        consent,
    }
}

#[test]
fn what_waits_for_a_confirmation_goes_on_when_it_has_got_it() {
    let now = Timestamp::UNIX_EPOCH;
    let switch = Operation::Switch;
    let since = |ago: i64| Approval::At(now + minutes(2 - ago));
    let in_minutes = |count: i64| {
        let at = text::at(now + minutes(count));
        format!("it waits for your confirmation, and is built without one at {at}")
    };
    for (waits, wanted) in [
        (
            awaited("A", switch, ConfirmStep::Build, Approval::Missing),
            "it waits for your confirmation to be built",
        ),
        (
            awaited("A", switch, ConfirmStep::Deploy, Approval::Missing),
            "it waits for your confirmation to be deployed",
        ),
        (
            awaited("A", switch, ConfirmStep::Build, Approval::Given),
            "deploy",
        ),
        (
            awaited("A", switch, ConfirmStep::Build, since(1)),
            &in_minutes(1),
        ),
        (awaited("A", switch, ConfirmStep::Build, since(2)), "deploy"),
        // A clock that was set back brings nothing forward.
        (
            awaited("A", switch, ConfirmStep::Build, since(-60)),
            &in_minutes(62),
        ),
        // What waits is something else.
        (
            awaited("B", switch, ConfirmStep::Build, Approval::Missing),
            "deploy",
        ),
        (
            awaited("A", Operation::Test, ConfirmStep::Build, Approval::Missing),
            "deploy",
        ),
    ] {
        let facts = Facts {
            awaited: Some(waits),
            // What failed before, and could be tried again, does not matter.
            recent: vec![tried("A", switch, after(now - minutes(9), 1))],
            ..facts("A", "o:A/-")
        };
        let decision = decide(&facts, &Unasked);
        let (said, action) = (decision.hindrance(), decision.action);
        let said = said.as_deref().unwrap_or(action.name());
        assert_eq!(said, wanted, "{facts:?}");
        assert_eq!(
            action.again().is_some(),
            wanted.contains("without one"),
            "{facts:?}"
        );
    }
}

#[test]
fn target_waits_until_ci_names_its_system() {
    let now = Timestamp::UNIX_EPOCH;
    let lookup = |letter: &str, system: Option<&str>, patience: Option<i64>| Lookup {
        commit: commit(letter),
        since: now - minutes(5),
        patience: patience.map(|left| Delay::new(now - minutes(5), minutes(left + 5))),
        system: system.map(PathBuf::from),
        problem: None,
    };
    let failed = |system: Option<&str>, wait: i64| {
        let again = after(now - minutes(1), wait);
        vec![PastAttempt {
            out: system.map(PathBuf::from),
            ..tried("A", Operation::Switch, again)
        }]
    };
    let done = vec![tried("A", Operation::Switch, NextTry::None)];
    let held = vec![tried("A", Operation::Switch, NextTry::OnNewCommit)];
    let (p, q) = (Some("/nix/store/p"), Some("/nix/store/q"));
    for (lookup, recent, wanted) in [
        // Nobody has looked for it yet.
        (lookup("B", None, None), vec![], "deploy"),
        (lookup("A", None, None), vec![], "await_prebuilt"),
        (lookup("A", None, Some(1)), vec![], "await_prebuilt"),
        (lookup("A", None, Some(0)), vec![], "deploy"),
        (lookup("A", p, None), vec![], "deploy"),
        // What is deployed, or held, waits for nothing.
        (lookup("A", None, None), done, "nothing"),
        (lookup("A", p, None), held, "given_up"),
        // What failed is tried again after a while, and at once if CI names another system.
        (lookup("A", p, None), failed(p, 2), "retry"),
        (lookup("A", p, None), failed(p, 1), "deploy"),
        (lookup("A", q, None), failed(p, 2), "deploy"),
        (lookup("A", p, None), failed(None, 2), "deploy"),
        // What CI has taken back waits again.
        (lookup("A", None, None), failed(p, 2), "retry"),
        (lookup("A", None, None), failed(p, 1), "await_prebuilt"),
    ] {
        let facts = Facts {
            prebuilt: Some(lookup),
            recent,
            ..facts("A", "o:A/-")
        };
        let action = decide(&facts, &Unasked).action;
        assert_eq!(action.name(), wanted, "{facts:?}");
    }
}

#[test]
fn deployment_that_was_confirmed_does_not_wait_for_ci_again() {
    let facts = Facts {
        prebuilt: Some(Lookup {
            commit: commit("A"),
            since: Timestamp::UNIX_EPOCH,
            patience: None,
            system: None,
            problem: None,
        }),
        awaited: Some(awaited(
            "A",
            Operation::Switch,
            ConfirmStep::Deploy,
            Approval::Given,
        )),
        ..facts("A", "o:A/-")
    };
    assert_eq!(decide(&facts, &Unasked).action, Action::Deploy);
}

#[test]
fn what_is_confirmed_waits_at_a_closed_gate() {
    let now = Timestamp::UNIX_EPOCH;
    let gate = |from: i64, again: i64| ClosedGate {
        gate: "ac".to_string(),
        reason: "on battery".to_string(),
        again: Some(Delay::until(now + minutes(from), now + minutes(again))),
    };
    for (consent, gate, wanted) in [
        (Approval::Given, Some(gate(0, 1)), "await_gate"),
        (Approval::At(now), Some(gate(0, 1)), "await_gate"),
        (Approval::Given, None, "deploy"),
        (Approval::Given, Some(gate(-1, 0)), "deploy"),
        // By a clock that has been set back.
        (Approval::Given, Some(gate(9, 10)), "deploy"),
        // Nobody is asked about a gate before the confirmation.
        (Approval::Missing, Some(gate(0, 1)), "await_confirmation"),
    ] {
        let facts = Facts {
            awaited: Some(awaited(
                "A",
                Operation::Switch,
                ConfirmStep::Deploy,
                consent,
            )),
            gate,
            now,
            ..facts("A", "o:A/-")
        };
        let action = decide(&facts, &Unasked).action;
        assert_eq!(action.name(), wanted, "{facts:?}");
        let again = (wanted == "await_gate").then_some(now + minutes(1));
        assert_eq!(action.again(), again, "{facts:?}");
    }
}

#[test]
fn neither_a_confirmation_nor_time_ends_a_suspension_or_a_quarantine() {
    let held = |consent: Approval| Facts {
        awaited: Some(awaited(
            "A",
            Operation::Switch,
            ConfirmStep::Deploy,
            consent,
        )),
        ..facts("A", "o:A/-")
    };
    for consent in [Approval::Given, Approval::Missing] {
        let mut facts = held(consent);
        let target = decide(&facts, &Unasked).selected.unwrap();
        facts.suspended = Some(Suspension {
            since: Timestamp::now(),
            until: None,
            reason: None,
        });
        assert_eq!(decide(&facts, &Unasked).action.name(), "suspended");
        let reason = "rolled back by hand".to_string();
        facts.quarantine = vec![Quarantine::of(
            &target,
            &facts.remotes,
            reason,
            Timestamp::now(),
        )];
        assert_eq!(decide(&facts, &Unasked).action.name(), "quarantined");
    }
}

#[test]
fn a_quarantine_holds_until_a_head_moves() {
    let held = |before: &str, now: &str| {
        let before = facts("A", before);
        let diagram = Diagram::of("A-B-D* A-C");
        let target = decide(&before, &diagram).selected.unwrap();
        let quarantine = Quarantine::of(
            &target,
            &before.remotes,
            "it hangs".to_string(),
            Timestamp::now(),
        );
        let facts = Facts {
            quarantine: vec![quarantine],
            ..facts("A", now)
        };
        let decision = decide(&facts, &diagram);
        matches!(decision.action, Action::Quarantined(_))
    };
    assert!(held("o:B/- l:A/-", "o:B/- l:A/-"));
    // An outage moves nothing, and brings nothing back.
    assert!(held("o:B/- l:A/-", "o:B/- l!:A/-"));
    // Nor does a head that is not signed, or cannot be read.
    assert!(held("o:B/- l:B/-", "o:D/- l:B/-"));
    assert!(held("o:B/- l:B/-", "o:B/D l:B/-"));
    assert!(!held("o:D/- l:B/-", "o:B/- l:B/-"));
    assert!(!held("o:B/- l:A/-", "o:B/- l:B/-"));
    assert!(!held("o:B/- l:A/-", "o:C/- l:A/-"));
    assert!(!held("o:A/B", "o:B/B"));
}

#[test]
fn a_suspension_holds_whatever_would_be_deployed_and_nothing_else() {
    let facts = |recent| Facts {
        recent,
        suspended: Some(Suspension {
            since: Timestamp::now(),
            until: None,
            reason: Some("the move".to_string()),
        }),
        ..facts("A", "o:A/-")
    };
    assert_eq!(
        decide(&facts(vec![]), &Unasked).hindrance().unwrap(),
        "comin is suspended until comin resume: the move"
    );
    let deployed = vec![tried("A", Operation::Switch, NextTry::None)];
    assert_eq!(decide(&facts(deployed), &Unasked).action, Action::Nothing);
}

#[test]
fn a_commit_stays_allowed_as_long_as_its_branch_contains_it() {
    for (history, before, now, allowed) in [
        ("A-B-C", "A | o:B/-", "A | o:B/-", true),
        ("A-B-C", "A | o:B/-", "A | o:C/-", true),
        ("A-B A-C", "A | o:B/-", "A | o:C/-", false),
        ("A-B", "A | o:B/-", "A | o:A/-", false),
        ("A-B", "A | o:B/-", "A | o:-/-", false),
        ("A-B", "A | o:B/-", "A | o:_/B", false),
        ("A-B", "A | o:B/-", "A | l:B/-", false),
        ("A-B-C", "A | o:B/-", "A | o!:B/- l:C/-", true),
        ("A-B-C", "A | o:B/-", "A | o:B/C", true),
        ("A-B A-C", "A | o:B/-", "A | o:A/- l:C/-", false),
        // Somebody has accepted another main meanwhile.
        ("A-B A-C", "A | o:B/-", "C | o:B/-", false),
        ("A-B-C", "A | o:A/B", "A | o:A/C", true),
        ("A-B A-C", "A | o:A/B", "A | o:A/C", false),
        ("A-B A-C", "A | o:A/B", "A | o:C/B", false),
        ("A-B", "A | o:A/B", "A | o:B/B", false),
        ("A-B-C*", "A | o:B/-", "A | o:C/-", true),
    ] {
        let diagram = Diagram::of(history);
        let facts = |world: &str| {
            let (accepted, remotes) = world.split_once(" | ").unwrap();
            facts(accepted, remotes)
        };
        let target = decide(&facts(before), &diagram).selected.unwrap();
        assert_eq!(
            may_still_be_deployed(&facts(now), &target, &diagram),
            allowed,
            "{history}: {before}, {now}"
        );
    }
}

#[test]
fn a_deployment_is_overtaken_by_another_one_and_not_by_an_outage() {
    let superseded = |now: &str, recent: Vec<PastAttempt>| {
        let diagram = Diagram::of("A-B-D A-C");
        let target = decide(&facts("A", "o:B/- l:A/-"), &diagram)
            .selected
            .unwrap();
        let facts = Facts {
            recent,
            ..facts("A", now)
        };
        decide(&facts, &diagram).supersedes(&target, &facts)
    };
    let deployed = || vec![tried("A", Operation::Switch, NextTry::None)];
    assert!(!superseded("o:B/- l:A/-", vec![]));
    assert!(superseded("o:C/- l:A/-", vec![]));
    assert!(superseded("o:B/D l:A/-", vec![]));
    assert!(superseded("o:A/- l:A/-", deployed()));
    assert!(!superseded("o!:B/- l:A/-", deployed()));
    assert!(!superseded("o!:B/-", deployed()));
    assert!(superseded("o!:B/- l:C/-", deployed()));
}
