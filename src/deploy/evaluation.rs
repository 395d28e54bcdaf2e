//! The evaluation of a commit: from where Nix reads the commit, who evaluates, and with whose credentials.

use std::panic::resume_unwind;
use std::thread;

use anyhow::Result;
use rustix::process::geteuid;

use crate::config::paths::Paths;
use crate::deploy::context::Context;
use crate::git::{environment::for_nix, mirror::Mirror};
use crate::model::Target;
use crate::nix::evaluator::{Evaluator, User};
use crate::nix::{self, Evaluation};
use crate::sys::command::Interrupt;

/// A commit that Nix can read.
pub struct NixSource<'a> {
    ctx: &'a Context,
    target: &'a Target,
    /// The paths of the repository that has the commit.
    place: Paths,
    evaluator: Evaluator,
}

impl<'a> NixSource<'a> {
    /// Nix reads the mirror itself, or a copy: see [`Context::source`]. Whoever may not write to the mirror names paths
    /// `aside` for the copy.
    pub fn of(
        ctx: &'a Context,
        mirror: &Mirror,
        target: &'a Target,
        aside: Option<&Paths>,
    ) -> Result<Self> {
        let config = &ctx.config;
        let place = aside.map_or_else(|| ctx.source(), |aside| Ok(aside.clone()))?;
        let user = ctx.evaluator()?.filter(|_| geteuid().is_root());
        let settings = thread::scope(|scope| -> Result<_> {
            // Nix tells them meanwhile.
            let settings = user.map(|_| scope.spawn(nix::settings));
            if place.repository() != mirror.path() {
                mirror.hand_over(&target.commit, &place)?;
            }
            let told = settings.map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)));
            told.transpose()
        })?;
        let user = user.zip(settings).map(|(user, settings)| {
            let (folder, repository) = (ctx.paths.handed_over(), place.repository());
            User::new(user, &settings, &folder, &config.remotes, &repository)
        });
        let user = user.transpose()?;
        let handed = user.as_ref().map(User::home);
        Ok(Self {
            ctx,
            target,
            evaluator: Evaluator {
                git: for_nix(&place, &config.remotes, &target.remote, handed)?,
                cache: (aside.is_none() || user.is_some()).then(|| ctx.paths.nix_cache()),
                user,
            },
            place,
        })
    }

    /// Evaluates; `None` if that was interrupted.
    pub fn evaluate(self, interrupt: Option<&Interrupt>) -> Result<Option<Evaluation>> {
        let (config, repository) = (&self.ctx.config, &self.place.repository());
        let (commit, evaluator) = (&self.target.commit, self.evaluator);
        nix::evaluate(config, repository, commit, evaluator, interrupt)
    }
}
