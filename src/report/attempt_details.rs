//! One attempt, in full.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::attempt::{tone, AttemptView};
use super::page::{length, Page, Tone};
use super::{closure, history::rollbacks_after, target::Report};
use crate::model::{Attempt, AttemptStatus, Backoff, ManualRollback, NextTry, State, UnitChanges};
use crate::nix::closure_diff::ClosureDiff;
use crate::sys::text::printable;
use crate::system;

/// One attempt, in full.
#[derive(Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    attempt: AttemptView,
    tries: u32,
    derivation: Option<String>,
    inhibitors: Vec<String>,
    next: Option<String>,
    before: Option<PathBuf>,
    closure: Option<ClosureDiff>,
    units: Option<UnitChanges>,
    failure: Option<FailureView>,
    manual_rollbacks: Vec<ManualRollback>,
    #[serde(skip)]
    ran_already: bool,
}

/// What the tool said that failed, and where there is more.
#[derive(Debug, Serialize)]
struct FailureView {
    derivation: Option<String>,
    lines: Vec<String>,
    commands: Vec<String>,
}

impl FailureView {
    fn of(attempt: &Attempt) -> Option<Self> {
        let failure = attempt.failure.clone()?;
        let commands = whole_log(attempt).into_iter().map(|words| words.join(" "));
        Some(Self {
            derivation: failure.derivation,
            lines: failure.lines,
            commands: commands.collect(),
        })
    }
}

/// The commands that show the whole log of an attempt, the closest first.
pub fn whole_log(attempt: &Attempt) -> Vec<Vec<String>> {
    let derivation = attempt
        .failure
        .as_ref()
        .and_then(|it| it.derivation.clone());
    // Where `nix log` may be off, this is not.
    let nix = derivation.map(|it| vec!["nix-store".to_string(), "--read-log".to_string(), it]);
    let journal = vec![
        "journalctl".to_string(),
        format!("COMIN_ATTEMPT={}", attempt.id),
        format!("COMIN_COMMIT={}", attempt.target.commit),
    ];
    nix.into_iter().chain([journal]).collect()
}

impl Details {
    /// Tells of an attempt, and how its system differs from the one before; `at_work` is whether a deploy is at work.
    pub fn new(
        state: &State,
        attempt: &Attempt,
        backoff: Backoff,
        closure: Option<ClosureDiff>,
        at_work: bool,
    ) -> Self {
        let is_latest = state.latest().is_some_and(|latest| latest.id == attempt.id);
        let ran_already =
            attempt.is_done() && !attempt.stages.is_empty() && !attempt.changed_the_machine();
        Self {
            tries: attempt.tries,
            derivation: attempt.derivation.clone(),
            inhibitors: attempt.inhibitors.clone(),
            next: next(attempt, backoff).filter(|_| is_latest),
            before: attempt.before.system.clone(),
            closure,
            units: attempt.units.clone(),
            failure: FailureView::of(attempt),
            manual_rollbacks: rollbacks_after(attempt, state),
            ran_already,
            attempt: AttemptView::of(attempt, backoff).knowing(at_work),
        }
    }
}

/// The cure: what becomes of its target, if that is not done with.
fn next(attempt: &Attempt, backoff: Backoff) -> Option<String> {
    attempt.ended()?;
    let again = attempt.again(backoff);
    (again != NextTry::None).then(|| again.sentence())
}

/// As in "the history has 2, 104 to 202".
pub fn there_are(state: &State) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for attempt in &state.attempts {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(attempt.id) => *last = attempt.id,
            Some(_) | None => ranges.push((attempt.id, attempt.id)),
        }
    }
    if ranges.is_empty() {
        return "nothing has been deployed yet".to_string();
    }
    let range = |(first, last): &(u64, u64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        2.. => format!("{first} to {last}"),
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("the history has {}", ranges.join(", "))
}

