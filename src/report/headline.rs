//! How a machine is: what the status, its short line, the JSON and the exit code are made of.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::verdict::{Grade, Verdict};
use super::{cures, page::Page, remote::RemoteStatus, status::Status, target::TargetView};
use crate::model::{drift::DriftKind, healing::SUSPENDED, Action, Cure, Drift};
use crate::sys::diagnosis::{in_short, Cause};
use crate::sys::text::{fact_and_advice, in_brackets, printable};
use crate::system::timers;

/// If nothing has been fetched since the machine booted.
pub(super) const NOT_FETCHED: &str = "no remote has been fetched since the boot";
/// If every fetch failed.
pub(super) const UNREACHABLE: &str = "no remote can be fetched";
/// If all branches are refused, or not there.
pub(super) const NOTHING_QUALIFIES: &str = "no branch qualifies";

impl Status {
    /// As in `up to date 3f2a9c1e: a reboot is needed`: what is up, the commit that it is about, and a problem if there is
    /// one, and how many more there are.
    pub fn oneline(&self, page: &Page) -> String {
        let (first, others) = self.lasting_verdicts(page);
        first.line(&others)
    }

    /// The exit code of `comin status --check`.
    pub fn exit_code(&self, page: &Page) -> u8 {
        self.lasting_verdicts(page).0.grade.code()
    }

    /// The word of the line, as the JSON has it.
    pub(super) fn state(&self, page: &Page) -> String {
        self.lasting_verdicts(page).0.state()
    }

