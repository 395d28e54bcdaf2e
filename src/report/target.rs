//! What there is to say about something, and about a target.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::page::Page;
use crate::model::commit::Commit;
use crate::model::decision::Action;
use crate::model::names::Operation;
use crate::model::target::Target;
use crate::sys::text::printable;

/// What there is to say about something: as text to a person, as JSON to a program.
pub trait Report: Serialize {
    /// The text. It may end in a line end.
    fn text(&self, page: &Page) -> String;
}

/// A target, as the reports have it.
#[derive(Debug, Serialize)]
pub struct TargetView {
    pub commit: Commit,
    pub remote: String,
    pub branch: String,
    pub testing: bool,
    pub signer: Option<String>,
    pub operation: Operation,
    /// `None` where the commit cannot be read.
    pub subject: Option<String>,
    /// The main that it stands on.
    #[serde(skip)]
    pub main: Commit,
}

impl TargetView {
    /// Tells a target.
    pub fn new(target: &Target, subject: Option<String>) -> Self {
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
    pub fn subject(&self) -> Cow<'_, str> {
        printable(self.subject.as_deref().unwrap_or_default())
    }
}

/// As in `3f2a9c1e (origin/main)`.
impl std::fmt::Display for TargetView {
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
pub fn by_name<S: Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.name())
}
