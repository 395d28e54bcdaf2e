//! The status in one short line, as for a status bar. It tells no time that goes by: it stays the same as
//! long as nothing happens.

use super::headline::Verdict;
use super::page::Page;
use super::status::Status;

impl Status {
    /// As in `up to date 3f2a9c1e: a reboot is needed`: what is up, the commit that it is about, and a problem if there is
    /// one, and how many more there are.
    pub fn oneline(&self, page: &Page) -> String {
        let (first, others) = self.lasting_verdicts(page);
        let mut others = others.into_iter();
        let commit = first
            .commit
            .map_or(String::new(), |commit| format!(" {}", commit.short()));
        let problem = first.detail.or_else(|| Some(others.next()?.sentence));
        let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
        let line = format!("{}{commit}{problem}", first.word);
        match others.len() {
            0 => line,
            more => format!("{line} (+{more} more)"),
        }
    }

    /// The exit code of `comin status --check`.
    pub fn exit_code(&self, page: &Page) -> u8 {
        self.lasting_verdicts(page).0.code
    }

    /// The word of the line, as the JSON has it.
    pub(super) fn state(&self, page: &Page) -> String {
        let word = self.lasting_verdicts(page).0.word.replace(' ', "_");
        word.to_lowercase()
    }

    fn lasting_verdicts(&self, page: &Page) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        self.verdicts(page, &|time| format!("at {}", page.at(time)))
    }
}
