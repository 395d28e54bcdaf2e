//! Who signed a commit, or why its signature does not count.

use anyhow::Error;
use derive_more::Display;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
pub enum Format {
    /// For gpg.
    #[display("GPG")]
    OpenPgp,
    /// For ssh-keygen.
    #[display("SSH")]
    Ssh,
}

impl Format {
    /// What helps if no key of this format is trusted.
    fn cure(self) -> &'static str {
        match self {
            Self::OpenPgp => "sign it with SSH, or set gpg_public_key_paths",
            Self::Ssh => "sign it with GPG, or set ssh_allowed_signers_path",
        }
    }
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
#[display("{name} ({key})")]
pub struct Signer {
    /// The name that goes with the key: a user id, or a principal. Printable.
    pub name: String,
    /// The key.
    pub key: Key,
}

/// A key, by its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
pub enum Key {
    /// In hexadecimal digits, that of the primary key; of a key that is not known, what the signature
    /// says it is.
    #[display("GPG {_0}")]
    Gpg(String),
    /// As in `SHA256:dYVjH0w2…`.
    #[display("SSH {_0}")]
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

/// What helps against most faults.
const ANEW: &str = "sign it anew, e.g. with git commit --amend -S";

fn on(day: Option<Timestamp>) -> String {
    day.map_or(String::new(), |day| {
        format!(" on {}", day.strftime("%Y-%m-%d"))
    })
}

fn by(key: Option<&Key>) -> String {
    key.map_or(String::new(), |key| format!(" by {key}"))
}

/// Why a commit's signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
pub enum Unverified {
    /// There is none.
    #[display("it is not signed; sign it, e.g. with git commit -S")]
    Unsigned,
    /// The headers are not those of a commit that git makes.
    #[display("its headers are damaged; make it anew with git")]
    Headers,
    /// There is more than one.
    #[display("it has more than one signature; {ANEW}")]
    SeveralSignatures,
    /// It is the one of a SHA-256 repository.
    #[display("its signature is for a repository with SHA-256 ids (gpgsig-sha256); {ANEW}")]
    OtherRepository,
    /// It is by gpgsm.
    #[display(
        "it is signed with X.509 (gpgsm), which comin does not verify; sign it with GPG or SSH"
    )]
    X509,
    /// It is no signature that can be read; why.
    #[display("its signature cannot be read: {_0}; {ANEW}")]
    Unreadable(String),
    /// It is of a kind of which no key is trusted.
    #[display("it is signed with {_0}, and no {_0} key is trusted; {}", _0.cure())]
    Unused(Format),
    /// It is by a key that is not trusted.
    #[display("its signature is by a key that is not trusted: {_0}; sign it with a trusted key, or add this one to {}", _0.setting())]
    Untrusted(Key),
    /// It is not one of this commit. The key is told by GPG alone.
    #[display("its signature{} is not of this commit, or the commit was changed afterwards; {ANEW}", by(_0.as_ref()))]
    Forged(Option<Key>),
    /// It is by a key that has expired; when, if that is known.
    #[display("its signature is by a key that expired{}: {_0}; prolong it, also in {}, or sign with another key", on(*_1), _0.setting())]
    KeyExpired(Key, Option<Timestamp>),
    /// It is by a key that is not trusted yet.
    #[display("its signature is by a key that is not valid yet: {_0}; see valid-after in {}", _0.setting())]
    KeyTooNew(Key),
    /// It is by a key that is revoked.
    #[display("its signature is by a key that is revoked: {_0}; sign it with another key")]
    KeyRevoked(Key),
    /// It has itself expired.
    #[display("its signature by {_0} expired{}; {ANEW}", on(*_1))]
    Expired(Key, Option<Timestamp>),
    /// It rests on a digest that can be forged; the digest's name.
    #[display(
        "its signature by {_0} rests on {_1}, which can be forged; sign it with SHA-256 or better"
    )]
    Weak(Key, String),
    /// It was made with an SSH key for something else than Git.
    #[display("its signature was made for something else than Git; {ANEW}")]
    OtherNamespace,
    /// It is by an SSH key that is trusted for other things than Git.
    #[display("its signature is by a key that is not trusted for Git: {_0}; add \"git\" to its namespaces in {}", _0.setting())]
    KeyForOthers(Key),
    /// The tool has an objection of its own.
    #[display("its signature by {_0} does not count: {_1}")]
    Objected(Key, String),
    /// The tool that should verify it could not be run, or gave no answer; why.
    #[display("its signature could not be checked: {_0}")]
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
