//! How a machine stands: what of the status needs no decision.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::{attempt::AttemptView, page::Page, running::Running, seconds, target::TargetView};
use crate::model::{
    Attempt, AttemptStatus, Backoff, ClosedGate, Commit, Cure, Drift, Healing, Operation, Progress,
    Stage, State,
};
use crate::sys::text::{in_brackets, printable};
use crate::sys::{diagnosis::in_short, progress::JobProgress};

/// What of the status needs no decision, and so neither the history of a commit nor its signature.
#[derive(Debug, Serialize)]
pub struct HostState {
    #[serde(flatten)]
    pub seen: Seen,
    pub(super) running: Option<Running>,
    /// Whether a part of what is deployed is only taken up by a reboot.
    pub need_to_reboot: bool,
    /// The commit of the system that the machine has drifted to, if comin deployed it.
    #[serde(skip)]
    pub(super) other: Option<TargetView>,
    /// The stage of the deployment that is under way, or `idle`.
    pub phase: String,
    /// The latest attempt that ended.
    pub deployed: Option<AttemptView>,
    /// What is under way.
    #[serde(skip)]
    pub(super) in_progress: Option<InProgress>,
    /// What was under way when comin died, and its stage then.
    #[serde(skip)]
    pub(super) left: Option<InProgress>,
    /// How many of the latest attempts, all at the same target, were interrupted.
    #[serde(skip)]
    pub(super) interrupted_in_a_row: usize,
    /// What waits for a confirmation or at a gate.
    #[serde(skip)]
    pub(super) waiting: Option<AttemptView>,
}

/// What was seen of a machine, apart from its state.
#[derive(Debug, Default, Serialize)]
#[allow(clippy::struct_excessive_bools)] // As the JSON has them.
pub struct Seen {
    /// Whether a deploy is at work.
    #[serde(skip)]
    pub at_work: bool,
    /// Whether nothing is deployed until somebody wants it again.
    pub suspended: bool,
    /// The system that runs.
    #[serde(skip)]
    pub runs: Option<PathBuf>,
    /// Why a reboot is needed, in words.
    pub reboot_reasons: Vec<String>,
    /// The gate that is closed to a reboot by comin, and why.
    pub reboot_gate: Option<String>,
    /// The system that booted in place of the one that was deployed to boot.
    pub booted_instead: Option<PathBuf>,
    /// That it runs, booted or boots something else than comin last activated.
    pub drift: Option<Drift>,
    /// What comin does about that; `None` if the owner wants no drift to be healed.
    pub healing: Option<HealingView>,
    /// An attempt that was under way in the future, and when.
    #[serde(skip)]
    pub clock_doubt: Option<(u64, Timestamp)>,
    /// Whether what was skipped because of the running system can be tested since the machine has booted.
    #[serde(skip)]
    pub can_test_again: bool,
    /// Whether the system has booted for the first time, and has not been judged yet.
    pub boot_check_due: bool,
    /// The user who evaluates; `None` if that is who runs comin.
    pub evaluator: Option<&'static str>,
    /// How far an evaluation or a build is.
    pub progress: Option<JobProgress>,
}

/// What comin does about a drift.
#[derive(Debug, Default, Serialize)]
pub struct HealingView {
    /// When comin activates a system again.
    #[serde(serialize_with = "seconds::optional")]
    pub(super) at: Option<Timestamp>,
    /// The commit of that system.
    commit: Option<Commit>,
    /// Why comin does not.
    pub(super) refused: Option<String>,
    #[serde(skip)]
    target: String,
    /// The gate at which that waits, as the end of a sentence.
    #[serde(skip)]
    gate: String,
}

impl HealingView {
    /// Tells what was decided, and which gate is closed to that.
    pub fn of(healing: &Healing, gate: Option<ClosedGate>) -> Self {
        let refused = |why: String| Self {
            refused: Some(why),
            ..Self::default()
        };
        match (healing, gate) {
            (Healing::Not(why), _) => refused((*why).to_string()),
            (Healing::At(..), Some(gate)) if gate.refuses() => refused(gate.to_string()),
            (Healing::At(wait, attempt, _), gate) => {
                let again = gate.as_ref().and_then(|it| it.again);
                Self {
                    at: again.map(|it| it.until).max(Some(wait.until)),
                    commit: Some(attempt.target.commit.clone()),
                    refused: None,
                    target: TargetView::of(attempt).to_string(),
                    gate: gate.map_or(String::new(), |gate| format!(": {gate}")),
                }
            }
        }
    }

    /// As in "3f2a9c1e (origin/main) is activated again in 4 min".
    pub(super) fn clause(&self, when: &dyn Fn(Timestamp) -> String) -> String {
        match self.at {
            Some(at) => format!(
                "{} is activated again {}{}",
                self.target,
                when(at),
                self.gate
            ),
            None => format!(
                "it is not healed: {}",
                self.refused.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub(super) struct InProgress {
    pub(super) attempt: AttemptView,
    pub(super) stage: Stage,
    /// When the stage began.
    pub(super) since: Timestamp,
    /// Why it is rolled back, if it is.
    fault: Option<String>,
}

/// Why a target does not run that was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It was tested, and the machine has booted since.
    TestEnded,
    /// It boots next.
    BootsNext,
    /// Nobody knows.
    Unknown,
}

impl Absence {
    /// The word of the short line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::TestEnded => "test ended",
            Self::BootsNext => "waits for reboot",
            Self::Unknown => "not running",
        }
    }

    /// The clause about the target.
    pub(super) fn clause(self) -> &'static str {
        match self {
            Self::TestEnded => "was tested, and a reboot ended the test",
            Self::BootsNext => "is deployed for the next boot",
            Self::Unknown => "is deployed, but does not run",
        }
    }

