//! Activation: `switch-to-configuration`, run so that it outlives comin.
//!
//! A switch may stop, change or remove comin's own units, and comin may die while it runs. So the
//! switch runs in a transient unit, below a runner of ours that holds a lock while it runs and
//! leaves the result in a file. Whoever wants to know how it ended waits for the lock and reads the
//! file; neither the unit's status nor a pipe would do, for both go away with comin.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::Operation;
use crate::fs::{self, Lock};
use crate::paths::Paths;
use crate::process;

/// nixos-rebuild's own name, so that a rebuild by hand and ours exclude each other.
const UNIT: &str = "nixos-rebuild-switch-to-configuration";
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

/// How it ended, as the runner left it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    activation: Activation,
    ended: Ended,
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

    /// Success, or a sentence. The codes are those of nixpkgs' switch-to-configuration-ng.
    ///
    /// # Errors
    /// The activation failed, or the system is not entirely what it should be.
    pub fn check(&self) -> Result<()> {
        let how = match self {
            // The init interface has changed: the boot loader has it, and a reboot is needed.
            Self::Status(0 | 100) => return Ok(()),
            Self::Status(1) => "exited with status 1: the boot loader or a check before the switch failed, and nothing was activated",
            Self::Status(2) => "exited with status 2: the activation script failed, while the units were switched",
            Self::Status(4) => "exited with status 4: the new system runs, but units failed",
            Self::Status(11) => "exited with status 11: another switch was running, or a service it needs was down",
            Self::Status(code) => bail!("switch-to-configuration exited with status {code}"),
            Self::Signal(signal) => {
                bail!("switch-to-configuration was killed by signal {signal}")
            }
        };
        bail!("switch-to-configuration {how}")
    }
}

impl Activation {
    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, paths: &Paths) -> Result<Ended> {
        fs::remove_optional(&paths.activation())?;
        let runner = std::env::current_exe().context("Failed to find the comin program")?;
        let mut command = if paths.is_machine() && Path::new("/run/systemd/system").exists() {
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
        let started = process::run(&mut command, "the activation", None);
        match self.outcome(paths)? {
            Some(ended) => Ok(ended),
            None => match started {
                Ok(_) => bail!("the activation left no result"),
                Err(error) => Err(error),
            },
        }
    }

    /// How it ended: waits while it runs. `None` if it never came to an end.
    ///
    /// # Errors
    /// The lock or the result cannot be read.
    pub fn outcome(&self, paths: &Paths) -> Result<Option<Ended>> {
        let _ended = Lock::wait(&paths.activation_lock())?;
        let Some(content) = fs::read_optional(&paths.activation())? else {
            return Ok(None);
        };
        let record: Record = serde_json::from_slice(&content)
            .with_context(|| format!("Failed to understand {}", paths.activation().display()))?;
        Ok(Some(record.ended).filter(|_| record.activation == *self))
    }

    /// The runner: runs `switch-to-configuration` and leaves its result.
    ///
    /// # Errors
    /// It cannot be started, or the result cannot be written.
    pub fn carry_out(self, paths: &Paths) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let _running = Lock::wait(&paths.activation_lock())?;
        let program = self.toplevel.join("bin/switch-to-configuration");
        let status = Command::new(&program)
            .arg(self.operation.action())
            .status()
            .with_context(|| format!("Failed to run {}", program.display()))?;
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Status(code),
            (None, signal) => Ended::Signal(signal.unwrap_or_default()),
        };
        let record = Record {
            version: 1,
            activation: self,
            ended,
        };
        fs::replace(&paths.activation(), &serde_json::to_vec(&record)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_told_apart() {
        assert!(Ended::Status(0).check().is_ok());
        assert!(Ended::Status(100).check().is_ok());
        for (ended, wanted) in [
            (Ended::Status(1), "nothing was activated"),
            (Ended::Status(2), "activation script failed"),
            (Ended::Status(4), "units failed"),
            (Ended::Status(11), "another switch"),
            (Ended::Status(101), "status 101"),
            (Ended::Signal(9), "signal 9"),
        ] {
            let error = ended.check().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
