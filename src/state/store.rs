//! The state file, and the lock of its one writer.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::format;
use crate::config::paths::Paths;
use crate::model::{Attempt, Candidate, Commit, Quarantine, State};
use crate::sys::fs::{self, Lock};

/// How many attempts are remembered.
const ATTEMPTS: usize = 100;
/// How many commits are in quarantine at most; the oldest have long been overtaken.
const QUARANTINE: usize = 20;

/// Reads the state; the state of a first run where there is no file.
///
/// # Errors
/// The file cannot be understood; the sentence has the cure. It is never taken for a first run,
/// for then an older commit could be deployed.
pub fn read(paths: &Paths) -> Result<State> {
    let path = paths.state();
    match fs::read_optional(&path)? {
        Some(content) => format::decode(&content)
            .with_context(|| format!("The state {} cannot be read", path.display())),
        None => Ok(State::default()),
    }
}

/// The state, to be changed: whoever has it holds the lock, so there is one writer.
pub struct Store {
    state: State,
    path: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Waits until no other process deploys, and reads the state.
    pub fn open(paths: &Paths) -> Result<Self> {
        let lock = Lock::take_if_free(&paths.deploy_lock())?;
        let lock = if let Some(lock) = lock {
            lock
        } else {
            log::info!("Another comin deploys; waiting for it");
            Lock::wait(&paths.deploy_lock())?
        };
        Ok(Self {
            state: read(paths)?,
            path: paths.state(),
            _lock: lock,
        })
    }

    /// The state as it is on the disk.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records the accepted main.
    pub fn accept(&mut self, main: Commit) -> Result<()> {
        if self.state.accepted_main.as_ref() == Some(&main) {
            return Ok(());
        }
        self.change(|state| state.accepted_main = Some(main))
    }

    /// Records another attempt.
    pub fn push(&mut self, attempt: Attempt) -> Result<()> {
        self.change(|state| {
            while state.attempts.len() >= ATTEMPTS {
                // A commit that fails for days must not make comin forget what it deployed, and with it
                // what is deployed and which generations are its own.
                let mut old = state.attempts.iter().take(ATTEMPTS / 2);
                let failure = old.position(|attempt| !attempt.reached_activation());
                state.attempts.remove(failure.unwrap_or(0));
            }
            state.attempts.push(attempt);
        })
    }

    /// Records how far the latest attempt is. One that reaches activation brings its main along.
    pub fn record(&mut self, attempt: &Attempt) -> Result<()> {
        let recorded = attempt.clone();
        self.change(|state| {
            if recorded.reached_activation() {
                state.accepted_main = Some(recorded.target.main.clone());
            }
            if let Some(latest) = state.attempts.last_mut() {
                *latest = recorded;
            }
        })
    }

    /// Puts a commit into quarantine; what was said of it before is replaced.
    pub fn quarantine(&mut self, quarantine: Quarantine) -> Result<()> {
        self.change(|state| {
            let is_another = |it: &Quarantine| {
                (&it.commit, it.operation) != (&quarantine.commit, quarantine.operation)
            };
            state.quarantine.retain(is_another);
            let surplus = (state.quarantine.len() + 1).saturating_sub(QUARANTINE);
            state.quarantine.drain(..surplus);
            state.quarantine.push(quarantine);
        })
    }

    /// Forgets the quarantine of what heads have moved away from: it does not hold again when they come
    /// back.
    pub fn forget_quarantine(&mut self, candidates: &[Candidate]) -> Result<()> {
        let is_current = |quarantine: &Quarantine| quarantine.is_current(candidates);
        if self.state.quarantine.iter().all(is_current) {
            return Ok(());
        }
        self.change(|state| state.quarantine.retain(is_current))
    }

