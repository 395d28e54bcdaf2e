//! What the owner wants: how long to wait, who confirms, when to reboot, how much to keep.

use jiff::{SignedDuration, Timestamp};

use super::{confirmation::Approval, window::Window};

/// How long a failed deployment waits: first this, then twice as long each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: SignedDuration,
    /// The longest wait.
    pub most: SignedDuration,
}

impl Backoff {
    /// How long after the how-manieth try.
    pub fn after(self, tries: u32) -> SignedDuration {
        let factor = 1 << tries.saturating_sub(1).min(20);
        self.first.saturating_mul(factor).min(self.most)
    }
}

/// Who confirms that something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmer {
    /// Nobody needs to.
    Without,
    /// Somebody, or time: after so long it counts as confirmed.
    Auto(SignedDuration),
    /// Somebody.
    Manual,
}

/// Whether and when the machine reboots by itself, where a deployment needs that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboots {
    /// Whether it does.
    pub allow: bool,
    /// When it may; `None` is at any time.
    pub window: Option<Window>,
    /// How long before it is announced, at least.
    pub delay: SignedDuration,
}

/// Whether and when a drift is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heals {
    /// Whether it is.
    pub heal: bool,
    /// How long it has to be known before.
    pub grace: SignedDuration,
}

/// How many are kept, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Different systems that comin made generations of the profile of.
    pub boot_entries: usize,
    /// Successful deployments whose systems Nix does not collect.
    pub successful: usize,
    /// Deployments, however they ended, whose systems Nix does not collect.
    pub any: usize,
}

impl Confirmer {
    /// What it takes to go on with what has waited since then.
    pub fn consent(self, since: Timestamp) -> Approval {
        match self {
            Self::Without => Approval::Given,
            Self::Auto(length) => Approval::At(since.checked_add(length).unwrap_or(Timestamp::MAX)),
            Self::Manual => Approval::Missing,
        }
    }
}
