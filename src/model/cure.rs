//! What a person can do about what is in the way.

use derive_more::Display;
use serde::{Serialize, Serializer};

use crate::model::confirmation::ConfirmStep;

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

/// Tries again what failed, and activates again what does not run.
const RETRY: &str = "sudo comin retry";
/// Leaves the machine as it is.
const SUSPEND: &str = "sudo comin suspend";

impl Cure {
    fn new(effect: Effect, purpose: impl Into<String>, command: impl Into<String>) -> Self {
        let (purpose, command) = (purpose.into(), command.into());
        Self {
            effect,
            purpose,
            command,
        }
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
        Self::new(Effect::Fix, format!("to {step} it → "), command)
    }

    /// What to do if no command of this machine does it.
    pub fn advice(advice: impl Into<String>) -> Self {
        Self::new(Effect::Advice, "", advice)
    }

    /// Tries again.
    pub fn retry() -> Self {
        Self::new(Effect::Fix, "to try it again → ", RETRY)
    }

    /// Tries again, in place of what somebody has activated.
    pub fn retry_in_place() -> Self {
        let purpose = "to try it again, in place of the other system → ";
        Self::new(Effect::Fix, purpose, RETRY)
    }

    /// Ends a suspension.
    pub fn resume() -> Self {
        Self::new(Effect::Fix, "to end the suspension → ", "sudo comin resume")
    }

    /// Tests again what a reboot has ended.
    pub fn test_again() -> Self {
        Self::new(Effect::Fix, "to test it again → ", RETRY)
    }

    /// Activates again what somebody has replaced.
    pub fn return_to(commit: &str) -> Self {
        Self::new(Effect::Fix, format!("to return to {commit} → "), RETRY)
    }

    /// Deploys a commit that leads back behind the accepted main.
    pub fn go_back_to(commit: &str) -> Self {
        Self::accept("to go back → ", commit)
    }

    /// Deploys a commit in place of the accepted main.
    pub fn take_instead(commit: &str) -> Self {
        Self::accept("to deploy it all the same → ", commit)
    }

    fn accept(purpose: &'static str, commit: &str) -> Self {
        Self::new(Effect::Fix, purpose, format!("sudo comin accept {commit}"))
    }

    /// Keeps what somebody has activated, as in "the other system".
    pub fn keep(what: &str) -> Self {
        Self::new(Effect::Keep, format!("to keep {what} → "), SUSPEND)
    }

    /// Keeps from being deployed what would go on by itself.
    pub fn stop() -> Self {
        Self::new(Effect::Keep, "to stop it → ", SUSPEND)
    }

    /// Leaves a system that has its faults.
    pub fn roll_back() -> Self {
        Self::new(Effect::Keep, "to go back → ", "sudo comin rollback")
    }

    /// Boots what was deployed for the next boot, or what needs one.
    pub fn reboot() -> Self {
        Self::new(Effect::Fix, "to reboot now → ", "sudo reboot")
    }

    /// Makes room for new systems.
    pub fn free_space() -> [Self; 2] {
        let look = Self::look("df -h /nix /var");
        [look, Self::fix("sudo nix-collect-garbage")]
    }

    /// Goes on in spite of a gate.
    pub fn past_gates() -> Self {
        let command = "sudo comin confirm --past-gates";
        Self::new(Effect::Override, "to go on all the same → ", command)
    }

    /// Undoes what somebody has done.
    pub fn undo_rollback() -> Self {
        Self::new(Effect::Override, "to undo the rollback → ", RETRY)
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
