//! The verdict on a machine, in a line.

use super::attempt::{Attempt, AttemptStatus};
use super::remote::RemoteStatus;
use super::standing::UnderWay;
use super::status::Status;
use super::text::{Page, Tone};
use super::Chosen;
use crate::config::Operation;
use crate::select::Action;
use crate::suspension::Suspension;

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
    /// Something is to be deployed, but not now.
    Hindered(&'a Chosen, &'a Action),
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

impl Status {
    /// The verdict with what is wrong all the same, and what it means to a person.
    pub(super) fn verdict(&self, page: &Page) -> (Tone, String) {
        let headline = Headline::of(self);
        let sentence = headline.sentence(page);
        match (headline, self.problem()) {
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
            ) => Self::Hindered(selected, action),
        }
    }

    fn of_deployed(status: &'a Status, selected: &'a Chosen) -> Self {
        let is_it = |attempt: &&Attempt| attempt.target.commit == selected.commit;
        let latest = status.standing.deployed.as_ref().filter(is_it);
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
            | Self::Hindered(_, Action::AwaitConfirmation(_, _))
            | Self::NotFetched
            | Self::Skipped(_)
            | Self::BootedInstead(_)
            | Self::Replaced(_)
            | Self::BootsNext(_) => Tone::Notable,
            Self::Unreachable | Self::NothingQualifies | Self::Hindered(_, _) => Tone::Bad,
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
            Self::NotFetched => {
                "no remote has been fetched since the boot; comin run does that now".to_string()
            }
            Self::Unreachable => "no remote can be fetched".to_string(),
            Self::NothingQualifies => "no branch qualifies".to_string(),
            Self::Due(selected) => format!("{selected} is about to be deployed"),
            Self::Hindered(selected, action) => {
                let why = match action {
                    Action::Retry(wait) => {
                        let when = page.until(wait.until);
                        format!("failed, and is tried again {when}")
                    }
                    Action::AwaitRemotes(_) => "was rolled back in an outage".to_string(),
                    Action::AwaitConfirmation(_, _) => "waits for your confirmation".to_string(),
                    Action::Quarantined(_) => "is in quarantine".to_string(),
                    Action::GivenUp => "failed, and is not tried again by itself".to_string(),
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
