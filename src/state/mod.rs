//! What comin remembers between two runs: the accepted main, the attempts, the quarantine.

mod attempt;
pub mod deploy_record;
pub mod fetch_record;
mod file;
pub mod go_comin;
mod stages;
pub mod verdicts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

#[cfg(test)]
pub use attempt::Entered;
pub use attempt::{Attempt, Before, Blame, Outcome, Progress, Stage};

use crate::config::paths::Paths;
use crate::deploy::confirm::Step;
use crate::deploy::journal_fields;
use crate::model::commit::Commit;
use crate::model::policy::Backoff;
use crate::model::quarantine::Quarantine;
use crate::model::reboot::Reboot;
use crate::model::select::{Accepted, Candidate, Recent, Target};
use crate::sys::fs::{self, Lock};

/// How many attempts are remembered.
const ATTEMPTS: usize = 100;
/// How many evaluations and builds in a row newer commits may stop.
const PREEMPTIONS: usize = 3;
/// How many commits are in quarantine at most; the oldest have long been overtaken.
const QUARANTINE: usize = 20;

/// The state of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The chosen main of the latest deployment that reached activation.
    pub accepted_main: Option<Commit>,
    /// What is not deployed again.
    pub quarantine: Vec<Quarantine>,
    /// The attempt up to which nothing counts any more, neither as deployed nor as failed, because the
    /// operator has gone back, or wants it tried again.
    pub lapsed: Option<u64>,
    /// The latest reboot that comin announced.
    pub reboot: Option<Reboot>,
    /// The latest last.
    pub attempts: Vec<Attempt>,
}

impl State {
    /// Reads the state; the state of a first run where there is no file.
    ///
    /// # Errors
    /// The file cannot be understood; the sentence has the cure. It is never taken for a first run,
    /// for then an older commit could be deployed.
    pub fn read(paths: &Paths) -> Result<Self> {
        let path = paths.state();
        match fs::read_optional(&path)? {
            Some(content) => file::decode(&content)
                .with_context(|| format!("The state {} cannot be read", path.display())),
            None => Ok(Self::default()),
        }
    }

    /// The accepted main, and where it came from.
    pub fn accepted(&self) -> Option<Accepted> {
        let commit = self.accepted_main.clone()?;
        let mut targets = self.attempts.iter().map(|attempt| &attempt.target);
        let target = targets.rfind(|target| target.commit == commit && !target.testing);
        let from = target.map(|target| format!("{}/{}", target.remote, target.branch));
        Some(Accepted { commit, from })
    }

    /// The latest attempt.
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The attempt that waits for a confirmation, and the step that it is for.
    pub fn awaiting(&self) -> Option<(&Attempt, Step)> {
        let latest = self.latest()?;
        match latest.progress {
            Progress::Awaiting(step) => Some((latest, step)),
            Progress::Running(_) | Progress::Ended(_, _) => None,
        }
    }

    /// The latest attempt that came to an end of its own.
    pub fn latest_ended(&self) -> Option<&Attempt> {
        self.attempts.iter().rfind(|attempt| match attempt.ended() {
            None | Some((_, Outcome::Preempted { .. })) => false,
            Some(_) => true,
        })
    }

    /// The latest attempt that changed the machine.
    pub fn changed_by(&self) -> Option<&Attempt> {
        self.attempts.iter().rfind(|a| a.reached_activation())
    }

    /// The latest attempt that activated this system.
    pub fn latest_activation_of(&self, out: &Path) -> Option<&Attempt> {
        let activated = |a: &&Attempt| a.reached_activation() && a.out.as_deref() == Some(out);
        self.attempts.iter().rfind(activated)
    }

    /// The latest attempt that brought what is to boot.
    pub fn deployed_to_stay(&self) -> Option<&Attempt> {
        let boots = |attempt: &&Attempt| attempt.boots_next().is_some();
        self.attempts.iter().rfind(boots)
    }

    /// Whether the latest attempt goes on in spite of newer commits: they have stopped as many in a row before it as
    /// they may. Without a bound, commits that come faster than a build would keep the machine from ever getting one.
    pub fn outlasts_newer_commits(&self) -> bool {
        let latest = self.attempts.iter().rev().take(PREEMPTIONS + 1);
        let latest: Vec<&Attempt> = latest.collect();
        let is_stopped = |pair: &[&Attempt]| {
            let at_work = match pair[1].ended() {
                Some((_, Outcome::Preempted { stage })) => *stage != Stage::Waiting,
                Some(_) | None => false,
            };
            at_work && pair[1].target.commit != pair[0].target.commit
        };
        latest.len() > PREEMPTIONS && latest.windows(2).all(is_stopped)
    }

    /// What was last tried of each branch.
    pub fn tried(&self) -> Vec<Target> {
        let mut tried: Vec<Target> = Vec::new();
        for target in self.attempts.iter().rev().map(|attempt| &attempt.target) {
            let is_known = |it: &Target| it.is_of(&target.remote, &target.branch, target.testing);
            if !tried.iter().any(is_known) {
                tried.push(target.clone());
            }
        }
        tried
    }

