//! The way back: the system that ran before an activation runs again, and boots again.

use std::path::Path;

use anyhow::{bail, ensure, Result};
use jiff::Timestamp;

use crate::config::paths::Paths;
use crate::deploy::health::{self, Patience};
use crate::deploy::{
    context::Context, deployment::Deployment, fetch::record_failure, observe,
    reboot::reboot as order_reboot, record,
};
use crate::model::{
    boot_check, Attempt, Fault, FaultOrigin, Operation, Outcome, PreviousSystem, Quarantine,
    Reboot, RebootStage, RemoteFacts, Stage, SwitchExit,
};
use crate::nix;
use crate::state::store::Store;
use crate::sys::fs;
use crate::system::switch::{self, Activation};
use crate::system::{self, rollback_timer};

/// Rolls an activation back if the owner wants that, and finds out whose fault it was.
pub fn roll_back(deployment: &mut Deployment, fault: &Fault) -> Result<Outcome> {
    let Deployment { ctx, attempt, .. } = deployment;
    let error = &fault.error;
    if !ctx.config.rollback.enable {
        let (stage, error) = (attempt.stage(), error.clone());
        let runs = fs::read_link_optional(&ctx.paths.current_system())?;
        if attempt.operation().moves_profile() && runs != attempt.out {
            restore_boot(&ctx.paths, attempt.id, &attempt.before);
        }
        return Ok(Outcome::Failed { stage, error });
    }
    log::warn!("Rolling back {}: {error}", attempt.target);
    // The way back has its own time.
    rollback_timer::arm(&ctx.config, &ctx.own_config_file, &ctx.paths, attempt)
        .unwrap_or_else(|error| log::warn!("{error:#}"));
    undo_and_blame(deployment, fault)
}

/// Goes back after a boot: first changes what boots next. The rollback is over when that system runs.
///
/// # Errors
/// The machine reboots for it, or another switch runs.
pub fn fall_back(deployment: &mut Deployment, fault: &Fault) -> Result<Outcome> {
    let Deployment {
        ctx,
        store,
        attempt,
    } = deployment;
    let systems = observe::systems(ctx)?;
    if boot_check::needs_reboot(attempt, &systems, store.state().reboot.as_ref())
        && activate_before(&ctx.paths, attempt)?.is_none()
    {
        let reboot = Reboot {
            attempt: attempt.id,
            system: attempt.before.system.clone().unwrap_or_default(),
            boot: systems.boot,
            announced_at: Timestamp::now(),
            stage: RebootStage::Announced,
        };
        order_reboot(ctx, store, reboot)?;
        bail!("the machine reboots to complete the rollback");
    }
    undo_and_blame(deployment, fault)
}

fn undo_and_blame(deployment: &mut Deployment, fault: &Fault) -> Result<Outcome> {
    let Deployment {
        ctx,
        store,
        attempt,
    } = deployment;
    let remotes = observe::remotes(ctx);
    let retries_exhausted = attempt.retries_exhausted();
    go_back(&ctx.paths, store, attempt, &fault.error, &remotes, || {
        blame(ctx, fault, retries_exhausted)
    })
}

/// If the previous system cannot reach the remotes either, that is not the commit's fault. If that happens at each try, it
/// is: what a commit breaks may stay broken after the rollback.
fn blame(ctx: &Context, fault: &Fault, retries_exhausted: bool) -> Result<FaultOrigin> {
    let remotes = &fault.unreachable;
    let is_reached = || health::await_connectivity(ctx, remotes, Patience::usual(ctx));
    if remotes.is_empty() || retries_exhausted || is_reached() {
        return Ok(FaultOrigin::Commit);
    }
    // Without this record, the commit would be tried again at once, because of an earlier fetch.
    for name in remotes {
        let remote = ctx.config.remote(name.as_str())?;
        // A rollback waits for no fetch.
        if let Err(error) = record_failure(&ctx.paths, remote, "it cannot be reached".to_string()) {
            log::warn!("{error:#}");
        }
    }
    Ok(FaultOrigin::Outage(remotes.clone()))
}

