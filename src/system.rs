//! The system that runs, the one that boots next, and whether a path is one at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};

use crate::config::{Config, Operation};
use crate::fs::read_link_optional;
use crate::nix;
use crate::paths::Paths;

/// Refuses a path that is not a NixOS system, before anything is touched. nixos-rebuild looks for
/// the same file.
///
/// # Errors
/// Names what is missing.
pub fn check(out: &Path) -> Result<()> {
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
///
/// # Errors
/// A link cannot be read.
pub fn has(config: &Config, paths: &Paths, out: &Path, operation: Operation) -> Result<bool> {
    let runs = read_link_optional(&paths.current_system())?.as_deref() == Some(out);
    let boots = fs::canonicalize(paths.profile(&config.profile)).is_ok_and(|path| path == out);
    Ok((runs || !operation.activates())
        && (boots || !operation.moves_profile())
        && !switch_is_unfinished(paths))
}

/// A switch that died leaves one of its lists; the next switch recovers by them. Until then, the
/// link to the right system proves nothing.
fn switch_is_unfinished(paths: &Paths) -> bool {
    ["start-list", "restart-list", "reload-list"]
        .iter()
        .any(|list| paths.switch_lists().join(list).exists())
}

/// The generation that a profile is at; `None` where there is no profile yet.
///
/// # Errors
/// The link cannot be read.
pub fn generation(profile: &Path) -> Result<Option<u64>> {
    let link = read_link_optional(profile)?;
    Ok(link.and_then(|link| {
        let name = link.file_name()?.to_str()?;
        let number = name.strip_suffix("-link")?.rsplit('-').next()?;
        number.parse().ok()
    }))
}

/// Makes `out` the newest generation of the configured profile and returns its number.
///
/// # Errors
/// The profile cannot be changed.
pub fn set_profile(config: &Config, paths: &Paths, out: &Path) -> Result<Option<u64>> {
    let profile = paths.profile(&config.profile);
    if let Some(folder) = profile.parent() {
        fs::create_dir_all(folder)?;
    }
    nix::set_profile(&profile, out)?;
    generation(&profile)
}

/// Whether a part of the running system is only taken up by a reboot, or another system boots next.
#[must_use]
pub fn needs_reboot(config: &Config, paths: &Paths) -> bool {
    let target = |link: PathBuf| fs::canonicalize(link).ok();
    let boots = target(paths.profile(&config.profile));
    let runs = target(paths.current_system());
    let parts_differ = ["kernel", "initrd", "kernel-modules"].iter().any(|part| {
        target(paths.booted_system().join(part)) != target(paths.current_system().join(part))
    });
    let booted = paths.booted_system().exists();
    booted && (parts_differ || (boots.is_some() && boots != runs))
}