    /// Changes the state, on the disk first.
    pub fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state.clone();
        change(&mut state);
        let text = format::encode(&state)?;
        fs::replace_durably(&self.path, &text)?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Operation, Outcome, Stage, Target};
    use jiff::Timestamp;

    #[test]
    fn newer_commits_stop_three_attempts_in_a_row() {
        // Attempts, the latest last: `e` stopped while it was evaluated, `b` built, or `w` waited; `d` done, `f`
        // failed; the number is the commit.
        for (attempts, outlasts) in [
            ("r1", false),
            ("b1 b2 r3", false),
            ("b1 b2 b3 r4", true),
            ("e1 b2 e3 r4", true),
            ("d1 b2 b3 b4 r5", true),
            ("b1 b2 b3 b4 r5", true),
            ("b1 d2 b3 b4 r5", false),
            ("b1 b2 b3 d4 r5", false),
            ("b1 b2 f3 r4", false),
            ("b1 w2 b3 r4", false),
            ("w1 w2 w3 r4", false),
            // Suspended and resumed: no other commit has stopped it.
            ("b1 b2 b3 r3", false),
            ("b1 b1 b1 r1", false),
        ] {
            let row = attempts;
            let attempts = row.split(' ').zip(1..).map(|(attempt, id)| {
                let (kind, commit) = attempt.split_at(1);
                let commit = Attempt::for_tests(commit.parse().unwrap(), Operation::Switch);
                let mut attempt = Attempt { id, ..commit };
                let stopped = |stage| Outcome::Preempted { stage };
                match kind {
                    "r" => {}
                    "e" => attempt.end(stopped(Stage::Evaluating), Timestamp::now()),
                    "b" => attempt.end(stopped(Stage::Building), Timestamp::now()),
                    "w" => attempt.end(stopped(Stage::WaitingForConfirmation), Timestamp::now()),
                    "d" => attempt.end(Outcome::Done { generation: None }, Timestamp::now()),
                    "f" => attempt.end(
                        Outcome::Failed {
                            stage: Stage::Building,
                            error: String::new(),
                        },
                        Timestamp::now(),
                    ),
                    _ => panic!("{kind}"),
                }
                attempt
            });
            let state = State {
                attempts: attempts.collect(),
                ..State::default()
            };
            assert_eq!(state.outlasts_newer_commits(), outlasts, "{row}");
        }
    }

    fn begin(store: &mut Store, target: &Target) -> Attempt {
        let (target, now) = (target.clone(), Timestamp::now());
        let attempt = store
            .state()
            .next_attempt(target, String::new(), None, None, now);
        store.push(attempt.clone()).unwrap();
        attempt
    }

    #[test]
    fn failures_are_forgotten_before_what_changed_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::outside_state(folder.path());
        let mut store = Store::open(&paths).unwrap();
        let target = Attempt::for_tests(1, Operation::Switch).target;
        let mut attempt = |ends: Outcome| {
            let mut attempt = begin(&mut store, &target);
            attempt.end(ends, Timestamp::now());
            store.record(&attempt).unwrap();
            store.state().clone()
        };
        let failed = || Outcome::Failed {
            stage: Stage::Building,
            error: String::new(),
        };
        attempt(failed());
        attempt(Outcome::Done { generation: None });
        let mut state = State::default();
        for _ in 0..200 {
            state = attempt(failed());
        }
        assert_eq!(state.attempts.len(), ATTEMPTS);
        assert_eq!(state.last_activation().unwrap().id, 2);
        let ids: Vec<u64> = state.attempts.iter().map(|attempt| attempt.id).collect();
        assert_eq!((ids[0], ids[1], ids[99]), (2, 104, 202));
        for _ in 0..200 {
            state = attempt(Outcome::Done { generation: None });
        }
        assert_eq!(state.attempts[0].id, 303);
    }

    #[test]
    fn failures_before_an_interruption_do_not_make_it_one_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::outside_state(folder.path());
        let mut store = Store::open(&paths).unwrap();
        let target = Attempt::for_tests(1, Operation::Switch).target;
        let mut retries_exhausted = |ends: Outcome| {
            let mut attempt = begin(&mut store, &target);
            let retries_exhausted = attempt.retries_exhausted();
            attempt.end(ends, Timestamp::now());
            store.record(&attempt).unwrap();
            retries_exhausted
        };
        let postponed = || Outcome::Postponed {
            error: String::new(),
        };
        let interrupted = || Outcome::Interrupted {
            stage: Stage::Activating,
        };
        for ends in [
            postponed(),
            postponed(),
            postponed(),
            interrupted(),
            postponed(),
            interrupted(),
        ] {
            assert!(!retries_exhausted(ends));
        }
        assert!(retries_exhausted(interrupted()));
    }
}
