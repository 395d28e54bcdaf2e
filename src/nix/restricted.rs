//! What an evaluation may read if signatures or confirmers guard the machine: the repository, the search path, the store
//! and servers. Nothing else of the machine: nobody has agreed to the commit yet, and a file could get into the store,
//! which everybody reads, or to a server.

use std::env;
use std::path::Path;
use std::process::Command;

/// What servers are reached by. Nix of old takes none without slashes.
const SERVERS: &str = "http: https: ssh: git: git+http: git+https: git+ssh: hg+http: hg+https: hg+ssh: \
    tarball+http: tarball+https: file+http: file+https: github: gitlab: sourcehut: \
    http:// https:// ssh:// git:// git+http:// git+https:// git+ssh:// hg+http:// hg+https:// hg+ssh://";

/// Restricts an evaluation of a repository, which is in the folder of this URL. The owner of the machine may allow more
/// by Nix' own `allowed-uris`.
pub(super) fn restrict(nix: &mut Command, repository: &Path, folder: &str) {
    let allowed = format!("{SERVERS} git+{folder}/");
    nix.args(["--option", "restrict-eval", "true"])
        .args(["--option", "extra-allowed-uris", &allowed])
        // As a path, for those that take its URL for one.
        .arg("-I")
        .arg(format!("repository={}", repository.display()));
    if let Ok(search_path) = env::var("NIX_PATH") {
        nix.env("NIX_PATH", resolved(&search_path));
    }
}

/// A search path without symbolic links: Nix would allow the links, and not what they lead to.
fn resolved(search_path: &str) -> String {
    let resolve = |entry: &str| {
        let (name, path) = entry.split_once('=').unwrap_or(("", entry));
        let path = Path::new(path).canonicalize().ok()?;
        let path = path.to_str()?.to_string();
        Some(if name.is_empty() {
            path
        } else {
            format!("{name}={path}")
        })
    };
    // A URL has colons, too, and its parts are no paths that are there.
    let entries = search_path.split(':');
    let entries = entries.map(|entry| resolve(entry).unwrap_or_else(|| entry.to_string()));
    entries.collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_path_has_the_targets_of_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (link, target) = (folder.join("link"), folder.join("target"));
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let rest = "a=https://h/a.tar.gz:b=/no/such/folder:c=flake:nixpkgs";
        let (link, target) = (link.display(), target.display());
        assert_eq!(
            resolved(&format!("{link}:nixpkgs={link}:{rest}")),
            format!("{target}:nixpkgs={target}:{rest}")
        );
    }
}
