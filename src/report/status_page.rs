//! The status as a page.

use super::attempt::Attempt;
use super::blocker;
use super::headline::Headline;
use super::page::{Page, Tone};
use super::status::Status;
use super::target::{Chosen, Report};
use crate::model::decision::Action;
use crate::model::suspension::Suspension;
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
        let is_it = |attempt: &&Attempt| attempt.target.commit == selected.commit;
        let under_way = self.standing.under_way.as_ref().map(|it| &it.attempt);
        let latest = under_way
            .or(self.standing.waiting.as_ref())
            .or(self.standing.deployed.as_ref())
            .filter(is_it);
        let is_told = self.runs(selected) && latest.is_none_or(Attempt::is_done);
        if !is_told {
            let story = latest.map(|latest| latest.story(page));
            lines.push(story.unwrap_or_else(|| selected.subject().into_owned()));
        }
        let is_told = latest.is_some_and(|latest| latest.error.is_some());
        lines.extend(match &self.action {
            // Why, has an entry of its own.
            Action::Suspended(_) => Some("it waits for the end of the suspension".to_string()),
            Action::Nothing if matches!(Headline::of(self), Headline::Replaced(_)) => {
                Some("comin retry deploys it again".to_string())
            }
            action => blocker::clause(action, !is_told, page),
        });
        Some(lines.join("\n"))
    }

    /// Why that is what the machine should run.
    fn why(&self, selected: &Chosen) -> String {
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
        if self.standing.under_way.is_some() {
            return None;
        }
        let latest = self.standing.deployed.as_ref()?;
        let is_selected = |selected: &Chosen| selected.commit == latest.target.commit;
        if latest.is_done() || self.selected.as_ref().is_some_and(is_selected) {
            return None;
        }
        let target = &latest.target;
        Some(format!(
            "{target} by {}\n{}",
            target.operation,
            latest.story(page)
        ))
    }
}

impl Report for Status {
    fn text(&self, page: &Page) -> String {
        let name = page.paint(Tone::Name, &self.hostname);
        let (tone, verdict) = self.verdict(page);
        let verdict = page.paint(tone, &verdict);
        let mut text = page.wrapped(&format!("{name}: "), 2, &verdict);
        let mut entry = |label: &str, sentence: Option<String>| {
            let sentence = sentence.unwrap_or_default();
            text += &page.entry(label, &sentence);
        };
        let standing = &self.standing;
        entry("running", self.running.as_ref().map(|it| it.sentence(page)));
        entry("selected", self.about_selected(page));
        let progress = self.standing.progress.as_ref();
        let progress = progress.map(|steps| steps.at(page.now)).unwrap_or_default();
        entry("progress", Some(page.paint(Tone::Busy, &progress)));
        entry("latest", self.about_latest(page));
        let suspension = self.suspension.as_ref();
        entry("suspended", suspension.map(|it| about_suspension(it, page)));
        let booted = standing.booted_instead.as_ref().map(|booted| {
            let booted = printable(booted);
            format!("{booted}, and not what was deployed last; comin retry deploys that again")
        });
        entry(
            "booted",
            booted.map(|text| page.paint(Tone::Notable, &text)),
        );
        let reboot = standing.need_to_reboot.then(|| {
            let why = standing.reboot_reasons.join(", ");
            format!("needed: {}", printable(&why))
        });
        entry(
            "reboot",
            reboot.map(|text| page.paint(Tone::Notable, &text)),
        );
        for remote in &self.remotes {
            text += &remote.text(page);
        }
        text
    }
}

fn about_suspension(suspension: &Suspension, page: &Page) -> String {
    let since = page.at(suspension.since);
    let reason = printable(suspension.reason.as_deref().unwrap_or_default());
    format!("since {since}; comin resume ends it\n{reason}")
}
