//! A system is made from a commit: evaluate → build, as long as nothing else is to be deployed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::deploy::deployment::{Deployment, Stop};
use crate::deploy::{context::Context, evaluation::NixSource, preemption::Preemption};
use crate::git::mirror::Mirror;
use crate::model::{Attempt, ConfirmStep, Outcome, Progress, Stage};
use crate::nix;
use crate::state::deploy_record;
use crate::sys::{fs, text::shortened};
use crate::system;

/// The length of a machine's id.
const MACHINE_ID: usize = 32;

/// Evaluates and builds. An attempt that waited goes on where it was.
pub fn evaluate_and_build(
    deployment: &mut Deployment,
    mirror: &Mirror,
    preemption: &Preemption,
) -> Result<PathBuf, Stop> {
    let ctx = deployment.ctx;
    mirror.keep_target(&deployment.attempt.target.commit)?;
    let mut is_second = false;
    loop {
        let (derivation, out) = match evaluated(&deployment.attempt) {
            Some(known) => known,
            None => evaluate(deployment, mirror, preemption)?,
        };
        if !deployment.is_active()? {
            let allowed = deployment.require_consent(ConfirmStep::Build);
            allowed.inspect_err(|_| keep_derivation(ctx, &derivation))?;
        }
        match build(deployment, preemption, &derivation, &out) {
            Err(Stop::Failed(_)) if !is_second && !Path::new(&derivation).exists() => {
                // Nothing has kept it between its evaluation and its build.
                log::info!("{derivation} was garbage-collected, so comin evaluates again");
            }
            built => return built.map(|()| out),
        }
        is_second = true;
    }
}

/// Evaluates: a derivation and its system.
fn evaluate(
    deployment: &mut Deployment,
    mirror: &Mirror,
    preemption: &Preemption,
) -> Result<(String, PathBuf), Stop> {
    if deployment.attempt.stage() != Stage::Evaluating {
        deployment.enter(Stage::Evaluating)?;
    }
    let ctx = deployment.ctx;
    let target = &deployment.attempt.target;
    let source = NixSource::of(ctx, mirror, target, None)?;
    let evaluation = deploy_record::during(&ctx.paths, &format!("Evaluating {target}"), || {
        preemption.during(|interrupt| source.evaluate(Some(interrupt)))
    })?;
    let Some(evaluation) = evaluation else {
        return preempted(Stage::Evaluating);
    };
    let folder = ctx.config.repository_subdir.as_deref().unwrap_or_default();
    let flake = Path::new(folder).join("flake.nix");
    if mirror.has_lfs_pointers(&target.commit, &flake) {
        log::warn!("{target} has files in Git LFS, and gets pointers in their place. To get the files, set inputs.self.lfs = true in flake.nix (Nix 2.27 or newer)");
    }
    if let Some(reason) = machine_id_mismatch(ctx, evaluation.machine_id.as_deref())? {
        return Err(Stop::Ended(Outcome::Skipped { reason }));
    }
    deployment.attempt.derivation = Some(evaluation.derivation.clone());
    deployment.attempt.out = Some(evaluation.out.clone());
    Ok((evaluation.derivation, evaluation.out))
}

/// Builds a derivation.
fn build(
    deployment: &mut Deployment,
    preemption: &Preemption,
    derivation: &str,
    out: &Path,
) -> Result<(), Stop> {
    deployment.enter(Stage::Building)?;
    log::info!("Building {}", out.display());
    if !realise(deployment, preemption, "Building", Path::new(derivation))? {
        return preempted(Stage::Building);
    }
    Ok(system::check_is_nixos(out)?)
}

/// Builds a derivation or fetches a system, with a GC root of the attempt, unless something else is to be deployed
/// meanwhile. `doing` is as in "Building".
pub fn realise(
    deployment: &Deployment,
    preemption: &Preemption,
    doing: &str,
    path: &Path,
) -> Result<bool> {
    let Deployment { ctx, attempt, .. } = deployment;
    let root = ctx.paths.gcroots().join(Attempt::root_of(attempt.id));
    let timeout = ctx.config.build_timeout;
    let work = format!("{doing} {}", attempt.target);
    deploy_record::during(&ctx.paths, &work, || {
        preemption.during(|interrupt| nix::build(path, &root, timeout, Some(interrupt)))
    })
}

pub fn preempted<T>(stage: Stage) -> Result<T, Stop> {
    Err(Stop::Ended(Outcome::Preempted { stage }))
}

/// Keeps what waits to be built. Without, it would only have to be evaluated again.
fn keep_derivation(ctx: &Context, derivation: &str) {
    let root = ctx.paths.derivation_root();
    if let Err(error) = nix::add_gc_root_of_derivation(derivation, &root) {
        log::warn!("{derivation} may be collected before it is built: {error:#}");
    }
}

/// The reason, if an evaluation is meant for another machine.
pub fn machine_id_mismatch(ctx: &Context, wanted: Option<&str>) -> Result<Option<String>> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let own = fs::read_optional(&ctx.paths.machine_id())?.unwrap_or_default();
    let own = String::from_utf8_lossy(&own);
    let own = own.trim();
    Ok((own != wanted).then(|| {
        let wanted = shortened(wanted, MACHINE_ID);
        format!("services.comin.machineId is {wanted:?}, and this machine's id is {own:?}")
    }))
}

/// The derivation and system of an attempt that was evaluated, as long as Nix has the derivation.
fn evaluated(attempt: &Attempt) -> Option<(String, PathBuf)> {
    let derivation = attempt.derivation.clone()?;
    let is_there = Path::new(&derivation).exists();
    Some((derivation, attempt.out.clone()?)).filter(|_| is_there)
}

/// The system of an attempt that was built before it waited, as long as it is there.
pub fn built(attempt: &Attempt) -> Option<PathBuf> {
    let has_waited = attempt.progress == Progress::Awaiting(ConfirmStep::Deploy);
    let out = attempt.out.as_ref().filter(|_| has_waited)?;
    system::check_is_nixos(out).is_ok().then(|| out.clone())
}
