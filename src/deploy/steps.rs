//! The steps of an attempt: evaluate → build → activate → check → record.

use std::path::PathBuf;

use anyhow::{Error, Result};
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::deployment::{Deployment, Stop};
use crate::deploy::preemption::Preemption;
use crate::deploy::{activate, build, finish, gates, journal_fields, prebuilt};
use crate::git::{mirror::Mirror, verified::NotAsSigned};
use crate::model::attempt::{Attempt, NixFailure};
use crate::model::{confirmation::Step, target::Target};
use crate::model::{outcome::Outcome, stage::Stage};
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
    system: Option<PathBuf>,
) -> Result<Completion> {
    let mut deployment = Deployment::start(ctx, store, &mirror, target, system)?;
    let stopped = steps(&mut deployment);
    let Deployment { mut attempt, .. } = deployment;
    let outcome = match stopped {
        Ok(outcome) | Err(Stop::Ended(outcome)) => outcome,
        Err(Stop::Waiting(step)) => {
            attempt.wait_for(step, Timestamp::now());
            journal_fields::record(store, &attempt)?;
            return Ok(Completion::Success);
        }
        Err(Stop::AtGate(step, closed)) => match closed.again {
            Some(_) => {
                gates::record_wait(store, attempt, step)?;
                return Ok(Completion::Success);
            }
            None => gates::hold(ctx, store, &attempt, &closed)?,
        },
        Err(Stop::Failed(error)) => {
            let damage = damage(&attempt, &mirror, &error);
            let error = deployment_error(&mut attempt, &mirror, error);
            match damage {
                Some(damage) => discard(mirror, &damage)?,
                None => attempt.failed(error)?,
            }
        }
    };
    finish::finish(ctx, store, attempt, outcome)
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
fn make(deployment: &mut Deployment) -> Result<PathBuf, Stop> {
    let preemption = Preemption::watch(deployment)?;
    // A request may have come before they were watched.
    if preemption.superseded() {
        return build::preempted(deployment.attempt.stage());
    }
    if let Some(out) = build::built(&deployment.attempt) {
        return Ok(out);
    }
    std::fs::create_dir_all(deployment.ctx.paths.gcroots()).map_err(Error::from)?;
    let made = match deployment.attempt.prebuilt().cloned() {
        Some(system) => prebuilt::fetch(deployment, &preemption, system),
        None => build::evaluate_and_build(deployment, &preemption),
    };
    preemption.end();
    made
}

/// Gets the system, and activates it if nothing is against that; the attempt tells how far it came.
fn steps(deployment: &mut Deployment) -> Result<Outcome, Stop> {
    let ctx = deployment.ctx;
    let out = make(deployment)?;
    if deployment.is_active()? {
        log::info!("{} runs already", out.display());
        let generation = system::generation(&ctx.profile())?;
        return Ok(Outcome::Done { generation });
    }
    if requests::read_suspension(&ctx.paths, Timestamp::now())?.is_some() {
        let stage = Stage::Building;
        return Ok(Outcome::Preempted { stage });
    }
    if let Some(reason) = activate::check_inhibitors(ctx, &mut deployment.attempt, &out) {
        return Ok(Outcome::Skipped { reason });
    }
    deployment.pass_before(Step::Deploy)?;
    let Deployment {
        store,
        attempt,
        residue,
        ..
    } = deployment;
    Ok(activate::activate_and_check(
        ctx, store, attempt, residue, &out,
    )?)
}

/// What is wrong with the mirror, if that may be why an evaluation has failed: it is not the commit's fault then.
fn damage(attempt: &Attempt, mirror: &Mirror, error: &Error) -> Option<String> {
    if attempt.stage() != Stage::Evaluating {
        return None;
    }
    // The objects that are there may be others than they should be.
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
