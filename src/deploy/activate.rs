//! The switch, and what follows from it.

use std::path::Path;

use anyhow::Result;

use crate::deploy::health::{self, Patience};
use crate::deploy::rollback::{self, restore_boot};
use crate::deploy::{context::Context, journal_fields};
use crate::model::after_switch::{self, Next, SwitchExit};
use crate::model::attempt::Attempt;
use crate::model::{outcome::Outcome, stage::Stage};
use crate::state::store::Store;
use crate::system::{self, rollback_timer, switch::Activation, unit_changes};

/// Runs `switch-to-configuration`, with a way back and somebody who takes it. An error means that
/// nothing was activated.
pub fn activate(ctx: &Context, attempt: &Attempt, out: &Path) -> Result<SwitchExit> {
    let operation = attempt.operation();
    rollback_timer::arm(&ctx.config, &ctx.own_config_file, &ctx.paths, attempt)?;
    if operation.moves_profile() {
        system::set_profile(&ctx.profile(), out)?;
    }
    log::info!("Activating {}", out.display());
    if operation.activates() {
        unit_changes::save_units(&ctx.paths, attempt.id);
    }
    Activation::new(attempt.id, out.to_path_buf(), operation).run(&ctx.paths)
}

/// The outcome of a switch that came to an end: the machine has to be well.
pub fn conclude(
    ctx: &Context,
    store: &mut Store,
    attempt: &mut Attempt,
    out: &Path,
    exit: SwitchExit,
) -> Result<Outcome> {
    let operation = attempt.operation();
    let retries_exhausted = attempt.retries_exhausted();
    let before = &attempt.before;
    let switched =
        system::after_switch(&ctx.paths, before, out, exit, operation, retries_exhausted)?;
    let next = after_switch::of_activation(&switched, || {
        journal_fields::enter(store, attempt, Stage::Checking)?;
        let checks = health::check(ctx, &attempt.before, Patience::usual(ctx));
        let failed = checks.new_failures.as_deref().unwrap_or_default();
        attempt.units = unit_changes::changes_since(&ctx.paths, attempt.id, failed);
        Ok(checks)
    })?;
    let stage = Stage::Activating;
    Ok(match next {
        Next::Done => {
            let generation = system::generation(&ctx.profile()).ok().flatten();
            let generation = generation.filter(|_| operation.moves_profile());
            if switched.exit.awaits_reboot() {
                attempt.inhibitors = vec!["the init interface".to_string()];
            }
            Outcome::Done { generation }
        }
        Next::Postpone(error) => {
            take_profile_back(attempt)?;
            Outcome::Postponed { error }
        }
        Next::Skip(reason) => Outcome::Skipped { reason },
        Next::Repeat => Outcome::Interrupted { stage },
        Next::Restore(error) => {
            if operation.moves_profile() {
                restore_boot(&ctx.paths, attempt.id, &attempt.before);
            }
            Outcome::Failed { stage, error }
        }
        Next::Keep(error) => Outcome::Failed { stage, error },
        Next::RollBack(fault) => rollback::roll_back(ctx, store, attempt, &fault)?,
    })
}

/// Undoes the new generation of an attempt that activated nothing.
pub fn take_profile_back(attempt: &Attempt) -> Result<()> {
    if attempt.operation().moves_profile() {
        system::take_profile_back(&attempt.before)?;
    }
    Ok(())
}