    /// What was tried since the machine last changed, the latest first, as far as a decision needs
    /// it. What the operator has forgiven counts no more.
    pub fn recent(&self, backoff: Backoff) -> Vec<Recent> {
        let mut recent = Vec::new();
        for attempt in self.attempts.iter().rev() {
            if attempt.ended().is_none() {
                continue;
            }
            if self.lapsed.is_some_and(|lapsed| attempt.id <= lapsed) {
                break;
            }
            recent.push(Recent {
                commit: attempt.target.commit.clone(),
                operation: attempt.target.operation,
                again: attempt.again(backoff),
            });
            if attempt.reached_activation() {
                break;
            }
        }
        recent
    }

    /// Lets every attempt until now lapse: what failed is tried at once, nothing is in quarantine, what is
    /// deployed but does not run is deployed again, and a reboot that did not help may be done again.
    pub fn forgive(&mut self) {
        self.quarantine.clear();
        self.reboot = None;
        self.lapse();
    }

    /// Confirms the attempt that waits.
    pub fn confirm(&mut self, step: Step) {
        if let Some(waiting) = self.attempts.last_mut() {
            waiting.confirmed.insert(step);
        }
    }

    /// What waits for a confirmation goes on waiting.
    fn lapse(&mut self) {
        let mut attempts = self.attempts.iter();
        let latest = attempts.rfind(|attempt| attempt.ended().is_some());
        self.lapsed = latest.map(|latest| latest.id);
    }
}

/// The state, to be changed: whoever has it holds the lock, so there is one writer.
#[derive(Debug)]
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
            state: State::read(paths)?,
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

    /// Records the beginning of an attempt, in this boot, and the journal's fields tell it.
    pub fn begin(
        &mut self,
        target: Target,
        subject: String,
        boot: Option<String>,
    ) -> Result<Attempt> {
        let before = self.state.latest();
        let is_same = |before: &&Attempt| {
            target.is(&before.target.commit, before.target.operation)
                && self.state.lapsed.is_none_or(|lapsed| before.id > lapsed)
        };
        let again = before.filter(is_same);
        let mut attempt = Attempt {
            id: before.map_or(0, |before| before.id).saturating_add(1),
            tries: again.map_or(0, |again| again.tries).saturating_add(1),
            target,
            subject,
            started_at: Timestamp::now(),
            boot,
            derivation: None,
            out: None,
            inhibitors: Vec::new(),
            before: Before::default(),
            confirmed: again.map_or_else(BTreeSet::new, |again| again.confirmed.clone()),
            units: None,
            fault: None,
            stages: Vec::new(),
            progress: Progress::Running(Stage::Evaluating),
        };
        attempt.enter(Stage::Evaluating);
        journal_fields::are_of(&attempt);
        let recorded = attempt.clone();
        self.change(|state| {
            while state.attempts.len() >= ATTEMPTS {
                // A commit that fails for days must not make comin forget what it deployed, and with it
                // what is deployed and which generations are its own.
                let mut old = state.attempts.iter().take(ATTEMPTS / 2);
                let failure = old.position(|attempt| !attempt.reached_activation());
                state.attempts.remove(failure.unwrap_or(0));
            }
            state.attempts.push(recorded);
        })?;
        Ok(attempt)
    }

    /// Records how far the latest attempt is, and the journal's fields tell it; one that reaches activation
    /// brings its main along.
    pub fn record(&mut self, attempt: &Attempt) -> Result<()> {
        journal_fields::are_of(attempt);
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
            state
                .quarantine
                .retain(|before| !before.is_about_same(&quarantine));
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

    /// As [`State::forgive`].
    pub fn forgive(&mut self) -> Result<()> {
        self.change(State::forgive)
    }

    /// Remembers that the operator went back: what was deployed counts no more, and neither it nor what
    /// was going to be deployed comes back by itself.
    pub fn go_back(&mut self, held: Vec<Quarantine>) -> Result<()> {
        self.change(|state| {
            state.quarantine = held;
            state.lapse();
        })
    }

    /// Takes a change back.
    pub fn restore(&mut self, state: State) -> Result<()> {
        self.change(|now| *now = state)
    }

    /// Remembers a reboot, or that none is under way or in doubt.
    pub fn remember_reboot(&mut self, reboot: Option<Reboot>) -> Result<()> {
        self.change(|state| state.reboot = reboot)
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state.clone();
        change(&mut state);
        let text = file::encode(&state)?;
        fs::replace_durably(&self.path, &text)?;
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Operation;

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
                    "e" => attempt.end(stopped(Stage::Evaluating)),
                    "b" => attempt.end(stopped(Stage::Building)),
                    "w" => attempt.end(stopped(Stage::Waiting)),
                    "d" => attempt.end(Outcome::Done { generation: None }),
                    "f" => attempt.end(Outcome::Failed {
                        stage: Stage::Building,
                        error: String::new(),
                    }),
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

    #[test]
    fn failures_are_forgotten_before_what_changed_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::outside_state(folder.path());
        let mut store = Store::open(&paths).unwrap();
        let target = Attempt::for_tests(1, Operation::Switch).target;
        let mut attempt = |ends: Outcome| {
            let mut attempt = store.begin(target.clone(), String::new(), None).unwrap();
            attempt.end(ends);
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
        assert_eq!(state.changed_by().unwrap().id, 2);
        let ids: Vec<u64> = state.attempts.iter().map(|attempt| attempt.id).collect();
        assert_eq!((ids[0], ids[1], ids[99]), (2, 104, 202));
        for _ in 0..200 {
            state = attempt(Outcome::Done { generation: None });
        }
        assert_eq!(state.attempts[0].id, 303);
    }
}
