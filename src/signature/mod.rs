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

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::sys::temp_dir::Passing;
use gpg::Keyring;
pub use signed::Format;
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

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The name that goes with the key: a user id, or a principal. Printable.
    pub name: String,
    /// The key.
    pub key: Key,
}

/// As in `Alice <alice@example.org> (GPG 876716AB…)`.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.key)
    }
}

/// A key, by its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// In hexadecimal digits, that of the primary key; of a key that is not known, what the signature
    /// says it is.
    Gpg(String),
    /// As in `SHA256:dYVjH0w2…`.
    Ssh(String),
}

impl Key {
    /// The key of the configuration by which it could be trusted.
    fn setting(&self) -> &'static str {
        match self {
            Self::Gpg(_) => "gpg_public_key_paths",
            Self::Ssh(_) => "ssh_allowed_signers_path",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpg(fingerprint) => write!(f, "GPG {fingerprint}"),
            Self::Ssh(fingerprint) => write!(f, "SSH {fingerprint}"),
        }
    }
}

/// Why a commit's signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unverified {
    /// There is none.
    Unsigned,
    /// The headers are not those of a commit that git makes.
    Headers,
    /// There is more than one.
    SeveralSignatures,
    /// It is the one of a SHA-256 repository.
    OtherRepository,
    /// It is by gpgsm.
    X509,
    /// It is no signature that can be read; why.
    Unreadable(String),
    /// It is of a kind of which no key is trusted.
    Unused(Format),
    /// It is by a key that is not trusted.
    Untrusted(Key),
    /// It is not one of this commit. The key is told by GPG alone.
    Forged(Option<Key>),
    /// It is by a key that has expired; when, if that is known.
    KeyExpired(Key, Option<Timestamp>),
    /// It is by a key that is not trusted yet.
    KeyTooNew(Key),
    /// It is by a key that is revoked.
    KeyRevoked(Key),
    /// It has itself expired.
    Expired(Key, Option<Timestamp>),
    /// It rests on a digest that can be forged; the digest's name.
    Weak(Key, String),
    /// It was made with an SSH key for something else than Git.
    OtherNamespace,
    /// It is by an SSH key that is trusted for other things than Git.
    KeyForOthers(Key),
    /// The tool has an objection of its own.
    Objected(Key, String),
    /// The tool that should verify it could not be run, or gave no answer; why.
    Unchecked(String),
}

impl Unverified {
    /// Whether it may count later without a new commit: the tool was not there, or had no room.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unchecked(_))
    }
}

/// What keeps a tool from being asked.
impl From<Error> for Unverified {
    fn from(error: Error) -> Self {
        Self::Unchecked(format!("{error:#}"))
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ANEW: &str = "sign it anew, e.g. with git commit --amend -S";
        let on = |at: &Option<Timestamp>| {
            at.map_or(String::new(), |at| {
                format!(" on {}", at.strftime("%Y-%m-%d"))
            })
        };
        match self {
            Self::Unsigned => write!(f, "it is not signed; sign it, e.g. with git commit -S"),
            Self::Headers => write!(f, "its headers are not those of a commit; make it anew with git"),
            Self::SeveralSignatures => write!(f, "it has more than one signature; {ANEW}"),
            Self::OtherRepository => write!(
                f,
                "its signature is for a repository with SHA-256 ids (gpgsig-sha256); {ANEW}"
            ),
            Self::X509 => write!(
                f,
                "it is signed with X.509 (gpgsm), which comin does not verify; sign it with GPG or SSH"
            ),
            Self::Unreadable(why) => write!(f, "its signature cannot be read: {why}; {ANEW}"),
            Self::Unused(Format::OpenPgp) => write!(
                f,
                "it is signed with GPG, and no GPG key is trusted; sign it with SSH, or set gpg_public_key_paths"
            ),
            Self::Unused(Format::Ssh) => write!(
                f,
                "it is signed with SSH, and no SSH key is trusted; sign it with GPG, or set ssh_allowed_signers_path"
            ),
            Self::Untrusted(key) => write!(
                f,
                "its signature is by a key that is not trusted: {key}; sign it with one that is, or add this one to {}",
                key.setting()
            ),
            Self::Forged(Some(key)) => write!(
                f,
                "its signature by {key} is not of this commit, or the commit was changed afterwards; {ANEW}"
            ),
            Self::Forged(None) => write!(
                f,
                "its signature is not of this commit, or the commit was changed afterwards; {ANEW}"
            ),
            Self::KeyExpired(key, at) => write!(
                f,
                "its signature is by a key that expired{}: {key}; prolong it, also in {}, or sign with another key",
                on(at),
                key.setting()
            ),
            Self::KeyTooNew(key) => write!(
                f,
                "its signature is by a key that is not valid yet: {key}; see valid-after in {}",
                key.setting()
            ),
            Self::KeyRevoked(key) => write!(
                f,
                "its signature is by a key that is revoked: {key}; sign it with another key"
            ),
            Self::Expired(key, at) => {
                write!(f, "its signature by {key} expired{}; {ANEW}", on(at))
            }
            Self::Weak(key, digest) => write!(
                f,
                "its signature by {key} rests on {digest}, which can be forged; sign it with SHA-256 or better"
            ),
            Self::OtherNamespace => write!(
                f,
                "its signature was made for something else than Git; {ANEW}"
            ),
            Self::KeyForOthers(key) => write!(
                f,
                "its signature is by a key that is not trusted for Git: {key}; add \"git\" to its namespaces in {}",
                key.setting()
            ),
            Self::Objected(key, why) => write!(f, "its signature by {key} does not count: {why}"),
            Self::Unchecked(error) => write!(f, "its signature could not be checked: {error}"),
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
