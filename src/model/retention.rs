//! What is no longer kept of what was deployed. Nothing goes unless the state proves that comin made it, and nothing
//! that the machine runs, has booted, boots next or would be rolled back to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{attempt::Attempt, policy::Retention};

/// The generations of a profile, and what the state knows of them.
pub struct Generations<'a> {
    /// The latest last.
    pub attempts: &'a [Attempt],
    /// The profile.
    pub profile: &'a Path,
    /// The generations and their systems.
    pub systems: BTreeMap<u64, PathBuf>,
    /// The generation that it is at.
    pub current: Option<u64>,
    /// The systems that are not to be lost whatever the state says.
    pub in_use: Vec<PathBuf>,
}

/// The roots of attempts that are neither among the latest nor among the latest successful ones.
///
/// The folder is comin's own, and an attempt's number is never given twice: what is numbered up to the
/// latest one was made by an attempt of this state, be it remembered or not. A higher number is left
/// alone: it is of a state that was lost.
pub fn surplus_roots(attempts: &[Attempt], roots: &[u64], keep: Retention) -> Vec<u64> {
    let latest = attempts.iter().rev();
    let kept: Vec<u64> = latest
        .clone()
        .take(keep.any)
        .chain(latest.filter(|a| a.is_done()).take(keep.successful))
        .map(|attempt| attempt.id)
        .collect();
    let newest = attempts.last().map_or(0, |latest| latest.id);
    let goes = |id: &u64| *id <= newest && !kept.contains(id);
    roots.iter().copied().filter(goes).collect()
}

