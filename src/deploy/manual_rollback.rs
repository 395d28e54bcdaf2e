//! The way back by hand: `comin rollback`.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context as _, Result};
use jiff::Timestamp;

use crate::deploy::{
    confirm, context::Context, health, observe, order::log_order, previous_system,
    rollback::restore_boot,
};
use crate::git::mirror::Mirror;
use crate::model::after_switch::{self, Next};
use crate::model::{Checks, Fault, ManualRollback, Operation, PreviousSystem, Quarantine};
use crate::state::store::Store;
use crate::sys::{fs, who};
use crate::system;
use crate::system::switch::{self, Activation};

/// Goes back to a generation of the profile, and keeps what was deployed last, and what would be
/// deployed now, from coming back by itself. By default it is the generation before the current one;
/// where something else runs, such as a test, the current one.
pub fn roll_back(ctx: &Context, store: &mut Store, to: Option<u64>) -> Result<()> {
    let profile = ctx.profile();
    let (to, system) = generation_to_go_back_to(ctx, &profile, to)?;
    system::check_is_nixos(&system)?;
    let held = held(ctx, store, to)?;

    switch::await_other_switch(&ctx.paths)?;
    let found = previous_system::find(ctx, store.state(), &system)?;
    let inhibitors = system::switch_inhibitors(&ctx.paths, &system);
    let operation = if inhibitors.is_empty() {
        Operation::Switch
    } else {
        log::warn!(
            "Generation {to} is put off until the next boot: {}",
            system::inhibited_by(&inhibitors)
        );
        Operation::Boot
    };
    // Recorded first: whatever becomes of the switch, no poll undoes what the operator wants. What was deployed counts
    // no more, and neither it nor what was going to be deployed comes back by itself.
    let state = store.state().clone();
    let rollback = ManualRollback {
        after: state.latest().map_or(0, |latest| latest.id),
        at: Timestamp::from_second(Timestamp::now().as_second())?,
        generation: to,
        system: system.clone(),
        operation,
        boot: observe::boot_id(&ctx.paths)?,
        by: who::orders(),
    };
    store.change(|state| state.go_back(held, rollback))?;
    log::info!("Activating generation {to}, {}", system.display());
    let footprint = system::footprint(&ctx.paths)?;
    let next = switch(ctx, &found, to, &system, operation);
    let next = match next {
        Err(error) if system::footprint(&ctx.paths)? == footprint => {
            Next::Postpone(format!("{error:#}"))
        }
        Err(error) => Next::RollBack(Fault::local(format!("{error:#}"))),
        Ok(next) => next,
    };
    match next {
        Next::Done => {}
        Next::Restore(error) | Next::Skip(error) => {
            restore_boot(&ctx.paths, 0, &found);
            store.change(|now| *now = state)?;
            bail!("{error}");
        }
        Next::Postpone(error) => {
            system::take_profile_back(&found)?;
            store.change(|now| *now = state)?;
            bail!("{error}");
        }
        Next::Keep(error) => {
            bail!("Rolled back to generation {to}, and comin stays there, but {error}")
        }
        Next::RollBack(Fault { error, .. }) => {
            bail!("The rollback to generation {to} is unfinished: {error}; try it again")
        }
        Next::Repeat => bail!("The rollback to generation {to} was interrupted: try it again"),
    }
    if let Some((waiting, _)) = store.state().awaiting() {
        let waiting = waiting.clone();
        confirm::cancel_waiting(ctx, store, waiting)?;
    }
    let when = if operation.activates() {
        ""
    } else {
        " for the next boot"
    };
    let stays = "comin stays there until someone pushes, or comin retry";
    log_order(
        ctx,
        &format!("Rolled back to generation {to}{when}; {stays}"),
    );
    Ok(())
}

/// Activates a generation of the profile.
fn switch(
    ctx: &Context,
    found: &PreviousSystem,
    to: u64,
    system: &Path,
    operation: Operation,
) -> Result<Next> {
    let wanted = PreviousSystem {
        generation: Some(to),
        ..found.clone()
    };
    system::take_profile_back(&wanted)?;
    let exit = Activation::new(0, system.to_path_buf(), operation).run(&ctx.paths)?;
    let switched = system::after_switch(&ctx.paths, found, system, exit, operation, true)?;
    after_switch::of_activation(&switched, || {
        Ok(Checks {
            new_failures: health::new_failures(&ctx.paths, &found.failed_units)
                .inspect_err(|error| log::warn!("{error:#}"))
                .unwrap_or_default(),
            fault: None,
        })
    })
}

fn generation_to_go_back_to(
    ctx: &Context,
    profile: &Path,
    to: Option<u64>,
) -> Result<(u64, PathBuf)> {
    let current = system::generation(profile)?
        .with_context(|| format!("{} has no generation to go back from", profile.display()))?;
    let generations = system::generations(profile)?;
    let running = fs::read_link_optional(&ctx.paths.current_system())?;
    let is_current = system::of_profile(profile) == running;
    let is_candidate = |g: &&u64| **g < current || (**g == current && !is_current);
    let to = to
        .or_else(|| generations.iter().rfind(is_candidate).copied())
        .context("there is no generation before this one")?;
    ensure!(
        generations.contains(&to),
        "{} has no generation {to}: it has {}",
        profile.display(),
        generations
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let link = system::generation_link(profile, to);
    let system = std::fs::canonicalize(&link)
        .with_context(|| format!("{} leads nowhere", link.display()))?;
    Ok((to, system))
}

/// What must not come back after a rollback by hand.
fn held(ctx: &Context, store: &Store, to: u64) -> Result<Vec<Quarantine>> {
    let mirror = Mirror::open(&ctx.paths);
    let (facts, decision) = observe::decide_now(ctx, store.state(), mirror.as_ref())?;
    let latest = store.state().latest().map(|latest| latest.target.clone());
    let reason = format!("rolled back to generation {to} by hand");
    let targets = decision.selected.into_iter().chain(latest);
    Ok(targets
        .map(|target| Quarantine::of(&target, &facts.remotes, reason.clone(), Timestamp::now()))
        .map(Quarantine::by_hand)
        .collect())
}
