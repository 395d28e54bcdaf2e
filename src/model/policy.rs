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
    /// How long a failed deployment waits after this number of tries.
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
    /// Somebody; after this time, it counts as confirmed.
    Auto(SignedDuration),
    /// Somebody.
    Manual,
}

/// Whether and when the machine reboots by itself if a deployment needs a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboots {
    /// Whether it does.
    pub allow: bool,
    /// When it may; `None` is at any time.
    pub window: Option<Window>,
    /// The time between the announcement of a reboot and the reboot, at least.
    pub delay: SignedDuration,
}

/// Whether and when a drift is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heals {
    /// Whether it is.
    pub heal: bool,
    /// How long a drift must have been known.
    pub grace: SignedDuration,
}

/// How much is kept; each number is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The number of different systems in generations that comin made.
    pub boot_entries: usize,
    /// The number of successful deployments whose systems the garbage collector keeps.
    pub successful: usize,
    /// The number of deployments, successful or not, whose systems the garbage collector keeps.
    pub any: usize,
}

impl Confirmer {
    /// Whether something that has waited `since` then may go on.
    pub fn consent(self, since: Timestamp) -> Approval {
        match self {
            Self::Without => Approval::Given,
            Self::Auto(length) => Approval::At(since.checked_add(length).unwrap_or(Timestamp::MAX)),
            Self::Manual => Approval::Missing,
        }
    }
}
