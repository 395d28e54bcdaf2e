//! What a person reads, as text and as JSON.

mod attempt;
mod plan;
mod status;
mod text;

pub use attempt::{words, History};
pub use plan::Plan;
pub use status::{Standing, Status};

use crate::commit::Commit;
use crate::config::Operation;
use crate::select::Target;

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
