//! The status as a page.

use super::status::Status;
use super::target::Report;
use super::text::{Page, Tone};
use crate::model::suspension::Suspension;
use crate::sys::text::printable;

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
