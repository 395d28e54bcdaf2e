//! All attempts that are remembered.

use serde::Serialize;

use super::page::{took, Page, Tone};
use super::{attempt::AttemptView, target::Report};
use crate::model::{Attempt, Backoff, ManualRollback, State};
use crate::sys::text::printable;

/// The attempts, the latest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct HistoryView(Vec<Entry>);

/// An attempt, and how the operator went back after it.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    attempt: AttemptView,
    /// The latest last.
    manual_rollbacks: Vec<ManualRollback>,
}

/// The rollbacks by hand after an attempt and before the next one; the latest last.
pub(super) fn rollbacks_after(attempt: &Attempt, state: &State) -> Vec<ManualRollback> {
    let rollbacks = state.rollbacks.iter().filter(|it| it.after == attempt.id);
    rollbacks.cloned().collect()
}

impl HistoryView {
    /// Tells the attempts of a state; `at_work` is whether a deploy is at work.
    pub fn new(state: &State, backoff: Backoff, at_work: bool) -> Self {
        let attempts = state.attempts.iter().rev();
        let entry = |attempt: &Attempt| Entry {
            attempt: AttemptView::of(attempt, backoff).knowing(at_work),
            manual_rollbacks: rollbacks_after(attempt, state),
        };
        Self(attempts.map(entry).collect())
    }
}

impl Report for HistoryView {
    fn text(&self, page: &Page) -> String {
        if self.0.is_empty() {
            return "Nothing has been deployed yet".to_string();
        }
        let mut text = String::new();
        for Entry {
            attempt,
            manual_rollbacks,
        } in &self.0
        {
            for ManualRollback {
                at, generation, by, ..
            } in manual_rollbacks.iter().rev()
            {
                let line = format!(
                    "rolled back to generation {generation} by {}, {}",
                    printable(by),
                    page.at(*at)
                );
                text += &page.wrapped("      ", 6, &page.paint(Tone::Notable, &line));
            }
            let time = attempt.ended_at.map_or(String::new(), |end| {
                format!(", {}", took(attempt.started_at, end))
            });
            let generation = attempt.generation.map_or(String::new(), |generation| {
                format!(", generation {generation}")
            });
            let line = format!(
                "{} by {}{}{generation}, {}{time}",
                attempt.target,
                attempt.target.operation,
                attempt.origin(),
                page.at(attempt.started_at),
            );
            let status = attempt.status_label(11, page);
            let first = format!("{:>4}  {status}  ", attempt.id);
            text += &page.wrapped(&first, 6, &line);
            text += &page.wrapped("      ", 6, &attempt.target.subject());
            if let Some(error) = &attempt.error {
                text += &page.wrapped("      ", 6, &printable(error));
            }
        }
        text
    }
}
