//! The owner's own command after each deployment: to notify somebody, for instance.

use std::process::Command;
use std::time::Duration;

use crate::deploy::context::Context;
use crate::git::mirror::Mirror;
use crate::model::{outcome::words, Attempt, AttemptStatus, Outcome};
use crate::nix;
use crate::sys::{command, text::printable};

/// Longer than any notification takes; a deployment must not wait for ever.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The kernel takes 128 KiB in one variable.
const MAX_MESSAGE: usize = 64 * 1024;

/// Runs the command after an attempt that came to an end of its own. What becomes of it is logged,
/// and changes nothing.
pub fn run(ctx: &Context, attempt: &Attempt) {
    let command = ctx.config.post_deployment_command.as_ref();
    let Some((command, (_, outcome))) = command.zip(attempt.ended()) else {
        return;
    };
    if matches!(
        outcome,
        Outcome::Postponed { .. } | Outcome::Preempted { .. } | Outcome::Interrupted { .. }
    ) {
        return;
    }
    let what = format!("the post-deployment command {}", command.display());
    let mut command = Command::new(command);
    command.envs(environment(ctx, attempt));
    if let Err(error) = command::run(&mut command, &what, Some(TIMEOUT)) {
        log::warn!("{error:#}");
    }
}

/// What a command of the owner's finds in its environment about an attempt.
pub fn environment(ctx: &Context, attempt: &Attempt) -> [(&'static str, String); 9] {
    let target = &attempt.target;
    let ended = attempt.ended().map(|(_, outcome)| words(outcome));
    let (status, error, generation) = ended.unwrap_or((AttemptStatus::Running, None, None));
    let source = ctx.source().unwrap_or_else(|_| ctx.paths.clone());
    let repository = source.repository();
    let message = Mirror::open(&ctx.paths)
        .and_then(|mirror| mirror.message(&target.commit))
        .unwrap_or_else(|_| attempt.subject.clone());
    let lines: Vec<_> = message.lines().map(printable).collect();
    let message: String = lines.join("\n").chars().take(MAX_MESSAGE / 4).collect();
    let out = attempt.out.as_ref().map(|out| out.display().to_string());
    let generation = generation.map(|generation| generation.to_string());
    [
        ("COMIN_GIT_SHA", target.commit.to_string()),
        (
            "COMIN_GIT_REF",
            format!("{}/{}", target.remote, target.branch),
        ),
        ("COMIN_GIT_MSG", message),
        ("COMIN_HOSTNAME", ctx.config.hostname.clone()),
        (
            "COMIN_FLAKE_URL",
            nix::flake_url(&ctx.config, &repository, &target.commit),
        ),
        ("COMIN_OUT", out.unwrap_or_default()),
        ("COMIN_GENERATION", generation.unwrap_or_default()),
        ("COMIN_STATUS", status.to_string()),
        (
            "COMIN_ERROR_MSG",
            printable(&error.unwrap_or_default()).into_owned(),
        ),
    ]
}
