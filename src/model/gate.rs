//! Gates: what may keep a stage of a deployment from beginning, for a while or for good.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use derive_more::Display;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::model::window::{self, Window};
use crate::model::{confirmation::ConfirmStep, schedule::Delay};
use crate::sys::text;

/// The exit code of a gate that is to be asked again later: `EX_TEMPFAIL` of sysexits.h.
const WAIT: i32 = 75;
/// How long a closed gate is not asked again.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);
/// The name of the gate that waits for free space.
pub const MIN_FREE: &str = "min_free";
/// The name of the gate that waits for a time.
const DEPLOY_WINDOW: &str = "deploy_window";
/// The names that no command can have.
pub const BUILT_IN: [&str; 2] = [MIN_FREE, DEPLOY_WINDOW];
/// More of a reason than anybody reads.
const MAX_REASON: usize = 200;

/// The stage that a gate stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[display(rename_all = "lowercase")]
pub enum Before {
    /// What was evaluated is built.
    Build,
    /// What was built is activated.
    Deploy,
    /// The machine reboots for what was activated.
    Reboot,
}

impl Before {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Build, Self::Deploy, Self::Reboot];
}

impl From<ConfirmStep> for Before {
    fn from(step: ConfirmStep) -> Self {
        match step {
            ConfirmStep::Build => Self::Build,
            ConfirmStep::Deploy => Self::Deploy,
        }
    }
}

/// A command that is asked before a stage.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Its name in the configuration.
    pub name: String,
    /// Where it stands.
    pub before: Before,
    /// For `/bin/sh`.
    pub command: String,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// Everything that has to let a deployment pass.
#[derive(Debug, Clone)]
pub struct Gates {
    /// The commands, in the order in which they are asked.
    pub commands: Vec<Gate>,
    /// The times at which a system may be activated; any time if there is none.
    pub windows: Vec<Window>,
    /// The bytes that have to be free on the disk of the Nix store before something is built.
    pub min_free: u64,
}

impl Gates {
    /// Whether everything passes at any time.
    pub fn are_none(&self) -> bool {
        self.commands.is_empty() && self.windows.is_empty() && self.min_free == 0
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateAnswer {
    /// The stage may begin.
    Go,
    /// The gate is asked again later.
    Wait(String),
    /// The commit is held.
    Held(String),
}

impl GateAnswer {
    /// The answer of a command by its exit code, `None` if it gave none, and the last line that it printed.
    pub fn of(code: Option<i32>, said: &str) -> Self {
        let said = text::printable(said);
        let reason = match said.trim() {
            "" => "it gave no reason",
            said => said,
        };
        let reason = text::shortened(reason, MAX_REASON).into_owned();
        match code {
            Some(0) => Self::Go,
            // A gate that hangs or is killed lets nothing pass, and has refused nothing.
            Some(WAIT) | None => Self::Wait(reason),
            Some(_) => Self::Held(reason),
        }
    }
}

/// A gate that lets nothing pass now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedGate {
    /// Its name, or the key of the configuration that closes it.
    pub gate: String,
    /// Why, in one line that can be shown.
    pub reason: String,
    /// When it is asked again; `None` if it has refused the commit.
    pub again: Option<Delay>,
}

impl ClosedGate {
    /// Where an attempt waits, as in "at the gate ac".
    pub fn place(&self) -> String {
        match self.gate.as_str() {
            DEPLOY_WINDOW => "for the deploy window".to_string(),
            MIN_FREE => "for free space".to_string(),
            name => format!("at the gate {name}"),
        }
    }

    /// Whether it has refused the commit, and is not asked again.
    pub fn refuses(&self) -> bool {
        self.again.is_none()
    }

    /// Whether it need not be asked again yet.
    pub fn is_closed_at(&self, now: Timestamp) -> bool {
        self.again.is_none_or(|wait| !wait.has_elapsed(now))
    }
}

/// As in "the gate ac is closed (on battery)".
impl fmt::Display for ClosedGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.refuses() {
            "refused it"
        } else {
            "is closed"
        };
        write!(f, "the gate {} {how} ({})", self.gate, self.reason)
    }
}

/// The first gate that is closed. A command is only asked if everything before it is open. `free` are the bytes
/// that are free on the disk of the Nix store.
pub fn first_closed(
    gates: &Gates,
    before: Before,
    testing: bool,
    now: &Zoned,
    free: impl FnOnce() -> Result<u64>,
    mut ask: impl FnMut(&Gate) -> GateAnswer,
) -> Result<Option<ClosedGate>> {
    let later = Delay::new(now.timestamp(), PAUSE);
    let closed = |gate: &str, reason, again| {
        let gate = gate.to_string();
        Ok(Some(ClosedGate {
            gate,
            reason,
            again,
        }))
    };
    // Whoever tests something is there, and does not want to wait.
    if before == Before::Deploy && !testing {
        if let Some(opens) = window::opens(&gates.windows, now) {
            let reason = format!("it opens at {}", text::at(opens));
            let again = Delay::until(now.timestamp(), opens);
            return closed(DEPLOY_WINDOW, reason, Some(again));
        }
    }
    if before == Before::Build && gates.min_free > 0 {
        let free = free()?;
        if free < gates.min_free {
            let (free, wanted) = (free >> 20, gates.min_free >> 20);
            let reason = format!("{free} MiB are free for /nix/store, and {wanted} MiB are needed");
            return closed(MIN_FREE, reason, Some(later));
        }
    }
    for gate in gates.commands.iter().filter(|gate| gate.before == before) {
        match ask(gate) {
            GateAnswer::Go => {}
            GateAnswer::Wait(reason) => return closed(&gate.name, reason, Some(later)),
            GateAnswer::Held(reason) => return closed(&gate.name, reason, None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
