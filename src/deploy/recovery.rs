//! What a comin that died, or an attempt that failed, has left behind.

use anyhow::Result;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{activate, announce, deployment::Deployment, finish, observe, rollback};
use crate::model::after_switch::{self, Interrupted, Recovery};
use crate::model::{Outcome, Progress, Stage};
use crate::state::{deploy_record::DeployRecord, requests, store::Store};
use crate::sys::fs;
use crate::system::{self, rollback_timer, switch::Activation};

/// Waits until nobody else deploys, records who does now, and settles what is left of an attempt. Whatever becomes of this
/// comin, a deploy follows.
pub fn take_over(ctx: &Context) -> Result<(Store, DeployRecord, Completion)> {
    let mut store = Store::open(&ctx.paths)?;
    let record = announce::begin(ctx, observe::remotes(ctx))?;
    record.write(&ctx.paths)?;
    let recovered = recover(ctx, &mut store)?;
    Ok((store, record, recovered))
}

/// Carries out an order that waits for no deploy, and asks for the deploy that follows.
pub fn carry_out<T>(ctx: &Context, order: impl FnOnce(&mut Store) -> Result<T>) -> Result<T> {
    let (mut store, _, _) = take_over(ctx)?;
    let done = order(&mut store);
    drop(store);
    requests::request_for_order(&ctx.paths);
    done
}

/// Settles an attempt whose comin died: the switch may have gone on without it, or the machine
/// may have booted since.
pub fn recover(ctx: &Context, store: &mut Store) -> Result<Completion> {
    let Some(attempt) = store.state().latest().cloned() else {
        return Ok(Completion::Success);
    };
    let Progress::Running(stage) = attempt.progress else {
        // comin may have died after it recorded the outcome, and before it disarmed the timer.
        rollback_timer::disarm(&ctx.paths);
        return Ok(Completion::Success);
    };
    let mut deployment = Deployment::resume(ctx, store, attempt);
    let ended = match deployment.attempt.boot_fault.clone() {
        Some(fault) => rollback::fall_back(&mut deployment, &fault),
        None => settle(&mut deployment, stage),
    };
    finish::finish(deployment, ended)
}

fn settle(deployment: &mut Deployment, stage: Stage) -> Result<Outcome> {
    let (ctx, attempt) = (deployment.ctx, &deployment.attempt);
    let operation = attempt.operation();
    let Some(out) = attempt.out.clone().filter(|_| stage.changes_the_machine()) else {
        return Ok(Outcome::Interrupted { stage });
    };
    let profile = &attempt.before.profile;
    // A system in the profile need not be in the boot menu yet.
    let booted = fs::read_link_optional(&ctx.paths.booted_system())?;
    let is_up = operation.activates() || booted.as_ref() == Some(&out);
    let is_there = is_up && system::is_active(profile, &ctx.paths, &out, operation)?;
    let exit = match attempt.fault {
        // The latest switch may be that of the rollback.
        Some(_) => None,
        None => Activation::new(attempt.id, out.clone(), operation).outcome(&ctx.paths)?,
    };
    let recovery = after_switch::of_interrupted(Interrupted {
        stage,
        fault: attempt.fault.clone(),
        exit,
        has_booted_it: is_there && attempt.boot != observe::boot_id(&ctx.paths)?,
        retries_exhausted: attempt.retries_exhausted(),
    });
    match recovery {
        // This only runs the boot loader, so it goes on here.
        Recovery::Repeat if attempt.reactivation.is_some() && !operation.activates() => {
            deployment.attempt.interruptions = attempt.interruptions.saturating_add(1);
            deployment.record()?;
            let exit = activate::activate(ctx, &deployment.attempt, &out)?;
            activate::conclude(deployment, &out, exit)
        }
        Recovery::Repeat => Ok(Outcome::Interrupted { stage }),
        Recovery::Conclude(exit) => {
            rollback_timer::arm(&ctx.config, &ctx.own_config_file, &ctx.paths, attempt)
                .unwrap_or_else(|error| log::warn!("{error:#}"));
            activate::conclude(deployment, &out, exit)
        }
        Recovery::RollBack(fault) => rollback::roll_back(deployment, &fault),
    }
}
