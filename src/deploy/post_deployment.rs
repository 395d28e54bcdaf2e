//! The owner's own command after each deployment: to notify somebody, for instance.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::deploy::context::Context;
use crate::git::mirror::{Mirror, TARGET};
use crate::model::attempt::{words, Attempt, Outcome};
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
    run_with_variables(ctx, command, attempt, outcome)
        .unwrap_or_else(|error| log::warn!("{error:#}"));
}

fn run_with_variables(
    ctx: &Context,
    command: &Path,
    attempt: &Attempt,
    outcome: &Outcome,
) -> anyhow::Result<()> {
    let target = &attempt.target;
    let (status, error, generation) = words(outcome);
    let message = Mirror::open(&ctx.paths)
        .and_then(|mirror| mirror.message(&target.commit))
        .unwrap_or_else(|_| attempt.subject.clone());
    let lines: Vec<_> = message.lines().map(printable).collect();
    let message: String = lines.join("\n").chars().take(MAX_MESSAGE / 4).collect();
    let url = nix::flake_url(&ctx.config, &ctx.paths.repository(), TARGET, &target.commit);
    let what = format!("the post-deployment command {}", command.display());
    let mut command = Command::new(command);
    command
        .env("COMIN_GIT_SHA", target.commit.as_str())
        .env(
            "COMIN_GIT_REF",
            format!("{}/{}", target.remote, target.branch),
        )
        .env("COMIN_GIT_MSG", message)
        .env("COMIN_HOSTNAME", &ctx.config.hostname)
        .env("COMIN_FLAKE_URL", url)
        .env(
            "COMIN_GENERATION",
            generation.map_or(String::new(), |g| g.to_string()),
        )
        .env("COMIN_STATUS", status.name())
        .env(
            "COMIN_ERROR_MSG",
            printable(&error.unwrap_or_default()).as_ref(),
        );
    command::run(&mut command, &what, Some(TIMEOUT)).map(|_| ())
}
