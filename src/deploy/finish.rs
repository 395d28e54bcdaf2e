//! The end of an attempt: the outcome is recorded and reported, and old systems are pruned.

use anyhow::Result;
use jiff::Timestamp;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{deployment::Deployment, post_deployment, retention};
use crate::model::{Attempt, Outcome};
use crate::sys::journald;
use crate::system::{reboot_reasons, rollback_timer};

/// Records and reports how an attempt has ended, runs the owner's command, and prunes old systems.
pub fn finish(mut deployment: Deployment, ended: Result<Outcome>) -> Result<Completion> {
    let outcome = ended.or_else(|error| deployment.attempt.failed(error))?;
    deployment.attempt.end(outcome, Timestamp::now());
    deployment.record()?;
    let Deployment {
        ctx,
        store,
        attempt,
    } = deployment;
    rollback_timer::disarm(&ctx.paths);
    let ending = log_outcome(ctx, &attempt);
    post_deployment::run(ctx, &attempt);
    if let Err(error) = retention::prune(ctx, store.state()) {
        // They take up space until the next attempt, which tries again.
        log::warn!("Failed to remove old systems: {error:#}");
    }
    journald::clear_context();
    Ok(ending)
}

/// Says how an attempt ended.
fn log_outcome(ctx: &Context, attempt: &Attempt) -> Completion {
    let name = attempt.target.to_string();
    let Some((_, outcome)) = attempt.ended() else {
        return Completion::Success;
    };
    let next = attempt.again(ctx.config.retry).sentence();
    match outcome {
        Outcome::Done { .. } => {
            let reasons = reboot_reasons::reasons(&ctx.config, &ctx.paths, Some(attempt));
            let reboot = match &reasons[..] {
                [] => String::new(),
                reasons => format!("; a reboot is needed: {}", reasons.join(", ")),
            };
            log::info!("Deployed {name} by {}{reboot}", attempt.operation());
        }
        Outcome::Skipped { reason } => log::warn!("Skipped {name}: {reason}"),
        Outcome::Preempted { stage } => log::info!("Stopped {}: {name}", stage.words()),
        Outcome::Postponed { error } => {
            log::warn!("Could not begin to activate {name}: {error}; {next}");
        }
        Outcome::Failed { error, .. } => {
            log::error!("Failed to deploy {name}: {error}; {next}");
            if let Some(failure) = &attempt.failure {
                let log = failure.derivation.as_ref().map_or("", |_| " --log");
                log::info!("→ comin history {}{log}", attempt.id);
            }
        }
        Outcome::RolledBack { error, .. } => log::error!("Rolled back {name}: {error}; {next}"),
        Outcome::Interrupted { stage } => {
            let stage = stage.words();
            log::warn!("The deployment of {name} was interrupted while {stage}");
        }
    }
    Completion::failed_if(attempt.trouble().is_some())
}
