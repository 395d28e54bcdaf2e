//! Signatures: whether a commit is signed by somebody whom the machine's owner trusts.
//!
//! What is signed, and by whom, is judged by gpg and ssh-keygen. Each runs in a private folder with
//! the owner's keys and nothing else: no keyring, configuration, agent, daemon or environment of
//! whoever runs comin has a say.

mod gpg;
mod signed;
mod ssh;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Error, Result};

use crate::config::Config;
use crate::model::signature::{Format, Key, Signer, Unverified};
use crate::sys::temp_dir::Passing;
use gpg::Keyring;
use signed::Signed;
use ssh::AllowedSigners;

/// More than any tool takes for one question, also on a machine that is busy booting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everybody whose signature counts.
#[derive(Debug)]
pub struct Signers {
    gpg: Mechanism<Keyring>,
    ssh: Mechanism<AllowedSigners>,
}

/// One of the ways to sign.
#[derive(Debug)]
enum Mechanism<T> {
    /// The owner trusts nobody this way.
    Unused,
    /// The tool could not read the keys, for a reason that is not in the keys.
    Broken(String),
    /// The keys have been read.
    Ready(T),
}

/// Why the keys of a mechanism could not be read.
enum LoadError {
    /// The configuration, or a file that it names, is wrong.
    Misconfigured(Error),
    /// The tool could not be asked.
    Broken(Error),
}

impl LoadError {
    /// With the key of the configuration and the file, if those are to blame.
    fn named(self, key: &str, path: &Path) -> Self {
        match self {
            Self::Misconfigured(error) => {
                let file = format!("{key}: {} cannot be used", path.display());
                Self::Misconfigured(error.context(file))
            }
            Self::Broken(error) => Self::Broken(error),
        }
    }
}

impl<T> Mechanism<T> {
    fn of(loaded: Result<T, LoadError>) -> Result<Self> {
        match loaded {
            Ok(ready) => Ok(Self::Ready(ready)),
            Err(LoadError::Broken(error)) => Ok(Self::Broken(format!("{error:#}"))),
            Err(LoadError::Misconfigured(error)) => Err(error),
        }
    }

    fn ready(&self, format: Format) -> Result<&T, Unverified> {
        match self {
            Self::Unused => Err(Unverified::Unused(format)),
            Self::Broken(error) => Err(Unverified::Unchecked(error.clone())),
            Self::Ready(ready) => Ok(ready),
        }
    }
}

impl Signers {
    /// Reads the keys of everybody whose signature counts; `None` where the owner wants none.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be: a mistake in the configuration, in a
    /// sentence that names key, file and cure. A tool that cannot run is no error here: it
    /// refuses each commit that it should have verified.
    pub fn load(config: &Config) -> Result<Option<Self>> {
        let gpg = match &config.gpg_public_key_paths[..] {
            [] => Mechanism::Unused,
            paths => Mechanism::of(Keyring::load(paths))?,
        };
        let ssh = match &config.ssh_signers {
            None => Mechanism::Unused,
            Some(signers) => Mechanism::of(AllowedSigners::load(signers))?,
        };
        match (&gpg, &ssh) {
            (Mechanism::Unused, Mechanism::Unused) => Ok(None),
            (_, _) => Ok(Some(Self { gpg, ssh })),
        }
    }

    /// Verifies the bytes of a commit object. Time is the machine's own: the dates in the commit are
    /// its author's to choose.
    pub fn verify(&self, commit: &[u8]) -> Result<Signer, Unverified> {
        let signed = Signed::split(commit)?;
        match signed.format()? {
            format @ Format::OpenPgp => self.gpg.ready(format)?.verify(&signed),
            format @ Format::Ssh => self.ssh.ready(format)?.verify(&signed),
        }
    }
}

/// A file of public keys. A secret one in armor goes no further.
fn read(path: &Path) -> Result<Vec<u8>> {
    let content = std::fs::read(path).map_err(|error| {
        anyhow!("{error}: put the keys there, or leave the file out of the configuration")
    })?;
    ensure!(
        !content.trim_ascii().is_empty(),
        "it is empty: put the keys there, or leave the file out of the configuration"
    );
    ensure!(
        !content.windows(11).any(|part| part == b"PRIVATE KEY"),
        "it holds a secret key, which has no business there: put the public key in its place"
    );
    Ok(content)
}

/// A folder that is nobody else's to read or guess, and does not stay.
fn private_folder() -> Result<Passing> {
    Passing::new("comin-keys-").context("Failed to make a private folder")
}

/// A tool that finds nothing of whoever runs comin.
fn tool(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
