//! Everybody whose signature counts.

use std::path::Path;

use anyhow::Result;

use super::commit::SignedCommit;
use super::gpg::Keyring;
use super::ssh::AllowedSigners;
use super::tool::LoadError;
use crate::config::Config;
use crate::model::signature::{Format, Signer, Unverified};

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
    /// Reads the keys of everybody whose signature counts; `None` where the owner wants none. The tools' files lie in a
    /// `private` folder.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be: a mistake in the configuration, in a
    /// sentence that names key, file and cure. A tool that cannot run is no error here: it
    /// refuses each commit that it should have verified.
    pub fn load(config: &Config, private: &Path) -> Result<Option<Self>> {
        let gpg = match &config.gpg_public_key_paths[..] {
            [] => Mechanism::Unused,
            keys => Mechanism::of(Keyring::load(keys, private))?,
        };
        let ssh = match &config.ssh_signers {
            None => Mechanism::Unused,
            Some(signers) => Mechanism::of(AllowedSigners::load(signers, private))?,
        };
        match (&gpg, &ssh) {
            (Mechanism::Unused, Mechanism::Unused) => Ok(None),
            (_, _) => Ok(Some(Self { gpg, ssh })),
        }
    }

    /// Verifies the bytes of a commit object. Time is the machine's own: the dates in the commit are
    /// its author's to choose.
    pub fn verify(&self, commit: &[u8]) -> Result<Signer, Unverified> {
        let signed = SignedCommit::split(commit)?;
        match signed.format()? {
            format @ Format::OpenPgp => self.gpg.ready(format)?.verify(&signed),
            format @ Format::Ssh => self.ssh.ready(format)?.verify(&signed),
        }
    }
}
