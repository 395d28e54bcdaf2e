//! How a machine is: the one table from which the status, its short line, the JSON and the exit code are.

use jiff::Timestamp;

use super::attempt::Attempt;
use super::page::{Page, Tone};
use super::remote::RemoteStatus;
use super::status::Status;
use super::target::TargetView;
use crate::model::commit::Commit;
use crate::model::decision::{Action, Hindrance};
use crate::model::outcome::AttemptStatus;
use crate::sys::text::printable;

/// Every word for how a machine is, as the JSON and the metrics have it.
pub(super) const STATES: [&str; 27] = [
    "up_to_date",
    "testing",
    "due",
    "evaluating",
    "building",
    "activating",
    "checking",
    "rolling_back",
    "waits",
    "waits_for_ci",
    "boots_next",
    "suspended",
    "skipped",
    "failed",
    "interrupted",
    "postponed",
    "rolled_back",
    "quarantined",
    "held",
    "not_deployed",
    "not_running",
    "boots_another",
    "not_polled",
    "not_deploying",
    "not_fetched",
    "unreachable",
    "no_branch_qualifies",
];

/// How a machine is, in words.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    /// The word of the short line.
    pub(super) word: &'static str,
    /// The exit code of `comin status --check`.
    pub(super) code: u8,
    pub(super) tone: Tone,
    /// For the first line of the status.
    pub(super) sentence: String,
    /// What the short line has besides the word.
    pub(super) detail: Option<String>,
    /// The commit that it is about.
    pub(super) commit: Option<&'a Commit>,
    /// The command that helps.
    pub(super) command: Option<String>,
}

/// If nothing has been fetched since the machine booted.
pub(super) const NOT_FETCHED: &str = "no remote has been fetched since the boot";
/// If every fetch failed.
pub(super) const UNREACHABLE: &str = "no remote can be fetched";
/// If all branches are refused, or not there.
pub(super) const NOTHING_QUALIFIES: &str = "no branch qualifies";

/// The units of comin that start a deploy.
const DEPLOYS: &str = "comin.path";

