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
        let (state, problem) = words(headline, page);
        let commit = self.commit(headline);
        let commit = commit.map_or(String::new(), |commit| format!(" {}", commit.short()));
        let problem = problem.or_else(|| self.problem());
        let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
        format!("{state}{commit}{problem}")
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

/// The words for it, and what is wrong with it.
fn words(headline: Headline, page: &Page) -> (&'static str, Option<String>) {
    match headline {
        Headline::UnderWay(it) => (it.stage.words(), None),
        Headline::Suspended(suspension) => {
            let until = suspension.until.map(|at| format!("until {}", page.at(at)));
            ("suspended", until)
        }
        Headline::NotFetched => ("not fetched", None),
        Headline::Unreachable => ("unreachable", Some(UNREACHABLE.to_string())),
        Headline::NothingQualifies => (NOTHING_QUALIFIES, None),
        Headline::Due(_) => ("due", None),
        Headline::Hindered(_, action, latest) => match action {
            Action::Retry(wait) => ("failed", Some(format!("again at {}", page.at(wait.until)))),
            Action::AwaitRemotes(remotes) => {
                let again = format!("again when {} is back", either(remotes));
                ("rolled back", Some(again))
            }
            Action::AwaitConfirmation(step, until) => {
                let at = until.map(|wait| format!(" at {}", page.at(wait.until)));
                let at = at.unwrap_or_default();
                ("waits", Some(format!("to be {}{at}", step.participle())))
            }
            Action::Quarantined(_) => ("quarantined", None),
            Action::GivenUp => {
                let rolled_back = latest.is_some_and(Attempt::was_rolled_back);
                let state = if rolled_back { "rolled back" } else { "failed" };
                (state, Some("not tried again".to_string()))
            }
            Action::Suspended(_) | Action::Deploy | Action::Nothing => ("not deployed", None),
        },
        Headline::Skipped(_) => ("skipped", None),
        Headline::BootedInstead(_) => {
            let problem = "another system was booted".to_string();
            ("not running", Some(problem))
        }
        Headline::Replaced(_) => {
            let problem = "another system was activated".to_string();
            ("not running", Some(problem))
        }
        Headline::BootsNext(_) => ("boots next", None),
        Headline::Testing(_) => ("testing", None),
        Headline::UpToDate(_) => ("up to date", None),
    }
}
