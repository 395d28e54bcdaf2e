//! What is to be done about what was selected.

use jiff::Timestamp;

use crate::model::candidate::{Candidate, Verdict};
use crate::model::confirmation::Step;
use crate::model::facts::{Approval, Facts, PastAttempt, PendingConfirmation};
use crate::model::names::RemoteName;
use crate::model::quarantine::Quarantine;
use crate::model::refusal::Refusal;
use crate::model::remote::Reach;
use crate::model::schedule::{Delay, NextTry};
use crate::model::suspension::Suspension;
use crate::model::target::Target;
use crate::sys::text;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deploy the selected target.
    Deploy,
    /// It failed; the same is tried again after a wait.
    Retry(Delay),
    /// It was undone by an outage; the same is tried again when one of these remotes is back.
    AwaitRemotes(Vec<RemoteName>),
    /// It goes on when somebody confirms this step, or after the wait where there is one.
    AwaitConfirmation(Step, Option<Delay>),
    /// It is in quarantine.
    Quarantined(Quarantine),
    /// The operator wants nothing deployed.
    Suspended(Suspension),
    /// Its activation failed, and is not repeated.
    GivenUp,
    /// It is deployed, or there is nothing to deploy.
    Nothing,
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

/// What is to be done about a target where the operator has suspended nothing.
pub fn due(target: &Target, candidates: &[Candidate], facts: &Facts) -> Action {
    let mut quarantine = facts.quarantine.iter();
    if let Some(quarantine) = quarantine.find(|q| q.holds(target, candidates)) {
        return Action::Quarantined(quarantine.clone());
    }
    let is_awaited = |a: &&PendingConfirmation| target.is(&a.commit, a.operation);
    if let Some(awaited) = facts.awaited.as_ref().filter(is_awaited) {
        return match awaited.consent {
            Approval::Given => Action::Deploy,
            Approval::At(time) if time <= facts.now => Action::Deploy,
            Approval::At(time) => {
                let wait = Delay::until(facts.now, time);
                Action::AwaitConfirmation(awaited.step, Some(wait))
            }
            Approval::Missing => Action::AwaitConfirmation(awaited.step, None),
        };
    }
    let is_same = |r: &&PastAttempt| target.is(&r.commit, r.operation);
    let is_back = |name: &RemoteName| {
        let remote = facts.remotes.iter().find(|remote| remote.name == *name);
        remote.is_none_or(|remote| remote.reach == Reach::Fetched)
    };
    match facts
        .recent
        .iter()
        .find(is_same)
        .map(|recent| &recent.again)
    {
        None => Action::Deploy,
        Some(NextTry::None) => Action::Nothing,
        Some(NextTry::OnNewCommit) => Action::GivenUp,
        Some(NextTry::At(wait)) if wait.has_elapsed(facts.now) => Action::Deploy,
        Some(NextTry::At(wait)) => Action::Retry(*wait),
        Some(NextTry::WhenReachable(remotes)) if remotes.iter().any(is_back) => Action::Deploy,
        Some(NextTry::WhenReachable(remotes)) => Action::AwaitRemotes(remotes.clone()),
    }
}

impl Action {
    /// The word for it in the plan.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Retry(_) => "retry",
            Self::AwaitRemotes(_) => "await_remotes",
            Self::AwaitConfirmation(_, _) => "await_confirmation",
            Self::Quarantined(_) => "quarantined",
            Self::Suspended(_) => "suspended",
            Self::GivenUp => "given_up",
            Self::Nothing => "nothing",
        }
    }

    /// Why a target that was selected is not deployed now, where a person could expect it.
    pub fn hindrance(&self) -> Option<String> {
        match self {
            Self::Deploy | Self::Nothing => None,
            Self::Retry(wait) => Some(format!(
                "it failed before and is {}",
                NextTry::At(*wait).sentence()
            )),
            Self::AwaitRemotes(remotes) => Some(format!(
                "it was rolled back in an outage and is {}",
                NextTry::WhenReachable(remotes.clone()).sentence()
            )),
            Self::AwaitConfirmation(step, None) => Some(format!(
                "it waits for your confirmation to be {}: comin confirm {step}",
                step.participle()
            )),
            Self::AwaitConfirmation(step, Some(wait)) => Some(format!(
                "it waits to be {} at {}, or at once with comin confirm {step}",
                step.participle(),
                text::at(wait.until)
            )),
            Self::Quarantined(quarantine) => Some(format!(
                "it is in quarantine until a head moves, or comin retry: {}",
                quarantine.reason
            )),
            Self::Suspended(suspension) => Some(suspension.to_string()),
            Self::GivenUp => Some(format!(
                "its activation failed and is {}",
                NextTry::OnNewCommit.sentence()
            )),
        }
    }

    /// When there may be something else to do without any news.
    pub fn again(&self) -> Option<Timestamp> {
        match self {
            Self::Retry(wait) => Some(wait.until),
            Self::AwaitConfirmation(_, wait) => wait.map(|wait| wait.until),
            Self::Suspended(suspension) => suspension.until,
            Self::Deploy
            | Self::AwaitRemotes(_)
            | Self::Quarantined(_)
            | Self::GivenUp
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

    /// What was selected and is not deployed now, where a person could expect it, and why.
    pub fn hindered(&self) -> Option<(&Target, String)> {
        self.selected.as_ref().zip(self.action.hindrance())
    }

    /// That there is no main, as a clause with the cure, if none of the followed ones exists and nothing qualifies
    /// instead.
    pub fn missing(&self) -> Option<String> {
        let mains = || self.candidates.iter().filter(|it| !it.testing);
        let is_missing = |main: &Candidate| main.verdict == Verdict::Refused(Refusal::Missing);
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

    /// The decision where it is known already what of the heads qualifies.
    pub fn recalled(selected: Option<Target>, candidates: Vec<Candidate>, facts: &Facts) -> Self {
        Self {
            action: action(selected.as_ref(), &candidates, facts),
            selected,
            candidates,
        }
    }

    /// Whether a deployment of `target` that is still evaluated or built has lost its point: there
    /// is another one to deploy, or its remote has taken it back. That its remote cannot be reached
    /// for a while is no reason.
    pub fn supersedes(&self, target: &Target, facts: &Facts) -> bool {
        let same = |selected: &Target| target.is(&selected.commit, selected.operation);
        let own = facts.remotes.iter().find(|r| r.name == target.remote);
        let taken_back = own.is_none_or(|remote| remote.reach == Reach::Fetched);
        !self.selected.as_ref().is_some_and(same) && (self.action == Action::Deploy || taken_back)
    }
}
