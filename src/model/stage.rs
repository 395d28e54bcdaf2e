//! The stages of an attempt.

use serde::{Deserialize, Serialize};

/// The part of a deployment that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nix evaluates the configuration.
    Evaluating,
    /// Nix builds the system.
    Building,
    /// Somebody is to confirm that it goes on.
    #[serde(rename = "waiting_for_confirmation")]
    Waiting,
    /// A gate is closed.
    #[serde(rename = "waiting_at_gate")]
    AtGate,
    /// `switch-to-configuration` runs.
    Activating,
    /// Whether the machine is still well is looked at.
    Checking,
    /// It is not, and the system before is activated again.
    RollingBack,
}

impl Stage {
    /// As in the JSON, as in "interrupted while rolling back", and as in "rolled back in 12 s".
    fn texts(self) -> [&'static str; 3] {
        match self {
            Self::Evaluating => ["evaluating", "evaluating", "evaluated"],
            Self::Building => ["building", "building", "built"],
            Self::Waiting => [
                "waiting_for_confirmation",
                "waiting for a confirmation",
                "confirmed",
            ],
            Self::AtGate => ["waiting_at_gate", "waiting at a gate", "let through"],
            Self::Activating => ["activating", "activating", "activated"],
            Self::Checking => ["checking", "checking", "checked"],
            Self::RollingBack => ["rolling_back", "rolling back", "rolled back"],
        }
    }

    /// As in `rolling_back`.
    pub fn name(self) -> &'static str {
        self.texts()[0]
    }

    /// As in "interrupted while rolling back".
    pub fn words(self) -> &'static str {
        self.texts()[1]
    }

    /// As in "built in 12 s".
    pub fn past(self) -> &'static str {
        self.texts()[2]
    }

    /// Whether nobody is at work in it.
    pub fn is_wait(self) -> bool {
        matches!(self, Self::Waiting | Self::AtGate)
    }

    /// Whether the machine may have changed.
    pub fn changes_the_machine(self) -> bool {
        match self {
            Self::Evaluating | Self::Building | Self::Waiting | Self::AtGate => false,
            Self::Activating | Self::Checking | Self::RollingBack => true,
        }
    }
}
