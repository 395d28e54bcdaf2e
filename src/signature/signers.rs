//! Everybody whose signature counts.

use std::path::Path;

use anyhow::Result;

use super::{commit::SignedCommit, gpg::Keyring, ssh::AllowedSigners, tool::LoadError};
use crate::config::Config;
use crate::model::{signature::Format, Signer, Unverified};

/// Everybody whose signature counts. Of a mechanism without keys, why each of its signatures is refused.
#[derive(Debug)]
pub struct Signers {
    gpg: Result<Keyring, Unverified>,
    ssh: Result<AllowedSigners, Unverified>,
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
        if !config.needs_signatures() {
            return Ok(None);
        }
        let gpg = Some(&config.gpg_public_key_paths[..]).filter(|keys| !keys.is_empty());
        let gpg = gpg.map(|keys| Keyring::load(keys, private));
        let gpg = mechanism(gpg, Format::OpenPgp)?;
        let ssh = config.ssh_signers.as_ref();
        let ssh = ssh.map(|signers| AllowedSigners::load(signers, private));
        let ssh = mechanism(ssh, Format::Ssh)?;
        Ok(Some(Self { gpg, ssh }))
    }

    /// Verifies the bytes of a commit object. Time is the machine's own: the dates in the commit are
    /// its author's to choose.
    pub fn verify(&self, commit: &[u8]) -> Result<Signer, Unverified> {
        let signed = SignedCommit::split(commit)?;
        match signed.format()? {
            Format::OpenPgp => self.gpg.as_ref().map_err(Clone::clone)?.verify(&signed),
            Format::Ssh => self.ssh.as_ref().map_err(Clone::clone)?.verify(&signed),
        }
    }
}

/// The keys of one of the ways to sign, or why nothing that is signed so can be verified.
fn mechanism<T>(
    keys: Option<Result<T, LoadError>>,
    format: Format,
) -> Result<Result<T, Unverified>> {
    match keys {
        None => Ok(Err(Unverified::Unused(format))),
        Some(Ok(keys)) => Ok(Ok(keys)),
        Some(Err(LoadError::Broken(error))) => Ok(Err(error.into())),
        Some(Err(LoadError::Misconfigured(error))) => Err(error),
    }
}
