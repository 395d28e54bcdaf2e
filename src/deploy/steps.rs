//! The steps of an attempt: evaluate → build → activate → check → record.

use std::path::PathBuf;

use anyhow::{Error, Result};
use jiff::Timestamp;

use crate::config::Config;
use crate::deploy::context::{Completion, Context};
use crate::deploy::deployment::{Deployment, Stop};
use crate::deploy::{activate, build, finish, gates, observe, prebuilt, preemption::Preemption};
use crate::git::{mirror::Mirror, verified::NotAsSigned};
use crate::model::{Attempt, ConfirmStep, NixFailure, Outcome, Progress, Stage, Target};
use crate::nix::events::{in_repository, Failure};
use crate::state::{requests, store::Store};
use crate::system;

/// Tries to deploy a target, whose system CI may have built, or goes on with the attempt that waited for that. Records
/// and reports how that ends, or that it waits.
pub fn run(
    ctx: &Context,
    store: &mut Store,
    mirror: Mirror,
    target: Target,
    prebuilt: Option<PathBuf>,
) -> Result<Completion> {
    let mut deployment = start(ctx, store, &mirror, target, prebuilt)?;
    let ended = match steps(&mut deployment, &mirror) {
        Ok(outcome) | Err(Stop::Ended(outcome)) => Ok(outcome),
        Err(Stop::Waiting(stage, step)) => {
            // A gate that is asked again and is still closed writes nothing to the disk.
            let attempt = &mut deployment.attempt;
            if attempt.stage() != stage || attempt.progress != Progress::Awaiting(step) {
                attempt.wait(stage, step, Timestamp::now());
                deployment.record()?;
            }
            return Ok(Completion::Success);
        }
        Err(Stop::Refused(closed)) => {
            let Deployment { store, attempt, .. } = &mut deployment;
            Ok(gates::hold(ctx, store, &attempt.target, &closed)?)
        }
        Err(Stop::Failed(error)) => {
            let attempt = &mut deployment.attempt;
            let damage = damage(attempt, &mirror, &error);
            let error = deployment_error(attempt, &mirror, error);
            match damage {
                Some(damage) => Ok(discard(mirror, &damage)?),
                None => Err(error),
            }
        }
    };
    finish::finish(deployment, ended)
}

/// Begins a new attempt, or goes on with the one that waited for its target.
fn start<'a>(
    ctx: &'a Context,
    store: &'a mut Store,
    mirror: &Mirror,
    target: Target,
    prebuilt: Option<PathBuf>,
) -> Result<Deployment<'a>> {
    let boot = observe::boot_id(&ctx.paths)?;
    let is_it = |(waiting, _): &(&Attempt, ConfirmStep)| {
        target.same_as(&waiting.target.commit, waiting.target.operation)
    };
    if let Some((waiting, step)) = store.state().awaiting().filter(is_it) {
        let mut attempt = Attempt {
            target,
            boot,
            ..waiting.clone()
        };
        if step == ConfirmStep::Build && prebuilt.is_some() {
            // CI may have named another one since.
            attempt.derivation = None;
            attempt.out = prebuilt;
        }
        let mut deployment = Deployment::resume(ctx, store, attempt);
        confirm_if_asked(&ctx.config, &mut deployment.attempt, step);
        return Ok(deployment);
    }
    let subject = mirror.subject(&target.commit)?;
    let state = store.state();
    if state.accepted_main.is_none() {
        log::info!("First deployment: comin trusts this main");
    }
    let attempt = state.next_attempt(target, subject, boot, prebuilt, Timestamp::now());
    let deployment = Deployment::begin(ctx, store, attempt)?;
    let Attempt {
        target, subject, ..
    } = &deployment.attempt;
    log::info!("Deploying {target} by {}: {subject}", target.operation);
    Ok(deployment)
}

/// If somebody was asked to confirm the step before which an attempt has waited, and has not answered, the attempt goes on
/// all the same: its time is up, or the configuration asks nobody any more.
fn confirm_if_asked(config: &Config, attempt: &mut Attempt, step: ConfirmStep) {
    let was_asked = attempt.stage() == Stage::WaitingForConfirmation || config.asks(attempt, step);
    if was_asked && attempt.confirmed.insert(step) {
        let (name, next) = (&attempt.target, step.participle());
        log::info!("{name} is confirmed automatically, and {next} next");
    }
}

/// What went wrong; the attempt keeps what Nix said about it.
fn deployment_error(attempt: &mut Attempt, mirror: &Mirror, error: Error) -> Error {
    let commit = &attempt.target.commit;
    let error = in_repository(error, commit, |path| mirror.has_file(commit, path));
    attempt.failure = error.downcast_ref().map(|failure: &Failure| NixFailure {
        derivation: failure.derivation.clone(),
        lines: failure.lines.clone(),
    });
    error
}

/// Fetches the system if CI has built it, or else evaluates and builds it. An attempt that waited goes on where it was.
fn obtain_system(
    deployment: &mut Deployment,
    mirror: &Mirror,
    preemption: &Preemption,
) -> Result<PathBuf, Stop> {
    // A request may have come before they were watched.
    if preemption.superseded() {
        return build::preempted(deployment.attempt.stage());
    }
    if let Some(out) = build::built(&deployment.attempt) {
        return Ok(out);
    }
    std::fs::create_dir_all(deployment.ctx.paths.gcroots()).map_err(Error::from)?;
    match deployment.attempt.prebuilt().cloned() {
        Some(system) => prebuilt::fetch(deployment, preemption, system),
        None => build::evaluate_and_build(deployment, mirror, preemption),
    }
}

/// Obtains the system, and activates it if nothing is in the way. The attempt tells how far it came.
fn steps(deployment: &mut Deployment, mirror: &Mirror) -> Result<Outcome, Stop> {
    let ctx = deployment.ctx;
    let preemption = Preemption::watch(deployment, mirror)?;
    let out = obtain_system(deployment, mirror, &preemption)?;
    preemption.end();
    if deployment.is_active()? {
        log::info!("{} runs already", out.display());
        let generation = system::generation(&ctx.profile())?;
        return Ok(Outcome::Done { generation });
    }
    let is_wanted = || Ok::<_, Error>(!requests::is_suspended(&ctx.paths)?);
    if !is_wanted()? {
        let stage = Stage::Building;
        return Ok(Outcome::Preempted { stage });
    }
    if let Some(reason) = activate::note_inhibitors(deployment, &out) {
        return Ok(Outcome::Skipped { reason });
    }
    deployment.require_consent(ConfirmStep::Deploy)?;
    Ok(activate::activate_and_check(deployment, &out, is_wanted)?)
}

/// What is wrong with the mirror, if that may be why an evaluation has failed: it is not the commit's fault then.
fn damage(attempt: &Attempt, mirror: &Mirror, error: &Error) -> Option<String> {
    if attempt.stage() != Stage::Evaluating {
        return None;
    }
    // An object may have other content than its id says.
    let corruption = || mirror.find_corruption().map(|error| format!("{error:#}"));
    let corrupt = error.is::<NotAsSigned>().then(corruption).flatten();
    corrupt.or_else(|| mirror.missing_objects(&attempt.target.commit))
}

/// Gives up a damaged mirror: the attempt counts as interrupted, and the fetches that follow fill a new mirror.
fn discard(mirror: Mirror, damage: &str) -> Result<Outcome> {
    log::warn!("The mirror is damaged and is made anew from the remotes: {damage}");
    mirror.discard()?;
    let stage = Stage::Evaluating;
    Ok(Outcome::Interrupted { stage })
}
