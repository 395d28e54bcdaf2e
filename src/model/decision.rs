//! What is to be done about what was selected.

use jiff::Timestamp;

use crate::model::candidate::{Candidate, Eligibility};
use crate::model::confirmation::{Approval, ConfirmStep};
use crate::model::facts::{Facts, PastAttempt, PendingConfirmation};
use crate::model::gate::{ClosedGate, MIN_FREE};
use crate::model::prebuilt::{Lookup, Prebuilt};
use crate::model::schedule::{join_or, Delay, NextTry};
use crate::model::{
    cure::Cure, names::RemoteName, outcome::Trouble, quarantine::Quarantine, refusal::Refusal,
    remote::Reach, suspension::Suspension, target::Target,
};
use crate::sys::text::{self, in_brackets};

/// Shows the switch that runs, whether it is comin's or of a rebuild by hand.
const SWITCH: &str = "systemctl status nixos-rebuild-switch-to-configuration";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deploy the selected target.
    Deploy,
    /// It failed, and is tried again after a wait.
    Retry(Trouble, Delay),
    /// It was rolled back in an outage, and is tried again when one of these remotes is back.
    AwaitRemotes(Vec<RemoteName>),
    /// It goes on when somebody confirms this step, or after the wait where there is one.
    AwaitConfirmation(ConfirmStep, Option<Delay>),
    /// A gate is closed. It is asked again after a wait.
    AwaitGate(ClosedGate),
    /// It is in quarantine.
    Quarantined(Quarantine),
    /// The operator wants nothing deployed.
    Suspended(Suspension),
    /// CI has not named its system yet. After `patience`, this machine may evaluate it.
    AwaitPrebuilt(Lookup),
    /// It changed the machine, and is not repeated.
    GivenUp(Trouble),
    /// It is deployed, or there is nothing to deploy.
    Nothing,
}

/// What is in the way of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance<'a> {
    /// The word for it in a line.
    pub word: &'static str,
    /// What became of the target before, as in "failed while building".
    pub trouble: Option<String>,
    /// What becomes of it, in two parts: "is" and "tried again in 4 min".
    pub next: (&'static str, String),
    /// Why somebody, a gate or comin stops it.
    pub reason: Option<&'a str>,
}

impl Hindrance<'_> {
    /// As in "is tried again in 4 min".
    pub fn next(&self) -> String {
        format!("{} {}", self.next.0, self.next.1)
    }

    /// As in "failed while building, and is tried again in 4 min".
    pub fn sentence(&self) -> String {
        let next = match (self.next(), self.reason) {
            (next, Some(reason)) if self.next.0 == "is" => format!("{next}: {reason}"),
            (next, reason) => in_brackets(&next, reason),
        };
        match &self.trouble {
            Some(trouble) => format!("{trouble}, and {next}"),
            None => next,
        }
    }
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

fn action(selected: Option<&Target>, candidates: &[Candidate], facts: &Facts) -> Action {
    let Some(target) = selected else {
        return Action::Nothing;
    };
    match (due(target, candidates, facts), &facts.suspended) {
        (action @ (Action::Nothing | Action::Quarantined(_)), _) | (action, None) => action,
        (_, Some(suspension)) => Action::Suspended(suspension.clone()),
    }
}

/// What is to be done about a target if comin is not suspended.
pub fn due(target: &Target, candidates: &[Candidate], facts: &Facts) -> Action {
    let mut quarantine = facts.quarantine.iter();
    if let Some(quarantine) = quarantine.find(|q| q.holds(target, candidates)) {
        return Action::Quarantined(quarantine.clone());
    }
    let is_awaited = |a: &&PendingConfirmation| target.same_as(&a.commit, a.operation);
    if let Some(awaited) = facts.awaited.as_ref().filter(is_awaited) {
        let is_closed = |gate: &&ClosedGate| gate.is_closed_at(facts.now);
        let at_gate = || match facts.gate.as_ref().filter(is_closed) {
            Some(gate) => Action::AwaitGate(gate.clone()),
            None => Action::Deploy,
        };
        return match awaited.consent {
            Approval::Given => at_gate(),
            Approval::At(time) if time <= facts.now => at_gate(),
            Approval::At(time) => {
                let wait = Delay::until(facts.now, time);
                Action::AwaitConfirmation(awaited.step, Some(wait))
            }
            Approval::Missing => Action::AwaitConfirmation(awaited.step, None),
        };
    }
    let is_same = |r: &&PastAttempt| target.same_as(&r.commit, r.operation);
    let is_back = |name: &RemoteName| {
        let remote = facts.remotes.iter().find(|remote| remote.name == *name);
        remote.is_none_or(|remote| remote.reach == Reach::Fetched)
    };
    let action = match facts.recent.iter().find(is_same) {
        None => Action::Deploy,
        Some(past) => {
            let system = facts.prebuilt.as_ref().and_then(|it| it.system_of(target));
            let is_another = system.is_some() && system != past.out.as_deref();
            let is_over = |wait: &Delay| wait.has_elapsed(facts.now) || is_another;
            match (&past.again, past.trouble) {
                (NextTry::None, _) | (NextTry::OnNewCommit, None) => Action::Nothing,
                (NextTry::OnNewCommit, Some(trouble)) => Action::GivenUp(trouble),
                (NextTry::At(wait), Some(trouble)) if !is_over(wait) => {
                    Action::Retry(trouble, *wait)
                }
                (NextTry::WhenReachable(remotes), _) if !remotes.iter().any(is_back) => {
                    Action::AwaitRemotes(remotes.clone())
                }
                (NextTry::At(_) | NextTry::WhenReachable(_), _) => Action::Deploy,
            }
        }
    };
    match &facts.prebuilt {
        Some(lookup) if action == Action::Deploy && lookup.is_awaited(target, facts.now) => {
            Action::AwaitPrebuilt(lookup.clone())
        }
        Some(_) | None => action,
    }
}

