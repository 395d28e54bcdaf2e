//! Everything that a decision depends on, apart from the commits themselves.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::model::confirmation::{Approval, ConfirmStep};
use crate::model::{
    commit::Commit, gate::ClosedGate, names::Operation, outcome::Trouble, prebuilt::Lookup,
    quarantine::Quarantine, refusal::Accepted, remote::RemoteFacts, schedule::NextTry,
    suspension::Suspension, target::Target,
};

/// Everything that a decision depends on, apart from the commits themselves: those are [`History`].
#[derive(Debug, Clone)]
pub struct Facts {
    /// In the order of the configuration.
    pub remotes: Vec<RemoteFacts>,
    /// The chosen main of the latest deployment that reached activation.
    pub accepted: Option<Accepted>,
    /// Whether a signed ancestor takes the place of a head that is not signed.
    pub signed_ancestors: bool,
    /// What was last tried of each branch.
    pub tried: Vec<Target>,
    /// What was tried since the machine last changed; the latest first.
    pub recent: Vec<PastAttempt>,
    /// What waits for a confirmation or at a gate.
    pub awaited: Option<PendingConfirmation>,
    /// The gate at which that waits.
    pub gate: Option<ClosedGate>,
    /// What is not deployed again.
    pub quarantine: Vec<Quarantine>,
    /// What the latest deploy found of the system that CI builds.
    pub prebuilt: Option<Lookup>,
    /// Whether the operator wants nothing deployed.
    pub suspended: Option<Suspension>,
    /// The time.
    pub now: Timestamp,
}

/// An attempt that has ended, as far as it matters to a decision.
#[derive(Debug, Clone)]
pub struct PastAttempt {
    /// What was deployed.
    pub commit: Commit,
    /// How.
    pub operation: Operation,
    /// The system, if it was known.
    pub out: Option<PathBuf>,
    /// Whether the same may be tried again.
    pub again: NextTry,
    /// How it went wrong, if it did.
    pub trouble: Option<Trouble>,
}

/// An attempt that waits for a confirmation or at a gate, as far as it matters to a decision.
#[derive(Debug, Clone)]
pub struct PendingConfirmation {
    /// What is deployed.
    pub commit: Commit,
    /// How.
    pub operation: Operation,
    /// What it waits before.
    pub step: ConfirmStep,
    /// Whether that is confirmed.
    pub consent: Approval,
}
