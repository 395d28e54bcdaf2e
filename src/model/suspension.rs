//! Suspension: the operator wants nothing deployed for a while. Fetches go on.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::schedule::Delay;
use crate::sys::text::{self, printable};

/// The order to deploy nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
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
            Some(until) => write!(f, "comin is suspended until {}", text::at(until))?,
            None => write!(f, "comin is suspended until comin resume")?,
        }
        match &self.reason {
            Some(reason) => write!(f, ": {}", printable(reason)),
            None => Ok(()),
        }
    }
}

impl Suspension {
    /// How long it still takes until its end, if it has one.
    pub fn remaining(&self, now: Timestamp) -> Option<Delay> {
        self.until.map(|until| Delay::until(now, until))
    }
}