impl Action {
    /// The word for it in the plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Retry(_, _) => "retry",
            Self::AwaitRemotes(_) => "await_remotes",
            Self::AwaitConfirmation(_, _) => "await_confirmation",
            Self::AwaitGate(_) => "await_gate",
            Self::Quarantined(quarantine) if quarantine.by_gate => "held",
            Self::Quarantined(_) => "quarantined",
            Self::Suspended(_) => "suspended",
            Self::AwaitPrebuilt(_) => "await_prebuilt",
            Self::GivenUp(_) => "given_up",
            Self::Nothing => "nothing",
        }
    }

    /// What is in the way of a target that was selected, if anything is. `when` says a time as in "at 14:00" or "in
    /// 4 min".
    pub fn hindrance(&self, when: &dyn Fn(Timestamp) -> String) -> Option<Hindrance<'_>> {
        const HELD: &str = "held until someone pushes";
        let (word, trouble, verb, next) = match self {
            Self::Deploy | Self::Nothing => return None,
            Self::Retry(trouble, wait) => {
                let next = format!("tried again {}", when(wait.until));
                (trouble.word(), Some(trouble.to_string()), "is", next)
            }
            Self::AwaitRemotes(remotes) => {
                let trouble = format!("{} in an outage", Trouble::RolledBack);
                let next = format!("tried again when the remote {} is back", join_or(remotes));
                (Trouble::RolledBack.word(), Some(trouble), "is", next)
            }
            Self::AwaitConfirmation(step, wait) => {
                let what = step.participle();
                let next = match wait {
                    None => format!("for your confirmation to be {what}"),
                    Some(wait) => {
                        let when = when(wait.until);
                        format!("for your confirmation, and is {what} without one {when}")
                    }
                };
                ("waits", None, "waits", next)
            }
            Self::AwaitGate(closed) => ("waits", None, "waits", closed.place()),
            Self::Quarantined(_) => ("held", None, "is", HELD.to_string()),
            Self::Suspended(suspension) => {
                let until = suspension.until;
                let until = until.map_or(String::new(), |until| format!(" {}", when(until)));
                let next = format!("until the suspension ends{until}");
                ("suspended", None, "waits", next)
            }
            Self::AwaitPrebuilt(lookup) => {
                let next = format!("for CI{}", lookup.until(when));
                (Lookup::WORD, None, "waits", next)
            }
            Self::GivenUp(trouble) => {
                let words = Some(trouble.to_string());
                (trouble.word(), words, "is", HELD.to_string())
            }
        };
        Some(Hindrance {
            word,
            trouble,
            next: (verb, next),
            reason: self.reason(),
        })
    }

    /// What a person can do about what is in the way. A wait needs no command. A deployment that would go on by itself can
    /// be stopped.
    pub fn cures(&self) -> Vec<Cure> {
        match self {
            Self::Deploy | Self::Nothing | Self::AwaitRemotes(_) => Vec::new(),
            Self::AwaitPrebuilt(lookup) => {
                let advice = "correct what CI writes about this commit";
                let advice = lookup.problem.as_ref().map(|_| Cure::advice(advice));
                advice.into_iter().collect()
            }
            Self::AwaitConfirmation(step, wait) => {
                let or_stop = wait.map(|_| Cure::suspend_to("stop it"));
                [Cure::confirm(*step)].into_iter().chain(or_stop).collect()
            }
            Self::AwaitGate(closed) => {
                let cures = Cure::free_space().into_iter();
                let cures = cures.filter(|_| closed.gate == MIN_FREE);
                cures
                    .chain([Cure::suspend_to("stop it"), Cure::past_gates()])
                    .collect()
            }
            Self::Quarantined(held) if held.by_gate => vec![Cure::retry(), Cure::past_gates()],
            Self::Quarantined(held) if held.by_hand => vec![Cure::undo_rollback()],
            // Another switch is in the way, and would be in the way of another try, too.
            Self::Retry(Trouble::Postponed, _) => vec![Cure::look(SWITCH)],
            Self::Retry(_, _) | Self::Quarantined(_) | Self::GivenUp(_) => vec![Cure::retry()],
            Self::Suspended(_) => vec![Cure::resume()],
        }
    }

    /// Whether something is done about the target by itself, or when somebody confirms it.
    pub fn goes_on(&self) -> bool {
        !matches!(
            self,
            Self::Quarantined(_) | Self::Suspended(_) | Self::GivenUp(_) | Self::Nothing
        )
    }

    /// When there may be something else to do without any news.
    pub fn again(&self) -> Option<Timestamp> {
        match self {
            Self::Retry(_, wait) => Some(wait.until),
            Self::AwaitPrebuilt(lookup) => lookup.patience.map(|wait| wait.until),
            Self::AwaitConfirmation(_, wait) => wait.map(|wait| wait.until),
            Self::AwaitGate(gate) => gate.again.map(|wait| wait.until),
            Self::Suspended(suspension) => suspension.until,
            Self::Deploy
            | Self::AwaitRemotes(_)
            | Self::Quarantined(_)
            | Self::GivenUp(_)
            | Self::Nothing => None,
        }
    }

    /// Why somebody, a gate or comin stops it.
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Quarantined(quarantine) => Some(&quarantine.reason),
            Self::Suspended(suspension) => suspension.reason.as_deref(),
            Self::AwaitGate(closed) => Some(&closed.reason),
            Self::AwaitPrebuilt(lookup) => lookup.problem.as_deref(),
            Self::Deploy
            | Self::Retry(_, _)
            | Self::AwaitRemotes(_)
            | Self::AwaitConfirmation(_, _)
            | Self::GivenUp(_)
            | Self::Nothing => None,
        }
    }
}

