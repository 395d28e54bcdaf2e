//! Gates: what may keep a stage of a deployment from beginning, for a while or for good.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use derive_more::Display;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::model::confirmation::Step;
use crate::model::schedule::Delay;
use crate::model::window::{self, Window};
use crate::sys::text;

/// The exit code of a gate that is to be asked again later: `EX_TEMPFAIL` of sysexits.h.
const WAIT: i32 = 75;
/// How long a closed gate is not asked again.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);
/// The name of the gate that waits for free space.
pub const MIN_FREE: &str = "min_free";
/// The name of the gate that waits for a time.
const DEPLOY_WINDOW: &str = "deploy_window";
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

impl From<Step> for Before {
    fn from(step: Step) -> Self {
        match step {
            Step::Build => Self::Build,
            Step::Deploy => Self::Deploy,
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
    /// What waits for it to open, waits so: as in "at the gate ac".
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
    // Whoever tries something out waits for it.
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
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    #[test]
    fn the_first_closed_gate_decides() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let zoned = now.to_zoned(TimeZone::UTC);
        // The gates, as `NAME:STAGE:EXIT CODE`, the window, and the free bytes of 100; the stage, whether it is of a
        // testing branch; the gates that are asked, and the one that is closed: `~` is asked again, `!` holds.
        #[rustfmt::skip]
        let table = [
            ("", "build", false, "", ""),
            ("a:build:0 b:build:0", "build", false, "a b", ""),
            ("a:build:75 b:build:0", "build", false, "a", "~a"),
            ("a:build:0 b:build:1", "build", false, "a b", "!b"),
            ("a:build:75 b:build:1", "build", false, "a", "~a"),
            ("a:build:1 b:build:75", "build", true, "a", "!a"),
            ("a:build:-", "build", false, "a", "~a"),
            ("a:build:137", "build", false, "a", "!a"),
            // Each stage has its own.
            ("a:build:1 b:deploy:75 c:reboot:1", "deploy", false, "b", "~b"),
            ("a:build:1 b:deploy:75 c:reboot:1", "reboot", false, "c", "!c"),
            ("a:build:1 b:deploy:75 c:reboot:0", "reboot", true, "c", ""),
            // A window is for activations of main.
            ("window a:deploy:0", "deploy", false, "", "~deploy_window"),
            ("window a:deploy:0", "deploy", true, "a", ""),
            ("window a:deploy:1", "deploy", true, "a", "!a"),
            ("window a:build:0", "build", false, "a", ""),
            ("window a:reboot:0", "reboot", false, "a", ""),
            // Space is for builds, of any branch.
            ("free:99 a:build:0", "build", false, "a", ""),
            ("free:100 a:build:0", "build", false, "a", ""),
            ("free:101 a:build:0", "build", false, "", "~min_free"),
            ("free:101 a:build:0", "build", true, "", "~min_free"),
            ("free:101 a:deploy:0", "deploy", false, "a", ""),
            ("window free:101 a:deploy:0", "deploy", false, "", "~deploy_window"),
        ];
        for (written, before, testing, asked, wanted) in table {
            let before: Before = serde_json::from_str(&format!("{before:?}")).unwrap();
            let mut gates = Gates {
                commands: Vec::new(),
                windows: Vec::new(),
                min_free: 0,
            };
            for word in written.split_whitespace() {
                let parts: Vec<&str> = word.split(':').collect();
                match parts[..] {
                    ["window"] => {
                        gates.windows = vec![Window::new("22:00", "04:00", &[]).unwrap()];
                    }
                    ["free", bytes] => gates.min_free = bytes.parse().unwrap(),
                    [name, stage, code] => gates.commands.push(Gate {
                        name: name.to_string(),
                        before: serde_json::from_str(&format!("{stage:?}")).unwrap(),
                        command: code.to_string(),
                        timeout: Duration::ZERO,
                    }),
                    _ => panic!("{word}"),
                }
            }
            let mut names = Vec::new();
            let ask = |gate: &Gate| {
                names.push(gate.name.clone());
                GateAnswer::of(gate.command.parse().ok(), "why\n")
            };
            let closed = first_closed(&gates, before, testing, &zoned, || Ok(100), ask).unwrap();
            let told = closed.as_ref().map_or(String::new(), |closed| {
                let mark = closed.again.map_or('!', |_| '~');
                format!("{mark}{}", closed.gate)
            });
            let case = format!("{written} before {before:?}, testing: {testing}");
            assert_eq!(
                (names.join(" "), &*told),
                (asked.to_string(), wanted),
                "{case}"
            );
            if let Some(again) = closed.and_then(|closed| closed.again) {
                let minutes = if wanted == "~deploy_window" { 600 } else { 1 };
                let until = now + SignedDuration::from_mins(minutes);
                assert_eq!(again.until, until, "{case}");
            }
        }
    }

    #[test]
    fn a_reason_is_one_short_line_that_can_be_shown() {
        let waits = |said: &str| match GateAnswer::of(Some(75), said) {
            GateAnswer::Wait(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(waits(" on battery\n"), "on battery");
        assert_eq!(waits("\x1b[2J\u{202e}x"), "\u{fffd}[2J\u{fffd}x");
        assert_eq!(waits(" \n"), "it gave no reason");
        assert_eq!(waits(&"é".repeat(5000)).chars().count(), MAX_REASON + 1);
    }
}
