//! How a machine is: the one table from which the status, its short line, the JSON and the exit code are.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::host_state::Absence;
use super::page::{Page, Tone};
use super::remote::RemoteStatus;
use super::status::Status;
use super::target::TargetView;
use crate::model::commit::Commit;
use crate::model::decision::{Action, Hindrance};
use crate::model::outcome::{AttemptStatus, Trouble};
use crate::sys::diagnosis::diagnose;
use crate::sys::text::{printable, shortened};

/// Every word for how a machine is, as the JSON and the metrics have it.
pub(super) const STATES: [&str; 26] = [
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
    "held",
    "test_ended",
    "not_running",
    "boots_another",
    "not_polled",
    "not_deploying",
    "not_fetched",
    "unreachable",
    "no_branch_qualifies",
];

/// How a machine is, in words.
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

impl<'a> Verdict<'a> {
    fn about(self, target: &'a TargetView) -> Self {
        let commit = Some(&target.commit);
        Self { commit, ..self }
    }

    fn with_detail(self, detail: impl Into<Option<String>>) -> Self {
        let detail = detail.into();
        Self { detail, ..self }
    }

    fn with_command(self, command: impl Into<Option<String>>) -> Self {
        let command = command.into();
        Self { command, ..self }
    }
}

/// If nothing has been fetched since the machine booted.
pub(super) const NOT_FETCHED: &str = "no remote has been fetched since the boot";
/// If every fetch failed.
pub(super) const UNREACHABLE: &str = "no remote can be fetched";
/// If all branches are refused, or not there.
pub(super) const NOTHING_QUALIFIES: &str = "no branch qualifies";

/// The unit of comin that starts a deploy.
const DEPLOYS: &str = "comin.path";
const RETRY: &str = "sudo comin retry";
/// How much of an error the headline has.
const SHOWN: usize = 120;

