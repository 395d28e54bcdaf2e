//! The system that runs.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::target::{or_nulls, TargetView};
use super::{page::Page, seconds};
use crate::model::{Attempt, State};
use crate::sys::text::printable;

/// The system that runs.
#[derive(Debug, Serialize)]
pub struct Running {
    pub(super) out: String,
    /// The commit that it was activated from; `None` if that was not comin.
    #[serde(flatten, serialize_with = "or_nulls")]
    pub(super) target: Option<TargetView>,
    generation: Option<u64>,
    #[serde(serialize_with = "seconds::optional")]
    since: Option<Timestamp>,
}

impl Running {
    /// Tells which attempt brought a system, whether or not that attempt ended well.
    pub fn new(out: &Path, state: &State) -> Self {
        let is_it = |attempt: &&Attempt| {
            let activated = attempt.is_done() || attempt.changed_the_machine();
            activated && attempt.out.as_deref() == Some(out)
        };
        let by = state.attempts.iter().rfind(is_it);
        let done = by.filter(|by| by.is_done());
        Self {
            out: out.display().to_string(),
            target: by.map(TargetView::of),
            generation: by.and_then(Attempt::generation),
            since: done.and_then(Attempt::ended).map(|(at, _)| at),
        }
    }

    /// As in `3f2a9c1e (origin/main)`.
    pub(super) fn name(&self) -> String {
        let commit = self.target.as_ref().map(TargetView::to_string);
        commit.unwrap_or_else(|| "a system that comin has not deployed".to_string())
    }

    /// What of it there is to say, in a line or two.
    pub(super) fn sentence(&self, page: &Page) -> String {
        let Some(target) = &self.target else {
            return format!("{}, which comin has not deployed", printable(&self.out));
        };
        let since = self.since;
        let since = since.map_or(String::new(), |at| format!(", deployed {}", page.ago(at)));
        let generation = self.generation;
        let generation = generation.map_or(String::new(), |n| format!(", generation {n}"));
        format!("{target}{generation}{since}\n{}", target.subject())
    }
}
