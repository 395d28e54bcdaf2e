//! systemd, where it rules the machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Result};

use crate::paths::Paths;
use crate::process;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether it rules the machine below the root.
#[must_use]
pub fn is_here(paths: &Paths) -> bool {
    paths.is_machine() && Path::new("/run/systemd/system").exists()
}

/// Asks it for something that cannot be done where there is no such unit, and then need not be.
pub fn systemctl(paths: &Paths, arguments: &[&str]) {
    if !is_here(paths) {
        return;
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("--quiet").args(arguments);
    let answer = process::ask(&mut systemctl, "systemctl", Stdio::null(), PATIENCE);
    if let Err(error) = answer {
        log::warn!("{error:#}");
    }
}

/// The units that have failed; none where there is no systemd.
///
/// # Errors
/// It does not answer.
pub fn failed_units(paths: &Paths) -> Result<Vec<String>> {
    if !is_here(paths) {
        return Ok(Vec::new());
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args([
        "list-units",
        "--failed",
        "--plain",
        "--no-legend",
        "--no-pager",
    ]);
    let answer = process::ask(&mut systemctl, "systemctl", Stdio::null(), PATIENCE)?;
    ensure!(
        answer.code == 0,
        "systemctl cannot list the units that failed: {}",
        answer.said().next_back().unwrap_or("it does not say why")
    );
    let text = String::from_utf8_lossy(&answer.output);
    let first = |line: &str| line.split_whitespace().next().map(str::to_string);
    Ok(text.lines().filter_map(first).collect())
}
