//! What every step of the story is given.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Error, Result};
use jiff::{tz::TimeZone, Timestamp, Zoned};

use crate::config::{paths::Paths, Config};
use crate::nix::evaluator;
use crate::signature::signers::Signers;
use crate::sys::owner::Owner;

/// A machine: its configuration and where its files are.
pub struct Context {
    /// What it follows.
    pub config: Config,
    /// The file that says so. A system that is activated may bring another one.
    pub config_file: PathBuf,
    /// The file that said so when this comin began, such as `/nix/store/…-comin-config.json`.
    pub own_config_file: PathBuf,
    /// Where everything lies.
    pub paths: Paths,
    /// Whose signatures count, once that has been read: see [`Context::signers`].
    pub signers: OnceLock<Result<Option<Signers>>>,
}

impl Context {
    /// Reads whose signatures count. Keys that cannot be read are a mistake in the configuration.
    pub fn check_signers(&self) -> Result<()> {
        let signers = Signers::load(&self.config, &self.private_dir())?;
        self.signers.get_or_init(|| Ok(signers));
        Ok(())
    }

    /// Whose signatures count; `None` if the owner requires none. If the keys cannot be read, no commit can be verified.
    pub fn signers(&self) -> Result<Option<&Signers>, &Error> {
        let load = || Signers::load(&self.config, &self.private_dir());
        self.signers.get_or_init(load).as_ref().map(Option::as_ref)
    }

    /// Where temporary files with settings lie. Root's are where no other user can fill the disk.
    pub fn private_dir(&self) -> PathBuf {
        if rustix::process::geteuid().is_root() {
            self.paths.private()
        } else {
            std::env::temp_dir()
        }
    }

    /// The user who evaluates what root deploys, if that is not root.
    pub fn evaluator(&self) -> Result<Option<Owner>> {
        if self.config.evaluate_as_root || !self.paths.is_machine() {
            return Ok(None);
        }
        Owner::named(evaluator::USER, &self.paths.users())
    }

    /// The paths whose repository is evaluated. Somebody who has taken over a fetch may have written to the mirror: a copy is
    /// evaluated if signatures or confirmers have to protect the machine, or if another user than root fetches.
    pub fn source(&self) -> Result<Paths> {
        let fetcher = Owner::other_than_root(&self.paths.repository())?;
        Ok(if self.config.is_guarded() || fetcher.is_some() {
            self.paths.of_verified()
        } else {
            self.paths.clone()
        })
    }

    /// Now, in the local time zone if a window needs that. Otherwise in UTC, because the search for the local time zone
    /// reads all time zones.
    pub fn local_time(&self) -> Zoned {
        let config = &self.config;
        let has_windows = !config.gates.windows.is_empty() || config.reboot.window.is_some();
        let zone = if has_windows {
            TimeZone::system()
        } else {
            TimeZone::UTC
        };
        Timestamp::now().to_zoned(zone)
    }

    /// The profile whose generations comin makes.
    pub fn profile(&self) -> PathBuf {
        self.paths.profile(&self.config.profile)
    }
}

/// How a command ended whose failures have been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Done, or there was nothing to do.
    Success,
    /// Something failed, and has been said.
    Failure,
}

impl Completion {
    /// Both ended in success, or one of them did not.
    pub fn and(self, other: Self) -> Self {
        Self::failed_if([self, other].contains(&Self::Failure))
    }

    /// A failure, if something has failed.
    pub fn failed_if(has_failed: bool) -> Self {
        if has_failed {
            Self::Failure
        } else {
            Self::Success
        }
    }
}

impl From<Completion> for ExitCode {
    fn from(completion: Completion) -> Self {
        match completion {
            Completion::Success => Self::SUCCESS,
            Completion::Failure => Self::FAILURE,
        }
    }
}
