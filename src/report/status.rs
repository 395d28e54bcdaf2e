//! What the machine runs, what it should run, and what is in between.

use serde::Serialize;
use serde_json::Value;

use super::attempt::Attempt;
use super::headline::Headline;
use super::hindrance;
use super::remote::RemoteStatus;
use super::running::Running;
use super::standing::Standing;
use super::target::{by_name, Chosen};
use super::text::Page;
use crate::model::commit::Commit;
use crate::model::decision::{Action, Decision};
use crate::model::facts::Facts;
use crate::model::suspension::Suspension;
use crate::sys::text::printable;

/// What the machine runs, what it should run, and what is in between.
#[derive(Debug, Serialize)]
pub struct Status {
    pub(super) hostname: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
    pub(super) running: Option<Running>,
    #[serde(serialize_with = "by_name")]
    pub(super) action: Action,
    pub(super) hindrance: Option<String>,
    pub(super) accepted_main: Option<Commit>,
    pub(super) selected: Option<Chosen>,
    pub(super) remotes: Vec<RemoteStatus>,
    /// That there is no main.
    #[serde(skip)]
    pub(super) missing: Option<String>,
    #[serde(skip)]
    pub(super) suspension: Option<Suspension>,
}

impl Status {
    /// Tells what was gathered.
    pub fn told(
        hostname: &str,
        standing: Standing,
        running: Option<Running>,
        facts: Facts,
        decision: Decision,
        selected: Option<Chosen>,
        remotes: Vec<RemoteStatus>,
    ) -> Self {
        Self {
            hostname: hostname.to_string(),
            standing,
            running,
            hindrance: decision.action.hindrance(),
            accepted_main: facts.accepted.map(|accepted| accepted.commit),
            selected,
            remotes,
            missing: decision.missing(),
            action: decision.action,
            suspension: facts.suspended,
        }
    }

    /// What there is to know of it but the times of the fetches: as long as this is the same, nothing has
    /// changed.
    pub fn news(&self) -> serde_json::Result<Value> {
        let mut news = serde_json::to_value(self)?;
        let remotes = news["remotes"].as_array_mut();
        for remote in remotes.into_iter().flatten() {
            for time in ["fetched_at", "next_fetch_at"] {
                remote[time].take();
            }
        }
        Ok(news)
    }

    /// Whether the system that runs is this one's.
    pub(super) fn runs(&self, target: &Chosen) -> bool {
        let running = self.running.as_ref().and_then(|it| it.commit.as_ref());
        running == Some(&target.commit)
    }

    /// What is selected, why, and what became of it until now.
    pub(super) fn about_selected(&self, page: &Page) -> Option<String> {
        let selected = self.selected.as_ref()?;
        // What runs of a testing branch may have to be activated in another way.
        let name = if self.runs(selected) && self.action == Action::Nothing {
            "the same".to_string()
        } else {
            format!("{selected} by {}", selected.operation)
        };
        let mut lines = vec![format!("{name}: {}", self.why(selected))];
        let signer = selected.signer.as_deref();
        lines.extend(signer.map(|signer| format!("signed by {}", printable(signer))));
        let is_it = |attempt: &&Attempt| attempt.target.commit == selected.commit;
        let under_way = self.standing.under_way.as_ref().map(|it| &it.attempt);
        let latest = under_way
            .or(self.standing.waiting.as_ref())
            .or(self.standing.deployed.as_ref())
            .filter(is_it);
        let is_told = self.runs(selected) && latest.is_none_or(Attempt::is_done);
        if !is_told {
            let story = latest.map(|latest| latest.story(page));
            lines.push(story.unwrap_or_else(|| selected.subject().into_owned()));
        }
        let is_told = latest.is_some_and(|latest| latest.error.is_some());
        lines.extend(match &self.action {
            // Why, has an entry of its own.
            Action::Suspended(_) => Some("it waits for the end of the suspension".to_string()),
            Action::Nothing if matches!(Headline::of(self), Headline::Replaced(_)) => {
                Some("comin retry deploys it again".to_string())
            }
            action => hindrance::clause(action, !is_told, page),
        });
        Some(lines.join("\n"))
    }

    /// Why that is what the machine should run.
    fn why(&self, selected: &Chosen) -> String {
        if selected.testing {
            return format!("a testing branch on top of main {}", selected.main.short());
        }
        let why = match &self.accepted_main {
            None => "it is the first main",
            Some(accepted) if *accepted == selected.commit => "it is the accepted main",
            Some(_) => "it is ahead of the accepted main",
        };
        why.to_string()
    }

    /// What has gone wrong lately with something that is not selected any more, unless the next is under way.
    pub(super) fn about_latest(&self, page: &Page) -> Option<String> {
        if self.standing.under_way.is_some() {
            return None;
        }
        let latest = self.standing.deployed.as_ref()?;
        let is_selected = |selected: &Chosen| selected.commit == latest.target.commit;
        if latest.is_done() || self.selected.as_ref().is_some_and(is_selected) {
            return None;
        }
        let target = &latest.target;
        Some(format!(
            "{target} by {}\n{}",
            target.operation,
            latest.story(page)
        ))
    }
}
