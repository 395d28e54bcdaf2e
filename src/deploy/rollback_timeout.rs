//! The dead man's switch: a timer of systemd's that rolls an activation back unless it has passed its
//! checks by then, whatever has become of comin.
//!
//! It does not need to be disarmed to be harmless: it looks at the state, and an attempt that has
//! ended is left alone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::paths::Paths;
use crate::deploy::cycle::Machine;
use crate::deploy::journal_fields;
use crate::deploy::rollback::go_back;
use crate::model::attempt::words;
use crate::model::attempt::{Attempt, Blame, Progress};
use crate::state::deploy_record::Decided;
use crate::state::requests;
use crate::state::store;
use crate::state::store::Store;
use crate::sys::command;
use crate::system::switch;
use crate::system::systemd::{self, systemctl};
use jiff::Timestamp;

const UNIT: &str = "comin-dead-man";
/// What the rollback and the owner's command need of our environment.
const ENVIRONMENT: [&str; 2] = ["PATH", "HOME"];

/// Arms it for an attempt. It takes along the comin that runs now, and its configuration: the system that is about to
/// be activated may have none, or a broken one.
pub fn arm(machine: &Machine, attempt: u64, time: Duration) -> Result<()> {
    let paths = &machine.paths;
    if !systemd::is_here(paths) {
        return Ok(());
    }
    disarm(paths);
    let comin = std::env::current_exe().context("Failed to find the comin program")?;
    let mut systemd = Command::new("systemd-run");
    systemd
        .args(["--quiet", "--collect", "--no-ask-password"])
        .arg(format!("--unit={UNIT}"))
        .arg(format!("--on-active={}s", time.as_secs()))
        .arg("--timer-property=AccuracySec=1s")
        // Killed itself, it has to go on.
        .arg("--property=Restart=on-abnormal")
        .arg("--description=Roll back a system that did not pass its checks");
    for name in ENVIRONMENT {
        if std::env::var_os(name).is_some() {
            systemd.arg(format!("--setenv={name}"));
        }
    }
    systemd
        .arg("--")
        .arg(comin)
        .arg("--config")
        .arg(&machine.own_config_file)
        .args(["undo", "--state-dir"])
        .arg(paths.state_dir())
        .arg(attempt.to_string());
    command::run(&mut systemd, "the timer for a rollback", None)
        .context("Failed to make sure that this can be rolled back")?;
    Ok(())
}

/// Disarms it, if it is armed: then systemd has the timer's file.
pub fn disarm(paths: &Paths) {
    let timer = format!("/run/systemd/transient/{UNIT}.timer");
    if !Path::new(&timer).exists() {
        return;
    }
    systemctl(paths, &["stop", &format!("{UNIT}.timer")]);
}

/// The time is up: stops whoever is at work, rolls back, and runs the owner's command. Only that needs `machine`.
pub fn strike(paths: &Paths, id: u64, machine: impl FnOnce() -> Result<Machine>) -> Result<()> {
    let state = store::read(paths)?;
    let Some(attempt) = state.latest().filter(|latest| is_at(latest, id)) else {
        return Ok(());
    };
    journal_fields::set(attempt);
    log::warn!("The activation of attempt {id} has not passed its checks in time");
    // Else a request that waits would start it over and over meanwhile.
    systemctl(paths, &["stop", "comin.path"]);
    systemctl(paths, &["kill", "--signal=KILL", "comin.service"]);
    // What cannot be done now, such as while another switch runs, is left to the next deploy.
    let struck = take_over(paths, id).or_else(|error| {
        log::warn!("{error:#}");
        requests::request(paths).map(|()| None)
    });
    // In any case, or nothing would be deployed any more.
    systemctl(paths, &["start", "comin.path"]);
    // The next deploy still waits for the store.
    if let Some((_store, attempt)) = struck? {
        match machine() {
            Ok(machine) => machine.run_post_deployment_command(&attempt),
            Err(error) => log::warn!("No post-deployment command is run: {error:#}"),
        }
    }
    Ok(())
}

/// Rolls the attempt back and returns it, if that was still to be done.
fn take_over(paths: &Paths, id: u64) -> Result<Option<(Store, Attempt)>> {
    let decided = Decided::read(paths)?;
    if let Some(decided) = &decided {
        decided.kill();
    }
    switch::kill(paths)?;
    let mut store = Store::open(paths)?;
    let latest = store.state().latest().cloned();
    let Some(mut attempt) = latest.filter(|latest| is_at(latest, id)) else {
        return Ok(None);
    };
    let error = "it did not pass its checks in time";
    let remotes = decided.map_or(Vec::new(), |decided| decided.remotes);
    let blame = || Ok(Blame::Commit);
    let outcome = go_back(paths, &mut store, &mut attempt, error, &remotes, blame)?;
    let (status, how, _) = words(&outcome);
    attempt.end(outcome, Timestamp::now());
    let recorded = journal_fields::record(&mut store, &attempt);
    let name = &attempt.target;
    log::error!("{name}: {status}: {}", how.unwrap_or_default());
    recorded?;
    Ok(Some((store, attempt)))
}

/// Whether an attempt is this one, and is still changing the machine.
fn is_at(attempt: &Attempt, id: u64) -> bool {
    attempt.id == id
        && matches!(attempt.progress, Progress::Running(stage) if stage.changes_the_machine())
}
