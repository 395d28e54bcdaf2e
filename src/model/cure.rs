//! What a person can do about what is in the way.

use derive_more::Display;
use serde::{Serialize, Serializer};

use crate::model::{commit::Commit, confirmation::ConfirmStep};

/// What a command does; the most harmless first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// It shows why, and changes nothing.
    Look,
    /// It mends the cause, or tries again.
    Fix,
    /// It leaves the machine as it is, or as it was.
    Keep,
    /// No command can do it.
    Advice,
    /// It goes on in spite of somebody's decision. Nobody has to.
    Override,
}

/// A command for a person, and what it is good for if that is not plain; or an advice.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[display("{purpose}{command}")]
pub struct Cure {
    effect: Effect,
    purpose: String,
    command: String,
}

impl Cure {
    fn new(effect: Effect, purpose: impl Into<String>, command: impl Into<String>) -> Self {
        let (purpose, command) = (purpose.into(), command.into());
        Self {
            effect,
            purpose,
            command,
        }
    }

    /// As in "to go back → sudo comin rollback".
    fn to(effect: Effect, purpose: &str, command: impl Into<String>) -> Self {
        Self::new(effect, format!("to {purpose} → "), command)
    }

    /// Shows why.
    pub fn look(command: impl Into<String>) -> Self {
        Self::new(Effect::Look, "→ ", command)
    }

    /// Mends the cause.
    pub fn fix(command: impl Into<String>) -> Self {
        Self::new(Effect::Fix, "→ ", command)
    }

    /// Lets what waits go on with a step.
    pub fn confirm(step: ConfirmStep) -> Self {
        let command = format!("sudo comin confirm {step}");
        Self::to(Effect::Fix, &format!("{step} it"), command)
    }

    /// What to do if no command of this machine does it.
    pub fn advice(advice: impl Into<String>) -> Self {
        Self::new(Effect::Advice, "", advice)
    }

    /// Tries again.
    pub fn retry() -> Self {
        Self::retry_to("try it again")
    }

    /// Tries again what failed, or activates again what does not run: to "test it again".
    pub fn retry_to(purpose: &str) -> Self {
        Self::to(Effect::Fix, purpose, "sudo comin retry")
    }

    /// Activates again what comin last deployed.
    pub fn return_to(commit: &Commit) -> Self {
        Self::retry_to(&format!("return to {}", commit.short()))
    }

    /// Ends a suspension.
    pub fn resume() -> Self {
        Self::to(Effect::Fix, "end the suspension", "sudo comin resume")
    }

    /// Deploys a commit in place of the accepted main: to "go back".
    pub fn accept_to(purpose: &str, commit: &str) -> Self {
        let command = format!("sudo comin accept {commit}");
        Self::to(Effect::Fix, purpose, command)
    }

    /// Leaves the machine as it is: to "keep the other system".
    pub fn suspend_to(purpose: &str) -> Self {
        Self::to(Effect::Keep, purpose, "sudo comin suspend")
    }

    /// Leaves a system that has its faults.
    pub fn roll_back() -> Self {
        Self::to(Effect::Keep, "go back", "sudo comin rollback")
    }

    /// Boots what was deployed for the next boot, or what needs one.
    pub fn reboot() -> Self {
        Self::to(Effect::Fix, "reboot now", "sudo reboot")
    }

    /// Makes room for new systems.
    pub fn free_space() -> [Self; 2] {
        let look = Self::look("df -h /nix /var");
        [look, Self::fix("sudo nix-collect-garbage")]
    }

    /// Goes on in spite of a gate.
    pub fn past_gates() -> Self {
        let command = "sudo comin confirm --past-gates";
        Self::to(Effect::Override, "go on all the same", command)
    }

    /// Undoes what somebody has done.
    pub fn undo_rollback() -> Self {
        Self::to(Effect::Override, "undo the rollback", "sudo comin retry")
    }

    /// First what shows why, then what mends it, at last what overrides somebody.
    pub fn in_order(cures: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut cures: Vec<Self> = cures.into_iter().collect();
        cures.sort_by_key(|cure| cure.effect);
        cures
    }
}

/// For programs, the command alone.
impl Serialize for Cure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.command)
    }
}
