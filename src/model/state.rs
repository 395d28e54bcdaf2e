//! What comin remembers between two runs: the accepted main, the attempts, the quarantine.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::attempt::{Attempt, Progress};
use crate::model::{
    commit::Commit, confirmation::ConfirmStep, facts::PastAttempt, names::Operation,
    outcome::Outcome, policy::Backoff, quarantine::Quarantine, reboot::Reboot, refusal::Accepted,
    stage::Stage, target::Target,
};

/// How many evaluations and builds in a row newer commits may stop.
const PREEMPTIONS: usize = 3;

/// How far a clock may be set back without a word.
const CLOCK_STEP: SignedDuration = SignedDuration::from_mins(1);
/// How many rollbacks by hand are remembered.
const ROLLBACKS: usize = 20;

/// The state of a machine. A key that comin 0.1 did not have is only written if it has a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The chosen main of the latest deployment that reached activation.
    pub accepted_main: Option<Commit>,
    /// What is not deployed again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<Quarantine>,
    /// The attempt up to which attempts count neither as deployed nor as failed, because the operator has gone back or
    /// ordered another try.
    #[serde(rename = "lapsed", default, skip_serializing_if = "Option::is_none")]
    pub ignored_up_to: Option<u64>,
    /// The latest reboot that comin announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<Reboot>,
    /// The commit that no gate stops, by order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_gates: Option<Commit>,
    /// The rollbacks by hand; the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<ManualRollback>,
    /// The latest attempt is the last one. The state file has keys of its own for how far each one is.
    #[serde(skip)]
    pub attempts: Vec<Attempt>,
}

