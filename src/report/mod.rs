//! What a person reads, as text and as JSON.

mod attempt;
mod details;
mod difference;
mod headline;
mod hindrance;
mod history;
pub mod metrics;
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

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::model::commit::Commit;
use crate::model::names::Operation;
use crate::model::select::{Action, Target};
use crate::sys::text::printable;
pub use details::{there_are, Details};
pub use difference::Difference;
pub use history::History;
pub use plan::Plan;
pub use preview::{Build, DryActivation, Previewed};
pub use remote::RemoteStatus;
pub use running::Running;
pub use standing::Standing;
pub use status::Status;
pub use text::{Page, Tone};

/// What there is to say about something: as text to a person, as JSON to a program.
pub trait Report: Serialize {
    /// The text. It may end in a line end.
    fn text(&self, page: &Page) -> String;
}

/// A target, as the reports have it.
#[derive(Debug, Serialize)]
pub struct Chosen {
    commit: Commit,
    remote: String,
    branch: String,
    testing: bool,
    signer: Option<String>,
    operation: Operation,
    /// `None` where the commit cannot be read.
    subject: Option<String>,
    /// The main that it stands on.
    #[serde(skip)]
    main: Commit,
}

impl Chosen {
    /// Tells a target.
    pub fn told(target: &Target, subject: Option<String>) -> Self {
        Self {
            commit: target.commit.clone(),
            remote: target.remote.to_string(),
            branch: target.branch.clone(),
            testing: target.testing,
            signer: target.signer.clone(),
            operation: target.operation,
            subject,
            main: target.main.clone(),
        }
    }

    /// As a person may see it; empty where it is not known.
    fn subject(&self) -> Cow<'_, str> {
        printable(self.subject.as_deref().unwrap_or_default())
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
