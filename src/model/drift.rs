//! Drift: the machine runs, booted or boots something else than comin last activated. A pure function from the state
//! and from what the machine runs.

use std::path::PathBuf;

use derive_more::Display;
use jiff::Timestamp;
use serde::Serialize;

use crate::model::attempt::Attempt;
use crate::model::manual_rollback::ManualRollback;
use crate::model::names::Operation;
use crate::model::outcome::Outcome;
use crate::model::state::State;

/// A system, and since when the machine runs it, or boots it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub system: PathBuf,
    pub since: Option<Timestamp>,
}

/// What the machine runs, booted and boots next; `None` for what is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Systems {
    pub running: Option<Since>,
    pub booted: Option<Since>,
    pub boots_next: Option<Since>,
    /// The kernel's name for this boot.
    pub boot: Option<String>,
}

/// In which way a machine has drifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[display(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody activated another system.
    Activated,
    /// The machine booted another system, and runs it.
    Booted,
    /// The running system is the right one, but another one boots next.
    BootsNext,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Activated, Self::Booted, Self::BootsNext];

    /// The word for it in a line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Activated | Self::Booted => "not running",
            Self::BootsNext => "boots another",
        }
    }

    /// As in "another system was activated".
    pub fn clause(self) -> &'static str {
        match self {
            Self::Activated => "another system was activated",
            Self::Booted => "another system was booted",
            Self::BootsNext => "another system boots next",
        }
    }
}

/// That a machine has drifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub kind: Kind,
    /// The other system.
    pub out: PathBuf,
    /// Since when, in whole seconds.
    pub since: Option<Timestamp>,
}

/// What comin last activated; several systems if the state does not tell which one an attempt left behind. Empty if
/// nothing is known.
#[derive(Debug, Clone, Default)]
struct Expected {
    runs: Vec<PathBuf>,
    boots: Vec<PathBuf>,
    /// The boot in which that was.
    boot: Option<String>,
    /// Whether it was a test, which a reboot ends.
    is_test: bool,
}

impl Drift {
    /// Compares what the machine runs with what comin last activated.
    pub fn of(state: &State, systems: &Systems) -> Option<Self> {
        let is_changing =
            |latest: &Attempt| latest.ended().is_none() && latest.changed_the_machine();
        if state.latest().is_some_and(is_changing) {
            return None;
        }
        let mut expected = Expected::of(state);
        let has_booted = expected.enter_boot(systems.boot.as_ref());
        let differs = |system: &Option<Since>, expected: &[PathBuf]| {
            let system = system.clone()?;
            let differs = !expected.is_empty() && !expected.contains(&system.system);
            differs.then_some(system)
        };
        let runs_other = differs(&systems.running, &expected.runs).map(|other| {
            let system = |known: &Option<Since>| known.as_ref().map(|known| known.system.clone());
            let is_booted = has_booted && system(&systems.booted) == system(&systems.running);
            if is_booted {
                (Kind::Booted, systems.booted.clone().unwrap_or(other))
            } else {
                (Kind::Activated, other)
            }
        });
        let boots_other = || {
            let other = differs(&systems.boots_next, &expected.boots)?;
            Some((Kind::BootsNext, other))
        };
        let (kind, Since { system, since }) = runs_other.or_else(boots_other)?;
        Some(Self {
            kind,
            out: system,
            since,
        })
    }
}

impl Expected {
    /// Follows every change of the machine that comin made.
    fn of(state: &State) -> Self {
        let mut expected = Self::default();
        let mut rollbacks = state.rollbacks.iter().peekable();
        for attempt in &state.attempts {
            while let Some(rollback) = rollbacks.next_if(|rollback| rollback.after < attempt.id) {
                expected.roll_back(rollback);
            }
            expected.attempt(attempt);
        }
        for rollback in rollbacks {
            expected.roll_back(rollback);
        }
        expected
    }

    /// After a boot, the machine should run what was to boot. A boot ends a test, which may have been repeated by hand since.
    /// Says whether there was a boot.
    fn enter_boot(&mut self, boot: Option<&String>) -> bool {
        let before = std::mem::replace(&mut self.boot, boot.cloned());
        let has_booted = before.is_some() && boot.is_some() && before.as_ref() != boot;
        if has_booted {
            let is_repeatable = self.is_test && !self.boots.is_empty();
            self.runs.retain(|_| is_repeatable);
            self.runs.extend_from_slice(&self.boots);
        }
        has_booted
    }

    fn attempt(&mut self, attempt: &Attempt) {
        let (Some((_, outcome)), Some(out)) = (attempt.ended(), attempt.out.clone()) else {
            return;
        };
        if !attempt.reached_activation() {
            return;
        }
        self.enter_boot(attempt.boot.as_ref());
        // It was completed by a reboot, or needed none.
        let operation = match attempt.boot_fault {
            Some(_) => Operation::Switch,
            None => attempt.operation(),
        };
        let (ran, booted) = (attempt.before.system.clone(), attempt.before.boots.clone());
        let (runs, boots): (Vec<_>, Vec<_>) = match outcome {
            Outcome::Done { .. } => (vec![out.clone()], vec![out]),
            Outcome::RolledBack { .. } => (Vec::from_iter(ran), Vec::from_iter(booted)),
            // The new system stays, or the one before.
            Outcome::Failed { .. }
            | Outcome::Interrupted { .. }
            | Outcome::Postponed { .. }
            | Outcome::Preempted { .. }
            | Outcome::Skipped { .. } => {
                let or = |before: Option<PathBuf>| before.into_iter().chain([out.clone()]);
                (or(ran).collect(), or(booted).collect())
            }
        };
        self.set(operation, runs, boots);
    }