impl Decision {
    /// What is to be deployed now.
    pub fn to_deploy(&self) -> Option<&Target> {
        let is_due = self.action == Action::Deploy;
        self.selected.as_ref().filter(|_| is_due)
    }

    /// Why the selected target is not deployed now, as a clause, if a person could expect it to be.
    pub fn hindrance(&self) -> Option<String> {
        let when = |time| format!("at {}", text::at(time));
        let hindrance = self.action.hindrance(&when)?;
        Some(match &self.action {
            Action::Suspended(suspension) => suspension.to_string(),
            _ => format!("it {}", hindrance.sentence()),
        })
    }

    /// Whether time alone may change what was found.
    pub fn may_change(&self, prebuilt: Option<&Prebuilt>) -> bool {
        let is_asked = prebuilt.is_some_and(|prebuilt| prebuilt.url.is_some())
            && matches!(self.action, Action::AwaitPrebuilt(_));
        let mut refusals = self.candidates.iter().filter_map(Candidate::refusal);
        is_asked || refusals.any(|it| it.is_transient())
    }

    /// That there is no main, as a clause with the cure, if none of the followed ones exists and nothing qualifies
    /// instead.
    pub fn missing_mains(&self) -> Option<String> {
        let mains = || self.candidates.iter().filter(|it| !it.testing);
        let is_missing =
            |main: &Candidate| main.eligibility == Eligibility::Refused(Refusal::Missing);
        if self.selected.is_some() || !mains().all(is_missing) {
            return None;
        }
        let names: Vec<String> = mains()
            .map(|main| format!("no {}/{}", main.remote, main.head.branch.name))
            .collect();
        let which = if names.len() == 1 {
            "it"
        } else {
            "one of them"
        };
        Some(format!(
            "there is {}; push {which}, or name another branch in branches.main.name",
            names.join(" and ")
        ))
    }

    /// Decides what is to be done about the selected target, when every head has its verdict.
    pub fn new(selected: Option<Target>, candidates: Vec<Candidate>, facts: &Facts) -> Self {
        Self {
            action: action(selected.as_ref(), &candidates, facts),
            selected,
            candidates,
        }
    }

    /// Whether the evaluation or build of `target` should stop: another target is to be deployed, or the remote has taken
    /// its commit back. An unreachable remote is no reason.
    pub fn supersedes(&self, target: &Target, facts: &Facts) -> bool {
        let same = |selected: &Target| target.same_as(&selected.commit, selected.operation);
        let own = facts.remotes.iter().find(|r| r.name == target.remote);
        let taken_back = own.is_none_or(|remote| remote.reach == Reach::Fetched);
        !self.selected.as_ref().is_some_and(same) && (self.action == Action::Deploy || taken_back)
    }
}
