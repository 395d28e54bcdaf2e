//! The request to deploy, and what the latest deploy decided on: by these two a poll knows, without
//! looking at the state or at any history, whether there is something to do.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fs;
use crate::paths::Paths;
use crate::process::Process;
use crate::select::{is_due, RemoteFacts, Target};

/// What the latest deploy decided on. Absent after a boot: then a deploy is due.
#[derive(Debug, Serialize, Deserialize)]
pub struct Decided {
    version: u32,
    /// The heads it saw.
    pub remotes: Vec<RemoteFacts>,
    /// What it selected, for those who do not decide themselves.
    #[serde(default)]
    pub selected: Option<Target>,
    /// Who decided; at work as long as it lives and has not `settled`.
    by: Process,
    /// Whether it is done.
    settled: bool,
    /// When something is to be tried again.
    retry_at: Option<Timestamp>,
    /// The heads whose refusal has been said, so that it is said once.
    pub refused: Vec<String>,
}

impl Decided {
    /// The record of a deploy that begins.
    ///
    /// # Errors
    /// This process cannot be identified.
    pub fn deciding(remotes: Vec<RemoteFacts>, refused: Vec<String>) -> Result<Self> {
        Ok(Self {
            version: 1,
            remotes,
            selected: None,
            by: Process::own()?,
            settled: false,
            retry_at: None,
            refused,
        })
    }

    /// The same, with what was selected.
    #[must_use]
    pub fn selecting(self, selected: Option<&Target>) -> Self {
        Self {
            selected: selected.cloned(),
            ..self
        }
    }

    /// The same, at its end.
    #[must_use]
    pub fn settled(self, retry_at: Option<Timestamp>) -> Self {
        Self {
            settled: true,
            retry_at,
            ..self
        }
    }

    /// Reads the record; one that cannot be understood counts as absent, and a deploy follows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(paths: &Paths) -> Result<Option<Self>> {
        let content = fs::read_optional(&paths.decided())?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec(self).context("Failed to write a record")?;
        fs::replace(&paths.decided(), &text)
    }

    /// Whether the deploy that decided is still at work.
    #[must_use]
    pub fn at_work(&self) -> bool {
        !self.settled && self.by.lives()
    }

    /// Whether a deploy would have something to look at.
    #[must_use]
    pub fn is_stale(&self, remotes: &[RemoteFacts], now: Timestamp) -> bool {
        let interrupted = !self.settled && !self.by.lives();
        interrupted || self.remotes != remotes || self.retry_at.is_some_and(|at| is_due(at, now))
    }
}

/// Asks for a deploy: the path unit of systemd sees the file.
///
/// # Errors
/// The file cannot be written.
pub fn request(paths: &Paths) -> Result<()> {
    fs::replace(&paths.wanted(), b"")
}

/// Takes the request back before it is served: one made meanwhile starts another deploy.
///
/// # Errors
/// The file cannot be removed.
pub fn take_request(paths: &Paths) -> Result<()> {
    fs::remove_optional(&paths.wanted()).map(|_| ())
}
