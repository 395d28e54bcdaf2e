//! Suspension: the operator wants nothing deployed for a while. Fetches go on.

use std::fmt;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;
use crate::model::schedule::Wait;
use crate::sys::fs;
use crate::sys::journal::{self, printable};

/// The order to deploy nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    version: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if not until `comin resume`.
    pub until: Option<Timestamp>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// As in "comin is suspended until …: the database moves".
impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) => write!(f, "comin is suspended until {}", journal::at(until))?,
            None => write!(f, "comin is suspended until comin resume")?,
        }
        match &self.reason {
            Some(reason) => write!(f, ": {}", printable(reason)),
            None => Ok(()),
        }
    }
}

impl Suspension {
    /// A suspension from now on.
    pub fn now(until: Option<Timestamp>, reason: Option<String>) -> Self {
        Self {
            version: 1,
            since: Timestamp::now(),
            until,
            reason,
        }
    }

    /// The suspension that is in force, if one is.
    ///
    /// # Errors
    /// The file cannot be read or understood; then nobody knows whether something may be deployed.
    pub fn read(paths: &Paths, now: Timestamp) -> Result<Option<Self>> {
        let path = paths.suspension();
        let Some(content) = fs::read_optional(&path)? else {
            return Ok(None);
        };
        let suspension: Self = serde_json::from_slice(&content).with_context(|| {
            format!(
                "Failed to understand {}; use comin suspend or comin resume to write it anew",
                path.display()
            )
        })?;
        // A clock that is behind, such as that of a board without a battery, ends no suspension.
        Ok(Some(suspension).filter(|s| s.until.is_none_or(|until| now < until)))
    }

    /// The wait from now on for its end, if it has one.
    pub fn wait(&self, now: Timestamp) -> Option<Wait> {
        self.until.map(|until| Wait::until(now, until))
    }

    /// Puts it into force.
    pub fn write(&self, paths: &Paths) -> Result<()> {
        fs::replace_durably(&paths.suspension(), &serde_json::to_vec(self)?)
    }

    /// Ends any suspension; says whether there was one.
    pub fn end(paths: &Paths) -> Result<bool> {
        fs::remove_optional(&paths.suspension())
    }
}
