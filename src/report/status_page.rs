//! The status as a page.

use super::page::{Page, Tone};
use super::target::{Report, TargetView};
use super::{attempt::AttemptView, host_state::HealingView, status::Status};
use crate::model::{Action, Drift};
use crate::sys::text::printable;

impl Status {
    /// What is selected, why, and what became of it until now.
    fn about_selected(&self, page: &Page) -> Option<String> {
        let selected = self.selected.as_ref()?;
        // What runs of a testing branch may have to be activated in another way.
        let name = if self.runs(selected) && self.action == Action::Nothing {
            "the same".to_string()
        } else {
            format!("{selected} by {}", selected.operation)
        };
        let mut lines = vec![format!("{name}: {}", self.why(selected))];
        let signer = selected.signer.as_deref();
        lines.extend(signer.map(|signer| format!("signed by {}", printable(signer))));
        let is_it = |attempt: &&AttemptView| attempt.target.commit == selected.commit;
        let in_progress = self.host.in_progress.as_ref().map(|it| &it.attempt);
        let latest = in_progress
            .or(self.host.waiting.as_ref())
            .or(self.host.deployed.as_ref())
            .filter(is_it);
        let is_told = self.runs(selected) && latest.is_none_or(AttemptView::is_done);
        if !is_told {
            let story = latest.map(|latest| latest.summary(page));
            lines.push(story.unwrap_or_else(|| selected.subject().into_owned()));
        }
        Some(lines.join("\n"))
    }

    /// Why that is what the machine should run.
    fn why(&self, selected: &TargetView) -> String {
        if selected.testing {
            return format!("a testing branch on top of main {}", selected.main.short());
        }
        let why = match &self.accepted_main {
            None => "it is the first main",
            Some(accepted) if *accepted == selected.commit => "it is the accepted main",
            Some(_) => "it is ahead of the accepted main",
        };
        why.to_string()
    }

    /// What has gone wrong lately with something that is not selected any more, unless the next is under way.
    fn about_latest(&self, page: &Page) -> Option<String> {
        if self.host.in_progress.is_some() {
            return None;
        }
        let latest = self.host.deployed.as_ref()?;
        let is_selected = |selected: &TargetView| selected.commit == latest.target.commit;
        if latest.is_done() || self.selected.as_ref().is_some_and(is_selected) {
            return None;
        }
        let target = &latest.target;
        Some(format!(
            "{target} by {}\n{}",
            target.operation,
            latest.summary(page)
        ))
    }
}

impl Report for Status {
    fn text(&self, page: &Page) -> String {
        let name = page.paint(Tone::Name, &self.hostname);
        let (verdict, others) = self.verdicts(page, &|time| page.until(time));
        let sentence = page.paint(verdict.grade.tone(), &verdict.sentence);
        let mut text = page.wrapped(&format!("{name}: "), 2, &sentence);
        let mut known = verdict.cures;
        for cure in &known {
            text += &page.wrapped("  ", 2, &cure.to_string());
        }
        let mut problems = Vec::new();
        for other in others {
            let mut lines = vec![page.paint(other.grade.tone(), &other.sentence)];
            let cures = other.cures.into_iter().filter(|it| !known.contains(it));
            let cures: Vec<_> = cures.collect();
            lines.extend(cures.iter().map(ToString::to_string));
            known.extend(cures);
            problems.push(lines.join("\n"));
        }
        let mut entry = |label: &str, sentence: Option<String>| {
            let sentence = sentence.unwrap_or_default();
            text += &page.entry(label, &sentence);
        };
        let host = &self.host;
        entry("running", host.running.as_ref().map(|it| it.sentence(page)));
        for problem in problems {
            entry("also", Some(problem));
        }
        entry("wanted", self.about_selected(page));
        let progress = self.host.seen.progress.as_ref();
        let progress = progress.map(|steps| steps.at(page.now)).unwrap_or_default();
        entry("progress", Some(page.paint(Tone::Busy, &progress)));
        entry("latest", self.about_latest(page));
        let suspension = self.suspension.as_ref();
        let since = suspension.map(|it| format!("since {}", page.ago(it.since)));
        entry("suspended", since);
        let notable = |text: String| page.paint(Tone::Notable, &text);
        let drift = host
            .seen
            .drift
            .as_ref()
            .map(|it| about_drift(it, host.seen.healing.as_ref(), page));
        entry("drift", drift.map(notable));
        let is_due = host.seen.boot_check_due;
        let boot = is_due.then(|| "first of this system, and not checked yet".to_string());
        entry("boot", boot.map(notable));
        let reboot = host.need_to_reboot.then(|| {
            let why = host.seen.reboot_reasons.join(", ");
            let gate = host.seen.reboot_gate.as_ref();
            let gate = gate.map_or(String::new(), |gate| format!("; {gate}"));
            format!("needed: {}{gate}", printable(&why))
        });
        entry("reboot", reboot.map(notable));
        for remote in &self.remotes {
            text += &remote.text(page);
        }
        text
    }
}

/// As in "another system was activated (since 14:02): /nix/store/…".
fn about_drift(drift: &Drift, healing: Option<&HealingView>, page: &Page) -> String {
    let since = drift.since;
    let since = since.map_or(String::new(), |since| {
        format!(" (since {})", page.at(since))
    });
    let out = drift.out.display().to_string();
    let healing = healing.map(|it| format!("\n{}", it.clause(&|at| page.until(at))));
    let healing = healing.unwrap_or_default();
    format!(
        "{}{since}: {}{healing}",
        drift.kind.clause(),
        printable(&out)
    )
}
