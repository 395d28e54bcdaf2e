//! One attempt to deploy a commit, under way.

use anyhow::{Error, Result};
use derive_more::From;

use crate::deploy::{context::Context, gates, record};
use crate::model::{Attempt, ClosedGate, ConfirmStep, Outcome, Residue, Stage};
use crate::state::store::Store;
use crate::system;

/// Why an attempt goes no further. `?` carries it out of every step.
#[derive(From)]
pub enum Stop {
    /// It is over.
    Ended(Outcome),
    /// It waits in this stage before this step.
    Waiting(Stage, ConfirmStep),
    /// A gate has refused its commit.
    Refused(ClosedGate),
    /// Something went wrong where it is now.
    #[from]
    Failed(Error),
}

/// One attempt to deploy a commit, under way.
pub struct Deployment<'a> {
    /// The machine.
    pub ctx: &'a Context,
    /// Where the attempt is recorded.
    pub store: &'a mut Store,
    /// How far it is.
    pub attempt: Attempt,
}

impl<'a> Deployment<'a> {
    /// Begins an attempt, and records that.
    pub fn begin(ctx: &'a Context, store: &'a mut Store, attempt: Attempt) -> Result<Self> {
        store.push(attempt.clone())?;
        Ok(Self::resume(ctx, store, attempt))
    }

    /// Goes on with the latest attempt of the state.
    pub fn resume(ctx: &'a Context, store: &'a mut Store, attempt: Attempt) -> Self {
        record::set_journal_fields(&attempt);
        Self {
            ctx,
            store,
            attempt,
        }
    }

    /// Records how far the attempt is.
    pub fn record(&mut self) -> Result<()> {
        record::record(self.store, &self.attempt)
    }

    /// Records that a stage begins, before anything of the stage is done.
    pub fn enter(&mut self, stage: Stage) -> Result<()> {
        record::enter(self.store, &mut self.attempt, stage)
    }

    /// Stops before a step that somebody must confirm first. Else asks the gates before the step, and stops if one is closed.
    pub fn require_consent(&self, step: ConfirmStep) -> Result<(), Stop> {
        if self.ctx.config.asks(&self.attempt, step) {
            return Err(Stop::Waiting(Stage::WaitingForConfirmation, step));
        }
        let closed = gates::closed(self.ctx, self.store.state(), &self.attempt, step.into());
        // It is not the fault of the commit that a gate cannot be asked or recorded.
        let postponed = |error: Error| {
            let error = format!("{error:#}");
            Stop::Ended(Outcome::Postponed { error })
        };
        match closed.map_err(postponed)? {
            Some(closed) if closed.refuses() => Err(Stop::Refused(closed)),
            Some(_) => Err(Stop::Waiting(Stage::WaitingAtGate, step)),
            None => Ok(()),
        }
    }

    /// What the latest attempt that changed the machine has left. What is activated again was whole.
    pub fn residue(&self) -> Residue {
        let last = self.store.state().last_activation();
        let last = last.filter(|_| self.attempt.reactivation.is_none());
        last.map_or(Residue::Clean, Residue::by)
    }

    /// Whether the machine has the system of the attempt already, as the operation asks for. A system whose activation has
    /// failed is activated again.
    pub fn is_active(&self) -> Result<bool> {
        let Self { ctx, attempt, .. } = self;
        match &attempt.out {
            Some(out) if self.residue() == Residue::Clean => {
                system::is_active(&ctx.profile(), &ctx.paths, out, attempt.target.operation)
            }
            Some(_) | None => Ok(false),
        }
    }
}
