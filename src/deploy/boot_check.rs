//! The boot check: the machine has to be well after the first boot of a system, or goes back to the one before.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::health::{self, Patience};
use crate::deploy::{confirm, observe, recovery};
use crate::model::{boot_check, Attempt, Fault, PreviousSystem, Progress, State};
use crate::state::requests;
use crate::state::store::{self, Store};
use crate::system::{self, systemd};

/// The pause before a machine that is not well yet is checked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until a deploy has judged this boot. Fails if the machine goes back.
pub fn await_verdict(ctx: &Context) -> Result<Completion> {
    loop {
        let state = store::read(&ctx.paths)?;
        let boot = observe::boot_id(&ctx.paths)?;
        let goes_back = |latest: &Attempt| latest.boot_fault.is_some() && latest.boot == boot;
        if state.latest().is_some_and(goes_back) {
            return Ok(Completion::Failure);
        }
        // What a reboot has cut short is settled first, and may be due then.
        let is_cut_short = |latest: &Attempt| {
            matches!(latest.progress, Progress::Running(_)) && latest.boot != boot
        };
        if !state.latest().is_some_and(is_cut_short) && !is_due(ctx, &state)? {
            return Ok(Completion::Success);
        }
        thread::sleep(PAUSE);
    }
}

/// Whether this boot is still to be judged.
pub fn is_due(ctx: &Context, state: &State) -> Result<bool> {
    Ok(is_wanted(ctx)? && boot_check::due(state, &observe::systems(ctx)?).is_some())
}

fn is_wanted(ctx: &Context) -> Result<bool> {
    Ok(ctx.config.boot_check.enable && !requests::is_suspended(&ctx.paths)?)
}

/// Judges this boot if that is due. Returns how the rollback ended; `None` if there was no need to go back.
///
/// # Errors
/// The machine reboots into the system before.
pub fn judge(ctx: &Context, store: &mut Store) -> Result<Option<Completion>> {
    if !is_wanted(ctx)? {
        return Ok(None);
    }
    let (state, systems) = (store.state().clone(), observe::systems(ctx)?);
    let Some(first) = boot_check::due(&state, &systems) else {
        return Ok(None);
    };
    let (attempt, target) = (first.attempt, &first.attempt.target);
    let mut found = boot_check::before(&state, first.out)
        .cloned()
        .unwrap_or_default();
    let fault = if first.booted == first.out {
        if !first.connectivity {
            found.reachable.clear();
        }
        log::info!("Checking {target} after its first boot");
        find_fault(ctx, &found)
    } else {
        let booted = first.booted.display();
        found.booted = Some(first.booted.to_path_buf());
        Some(Fault::local(format!(
            "it did not come up: {booted} was booted instead"
        )))
    };
    let Some(fault) = fault else {
        store.change(|state| {
            let mut attempts = state.attempts.iter_mut();
            if let Some(judged) = attempts.find(|it| it.id == attempt.id) {
                judged.boot_checked = Some(Timestamp::now());
            }
        })?;
        log::info!("{target} is well after its first boot");
        return Ok(None);
    };
    // Meanwhile, an operator may have suspended comin or activated another system.
    if !is_due(ctx, store.state())? {
        return Ok(None);
    }
    // The system that had booted may have been garbage-collected.
    found.booted = found.booted.filter(|booted| booted.exists());
    let profile = ctx.profile();
    let back = boot_check::way_back(&found, first.out);
    let generation = back
        .as_deref()
        .map(|back| system::generation_of(&profile, back));
    let before = PreviousSystem {
        system: back.clone(),
        boots: back,
        generation: generation.transpose()?.flatten(),
        profile,
        ..found
    };
    if let Some((waiting, _)) = state.awaiting() {
        confirm::cancel_waiting(ctx, store, waiting.clone())?;
    }
    log::warn!(
        "Rolling back {} after its first boot: {}",
        attempt.target,
        fault.error
    );
    let (boot, now) = (systems.boot.clone(), Timestamp::now());
    store.push(boot_check::fallback(
        store.state(),
        attempt,
        before,
        boot,
        fault,
        now,
    ))?;
    // The way back is an attempt in the stage of a rollback. So it survives a power cut, as every attempt does.
    recovery::recover(ctx, store).map(Some)
}

/// What is wrong with the machine when its time is up; it may be well at any moment before.
fn find_fault(ctx: &Context, found: &PreviousSystem) -> Option<Fault> {
    let timeout = ctx.config.boot_check.timeout;
    let starting = Patience::of(timeout);
    while !systemd::has_booted(&ctx.paths) && !starting.is_over() {
        thread::sleep(PAUSE);
    }
    let patience = Patience::of(timeout);
    loop {
        let fault = health::check(ctx, found, patience).fault?;
        if patience.is_over() {
            return Some(fault);
        }
        thread::sleep(PAUSE);
    }
}
