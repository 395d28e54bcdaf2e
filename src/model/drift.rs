//! Drift: the machine runs, booted or boots something else than comin last activated. A pure function from the state
//! and from what the machine runs.

use std::path::{Path, PathBuf};

use derive_more::Display;
use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    attempt::Attempt, cure::Cure, names::Operation, outcome::Outcome, state::ManualRollback,
    state::State,
};

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

impl Systems {
    /// The system that booted instead of the one that was deployed last to stay: somebody chose it in the boot loader, or
    /// the boot fell back. If the profile is elsewhere, somebody has moved it, and the booted system is theirs.
    pub fn booted_instead(&self, state: &State) -> Option<&Path> {
        let deployed = state.last_permanent()?;
        let (out, in_boot) = (deployed.out.as_ref()?, deployed.boot.as_ref()?);
        let has_booted_since = in_boot != self.boot.as_ref()?;
        let should_have = self.boots_next.as_ref()?.system == *out;
        let booted = &self.booted.as_ref()?.system;
        (has_booted_since && should_have && booted != out).then_some(booted)
    }

    /// The system of an attempt that a reboot would complete. What somebody has chosen to run, to boot or to boot next is not
    /// comin's to undo.
    pub fn awaiting_reboot<'a>(&self, state: &State, attempt: &'a Attempt) -> Option<&'a Path> {
        let path = |known: &Option<Since>| known.as_ref().map(|known| known.system.clone());
        let (runs, booted) = (path(&self.running), path(&self.booted));
        // With a boot, what runs is still what it found, or an attempt on the same system before it.
        let found = |before: &Attempt| before.out == attempt.out && before.before.system == runs;
        let runs_as_left = runs == attempt.out
            || attempt.operation() == Operation::Boot
                && (runs == booted || state.attempts.iter().any(found));
        let is_untouched = runs_as_left && self.booted_instead(state).is_none();
        let boots = self.boots_next.as_ref()?;
        let system = attempt.boot_system().filter(|_| is_untouched)?;
        (boots.system == system).then_some(system)
    }
}

/// In which way a machine has drifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[display(rename_all = "snake_case")]
pub enum DriftKind {
    /// Somebody activated another system.
    Activated,
    /// The machine booted another system, and runs it.
    Booted,
    /// The running system is the right one, but another one boots next.
    BootsNext,
}

impl DriftKind {
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
    pub kind: DriftKind,
    /// The other system.
    pub out: PathBuf,
    /// Since when, in whole seconds.
    pub since: Option<Timestamp>,
    /// Whether somebody has chosen the system that booted, or the boot loader has fallen back.
    #[serde(skip)]
    pub is_chosen_at_boot: bool,
    /// The system that ends it, and how that is activated; `None` if the state does not tell.
    #[serde(skip)]
    pub cure: Option<(PathBuf, Operation)>,
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
    /// Keeps the other system. One that was chosen for a boot stays no longer than that boot.
    pub fn cure_to_keep(&self) -> Cure {
        Cure::suspend_to(if self.is_chosen_at_boot {
            "keep it until the next reboot"
        } else {
            "keep the other system"
        })
    }

    /// Whether another system ends it by this operation.
    pub fn is_ended_by(&self, operation: Operation) -> bool {
        match self.kind {
            DriftKind::Activated | DriftKind::Booted => operation.activates(),
            DriftKind::BootsNext => operation.moves_profile(),
        }
    }

    /// How every notice about one begins.
    pub const NOTICE: &str = "Drift: ";

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
                (DriftKind::Booted, systems.booted.clone().unwrap_or(other))
            } else {
                (DriftKind::Activated, other)
            }
        });
        let boots_other = || {
            let other = differs(&systems.boots_next, &expected.boots)?;
            Some((DriftKind::BootsNext, other))
        };
        let (kind, Since { system, since }) = runs_other.or_else(boots_other)?;
        let is_chosen = |booted| Some(booted) != systems.boots_next.clone().map(|it| it.system);
        let booted = differs(&systems.booted, &expected.boots).filter(|_| has_booted);
        Some(Self {
            kind,
            out: system,
            since,
            is_chosen_at_boot: booted.is_some_and(|booted| is_chosen(booted.system)),
            cure: expected.cure(kind, has_booted),
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

    /// What has to be activated to end a drift. A boot has ended what was only tested.
    fn cure(&self, kind: DriftKind, has_booted: bool) -> Option<(PathBuf, Operation)> {
        let (systems, operation) = match kind {
            DriftKind::BootsNext => (&self.boots, Operation::Boot),
            DriftKind::Activated | DriftKind::Booted if has_booted || self.runs == self.boots => {
                (&self.boots, Operation::Switch)
            }
            DriftKind::Activated | DriftKind::Booted => (&self.runs, Operation::Test),
        };
        match &systems[..] {
            [system] => Some((system.clone(), operation)),
            _ => None,
        }
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
pub mod tests;
