//! Attempts: how each went, and all of them as a history.

use std::fmt::{self, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::text::{at, length, wrapped};
use super::Chosen;
use crate::again::Again;
use crate::config::Backoff;
use crate::cycle::Machine;
use crate::journal::printable;
use crate::state::{self, Outcome, State};

/// An attempt.
#[derive(Debug, Serialize)]
pub struct Attempt {
    id: u64,
    #[serde(flatten)]
    pub(super) target: Chosen,
    pub(super) subject: String,
    out: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) status: &'static str,
    pub(super) error: Option<String>,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    stages: Vec<Stage>,
}

#[derive(Debug, Serialize)]
struct Stage {
    stage: &'static str,
    started_at: Timestamp,
}

impl Attempt {
    /// Tells of one.
    #[must_use]
    pub fn of(attempt: &state::Attempt, backoff: Backoff) -> Self {
        let ended = attempt.ended();
        let (status, error, generation) = ended.map_or(("running", None, None), |(_, o)| words(o));
        let stages = attempt.stages.iter().map(|entered| Stage {
            stage: entered.stage.name(),
            started_at: entered.at,
        });
        Self {
            id: attempt.id,
            target: Chosen {
                operation: attempt.operation(),
                ..Chosen::from(&attempt.target)
            },
            subject: attempt.subject.clone(),
            out: attempt.out.as_ref().map(|out| out.display().to_string()),
            generation,
            status,
            error,
            started_at: attempt.started_at,
            ended_at: ended.map(|(at, _)| at),
            retry_at: match attempt.again(backoff) {
                Again::After(wait) => Some(wait.until),
                Again::Done | Again::Never | Again::WhenBack(_) => None,
            },
            stages: stages.collect(),
        }
    }

    /// When it ended, and how long it took.
    #[must_use]
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.started_at, self.ended_at?))
    }

    /// Its commit and its status.
    #[must_use]
    pub fn result(&self) -> (&crate::commit::Commit, &'static str) {
        (&self.target.commit, self.status)
    }
}

/// An outcome as the reports have it: status, error, generation.
#[must_use]
pub fn words(outcome: &Outcome) -> (&'static str, Option<String>, Option<u64>) {
    match outcome {
        Outcome::Done { generation } => ("done", None, *generation),
        Outcome::Failed { error, .. } | Outcome::Postponed { error } => {
            ("failed", Some(error.clone()), None)
        }
        Outcome::RolledBack { error, .. } => ("rolled_back", Some(error.clone()), None),
        Outcome::Preempted { stage } => (
            "skipped",
            Some(format!("stopped while {}", stage.words())),
            None,
        ),
        Outcome::Interrupted { stage } => (
            "failed",
            Some(format!("interrupted while {}", stage.words())),
            None,
        ),
        Outcome::Skipped { reason } => ("skipped", Some(reason.clone()), None),
    }
}

/// The attempts, the latest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct History(Vec<Attempt>);

impl History {
    /// Reads what the state remembers.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn of(machine: &Machine) -> Result<Self> {
        let state = State::read(&machine.paths)?;
        let attempts = state.attempts.iter().rev();
        let attempts = attempts.map(|attempt| Attempt::of(attempt, machine.config.retry));
        Ok(Self(attempts.collect()))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("Nothing has been deployed yet");
        }
        let now = Timestamp::now();
        let mut text = String::new();
        for attempt in &self.0 {
            let took = attempt.ended_at.map_or(String::new(), |end| {
                let seconds = end.duration_since(attempt.started_at).as_secs();
                format!(", {}", length(seconds))
            });
            let generation = attempt.generation.map_or(String::new(), |generation| {
                format!(", generation {generation}")
            });
            writeln!(
                text,
                "{:>4}  {:<11}  {} by {}{generation}, {}{took}",
                attempt.id,
                attempt.status,
                attempt.target,
                attempt.target.operation,
                at(attempt.started_at, now),
            )?;
            text += &wrapped("      ", 6, &printable(&attempt.subject));
            if let Some(error) = &attempt.error {
                text += &wrapped("      ", 6, &printable(error));
            }
        }
        f.write_str(text.trim_end())
    }
}
