//! An attempt: what was deployed, and how that went.

use jiff::Timestamp;
use serde::Serialize;

use super::page::{took, Page, Tone};
use super::{seconds, target::TargetView};
use crate::model::{
    outcome::words, Attempt, AttemptStatus, Backoff, NextTry, Progress, Stage, Trouble,
};
use crate::sys::text::printable;

/// An attempt.
#[derive(Debug, Serialize)]
pub struct AttemptView {
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) target: TargetView,
    pub(super) out: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) status: AttemptStatus,
    pub(super) error: Option<String>,
    #[serde(serialize_with = "seconds::time")]
    pub(super) started_at: Timestamp,
    #[serde(serialize_with = "seconds::optional")]
    pub(super) ended_at: Option<Timestamp>,
    #[serde(serialize_with = "seconds::optional")]
    pub(super) retry_at: Option<Timestamp>,
    pub(super) stages: Vec<Entered>,
    /// Whether it only activated again what comin had activated, because of a drift.
    pub(super) healed: bool,
    /// Who ordered by `comin keep` that its system boots next, if it is for that.
    pub(super) kept_by: Option<String>,
    /// How it went wrong, if it did.
    #[serde(skip)]
    pub(super) trouble: Option<Trouble>,
    /// The units that its activation made fail.
    #[serde(skip)]
    pub(super) failed_units: Vec<String>,
    /// Whether it has not ended, and nobody is at work at it any more.
    #[serde(skip)]
    pub(super) is_left: bool,
}

/// A stage of it; the last one of an attempt that is under way has no end yet.
#[derive(Debug, Serialize)]
pub(super) struct Entered {
    pub(super) stage: Stage,
    #[serde(serialize_with = "seconds::time")]
    pub(super) started_at: Timestamp,
    #[serde(serialize_with = "seconds::optional")]
    pub(super) ended_at: Option<Timestamp>,
}

impl AttemptView {
    /// Tells of one.
    pub fn of(attempt: &Attempt, backoff: Backoff) -> Self {
        let ended = attempt.ended();
        let (status, error, generation) = match &attempt.progress {
            Progress::Running(_) => (AttemptStatus::Running, None, None),
            Progress::Awaiting(_) => (AttemptStatus::Waiting, None, None),
            Progress::Ended(_, outcome) => words(outcome),
        };
        let ends = attempt.stages.iter().skip(1).map(|next| Some(next.at));
        let ends = ends.chain([ended.map(|(at, _)| at)]);
        let stages = attempt.stages.iter().zip(ends);
        let stages = stages.map(|(entered, ended_at)| Entered {
            stage: entered.stage,
            started_at: entered.at,
            ended_at,
        });
        Self {
            id: attempt.id,
            target: TargetView::of(attempt),
            out: attempt.out.as_ref().map(|out| out.display().to_string()),
            generation,
            status,
            error,
            started_at: attempt.started_at,
            ended_at: ended.map(|(at, _)| at),
            retry_at: match attempt.again(backoff) {
                NextTry::At(wait) => Some(wait.until),
                NextTry::None | NextTry::OnNewCommit | NextTry::WhenReachable(_) => None,
            },
            stages: stages.collect(),
            healed: attempt.heals(),
            kept_by: attempt
                .reactivation
                .as_ref()
                .and_then(|it| it.kept_by.clone()),
            trouble: attempt.trouble(),
            failed_units: attempt
                .units
                .as_ref()
                .map_or_else(Vec::new, |it| it.failed.clone()),
            is_left: false,
        }
    }

    /// The same; `at_work` is whether a deploy is at work at what is under way.
    pub(super) fn knowing(self, at_work: bool) -> Self {
        let is_left = self.status == AttemptStatus::Running && !at_work;
        Self { is_left, ..self }
    }

    /// How it came, as in ", kept by me"; nothing if its commit was selected.
    pub(super) fn origin(&self) -> String {
        match &self.kept_by {
            Some(by) => format!(", kept by {}", printable(by)),
            None if self.healed => ", healed".to_string(),
            None => String::new(),
        }
    }

    /// How it went, as a person says it and in colour; `width` wide at least.
    pub(super) fn status_label(&self, width: usize, page: &Page) -> String {
        if self.is_left {
            return page.paint(Tone::Notable, &format!("{:<width$}", "interrupted"));
        }
        let tone = tone(self.status);
        page.paint(tone, &format!("{:<width$}", self.status.words()))
    }

    /// What became of it, in lines: its subject, and how it went.
    pub(super) fn summary(&self, page: &Page) -> String {
        let mut lines = vec![self.target.subject().into_owned()];
        let went = match (self.status, self.ended_at) {
            (AttemptStatus::Running | AttemptStatus::Waiting, _) | (_, None) => {
                page.paint(Tone::Busy, &self.stages(page))
            }
            (AttemptStatus::Done, Some(at)) => format!("deployed {}", page.ago(at)),
            (status, Some(at)) => {
                let error = printable(self.error.as_deref().unwrap_or_default());
                let went = format!("{} {}: {error}", status.words(), page.ago(at));
                page.paint(tone(status), &went)
            }
        };
        lines.push(went);
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    pub(super) fn is_done(&self) -> bool {
        self.status == AttemptStatus::Done
    }

    /// Its stages until now, as in "evaluated in 4 s, building for 12 s"; nothing where it is in the first.
    fn stages(&self, page: &Page) -> String {
        if self.stages.len() < 2 {
            return String::new();
        }
        let stages = self.stages.iter().map(|entered| match entered.ended_at {
            Some(end) => format!(
                "{} in {}",
                entered.stage.past(),
                took(entered.started_at, end)
            ),
            None => format!(
                "{} for {}",
                entered.stage.words(),
                page.since(entered.started_at)
            ),
        });
        stages.collect::<Vec<_>>().join(", ")
    }
}

/// What a status means to a person.
pub(super) fn tone(status: AttemptStatus) -> Tone {
    match status {
        AttemptStatus::Running => Tone::Busy,
        AttemptStatus::Done => Tone::Good,
        AttemptStatus::Failed | AttemptStatus::RolledBack => Tone::Bad,
        AttemptStatus::Waiting | AttemptStatus::Skipped => Tone::Notable,
    }
}
