//! Who signed a commit, or why its signature does not count.

use std::fmt;

use anyhow::Error;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// For gpg.
    OpenPgp,
    /// For ssh-keygen.
    Ssh,
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
    pub fn setting(&self) -> &'static str {
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
    pub fn is_transient(&self) -> bool {
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
