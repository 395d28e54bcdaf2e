//! What a person can do about what is in the way.

use derive_more::Display;

/// What a command does; the most harmless first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It shows why, and changes nothing.
    Look,
    /// It mends the cause, or tries again.
    Fix,
    /// It leaves the machine as somebody has made it.
    Keep,
    /// It goes on in spite of somebody's decision. Nobody has to.
    Override,
}

/// A command for a person, and what it is good for if that is not plain.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[display("{purpose}{command}")]
pub struct Cure {
    kind: Kind,
    purpose: &'static str,
    command: String,
}

/// Tries again what failed, and activates again what does not run.
const RETRY: &str = "sudo comin retry";

impl Cure {
    fn new(kind: Kind, purpose: &'static str, command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            kind,
            purpose,
            command,
        }
    }

    /// Shows why.
    pub fn look(command: impl Into<String>) -> Self {
        Self::new(Kind::Look, "→ ", command)
    }

    /// Mends the cause.
    pub fn fix(command: impl Into<String>) -> Self {
        Self::new(Kind::Fix, "→ ", command)
    }

    /// Tries again.
    pub fn retry() -> Self {
        Self::fix(RETRY)
    }

    /// Activates again what somebody has replaced.
    pub fn replace() -> Self {
        Self::new(Kind::Fix, "to replace it → ", RETRY)
    }

    /// Keeps what somebody has activated.
    pub fn keep() -> Self {
        Self::new(Kind::Keep, "to keep it → ", "sudo comin suspend")
    }

    /// Makes room for new systems.
    pub fn free_space() -> [Self; 2] {
        let look = Self::look("df -h /nix /var");
        [look, Self::fix("sudo nix-collect-garbage")]
    }

    /// Goes on in spite of a gate.
    pub fn past_gates() -> Self {
        let command = "sudo comin confirm --past-gates";
        Self::new(Kind::Override, "to override the gate: ", command)
    }

    /// Undoes what somebody has done.
    pub fn undo_rollback() -> Self {
        Self::new(Kind::Override, "to undo the rollback: ", RETRY)
    }

    /// First what shows why, then what mends it, at last what overrides somebody.
    pub fn in_order(cures: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut cures: Vec<Self> = cures.into_iter().collect();
        cures.sort_by_key(|cure| cure.kind);
        cures
    }
}
