//! The time of an activation is up: whoever is at work is stopped, and the system before runs again.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::config::paths::Paths;
use crate::deploy::{context::Context, post_deployment, record, rollback::go_back};
use crate::model::{outcome::words, Attempt, FaultOrigin, Progress};
use crate::state::store::{self, Store};
use crate::state::{deploy_record::DeployRecord, requests};
use crate::system::{switch, systemd::systemctl};

/// How long another switch that is in the way is left alone. Meanwhile the next deploy may do the same.
const PAUSE: Duration = Duration::from_secs(60);

/// The time is up: stops whoever is at work, rolls back, and runs the owner's command. Only that needs `machine`.
pub fn on_timeout(paths: &Paths, id: u64, machine: impl FnOnce() -> Result<Context>) -> Result<()> {
    let (_store, attempt) = loop {
        let state = store::read(paths)?;
        let Some(attempt) = state.latest().filter(|latest| is_at(latest, id)) else {
            return Ok(());
        };
        record::set_journal_fields(attempt);
        log::warn!("The activation of attempt {id} has not passed its checks in time");
        // Else a request that waits would start it over and over meanwhile.
        systemctl(paths, &["stop", "comin.path"]);
        systemctl(paths, &["kill", "--signal=KILL", "comin.service"]);
        let struck = roll_back_after_timeout(paths, id);
        if struck.is_err() {
            requests::request_deploy(paths)?;
        }
        // In any case, or nothing would be deployed any more.
        systemctl(paths, &["start", "comin.path"]);
        match struck {
            Ok(Some(struck)) => break struck,
            Ok(None) => return Ok(()),
            Err(error) => log::warn!("{error:#}; it is tried again"),
        }
        thread::sleep(PAUSE);
    };
    // The next deploy still waits for the store.
    match machine() {
        Ok(machine) => post_deployment::run(&machine, &attempt),
        Err(error) => log::warn!("No post-deployment command is run: {error:#}"),
    }
    Ok(())
}

/// Rolls the attempt back and returns it, if that was still to be done.
fn roll_back_after_timeout(paths: &Paths, id: u64) -> Result<Option<(Store, Attempt)>> {
    let decided = DeployRecord::read(paths)?;
    if let Some(decided) = &decided {
        decided.kill();
    }
    switch::kill(paths)?;
    let mut store = Store::open(paths)?;
    let latest = store.state().latest().cloned();
    let Some(mut attempt) = latest.filter(|latest| is_at(latest, id)) else {
        return Ok(None);
    };
    let error = "its checks did not pass in time";
    let remotes = decided.map_or(Vec::new(), |decided| decided.remotes);
    let blame = || Ok(FaultOrigin::Commit);
    let outcome = go_back(paths, &mut store, &mut attempt, error, &remotes, blame)?;
    let (status, how, _) = words(&outcome);
    attempt.end(outcome, Timestamp::now());
    let recorded = record::record(&mut store, &attempt);
    let name = &attempt.target;
    log::error!("{name}: {}: {}", status.words(), how.unwrap_or_default());
    recorded?;
    Ok(Some((store, attempt)))
}

/// Whether an attempt is this one, and is still changing the machine.
fn is_at(attempt: &Attempt, id: u64) -> bool {
    attempt.id == id
        && matches!(attempt.progress, Progress::Running(stage) if stage.changes_the_machine())
}
