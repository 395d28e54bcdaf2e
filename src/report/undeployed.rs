//! Why what was selected is not deployed: what became of it before, what it waits for, and what a person can do.

use jiff::Timestamp;

use super::verdict::{Grade, Verdict};
use super::{cures, page::Page, status::Status, target::TargetView};
use crate::model::{drift::DriftKind, Action, Cure, Hindrance, Trouble};
use crate::sys::diagnosis::{in_short, Cause};
use crate::sys::text::{in_brackets, printable};

/// What became of a target before.
struct Past {
    trouble: Trouble,
    /// Whether its system runs all the same.
    is_kept: bool,
    /// As in "failed while building at 14:00 (out of paper)".
    sentence: String,
    /// As in "while building (out of paper)".
    detail: String,
    /// How to look into it.
    cures: Vec<Cure>,
}

impl Status {
    /// What was selected is not deployed.
    pub(super) fn undeployed(
        &self,
        page: &Page,
        when: &dyn Fn(Timestamp) -> String,
    ) -> Option<Verdict<'_>> {
        let selected = self.selected.as_ref();
        let selected = selected.filter(|_| self.host.in_progress.is_none())?;
        let about = |word: &str, what: &str| {
            let verdict = Verdict::new(word, format!("{selected} {what}"));
            verdict.about(Some(&selected.commit))
        };
        let past = self.past(selected, page);
        // What keeps it from going on is said by another verdict.
        let is_stuck = self.is_deploy_stopped() && self.action.goes_on();
        if is_stuck || matches!(self.action, Action::Suspended(_)) {
            let past = past?;
            let verdict = about(past.trouble.word(), &past.sentence);
            return Some(verdict.with_detail(past.detail).with_cures(past.cures));
        }
        if self.action == Action::Deploy {
            let Some(past) = past else {
                return Some(about("due", "is about to be deployed"));
            };
            let runs = self.what_runs_after(past.trouble, selected);
            let what = format!("{}, and is about to be tried again{runs}", past.sentence);
            return Some(about("due", &what).with_detail(past.trouble.to_string()));
        }
        let Some(hindrance) = self.action.hindrance(when) else {
            // Another try would find the same.
            let skip = self.host.skip(selected)?;
            let verdict = about("skipped", &skip.clause(page)).with_cures(skip.cure());
            return Some(verdict.with_detail(skip.reason));
        };
        let is_by_checks =
            matches!(&self.action, Action::Quarantined(it) if !it.by_gate && !it.by_hand);
        let is_told = hindrance.trouble.is_some() || is_by_checks;
        let Some(past) = past.filter(|_| is_told) else {
            let (what, detail) = self.waits(selected, &hindrance, page, when);
            let verdict = about(hindrance.word, &what).with_detail(detail);
            let verdict = verdict.with_cures(self.cures_for(selected));
            return Some(match &self.action {
                Action::AwaitPrebuilt(it) if it.problem.is_some() => verdict.graded(Grade::Warned),
                _ => verdict,
            });
        };
        let (what, detail) = if past.is_kept {
            let next = "comin keeps it, and tries nothing until someone pushes";
            let what = format!("{}; {next}", past.sentence);
            (what, format!("{}, not tried again", past.detail))
        } else {
            let (next, runs) = (
                hindrance.next(),
                self.what_runs_after(past.trouble, selected),
            );
            let what = format!("{}, and {next}{runs}", past.sentence);
            (what, format!("{}, {}", past.detail, hindrance.next.1))
        };
        let back = past.is_kept.then(Cure::roll_back);
        let cures = past
            .cures
            .into_iter()
            .chain(self.cures_for(selected))
            .chain(back);
        let verdict = about(past.trouble.word(), &what).with_detail(detail);
        Some(verdict.with_cures(cures))
    }

    /// What a person can do about what is in the way of a target.
    fn cures_for(&self, target: &TargetView) -> Vec<Cure> {
        cures::of_action(&self.action, target, self.host.seen.drift.as_ref())
    }

    /// What a target waits for: for the status, and for the short line.
    fn waits(
        &self,
        target: &TargetView,
        hindrance: &Hindrance,
        page: &Page,
        when: &dyn Fn(Timestamp) -> String,
    ) -> (String, String) {
        let reason = hindrance.reason.map(printable);
        let (next, reason) = (hindrance.next(), reason.as_deref());
        let sentence = match &self.action {
            Action::Quarantined(held) if held.by_hand => {
                let runs = self.what_runs(target).unwrap_or_default();
                let held = in_brackets("is held", reason);
                let sentence = format!("{held}{runs}, and the next push is deployed");
                return (sentence, reason.unwrap_or_default().to_string());
            }
            Action::Quarantined(_) => {
                let reason = reason.unwrap_or_default();
                return (format!("{next}: {reason}"), reason.to_string());
            }
            Action::AwaitGate(closed) => {
                let again = closed.again.map(|wait| when(wait.until));
                let again = again.map(|again| format!(", and is tried again {again}"));
                in_brackets(&next, reason) + &again.unwrap_or_default()
            }
            Action::AwaitPrebuilt(lookup) => {
                let since = format!("since {}", page.at(lookup.since));
                let problem = reason.map_or(String::new(), |it| format!(", but {it}"));
                let detail = format!("{since}{}{problem}", lookup.until(when));
                let evaluated = lookup.patience.map(|wait| when(wait.until));
                let evaluated = evaluated.map(|at| format!("; it is evaluated here {at}"));
                let evaluated = evaluated.unwrap_or_default();
                return (format!("waits for CI {since}{problem}{evaluated}"), detail);
            }
            _ => in_brackets(&next, reason),
        };
        (sentence, in_brackets(&hindrance.next.1, reason))
    }

    /// What became of a target before, if it came to nothing.
    fn past(&self, target: &TargetView, page: &Page) -> Option<Past> {
        let left = self.host.left.as_ref();
        let left = left.filter(|left| left.attempt.target.commit == target.commit);
        let interrupted = left.map(|left| Trouble::Interrupted(left.stage));
        let latest = self.host.latest_at(target).filter(|_| left.is_none());
        let trouble = interrupted.or_else(|| latest?.trouble)?;
        let place = trouble.place().unwrap_or_default();
        let failed = matches!(trouble, Trouble::Failed(_) | Trouble::RolledBack);
        let is_explained = failed || trouble == Trouble::Postponed;
        let error = latest.and_then(|it| it.error.as_deref());
        let error = error.filter(|_| is_explained);
        let cause = error.and_then(Cause::of).filter(|cause| cause.is_local());
        let units = latest.map_or(&[][..], |it| &it.failed_units);
        let is_given_up = matches!(self.action, Action::GivenUp(_));
        let is_kept = is_given_up && trouble.may_have_changed() && self.runs(target);
        let units = Some(units).filter(|it| !it.is_empty() && is_kept);
        let (what, reason) = match units {
            Some(units) => {
                let units = printable(&units.join(", ")).into_owned();
                ("units failed".to_string(), Some(units))
            }
            None => (trouble.to_string(), error.map(in_short)),
        };
        let ended = latest.and_then(|it| it.ended_at);
        let at = ended.map_or(String::new(), |at| format!(" at {}", page.at(at)));
        let is_latest = left.is_some() || self.host.left.is_none();
        let at = match (trouble, self.host.interrupted_in_a_row) {
            (Trouble::Interrupted(_), times @ 2..) if is_latest => {
                format!("{at}, {times} times in a row")
            }
            (_, _) => at,
        };
        let cures = match (cause, units, latest) {
            (Some(cause), _, _) => cures::of_cause(cause),
            (None, Some(units), _) => cures::of_units(units),
            (None, None, Some(latest)) if failed => {
                vec![Cure::look(format!("comin history {}", latest.id))]
            }
            (None, None, _) if trouble != Trouble::Postponed => {
                vec![Cure::look("journalctl -u comin")]
            }
            (None, None, _) => Vec::new(),
        };
        let (what, short) = if is_kept {
            let what = format!("runs, but {what}");
            (what.clone(), what)
        } else {
            (what, place)
        };
        Some(Past {
            trouble,
            is_kept,
            sentence: in_brackets(&format!("{what}{at}"), reason.as_deref()),
            detail: in_brackets(&short, reason.as_deref()),
            cures,
        })
    }

    /// What runs after something that may have changed the machine, as in "; 3f2a9c1e (origin/main) runs".
    fn what_runs_after(&self, trouble: Trouble, target: &TargetView) -> String {
        let runs = self
            .what_runs(target)
            .filter(|_| trouble.may_have_changed());
        let part = runs.as_ref().filter(|_| self.runs(target));
        let part = part.map_or("", |_| ", perhaps only in part");
        runs.unwrap_or_default() + part
    }

    /// What runs, as in "; 3f2a9c1e (origin/main) runs".
    pub(super) fn what_runs(&self, target: &TargetView) -> Option<String> {
        // What somebody else has activated is told with that.
        let drift = self.host.seen.drift.as_ref().map(|drift| drift.kind);
        let is_told = matches!(drift, Some(DriftKind::Activated | DriftKind::Booted));
        let running = self.host.running.as_ref().filter(|_| !is_told)?;
        if self.runs(target) {
            return Some("; it runs".to_string());
        }
        Some(format!("; {} runs", running.name()))
    }
}
