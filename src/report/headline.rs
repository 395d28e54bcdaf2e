//! The verdict on a machine, in a line.

use super::attempt::Attempt;
use super::host_state::UnderWay;
use super::page::{Page, Tone};
use super::remote::RemoteStatus;
use super::status::Status;
use super::target::Chosen;
use crate::model::attempt::AttemptStatus;
use crate::model::decision::Action;
use crate::model::names::Operation;
use crate::model::suspension::Suspension;
use crate::sys::text::printable;

/// The verdict on a machine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Headline<'a> {
    /// A deployment is under way.
    UnderWay(&'a UnderWay),
    /// The operator wants nothing deployed.
    Suspended(&'a Suspension),
    /// Nothing has been fetched since the machine booted.
    NotFetched,
    /// Every fetch failed.
    Unreachable,
    /// No branch qualifies.
    NothingQualifies,
    /// Something is to be deployed, and nothing is in the way.
    Due(&'a Chosen),
    /// Something is to be deployed, but not now; with the latest attempt at it.
    Hindered(&'a Chosen, &'a Action, Option<&'a Attempt>),
    /// What is selected was not to be deployed on this machine now.
    Skipped(&'a Chosen),
    /// What is selected is deployed, but the machine booted another system.
    BootedInstead(&'a Chosen),
    /// What is selected is deployed, but somebody has activated another system since.
    Replaced(&'a Chosen),
    /// What is selected is deployed, and runs after a reboot.
    BootsNext(&'a Chosen),
    /// What is selected is deployed, of a testing branch.
    Testing(&'a Chosen),
    /// What is selected is deployed.
    UpToDate(&'a Chosen),
}

/// Where nothing has been fetched since the machine booted.
pub(super) const NOT_FETCHED: &str =
    "no remote has been fetched since the boot; comin run does that now";
/// Where every fetch failed.
pub(super) const UNREACHABLE: &str = "no remote can be fetched";
/// Where all branches are refused, or not there.
pub(super) const NOTHING_QUALIFIES: &str = "no branch qualifies";

impl Status {
    /// The latest attempt that ended, if it was at this target.
    fn latest_at(&self, target: &Chosen) -> Option<&Attempt> {
        let is_it = |attempt: &&Attempt| attempt.target.commit == target.commit;
        self.standing.deployed.as_ref().filter(is_it)
    }

    /// The verdict with what is wrong all the same, and what it means to a person.
    pub(super) fn verdict(&self, page: &Page) -> (Tone, String) {
        let headline = Headline::of(self);
        let sentence = headline.sentence(page);
        let missing = self.missing.as_deref().map(|it| printable(it).into_owned());
        match (headline, missing.or_else(|| self.problem())) {
            (Headline::UpToDate(_) | Headline::Testing(_), Some(problem)) => {
                (Tone::Notable, format!("{sentence}, but {problem}"))
            }
            (Headline::NothingQualifies, Some(problem)) => {
                (headline.tone(), format!("{sentence}: {problem}"))
            }
            (_, _) => (headline.tone(), sentence),
        }
    }
}

impl<'a> Headline<'a> {
    /// Whatever matters most.
    pub(super) fn of(status: &'a Status) -> Self {
        if let Some(under_way) = &status.standing.under_way {
            return Self::UnderWay(under_way);
        }
        if let Some(suspension) = &status.suspension {
            return Self::Suspended(suspension);
        }
        if !status.remotes.iter().any(RemoteStatus::is_reached) {
            let has_failed = status.remotes.iter().any(|remote| remote.error.is_some());
            return if has_failed {
                Self::Unreachable
            } else {
                Self::NotFetched
            };
        }
        match (&status.selected, &status.action) {
            (None, _) => Self::NothingQualifies,
            (Some(selected), Action::Deploy) => Self::Due(selected),
            (Some(selected), Action::Nothing) => Self::of_deployed(status, selected),
            (
                Some(selected),
                action @ (Action::Retry(_)
                | Action::AwaitRemotes(_)
                | Action::AwaitConfirmation(_, _)
                | Action::Quarantined(_)
                | Action::Suspended(_)
                | Action::GivenUp),
            ) => Self::Hindered(selected, action, status.latest_at(selected)),
        }
    }

    fn of_deployed(status: &'a Status, selected: &'a Chosen) -> Self {
        let latest = status.latest_at(selected);
        let is_skipped = |latest: &Attempt| latest.status == AttemptStatus::Skipped;
        if latest.is_some_and(is_skipped) {
            return Self::Skipped(selected);
        }
        if status.standing.booted_instead.is_some() {
            return Self::BootedInstead(selected);
        }
        if status.runs(selected) {
            return if selected.testing {
                Self::Testing(selected)
            } else {
                Self::UpToDate(selected)
            };
        }
        match latest.map_or(selected.operation, |latest| latest.target.operation) {
            Operation::Boot => Self::BootsNext(selected),
            Operation::Switch | Operation::Test => Self::Replaced(selected),
        }
    }

    /// What it means to a person.
    fn tone(self) -> Tone {
        match self {
            Self::UpToDate(_) | Self::Testing(_) => Tone::Good,
            Self::UnderWay(_) | Self::Due(_) => Tone::Busy,
            Self::Suspended(_)
            | Self::Hindered(_, Action::AwaitConfirmation(_, _), _)
            | Self::NotFetched
            | Self::Skipped(_)
            | Self::BootedInstead(_)
            | Self::Replaced(_)
            | Self::BootsNext(_) => Tone::Notable,
            Self::Unreachable | Self::NothingQualifies | Self::Hindered(_, _, _) => Tone::Bad,
        }
    }

    /// As a sentence.
    fn sentence(self, page: &Page) -> String {
        match self {
            Self::UnderWay(under_way) => under_way.sentence(page),
            Self::Suspended(suspension) => match suspension.until {
                Some(until) => format!("suspended until {}", page.at(until)),
                None => "suspended".to_string(),
            },
            Self::NotFetched => NOT_FETCHED.to_string(),
            Self::Unreachable => UNREACHABLE.to_string(),
            Self::NothingQualifies => NOTHING_QUALIFIES.to_string(),
            Self::Due(selected) => format!("{selected} is about to be deployed"),
            Self::Hindered(selected, action, latest) => {
                let went = if latest.is_some_and(Attempt::was_rolled_back) {
                    "was rolled back"
                } else {
                    "failed"
                };
                let why = match action {
                    Action::Retry(wait) => {
                        let when = page.until(wait.until);
                        format!("{went}, and is tried again {when}")
                    }
                    Action::AwaitRemotes(_) => "was rolled back in an outage".to_string(),
                    Action::AwaitConfirmation(step, None) => {
                        let what = step.participle();
                        format!("waits for your confirmation to be {what}")
                    }
                    Action::AwaitConfirmation(step, Some(wait)) => {
                        let (what, when) = (step.participle(), page.until(wait.until));
                        format!("is {what} {when}, or when you confirm it")
                    }
                    Action::Quarantined(_) if latest.is_some_and(Attempt::was_rolled_back) => {
                        format!("{went}, and is in quarantine")
                    }
                    Action::Quarantined(_) => "is in quarantine".to_string(),
                    Action::GivenUp => format!("{went}, and is not tried again by itself"),
                    Action::Suspended(_) | Action::Deploy | Action::Nothing => {
                        "is not deployed".to_string()
                    }
                };
                format!("{selected} {why}")
            }
            Self::Skipped(selected) => format!("{selected} was skipped"),
            Self::BootedInstead(selected) => {
                format!("{selected} is deployed, but another system was booted")
            }
            Self::Replaced(selected) => {
                format!("{selected} is deployed, but another system was activated since")
            }
            Self::BootsNext(selected) => format!("{selected} is deployed for the next boot"),
            Self::Testing(selected) => format!("up to date, testing {selected}"),
            Self::UpToDate(_) => "up to date".to_string(),
        }
    }
}
