//! What a person reads, as text and as JSON.

mod attempt;
mod details;
mod difference;
mod headline;
mod hindrance;
mod history;
mod oneline;
mod phase;
mod plan;
mod preview;
mod remote;
mod running;
mod standing;
mod status;
#[cfg(test)]
mod tests;
mod text;

pub use attempt::words;
pub use details::Details;
pub use history::History;
pub use plan::Plan;
pub use preview::Previewed;
pub use standing::Standing;
pub use status::Status;
pub use text::{Page, Tone};

use serde::{Serialize, Serializer};

use crate::commit::Commit;
use crate::config::Operation;
use crate::journal::printable;
use crate::select::{Action, Target};

/// What there is to say about something: as text to a person, as JSON to a program.
pub trait Report: Serialize {
    /// The text. It may end in a line end.
    fn text(&self, page: &Page) -> String;
}

/// A target, as the reports have it.
#[derive(Debug, Serialize)]
struct Chosen {
    commit: Commit,
    remote: String,
    branch: String,
    testing: bool,
    signer: Option<String>,
    operation: Operation,
    /// The main that it stands on.
    #[serde(skip)]
    main: Commit,
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
            main: target.main.clone(),
        }
    }
}

/// As in `3f2a9c1e (origin/main)`.
impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { remote, branch, .. } = self;
        write!(
            f,
            "{} ({remote}/{})",
            self.commit.short(),
            printable(branch)
        )
    }
}

/// An action as the JSON has it: what it is about stands beside it.
fn by_name<S: Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.name())
}
