//! What keeps an evaluation or a build from going on: another commit is to be deployed by now, or CI has built this one.

use std::os::fd::AsFd;

use anyhow::Result;

use crate::deploy::{
    announce, commits::Commits, context::Context, deployment::Deployment, lookup, observe,
};
use crate::git::mirror::Mirror;
use crate::model::{select::may_still_be_deployed, Action, State, Target};
use crate::state::requests;
use crate::sys::{command::Interrupt, inotify::Folders};

/// The watch over what is requested while a target is evaluated and built.
pub struct Preemption<'a> {
    ctx: &'a Context,
    mirror: &'a Mirror,
    /// Where a request comes.
    requests: Folders,
    state: State,
    target: Target,
    /// Whether it is evaluated and built here, and not fetched.
    is_built_here: bool,
}

impl<'a> Preemption<'a> {
    /// Watches for the target of a deployment from now on.
    pub fn watch(deployment: &Deployment<'a>, mirror: &'a Mirror) -> Result<Self> {
        Ok(Self {
            ctx: deployment.ctx,
            mirror,
            requests: Folders::watch(&[&deployment.ctx.paths.run()])?,
            state: deployment.store.state().clone(),
            target: deployment.attempt.target.clone(),
            is_built_here: deployment.attempt.prebuilt().is_none(),
        })
    }

    /// Ends the watch, which is to be dropped later: see [`Folders::end`].
    pub fn end(&self) {
        self.requests.end();
    }

    /// Does a job that ends early when the target is superseded.
    pub fn during<T>(&self, job: impl FnOnce(&Interrupt) -> T) -> T {
        job(&Interrupt {
            signal: self.requests.as_fd(),
            ends: &|| Ok(self.superseded()),
            note: ": nothing was activated, and the next deploy begins again",
        })
    }

    /// Whether the target is superseded. Only Nix can fail a build: a full /run is not the commit's fault.
    pub fn superseded(&self) -> bool {
        self.look().unwrap_or_else(|error| {
            log::warn!("Newer commits cannot stop this deployment: {error:#}");
            false
        })
    }

    /// Whether what has been fetched meanwhile makes a deployment of this target pointless, or its evaluation. If newer
    /// commits have stopped enough deployments in a row, or wait for CI, they do so only if the target may not be
    /// deployed any more.
    fn look(&self) -> Result<bool> {
        let Self {
            ctx, state, target, ..
        } = self;
        self.requests.drain();
        if !requests::take_deploy_request(&ctx.paths)? {
            return Ok(false);
        }
        let (mut facts, decision) = observe::decide_now(ctx, state, Ok(self.mirror))?;
        let decision = lookup::look(ctx, self.mirror, &mut facts, decision);
        if let Err(error) = announce::announce(ctx, &facts, &decision) {
            log::warn!("{error:#}");
        }
        if facts.suspended.is_some() {
            return Ok(true);
        }
        let prebuilt = facts.prebuilt.as_ref();
        if self.is_built_here && prebuilt.is_some_and(|it| it.system_of(target).is_some()) {
            log::info!("CI has built {target} meanwhile");
            return Ok(true);
        }
        if !decision.supersedes(target, &facts) {
            return Ok(false);
        }
        let waits = matches!(decision.action, Action::AwaitPrebuilt(_));
        let outlasts = state.outlasts_newer_commits();
        let goes_on = (waits || outlasts)
            && may_still_be_deployed(&facts, target, &Commits::of(ctx, Ok(self.mirror)));
        if goes_on && !waits {
            log::info!(
                "{target} is deployed first: newer commits have already stopped several deployments in a row"
            );
        }
        Ok(!goes_on)
    }
}
