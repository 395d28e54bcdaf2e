//! How the latest fetch of each remote ended. In `/run`, so a poll writes nothing to a disk, and
//! after a boot nothing counts as reachable until it has been reached.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Remote;
use crate::fs;
use crate::paths::Paths;
use crate::select::Reach;
use crate::url::Url;

/// The record of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    version: u32,
    /// What was fetched; a record of another URL says nothing.
    url: String,
    /// The latest fetch.
    pub attempted_at: Timestamp,
    /// The latest fetch that worked.
    pub succeeded_at: Option<Timestamp>,
    /// Why the latest one did not.
    pub error: Option<String>,
}

impl Fetched {
    /// The record of a remote, if it has been fetched from this URL since the machine booted.
    ///
    /// # Errors
    /// The file cannot be read. One that cannot be understood counts as absent: the next fetch
    /// replaces it, and nothing depends on it.
    pub fn read(paths: &Paths, remote: &Remote) -> Result<Option<Self>> {
        let Some(content) = fs::read_optional(&paths.remote(&remote.name))? else {
            return Ok(None);
        };
        let record: Option<Self> = serde_json::from_slice(&content).ok();
        Ok(record.filter(|record| record.url == text(&remote.url)))
    }

    /// The record of a fetch that ended now.
    #[must_use]
    pub fn now(remote: &Remote, before: Option<&Self>, error: Option<String>) -> Self {
        let now = Timestamp::now();
        Self {
            version: 1,
            url: text(&remote.url),
            attempted_at: now,
            succeeded_at: match &error {
                None => Some(now),
                Some(_) => before.and_then(|before| before.succeeded_at),
            },
            error,
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, paths: &Paths, remote: &Remote) -> Result<()> {
        let text = serde_json::to_vec(self).context("Failed to write a record")?;
        fs::replace(&paths.remote(&remote.name), &text)
    }

    /// Whether the remote's heads count.
    #[must_use]
    pub fn reach(record: Option<&Self>) -> Reach {
        match record {
            None => Reach::Never,
            Some(record) if record.error.is_some() => Reach::Unreachable,
            Some(_) => Reach::Fetched,
        }
    }
}

/// The URL as it may be shown: the configuration refuses one with credentials.
fn text(url: &Url) -> String {
    url.to_string()
}
