//! The system that runs.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::page::Page;
use super::seconds;
use crate::model::attempt::Attempt;
use crate::model::commit::Commit;
use crate::model::names::Operation;
use crate::model::state::State;
use crate::sys::text::printable;

/// The system that runs.
#[derive(Debug, Serialize)]
pub struct Running {
    pub(super) out: String,
    /// The commit that it was activated from; `None` if that was not comin.
    pub(super) commit: Option<Commit>,
    pub(super) subject: Option<String>,
    pub(super) remote: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) operation: Option<Operation>,
    pub(super) generation: Option<u64>,
    #[serde(serialize_with = "seconds::optional")]
    pub(super) since: Option<Timestamp>,
}

impl Running {
    /// Tells which attempt brought a system, whether or not that attempt ended well.
    pub fn new(out: &Path, state: &State) -> Self {
        let is_it = |attempt: &&Attempt| {
            let activated = attempt.is_done() || attempt.changed_the_machine();
            activated && attempt.out.as_deref() == Some(out)
        };
        let by = state.attempts.iter().rfind(is_it);
        Self {
            out: out.display().to_string(),
            commit: by.map(|by| by.target.commit.clone()),
            subject: by.map(|by| by.subject.clone()),
            remote: by.map(|by| by.target.remote.to_string()),
            branch: by.map(|by| by.target.branch.clone()),
            operation: by.map(Attempt::operation),
            generation: by.and_then(Attempt::generation),
            since: by
                .filter(|by| by.is_done())
                .and_then(Attempt::ended)
                .map(|(at, _)| at),
        }
    }

    /// What of it there is to say, in a line or two.
    pub(super) fn sentence(&self, page: &Page) -> String {
        let (Some(commit), Some(remote), Some(branch)) = (&self.commit, &self.remote, &self.branch)
        else {
            return format!("{}, which comin has not deployed", printable(&self.out));
        };
        let since = self.since;
        let since = since.map_or(String::new(), |at| format!(", deployed {}", page.ago(at)));
        let generation = self.generation;
        let generation = generation.map_or(String::new(), |n| format!(", generation {n}"));
        let subject = printable(self.subject.as_deref().unwrap_or_default());
        format!(
            "{} ({remote}/{}){generation}{since}\n{subject}",
            commit.short(),
            printable(branch)
        )
    }
}