    /// The command that makes the target run.
    pub(super) fn cure(self) -> Cure {
        match self {
            Self::TestEnded => Cure::retry_to("test it again"),
            Self::Unknown => Cure::retry(),
            Self::BootsNext => Cure::reboot(),
        }
    }
}

/// That a target was skipped.
#[derive(Debug)]
pub(super) struct Skip {
    pub(super) reason: String,
    at: Option<Timestamp>,
    /// Whether it can be tested since the machine has booted.
    can_test: bool,
}

impl Skip {
    /// As in "was skipped at 11:58 (its machine id is another), and stays so until someone pushes".
    pub(super) fn clause(&self, page: &Page) -> String {
        let at = self.at.map(|at| format!(" at {}", page.at(at)));
        let was = format!("was skipped{}", at.unwrap_or_default());
        let next = if self.can_test {
            "; the machine has booted since, so the test is possible now"
        } else {
            ", and stays so until someone pushes"
        };
        in_brackets(&was, Some(&self.reason)) + next
    }

    /// The command that tests the target.
    pub(super) fn cure(&self) -> Option<Cure> {
        self.can_test.then(|| Cure::retry_to("test it"))
    }
}

impl InProgress {
    /// An attempt; `None` where it has ended, or waits.
    pub(super) fn of(attempt: &Attempt, backoff: Backoff) -> Option<Self> {
        match attempt.progress {
            Progress::Running(stage) => Some(Self {
                attempt: AttemptView::of(attempt, backoff),
                stage,
                since: attempt.since(),
                fault: attempt.fault.clone(),
            }),
            Progress::Awaiting(_) | Progress::Ended(_, _) => None,
        }
    }

    /// As in "building 3f2a9c1e (origin/main) for 12 s".
    pub(super) fn sentence(&self, page: &Page) -> String {
        let stage = self.stage.words();
        let time = page.since(self.since);
        let from = Some("from ").filter(|_| self.stage == Stage::RollingBack);
        let from = from.unwrap_or_default();
        let what = format!("{stage} {from}{} for {time}", self.attempt.target);
        let fault = self.fault.as_deref().map(in_short);
        in_brackets(&what, fault.as_deref())
    }
}

impl HostState {
    /// The commit of the running system, if comin deployed it.
    pub fn running_commit(&self) -> Option<&Commit> {
        Some(&self.running.as_ref()?.target.as_ref()?.commit)
    }

    /// The latest attempt that ended, if it was at this target.
    pub(super) fn latest_at(&self, target: &TargetView) -> Option<&AttemptView> {
        let is_it = |attempt: &&AttemptView| attempt.target.commit == target.commit;
        self.deployed.as_ref().filter(is_it)
    }

    /// Why this target was skipped, if the latest attempt that ended was at it and was skipped.
    pub(super) fn skip(&self, target: &TargetView) -> Option<Skip> {
        let latest = self.latest_at(target);
        let skipped = latest.filter(|it| it.status == AttemptStatus::Skipped)?;
        Some(Skip {
            reason: printable(skipped.error.as_deref()?).into_owned(),
            at: skipped.ended_at,
            can_test: self.seen.can_test_again,
        })
    }

    /// Why a target does not run, although nothing is to be done about it and nobody else changed the machine.
    pub(super) fn absence(&self, target: &TargetView) -> Option<Absence> {
        let latest = self.latest_at(target);
        let runs = self.running_commit() == Some(&target.commit);
        if self.skip(target).is_some() || runs || self.seen.drift.is_some() {
            return None;
        }
        Some(
            match latest.map_or(target.operation, |it| it.target.operation) {
                // Otherwise it would be a drift.
                Operation::Test if self.running.is_some() => Absence::TestEnded,
                Operation::Test | Operation::Switch => Absence::Unknown,
                Operation::Boot => Absence::BootsNext,
            },
        )
    }

    /// Tells what was seen, and what the state knows.
    pub fn new(state: &State, backoff: Backoff, mut seen: Seen) -> Self {
        let need_to_reboot = !seen.reboot_reasons.is_empty();
        seen.reboot_gate
            .take_if(|_| !need_to_reboot || seen.suspended);
        let tell = |attempt| AttemptView::of(attempt, backoff);
        let unended = state.latest();
        let unended = unended.and_then(|latest| InProgress::of(latest, backoff));
        let (in_progress, left) = if seen.at_work {
            (unended, None)
        } else {
            (None, unended)
        };
        let waiting = state.awaiting().map(|(attempt, _)| attempt);
        let at_work_in = in_progress.as_ref().map(|it| it.stage);
        let is_nix = matches!(at_work_in, Some(Stage::Evaluating | Stage::Building));
        let at = at_work_in.or(waiting.map(Attempt::stage));
        seen.progress.take_if(|_| !is_nix);
        let drift = seen.drift.as_ref();
        Self {
            running: seen.runs.as_ref().map(|out| Running::new(out, state)),
            need_to_reboot,
            other: drift.and_then(|it| Running::new(&it.out, state).target),
            phase: at.map_or("idle".to_string(), |stage| stage.to_string()),
            deployed: state.latest_ended().map(tell),
            in_progress,
            left,
            interrupted_in_a_row: state.interrupted_in_a_row(),
            waiting: waiting.map(tell),
            seen,
        }
    }
}
