//! The switch, and what follows from it.

use std::mem;
use std::path::Path;

use anyhow::{anyhow, Error, Result};

use crate::deploy::health::{self, Patience};
use crate::deploy::rollback::{self, restore_boot};
use crate::deploy::{context::Context, deployment::Deployment, previous_system};
use crate::model::after_switch::{self, Next};
use crate::model::{Attempt, Operation, Outcome, Residue, Stage, SwitchExit};
use crate::nix;
use crate::system::switch::{self, Activation};
use crate::system::{self, rollback_timer, unit_changes};

/// Notes what only a reboot changes, and so puts a switch off until the next boot. Returns why the system cannot be
/// activated at all, if it can only be tested.
pub fn note_inhibitors(deployment: &mut Deployment, out: &Path) -> Option<String> {
    let Deployment { ctx, attempt, .. } = deployment;
    let found = system::switch_inhibitors(&ctx.paths, out);
    let before = mem::replace(&mut attempt.inhibitors, found);
    if attempt.inhibitors.is_empty() {
        return None;
    }
    match attempt.asked() {
        Operation::Switch => {
            // Else it was said before it waited.
            if attempt.inhibitors != before {
                let why = system::inhibited_by(&attempt.inhibitors);
                log::warn!("{} is put off until the next boot: {why}", attempt.target);
            }
            None
        }
        Operation::Boot => None,
        Operation::Test => Some(system::untestable_by(&attempt.inhibitors)),
    }
}

/// Activates the system of an attempt if that is still wanted, looks at the machine, and says how that ended.
pub fn activate_and_check(
    deployment: &mut Deployment,
    out: &Path,
    is_wanted: impl FnOnce() -> Result<bool>,
) -> Result<Outcome> {
    let ctx = deployment.ctx;
    let residue = deployment.residue();
    if let Err(error) = switch::await_other_switch(&ctx.paths) {
        return Ok(postponed(&error));
    }
    // Gates and another switch may have taken minutes.
    if !is_wanted()? {
        let stage = Stage::Building;
        return Ok(Outcome::Preempted { stage });
    }
    // After a switch that ended half-way, the profile may belong to the system that runs.
    let (before, takes_profile_back) = match residue {
        Residue::Unfinished(before) => (*before, false),
        Residue::Clean | Residue::FailedActivation => {
            let state = deployment.store.state();
            (previous_system::find(ctx, state, out)?, true)
        }
    };
    deployment.attempt.before = before;
    deployment.enter(Stage::Activating)?;
    let found = system::footprint(&ctx.paths)?;
    let ended = activate(ctx, &deployment.attempt, out);
    let has_begun = system::footprint(&ctx.paths)? != found;
    let error = match ended {
        Ok(exit) if exit.is_busy() && !has_begun => anyhow!(SwitchExit::BUSY_WORDS),
        Err(error) if !has_begun => error,
        ended => {
            let exit = ended.unwrap_or_else(|error| {
                log::warn!("{error:#}");
                SwitchExit::Lost
            });
            return conclude(deployment, out, exit);
        }
    };
    if takes_profile_back {
        take_profile_back(&deployment.attempt)?;
    }
    Ok(postponed(&error))
}

/// The outcome if the switch could not begin: it is tried again, and the commit is not blamed.
fn postponed(error: &Error) -> Outcome {
    let error = format!("{error:#}");
    Outcome::Postponed { error }
}

/// Arms the rollback timer, moves the profile and runs `switch-to-configuration`. An error means that nothing was
/// activated.
pub fn activate(ctx: &Context, attempt: &Attempt, out: &Path) -> Result<SwitchExit> {
    let operation = attempt.operation();
    rollback_timer::arm(&ctx.config, &ctx.own_config_file, &ctx.paths, attempt)?;
    if operation.moves_profile() {
        nix::set_profile(&ctx.profile(), out)?;
    }
    log::info!("Activating {}", out.display());
    if operation.activates() {
        unit_changes::save_units(&ctx.paths, attempt.id);
    }
    Activation::new(attempt.id, out.to_path_buf(), operation).run(&ctx.paths)
}

/// The outcome of a switch that came to an end. If the checks decide, it makes them first.
pub fn conclude(deployment: &mut Deployment, out: &Path, exit: SwitchExit) -> Result<Outcome> {
    let (ctx, attempt) = (deployment.ctx, &deployment.attempt);
    let operation = attempt.operation();
    let retries_exhausted = attempt.retries_exhausted();
    let before = &attempt.before;
    let switched =
        system::after_switch(&ctx.paths, before, out, exit, operation, retries_exhausted)?;
    let next = after_switch::of_activation(&switched, || {
        deployment.enter(Stage::Checking)?;
        let attempt = &mut deployment.attempt;
        let checks = health::check(ctx, &attempt.before, Patience::usual(ctx));
        let failed = checks.new_failures.as_deref().unwrap_or_default();
        attempt.units = unit_changes::changes_since(&ctx.paths, attempt.id, failed);
        Ok(checks)
    })?;
    let attempt = &mut deployment.attempt;
    if switched.exit.awaits_reboot() && matches!(next, Next::Done | Next::Skip(_)) {
        // The switch has found what the inhibitors did not name, and activated nothing.
        attempt.inhibitors = vec!["the init interface".to_string()];
    }
    let stage = Stage::Activating;
    Ok(match next {
        Next::Done => {
            let generation = system::generation(&ctx.profile()).ok().flatten();
            let generation = generation.filter(|_| operation.moves_profile());
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
        Next::RollBack(fault) => rollback::roll_back(deployment, &fault)?,
    })
}

/// Undoes the new generation of an attempt that activated nothing, unless somebody has moved the profile since.
fn take_profile_back(attempt: &Attempt) -> Result<()> {
    let is_ours = system::of_profile(&attempt.before.profile) == attempt.out;
    if attempt.operation().moves_profile() && is_ours {
        system::take_profile_back(&attempt.before)?;
    }
    Ok(())
}
