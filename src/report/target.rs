//! What there is to say about something, and about a target.

use std::borrow::Cow;

use derive_more::Display;
use serde::{Serialize, Serializer};

use super::page::Page;
use crate::model::{Action, Attempt, Commit, Operation, Target};
use crate::sys::text::printable;

/// What there is to say about something: as text to a person, as JSON to a program.
pub trait Report: Serialize {
    /// The text. It may end in a line end.
    fn text(&self, page: &Page) -> String;
}

/// A target, as the reports have it. As text, as in `3f2a9c1e (origin/main)`.
#[derive(Debug, Serialize, Display)]
#[display("{} ({remote}/{})", commit.short(), printable(branch))]
pub struct TargetView {
    pub commit: Commit,
    pub remote: String,
    pub branch: String,
    pub testing: bool,
    pub signer: Option<String>,
    pub operation: Operation,
    /// `None` if the commit cannot be read.
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

    /// The target of an attempt, with the operation that the attempt carries out.
    pub fn of(attempt: &Attempt) -> Self {
        Self {
            operation: attempt.operation(),
            ..Self::new(&attempt.target, Some(attempt.subject.clone()))
        }
    }

    /// As a person may see it; empty where it is not known.
    pub fn subject(&self) -> Cow<'_, str> {
        printable(self.subject.as_deref().unwrap_or_default())
    }
}

/// The keys of a target, all of them `null` if there is none.
#[allow(clippy::ref_option)] // As serde calls it.
pub fn or_nulls<S: Serializer>(target: &Option<TargetView>, to: S) -> Result<S::Ok, S::Error> {
    let keys = [
        "commit",
        "remote",
        "branch",
        "testing",
        "signer",
        "operation",
        "subject",
    ];
    match target {
        Some(target) => target.serialize(to),
        None => to.collect_map(keys.map(|key| (key, ()))),
    }
}

/// An action as the JSON has it: what it is about stands beside it.
pub fn by_name<S: Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.name())
}
