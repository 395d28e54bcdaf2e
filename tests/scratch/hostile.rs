//! What other users of the machine, hostile commits and whoever can write to the mirror cannot do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::selection::{sign, trusted_signer};
use crate::support::{is_root, skip, Said};
use crate::world::{System, World};

/// The files and folders below a path, each with its mode.
fn modes(path: &Path) -> Vec<(String, u32)> {
    let mut find = Command::new("find");
    find.arg(path).args(["!", "-type", "l", "-print"]);
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let lines = found.lines();
    lines.map(|path| (path.to_string(), mode(path))).collect()
}

#[test]
fn files_have_the_same_modes_whatever_the_umask() {
    need!("git", "nix");
    for umask in ["000", "077"] {
        let (world, _) = World::new();
        for arguments in [&["run"][..], &["suspend"], &["status"]] {
            let comin = world.command(arguments);
            let mut shell = Command::new("sh");
            let script = format!("umask {umask}; exec \"$0\" \"$@\"");
            shell.args(["-c", &script]).arg(comin.get_program());
            shell.args(comin.get_args());
            let variables = comin.get_envs();
            shell.envs(variables.filter_map(|(name, value)| Some((name, value?))));
            let said = Said::of(&shell.output().unwrap());
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        for folder in ["root/var/lib/comin", "root/run/comin"] {
            for (path, mode) in modes(&world.path(folder)) {
                assert_eq!(mode & 0o022, 0, "umask {umask}: others may write {path}");
            }
        }
        for file in ["state.json", "suspended.json", "repository/HEAD"] {
            let file = world.path("root/var/lib/comin").join(file);
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o444, 0o444, "umask {umask}: {}", file.display());
        }
    }
}

#[test]
fn signed_commit_counts_if_the_folder_for_temporary_files_is_full() {
    need!("git", "nix", "ssh-keygen");
    if !is_root() {
        skip("only root has a folder that nobody else can fill");
        return;
    }
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    let signed = origin.commit("signed", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let mut status = world.command(&["status", "--json"]);
    // Nothing can be written there.
    status.env("TMPDIR", "/dev/null");
    let said = Said::of(&status.output().unwrap());
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(status["selected"]["commit"], signed, "{said:?}");
    let private = world.path("root/run/comin/private");
    let mode = private.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(fs::read_dir(private).unwrap().count(), 0);
}
