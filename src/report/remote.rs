//! The remotes: when each was last fetched, where its branches are, and what was refused.

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::text::Page;
use crate::commit::Commit;
use crate::config::RemoteName;
use crate::cycle::Machine;
use crate::fetched::Fetched;
use crate::journal::printable;
use crate::select::{Decision, Refusal, Verdict};

/// A remote.
#[derive(Debug, Serialize)]
pub(super) struct RemoteStatus {
    name: String,
    url: String,
    pub(super) fetched_at: Option<Timestamp>,
    pub(super) error: Option<String>,
    main: BranchStatus,
    testing: Option<BranchStatus>,
}

/// A branch of a remote.
#[derive(Debug, Serialize)]
pub(super) struct BranchStatus {
    name: String,
    commit: Option<Commit>,
    refused: Option<String>,
    #[serde(skip)]
    is_ordinary: bool,
}

/// Those of the configuration, in its order.
///
/// # Errors
/// The records in `/run` cannot be read.
pub(super) fn all(machine: &Machine, decision: &Decision) -> Result<Vec<RemoteStatus>> {
    let branch = |name: &RemoteName, testing: bool| {
        let mut candidates = decision.candidates.iter();
        candidates
            .find(|candidate| candidate.remote == *name && candidate.testing == testing)
            .map(|candidate| BranchStatus {
                name: candidate.head.branch.name.clone(),
                commit: candidate.head.commit.clone(),
                refused: candidate.refusal().map(|refusal| refusal.to_string()),
                is_ordinary: match &candidate.verdict {
                    Verdict::Refused(Refusal::Missing) => testing,
                    Verdict::Refused(Refusal::NotFetched | Refusal::Unreachable) => true,
                    Verdict::Refused(_) | Verdict::Selected(_) | Verdict::Qualifies(_) => false,
                },
            })
    };
    let mut statuses = Vec::new();
    for remote in &machine.config.remotes {
        let record = Fetched::read(&machine.paths, remote)?;
        statuses.extend(branch(&remote.name, false).map(|main| RemoteStatus {
            name: remote.name.to_string(),
            url: remote.url.to_string(),
            fetched_at: record.as_ref().and_then(|record| record.succeeded_at),
            error: record.and_then(|record| record.error),
            main,
            testing: branch(&remote.name, true),
        }));
    }
    Ok(statuses)
}

impl RemoteStatus {
    /// What of it there is to say.
    pub(super) fn text(&self, page: &Page) -> String {
        let fetched = match self.fetched_at {
            Some(time) => format!("fetched {}", page.ago(time)),
            None => "not fetched yet".to_string(),
        };
        let line = format!("{}, {fetched}", printable(&self.url));
        let mut text = page.entry(&self.name, &line);
        if let Some(error) = &self.error {
            text += &page.wrapped("    ", 6, &printable(error));
        }
        let branches = [Some(&self.main), self.testing.as_ref()];
        for branch in branches.into_iter().flatten() {
            text += &page.wrapped("    ", 6, &branch.sentence().unwrap_or_default());
        }
        text
    }
}

impl BranchStatus {
    /// A branch that is not there, or of a remote that has said why it does not count, is not worth a word.
    fn sentence(&self) -> Option<String> {
        if self.is_ordinary && self.commit.is_none() {
            return None;
        }
        let commit = self.commit.as_ref().map_or("-", Commit::short);
        let refused = self.refused.as_deref().filter(|_| !self.is_ordinary);
        let refused = refused.map_or(String::new(), |refused| format!("  {}", printable(refused)));
        Some(format!("{}  {commit}{refused}", self.name))
    }
}
