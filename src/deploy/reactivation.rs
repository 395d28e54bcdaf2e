//! What comin has activated before is activated again, without an evaluation: an attempt like every other.

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{activate, boot, finish, journal_fields};
use crate::model::attempt::{Attempt, Reactivation};
use crate::model::{outcome::Outcome, residue::Residue, stage::Stage};
use crate::nix;
use crate::state::store::Store;

/// Activates the system of an attempt that is over once more. Records and reports how that ends.
pub fn run(
    ctx: &Context,
    store: &mut Store,
    of: &Attempt,
    reactivation: Reactivation,
) -> Result<Completion> {
    let (state, boot, now) = (store.state(), boot::id(&ctx.paths)?, Timestamp::now());
    let (target, subject) = (state.target_again(of), of.subject.clone());
    let mut attempt = Attempt {
        derivation: of.derivation.clone(),
        out: of.out.clone(),
        confirmed: of.confirmed.clone(),
        reactivation: Some(reactivation),
        ..Attempt::new(state.latest(), target, subject, boot, now)
    };
    attempt.enter(Stage::Building, now);
    store.push(attempt.clone())?;
    journal_fields::set(&attempt);
    let outcome = match steps(ctx, store, &mut attempt) {
        Ok(outcome) => outcome,
        Err(error) => attempt.failed(error)?,
    };
    finish::finish(ctx, store, attempt, outcome)
}

fn steps(ctx: &Context, store: &mut Store, attempt: &mut Attempt) -> Result<Outcome> {
    let out = attempt.out.clone().context("it has no system")?;
    let root = ctx.paths.gcroots().join(Attempt::root_of(attempt.id));
    nix::add_gc_root(&out, &root)?;
    if let Some(reason) = activate::check_inhibitors(ctx, attempt, &out) {
        return Ok(Outcome::Skipped { reason });
    }
    activate::activate_and_check(ctx, store, attempt, &Residue::Clean, &out)
}
