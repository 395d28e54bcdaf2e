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

use std::path::PathBuf;
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::Operation;
use crate::fields;
use crate::fs::{self, Lock};
use crate::paths::Paths;
use crate::process;
use crate::systemd::{self, systemctl};

/// nixos-rebuild's own name, so that a rebuild by hand and ours exclude each other.
const UNIT: &str = "nixos-rebuild-switch-to-configuration";
/// The lock of every `switch-to-configuration`.
const SWITCH_LOCK: &str = "switch-to-configuration.lock";
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
struct Record {
    version: u32,
    activation: Activation,
    ended: Option<Ended>,
}

impl Record {
    fn read(paths: &Paths) -> Result<Option<Self>> {
        let Some(content) = fs::read_optional(&paths.activation())? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&content)
            .with_context(|| format!("Failed to understand {}", paths.activation().display()))?;
        Ok(Some(record))
    }

    fn write(activation: Activation, ended: Option<Ended>, paths: &Paths) -> Result<()> {
        let record = Self {
            version: 1,
            activation,
            ended,
        };
        fs::replace(&paths.activation(), &serde_json::to_vec(&record)?)
    }
}

/// How `switch-to-configuration` ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

impl Ended {
    /// Whether nothing at all was activated.
    #[must_use]
    pub fn before_activation(&self) -> bool {
        *self == Self::Status(1)
    }

    /// Whether it died half-way: killed, or by a panic of its own. The next run recovers.
    #[must_use]
    pub fn died(&self) -> bool {
        matches!(self, Self::Status(101) | Self::Signal(_))
    }

    /// What went wrong, as a sentence. The codes are those of nixpkgs' switch-to-configuration-ng.
    /// `new_failures` are the units that have failed since, where that is known: units that had
    /// failed before are no news.
    #[must_use]
    pub fn error(&self, new_failures: Option<&[String]>) -> Option<String> {
        let how = match (self, new_failures) {
            // 100: the init interface has changed: the boot loader has it, and a reboot is needed.
            (Self::Status(0 | 100), _) | (Self::Status(4), Some([])) => return None,
            (Self::Status(1), _) => "exited with status 1: the boot loader or a check before the switch failed, and nothing was activated".to_string(),
            (Self::Status(2), _) => "exited with status 2: the activation script failed, while the units were switched".to_string(),
            (Self::Status(4), None) => "exited with status 4: the new system runs, but units failed".to_string(),
            (Self::Status(4), Some(units)) => format!("exited with status 4: the new system runs, but units failed: {}", units.join(", ")),
            (Self::Status(11), _) => "exited with status 11: another switch was running, or a service it needs was down".to_string(),
            (Self::Status(code), _) => format!("exited with status {code}"),
            (Self::Signal(signal), _) => format!("was killed by signal {signal}"),
        };
        Some(format!("switch-to-configuration {how}"))
    }
}

impl Activation {
    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, paths: &Paths) -> Result<Ended> {
        let alone = Lock::wait(&paths.activation_lock())?;
        Record::write(self.clone(), None, paths)?;
        drop(alone);
        let runner = std::env::current_exe().context("Failed to find the comin program")?;
        let in_unit = systemd::is_here(paths);
        let mut command = if in_unit {
            let mut systemd = Command::new("systemd-run");
            systemd
                .arg(format!("--unit={UNIT}"))
                .args(["--collect", "--wait", "--quiet", "--no-ask-password"])
                .arg("--service-type=exec")
                .arg("--description=Activation of a NixOS system by comin");
            for name in ENVIRONMENT
                .iter()
                .filter(|name| std::env::var_os(name).is_some())
            {
                systemd.args(["-E", name]);
            }
            // For the lines of the switch itself, which are the unit's and not ours.
            for field in fields::now().iter().filter(|field| field.is_plain()) {
                systemd.arg(format!("--property=LogExtraFields={field}"));
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
            .arg(self.operation.action());
        let what = "the activation";
        let started = if in_unit {
            process::run(&mut command, what, None).map(|_| ())
        } else {
            process::run_to_outlive(&mut command, what)
        };
        match self.outcome(paths)? {
            Some(ended) => Ok(ended),
            None => match started {
                Ok(()) => bail!("the activation left no result"),
                Err(error) => Err(error),
            },
        }
    }

    /// How it ended: waits while it runs. `None` if it never came to an end; then it never will.
    ///
    /// # Errors
    /// The lock or the result cannot be read.
    pub fn outcome(&self, paths: &Paths) -> Result<Option<Ended>> {
        let _ended = Lock::wait(&paths.activation_lock())?;
        let record = Record::read(paths)?.filter(|record| record.activation == *self);
        let ended = record.and_then(|record| record.ended);
        if ended.is_none() {
            fs::remove_optional(&paths.activation())?;
        }
        Ok(ended)
    }

    /// The runner: runs `switch-to-configuration` and leaves its result.
    ///
    /// # Errors
    /// Nobody wants it any more, it cannot be started, or the result cannot be written.
    pub fn carry_out(self, paths: &Paths) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let _running = Lock::wait(&paths.activation_lock())?;
        let order = Record::read(paths)?;
        let is_ours = |order: &Record| order.activation == self && order.ended.is_none();
        ensure!(
            order.as_ref().is_some_and(is_ours),
            "There is no order for this activation any more"
        );
        let program = self.toplevel.join("bin/switch-to-configuration");
        let ended = loop {
            // It would not wait for another one, such as that of a rebuild by hand.
            drop(Lock::wait(&paths.switch_lists().join(SWITCH_LOCK))?);
            let status = Command::new(&program)
                .arg(self.operation.action())
                .status()
                .with_context(|| format!("Failed to run {}", program.display()))?;
            match (status.code(), status.signal()) {
                // Another one came first after all, if there is one.
                (Some(11), _) if is_busy(paths)? => {}
                (Some(code), _) => break Ended::Status(code),
                (None, signal) => break Ended::Signal(signal.unwrap_or_default()),
            }
        };
        Record::write(self, Some(ended), paths)
    }
}

/// Whether some `switch-to-configuration` runs.
///
/// # Errors
/// The lock cannot be looked at.
pub fn is_busy(paths: &Paths) -> Result<bool> {
    Ok(Lock::take_if_free(&paths.switch_lists().join(SWITCH_LOCK))?.is_none())
}

/// Kills our activation that runs, if one does. The same unit may be somebody's rebuild by hand.
///
/// # Errors
/// The lock cannot be read.
pub fn kill(paths: &Paths) -> Result<()> {
    if Lock::take_if_free(&paths.activation_lock())?.is_none() {
        systemctl(paths, &["kill", "--signal=KILL", UNIT]);
        systemctl(paths, &["stop", UNIT]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_told_apart() {
        let units = ["web.service".to_string(), "db.service".to_string()];
        assert_eq!(Ended::Status(0).error(None), None);
        assert_eq!(Ended::Status(100).error(None), None);
        assert_eq!(Ended::Status(4).error(Some(&[])), None);
        for (ended, failures, wanted) in [
            (Ended::Status(1), None, "nothing was activated"),
            (
                Ended::Status(2),
                Some(&units[..]),
                "activation script failed",
            ),
            (Ended::Status(4), None, "units failed"),
            (
                Ended::Status(4),
                Some(&units[..]),
                "units failed: web.service, db.service",
            ),
            (Ended::Status(11), None, "another switch"),
            (Ended::Status(101), None, "status 101"),
            (Ended::Signal(9), None, "signal 9"),
        ] {
            let error = ended.error(failures).unwrap();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
