//! What is known of commits: their ancestry from the mirror, their signatures from the signers.

use anyhow::Error;

use crate::commit::Commit;
use crate::git::Mirror;
use crate::select::{History, Relation, Signature};
use crate::signature::{Signers, Unverified};

/// The commits of a mirror, or why it cannot be read.
pub struct Commits<'a> {
    mirror: Result<&'a Mirror, &'a Error>,
    signers: Option<&'a Signers>,
}

impl<'a> Commits<'a> {
    /// How many ancestors are looked at. Each costs the run of a tool, and who pushes without signing
    /// decides how many there are.
    const ANCESTORS: usize = 100;

    /// The commits of a mirror that can be read; where there are signers, theirs alone may be deployed.
    #[must_use]
    pub fn of(mirror: &'a Mirror, signers: Option<&'a Signers>) -> Self {
        Self::of_any(Ok(mirror), signers)
    }

    /// The same of a mirror that may not be there.
    #[must_use]
    pub fn of_any(mirror: Result<&'a Mirror, &'a Error>, signers: Option<&'a Signers>) -> Self {
        Self { mirror, signers }
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
        let Some(signers) = self.signers else {
            return Signature::NotRequired;
        };
        let raw = match self.mirror {
            Ok(mirror) => mirror.raw_commit(commit),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        match raw
            .map_err(Unverified::from)
            .and_then(|raw| signers.verify(&raw))
        {
            Ok(signer) => Signature::By(signer),
            Err(unverified) => Signature::Refused(unverified),
        }
    }

    fn ancestors(&self, base: Option<&Commit>, head: &Commit) -> Vec<Commit> {
        let ancestors = self
            .mirror
            .ok()
            .map(|mirror| mirror.ancestors(base, head, Self::ANCESTORS));
        match ancestors {
            Some(Ok(ancestors)) => ancestors,
            Some(Err(error)) => {
                log::debug!("Failed to read the ancestors of {head}: {error:#}");
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}
