//! The dead man's switch: a timer of systemd that rolls an activation back unless it has passed its
//! checks by then, whatever has become of comin.
//!
//! It does not need to be disarmed to be harmless: it looks at the state, and an attempt that has
//! ended is left alone.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{paths::Paths, Config};
use crate::model::Attempt;
use crate::sys::command;
use crate::system::systemd::{self, systemctl};

const UNIT: &str = "comin-dead-man";

/// What the rollback and the owner's command need of our environment.
const ENVIRONMENT: [&str; 2] = ["PATH", "HOME"];

/// Arms it for an attempt, if the owner wants that. It takes along the comin that runs now, and the configuration file that it
/// began with: the system that is about to
/// be activated may have none, or a broken one.
pub fn arm(config: &Config, config_file: &Path, paths: &Paths, attempt: &Attempt) -> Result<()> {
    let is_wanted = config.rollback.enable && attempt.operation().activates();
    let time = config
        .rollback
        .timeout
        .filter(|_| is_wanted && systemd::is_here(paths));
    let Some(time) = time else {
        return Ok(());
    };
    disarm(paths);
    let comin = std::env::current_exe().context("Failed to find the comin program")?;
    let description = "Roll back a system that did not pass its checks";
    let mut systemd = systemd::transient(UNIT, description, &ENVIRONMENT);
    systemd
        .arg(format!("--on-active={}s", time.as_secs()))
        .arg("--timer-property=AccuracySec=1s")
        // Killed itself, it has to go on.
        .arg("--property=Restart=on-abnormal")
        .arg("--")
        .arg(comin)
        .arg("--config")
        .arg(config_file)
        .args(["undo", "--state-dir"])
        .arg(paths.state_dir())
        .arg(attempt.id.to_string());
    command::run(&mut systemd, "the timer for a rollback", None)
        .context("Failed to start the rollback timer")?;
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
