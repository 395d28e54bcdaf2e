//! What is known of commits: their ancestry from the mirror, their signatures from the signers.

use anyhow::Error;

use crate::deploy::context::Context;
use crate::git::mirror::Mirror;
use crate::model::{Commit, History, Relation, Signature, Unverified};

/// The commits of a mirror, or why it cannot be read. Where there are signers, theirs alone may be deployed.
pub struct Commits<'a> {
    ctx: &'a Context,
    mirror: Result<&'a Mirror, &'a Error>,
}

impl<'a> Commits<'a> {
    /// How many ancestors are looked at. Each costs the run of a tool, and who pushes without signing
    /// decides how many there are.
    const ANCESTORS: usize = 100;

    /// The commits of a mirror, which may not be there.
    pub fn of(ctx: &'a Context, mirror: Result<&'a Mirror, &'a Error>) -> Self {
        Self { ctx, mirror }
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
            let Some(signers) = self.ctx.signers().map_err(unchecked)? else {
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
