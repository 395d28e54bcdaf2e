//! What is known of commits: their ancestry from the mirror, their signatures from the signers.

use anyhow::Error;

use crate::git::mirror::Mirror;
use crate::model::history::{History, Relation, Signature};
use crate::model::{commit::Commit, signature::Unverified};
use crate::signature::signers::Signers;

/// The commits of a mirror, or why it cannot be read.
pub struct Commits<'a> {
    mirror: Result<&'a Mirror, &'a Error>,
    signers: Result<Option<&'a Signers>, &'a Error>,
}

impl<'a> Commits<'a> {
    /// How many ancestors are looked at. Each costs the run of a tool, and who pushes without signing
    /// decides how many there are.
    const ANCESTORS: usize = 100;

    /// The commits of a mirror that can be read; where there are signers, theirs alone may be deployed.
    pub fn of(mirror: &'a Mirror, signers: Option<&'a Signers>) -> Self {
        Self {
            mirror: Ok(mirror),
            signers: Ok(signers),
        }
    }

    /// The same where the mirror may not be there, and the signers' keys may be unreadable: then no
    /// commit can be verified.
    pub fn of_any(
        mirror: &'a anyhow::Result<Mirror>,
        signers: &'a anyhow::Result<Option<Signers>>,
    ) -> Self {
        Self {
            mirror: mirror.as_ref(),
            signers: signers.as_ref().map(Option::as_ref),
        }
    }
}

impl History for Commits<'_> {
    fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        match self.mirror {
            Ok(mirror) => mirror.relation(base, head),
            Err(error) => Relation::Unreadable(format!("{error:#}")),
        }
    }

    fn signature(&self, commit: &Commit) -> Signature {
        let verify = || {
            let unchecked = |error: &Error| Unverified::Unchecked(format!("{error:#}"));
            let Some(signers) = self.signers.map_err(unchecked)? else {
                return Ok(Signature::NotRequired);
            };
            let raw = self.mirror.map_err(unchecked)?.raw_commit(commit)?;
            signers.verify(&raw).map(Signature::By)
        };
        verify().unwrap_or_else(Signature::Refused)
    }

    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit> {
        let Ok(mirror) = self.mirror else {
            return Vec::new();
        };
        let ancestors = mirror.ancestors(base, head, Self::ANCESTORS);
        ancestors.unwrap_or_else(|error| {
            log::debug!("Failed to read the ancestors of {head}: {error:#}");
            Vec::new()
        })
    }
}
