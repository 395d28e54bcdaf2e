//! What follows from the end of a switch, and from the death of a comin: pure functions from plain facts. No clock,
//! no disk, no log.

use anyhow::Result;
use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::{names::Operation, outcome::Fault, stage::Stage};

/// How `switch-to-configuration` ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
pub enum SwitchExit {
    /// By itself.
    #[display("switch-to-configuration exited with status {_0}")]
    Status(i32),
    /// By a signal.
    #[display("switch-to-configuration was killed by signal {_0}")]
    Signal(i32),
    /// Nobody knows: whoever ran it has left no result.
    #[display("switch-to-configuration left no result")]
    Lost,
}

impl SwitchExit {
    /// The lock of `switch-to-configuration` was taken.
    const BUSY: i32 = 11;
    /// Why nothing was activated then.
    pub const BUSY_WORDS: &str = "another switch-to-configuration is running";
    /// The system was activated, and some unit has failed, maybe one that had failed before.
    const UNITS_FAILED: i32 = 4;
    /// The init of the new system needs a reboot: the boot loader was run, and nothing else.
    const REBOOT: i32 = 100;
    /// A panic.
    const PANIC: i32 = 101;

    /// The switch was killed or panicked. The next run of it recovers.
    fn crashed(&self) -> bool {
        matches!(
            self,
            Self::Status(Self::PANIC) | Self::Signal(_) | Self::Lost
        )
    }

    /// The codes with which `switch-to-configuration` says that it did all that it had to do.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Status(0 | Self::UNITS_FAILED | Self::REBOOT))
    }

    /// The system before runs on, and a reboot starts the new one.
    pub fn awaits_reboot(&self) -> bool {
        *self == Self::Status(Self::REBOOT)
    }

    /// The lock of the switch was taken, if nothing has changed since.
    pub fn is_busy(&self) -> bool {
        *self == Self::Status(Self::BUSY)
    }
}

/// A switch that came to an end, and what the machine runs now. The exit code alone does not tell:
/// `switch-to-configuration` ends with 1 and with the numbers of system errors before and after the activation.
#[derive(Debug, Clone)]
pub struct Switched {
    /// How it ended.
    pub exit: SwitchExit,
    /// What was asked for.
    pub operation: Operation,
    /// The running system is the one of before, and none of the switch's lists of units is new.
    pub is_unchanged: bool,
    /// The running system is the new one.
    pub runs_new: bool,
    /// Another interruption would be one too many.
    pub retries_exhausted: bool,
}

/// What was found after an activation.
#[derive(Debug, Clone)]
pub struct Checks {
    /// The units that have failed and had not failed before; `None` without systemd.
    pub new_failures: Option<Vec<String>>,
    /// What the health checks found.
    pub fault: Option<Fault>,
}

/// What follows from a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The system runs, or boots next.
    Done,
    /// Another switch was at work, and nothing was activated: tried again later, and nobody is blamed.
    Postpone(String),
    /// It cannot be tested on this machine.
    Skip(String),
    /// The switch died: it is run again.
    Repeat,
    /// Nothing was activated: profile and boot menu go back to what runs.
    Restore(String),
    /// Something failed, and the new system stays.
    Keep(String),
    /// The system before is activated again.
    RollBack(Fault),
}

/// What follows from a switch. The machine is only checked if that decides.
pub fn of_activation(switched: &Switched, check: impl FnOnce() -> Result<Checks>) -> Result<Next> {
    match without_checks(switched) {
        Some(next) => Ok(next),
        None => Ok(with_checks(&switched.exit, &check()?)),
    }
}

/// What follows whatever the checks would find; `None` if they decide.
fn without_checks(switched: &Switched) -> Option<Next> {
    let (exit, operation) = (&switched.exit, switched.operation);
    let how = exit.to_string();
    let roll_back = |error| Some(Next::RollBack(Fault::local(error)));
    match exit {
        exit if exit.crashed() => {
            if switched.retries_exhausted {
                return roll_back(how);
            }
            Some(Next::Repeat)
        }
        exit if exit.awaits_reboot() && operation == Operation::Test => {
            let reason = "only a reboot changes its init, so it cannot be tested while this system runs";
            Some(Next::Skip(reason.to_string()))
        }
        // `boot` only runs the boot loader.
        exit if !operation.activates() && exit.is_success() => Some(Next::Done),
        exit if exit.is_success() => None,
        exit if switched.is_unchanged || !operation.activates() => Some(match exit {
            SwitchExit::Status(SwitchExit::BUSY) => {
                Next::Postpone(SwitchExit::BUSY_WORDS.to_string())
            }
            SwitchExit::Status(1) => Next::Restore(format!(
                "{how}: the boot loader or a check before the switch failed, and nothing was activated"
            )),
            SwitchExit::Status(_) | SwitchExit::Signal(_) | SwitchExit::Lost => {
                Next::Restore(format!("{how}, and nothing was activated"))
            }
        }),
        _ if switched.runs_new => None,
        _ => roll_back(format!("{how} half-way through the activation")),
    }
}

/// What follows from the checks.
fn with_checks(exit: &SwitchExit, checks: &Checks) -> Next {
    if let Some(fault) = &checks.fault {
        return Next::RollBack(fault.clone());
    }
    if exit.awaits_reboot() {
        return Next::Done;
    }
    let why = match (exit, checks.new_failures.as_deref()) {
        (exit, Some(units @ [_, ..])) if exit.is_success() => {
            format!(
                ": the new system runs, but units failed: {}",
                units.join(", ")
            )
        }
        (SwitchExit::Status(SwitchExit::UNITS_FAILED), None) => {
            ": the new system runs, but units failed".to_string()
        }
        (exit, None | Some(_)) if exit.is_success() => return Next::Done,
        (SwitchExit::Status(2), _) => {
            ": the activation script failed; the new system stays active".to_string()
        }
        (SwitchExit::Status(_) | SwitchExit::Signal(_) | SwitchExit::Lost, _) => {
            " after the activation; the new system stays active".to_string()
        }
    };
    Next::Keep(exit.to_string() + &why)
}

/// An attempt whose comin died while it changed the machine.
#[derive(Debug, Clone)]
pub struct Interrupted {
    /// The stage that was under way.
    pub stage: Stage,
    /// Why it was being rolled back, if it was.
    pub fault: Option<String>,
    /// How its switch ended, if it did.
    pub exit: Option<SwitchExit>,
    /// The machine has booted since, and has the new system as the operation asks for.
    pub has_booted_it: bool,
    /// Another interruption would be one too many.
    pub retries_exhausted: bool,
}

/// What follows from the death of a comin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The switch never came to an end: it is run again if the commit is still wanted.
    Repeat,
    /// The switch went on without comin, and ended so.
    Conclude(SwitchExit),
    /// The system before is activated again.
    RollBack(Fault),
}

/// What follows from the death of a comin.
pub fn of_interrupted(interrupted: Interrupted) -> Recovery {
    match (interrupted.fault, interrupted.exit) {
        (Some(fault), _) => Recovery::RollBack(Fault::local(fault)),
        (None, Some(exit)) => Recovery::Conclude(exit),
        // Whatever became of the switch, the boot has done its work.
        (None, None) if interrupted.has_booted_it => Recovery::Conclude(SwitchExit::Status(0)),
        // Not tried again, so it must not stay half done.
        (None, None) if interrupted.retries_exhausted => Recovery::RollBack(Fault::local(format!(
            "it was interrupted while {} too often",
            interrupted.stage.words()
        ))),
        (None, None) => Recovery::Repeat,
    }
}

#[cfg(test)]
mod tests;
