//! What an operator orders: to deploy nothing for a while, and to try again what failed.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::config::paths::Paths;
use crate::deploy::{
    accepted_main, confirm, context::Context, gates, observe, observe::Snapshot, order::log_order,
    order::order_deploy,
};
use crate::git::mirror::Mirror;
use crate::model::{Attempt, Before, State, Suspension};
use crate::state::gate_record::GateRecord;
use crate::state::requests::{self, Confirmation, PastGates, Rewrite};
use crate::state::store::{self, Store};
use crate::sys::{fs, json};

/// Suspends deployments.
pub fn suspend(ctx: &Context, reason: Option<String>, time: Option<SignedDuration>) -> Result<()> {
    let since = Timestamp::now();
    let suspension = Suspension {
        since,
        until: time.and_then(|time| since.checked_add(time).ok()),
        reason: reason.filter(|reason| !reason.trim().is_empty()),
    };
    json::write_durably(&ctx.paths.suspension(), &suspension)?;
    log_order(ctx, &suspension.to_string());
    // What is evaluated or built at the moment notices.
    requests::request_for_order(&ctx.paths);
    Ok(())
}

/// Ends a suspension, and asks for a deploy.
pub fn resume(ctx: &Context) -> Result<()> {
    if fs::remove_optional(&ctx.paths.suspension())? {
        log_order(ctx, "comin deploys again");
    } else {
        log::info!("comin was not suspended");
    }
    requests::request_for_order(&ctx.paths);
    Ok(())
}

/// Orders that what failed or is in quarantine be tried again, and what is deployed but was not
/// booted, and asks for a deploy.
pub fn retry(ctx: &Context) -> Result<()> {
    let state = store::read(&ctx.paths)?;
    let has_failed = state.latest_ended().and_then(Attempt::trouble).is_some();
    let is_held = !state.quarantine.is_empty() || state.reboot.is_some();
    let is_of_use = has_failed
        || is_held
        || observe::drift(ctx, &state)?.is_some()
        || observe::can_test_again(ctx, &state)?
        || Snapshot::take(ctx)?.is_at_gate(&ctx.config, &state);
    if !is_of_use {
        log::info!("There is nothing to try again: nothing failed, is held or has drifted");
        return Ok(());
    }
    fs::replace_durably(&ctx.paths.retry(), b"")?;
    order_deploy(
        ctx,
        "The next deploy tries again what failed, is held or has drifted",
    );
    Ok(())
}

/// The state by which the next deploy decides: with the accepted main that it is going to find, and what has been
/// ordered meanwhile. Nothing is changed. An order that cannot be understood is reported by that deploy.
pub fn foreseen(paths: &Paths, mirror: Option<&Mirror>) -> Result<State> {
    let mut state = accepted_main::presumed(paths, mirror)?;
    if paths.retry().exists() {
        state.reset_failures();
    }
    if let Ok(Some(rewrite)) = Rewrite::read(paths) {
        state.accepted_main = Some(rewrite.commit);
    }
    if let Ok(Some(PastGates { commit })) = PastGates::read(paths) {
        state.let_past_gates(commit);
    }
    let awaited = state.awaiting().zip(Confirmation::read(paths));
    let awaited = awaited.filter(|((waiting, step), order)| order.is_of(waiting, *step));
    if let Some(step) = awaited.map(|((_, step), _)| step) {
        state.confirm(step);
    }
    Ok(state)
}

/// Takes up what the operator has ordered: to accept a main, whatever was before it, and to try
/// again what failed, or to go on with what waits for a confirmation. The file of an order is removed once
/// the state has the order.
pub fn apply_requests(ctx: &Context, store: &mut Store) -> Result<()> {
    let retry = ctx.paths.retry();
    if fs::read_optional(&retry)?.is_some() {
        store.change(State::reset_failures)?;
        for before in Before::ALL {
            GateRecord::forget(&ctx.paths, before)?;
        }
        fs::remove_optional(&retry)?;
        log::info!("What failed is tried again, as requested");
    }
    if let Some(rewrite) = Rewrite::read(&ctx.paths)? {
        let before = store.state().accepted_main.clone();
        let before = before.map_or("none".to_string(), |before| before.to_string());
        log::warn!("Main {rewrite} is accepted as requested, in place of {before}");
        store.accept(rewrite.commit)?;
        fs::remove_optional(&ctx.paths.rewrite())?;
    }
    gates::apply_order(&ctx.paths, store)?;
    confirm::apply_confirmation(ctx, store)
}
