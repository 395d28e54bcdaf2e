//! The order to keep what is tested: `comin keep`.

use anyhow::{Error, Result};

use crate::deploy::context::{Completion, Context};
use crate::deploy::{observe, order::log_order, reactivation};
use crate::git::mirror::Mirror;
use crate::model::{keep::tested, Operation, Reactivation};
use crate::state::store::Store;
use crate::sys::who;

/// Makes what is tested the next boot.
///
/// # Errors
/// Nothing is tested, or something else is selected by now.
pub fn keep(ctx: &Context, store: &mut Store) -> Result<Completion> {
    let mirror = Mirror::open(&ctx.paths);
    let (_, decision) = observe::decide_now(ctx, store.state(), mirror.as_ref())?;
    let systems = observe::systems(ctx)?;
    let tested = tested(store.state(), &systems, decision.selected.as_ref()).map_err(Error::msg)?;
    let tested = tested.clone();
    let reactivation = Reactivation {
        operation: Operation::Boot,
        kept_by: Some(who::orders()),
    };
    let ending = reactivation::run(ctx, store, &tested, reactivation, || Ok(true))?;
    if ending == Completion::Success {
        let kept = format!("{} boots next, until main moves on", tested.target);
        log_order(ctx, &kept);
    }
    Ok(ending)
}
