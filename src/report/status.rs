//! What the machine runs, what it should run, and what is in between.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::target::{by_name, TargetView};
use super::{host_state::HostState, page::Page, remote::RemoteStatus, seconds};
use crate::model::{Action, Commit, Decision, Facts, Suspension};

/// What the machine runs, what it should run, and what is in between.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Of this document.
    pub(super) version: u32,
    /// The word of the short line.
    pub(super) state: String,
    pub(super) hostname: String,
    #[serde(flatten)]
    pub host: HostState,
    /// The units that should fetch or deploy, and are not active.
    pub(super) inactive_units: Vec<String>,
    #[serde(serialize_with = "by_name")]
    pub(super) action: Action,
    pub(super) hindrance: Option<String>,
    pub(super) accepted_main: Option<Commit>,
    pub(super) selected: Option<TargetView>,
    pub(super) remotes: Vec<RemoteStatus>,
    /// That there is no main.
    #[serde(skip)]
    pub(super) missing: Option<String>,
    #[serde(serialize_with = "suspension")]
    pub(super) suspension: Option<Suspension>,
}

impl Status {
    /// Puts together what was gathered.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        hostname: &str,
        host: HostState,
        facts: Facts,
        decision: Decision,
        selected: Option<TargetView>,
        remotes: Vec<RemoteStatus>,
        inactive_units: Vec<String>,
    ) -> Self {
        let mut status = Self {
            version: 1,
            state: String::new(),
            hostname: hostname.to_string(),
            host,
            inactive_units,
            hindrance: decision.hindrance(),
            accepted_main: facts.accepted.map(|accepted| accepted.commit),
            selected,
            remotes,
            missing: decision.missing_mains(),
            action: decision.action,
            suspension: facts.suspended,
        };
        status.state = status.state(&Page::plain(facts.now));
        status
    }

    /// What there is to know of it but the times of the fetches: as long as this is the same, nothing has
    /// changed.
    pub fn news(&self) -> serde_json::Result<Value> {
        let mut news = serde_json::to_value(self)?;
        let remotes = news["remotes"].as_array_mut();
        for remote in remotes.into_iter().flatten() {
            for time in ["fetched_at", "attempted_at", "next_fetch_at"] {
                remote[time].take();
            }
        }
        Ok(news)
    }

    /// Whether the system that runs is this one's.
    pub(super) fn runs(&self, target: &TargetView) -> bool {
        self.host.running_commit() == Some(&target.commit)
    }
}

/// A suspension as the JSON has it.
#[allow(clippy::ref_option)] // As serde calls it.
fn suspension<S: Serializer>(suspension: &Option<Suspension>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told<'a> {
        reason: Option<&'a str>,
        #[serde(serialize_with = "seconds::optional")]
        until: Option<Timestamp>,
        #[serde(serialize_with = "seconds::time")]
        since: Timestamp,
    }
    let told = suspension.as_ref().map(|suspension| Told {
        reason: suspension.reason.as_deref(),
        until: suspension.until,
        since: suspension.since,
    });
    told.serialize(to)
}
