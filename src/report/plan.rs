//! What a deploy would do now, and what it thinks of every branch.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::text::Page;
use super::{by_name, Chosen, Report};
use crate::accepted;
use crate::commit::Commit;
use crate::cycle::Machine;
use crate::git::Mirror;
use crate::history::Commits;
use crate::journal::printable;
use crate::select::{self, Action, Candidate};
use crate::signature::Signers;
use crate::state::State;

/// What a deploy would do now, and what it thinks of every branch.
#[derive(Debug, Serialize)]
pub struct Plan {
    #[serde(serialize_with = "by_name")]
    action: Action,
    hindrance: Option<String>,
    target: Option<Chosen>,
    retry_at: Option<Timestamp>,
    candidates: Vec<Planned>,
}

#[derive(Debug, Serialize)]
struct Planned {
    remote: String,
    branch: String,
    testing: bool,
    commit: Option<Commit>,
    verdict: Verdict,
    refused: Option<String>,
}

/// What is thought of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Selected,
    Qualifies,
    Refused,
}

impl Plan {
    /// Considers what a deploy would do.
    ///
    /// # Errors
    /// The state or the records in `/run` cannot be read.
    pub fn of(machine: &Machine, signers: &Result<Option<Signers>>) -> Result<Self> {
        let mirror = Mirror::open(&machine.paths);
        let commits = Commits::of_any(&mirror, signers);
        let mut state = State::read(&machine.paths)?;
        state.accepted_main = accepted::presumed(&state, mirror.as_ref().ok(), &machine.paths);
        let (_, decision) = machine.consider(&state, &commits)?;
        Ok(Self {
            hindrance: decision.action.hindrance(),
            retry_at: decision.action.again().map(|wait| wait.until),
            action: decision.action,
            target: decision.selected.as_ref().map(Chosen::from),
            candidates: decision.candidates.iter().map(Planned::of).collect(),
        })
    }
}

impl Plan {
    fn sentence(&self) -> String {
        let Some(target) = &self.target else {
            return "Nothing to deploy: no branch qualifies".to_string();
        };
        match &self.action {
            Action::Deploy => format!("Would deploy {target} by {}", target.operation),
            Action::Nothing => format!("Nothing to do: {target} is deployed"),
            Action::Retry(_)
            | Action::AwaitRemotes(_)
            | Action::Quarantined(_)
            | Action::Suspended(_)
            | Action::GivenUp => {
                let why = self.hindrance.as_deref().unwrap_or_default();
                format!("Would not deploy {target}: {}", printable(why))
            }
        }
    }
}

impl Planned {
    fn sentence(&self) -> String {
        let commit = self.commit.as_ref().map_or("-", Commit::short);
        let verdict = match self.verdict {
            Verdict::Selected => "selected",
            Verdict::Qualifies => "qualifies",
            Verdict::Refused => "refused",
        };
        let why = self
            .refused
            .as_ref()
            .map_or(String::new(), |refused| format!(": {}", printable(refused)));
        format!("{}/{}  {commit}  {verdict}{why}", self.remote, self.branch)
    }

    fn of(candidate: &Candidate) -> Self {
        Self {
            remote: candidate.remote.to_string(),
            branch: candidate.head.branch.name.clone(),
            testing: candidate.testing,
            commit: candidate.head.commit.clone(),
            verdict: match candidate.verdict {
                select::Verdict::Selected(_) => Verdict::Selected,
                select::Verdict::Qualifies(_) => Verdict::Qualifies,
                select::Verdict::Refused(_) => Verdict::Refused,
            },
            refused: candidate.refusal().map(|refusal| refusal.to_string()),
        }
    }
}

impl Report for Plan {
    fn text(&self, page: &Page) -> String {
        let mut text = page.wrapped("", 2, &self.sentence());
        for candidate in &self.candidates {
            text += &page.wrapped("  ", 4, &candidate.sentence());
        }
        text
    }
}