impl State {
    /// The attempt that was under way at a time that the clock has not reached, if there is one: the clock is or was wrong.
    pub fn clock_doubt(&self, now: Timestamp) -> Option<(u64, Timestamp)> {
        let latest = self.latest()?;
        let (id, began) = (latest.id, latest.since());
        (began > now + CLOCK_STEP).then_some((id, began))
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

    /// The attempt that waits for a confirmation or at a gate, and the step that it waits before.
    pub fn awaiting(&self) -> Option<(&Attempt, ConfirmStep)> {
        let latest = self.latest()?;
        match latest.progress {
            Progress::Awaiting(step) => Some((latest, step)),
            Progress::Running(_) | Progress::Ended(_, _) => None,
        }
    }

    /// The latest attempt that came to an end of its own.
    pub fn latest_ended(&self) -> Option<&Attempt> {
        let is_own = |outcome: &Outcome| !matches!(outcome, Outcome::Preempted { .. });
        let ends = |attempt: &&Attempt| attempt.ended().is_some_and(|(_, it)| is_own(it));
        self.attempts.iter().rfind(ends)
    }

    /// How many of the latest attempts, all at the same target, were interrupted. One that has not ended counts, because
    /// comin may have died.
    pub fn interrupted_in_a_row(&self) -> usize {
        let latest = self.latest().map(|latest| &latest.target);
        let is_one = |it: &&Attempt| {
            let Target {
                commit, operation, ..
            } = &it.target;
            let may_have_died = match &it.progress {
                Progress::Running(_) => true,
                Progress::Awaiting(_) => false,
                Progress::Ended(_, outcome) => matches!(outcome, Outcome::Interrupted { .. }),
            };
            may_have_died && latest.is_some_and(|latest| latest.same_as(commit, *operation))
        };
        self.attempts.iter().rev().take_while(is_one).count()
    }

    /// The latest attempt that changed the machine.
    pub fn last_activation(&self) -> Option<&Attempt> {
        self.attempts.iter().rfind(|a| a.reached_activation())
    }

    /// The latest attempt that activated this system.
    pub fn latest_activation_of(&self, out: &Path) -> Option<&Attempt> {
        let activated = |a: &&Attempt| a.reached_activation() && a.out.as_deref() == Some(out);
        self.attempts.iter().rfind(activated)
    }

    /// The latest attempt whose system was set to boot.
    pub fn last_permanent(&self) -> Option<&Attempt> {
        let boots = |attempt: &&Attempt| attempt.boot_system().is_some();
        self.attempts.iter().rfind(boots)
    }

    /// Whether the latest attempt goes on in spite of newer commits: they have stopped as many in a row before it as
    /// they may. Without a bound, commits that come faster than a build would keep the machine from ever getting one.
    pub fn outlasts_newer_commits(&self) -> bool {
        let latest = self.attempts.iter().rev().take(PREEMPTIONS + 1);
        let latest: Vec<&Attempt> = latest.collect();
        let is_stopped = |pair: &[&Attempt]| {
            let ended = pair[1].ended().map(|(_, outcome)| outcome);
            matches!(ended, Some(Outcome::Preempted { stage }) if !stage.is_wait())
                && pair[1].target.commit != pair[0].target.commit
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

    /// Whether the latest attempt at a target came to nothing, and nothing else was deployed since.
    pub fn has_failed(&self, target: &Target) -> bool {
        for attempt in self.attempts.iter().rev() {
            match attempt.ended() {
                Some((_, Outcome::Preempted { .. })) => {}
                _ if target.same_as(&attempt.target.commit, attempt.target.operation) => {
                    return attempt.trouble().is_some();
                }
                Some((_, Outcome::Done { .. })) => return false,
                Some(_) | None => {}
            }
        }
        false
    }

    /// The attempts since the machine last changed, the latest first, without those that are ignored. Of each there is as
    /// much as a decision needs.
    pub fn since_last_activation(&self, backoff: Backoff) -> Vec<PastAttempt> {
        let mut recent = Vec::new();
        for attempt in self.attempts.iter().rev() {
            if attempt.ended().is_none() {
                continue;
            }
            if self.ignored_up_to.is_some_and(|last| attempt.id <= last) {
                break;
            }
            // A system that is activated again was deployed before, unless the attempt has left another one running.
            let is_change = !attempt.is_done() && attempt.operation().activates();
            if attempt.reactivation.is_some() && !(is_change && attempt.reached_activation()) {
                continue;
            }
            recent.push(PastAttempt {
                commit: attempt.target.commit.clone(),
                operation: attempt.target.operation,
                out: attempt.out.clone(),
                again: attempt.again(backoff),
                trouble: attempt.trouble(),
            });
            if attempt.reached_activation() {
                break;
            }
        }
        recent
    }

    /// The next attempt to deploy a target, in this boot; `prebuilt` is its system if CI has built it.
    pub fn next_attempt(
        &self,
        target: Target,
        subject: String,
        boot: Option<String>,
        prebuilt: Option<PathBuf>,
        now: Timestamp,
    ) -> Attempt {
        let latest = self.latest();
        let is_same = |latest: &&Attempt| {
            target.same_as(&latest.target.commit, latest.target.operation)
                && self.ignored_up_to.is_none_or(|last| latest.id > last)
        };
        let before = latest.filter(is_same);
        let mut attempt = Attempt::new(latest, target, subject, boot, now);
        if let Some(before) = before {
            attempt.try_again(before);
        }
        let first = match prebuilt {
            Some(_) => Stage::Building,
            None => Stage::Evaluating,
        };
        attempt.out = prebuilt;
        attempt.enter(first, now);
        attempt
    }

    /// An attempt with the system of an earlier one, on the main that is accepted now. It is in no stage yet.
    pub fn attempt_again(&self, of: &Attempt, boot: Option<String>, now: Timestamp) -> Attempt {
        let mut target = of.target.clone();
        target.main = self.accepted_main.clone().unwrap_or(target.main);
        Attempt {
            derivation: of.derivation.clone(),
            out: of.out.clone(),
            confirmed: of.confirmed.clone(),
            ..Attempt::new(self.latest(), target, of.subject.clone(), boot, now)
        }
    }

    /// Lets every attempt until now lapse: what failed is tried at once, nothing is in quarantine, what is
    /// deployed but does not run is deployed again, and a reboot that did not help may be done again.
    pub fn reset_failures(&mut self) {
        self.quarantine.clear();
        self.reboot = None;
        self.ignore_until_now();
    }

    /// Confirms the attempt that waits.
    pub fn confirm(&mut self, step: ConfirmStep) {
        if let Some(waiting) = self.attempts.last_mut() {
            waiting.confirmed.insert(step);
        }
    }

    /// Remembers that the operator went back. Attempts until now are ignored, and `held` does not come back by itself.
    pub fn go_back(&mut self, held: Vec<Quarantine>, rollback: ManualRollback) {
        self.quarantine = held;
        let surplus = (self.rollbacks.len() + 1).saturating_sub(ROLLBACKS);
        self.rollbacks.drain(..surplus);
        self.rollbacks.push(rollback);
        self.ignore_until_now();
    }

    /// Lets a commit through every gate, at once if a gate holds it.
    pub fn let_past_gates(&mut self, commit: Commit) {
        let is_held = |it: &Quarantine| it.by_gate && it.commit == commit;
        if self.quarantine.iter().any(is_held) {
            self.quarantine.retain(|it| !is_held(it));
            self.ignore_until_now();
        }
        self.past_gates = Some(commit);
    }

    /// Whether no gate stops this commit.
    pub fn is_let_past_gates(&self, commit: &Commit) -> bool {
        self.past_gates.as_ref() == Some(commit)
    }

    /// Ignores every attempt that has ended. One that waits goes on waiting.
    fn ignore_until_now(&mut self) {
        let mut attempts = self.attempts.iter();
        let latest = attempts.rfind(|attempt| attempt.ended().is_some());
        self.ignored_up_to = latest.map(|latest| latest.id);
    }
}

/// A rollback by hand, as the state remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualRollback {
    /// The latest attempt at that time; 0 if there was none.
    pub after: u64,
    /// When, in whole seconds.
    pub at: Timestamp,
    /// Where it led: the generation of the profile, and its system.
    pub generation: u64,
    pub system: PathBuf,
    /// `Boot` if only a reboot could complete it.
    pub operation: Operation,
    /// The boot in which it was.
    pub boot: Option<String>,
    /// Who ordered it.
    pub by: String,
}
