//! The system that runs, the one that boots next, and whether a path is one at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use crate::config::{Config, Operation};
use crate::fs::read_link_optional;
use crate::nix;
use crate::paths::Paths;
use crate::state::Before;

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
pub fn has(profile: &Path, paths: &Paths, out: &Path, operation: Operation) -> Result<bool> {
    let runs = read_link_optional(&paths.current_system())?.as_deref() == Some(out);
    let boots = fs::canonicalize(profile).is_ok_and(|path| path == out);
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

/// The link of a generation.
#[must_use]
pub fn generation_link(profile: &Path, generation: u64) -> PathBuf {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    profile.with_file_name(format!("{name}-{generation}-link"))
}

/// The generations that a profile has, the oldest first.
///
/// # Errors
/// The profile's folder cannot be read.
pub fn generations(profile: &Path) -> Result<Vec<u64>> {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    let folder = profile.parent().unwrap_or(Path::new("/"));
    let mut generations = Vec::new();
    for entry in fs::read_dir(folder)? {
        let link = entry?.file_name();
        let number: Option<u64> = link.to_str().and_then(|link| {
            let number = link.strip_prefix(&*name)?.strip_prefix('-')?;
            number.strip_suffix("-link")?.parse().ok()
        });
        generations.extend(number);
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Makes `out` the newest generation of a profile.
///
/// # Errors
/// The profile cannot be changed.
pub fn set_profile(profile: &Path, out: &Path) -> Result<()> {
    if let Some(folder) = profile.parent() {
        fs::create_dir_all(folder)?;
    }
    nix::set_profile(profile, out)
}

/// Takes the profile back to where an activation found it. A profile that was not there before stays:
/// it cannot be at no generation.
///
/// # Errors
/// Nix's own sentence.
pub fn take_profile_back(before: &Before) -> Result<()> {
    match before.generation {
        Some(found) if generation(&before.profile)? != Some(found) => {
            nix::switch_generation(&before.profile, found)
                .context("Failed to take the profile back")
        }
        Some(_) | None => Ok(()),
    }
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
