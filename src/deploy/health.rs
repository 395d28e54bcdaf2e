//! Whether the machine is well after an activation: a remote can be reached, no further unit has
//! failed, and what the owner wants to be checked succeeds.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::{paths::Paths, url::Url, Config, Remote};
use crate::deploy::context::Context;
use crate::git::source::Source;
use crate::model::{schedule::join_or, Checks, Fault, PreviousSystem, Reach, RemoteName};
use crate::state::fetch_record::FetchRecord;
use crate::sys::command;
use crate::system::systemd;

/// The pause before an unreachable remote is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the network may take to come up.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    time: Duration,
    deadline: Instant,
}

impl Patience {
    /// So long from now on.
    pub fn of(time: Duration) -> Self {
        let deadline = Instant::now() + time;
        Self { time, deadline }
    }

    /// As long as after an activation.
    pub fn usual(ctx: &Context) -> Self {
        Self::of(ctx.config.health_check.connectivity_timeout)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// Looks at the machine after an activation, or after a boot; `before` is what the activation found.
pub fn check(ctx: &Context, before: &PreviousSystem, patience: Patience) -> Checks {
    match new_failures(&ctx.paths, &before.failed_units) {
        Ok(units) => Checks {
            fault: find_fault(
                ctx,
                &before.reachable,
                patience,
                units.as_deref().unwrap_or_default(),
            ),
            new_failures: units,
        },
        // A machine that cannot be looked at is not well.
        Err(error) => Checks {
            fault: Some(Fault::local(format!("{error:#}"))),
            new_failures: None,
        },
    }
}

fn find_fault(
    ctx: &Context,
    reachable: &[RemoteName],
    patience: Patience,
    new_failures: &[String],
) -> Option<Fault> {
    let check = &ctx.config.health_check;
    if check.connectivity && !await_connectivity(ctx, reachable, patience) {
        return Some(Fault {
            error: format!(
                "lost connectivity: {} could not be reached within {} seconds",
                join_or(reachable),
                patience.time.as_secs()
            ),
            unreachable: reachable.to_vec(),
        });
    }
    if check.failed_units && !new_failures.is_empty() {
        let error = format!("units failed: {}", new_failures.join(", "));
        return Some(Fault::local(error));
    }
    for command in &check.commands {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]);
        if let Err(error) = command::run(&mut shell, "the health check", check.timeout) {
            let error = format!("{error:#} ({command})");
            return Some(Fault::local(error));
        }
    }
    None
}

/// The remotes that are within reach now: the servers whose latest fetch worked. Where there is none, the
/// repositories on this machine, which even a machine that is cut off can reach, as far as they are still there: a
/// disk may have been removed since.
pub fn reachable_remotes(ctx: &Context) -> Vec<RemoteName> {
    let is_fetched = |remote: &&Remote| {
        let record = FetchRecord::read(&ctx.paths, remote);
        FetchRecord::reachability(record.as_ref()) == Reach::Fetched
    };
    let fetched = ctx.config.remotes.iter().filter(is_fetched);
    let is_local = |remote: &&Remote| matches!(remote.url, Url::Local(_));
    let (mut local, servers): (Vec<_>, Vec<_>) = fetched.partition(is_local);
    let within_reach = if servers.is_empty() {
        local.retain(|remote| Source::reach(remote, PAUSE).is_ok());
        local
    } else {
        servers
    };
    within_reach.iter().map(|it| it.name.clone()).collect()
}

/// Whether one of these remotes can be reached in time; true where there is none of them.
pub fn await_connectivity(ctx: &Context, remotes: &[RemoteName], patience: Patience) -> bool {
    let remotes = current_remotes(ctx, remotes);
    if remotes.is_empty() {
        return true;
    }
    loop {
        for remote in &remotes {
            let left = patience.deadline.saturating_duration_since(Instant::now());
            match Source::reach(remote, left.max(PAUSE)) {
                Ok(()) => return true,
                Err(error) => log::debug!("{} is out of reach: {error:#}", remote.name),
            }
        }
        if patience.is_over() {
            return false;
        }
        thread::sleep(PAUSE);
    }
}

/// The remotes of these names. A system that was just activated may have moved a server, or the file of
/// a token, with the configuration: they come first as they are in there now.
fn current_remotes(ctx: &Context, names: &[RemoteName]) -> Vec<Remote> {
    let now = Config::load(&ctx.config_file).inspect_err(|error| log::debug!("{error:#}"));
    let mut remotes = now.map_or_else(|_| Vec::new(), |config| config.remotes);
    for remote in &ctx.config.remotes {
        if !remotes.contains(remote) {
            remotes.push(remote.clone());
        }
    }
    remotes.retain(|remote| names.contains(&remote.name));
    remotes
}

/// The units that have failed and had not before an activation; `None` without systemd.
pub fn new_failures(paths: &Paths, before: &[String]) -> Result<Option<Vec<String>>> {
    if !systemd::is_here(paths) {
        return Ok(None);
    }
    let mut failed = systemd::failed_units(paths)?;
    failed.retain(|unit| !before.contains(unit));
    Ok(Some(failed))
}
