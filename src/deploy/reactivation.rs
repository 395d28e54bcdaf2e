//! What comin has activated before is activated again, without an evaluation: an attempt like every other.

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{activate, deployment::Deployment, finish, observe};
use crate::model::{reactivation::again, Attempt, Outcome, Reactivation};
use crate::nix;
use crate::state::store::Store;

/// Activates the system of an attempt that is over once more, if that is still wanted by then. Records and reports how
/// that ends.
pub fn run(
    ctx: &Context,
    store: &mut Store,
    of: &Attempt,
    reactivation: Reactivation,
    is_wanted: impl FnOnce() -> Result<bool>,
) -> Result<Completion> {
    let boot = observe::boot_id(&ctx.paths)?;
    let attempt = again(store.state(), of, reactivation, boot, Timestamp::now());
    let mut deployment = Deployment::begin(ctx, store, attempt)?;
    let ended = steps(&mut deployment, is_wanted);
    finish::finish(deployment, ended)
}

fn steps(deployment: &mut Deployment, is_wanted: impl FnOnce() -> Result<bool>) -> Result<Outcome> {
    let Deployment { ctx, attempt, .. } = deployment;
    let out = attempt.out.clone().context("it has no system")?;
    let root = ctx.paths.gcroots().join(Attempt::root_of(attempt.id));
    nix::add_gc_root(&out, &root)?;
    if let Some(reason) = activate::note_inhibitors(deployment, &out) {
        return Ok(Outcome::Skipped { reason });
    }
    activate::activate_and_check(deployment, &out, is_wanted)
}