    fn roll_back(&mut self, rollback: &ManualRollback) {
        self.enter_boot(rollback.boot.as_ref());
        let system = || vec![rollback.system.clone()];
        self.set(rollback.operation, system(), system());
    }

    fn set(&mut self, operation: Operation, runs: Vec<PathBuf>, boots: Vec<PathBuf>) {
        self.is_test = operation == Operation::Test;
        if operation.activates() {
            self.runs = runs;
        }
        if operation.moves_profile() {
            self.boots = boots;
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::{outcome::FaultOrigin, stage::Stage};

    /// Attempts, the latest last. `s`witch, `t`est or `b`oot; the system; the boot in which that was; then `!` if the
    /// attempt was rolled back, `?` if its activation failed, `x` if its build failed, `~` if it has not ended. `r` is a
    /// rollback by hand to that system.
    pub fn state(attempts: &str) -> State {
        let mut state = State::default();
        for (word, id) in attempts.split_whitespace().zip(1..) {
            let [kind, system, boot] = [0, 1, 2].map(|n| word[n..=n].to_string());
            if kind == "r" {
                state.rollbacks.push(ManualRollback {
                    after: id - 1,
                    at: Timestamp::UNIX_EPOCH,
                    generation: 1,
                    system: system.into(),
                    operation: Operation::Switch,
                    boot: Some(boot),
                    by: "root".to_string(),
                });
                continue;
            }
            let operation = match &*kind {
                "s" => Operation::Switch,
                "t" => Operation::Test,
                "b" => Operation::Boot,
                _ => panic!("{kind}"),
            };
            let mut attempt = Attempt::for_tests(id, operation);
            attempt.out = Some(system.into());
            attempt.boot = Some(boot);
            let before = state.attempts.last().and_then(|it| it.out.clone());
            attempt.before.system.clone_from(&before);
            attempt.before.boots = before;
            attempt.enter(Stage::Activating, Timestamp::UNIX_EPOCH);
            let error = String::new();
            let outcome = match word.get(3..) {
                Some("!") => Some(Outcome::RolledBack {
                    error,
                    blame: FaultOrigin::Commit,
                }),
                Some("?") => Some(Outcome::Failed {
                    stage: Stage::Activating,
                    error,
                }),
                Some("x") => Some(Outcome::Failed {
                    stage: Stage::Building,
                    error,
                }),
                Some("~") => None,
                _ => Some(Outcome::Done { generation: None }),
            };
            if let Some(outcome) = outcome {
                attempt.end(outcome, Timestamp::UNIX_EPOCH);
            }
            state.attempts.push(attempt);
        }
        state
    }

    /// The system that runs, that booted and that boots next, and the boot; `-` is not known.
    pub fn systems(text: &str) -> Systems {
        let known = |n: usize| Some(text[n..=n].to_string()).filter(|it| it != "-");
        let since = |n| {
            let system = known(n)?.into();
            let since = None;
            Some(Since { system, since })
        };
        Systems {
            running: since(0),
            booted: since(1),
            boots_next: since(2),
            boot: known(3),
        }
    }

    #[test]
    fn machine_has_drifted_if_it_has_another_system_than_comin_activated() {
        for (attempts, machine, wanted) in [
            // Nothing was activated yet, or nothing is known of the machine.
            ("", "aaa1", None),
            ("sb1x", "aaa1", None),
            ("sb1", "----", None),
            // As comin left it.
            ("sb1", "bab1", None),
            ("sb1", "bbb2", None),
            ("sb1 tc1", "cab1", None),
            ("sb1 bc1", "bac1", None),
            ("sb1 bc1", "ccc2", None),
            ("sb1 sc1!", "bab1", None),
            ("sb1 sc1?", "bab1", None),
            ("sb1 sc1?", "cac1", None),
            ("sb1 sc1x", "bab1", None),
            ("sb1 sc1 rb1", "bab1", None),
            ("sb1 sc1 rb1", "bbb2", None),
            ("sb1 sc1 rb1 sd2", "dbd2", None),
            // Below a root nothing boots.
            ("sb- ", "b-b-", None),
            // By hand: `nixos-rebuild switch`, `test` and `boot`.
            ("sb1", "zaz1", Some("activated z")),
            ("sb1", "zab1", Some("activated z")),
            ("sb1", "baz1", Some("boots_next z")),
            ("sb1", "zbb2", Some("activated z")),
            ("tb1", "zaa1", Some("activated z")),
            ("sb1 sc1 rb1", "cac1", Some("activated c")),
            ("sb1 sc1x", "zab1", Some("activated z")),
            ("sb1 sc1?", "zab1", Some("activated z")),
            ("sb1 sc1!", "cac1", Some("activated c")),
            ("sb- ", "z-b-", Some("activated z")),
            // Another one was chosen in the boot menu, or the boot fell back, or what was built by hand booted.
            ("sb1", "aab2", Some("booted a")),
            ("sb1", "zzz2", Some("booted z")),
            ("bb1", "aab2", Some("booted a")),
            ("sb1 sc1 rb1", "ccb2", Some("booted c")),
            // Somebody went back to the right one.
            ("sb1", "bab2", None),
            // A reboot ends a test.
            ("sb1 tc1", "bbb2", None),
            ("tc1", "aaa2", None),
            ("sb1 tc1", "cbb2", None),
            ("sb1 tc1 bd1", "ddd2", None),
            ("sb1 tc1", "aab2", Some("booted a")),
            // In the middle of an activation nobody knows.
            ("sb1 sc1~", "zac1", None),
        ] {
            let drift = Drift::of(&state(attempts), &systems(machine));
            let drift = drift.map(|drift| format!("{} {}", drift.kind, drift.out.display()));
            assert_eq!(drift.as_deref(), wanted, "{attempts}: {machine}");
        }
    }
}
