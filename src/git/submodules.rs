//! Submodules whose URL is relative, and files in Git LFS: they are beside the remote, though Nix has the repository
//! from the mirror.

use std::path::Path;

use anyhow::{Context, Result};

use super::mirror::start_libgit2;
use crate::config::paths::Paths;
use crate::config::url::Url;
use crate::config::Remote;
use crate::sys::fs;

/// What such a URL is relative to.
const ORIGIN: &str = "remote.origin.url";

/// The repository in which a Nix before 2.20 puts the files together, and none of its submodules' own:
/// what is relative in those is relative to where they came from.
const TEMPORARY: &str = "includeIf.gitdir:**/nix-*-*.path";

/// What git is told, as name and value, to find the submodules of what is deployed from `remote`. A
/// Nix since 2.20 finds them by itself, and is told in the mirror.
pub fn settings(paths: &Paths, remote: &Remote) -> Result<Vec<(String, String)>> {
    let url = remote.url.to_string();
    set(&paths.repository().join("config"), ORIGIN, &url)?;
    set(&paths.submodules(), ORIGIN, &url)?;
    let told = paths.submodules().display().to_string();
    let mut settings = vec![(TEMPORARY.to_string(), told)];
    match &remote.url {
        // By default git takes no submodule from this machine: a stranger's repository could so learn what
        // only its reader may read. This one is no stranger's: what it says is going to be run by root.
        Url::Local(_) => settings.push(("protocol.file.allow".into(), "always".into())),
        Url::Http(_) | Url::Ssh(_) => {}
    }
    Ok(settings)
}

/// Makes a setting in a file of git's format, if it is not there yet. It is for whoever deploys: there is one at a
/// time, and so a lock on the file is of one that was killed.
fn set(file: &Path, name: &str, value: &str) -> Result<()> {
    start_libgit2();
    let set = || -> Result<()> {
        let mut settings = git2::Config::open(file)?;
        if settings.get_string(name).is_ok_and(|now| now == value) {
            return Ok(());
        }
        let mut lock = file.as_os_str().to_os_string();
        lock.push(".lock");
        fs::remove_optional(Path::new(&lock))?;
        Ok(settings.set_str(name, value)?)
    };
    set().with_context(|| format!("Failed to set {name} in {}", file.display()))
}