impl Status {
    /// How the machine is: what matters most, and whatever else is wrong. `when` says a time as in "at 14:00" or
    /// "in 4 min".
    pub(super) fn verdicts(
        &self,
        page: &Page,
        when: &dyn Fn(Timestamp) -> String,
    ) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        let is_stopped = self.is_deploy_stopped();
        let mut problems = self.problems();
        let verdicts = [
            self.in_progress(page),
            self.inactive().filter(|_| is_stopped),
            self.suspended(page),
            self.unselected(&mut problems),
            self.undeployed(when),
            self.drifted(),
            self.absent(),
            self.inactive().filter(|_| !is_stopped),
        ];
        let mut verdicts: VecDeque<_> = verdicts.into_iter().flatten().collect();
        verdicts.extend(self.stale());
        let first = verdicts.pop_front();
        let first = first.unwrap_or_else(|| self.well(&mut problems));
        verdicts.extend(problems);
        (first, verdicts.into())
    }

    fn verdict(&self, word: &'static str, code: u8, tone: Tone, sentence: &str) -> Verdict<'_> {
        Verdict {
            word,
            code,
            tone,
            sentence: sentence.to_string(),
            detail: None,
            commit: self.host.running_commit(),
            command: None,
        }
    }

    fn in_progress(&self, page: &Page) -> Option<Verdict<'_>> {
        let it = self.host.in_progress.as_ref()?;
        let verdict = self.verdict(it.stage.words(), 3, Tone::Busy, &it.sentence(page));
        Some(verdict.about(&it.attempt.target))
    }

    /// Units that should fetch or deploy, and are not active.
    fn inactive(&self) -> Option<Verdict<'_>> {
        let verb = match self.inactive_units.len() {
            0 => return None,
            1 => "is",
            _ => "are",
        };
        let why = format!("{} {verb} not active", self.inactive_units.join(", "));
        let selected = self.selected.as_ref().filter(|_| self.action.goes_on());
        let verdict = match (self.is_deploy_stopped(), selected) {
            (true, Some(selected)) => {
                let sentence = format!("{why}, so {selected} is not deployed");
                self.verdict("not deploying", 4, Tone::Bad, &sentence)
                    .about(selected)
            }
            (true, None) => {
                let sentence = format!("{why}, so no push would be deployed");
                self.verdict("not deploying", 4, Tone::Bad, &sentence)
            }
            (false, _) => {
                let sentence = format!("{why}, so pushes may be missed");
                self.verdict("not polled", 4, Tone::Bad, &sentence)
            }
        };
        let command = format!("sudo systemctl start {}", self.inactive_units.join(" "));
        Some(verdict.with_detail(why).with_command(command))
    }

    fn suspended(&self, page: &Page) -> Option<Verdict<'_>> {
        let suspension = self.suspension.as_ref()?;
        let until = suspension.until.map(|at| format!("until {}", page.at(at)));
        let reason = suspension.reason.as_deref().map(printable);
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        let end = until
            .as_ref()
            .map_or(String::new(), |until| format!(" {until}"));
        let sentence = format!("suspended{end}{reason}");
        let verdict = self.verdict("suspended", 5, Tone::Notable, &sentence);
        let command = "sudo comin resume".to_string();
        Some(verdict.with_detail(until).with_command(command))
    }

    /// Nothing is known of any remote, or no branch qualifies. Takes the first problem for the reason.
    fn unselected<'a>(&'a self, problems: &mut VecDeque<Verdict<'a>>) -> Option<Verdict<'a>> {
        if !self.is_any_reached() {
            let mut errors = self.remotes.iter().filter_map(|it| it.error.as_deref());
            let Some(error) = errors.next() else {
                let verdict = self.verdict("not fetched", 4, Tone::Notable, NOT_FETCHED);
                return Some(verdict.with_command("sudo comin run".to_string()));
            };
            let cause = diagnose(error);
            let is_common =
                errors.all(|it| it == error || cause.is_some_and(|_| diagnose(it) == cause));
            let why = match cause {
                Some(cause) => cause.into(),
                None => shortened(error.lines().next().unwrap_or_default(), SHOWN),
            };
            let sentence = if is_common {
                format!("{UNREACHABLE}: {}", printable(&why))
            } else {
                UNREACHABLE.to_string()
            };
            let detail = cause.filter(|_| is_common).unwrap_or(UNREACHABLE);
            let verdict = self.verdict("unreachable", 4, Tone::Bad, &sentence);
            let command = "sudo comin fetch".to_string();
            return Some(
                verdict
                    .with_detail(detail.to_string())
                    .with_command(command),
            );
        }
        if self.selected.is_some() {
            return None;
        }
        let missing = self.missing.as_deref().map(|it| printable(it).into_owned());
        let why = missing.or_else(|| {
            problems.front().filter(|it| it.code > 0)?;
            Some(problems.pop_front()?.sentence)
        });
        let sentence = match &why {
            Some(why) => format!("{NOTHING_QUALIFIES}: {why}"),
            None => NOTHING_QUALIFIES.to_string(),
        };
        // Without the cure.
        let why = why.map(|why| why.split(';').next().unwrap_or_default().to_string());
        let verdict = self.verdict(NOTHING_QUALIFIES, 4, Tone::Bad, &sentence);
        Some(Verdict {
            // It would look as if that one did not qualify.
            commit: None,
            ..verdict.with_detail(why)
        })
    }

    /// What was selected is not deployed.
    fn undeployed(&self, when: &dyn Fn(Timestamp) -> String) -> Option<Verdict<'_>> {
        let selected = self.selected.as_ref();
        let selected = selected.filter(|_| self.host.in_progress.is_none())?;
        let about = |word, code, tone, what: &str| {
            let sentence = format!("{selected} {what}");
            self.verdict(word, code, tone, &sentence).about(selected)
        };
        let trouble = self.trouble_at(selected);
        // What keeps it from going on is said by another verdict.
        let is_stuck = self.is_deploy_stopped() && self.action.goes_on();
        if is_stuck || matches!(self.action, Action::Suspended(_)) {
            let trouble = trouble?;
            return Some(about(trouble.word(), 4, Tone::Bad, &trouble.to_string()));
        }
        if self.action == Action::Deploy {
            let detail = trouble.map(|it| it.to_string());
            let what = match &detail {
                Some(trouble) => format!("{trouble}, and is about to be tried again"),
                None => "is about to be deployed".to_string(),
            };
            return Some(about("due", 3, Tone::Busy, &what).with_detail(detail));
        }
        let latest = self.host.latest_at(selected);
        let Some(mut hindrance) = self.action.hindrance(when) else {
            let skipped = latest.filter(|it| it.status == AttemptStatus::Skipped)?;
            let reason = printable(skipped.error.as_deref()?).into_owned();
            let verdict = about(
                "skipped",
                4,
                Tone::Notable,
                &format!("was skipped: {reason}"),
            );
            return Some(verdict.with_detail(reason));
        };
        let mut detail = hindrance.detail();
        match (&self.action, trouble) {
            (Action::GivenUp(trouble), _) if self.runs(selected) => {
                let failed = latest.map_or(&[][..], |it| &it.failed_units);
                hindrance.next = match failed {
                    [] => format!("runs, but {trouble}"),
                    units => format!("runs, but units failed: {}", printable(&units.join(", "))),
                };
                hindrance.trouble = None;
                detail = Some(hindrance.next.clone());
            }
            (Action::Quarantined(_), Some(trouble)) => {
                detail = Some(hindrance.next.trim_start_matches("is ").to_string());
                hindrance = Hindrance {
                    word: trouble.word(),
                    trouble: Some(trouble.to_string()),
                    ..hindrance
                };
            }
            (Action::Quarantined(quarantine), None) => {
                let reason = printable(&quarantine.reason);
                hindrance.next = format!("{}: {reason}", hindrance.next);
                detail = Some(reason.into_owned());
            }
            _ => {}
        }
        let (code, tone) = match self.action {
            Action::AwaitConfirmation(_, _) | Action::AwaitGate(_) | Action::AwaitPrebuilt(_) => {
                (3, Tone::Notable)
            }
            _ => (4, Tone::Bad),
        };
        let verdict = about(hindrance.word, code, tone, &hindrance.sentence());
        Some(verdict.with_detail(detail).with_command(hindrance.command))
    }

    fn drifted(&self) -> Option<Verdict<'_>> {
        let drift = self.host.drift.as_ref()?;
        let clause = drift.kind.clause();
        let verdict = |sentence: &str| self.verdict(drift.kind.word(), 6, Tone::Notable, sentence);
        let is_held_up = self.suspension.is_some() || self.is_deploy_stopped();
        let selected = self.selected.as_ref().filter(|_| !is_held_up);
        let cure = selected.map(|_| RETRY.to_string());
        let verdict = match selected {
            Some(selected) if self.action == Action::Nothing => {
                verdict(&format!("{selected} is deployed, but {clause}")).about(selected)
            }
            Some(_) | None => verdict(clause),
        };
        Some(verdict.with_detail(clause.to_string()).with_command(cure))
    }

    /// What was deployed does not run.
    fn absent(&self) -> Option<Verdict<'_>> {
        let selected = self.selected.as_ref();
        let selected = selected.filter(|_| self.action == Action::Nothing)?;
        let absence = self.host.absence(selected)?;
        let (word, code, detail) = match absence {
            Absence::TestEnded => ("test ended", 3, None),
            Absence::BootsNext => ("boots next", 3, Some("a reboot is needed".to_string())),
            Absence::Unknown => ("not running", 6, None),
        };
        let sentence = format!("{selected} {}", absence.clause());
        let verdict = self.verdict(word, code, Tone::Notable, &sentence);
        let command = absence.command().to_string();
        Some(
            verdict
                .about(selected)
                .with_detail(detail)
                .with_command(command),
        )
    }

    /// The remotes whose latest fetch is too long ago, although their units are active.
    fn stale(&self) -> impl Iterator<Item = Verdict<'_>> {
        let is_it = |remote: &&RemoteStatus| remote.is_stale && self.inactive_units.is_empty();
        self.remotes.iter().filter(is_it).map(|remote| {
            let name = &remote.name;
            let why = format!("{name} has not been fetched for too long");
            let sentence = format!("{why}, so pushes may be missed");
            let command = format!("systemctl status comin-{name}.timer");
            self.verdict("not polled", 4, Tone::Bad, &sentence)
                .with_detail(why)
                .with_command(command)
        })
    }

    /// It runs what was pushed. Takes the first problem into the sentence.
    fn well<'a>(&'a self, problems: &mut VecDeque<Verdict<'a>>) -> Verdict<'a> {
        let testing = self.selected.as_ref().filter(|selected| selected.testing);
        let (word, well) = match testing {
            Some(selected) => ("testing", format!("up to date, testing {selected}")),
            None => ("up to date", "up to date".to_string()),
        };
        let code = problems.iter().map(|it| it.code).max().unwrap_or(0);
        match problems.pop_front() {
            None => self.verdict(word, code, Tone::Good, &well),
            Some(Verdict {
                sentence, command, ..
            }) => {
                let verdict = format!("{well}, but {sentence}");
                self.verdict(word, code, Tone::Notable, &verdict)
                    .with_detail(sentence)
                    .with_command(command)
            }
        }
    }

    /// What is wrong beside what is selected: remotes, branches, and that a reboot is needed.
    fn problems(&self) -> VecDeque<Verdict<'_>> {
        let is_any_reached = self.is_any_reached();
        // That none can be fetched is said once.
        let known = |remote: &&RemoteStatus| is_any_reached || remote.error.is_none();
        let remotes = self.remotes.iter().filter(known);
        let remotes = remotes.flat_map(RemoteStatus::problems);
        let mut problems: VecDeque<_> = remotes
            .map(|(sentence, command)| {
                self.verdict("up to date", 4, Tone::Notable, &sentence)
                    .with_command(command)
            })
            .collect();
        let is_said = self.host.drift.is_some() || self.absent().is_some();
        if self.host.need_to_reboot && !is_said {
            problems.push_back(
                self.verdict("up to date", 0, Tone::Notable, "a reboot is needed")
                    .with_command("sudo reboot".to_string()),
            );
        }
        problems
    }

    /// What became of a target before.
    fn trouble_at(&self, target: &TargetView) -> Option<Trouble> {
        let left = self.host.left.as_ref();
        let left = left.filter(|left| left.attempt.target.commit == target.commit);
        let interrupted = left.map(|left| Trouble::Interrupted(left.stage));
        interrupted.or_else(|| self.host.latest_at(target)?.trouble)
    }

    /// Whether the heads of a remote are known.
    pub(super) fn is_any_reached(&self) -> bool {
        self.remotes.iter().any(RemoteStatus::is_reached)
    }

    /// Whether a request to deploy is left alone.
    pub(super) fn is_deploy_stopped(&self) -> bool {
        self.inactive_units.iter().any(|unit| unit == DEPLOYS)
    }
}
