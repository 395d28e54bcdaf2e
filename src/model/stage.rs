//! The stages of an attempt.

use derive_more::Display;
use serde::{Deserialize, Serialize};

/// The part of a deployment that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[display(rename_all = "snake_case")]
pub enum Stage {
    /// Nix evaluates the configuration.
    Evaluating,
    /// Nix builds the system.
    Building,
    /// Somebody must confirm the next step.
    WaitingForConfirmation,
    /// A gate is closed.
    WaitingAtGate,
    /// `switch-to-configuration` runs.
    Activating,
    /// comin checks whether the machine is still well.
    Checking,
    /// The previous system is activated again.
    RollingBack,
}

impl Stage {
    /// As in "interrupted while rolling back".
    pub fn words(self) -> String {
        self.to_string().replace('_', " ")
    }

    /// As in "built in 12 s".
    pub fn past(self) -> &'static str {
        match self {
            Self::Evaluating => "evaluated",
            Self::Building => "built",
            Self::WaitingForConfirmation => "confirmed",
            Self::WaitingAtGate => "let through",
            Self::Activating => "activated",
            Self::Checking => "checked",
            Self::RollingBack => "rolled back",
        }
    }

    /// Whether nobody is at work in it.
    pub fn is_wait(self) -> bool {
        matches!(self, Self::WaitingForConfirmation | Self::WaitingAtGate)
    }

    /// Whether the machine may have changed.
    pub fn changes_the_machine(self) -> bool {
        match self {
            Self::Evaluating
            | Self::Building
            | Self::WaitingForConfirmation
            | Self::WaitingAtGate => false,
            Self::Activating | Self::Checking | Self::RollingBack => true,
        }
    }
}