/// The generations of comin's beyond so many different systems.
pub fn surplus_generations(all: &Generations, capacity: usize) -> Vec<u64> {
    let is_comins = |(generation, system): &(&u64, &PathBuf)| {
        // A generation that was there before the attempt is somebody else's, although comin may have come
        // to it; a link that leads elsewhere by now is, too.
        all.attempts.iter().any(|attempt| {
            attempt.before.profile == all.profile
                && attempt.created_generation() == Some((**generation, system.as_path()))
        })
    };
    // A rollback, even one across a boot, leads to what the latest activation found.
    let found = all.attempts.iter().rfind(|a| a.reached_activation());
    let found = found.and_then(|attempt| attempt.before.generation);
    let mut kept: Vec<&Path> = Vec::new();
    let mut surplus = Vec::new();
    for (generation, system) in all.systems.iter().rev().filter(is_comins) {
        let is_another = !kept.contains(&system.as_path());
        if is_another && kept.len() < capacity {
            kept.push(system);
            continue;
        }
        let is_needed = Some(*generation) == all.current
            || Some(*generation) == found
            || all.in_use.contains(system);
        if !is_needed {
            surplus.push(*generation);
        }
    }
    surplus.reverse();
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::{PreviousSystem, Progress};
    use crate::model::{names::Operation, outcome::Outcome, stage::Stage};
    use jiff::Timestamp;

    const PROFILE: &str = "/profiles/system";

    /// An attempt that ended; a generation is one that it found to be new.
    fn attempt(id: u64, out: &str, outcome: Outcome) -> Attempt {
        let mut attempt = Attempt::for_tests(id, Operation::Switch);
        attempt.out = Some(out.into());
        attempt.before = PreviousSystem {
            profile: PROFILE.into(),
            newest: Some(0),
            ..PreviousSystem::default()
        };
        attempt.progress = Progress::Ended(Timestamp::UNIX_EPOCH, outcome);
        attempt
    }

    fn made(id: u64, out: &str, generation: u64) -> Attempt {
        let generation = Some(generation);
        let mut attempt = attempt(id, out, Outcome::Done { generation });
        attempt.before.newest = generation.map(|generation| generation - 1);
        attempt.before.generation = attempt.before.newest;
        attempt
    }

    fn failed(id: u64) -> Attempt {
        let error = String::new();
        let stage = Stage::Building;
        attempt(id, "/failed", Outcome::Failed { stage, error })
    }

    fn keep(boot_entries: usize, successful: usize, any: usize) -> Retention {
        Retention {
            boot_entries,
            successful,
            any,
        }
    }

    fn facts<'a>(attempts: &'a [Attempt], generations: &[(u64, &str)]) -> Generations<'a> {
        let systems = generations.iter().map(|(n, system)| (*n, system.into()));
        Generations {
            attempts,
            profile: Path::new(PROFILE),
            systems: systems.collect(),
            current: generations.last().map(|(n, _)| *n),
            in_use: Vec::new(),
        }
    }

    #[test]
    fn roots_of_the_latest_and_of_the_latest_successful_attempts_are_kept() {
        let attempts = [
            made(4, "/a", 1),
            made(5, "/b", 2),
            failed(6),
            made(7, "/c", 3),
            failed(8),
            failed(9),
        ];
        for (successful, any, wanted) in [
            (1, 1, &[2, 4, 5, 6, 8][..]),
            (2, 1, &[2, 4, 6, 8]),
            (2, 2, &[2, 4, 6]),
            (1, 4, &[2, 4, 5]),
            (3, 6, &[2]),
            (100, 100, &[2]),
        ] {
            // 2 has been forgotten, and 12 is of a state before.
            let roots = [2, 4, 5, 6, 7, 8, 9, 12];
            let surplus = surplus_roots(&attempts, &roots, keep(1, successful, any));
            assert_eq!(surplus, wanted, "{successful} {any}");
        }
        assert_eq!(surplus_roots(&[], &[1], keep(1, 1, 1)), [0; 0]);
    }

    #[test]
    fn old_generations_of_comins_go_and_no_others() {
        let five: Vec<Attempt> = [(1, "/a"), (2, "/b"), (3, "/c"), (4, "/d"), (5, "/e")]
            .map(|(n, out)| made(n, out, n))
            .to_vec();
        let links = [(1, "/a"), (2, "/b"), (3, "/c"), (4, "/d"), (5, "/e")];
        let goes = surplus_generations;
        assert_eq!(goes(&facts(&five, &links), 3), [1, 2]);
        assert_eq!(goes(&facts(&five, &links), 5), [0; 0]);
        // What the latest activation found stays, too: 4.
        assert_eq!(goes(&facts(&five, &links), 1), [1, 2, 3]);
        // What runs, has booted or ran before.
        let in_use = Generations {
            in_use: vec!["/a".into(), "/x".into()],
            ..facts(&five, &links)
        };
        assert_eq!(goes(&in_use, 3), [2]);
        // What boots next.
        let rolled_back = Generations {
            current: Some(2),
            ..facts(&five, &links)
        };
        assert_eq!(goes(&rolled_back, 3), [1]);
        // Somebody's own, between them and instead of them.
        let others = [
            (1, "/x"),
            (2, "/b"),
            (4, "/d"),
            (5, "/e"),
            (6, "/f"),
            (7, "/g"),
        ];
        assert_eq!(goes(&facts(&five, &others), 2), [2]);
        // The same system twice is one.
        let twice: Vec<Attempt> = [(1, "/a"), (2, "/b"), (3, "/a"), (4, "/b")]
            .map(|(n, out)| made(n, out, n))
            .to_vec();
        let links = [(1, "/a"), (2, "/b"), (3, "/a"), (4, "/b")];
        assert_eq!(goes(&facts(&twice, &links), 3), [1, 2]);
    }

    #[test]
    fn what_the_state_does_not_prove_stays() {
        let links = [(1, "/a"), (2, "/b")];
        let goes = |first: Attempt| {
            let attempts = [first, made(2, "/b", 2)];
            // Generation 1 is also what the latest activation found.
            let mut attempts = attempts;
            attempts[1].before.generation = None;
            surplus_generations(&facts(&attempts, &links), 1)
        };
        assert_eq!(goes(made(1, "/a", 1)), [1]);
        let mut found = made(1, "/a", 1);
        found.before.newest = Some(1);
        assert_eq!(goes(found), [0; 0]);
        let mut of_an_older_comin = made(1, "/a", 1);
        of_an_older_comin.before.newest = None;
        assert_eq!(goes(of_an_older_comin), [0; 0]);
        let mut of_another_profile = made(1, "/a", 1);
        of_another_profile.before.profile = "/profiles/comin".into();
        assert_eq!(goes(of_another_profile), [0; 0]);
        assert_eq!(goes(made(1, "/elsewhere", 1)), [0; 0]);
        assert_eq!(goes(failed(1)), [0; 0]);
    }
}
