//! The status in one short line, as for a status bar. It tells no time that goes by: it stays the same as
//! long as nothing happens.

use super::page::Page;
use super::status::Status;
use super::verdict::Verdict;

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

    fn lasting_verdicts(&self, page: &Page) -> (Verdict<'_>, Vec<Verdict<'_>>) {
        self.verdicts(page, &|time| format!("at {}", page.at(time)))
    }
}
