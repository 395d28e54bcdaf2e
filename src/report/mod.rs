//! What a person reads, as text and as JSON.

mod attempt;
mod plan;
mod status;
mod text;

use anyhow::Result;

pub use attempt::{words, History};
pub use plan::Plan;
pub use status::{Standing, Status};

use crate::commit::Commit;
use crate::config::Operation;
use crate::cycle::Machine;
use crate::git::Mirror;
use crate::history::Commits;
use crate::select::{decide, Decision, Target};
use crate::signature::Signers;
use crate::state::State;

/// A target, as the reports have it.
#[derive(Debug, serde::Serialize)]
struct Chosen {
    commit: Commit,
    remote: String,
    branch: String,
    testing: bool,
    signer: Option<String>,
    operation: Operation,
}

impl From<&Target> for Chosen {
    fn from(target: &Target) -> Self {
        Self {
            commit: target.commit.clone(),
            remote: target.remote.to_string(),
            branch: target.branch.clone(),
            testing: target.testing,
            signer: target.signer.clone(),
            operation: target.operation,
        }
    }
}

/// As in `3f2a9c1e (origin/main)`.
impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { remote, branch, .. } = self;
        write!(f, "{} ({remote}/{branch})", self.commit.short())
    }
}

/// Decides without doing anything; reads only what everybody may read.
fn consider(
    machine: &Machine,
    state: &State,
    signers: &Result<Option<Signers>>,
) -> Result<Decision> {
    let mirror = Mirror::open(&machine.paths);
    let commits = Commits::of_any(&mirror, signers);
    Ok(decide(&machine.facts(machine.observe()?, state)?, &commits))
}
