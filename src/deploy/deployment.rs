//! One attempt to deploy a commit, under way.

use std::path::PathBuf;

use anyhow::{Error, Result};
use derive_more::From;

use crate::config::Config;
use crate::deploy::{boot, context::Context, gates, journal_fields};
use crate::git::mirror::Mirror;
use crate::model::attempt::Attempt;
use crate::model::{confirmation::Step, gate::ClosedGate, residue::Residue, target::Target};
use crate::model::{outcome::Outcome, stage::Stage};
use crate::state::store::Store;
use crate::system;

/// Why an attempt goes no further. `?` carries it out of every step.
#[derive(From)]
pub enum Stop {
    /// It is over.
    Ended(Outcome),
    /// Somebody has to confirm this step first.
    Waiting(Step),
    /// A gate before this step is closed.
    AtGate(Step, ClosedGate),
    /// Something went wrong where it is now.
    #[from]
    Failed(Error),
}

/// One attempt to deploy a commit, under way.
pub struct Deployment<'a> {
    /// The machine.
    pub ctx: &'a Context,
    /// Where it is recorded.
    pub store: &'a mut Store,
    /// The commits.
    pub mirror: &'a Mirror,
    /// What the latest attempt that changed the machine has left.
    pub residue: Residue,
    /// How far it is.
    pub attempt: Attempt,
}

impl<'a> Deployment<'a> {
    /// Begins a new attempt, or goes on with the one that waited for its target.
    pub fn start(
        ctx: &'a Context,
        store: &'a mut Store,
        mirror: &'a Mirror,
        target: Target,
        system: Option<PathBuf>,
    ) -> Result<Self> {
        let last_activation = store.state().last_activation();
        let residue = last_activation.map_or(Residue::Clean, Residue::by);
        let boot = boot::id(&ctx.paths)?;
        let is_it = |(waiting, _): &(&Attempt, Step)| {
            target.same_as(&waiting.target.commit, waiting.target.operation)
        };
        let attempt = if let Some((waiting, step)) = store.state().awaiting().filter(is_it) {
            let attempt = Attempt {
                target,
                boot,
                ..waiting.clone()
            };
            resume(&ctx.config, attempt, step)
        } else {
            let subject = mirror.subject(&target.commit)?;
            begin(store, target, subject, boot, system)?
        };
        Ok(Self {
            ctx,
            store,
            mirror,
            residue,
            attempt,
        })
    }

    /// Goes on to a stage, and records that.
    pub fn enter(&mut self, stage: Stage) -> Result<()> {
        journal_fields::enter(self.store, &mut self.attempt, stage)
    }

    /// Stops before a step that somebody has to confirm first, else asks the gates before it, and stops if one is closed.
    pub fn pass_before(&self, step: Step) -> Result<(), Stop> {
        if self.ctx.config.asks(&self.attempt, step) {
            return Err(Stop::Waiting(step));
        }
        match gates::closed(self.ctx, self.store.state(), &self.attempt, step.into())? {
            Some(closed) => Err(Stop::AtGate(step, closed)),
            None => Ok(()),
        }
    }

    /// Whether the machine has got the system already, whole.
    pub fn is_active(&self) -> Result<bool> {
        let profile = self.ctx.profile();
        let operation = self.attempt.target.operation;
        match &self.attempt.out {
            Some(out) if self.residue == Residue::Clean => {
                system::is_active(&profile, &self.ctx.paths, out, operation)
            }
            Some(_) | None => Ok(false),
        }
    }
}

/// A new attempt; `system` is what CI has built.
fn begin(
    store: &mut Store,
    target: Target,
    subject: String,
    boot: Option<String>,
    system: Option<PathBuf>,
) -> Result<Attempt> {
    if store.state().accepted_main.is_none() {
        log::info!("First deployment: comin trusts this main");
    }
    let attempt = store.begin(target, subject, boot, system)?;
    journal_fields::set(&attempt);
    let (target, subject) = (&attempt.target, &attempt.subject);
    log::info!("Deploying {target} by {}: {subject}", target.operation);
    Ok(attempt)
}

/// An attempt that has waited before a step, and goes on.
fn resume(config: &Config, mut attempt: Attempt, step: Step) -> Attempt {
    journal_fields::set(&attempt);
    // It goes on without an answer: its time is up, or nobody is asked any more.
    let needs_none =
        attempt.stage() == Stage::WaitingForConfirmation || config.asks(&attempt, step);
    if needs_none && attempt.confirmed.insert(step) {
        let (name, next) = (&attempt.target, step.participle());
        log::info!("{name} is confirmed automatically, and {next} next");
    }
    attempt
}