    /// The verdicts without a time that goes by: they stay the same as long as nothing happens.
    fn lasting_verdicts(&self, page: &Page) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        self.verdicts(page, &|time| format!("at {}", page.at(time)))
    }

    /// How the machine is: what matters most, and whatever else is wrong. `when` says a time as in "at 14:00" or
    /// "in 4 min".
    pub(super) fn verdicts(
        &self,
        page: &Page,
        when: &dyn Fn(Timestamp) -> String,
    ) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        let is_stopped = self.is_deploy_stopped();
        let mut problems = self.problems(page);
        let obstacles = [
            self.in_progress(page),
            self.suspended(page),
            self.inactive(page).filter(|_| is_stopped),
            self.unselected(&mut problems),
            self.undeployed(page, when),
        ];
        let mut obstacles = obstacles.into_iter().flatten();
        // Whatever else is the matter, the first sentence says so if another system runs.
        let first = match (obstacles.next(), self.drifted(when)) {
            (Some(first), Some(drifted)) => Some(first.and("; ", drifted)),
            (first, drifted) => first.or(drifted),
        };
        let mut verdicts: VecDeque<_> = first.into_iter().chain(obstacles).collect();
        verdicts.extend(self.absent());
        verdicts.extend(self.inactive(page).filter(|_| !is_stopped));
        verdicts.extend(self.late(page));
        let first = verdicts.pop_front();
        let first = first.unwrap_or_else(|| self.well(&mut problems));
        verdicts.extend(problems);
        (first, verdicts.into())
    }

    /// A verdict on the machine.
    fn verdict(&self, word: &str, sentence: impl Into<String>) -> Verdict<'_> {
        Verdict::new(word, sentence).about(self.host.running_commit())
    }

    fn in_progress(&self, page: &Page) -> Option<Verdict<'_>> {
        let it = self.host.in_progress.as_ref()?;
        let verdict = Verdict::new(&it.stage.words(), it.sentence(page));
        Some(verdict.about(Some(&it.attempt.target.commit)))
    }

    fn suspended(&self, page: &Page) -> Option<Verdict<'_>> {
        let suspension = self.suspension.as_ref()?;
        let until = suspension.until.map(|at| format!("until {}", page.at(at)));
        let end = until.as_ref().map_or(String::new(), |it| format!(" {it}"));
        let reason = suspension.reason.as_deref().map(printable);
        let suspended = in_brackets(&format!("suspended{end}"), reason.as_deref());
        let is_waiting = matches!(self.action, Action::Suspended(_));
        let waiting = self.selected.as_ref().filter(|_| is_waiting);
        let waits = waiting.map_or(String::new(), |it| format!("; {it} waits"));
        let verdict = self.verdict("suspended", format!("{suspended}{waits}"));
        let waits = waiting.map(|it| format!("{} waits", it.commit.short()));
        let detail: Vec<String> = until.into_iter().chain(waits).collect();
        let detail = Some(detail.join(", ")).filter(|it| !it.is_empty());
        Some(verdict.with_detail(detail).with_cures([Cure::resume()]))
    }

    /// Units that should fetch or deploy, and are not active.
    fn inactive(&self, page: &Page) -> Option<Verdict<'_>> {
        let verb = match self.inactive_units.len() {
            0 => return None,
            1 => "is",
            _ => "are",
        };
        let mut why = format!("{} {verb} not active", self.inactive_units.join(", "));
        let mut detail = why.clone();
        for [late, since] in self.remotes.iter().filter_map(|it| it.lateness(page)) {
            why = format!("{why}, and {late}");
            detail = format!("{detail}, and {since}");
        }
        let selected = self.selected.as_ref().filter(|_| self.action.goes_on());
        let selected = selected.filter(|_| self.is_deploy_stopped());
        let (word, so) = match (selected, &self.suspension) {
            _ if !self.is_deploy_stopped() => ("not polled", "pushes may be missed".to_string()),
            (Some(selected), _) => ("not deploying", format!("{selected} is not deployed")),
            (None, Some(_)) => {
                let so = "nothing is deployed after the suspension either";
                ("not deploying", so.to_string())
            }
            (None, None) => ("not deploying", "no push would be deployed".to_string()),
        };
        let commit = selected.map(|selected| &selected.commit);
        let verdict = self.verdict(word, format!("{why}, so {so}"));
        let verdict = verdict.about(commit.or(self.host.running_commit()));
        let units = self.inactive_units.join(" ");
        let cure = Cure::fix(format!("sudo systemctl start {units}"));
        Some(verdict.with_detail(detail).with_cures([cure]))
    }

    /// Nothing is known of any remote, or no branch qualifies. Takes the first problem for the reason.
    fn unselected<'a>(&'a self, problems: &mut VecDeque<Verdict<'a>>) -> Option<Verdict<'a>> {
        if !self.is_any_reached() {
            let mut errors = self.remotes.iter().filter_map(|it| it.error.as_deref());
            let Some(error) = errors.next() else {
                let cure = Cure::fix("sudo comin run");
                return Some(self.verdict("not fetched", NOT_FETCHED).with_cures([cure]));
            };
            let why = in_short(error);
            let is_common = errors.all(|it| in_short(it) == why);
            let cause = Cause::of(error).filter(|it| it.is_local() && is_common);
            if let Some(cause) = cause {
                let verdict = self.verdict("cannot fetch", format!("{cause}, so {UNREACHABLE}"));
                let cures = cures::of_cause(cause);
                return Some(verdict.with_detail(why).with_cures(cures));
            }
            let sentence = in_brackets(UNREACHABLE, Some(&*why).filter(|_| is_common));
            let verdict = self.verdict("unreachable", sentence);
            let verdict = verdict.with_detail(UNREACHABLE.to_string());
            return Some(verdict.with_cures([Cure::fix("sudo comin fetch")]));
        }
        if self.selected.is_some() {
            return None;
        }
        let missing = self.missing.as_deref().map(|it| {
            let missing = printable(it);
            let (fact, advice) = fact_and_advice(&missing);
            let verdict = Verdict::new(NOTHING_QUALIFIES, fact).with_detail(fact.to_string());
            verdict.with_cures(advice.map(Cure::advice))
        });
        let why = missing.or_else(|| {
            problems.front().filter(|it| it.grade != Grade::Noted)?;
            problems.pop_front()
        });
        // Not about the running commit: it would look as if that one did not qualify.
        let verdict = Verdict::new(NOTHING_QUALIFIES, NOTHING_QUALIFIES);
        Some(match why {
            Some(why) => verdict.and("; ", why),
            None => verdict,
        })
    }

    /// Another system runs or boots than comin last activated.
    fn drifted(&self, when: &dyn Fn(Timestamp) -> String) -> Option<Verdict<'_>> {
        let drift = self.host.seen.drift.as_ref()?;
        let kind = drift.kind;
        let other = self.host.other.as_ref().map(TargetView::to_string);
        let other = other.unwrap_or_else(|| "another system".to_string());
        let what = match kind {
            DriftKind::Activated => "runs, activated outside of comin",
            DriftKind::Booted => "runs since it was booted",
            DriftKind::BootsNext => "boots next, set outside of comin",
        };
        let is_deployed =
            |it: &&TargetView| self.action == Action::Nothing && self.host.skip(it).is_none();
        let deployed = self.selected.as_ref().filter(is_deployed);
        let place = deployed.map_or(String::new(), |it| format!(", in place of {it}"));
        let selected = self.selected.as_ref().filter(|_| !self.is_deploy_stopped());
        let end = selected.map_or(String::new(), |it| self.end_of_drift(drift, it, when));
        let selected = selected.filter(|_| self.suspension.is_none());
        let back = selected.and(deployed);
        let back = back.map(|it| Cure::return_to(&it.commit));
        let cures = back
            .into_iter()
            .chain(selected.map(|_| drift.cure_to_keep()));
        let verdict = Verdict::new(kind.word(), format!("{other} {what}{place}{end}"));
        let verdict = verdict.with_cures(cures);
        Some(match (kind, deployed) {
            (DriftKind::BootsNext, Some(it)) => {
                let boots = format!("the next boot does not start {}", it.commit.short());
                verdict.with_detail(boots)
            }
            (_, deployed) => {
                let verdict = verdict.about(deployed.map(|it| &it.commit));
                verdict.with_detail(kind.clause().to_string())
            }
        })
    }

    /// What replaces another system, as in "; the next push replaces it".
    fn end_of_drift(
        &self,
        drift: &Drift,
        selected: &TargetView,
        when: &dyn Fn(Timestamp) -> String,
    ) -> String {
        let healing = self.host.seen.healing.as_ref();
        let replaces = drift.is_ended_by(selected.operation);
        let what = match healing.and_then(|it| it.at) {
            Some(at) => format!("comin replaces it {}", when(at)),
            None if self.action.goes_on() && replaces => {
                return format!(", until {} replaces it", selected.commit.short());
            }
            None if self.action.goes_on() || matches!(self.action, Action::Suspended(_)) => {
                return String::new();
            }
            None if healing.is_some_and(|it| it.refused.as_deref() == Some(SUSPENDED)) => {
                "comin replaces it after the suspension".to_string()
            }
            None if self.suspension.is_some() => {
                "the first push after the suspension replaces it".to_string()
            }
            None if drift.is_chosen_at_boot => "the next push or reboot replaces it".to_string(),
            None => "the next push replaces it".to_string(),
        };
        format!("; {what}")
    }

    /// What was deployed does not run.
    fn absent(&self) -> Option<Verdict<'_>> {
        let selected = self.selected.as_ref();
        let selected = selected.filter(|_| self.action == Action::Nothing)?;
        let absence = self.host.absence(selected)?;
        let runs = self.what_runs(selected).unwrap_or_default();
        let sentence = format!("{selected} {}{runs}", absence.clause());
        let verdict = Verdict::new(absence.word(), sentence).about(Some(&selected.commit));
        Some(verdict.with_cures([absence.cure()]))
    }

    /// The remotes whose latest fetch is too long ago, although their units are active.
    fn late(&self, page: &Page) -> Vec<Verdict<'_>> {
        let remotes = self
            .remotes
            .iter()
            .filter(|_| self.inactive_units.is_empty());
        let late = remotes.filter_map(|remote| {
            let [why, detail] = remote.lateness(page)?;
            let cure = Cure::look(format!("systemctl status comin-{}.timer", remote.name));
            let sentence = format!("{why}, so pushes may be missed");
            let verdict = self.verdict("not polled", sentence);
            Some(verdict.with_detail(detail).with_cures([cure]))
        });
        late.collect()
    }

    /// It runs what was pushed. Takes the first problem into the sentence.
    fn well<'a>(&'a self, problems: &mut VecDeque<Verdict<'a>>) -> Verdict<'a> {
        let testing = self.selected.as_ref().filter(|selected| selected.testing);
        let (word, well) = match testing {
            Some(selected) => ("testing", format!("up to date, testing {selected}")),
            None => ("up to date", "up to date".to_string()),
        };
        let verdict = self.verdict(word, well);
        let grades = problems.iter().map(|it| it.grade);
        let worst = grades.max_by_key(|it| it.code());
        match (problems.pop_front(), worst) {
            (Some(first), Some(worst)) => verdict.and(", but ", first).graded(worst),
            _ => verdict,
        }
    }

    /// What is wrong beside what is selected: remotes, branches, the clock, and that a reboot is needed.
    fn problems(&self, page: &Page) -> VecDeque<Verdict<'_>> {
        // That none can be fetched is said once.
        let is_known = |remote: &&RemoteStatus| self.is_any_reached() || remote.error.is_none();
        let remotes = self.remotes.iter().filter(is_known);
        let mut problems: VecDeque<_> = remotes.flat_map(RemoteStatus::problems).collect();
        if let Some((id, began)) = self.host.seen.clock_doubt {
            let clock = Cause::WrongClock.to_string();
            let [began, now] = [began, page.now].map(|time| page.at(time));
            let began = format!("it says {now}, and attempt {id} was under way at {began}");
            let doubt = self.verdict("up to date", in_brackets(&clock, Some(&began)));
            let doubt = doubt.graded(Grade::Noted).with_detail(clock);
            problems.push_back(doubt.with_cures(cures::of_cause(Cause::WrongClock)));
        }
        let drift = self.host.seen.drift.as_ref().map(|drift| drift.kind);
        // What boots next is told with the drift.
        let booting = matches!(drift, Some(DriftKind::BootsNext | DriftKind::Booted));
        let waits = self
            .absent()
            .is_some_and(|it| it.state() == "waits_for_reboot");
        if self.host.need_to_reboot && !booting && !waits {
            let needed = "a reboot is needed";
            let why = self.host.seen.reboot_reasons.join(", ");
            let reboot = self.verdict("up to date", in_brackets(needed, Some(&printable(&why))));
            let reboot = reboot.graded(Grade::Noted).with_detail(needed.to_string());
            problems.push_back(reboot.with_cures([Cure::reboot()]));
        }
        problems
    }

    /// Whether the heads of a remote are known.
    pub(super) fn is_any_reached(&self) -> bool {
        self.remotes.iter().any(RemoteStatus::is_reached)
    }

    /// Whether a request to deploy is left alone.
    pub(super) fn is_deploy_stopped(&self) -> bool {
        self.inactive_units
            .iter()
            .any(|unit| unit == timers::DEPLOYS)
    }
}
