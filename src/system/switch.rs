//! Activation: `switch-to-configuration`, run so that it outlives comin.
//!
//! A switch may stop, change or remove comin's own units, and comin may die while it runs. So the
//! switch runs in a transient unit, below a runner of ours that holds a lock while it runs and
//! leaves the result in a file. Whoever wants to know how it ended waits for the lock and reads the
//! file; neither the unit's status nor a pipe would do, for both go away with comin.
//!
//! Before, the same file has the order: comin may die when the runner has been started and does not
//! have the lock yet. Whoever finds the lock free and no result takes the order back, and a runner
//! without one does nothing. So nothing is activated behind anybody's back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;
use crate::model::{Operation, SwitchExit};
use crate::sys::fs::{self, Lock};
use crate::sys::{command, journald, json};
use crate::system::systemd::{self, systemctl};

/// nixos-rebuild's own name, so that a rebuild by hand and ours exclude each other.
const UNIT: &str = "nixos-rebuild-switch-to-configuration";
/// The lock of every `switch-to-configuration`.
const SWITCH_LOCK: &str = "switch-to-configuration.lock";
/// How long another switch is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often its lock is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// What nixos-rebuild hands on to the switch.
const ENVIRONMENT: [&str; 3] = [
    "LOCALE_ARCHIVE",
    "NIXOS_INSTALL_BOOTLOADER",
    "NIXOS_NO_CHECK",
];

/// One run of `switch-to-configuration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The attempt that it belongs to.
    pub attempt: u64,
    /// The system.
    pub toplevel: PathBuf,
    /// What is done with it.
    pub operation: Operation,
}

/// The order for it, and how it ended once the runner is done.
#[derive(Debug, Serialize, Deserialize)]
struct SwitchRecord {
    activation: Activation,
    /// Whether the runner has started the switch.
    #[serde(default)]
    begun: bool,
    ended: Option<SwitchExit>,
}

impl SwitchRecord {
    fn read(paths: &Paths) -> Result<Option<Self>> {
        json::read(&paths.activation(), "")
    }

    fn write(&self, paths: &Paths) -> Result<()> {
        json::write(&paths.activation(), self)
    }
}

impl Activation {
    /// That of a system by an attempt.
    pub fn new(attempt: u64, toplevel: PathBuf, operation: Operation) -> Self {
        Self {
            attempt,
            toplevel,
            operation,
        }
    }

    /// Starts it and waits for its end.
    pub fn run(&self, paths: &Paths) -> Result<SwitchExit> {
        let alone = Lock::wait(&paths.activation_lock())?;
        self.record(false, None).write(paths)?;
        drop(alone);
        let runner = std::env::current_exe().context("Failed to find the comin program")?;
        let in_unit = systemd::is_here(paths);
        // One that has failed stays loaded, and keeps another of its name from being started.
        if in_unit && Path::new(&format!("/run/systemd/transient/{UNIT}.service")).exists() {
            systemctl(paths, &["reset-failed", &format!("{UNIT}.service")]);
        }
        let mut command = if in_unit {
            let description = "Activation of a NixOS system by comin";
            let mut systemd = systemd::transient(UNIT, description, &ENVIRONMENT);
            systemd.args(["--wait", "--service-type=exec"]);
            // For the lines of the switch itself, which are the unit's and not ours.
            let fields = journald::context().into_iter();
            for (name, value) in fields.filter(|(_, value)| journald::is_plain(value)) {
                systemd.arg(format!("--property=LogExtraFields={name}={value}"));
            }
            systemd.arg("--").arg(runner);
            systemd
        } else {
            Command::new(runner)
        };
        command
            .arg("--root")
            .arg(paths.root())
            .arg("activate")
            .arg(self.attempt.to_string())
            .arg(&self.toplevel)
            .arg(self.operation.to_string());
        let what = "the activation";
        let started = if in_unit {
            command::run(&mut command, what, None).map(|_| ())
        } else {
            command::run_detached(&mut command, what)
        };
        match (self.take_back(paths)?, started) {
            (Some(record), _) if record.begun => Ok(record.ended.unwrap_or(SwitchExit::Lost)),
            (_, Ok(())) => bail!("the activation left no result"),
            (_, Err(error)) => Err(error),
        }
    }

    fn record(&self, begun: bool, ended: Option<SwitchExit>) -> SwitchRecord {
        SwitchRecord {
            activation: self.clone(),
            begun,
            ended,
        }
    }

    /// How it ended: waits while it runs. `None` if it never came to an end; then it never will.
    pub fn outcome(&self, paths: &Paths) -> Result<Option<SwitchExit>> {
        Ok(self.take_back(paths)?.and_then(|record| record.ended))
    }

    /// What is recorded of it: waits while it runs. An order that was not carried out is taken back.
    fn take_back(&self, paths: &Paths) -> Result<Option<SwitchRecord>> {
        let _ended = Lock::wait(&paths.activation_lock())?;
        let record = SwitchRecord::read(paths)?.filter(|record| record.activation == *self);
        if record.as_ref().is_none_or(|record| record.ended.is_none()) {
            fs::remove_optional(&paths.activation())?;
        }
        Ok(record)
    }

    /// The runner: runs `switch-to-configuration` and leaves its result.
    ///
    /// # Errors
    /// Nobody wants it any more, it cannot be started, or the result cannot be written.
    pub fn run_switch(&self, paths: &Paths) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let _running = Lock::wait(&paths.activation_lock())?;
        let order = SwitchRecord::read(paths)?;
        let is_ours = |order: &SwitchRecord| order.activation == *self && order.ended.is_none();
        ensure!(
            order.as_ref().is_some_and(is_ours),
            "There is no order for this activation any more"
        );
        let program = self.toplevel.join("bin/switch-to-configuration");
        let mut switch = Command::new(&program);
        let switch = switch.arg(self.operation.to_string()).spawn();
        let mut switch = switch.with_context(|| format!("Failed to run {}", program.display()))?;
        if let Err(error) = self.record(true, None).write(paths) {
            log::warn!("{error:#}");
        }
        let status = switch.wait()?;
        let exit = match (status.code(), status.signal()) {
            (Some(code), _) => SwitchExit::Status(code),
            (None, signal) => SwitchExit::Signal(signal.unwrap_or_default()),
        };
        self.record(true, Some(exit)).write(paths)
    }
}

/// Waits for the end of another `switch-to-configuration`, such as that of a rebuild by hand: ours would not. Any user
/// of the machine can hold its lock, so nobody waits long for it.
pub fn await_other_switch(paths: &Paths) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while is_busy(paths)? {
        ensure!(
            Instant::now() < deadline,
            "another switch-to-configuration is still running"
        );
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether some `switch-to-configuration` runs.
pub fn is_busy(paths: &Paths) -> Result<bool> {
    Ok(Lock::take_if_free(&paths.switch_lists().join(SWITCH_LOCK))?.is_none())
}

/// Kills our activation that runs, if one does. The same unit may be somebody's rebuild by hand.
pub fn kill(paths: &Paths) -> Result<()> {
    if Lock::take_if_free(&paths.activation_lock())?.is_none() {
        systemctl(paths, &["kill", "--signal=KILL", UNIT]);
        systemctl(paths, &["stop", UNIT]);
    }
    Ok(())
}