impl Status {
    /// How the machine is: whatever matters most. `when` says a time as in "at 14:00" or "in 4 min".
    #[allow(clippy::too_many_lines)] // A paragraph for each.
    pub(super) fn verdict(&self, page: &Page, when: &dyn Fn(Timestamp) -> String) -> Verdict<'_> {
        let verdict = |word, code, tone, sentence: &str| Verdict {
            word,
            code,
            tone,
            sentence: sentence.to_string(),
            detail: None,
            commit: self.running_commit(),
            command: None,
        };
        if let Some(it) = &self.host.in_progress {
            return Verdict {
                commit: Some(&it.attempt.target.commit),
                ..verdict(it.stage.words(), 3, Tone::Busy, &it.sentence(page))
            };
        }
        if let Some(suspension) = &self.suspension {
            let until = suspension.until.map(|at| format!("until {}", page.at(at)));
            let sentence = format!("suspended {}", until.as_deref().unwrap_or_default());
            return Verdict {
                detail: until,
                command: Some("sudo comin resume".to_string()),
                ..verdict("suspended", 5, Tone::Notable, sentence.trim_end())
            };
        }
        if !self.remotes.iter().any(RemoteStatus::is_reached) {
            if self.remotes.iter().any(|remote| remote.error.is_some()) {
                return Verdict {
                    detail: Some(UNREACHABLE.to_string()),
                    ..verdict("unreachable", 4, Tone::Bad, UNREACHABLE)
                };
            }
            return Verdict {
                command: Some("sudo comin run".to_string()),
                ..verdict("not fetched", 4, Tone::Notable, NOT_FETCHED)
            };
        }
        let Some(selected) = &self.selected else {
            let missing = self.missing.as_deref().map(|it| printable(it).into_owned());
            let problem = missing.or_else(|| self.problem());
            let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
            return Verdict {
                // It would look as if that one did not qualify.
                commit: None,
                ..verdict(
                    NOTHING_QUALIFIES,
                    4,
                    Tone::Bad,
                    &(NOTHING_QUALIFIES.to_string() + &problem),
                )
            };
        };
        let about = |word, code, tone, what: &str| Verdict {
            commit: Some(&selected.commit),
            ..verdict(word, code, tone, &format!("{selected} {what}"))
        };
        if let Some(hindrance) = self.action.hindrance(when) {
            return self.hindered(selected, &hindrance, about);
        }
        if self.action == Action::Deploy {
            if self.is_deploy_stopped() {
                let why = format!("is not deployed: {DEPLOYS} is not active");
                return about("not deploying", 4, Tone::Bad, &why);
            }
            return about("due", 3, Tone::Busy, "is about to be deployed");
        }
        let latest = self.latest_at(selected);
        if latest.is_some_and(|latest| latest.status == AttemptStatus::Skipped) {
            return about("skipped", 4, Tone::Notable, "was skipped");
        }
        let retry = || Some("sudo comin retry".to_string());
        if let Some(drift) = &self.host.drift {
            let clause = drift.kind.clause();
            let what = format!("is deployed, but {clause}");
            return Verdict {
                detail: Some(clause.to_string()),
                command: retry(),
                ..about(drift.kind.word(), 6, Tone::Notable, &what)
            };
        }
        let operation = latest.map_or(selected.operation, |latest| latest.target.operation);
        if !self.runs(selected) && operation.activates() {
            return Verdict {
                command: retry(),
                ..about(
                    "not running",
                    6,
                    Tone::Notable,
                    "is deployed, but does not run",
                )
            };
        }
        if let Some(why) = self.inattention() {
            let word = if self.is_deploy_stopped() {
                "not deploying"
            } else {
                "not polled"
            };
            return about(word, 4, Tone::Bad, &format!("is deployed, but {why}"));
        }
        if !self.runs(selected) {
            return about(
                "boots next",
                3,
                Tone::Notable,
                "is deployed for the next boot",
            );
        }
        let (word, well) = if selected.testing {
            ("testing", format!("up to date, testing {selected}"))
        } else {
            ("up to date", "up to date".to_string())
        };
        let (code, tone, sentence) = match self.problem() {
            Some(problem) => {
                let code = if self.has_refused() { 4 } else { 0 };
                (code, Tone::Notable, format!("{well}, but {problem}"))
            }
            None => (0, Tone::Good, well),
        };
        Verdict {
            commit: Some(&selected.commit),
            ..verdict(word, code, tone, &sentence)
        }
    }

    /// Something is to be deployed, but not now.
    fn hindered<'a>(
        &self,
        selected: &TargetView,
        hindrance: &Hindrance,
        about: impl Fn(&'static str, u8, Tone, &str) -> Verdict<'a>,
    ) -> Verdict<'a> {
        let (code, tone) = match self.action {
            Action::AwaitConfirmation(_, _) | Action::AwaitGate(_) | Action::AwaitPrebuilt(_) => {
                (3, Tone::Notable)
            }
            _ => (4, Tone::Bad),
        };
        let latest = self.latest_at(selected);
        let was_rolled_back = latest.is_some_and(Attempt::was_rolled_back);
        let next = &hindrance.next;
        let sentence = if was_rolled_back && hindrance.trouble.is_none() {
            format!("was rolled back, and {next}")
        } else {
            hindrance.sentence()
        };
        let detail = next
            .strip_prefix("is ")
            .or(next.strip_prefix(hindrance.word));
        let detail = detail.unwrap_or(next).trim_start_matches([' ', ',', ':']);
        Verdict {
            detail: Some(detail.to_string()).filter(|detail| !detail.is_empty()),
            command: hindrance.command.clone(),
            ..about(hindrance.word, code, tone, &sentence)
        }
    }

    /// The latest attempt that ended, if it was at this target.
    fn latest_at(&self, target: &TargetView) -> Option<&Attempt> {
        let is_it = |attempt: &&Attempt| attempt.target.commit == target.commit;
        self.host.deployed.as_ref().filter(is_it)
    }

    /// Whether a remote cannot be fetched, or a branch is refused that somebody expects to be deployed.
    fn has_refused(&self) -> bool {
        let mut remotes = self.remotes.iter();
        remotes.any(|remote| remote.problem().is_some())
    }

    /// What is wrong whatever the headline is.
    pub(super) fn problem(&self) -> Option<String> {
        let mut remotes = self.remotes.iter();
        let is_needed = self.host.need_to_reboot;
        let reboot = || is_needed.then(|| "a reboot is needed".to_string());
        remotes
            .find_map(RemoteStatus::problem)
            .or_else(|| self.inattention())
            .or_else(reboot)
    }

    /// Why nobody would notice or deploy another commit.
    fn inattention(&self) -> Option<String> {
        if !self.inactive_units.is_empty() {
            let verb = if self.inactive_units.len() == 1 {
                "is"
            } else {
                "are"
            };
            return Some(format!(
                "{} {verb} not active",
                self.inactive_units.join(", ")
            ));
        }
        let stale = self.remotes.iter().find(|remote| remote.is_stale);
        stale.map(|remote| format!("{} has not been fetched for too long", remote.name))
    }

    /// Whether a request to deploy is left alone.
    fn is_deploy_stopped(&self) -> bool {
        self.inactive_units.iter().any(|unit| unit == DEPLOYS)
    }
}
