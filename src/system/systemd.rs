//! systemd, where it rules the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;
use crate::sys::command::{self, Answer};

/// Whether it rules the machine below the root.
pub fn is_here(paths: &Paths) -> bool {
    paths.is_machine() && Path::new("/run/systemd/system").exists()
}

/// Runs systemctl for an action that need not be done if there is no such unit.
pub fn systemctl(paths: &Paths, arguments: &[&str]) {
    if is_here(paths) {
        if let Err(error) = ask(arguments) {
            log::warn!("{error:#}");
        }
    }
}

fn ask(arguments: &[&str]) -> Result<Answer> {
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("--quiet").args(arguments);
    command::ask(
        &mut systemctl,
        "systemctl",
        Stdio::null(),
        command::PATIENCE,
    )
}

/// The start of a transient unit of this name, which gets those of these variables that are set.
pub fn transient(unit: &str, description: &str, environment: &[&str]) -> Command {
    let mut systemd = Command::new("systemd-run");
    systemd
        .args(["--collect", "--quiet", "--no-ask-password"])
        .arg(format!("--unit={unit}"))
        .arg(format!("--description={description}"));
    let is_set = |name: &&&str| std::env::var_os(name).is_some();
    let set = environment.iter().filter(is_set);
    systemd.args(set.map(|name| format!("--setenv={name}")));
    systemd
}

/// Whether the boot has come to its end; true where there is no systemd.
pub fn has_booted(paths: &Paths) -> bool {
    !is_here(paths) || ask(&["is-active", "default.target"]).is_ok_and(|answer| answer.code == 0)
}

/// The units that have failed; none where there is no systemd.
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
    let failed = command::query(&mut systemctl, "systemctl list-units", command::PATIENCE)?;
    let text = String::from_utf8_lossy(&failed);
    let first = |line: &str| line.split_whitespace().next().map(str::to_string);
    Ok(text.lines().filter_map(first).collect())
}

/// A unit that is not down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// How it is.
    pub state: UnitState,
    /// Tells one start of it from another.
    pub invocation: String,
}

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// It runs, or has done what it is for.
    Up,
    /// It is being started.
    Coming,
    /// It does not run, or is not there.
    Down,
    /// It has failed.
    Failed,
}

impl UnitState {
    /// Understands systemd's word for it.
    fn of(word: &str) -> Self {
        match word {
            "active" | "reloading" | "refreshing" => Self::Up,
            "activating" => Self::Coming,
            "failed" => Self::Failed,
            // `inactive`, `deactivating`, `maintenance`, and what a later systemd may add.
            _ => Self::Down,
        }
    }
}

/// The units of the system's configuration that are not down, by their names: those that a switch may
/// start or stop, less those that come and go by themselves.
pub fn units() -> Result<BTreeMap<String, Unit>> {
    let mut systemctl = Command::new("systemctl");
    systemctl
        .args(["show", "--no-pager"])
        .arg("--property=Id,ActiveState,InvocationID,FragmentPath,TriggeredBy")
        .arg("--")
        // Not devices, scopes and slices, which nobody configures, nor targets, which nobody misses.
        .args(["*.service", "*.socket", "*.timer", "*.path"])
        .args(["*.mount", "*.automount", "*.swap"]);
    let units = command::query(&mut systemctl, "systemctl show", command::PATIENCE)?;
    Ok(understand(&String::from_utf8_lossy(&units)))
}

/// The properties of each unit in an answer of `systemctl show`: a paragraph for each unit, with a line for each property.
pub fn properties(text: &str) -> impl Iterator<Item = BTreeMap<&str, &str>> {
    text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines();
        lines.filter_map(|line| line.split_once('=')).collect()
    })
}

fn understand(text: &str) -> BTreeMap<String, Unit> {
    let unit = |properties: BTreeMap<&str, &str>| {
        let property = |name| properties.get(name).copied().unwrap_or_default();
        let (name, file) = (property("Id"), property("FragmentPath"));
        let is_configured = !file.is_empty() && !file.starts_with("/run/systemd/transient/");
        let comes_by_itself = property("TriggeredBy").split_whitespace().any(|trigger| {
            let kind = trigger.rsplit('.').next();
            // A socket also starts what goes on running; but not where each connection has its own.
            matches!(kind, Some("timer" | "path")) || (kind == Some("socket") && name.contains('@'))
        });
        let unit = Unit {
            state: UnitState::of(property("ActiveState")),
            invocation: property("InvocationID").to_string(),
        };
        let counts = is_configured && !comes_by_itself && unit.state != UnitState::Down;
        counts.then(|| (name.to_string(), unit))
    };
    properties(text).filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_by_itself_is_not_looked_at() {
        let paragraph = |name: &str, state: &str, file: &str, triggers: &str| {
            format!(
                "TriggeredBy={triggers}\nId={name}\nActiveState={state}\nFragmentPath={file}\nInvocationID=7\n"
            )
        };
        let file = "/etc/systemd/system/x";
        let text = [
            paragraph("web.service", "active", file, "web.socket"),
            paragraph("job.service", "activating", file, ""),
            paragraph("bad.service", "failed", file, ""),
            paragraph("idle.service", "inactive", file, ""),
            paragraph("gc.service", "active", file, "other.socket gc.timer"),
            paragraph("watch.service", "active", file, "watch.path"),
            paragraph("sshd@1-2.service", "active", file, "sshd.socket"),
            paragraph("user@1000.service", "active", file, ""),
            paragraph(
                "switch.service",
                "active",
                "/run/systemd/transient/switch.service",
                "",
            ),
            paragraph("mnt.mount", "active", "", ""),
        ]
        .join("\n");
        let units = understand(&text);
        let found: Vec<_> = units
            .iter()
            .map(|(name, unit)| (&**name, unit.state))
            .collect();
        assert_eq!(
            found,
            [
                ("bad.service", UnitState::Failed),
                ("job.service", UnitState::Coming),
                ("user@1000.service", UnitState::Up),
                ("web.service", UnitState::Up),
            ]
        );
        assert_eq!(units["web.service"].invocation, "7");
    }
}
