//! One try to deploy a commit: what is deployed, how far it is, how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::names::{Operation, RemoteName};
use crate::model::outcome::{Fault, FaultOrigin, Outcome, Trouble};
use crate::model::schedule::{Delay, NextTry};
use crate::model::{confirmation::ConfirmStep, policy::Backoff, stage::Stage, target::Target};

/// How often an interrupted attempt is repeated at once; after that, something about it interrupts.
const INTERRUPTIONS: u32 = 3;

/// One try to deploy a commit. A key that comin 0.1 did not have is only written if it has a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts up; never used twice as long as the state lives.
    pub id: u64,
    /// What is deployed.
    #[serde(flatten)]
    pub target: Target,
    /// The first line of the commit's message, as the author wrote it.
    pub subject: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The boot in which it began, or went on after it had been confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The number of this try in a row of tries of the same target, from 1.
    pub tries: u32,
    /// How many of these tries, before this one, were interrupted or undone by an outage.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// The derivation, once evaluated.
    pub derivation: Option<String>,
    /// The system, once evaluated; from the beginning, if CI has built it.
    pub out: Option<PathBuf>,
    /// The parts of the running system that only a reboot can exchange for those of the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibitors: Vec<String>,
    /// What the activation found, once it begins.
    #[serde(default, skip_serializing_if = "PreviousSystem::is_none")]
    pub before: PreviousSystem,
    /// The steps that somebody has confirmed, for this attempt or for an earlier one in the same row of tries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub confirmed: BTreeSet<ConfirmStep>,
    /// What its activation did to units, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitChanges>,
    /// Why it is rolled back, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What Nix said about its failure, apart from the sentence in the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<NixFailure>,
    /// When its system was found good after its first boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_checked: Option<Timestamp>,
    /// What was wrong after the first boot of its system. Only a reboot completes the rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_fault: Option<Fault>,
    /// How it activates again what comin has activated before, if it does only that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reactivation: Option<Reactivation>,
    /// When each stage began; it ended when the next one did.
    #[serde(skip)]
    pub stages: Vec<StageStart>,
    /// How far it is, or how it ended. The file has this and the stages in keys of its own.
    #[serde(skip)]
    pub progress: Progress,
}

/// What an attempt does that evaluates and builds nothing, but activates again what comin has activated before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reactivation {
    /// What is done with the system, whatever its branch asks for.
    pub operation: Operation,
    /// Who has ordered by `comin keep` that the system boots next; `None` if the attempt heals a drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<String>,
}

/// What Nix said about a failure, apart from the sentence in the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NixFailure {
    /// The derivation that could not be built.
    pub derivation: Option<String>,
    /// The lines that matter: the end of the build's log, or where in the configuration.
    pub lines: Vec<String>,
}

/// What an activation found: where a rollback leads, and what was well before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreviousSystem {
    /// The system that ran.
    pub system: Option<PathBuf>,
    /// The system that booted next.
    pub boots: Option<PathBuf>,
    /// The system that had booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted: Option<PathBuf>,
    /// The profile that `switch` and `boot` move.
    pub profile: PathBuf,
    /// The newest generation that it had, 0 if it had none. comin made the newer ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    /// The generation it was at. The file has it under a name of its own, as comin 0.1 had.
    #[serde(skip)]
    pub generation: Option<u64>,
    /// The remotes of which at least one has to be within reach afterwards.
    pub reachable: Vec<RemoteName>,
    /// The units that had failed already.
    pub failed_units: Vec<String>,
    /// The lists of units that another switch had left, with the times of their latest changes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unit_lists: BTreeMap<String, Timestamp>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl PreviousSystem {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The beginning of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageStart {
    /// Which one.
    pub stage: Stage,
    /// When.
    pub at: Timestamp,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Under way.
    Running(Stage),
    /// Nothing is done before this step has been confirmed, or a gate lets it pass. It has waited since its last
    /// stage began. No comin is at work at it, and a reboot is no interruption.
    Awaiting(ConfirmStep),
    /// Over.
    Ended(Timestamp, Outcome),
}

impl Default for Progress {
    fn default() -> Self {
        Self::Running(Stage::Evaluating)
    }
}

