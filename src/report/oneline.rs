//! The status in one short line, as for a status bar. It tells no time that goes by: it stays the same as
//! long as nothing happens.

use super::attempt::Attempt;
use super::headline::{Headline, NOTHING_QUALIFIES, UNREACHABLE};
use super::page::Page;
use super::remote::RemoteStatus;
use super::status::Status;
use crate::model::commit::Commit;
use crate::model::decision::Action;
use crate::model::schedule::either;

impl Status {
    /// As in `up to date 3f2a9c1e: a reboot is needed`: what is up, the commit that it is about, and a
    /// problem if there is one.
    pub fn oneline(&self, page: &Page) -> String {
        let headline = Headline::of(self);
        let (state, problem) = (word(headline), problem_of(headline, page));
        let commit = self.commit(headline);
        let commit = commit.map_or(String::new(), |commit| format!(" {}", commit.short()));
        let problem = problem.or_else(|| self.problem());
        let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
        format!("{state}{commit}{problem}")
    }

    /// The same; the JSON has the word of the line, too.
    pub(super) fn named(self) -> Self {
        let state = word(Headline::of(&self)).replace(' ', "_");
        Self { state, ..self }
    }

    /// The exit code of `comin status --check`.
    pub fn exit_code(&self) -> u8 {
        match Headline::of(self) {
            Headline::Testing(_) | Headline::UpToDate(_) if self.has_refused() => 4,
            Headline::Testing(_) | Headline::UpToDate(_) => 0,
            Headline::UnderWay(_)
            | Headline::Due(_)
            | Headline::BootsNext(_)
            | Headline::Hindered(_, Action::AwaitConfirmation(_, _), _) => 3,
            Headline::NotFetched
            | Headline::Unreachable
            | Headline::NothingQualifies
            | Headline::Hindered(_, _, _)
            | Headline::Skipped(_) => 4,
            Headline::Suspended(_) => 5,
            Headline::BootedInstead(_) | Headline::Replaced(_) => 6,
        }
    }

    /// Whether a remote cannot be fetched, or a branch is refused that somebody expects to be deployed.
    fn has_refused(&self) -> bool {
        let mut remotes = self.remotes.iter();
        remotes.any(|remote| remote.problem().is_some())
    }

    /// The commit that a headline is about; what runs, where it is about none.
    fn commit<'a>(&'a self, headline: Headline<'a>) -> Option<&'a Commit> {
        match headline {
            Headline::UnderWay(it) => Some(&it.attempt.target.commit),
            Headline::Due(selected)
            | Headline::Hindered(selected, _, _)
            | Headline::Skipped(selected)
            | Headline::BootedInstead(selected)
            | Headline::Replaced(selected)
            | Headline::BootsNext(selected)
            | Headline::Testing(selected)
            | Headline::UpToDate(selected) => Some(&selected.commit),
            Headline::Suspended(_) | Headline::NotFetched | Headline::Unreachable => {
                self.running.as_ref()?.commit.as_ref()
            }
            // It would look as if that one did not qualify.
            Headline::NothingQualifies => None,
        }
    }

    /// What is wrong whatever the headline is.
    pub(super) fn problem(&self) -> Option<String> {
        let mut remotes = self.remotes.iter();
        let is_needed = self.standing.need_to_reboot;
        let reboot = || is_needed.then(|| "a reboot is needed".to_string());
        remotes.find_map(RemoteStatus::problem).or_else(reboot)
    }
}

/// The word for it.
fn word(headline: Headline) -> &'static str {
    match headline {
        Headline::UnderWay(it) => it.stage.words(),
        Headline::Suspended(_) => "suspended",
        Headline::NotFetched => "not fetched",
        Headline::Unreachable => "unreachable",
        Headline::NothingQualifies => NOTHING_QUALIFIES,
        Headline::Due(_) => "due",
        Headline::Hindered(_, action, latest) => match action {
            Action::AwaitRemotes(_) => "rolled back",
            Action::AwaitConfirmation(_, _) => "waits",
            Action::Quarantined(_) => "quarantined",
            Action::GivenUp if latest.is_some_and(Attempt::was_rolled_back) => "rolled back",
            Action::Retry(_) | Action::GivenUp => "failed",
            Action::Suspended(_) | Action::Deploy | Action::Nothing => "not deployed",
        },
        Headline::Skipped(_) => "skipped",
        Headline::BootedInstead(_) | Headline::Replaced(_) => "not running",
        Headline::BootsNext(_) => "boots next",
        Headline::Testing(_) => "testing",
        Headline::UpToDate(_) => "up to date",
    }
}

/// What is wrong with it, or what it waits for.
fn problem_of(headline: Headline, page: &Page) -> Option<String> {
    match headline {
        Headline::Suspended(suspension) => {
            suspension.until.map(|at| format!("until {}", page.at(at)))
        }
        Headline::Unreachable => Some(UNREACHABLE.to_string()),
        Headline::Hindered(_, action, _) => match action {
            Action::Retry(wait) => Some(format!("again at {}", page.at(wait.until))),
            Action::AwaitRemotes(remotes) => {
                Some(format!("again when {} is back", either(remotes)))
            }
            Action::AwaitConfirmation(step, until) => {
                let at = until.map(|wait| format!(" at {}", page.at(wait.until)));
                let at = at.unwrap_or_default();
                Some(format!("to be {}{at}", step.participle()))
            }
            Action::GivenUp => Some("not tried again".to_string()),
            Action::Quarantined(_) | Action::Suspended(_) | Action::Deploy | Action::Nothing => {
                None
            }
        },
        Headline::BootedInstead(_) => Some("another system was booted".to_string()),
        Headline::Replaced(_) => Some("another system was activated".to_string()),
        Headline::UnderWay(_)
        | Headline::NotFetched
        | Headline::NothingQualifies
        | Headline::Due(_)
        | Headline::Skipped(_)
        | Headline::BootsNext(_)
        | Headline::Testing(_)
        | Headline::UpToDate(_) => None,
    }
}
