//! One attempt to deploy a commit: evaluate → build → activate → check → record.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;

use crate::deploy::activate::{self, take_profile_back};
use crate::deploy::boot;
use crate::deploy::build::{self, Made, Source};
use crate::deploy::context::{Completion, Context};
use crate::deploy::finish;
use crate::deploy::journal_fields;
use crate::deploy::snapshot;
use crate::git::mirror::Mirror;
use crate::model::attempt::{Attempt, Outcome, Stage};
use crate::model::confirmation::Step;
use crate::model::names::Operation;
use crate::model::residue::Left;
use crate::model::target::Target;
use crate::signature::signers::Signers;
use crate::state::requests;
use crate::state::store::Store;
use crate::system;
use crate::system::switch;

/// Tries to deploy a target, or goes on with the attempt that waited for that, and records and reports how
/// that ends, or that it waits.
pub fn run(
    ctx: &Context,
    store: &mut Store,
    mirror: Mirror,
    signers: Option<&Signers>,
    target: Target,
) -> Result<Completion> {
    let changed_by = store.state().changed_by();
    let left = changed_by.map_or(Left::Nothing, Left::by);
    let mut attempt = start(ctx, store, &mirror, target)?;
    let source = Source {
        mirror: &mirror,
        signers,
    };
    let course = steps(ctx, store, &source, &mut attempt, left);
    let outcome = match course {
        Ok(Course::Ended(outcome)) => outcome,
        Ok(Course::Waits(step)) => {
            attempt.wait_for(step, Timestamp::now());
            journal_fields::record(store, &attempt)?;
            return Ok(Completion::Success);
        }
        Err(error) => attempt.failed(error)?,
    };
    if let Outcome::Failed {
        stage: Stage::Evaluating,
        ..
    } = outcome
    {
        if let Some(damage) = mirror.damage(&attempt.target.commit) {
            log::warn!("The mirror is damaged and is made anew from the remotes: {damage}");
            mirror.discard()?;
        }
    }
    finish::finish(ctx, store, attempt, outcome)
}

/// A new attempt, or the one that has waited, with what is known of its target now.
fn start(ctx: &Context, store: &mut Store, mirror: &Mirror, target: Target) -> Result<Attempt> {
    let boot = boot::id(&ctx.paths)?;
    match store.state().awaiting() {
        Some((waiting, step)) if target.is(&waiting.target.commit, waiting.target.operation) => {
            let mut attempt = Attempt {
                target,
                boot,
                ..waiting.clone()
            };
            journal_fields::set(&attempt);
            if attempt.confirmed.insert(step) {
                let name = &attempt.target;
                log::info!("{name} is {} without a confirmation now", step.participle());
            }
            Ok(attempt)
        }
        Some(_) | None => {
            let subject = mirror.subject(&target.commit)?;
            let attempt = store.begin(target, subject, boot)?;
            journal_fields::set(&attempt);
            let (target, subject) = (&attempt.target, &attempt.subject);
            log::info!("Deploying {target} by {}: {subject}", target.operation);
            Ok(attempt)
        }
    }
}

/// Evaluates, builds, activates and checks; the attempt tells how far it came.
fn steps(
    ctx: &Context,
    store: &mut Store,
    source: &Source,
    attempt: &mut Attempt,
    left: Left,
) -> Result<Course> {
    let out = match build::evaluate_and_build(ctx, store, source, attempt, &left)? {
        Made::System(out) => out,
        Made::Waits(step) => return Ok(Course::Waits(step)),
        Made::Nothing(outcome) => return Ok(Course::Ended(outcome)),
    };
    let profile = ctx.paths.profile(&ctx.config.profile);
    if build::is_active(ctx, attempt, &left)? {
        log::info!("{} runs already", out.display());
        let generation = system::generation(&profile)?;
        return Ok(Course::Ended(Outcome::Done { generation }));
    }
    if let Some(outcome) = check_inhibitors(ctx, attempt, &out)? {
        return Ok(Course::Ended(outcome));
    }
    if ctx.config.asks(attempt, Step::Deploy) {
        return Ok(Course::Waits(Step::Deploy));
    }
    if let Err(error) = switch::await_other_switch(&ctx.paths) {
        let error = format!("{error:#}");
        return Ok(Course::Ended(Outcome::Postponed { error }));
    }
    attempt.before = match left {
        Left::Unfinished(before) => *before,
        Left::Nothing | Left::Faulty => snapshot::take(ctx, store.state(), &out)?,
    };
    attempt.enter(Stage::Activating, Timestamp::now());
    journal_fields::record(store, attempt)?;
    let outcome = match activate::activate(ctx, attempt, &profile, out.clone()) {
        Ok(exit) => activate::conclude(ctx, store, attempt, &out, exit)?,
        Err(error) => {
            take_profile_back(attempt)?;
            let error = format!("{error:#}");
            Outcome::Postponed { error }
        }
    };
    Ok(Course::Ended(outcome))
}

/// What keeps a system from being activated now, if something does. What keeps a switch from being
/// one only puts it off until the next boot.
fn check_inhibitors(ctx: &Context, attempt: &mut Attempt, out: &Path) -> Result<Option<Outcome>> {
    if requests::read_suspension(&ctx.paths, Timestamp::now())?.is_some() {
        let stage = Stage::Building;
        return Ok(Some(Outcome::Preempted { stage }));
    }
    attempt.inhibitors = system::switch_inhibitors(&ctx.paths, out);
    if attempt.inhibitors.is_empty() {
        return Ok(None);
    }
    Ok(match attempt.target.operation {
        Operation::Switch => {
            let why = system::inhibited_by(&attempt.inhibitors);
            log::warn!("{} is put off until the next boot: {why}", attempt.target);
            None
        }
        Operation::Boot => None,
        Operation::Test => {
            let reason = system::untestable_by(&attempt.inhibitors);
            Some(Outcome::Skipped { reason })
        }
    })
}

/// How far an attempt came.
enum Course {
    /// To its end.
    Ended(Outcome),
    /// To a step that somebody has to confirm.
    Waits(Step),
}