/// Rolls an activation back. Needs no configuration: the system that it made may have none.
pub fn go_back(
    paths: &Paths,
    store: &mut Store,
    attempt: &mut Attempt,
    error: &str,
    remotes: &[RemoteFacts],
    blame: impl FnOnce() -> Result<FaultOrigin>,
) -> Result<Outcome> {
    attempt.fault = Some(error.to_string());
    // The activation that is undone may have filled the disk.
    record::enter(store, attempt, Stage::RollingBack)
        .unwrap_or_else(|error| log::warn!("{error:#}"));
    // As long as another switch runs, the rollback is not over.
    let failure = undo(paths, attempt)?;
    let blame = match &failure {
        None => blame()?,
        Some(_) => FaultOrigin::Commit,
    };
    if blame == FaultOrigin::Commit {
        store.quarantine(Quarantine::of(
            &attempt.target,
            remotes,
            error.to_string(),
            Timestamp::now(),
        ))?;
    }
    Ok(match failure {
        None => Outcome::RolledBack {
            error: error.to_string(),
            blame,
        },
        Some(failure) => Outcome::Failed {
            stage: Stage::RollingBack,
            error: format!("{error}; and the rollback failed: {failure}"),
        },
    })
}

/// Brings back what an activation found: the generation of the profile, what boots, what runs. Returns why that failed,
/// if it did.
///
/// # Errors
/// Another switch runs, so the rollback cannot go on.
fn undo(paths: &Paths, attempt: &Attempt) -> Result<Option<String>> {
    let before = &attempt.before;
    let Some(runs) = &before.system else {
        return Ok(Some("the previous system is not known".to_string()));
    };
    let failure = activate_before(paths, attempt)?;
    let is_back = system::is_active(&before.profile, paths, runs, Operation::Test)?;
    Ok(failure.or_else(|| (!is_back).then(|| format!("{} does not run", runs.display()))))
}

fn activate_before(paths: &Paths, attempt: &Attempt) -> Result<Option<String>> {
    let before = &attempt.before;
    let Some(runs) = before.system.clone() else {
        return Ok(None);
    };
    let boots = before.boots.clone().unwrap_or_else(|| runs.clone());
    if attempt.operation().moves_profile() {
        restore_profile(before, &boots);
    }
    let steps = match attempt.operation() {
        Operation::Switch if boots == runs => vec![(runs.clone(), Operation::Switch)],
        // The system that ran was only tested.
        Operation::Switch => vec![(boots, Operation::Boot), (runs.clone(), Operation::Test)],
        Operation::Boot => vec![(boots, Operation::Boot)],
        Operation::Test => vec![(runs.clone(), Operation::Test)],
    };
    for (system, operation) in steps {
        log::info!("Activating {} again by {operation}", system.display());
        let activation = Activation::new(attempt.id, system, operation);
        // A comin that died may have got this far already.
        let mut exit = Ok(activation.outcome(paths)?);
        while matches!(&exit, Ok(exit) if exit.as_ref().is_none_or(SwitchExit::is_busy)) {
            switch::await_other_switch(paths)?;
            exit = activation.run(paths).map(Some);
        }
        match exit {
            Ok(Some(exit)) if !exit.is_success() => log::warn!("{exit}"),
            Ok(_) => {}
            Err(error) => return Ok(Some(format!("{error:#}"))),
        }
    }
    Ok(None)
}

/// Lets the profile and the boot menu agree with what runs, after a switch that activated nothing: a switch runs the
/// boot loader first. If that fails, the reason why nothing was activated still counts.
pub fn restore_boot(paths: &Paths, attempt: u64, before: &PreviousSystem) {
    let restore = || -> Result<()> {
        system::take_profile_back(before)?;
        let boots = system::of_profile(&before.profile);
        if let Some(boots) = boots.filter(|boots| before.boots.as_ref() == Some(boots)) {
            let exit = Activation::new(attempt, boots, Operation::Boot).run(paths)?;
            ensure!(exit.is_success(), "{exit}");
        }
        Ok(())
    };
    restore().unwrap_or_else(|error| {
        log::warn!("The profile or the boot menu may still name a system that was not activated: {error:#}");
    });
}

/// Takes the profile back. A failure is only logged, because the system that ran must run again in any case.
fn restore_profile(before: &PreviousSystem, boots: &Path) {
    let warn = |error| log::warn!("{error:#}");
    system::take_profile_back(before).unwrap_or_else(warn);
    // There was no generation before, or it has been removed since.
    if system::of_profile(&before.profile).as_deref() != Some(boots) {
        nix::set_profile(&before.profile, boots).unwrap_or_else(warn);
    }
}