impl Report for Details {
    fn text(&self, page: &Page) -> String {
        let attempt = &self.attempt;
        let target = &attempt.target;
        let mut text = self.headline(page);
        text += &page.entry("subject", &attempt.target.subject());
        text += &page.entry("commit", &target.commit.to_string());
        if let Some(signer) = &target.signer {
            text += &page.entry("signed", &format!("by {}", printable(signer)));
        }
        text += &page.entry("began", &self.began(page));
        text += &page.entry("stages", &self.stages(page));
        if let Some(error) = &attempt.error {
            let error = page.paint(tone(attempt.status), &printable(error));
            let is_skipped = attempt.status == AttemptStatus::Skipped;
            text += &page.entry(if is_skipped { "why" } else { "error" }, &error);
        }
        if let Some(failure) = &self.failure {
            let lines = printable_lines(&failure.lines);
            text += &page.entry("said", &page.paint(Tone::Aside, &lines));
            text += &page.entry("whole log", &printable_lines(&failure.commands));
        }
        if let Some(next) = &self.next {
            let again = attempt
                .retry_at
                .map(|at| format!("tried again {}", page.until(at)));
            text += &page.entry("next", again.as_deref().unwrap_or(&printable(next)));
        }
        if attempt.is_left {
            text += &page.entry(
                "next",
                "the next deploy finds out how it stands, and goes on from there",
            );
        }
        if !self.inhibitors.is_empty() {
            let why = system::inhibited_by(&self.inhibitors);
            text += &page.entry("reboot", &page.paint(Tone::Notable, &printable(&why)));
        }
        if let Some(out) = &attempt.out {
            text += &page.entry("system", &printable(&self.result(out)));
        }
        if let Some(before) = &self.before {
            text += &page.entry("before", &printable(&before.display().to_string()));
        }
        if let Some(closure) = &self.closure {
            text += &closure::entry(closure, page);
        }
        if let Some(units) = &self.units {
            text += &page.entry("units", &about_units(units, page));
        }
        text
    }
}

impl Details {
    fn headline(&self, page: &Page) -> String {
        let AttemptView { id, target, .. } = &self.attempt;
        let status = self.attempt.status_label(0, page);
        let (operation, origin) = (target.operation, self.attempt.origin());
        let line = format!("Attempt {id}: {target} by {operation}{origin}: {status}");
        page.wrapped("", 2, &line)
    }

    fn began(&self, page: &Page) -> String {
        let AttemptView {
            started_at,
            ended_at,
            ..
        } = self.attempt;
        let took = match ended_at {
            Some(end) => format!("took {}", between(started_at, end)),
            None if self.attempt.is_left => "but its process is gone".to_string(),
            None => format!("under way for {}", between(started_at, page.now)),
        };
        let tries = match self.tries {
            0 | 1 => String::new(),
            tries => format!(", try {tries} in a row"),
        };
        format!("{}, {took}{tries}", page.at(started_at))
    }

    fn stages(&self, page: &Page) -> String {
        let stages = self.attempt.stages.iter().map(|entered| {
            if self.attempt.is_left && entered.ended_at.is_none() {
                return entered.stage.words();
            }
            let end = entered.ended_at.unwrap_or(page.now);
            let time = between(entered.started_at, end);
            format!("{} {time}", entered.stage.words())
        });
        stages.collect::<Vec<_>>().join(", ")
    }

    /// Its system, and what there is to say of it.
    fn result(&self, out: &str) -> String {
        let generation = self.attempt.generation.map_or(String::new(), |generation| {
            format!(", generation {generation}")
        });
        let ran = if self.ran_already {
            ", which ran already"
        } else {
            ""
        };
        format!("{out}{generation}{ran}")
    }
}

fn printable_lines(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| printable(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// How long it was, with a tenth where a second is long.
fn between(start: Timestamp, end: Timestamp) -> String {
    // A clock may be set back.
    let time = end.duration_since(start).max(SignedDuration::ZERO);
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds => length(seconds),
    }
}

/// A line for each kind.
fn about_units(units: &UnitChanges, page: &Page) -> String {
    let line = |kind: &str, names: &[String]| format!("{kind} {}", printable(&names.join(", ")));
    let kinds = [
        ("restarted", &units.restarted),
        ("started", &units.started),
        ("stopped", &units.stopped),
    ];
    let kinds = kinds.iter().filter(|(_, names)| !names.is_empty());
    let mut lines: Vec<String> = kinds.map(|(kind, names)| line(kind, names)).collect();
    if !units.failed.is_empty() {
        lines.push(page.paint(Tone::Bad, &line("failed", &units.failed)));
    }
    if units.left_out > 0 {
        lines.push(format!("and {} more", units.left_out));
    }
    if lines.is_empty() {
        return "none was restarted, started or stopped, and none failed".to_string();
    }
    lines.join("\n")
}
