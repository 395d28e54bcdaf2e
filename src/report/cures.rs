//! What a person can do about what went wrong.

use super::target::TargetView;
use crate::model::{Action, Cure, Drift};
use crate::sys::diagnosis::Cause;

/// How many units are named in a command.
const UNITS: usize = 3;

/// Against a cause that lies in this machine.
pub(super) fn of_cause(cause: Cause) -> Vec<Cure> {
    match cause {
        Cause::DiskFull => Cure::free_space().to_vec(),
        Cause::OutOfMemory => vec![Cure::look("free -h")],
        Cause::WrongClock => vec![Cure::look("timedatectl")],
        Cause::Restricted => Vec::new(),
    }
}

/// If this is in the way of a target. Another try may replace what somebody has activated.
pub(super) fn of_action(action: &Action, target: &TargetView, drift: Option<&Drift>) -> Vec<Cure> {
    let replaces = drift.is_some_and(|drift| drift.is_ended_by(target.operation));
    let cures = action.cures().into_iter();
    let cures = cures.map(|cure| match cure {
        cure if replaces && cure == Cure::retry() => {
            Cure::retry_to("try it again, in place of the other system")
        }
        cure => cure,
    });
    cures.collect()
}

/// If these units have failed.
pub(super) fn of_units(units: &[String]) -> Vec<Cure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    if units.len() > UNITS || !units.iter().all(|unit| unit.chars().all(is_plain)) {
        return vec![Cure::look("systemctl --failed")];
    }
    vec![
        Cure::look(format!("systemctl status {}", units.join(" "))),
        Cure::look(format!("journalctl -u {}", units.join(" -u "))),
    ]
}
