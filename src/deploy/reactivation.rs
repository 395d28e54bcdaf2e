//! What comin has activated before is activated again, without an evaluation: an attempt like every other.

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{activate, deployment::Deployment, finish, observe};
use crate::model::attempt::{Attempt, Reactivation};
use crate::model::{outcome::Outcome, stage::Stage};
use crate::nix;
use crate::state::store::Store;

/// Activates the system of an attempt that is over once more. Records and reports how that ends.
pub fn run(
    ctx: &Context,
    store: &mut Store,
    of: &Attempt,
    reactivation: Reactivation,
) -> Result<Completion> {
    let (boot, now) = (observe::boot_id(&ctx.paths)?, Timestamp::now());
    let mut attempt = store.state().attempt_again(of, boot, now);
    attempt.reactivation = Some(reactivation);
    attempt.enter(Stage::Building, now);
    let mut deployment = Deployment::begin(ctx, store, attempt)?;
    let ended = steps(&mut deployment);
    finish::finish(deployment, ended)
}

fn steps(deployment: &mut Deployment) -> Result<Outcome> {
    let Deployment { ctx, attempt, .. } = deployment;
    let out = attempt.out.clone().context("it has no system")?;
    let root = ctx.paths.gcroots().join(Attempt::root_of(attempt.id));
    nix::add_gc_root(&out, &root)?;
    if let Some(reason) = activate::note_inhibitors(deployment, &out) {
        return Ok(Outcome::Skipped { reason });
    }
    activate::activate_and_check(deployment, &out)
}
