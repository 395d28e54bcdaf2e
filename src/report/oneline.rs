//! The status in one short line, as for a status bar. It tells no time that goes by: it stays the same as
//! long as nothing happens.

use super::headline::Verdict;
use super::page::Page;
use super::status::Status;

impl Status {
    /// As in `up to date 3f2a9c1e: a reboot is needed`: what is up, the commit that it is about, and a
    /// problem if there is one.
    pub fn oneline(&self, page: &Page) -> String {
        let Verdict {
            word,
            detail,
            commit,
            ..
        } = self.lasting_verdict(page);
        let commit = commit.map_or(String::new(), |commit| format!(" {}", commit.short()));
        let problem = detail.or_else(|| self.problem());
        let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
        format!("{word}{commit}{problem}")
    }

    /// The exit code of `comin status --check`.
    pub fn exit_code(&self, page: &Page) -> u8 {
        self.lasting_verdict(page).code
    }

    /// The word of the line, as the JSON has it.
    pub(super) fn state(&self, page: &Page) -> String {
        let word = self.lasting_verdict(page).word.replace(' ', "_");
        word.to_lowercase()
    }

    fn lasting_verdict(&self, page: &Page) -> Verdict<'_> {
        self.verdict(page, &|time| format!("at {}", page.at(time)))
    }
}
