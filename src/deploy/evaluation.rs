//! The evaluation of a commit: from where Nix reads the commit, and with whose credentials.

use std::path::Path;

use anyhow::Result;

use crate::config::paths::Paths;
use crate::deploy::context::Context;
use crate::git::environment::{for_nix, Variables};
use crate::git::mirror::Mirror;
use crate::model::target::Target;
use crate::nix::{self, Evaluation};
use crate::sys::command::Interrupt;

/// A commit that Nix can read.
pub struct NixSource<'a> {
    ctx: &'a Context,
    target: &'a Target,
    /// The paths of the repository that has the commit.
    place: Paths,
    git: Variables,
}

impl<'a> NixSource<'a> {
    /// Nix reads the mirror itself, or a copy: see [`Context::source`]. Whoever may not write to the mirror names paths
    /// `aside`: there Nix reads a copy of what is signed, or a repository that borrows from the mirror.
    pub fn of(
        ctx: &'a Context,
        mirror: &Mirror,
        target: &'a Target,
        aside: Option<&Paths>,
    ) -> Result<Self> {
        let config = &ctx.config;
        let place = aside.map_or_else(|| ctx.source(mirror), |aside| Ok(aside.clone()))?;
        let is_copied = config.needs_signatures() || mirror.is_anothers()?;
        if is_copied || (aside.is_none() && place.repository() != mirror.path()) {
            mirror.hand_over(&target.commit, &place)?;
        } else if aside.is_some() {
            mirror.lend(&target.commit, &place)?;
        }
        Ok(Self {
            ctx,
            target,
            git: for_nix(&place, &config.remotes, &target.remote)?,
            place,
        })
    }

    /// Evaluates; `None` if that was interrupted. Without a `cache`, Nix uses that of its user.
    pub fn evaluate(
        self,
        cache: Option<&Path>,
        interrupt: Option<&Interrupt>,
    ) -> Result<Option<Evaluation>> {
        let (config, repository) = (&self.ctx.config, &self.place.repository());
        let commit = &self.target.commit;
        nix::evaluate(config, repository, commit, self.git, cache, interrupt)
    }
}