impl Attempt {
    /// The first try of a target, after the `latest` attempt, in this boot. It is in no stage yet.
    pub fn new(
        latest: Option<&Self>,
        target: Target,
        subject: String,
        boot: Option<String>,
        started_at: Timestamp,
    ) -> Self {
        Self {
            id: latest.map_or(0, |latest| latest.id).saturating_add(1),
            target,
            subject,
            started_at,
            boot,
            tries: 1,
            interruptions: 0,
            derivation: None,
            out: None,
            inhibitors: Vec::new(),
            before: PreviousSystem::default(),
            confirmed: BTreeSet::new(),
            units: None,
            fault: None,
            failure: None,
            boot_checked: None,
            boot_fault: None,
            reactivation: None,
            stages: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// The next try of the target of another one.
    pub fn try_again(&mut self, before: &Self) {
        self.tries = before.tries.saturating_add(1);
        self.interruptions = before.interruptions_so_far();
        self.confirmed.clone_from(&before.confirmed);
    }

    /// Goes on to a stage.
    pub fn enter(&mut self, stage: Stage, now: Timestamp) {
        self.stages.push(StageStart { stage, at: now });
        self.progress = Progress::Running(stage);
    }

    /// Begins to wait before a step, in a stage that is a wait.
    pub fn wait(&mut self, stage: Stage, step: ConfirmStep, now: Timestamp) {
        self.enter(stage, now);
        self.progress = Progress::Awaiting(step);
    }

    /// Comes to an end.
    pub fn end(&mut self, outcome: Outcome, now: Timestamp) {
        self.progress = Progress::Ended(now, outcome);
    }

    /// The system that CI has built, if it did.
    pub fn prebuilt(&self) -> Option<&PathBuf> {
        self.out.as_ref().filter(|_| self.derivation.is_none())
    }

    /// The stage that it is in, or in which it has ended.
    pub fn stage(&self) -> Stage {
        let last = self.stages.last().map(|entered| entered.stage);
        match &self.progress {
            Progress::Running(stage) => *stage,
            Progress::Awaiting(_) => {
                let wait = last.filter(|last| last.is_wait());
                wait.unwrap_or(Stage::WaitingForConfirmation)
            }
            Progress::Ended(_, _) => last.unwrap_or(Stage::Evaluating),
        }
    }

    /// Since when it is in its latest stage.
    pub fn since(&self) -> Timestamp {
        let entered = self.stages.last();
        entered.map_or(self.started_at, |entered| entered.at)
    }

    /// The outcome, when something goes wrong where it is now.
    ///
    /// # Errors
    /// It is being rolled back: that must not end half-way, so the next start goes on with it.
    pub fn failed(&self, error: anyhow::Error) -> anyhow::Result<Outcome> {
        match self.stage() {
            Stage::RollingBack => Err(error),
            stage => Ok(Outcome::Failed {
                stage,
                error: format!("{error:#}"),
            }),
        }
    }

    /// The name of the GC root of an attempt.
    pub fn root_of(id: u64) -> String {
        format!("attempt-{id}")
    }

    /// The attempt whose GC root has that name, and no other: `attempt-01` only looks like one.
    pub fn id_of_root(name: &str) -> Option<u64> {
        let id = name.strip_prefix("attempt-")?.parse().ok()?;
        (Self::root_of(id) == name).then_some(id)
    }

    /// The generation of the profile that it made, and its system. One that was there before is not its
    /// own: Nix goes to the newest one instead of making another of the same system.
    pub fn created_generation(&self) -> Option<(u64, &Path)> {
        let generation = self.generation()?;
        let is_new = self.before.newest.is_some_and(|newest| generation > newest);
        Some((generation, self.out.as_deref()?)).filter(|_| is_new)
    }

    /// What is asked for: by the branch, or by whoever activates its system again.
    pub fn asked(&self) -> Operation {
        let again = self.reactivation.as_ref().map(|it| it.operation);
        again.unwrap_or(self.target.operation)
    }

    /// Whether it heals a drift.
    pub fn heals(&self) -> bool {
        let again = self.reactivation.as_ref();
        again.is_some_and(|it| it.kept_by.is_none())
    }

    /// What is done with its system: what is asked for, but a switch that is inhibited, or that goes back after
    /// a boot, is put off until the next boot.
    pub fn operation(&self) -> Operation {
        let is_put_off = !self.inhibitors.is_empty() || self.boot_fault.is_some();
        match self.asked() {
            Operation::Switch if is_put_off => Operation::Boot,
            asked @ (Operation::Switch | Operation::Boot | Operation::Test) => asked,
        }
    }

    /// Its system, if it is done and the system is to boot.
    pub fn boot_system(&self) -> Option<&Path> {
        let boots = self.is_done() && self.operation().moves_profile();
        self.out.as_deref().filter(|_| boots)
    }

    /// How it ended and when, if it did.
    pub fn ended(&self) -> Option<(Timestamp, &Outcome)> {
        match &self.progress {
            Progress::Running(_) | Progress::Awaiting(_) => None,
            Progress::Ended(at, outcome) => Some((*at, outcome)),
        }
    }

    /// Whether the machine got its system.
    pub fn is_done(&self) -> bool {
        matches!(self.ended(), Some((_, Outcome::Done { .. })))
    }

    /// Why it was skipped, if it was.
    pub fn skipped(&self) -> Option<&str> {
        match &self.progress {
            Progress::Ended(_, Outcome::Skipped { reason }) => Some(reason),
            _ => None,
        }
    }

    /// Whether it was skipped because only a reboot lets its system be tested.
    pub fn is_untestable(&self) -> bool {
        let is_test = self.asked() == Operation::Test;
        self.skipped().is_some() && is_test && !self.inhibitors.is_empty()
    }

    /// The generation of the profile that it has brought, if it has.
    pub fn generation(&self) -> Option<u64> {
        match self.ended() {
            Some((_, Outcome::Done { generation })) => *generation,
            Some(_) | None => None,
        }
    }

    /// The `interruptions` of a try of the same target that follows this one.
    pub fn interruptions_so_far(&self) -> u32 {
        let is_one = match self.ended() {
            Some((_, Outcome::RolledBack { blame, .. })) => *blame != FaultOrigin::Commit,
            Some((_, outcome)) => matches!(outcome, Outcome::Interrupted { .. }),
            None => false,
        };
        self.interruptions.saturating_add(is_one.into())
    }

    /// Whether an interruption now would be one too many.
    pub fn retries_exhausted(&self) -> bool {
        self.interruptions.saturating_add(1) >= INTERRUPTIONS
    }

    /// Why the machine did not get its system, if something went wrong.
    pub fn trouble(&self) -> Option<Trouble> {
        match self.ended()?.1 {
            Outcome::Done { .. } | Outcome::Skipped { .. } | Outcome::Preempted { .. } => None,
            Outcome::Failed { stage, .. } => Some(Trouble::Failed(*stage)),
            Outcome::Interrupted { stage } => Some(Trouble::Interrupted(*stage)),
            Outcome::Postponed { .. } => Some(Trouble::Postponed),
            Outcome::RolledBack { .. } => Some(Trouble::RolledBack),
        }
    }

    /// Whether, and when, the same target may be tried again.
    pub fn again(&self, backoff: Backoff) -> NextTry {
        let Some((at, outcome)) = self.ended() else {
            return NextTry::OnNewCommit;
        };
        let at_once = NextTry::At(Delay::new(at, SignedDuration::ZERO));
        let in_a_while = NextTry::At(Delay::new(at, backoff.after(self.tries)));
        match outcome {
            Outcome::Done { .. } | Outcome::Skipped { .. } => NextTry::None,
            Outcome::Preempted { .. } => at_once,
            Outcome::Postponed { .. } => in_a_while,
            Outcome::RolledBack { blame, .. } => match blame {
                FaultOrigin::Commit => NextTry::OnNewCommit,
                FaultOrigin::Outage(remotes) => NextTry::WhenReachable(remotes.clone()),
            },
            Outcome::Interrupted { .. } if !self.retries_exhausted() => at_once,
            Outcome::Failed { stage, .. } | Outcome::Interrupted { stage } => {
                if stage.changes_the_machine() {
                    NextTry::OnNewCommit
                } else {
                    in_a_while
                }
            }
        }
    }

    /// Whether it came to a stage that changes the machine.
    pub fn changed_the_machine(&self) -> bool {
        let mut stages = self.stages.iter();
        stages.any(|entered| entered.stage.changes_the_machine())
    }

    /// Whether its activation began: its main is the accepted one from then on. As long as the switch is under way,
    /// nobody knows: another switch may be in its way.
    pub fn reached_activation(&self) -> bool {
        match &self.progress {
            Progress::Running(stage) => stage.changes_the_machine() && *stage != Stage::Activating,
            Progress::Awaiting(_) => false,
            Progress::Ended(_, outcome) => match outcome {
                Outcome::Failed { stage, .. } | Outcome::Interrupted { stage } => {
                    stage.changes_the_machine()
                }
                Outcome::Done { .. } | Outcome::RolledBack { .. } => true,
                Outcome::Skipped { .. } | Outcome::Preempted { .. } | Outcome::Postponed { .. } => {
                    false
                }
            },
        }
    }
}

/// What the latest attempt that changed the machine has left of it.
#[derive(PartialEq, Eq)]
pub enum Residue {
    /// A system that is whole.
    Clean,
    /// A system whose activation failed.
    FailedActivation,
    /// A switch or a rollback that is half done, and what there was before it.
    Unfinished(Box<PreviousSystem>),
}

impl Residue {
    /// What this attempt has left.
    pub fn by(attempt: &Attempt) -> Self {
        let unfinished = || Self::Unfinished(Box::new(attempt.before.clone()));
        match attempt.ended().map(|(_, outcome)| outcome) {
            Some(Outcome::Interrupted { stage }) if stage.changes_the_machine() => unfinished(),
            Some(Outcome::Failed { stage, .. }) if *stage == Stage::RollingBack => unfinished(),
            Some(Outcome::Failed { stage, .. }) if stage.changes_the_machine() => {
                Self::FailedActivation
            }
            Some(_) | None => Self::Clean,
        }
    }
}

/// What an activation did to units. At most the first few of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitChanges {
    /// Those that ran and run anew.
    pub restarted: Vec<String>,
    /// Those that run and did not.
    pub started: Vec<String>,
    /// Those that ran and do not.
    pub stopped: Vec<String>,
    /// Those that have failed and had not before.
    pub failed: Vec<String>,
    /// How many more there are.
    pub left_out: usize,
}
