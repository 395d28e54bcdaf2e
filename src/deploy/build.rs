//! The making of a system: evaluate → build, as long as nothing else is to be deployed.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;

use crate::deploy::announce;
use crate::deploy::commits::Commits;
use crate::deploy::context::Context;
use crate::deploy::journal_fields;
use crate::deploy::observe;
use crate::git::mirror::{self, Mirror};
use crate::model::attempt::{Attempt, Outcome, Stage};
use crate::model::confirmation::Step;
use crate::model::residue::Left;
use crate::model::select::allows;
use crate::model::state::State;
use crate::model::target::Target;
use crate::nix;
use crate::nix::gc_roots::DERIVATION;
use crate::signature::signers::Signers;
use crate::state::requests::Requests;
use crate::state::store::Store;
use crate::sys::command::Interrupt;
use crate::sys::fs;
use crate::sys::text::shortened;
use crate::system;

/// What evaluation and build came to.
pub enum Made {
    /// A system.
    System(PathBuf),
    /// Nothing, before somebody confirms this.
    Waits(Step),
    /// Nothing, and that is the end of it.
    Nothing(Outcome),
}

/// What a system is made from.
pub struct Source<'a> {
    /// The commits.
    pub mirror: &'a Mirror,
    /// Whose signatures count, where some are required.
    pub signers: Option<&'a Signers>,
}

/// The length of a machine's id.
const MACHINE_ID: usize = 32;

/// Evaluates and builds, as long as nothing else is to be deployed. An attempt that waited goes on where it
/// was.
///
/// # Errors
/// It cannot be evaluated or built, is no system, or the state cannot be written.
pub fn evaluate_and_build(
    ctx: &Context,
    store: &mut Store,
    source: &Source,
    attempt: &mut Attempt,
    left: &Left,
) -> Result<Made> {
    let Context { config, paths, .. } = ctx;
    let target = attempt.target.clone();
    let requests = Requests::watch(paths)?;
    let state = store.state().clone();
    // Only Nix can fail a build: a full /run is not the commit's fault.
    let superseded = || {
        let superseded = is_superseded(ctx, &requests, source, &state, &target);
        superseded.unwrap_or_else(|error| {
            log::warn!(
                "A request to deploy cannot be looked at before this deployment ends: {error:#}"
            );
            false
        })
    };
    let interrupt = Interrupt {
        signal: requests.as_fd(),
        ends: &|| Ok(superseded()),
    };
    let preempted = |stage| Ok(Made::Nothing(Outcome::Preempted { stage }));

    // A request may have come before they were watched.
    if superseded() {
        return preempted(attempt.stage());
    }
    source.mirror.keep_target(&target.commit)?;
    let root = paths.gcroots().join(attempt.root());
    std::fs::create_dir_all(paths.gcroots())?;
    let mut is_second = false;
    loop {
        if let Some(out) = built(attempt) {
            return Ok(Made::System(out));
        }
        let (derivation, out) = match evaluated(attempt) {
            Some(known) => known,
            None => match evaluate(ctx, store, attempt, &interrupt)? {
                ControlFlow::Continue(evaluated) => evaluated,
                ControlFlow::Break(outcome) => return Ok(Made::Nothing(outcome)),
            },
        };
        if config.asks(attempt, Step::Build) && !is_active(ctx, attempt, left)? {
            keep_derivation(ctx, &derivation);
            return Ok(Made::Waits(Step::Build));
        }
        attempt.enter(Stage::Building, Timestamp::now());
        journal_fields::record(store, attempt)?;
        log::info!("Building {}", out.display());
        match nix::build(&derivation, &root, config.build_timeout, Some(&interrupt)) {
            Ok(true) => {
                system::check(&out)?;
                return Ok(Made::System(out));
            }
            Ok(false) => return preempted(Stage::Building),
            Err(error) if is_second || Path::new(&derivation).exists() => return Err(error),
            // Nothing has kept it between its evaluation and its build.
            Err(_) => log::info!("{derivation} has been collected, and is evaluated again"),
        }
        is_second = true;
    }
}

/// Evaluates: a derivation and its system, or how the attempt ends without one.
fn evaluate(
    ctx: &Context,
    store: &mut Store,
    attempt: &mut Attempt,
    interrupt: &Interrupt,
) -> Result<ControlFlow<Outcome, (String, PathBuf)>> {
    let Context { config, paths, .. } = ctx;
    if attempt.stage() != Stage::Evaluating {
        attempt.enter(Stage::Evaluating, Timestamp::now());
        journal_fields::record(store, attempt)?;
    }
    let (target, cache) = (&attempt.target, paths.nix_cache());
    let interrupt = Some(interrupt);
    let evaluation = nix::evaluate(
        config,
        paths,
        mirror::TARGET,
        target,
        Some(&cache),
        interrupt,
    )?;
    let Some(evaluation) = evaluation else {
        let stage = Stage::Evaluating;
        return Ok(ControlFlow::Break(Outcome::Preempted { stage }));
    };
    if let Some(reason) = machine_id_mismatch(ctx, evaluation.machine_id.as_deref())? {
        return Ok(ControlFlow::Break(Outcome::Skipped { reason }));
    }
    attempt.derivation = Some(evaluation.derivation.clone());
    attempt.out = Some(evaluation.out.clone());
    let evaluated = (evaluation.derivation, evaluation.out);
    Ok(ControlFlow::Continue(evaluated))
}

/// Whether the machine has got the system of an attempt already, whole.
pub fn is_active(ctx: &Context, attempt: &Attempt, left: &Left) -> Result<bool> {
    let profile = ctx.paths.profile(&ctx.config.profile);
    let operation = attempt.target.operation;
    match (&attempt.out, left) {
        (Some(out), Left::Nothing) => system::has(&profile, &ctx.paths, out, operation),
        (Some(_), Left::Faulty | Left::Unfinished(_)) | (None, _) => Ok(false),
    }
}

/// Keeps what waits to be built. Without, it would only have to be evaluated again.
fn keep_derivation(ctx: &Context, derivation: &str) {
    let root = ctx.paths.gcroots().join(DERIVATION);
    if let Err(error) = nix::keep_derivation(derivation, &root) {
        log::warn!("{derivation} may be collected before it is built: {error:#}");
    }
}

/// Whether what has been fetched meanwhile makes a deployment of this target pointless. If newer commits have
/// stopped enough deployments in a row, they do so only if the target may not be deployed any more.
fn is_superseded(
    ctx: &Context,
    requests: &Requests,
    source: &Source,
    state: &State,
    target: &Target,
) -> Result<bool> {
    if !requests.take(&ctx.paths)? {
        return Ok(false);
    }
    let commits = Commits::of(source.mirror, source.signers);
    let (facts, decision) = observe::decide_now(ctx, state, &commits)?;
    if let Err(error) = announce::announce(ctx, &facts, &decision) {
        log::warn!("{error:#}");
    }
    if facts.suspended.is_some() {
        return Ok(true);
    }
    if !decision.supersedes(target, &facts) {
        return Ok(false);
    }
    let goes_on = state.outlasts_newer_commits() && allows(&facts, target, &commits);
    if goes_on {
        log::info!(
            "{target} goes on: newer commits have stopped several deployments in a row, and come next"
        );
    }
    Ok(!goes_on)
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
fn built(attempt: &Attempt) -> Option<PathBuf> {
    let out = attempt
        .out
        .as_ref()
        .filter(|_| attempt.waits_for(Step::Deploy))?;
    system::check(out).is_ok().then(|| out.clone())
}
