//! Submodules with a relative URL, and files in Git LFS: Nix reads the repository from the mirror, but these lie beside the
//! remote.

use anyhow::Result;

use crate::config::{paths::Paths, url::Url, Remote};
use crate::sys::fs;

/// The repository in which a Nix before 2.20 puts the files together, and none of its submodules' own:
/// what is relative in those is relative to where they came from.
const TEMPORARY: &str = "includeIf.gitdir:**/nix-*-*.path";

/// What git is told, as name and value, to find the submodules of what is deployed from `remote`. A
/// Nix since 2.20 finds them by itself: the settings of the mirror include the same file.
pub fn settings(paths: &Paths, remote: &Remote) -> Result<Vec<(String, String)>> {
    let url = remote
        .url
        .to_string()
        .replace('\\', r"\\")
        .replace('"', "\\\"");
    let origin = format!("[remote \"origin\"]\n\turl = \"{url}\"\n");
    // A new file is what costs most on a disk.
    if !fs::has_content(&paths.submodules(), origin.as_bytes()) {
        fs::replace(&paths.submodules(), origin.as_bytes())?;
    }
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
