//! What a deploy would do now, and what it thinks of every branch.

use std::fmt::{self, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::text::wrapped;
use super::Chosen;
use crate::accepted;
use crate::commit::Commit;
use crate::cycle::Machine;
use crate::git::Mirror;
use crate::history::Commits;
use crate::journal::printable;
use crate::select::{Candidate, Verdict};
use crate::signature::Signers;
use crate::state::State;

/// What a deploy would do now, and what it thinks of every branch.
#[derive(Debug, Serialize)]
pub struct Plan {
    action: &'static str,
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
    verdict: &'static str,
    refused: Option<String>,
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
            action: decision.action.name(),
            hindrance: decision.action.hindrance(),
            retry_at: decision.action.again().map(|wait| wait.until),
            target: decision.selected.as_ref().map(Chosen::from),
            candidates: decision.candidates.iter().map(Planned::of).collect(),
        })
    }
}

impl Planned {
    fn of(candidate: &Candidate) -> Self {
        Self {
            remote: candidate.remote.to_string(),
            branch: candidate.head.branch.name.clone(),
            testing: candidate.testing,
            commit: candidate.head.commit.clone(),
            verdict: match candidate.verdict {
                Verdict::Selected(_) => "selected",
                Verdict::Qualifies(_) => "qualifies",
                Verdict::Refused(_) => "refused",
            },
            refused: candidate.refusal().map(|refusal| refusal.to_string()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match (&self.target, self.action, &self.hindrance) {
            (None, _, _) => "Nothing to deploy: no branch qualifies".to_string(),
            (Some(target), "deploy", _) => {
                format!("Would deploy {target} by {}", target.operation)
            }
            (Some(target), _, Some(why)) => {
                format!("Would not deploy {target}: {}", printable(why))
            }
            (Some(target), _, None) => format!("Nothing to do: {target} is deployed"),
        };
        let mut text = wrapped("", 2, &sentence);
        for candidate in &self.candidates {
            let commit = candidate.commit.as_ref().map_or("-", Commit::short);
            let mut line = format!("{}/{}  {commit}  ", candidate.remote, candidate.branch);
            write!(line, "{}", candidate.verdict)?;
            if let Some(refused) = &candidate.refused {
                write!(line, ": {}", printable(refused))?;
            }
            text += &wrapped("  ", 4, &line);
        }
        f.write_str(text.trim_end())
    }
}
