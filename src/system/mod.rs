//! The system that runs, the one that boots next, and whether a path is one at all.

pub mod dry_activate;
pub mod inhibitors;
pub mod reboot_reasons;
pub mod rollback_timer;
pub mod switch;
pub mod systemd;
pub mod timers;
pub mod unit_changes;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use jiff::Timestamp;

use crate::config::paths::Paths;
use crate::model::{after_switch::Switched, Operation, PreviousSystem, SwitchExit};
use crate::nix;
use crate::sys::fs::{list, modified_optional, read_link_optional};

/// Refuses a path that is not a NixOS system, before anything is touched. nixos-rebuild looks for
/// the same file.
pub fn check_is_nixos(out: &Path) -> Result<()> {
    for file in ["nixos-version", "bin/switch-to-configuration"] {
        ensure!(
            out.join(file).exists(),
            "{} is not a NixOS system: it has no {file}",
            out.display()
        );
    }
    Ok(())
}

/// Whether the machine already has `out` in the way that the operation asks for.
pub fn is_active(profile: &Path, paths: &Paths, out: &Path, operation: Operation) -> Result<bool> {
    let runs = read_link_optional(&paths.current_system())?.as_deref() == Some(out);
    let boots = of_profile(profile).as_deref() == Some(out);
    // While there is a list, the link to the right system proves nothing.
    Ok((runs || !operation.activates())
        && (boots || !operation.moves_profile())
        && unit_lists(paths)?.is_empty())
}

/// The lists of units that a switch still has to start, restart or reload, with the times of their latest changes. A switch
/// that dies leaves the lists, and the next switch works through them.
pub fn unit_lists(paths: &Paths) -> Result<BTreeMap<String, Timestamp>> {
    let mut lists = BTreeMap::new();
    for list in ["start-list", "restart-list", "reload-list"] {
        if let Some(time) = modified_optional(&paths.switch_lists().join(list))? {
            lists.insert(list.to_string(), time.try_into()?);
        }
    }
    Ok(lists)
}

/// What a switch changes first: the system that runs, and the lists of units.
pub type Footprint = (Option<PathBuf>, BTreeMap<String, Timestamp>);

/// What a switch would change first, as it is now.
pub fn footprint(paths: &Paths) -> Result<Footprint> {
    let runs = read_link_optional(&paths.current_system())?;
    Ok((runs, unit_lists(paths)?))
}

/// A switch that came to an end, with what it left of the machine.
pub fn after_switch(
    paths: &Paths,
    before: &PreviousSystem,
    out: &Path,
    exit: SwitchExit,
    operation: Operation,
    retries_exhausted: bool,
) -> Result<Switched> {
    let (runs, lists) = footprint(paths)?;
    let runs_new = runs.as_deref() == Some(out);
    let runs_old = match &before.system {
        Some(old) => runs.as_ref() == Some(old),
        // It may have been lost.
        None => !runs_new,
    };
    let is_old = |(list, time): (&String, &Timestamp)| before.unit_lists.get(list) == Some(time);
    Ok(Switched {
        exit,
        operation,
        is_unchanged: runs_old && lists.iter().all(is_old),
        runs_new,
        retries_exhausted,
    })
}

/// The system that a profile is at: the one that boots next. `None` where there is no profile yet.
pub fn of_profile(profile: &Path) -> Option<PathBuf> {
    fs::canonicalize(profile).ok()
}

/// The generation that a profile is at; `None` where there is no profile yet.
pub fn generation(profile: &Path) -> Result<Option<u64>> {
    let link = read_link_optional(profile)?;
    Ok(link.and_then(|link| number_of(profile, link.file_name()?)))
}

/// The link of a generation.
pub fn generation_link(profile: &Path, generation: u64) -> PathBuf {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    profile.with_file_name(format!("{name}-{generation}-link"))
}

/// The generations that a profile has, the oldest first.
pub fn generations(profile: &Path) -> Result<Vec<u64>> {
    let folder = profile.parent().unwrap_or(Path::new("/"));
    let links = list(folder)?;
    let names = links.iter().filter_map(|link| link.file_name());
    let mut generations: Vec<u64> = names.filter_map(|it| number_of(profile, it)).collect();
    generations.sort_unstable();
    Ok(generations)
}

/// The newest generation of a profile that has this system.
pub fn generation_of(profile: &Path, out: &Path) -> Result<Option<u64>> {
    let mut generations = generations(profile)?;
    generations.retain(|it| of_profile(&generation_link(profile, *it)).as_deref() == Some(out));
    Ok(generations.pop())
}

/// The generation of a profile whose link has that name, if it is one.
fn number_of(profile: &Path, link: &OsStr) -> Option<u64> {
    let name = profile.file_name()?.to_str()?;
    let number = link.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
    number.strip_suffix("-link")?.parse().ok()
}

/// What keeps a system from being switched to or tested while the current one runs: what is critical in
/// both, and differs. As with `switch-to-configuration`, nothing does where `NIXOS_NO_CHECK` is 1.
pub fn switch_inhibitors(paths: &Paths, system: &Path) -> Vec<String> {
    if std::env::var_os("NIXOS_NO_CHECK").is_some_and(|value| value == "1") {
        return Vec::new();
    }
    let of = |system: &Path| inhibitors::read(&system.join("switch-inhibitors"));
    inhibitors::changed(&of(&paths.current_system()), &of(system))
}

/// As in "only a reboot changes dbus".
pub fn inhibited_by(inhibitors: &[String]) -> String {
    format!("only a reboot changes {}", inhibitors.join(", "))
}

/// As in "only a reboot changes dbus, so it cannot be tested while this system runs".
pub fn untestable_by(inhibitors: &[String]) -> String {
    let why = inhibited_by(inhibitors);
    format!("{why}, so it cannot be tested while this system runs")
}

/// Takes the profile back to where an activation found it. A profile that was not there before stays:
/// it cannot be at no generation.
pub fn take_profile_back(before: &PreviousSystem) -> Result<()> {
    match before.generation {
        Some(found) if generation(&before.profile)? != Some(found) => {
            nix::switch_generation(&before.profile, found)
                .context("Failed to take the profile back")
        }
        Some(_) | None => Ok(()),
    }
}
