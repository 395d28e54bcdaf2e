//! All attempts that are remembered.

use serde::Serialize;

use super::attempt::Attempt;
use super::page::{took, Page};
use super::target::Report;
use crate::model::policy::Backoff;
use crate::model::state::State;
use crate::sys::text::printable;

/// The attempts, the latest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct History(pub(super) Vec<Attempt>);

impl History {
    /// Tells the attempts of a state; `at_work` is whether a deploy is at work.
    pub fn told(state: &State, backoff: Backoff, at_work: bool) -> Self {
        let attempts = state.attempts.iter().rev();
        let tell = |attempt| Attempt::of(attempt, backoff).knowing(at_work);
        Self(attempts.map(tell).collect())
    }
}

impl Report for History {
    fn text(&self, page: &Page) -> String {
        if self.0.is_empty() {
            return "Nothing has been deployed yet".to_string();
        }
        let mut text = String::new();
        for attempt in &self.0 {
            let time = attempt.ended_at.map_or(String::new(), |end| {
                format!(", {}", took(attempt.started_at, end))
            });
            let generation = attempt.generation.map_or(String::new(), |generation| {
                format!(", generation {generation}")
            });
            let line = format!(
                "{} by {}{generation}, {}{time}",
                attempt.target,
                attempt.target.operation,
                page.at(attempt.started_at),
            );
            let status = attempt.went(11, page);
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
