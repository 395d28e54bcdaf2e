//! What a repository may contain: no flake, submodules, a configuration for another machine. On real Git
//! and real Nix.

use std::fs;
use std::process::Command;

use serde_json::{json, Value};

use crate::selection::{sign, trusted_signer};
use crate::support::http::Server;
use crate::support::ssh::{self, Sshd};
use crate::support::{is_nix_at_least, isolated, skip, Said};
use crate::world::{Repository, System, World};

/// A machine that follows a repository without a flake, in which there is nothing yet.
fn without_flake(system_attr: Option<&str>) -> (World, Repository) {
    let mut world = World::empty();
    let origin = world.repository("origin");
    world.follow("origin", &origin.path.display().to_string());
    world.configure(|config| {
        config["repository_type"] = json!("nix");
        config["system_attr"] = json!(system_attr);
    });
    (world, origin)
}

/// Commits a `default.nix` in which `CONFIG` stands for a configuration, whose label is the subject.
fn commit(origin: &Repository, subject: &str, text: &str, system: &System) -> String {
    let configuration = origin.configuration("", subject, system);
    let text = text.replace("CONFIG", &configuration);
    fs::write(origin.path.join("default.nix"), text).unwrap();
    origin.commit_all(subject)
}

/// Adds a submodule as it is written, without fetching it.
fn add_submodule(repository: &Repository, name: &str, url: &str, commit: &str) {
    let modules = format!("[submodule {name:?}]\npath = {name}\nurl = {url}\n");
    fs::write(repository.path.join(".gitmodules"), modules).unwrap();
    repository.git(&["add", "--all"]);
    let link = format!("160000,{commit},{name}");
    repository.git(&["update-index", "--add", "--cacheinfo", &link]);
    repository.git(&["commit", "--quiet", "--message", "a submodule"]);
}

fn machine(id: char) -> System {
    System {
        machine_id: format!("{:?}", id.to_string().repeat(32)),
        ..System::default()
    }
}

#[test]
fn without_a_flake_every_usual_form_of_a_system_is_found() {
    need!("git", "nix");
    for (system_attr, text) in [
        (None, "{ config = CONFIG; }"),
        // As Nix calls it.
        (None, "{ label ? \"x\", ... }: { config = CONFIG; }"),
        (Some("m"), "_: { m.config = CONFIG; }"),
        (Some("hosts.m"), "{ hosts.m.config = CONFIG; }"),
        (Some("hosts.m"), "{ hosts = { }: { m.config = CONFIG; }; }"),
        (
            Some("hosts.\"a b.${c}\".m"),
            "{ hosts.\"a b.\\${c}\".m.config = CONFIG; }",
        ),
        // As `pkgs.nixos` returns it.
        (
            Some("m"),
            "{ m = rec { config = { services = (CONFIG).services; }; toplevel = (CONFIG).system.build.toplevel; }; }",
        ),
        (Some("m"), "{ m = (CONFIG).system.build.toplevel; }"),
    ] {
        let (world, origin) = without_flake(system_attr);
        commit(&origin, "found", text, &System::default());
        world.comin(&["run"], 0);
        assert_eq!(world.switches(), ["switch found"], "{text}");
        assert_eq!(planned(&world), world.status()["running"]["out"]);
    }
}

#[test]
fn without_a_flake_the_hostname_selects_nothing() {
    need!("git", "nix");
    let (mut world, origin) = without_flake(Some("hosts.m"));
    let text = "{ hosts.m.config = CONFIG; hosts.other = throw \"not this one\"; }";
    commit(&origin, "first", text, &System::default());
    world.configure(|config| config["hostname"] = json!("other"));
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn without_a_flake_the_system_may_be_in_a_folder_and_import_what_is_beside_it() {
    need!("git", "nix");
    let (mut world, origin) = without_flake(None);
    let folder = "hosts/a \"b\" ${c}";
    let system = System::with("extra.note = import ../../note.nix;");
    let configuration = origin.configuration(folder, "deep", &system);
    fs::write(origin.path.join("note.nix"), "\"a note\"").unwrap();
    fs::write(
        origin.path.join(folder).join("default.nix"),
        format!("{{ config = {configuration}; }}"),
    )
    .unwrap();
    origin.commit_all("deep");
    world.configure(|config| {
        config["repository_subdir"] = json!(folder);
        config["state_dir"] = json!("/var/lib/a \"b\" ${c}");
    });
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch deep"]);
    let note = fs::read_to_string(world.path("root/run/current-system/note")).unwrap();
    assert_eq!(note, "a note");
}

#[test]
fn without_a_flake_nixpkgs_is_where_the_machine_has_it() {
    need!("git", "nix");
    let (world, origin) = without_flake(None);
    let channel = world.path("channel");
    fs::create_dir(&channel).unwrap();
    fs::write(channel.join("default.nix"), "\"from the channel\"").unwrap();
    let system = System::with("extra.note = import <channel>;");
    commit(&origin, "first", "{ config = CONFIG; }", &system);
    let mut comin = world.command(&["run"]);
    comin.env("NIX_PATH", format!("channel={}", channel.display()));
    let said = Said::of(&comin.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let note = fs::read_to_string(world.path("root/run/current-system/note")).unwrap();
    assert_eq!(note, "from the channel");
}

#[test]
fn without_a_flake_what_does_not_evaluate_is_said_in_the_words_of_nix() {
    need!("git", "nix");
    let (world, origin) = without_flake(Some("hosts.m"));
    for (text, wanted) in [
        (
            None,
            &["default.nix"][..],
        ),
        (
            Some("{ hosts.n = 1; }"),
            &["hosts.m"],
        ),
        (Some("{ hosts.m = ; }"), &["default.nix:1:"]),
        (Some("{ hosts.m = throw \"on fire\"; }"), &["on fire"]),
        (
            Some("{ hosts.m = { }; }"),
            &["this is not a NixOS system: it has neither config.system.build.toplevel nor toplevel, and is not a derivation"],
        ),
        (
            Some("{ hosts.m.config.system.build.toplevel = throw \"the printer is on fire\"; hosts.m.toplevel = 1; }"),
            &["the printer is on fire"],
        ),
        (Some("{ hosts.m = import ./missing.nix; }"), &["missing.nix"]),
        (Some("{ needed }: { hosts.m = { }; }"), &["needed"]),
    ] {
        if let Some(text) = text {
            fs::write(origin.path.join("default.nix"), text).unwrap();
        }
        let commit = origin.commit_all("broken");
        let said = world.comin(&["run"], 1);
        let status = world.status();
        let error = status["deployed"]["error"].as_str().unwrap();
        for wanted in wanted {
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        let began = format!(
            "Failed to deploy {} (origin/main): nix eval exited with status 1: ",
            &commit[..8]
        );
        assert!(said.err.contains(&began), "{said:?}");
    }
    commit(
        &origin,
        "mended",
        "{ hosts.m.config = CONFIG; }",
        &System::default(),
    );
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch mended"]);
}

#[test]
fn a_deployment_evaluates_once() {
    need!("git", "nix");
    let (flake, _) = World::new();
    let (nix, origin) = without_flake(Some("m"));
    commit(
        &origin,
        "first",
        "{ m.config = CONFIG; }",
        &System::default(),
    );
    for world in [flake, nix] {
        let said = Said::of(&world.noting_calls(&["run"]).output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(world.switches(), ["switch first"]);
        let calls = fs::read_to_string(world.path("calls")).unwrap();
        assert_eq!(calls.lines().count(), 1, "{calls}");
        assert!(calls.contains(" eval "), "{calls}");
    }
}

#[test]
fn a_configuration_for_another_machine_is_skipped_whatever_is_there_already() {
    need!("git", "nix");
    for repository_type in ["flake", "nix"] {
        let (mut world, origin) = without_flake(None);
        world.configure(|config| config["repository_type"] = json!(repository_type));
        let commit = |label: &str, system: &System| match repository_type {
            "flake" => origin.commit(label, system),
            _ => commit(&origin, label, "{ config = CONFIG; }", system),
        };
        let skipped = |commit: &str| {
            let said = world.comin(&["run"], 0);
            assert!(
                said.err.contains(&format!("Skipped {}", &commit[..8]))
                    && said.err.contains("services.comin.machineId is"),
                "{said:?}"
            );
            let status = world.status();
            assert_eq!(status["deployed"]["status"], "skipped");
            assert_eq!(status["deployed"]["commit"], commit);
            // Once, and no more.
            let said = world.comin(&["run"], 0);
            assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
        };
        // Nothing is there yet.
        skipped(&commit("a", &machine('6')));
        assert!(world.switches().is_empty());

        // The same system for all machines, then for another one: it is what runs.
        let everyones = commit("a", &System::default());
        world.comin(&["run"], 0);
        assert_eq!(world.switches(), ["switch a"]);
        skipped(&commit("a", &machine('6')));
        assert_eq!(world.status()["accepted_main"], everyones.as_str());

        // Its output is in the store, and is not what runs.
        commit("b", &machine('5'));
        world.comin(&["run"], 0);
        assert_eq!(world.switches(), ["switch a", "switch b"]);
        skipped(&commit("a", &machine('6')));
        assert_eq!(world.running(), "b");
        assert_eq!(world.profile().unwrap(), "system-2-link");

        // For everybody again.
        let everyones = commit("a", &System::default());
        world.comin(&["run"], 0);
        assert_eq!(world.switches(), ["switch a", "switch b", "switch a"]);
        let status = world.status();
        assert_eq!(status["deployed"]["status"], "done");
        assert_eq!(status["accepted_main"], everyones.as_str());
    }
}

/// The system that a plan builds, by a Nix that has fetched nothing before.
fn planned(world: &World) -> Value {
    let home = tempfile::tempdir_in(world.path("home")).unwrap();
    let mut plan = world.command(&["plan", "--build", "--json"]);
    let said = Said::of(&plan.env("HOME", home.path()).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    plan["build"]["out"].clone()
}

/// What a submodule tells, and the repository in which it is a submodule, which has one of its own.
fn library(world: &World, folder: &str) -> (String, String) {
    fs::create_dir_all(world.path(folder)).unwrap();
    let nested = world.repository(&format!("{folder}/nested"));
    // No other folder, and no other run of the test, has had it.
    let unique = nested.path.display().to_string().replace(['/', '.'], "");
    fs::write(nested.path.join("name"), format!("nested-{unique}")).unwrap();
    let commit = nested.commit_all("nested");
    fs::create_dir_all(world.path(folder).join("libraries")).unwrap();
    let library = world.repository(&format!("{folder}/libraries/library"));
    fs::write(library.path.join("name"), "library").unwrap();
    add_submodule(&library, "nested", "../../nested", &commit);
    (
        format!("library-nested-{unique}"),
        library.git(&["rev-parse", "HEAD"]),
    )
}

/// A configuration whose label comes from the submodule, and from the submodule's.
fn labelled_by_the_submodule(world: &World) -> System {
    System::instead(&format!(
        "import ./system {{ scratch = {:?}; label = with builtins;
            concatStringsSep \"-\" (map readFile [ ./library/name ./library/nested/name ]); }}",
        world.root()
    ))
}

/// Deploys configurations of both types with a submodule from `served/group/origin`, which `follow`
/// makes a remote.
fn deploy_with_submodules(state_dir: &str, follow: impl Fn(&mut World)) {
    for repository_type in ["flake", "nix"] {
        deploy_with_a_submodule(state_dir, repository_type, &follow);
    }
}

fn deploy_with_a_submodule(state_dir: &str, repository_type: &str, follow: impl Fn(&mut World)) {
    let mut world = World::empty();
    let (label, library) = library(&world, "served/group");
    let origin = world.repository("served/group/origin");
    let system = labelled_by_the_submodule(&world);
    origin.write("", "first", &system);
    commit(&origin, "first", "{ config = CONFIG; }", &system);
    add_submodule(&origin, "library", "../libraries/library", &library);
    follow(&mut world);
    world.configure(|config| {
        config["submodules"] = json!(true);
        config["repository_type"] = json!(repository_type);
        config["state_dir"] = json!(state_dir);
    });
    world.comin(&["fetch", "origin"], 0);
    // What a deploy leaves that is killed as it tells git of them.
    for lock in ["submodules.lock", "repository/config.lock"] {
        fs::write(world.path(&format!("root{state_dir}/{lock}")), "").unwrap();
    }
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), [format!("switch {label}")]);
    assert_eq!(planned(&world), world.status()["running"]["out"]);

    world.configure(|config| config["submodules"] = json!(false));
    origin.commit_all("without");
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("library"), "{said:?}");
}

#[test]
fn a_relative_submodule_is_beside_a_remote_on_this_machine() {
    need!("git", "nix");
    deploy_with_submodules("/var/lib/comin", |world| {
        let url = world.path("served/group/origin").display().to_string();
        world.follow("origin", &url);
    });
}

#[test]
fn relative_submodule_of_a_signed_commit_is_beside_the_remote() {
    need!("git", "nix", "ssh-keygen");
    deploy_with_submodules("/var/lib/comin", |world| {
        let origin = Repository::at(world, "served/group/origin");
        world.follow("origin", &origin.path.display().to_string());
        let key = trusted_signer(world, "alice");
        sign(&origin, &key);
        origin.git(&["commit", "--quiet", "--amend", "--no-edit"]);
    });
}

#[test]
fn a_relative_submodule_is_beside_a_remote_on_an_http_server() {
    need!("git", "nix");
    deploy_with_submodules("/var/lib/a b", |world| {
        let server = Server::start(&world.path("served"));
        world.follow("origin", &format!("{}/group/origin", server.url));
    });
}

#[test]
fn a_relative_submodule_is_beside_a_remote_on_an_ssh_server() {
    need!("git", "nix");
    if !ssh::is_there() {
        skip("OpenSSH is missing");
        return;
    }
    deploy_with_submodules("/var/lib/comin", |world| {
        let sshd = Sshd::start(&world.path("secrets"));
        let origin = world.path("served/group/origin");
        world.follow("origin", &sshd.url(origin.to_str().unwrap()));
        world.configure(|config| {
            config["remotes"][0]["auth"] = json!({
                "ssh_deploy_key_path": sshd.path("key"),
                "ssh_known_hosts_path": sshd.path("known_hosts"),
            });
        });
    });
}

#[test]
fn a_relative_submodule_is_beside_the_remote_that_is_deployed() {
    need!("git", "nix");
    let mut world = World::empty();
    let system = labelled_by_the_submodule(&world);
    for (name, folder) in [("one", "a/b"), ("two", "c")] {
        let (label, library) = library(&world, folder);
        let origin = Repository::at(&world, &format!("{folder}/origin"));
        match name {
            "one" => drop(world.repository("a/b/origin")),
            _ => drop(Repository::at(&world, "a/b/origin").git(&[
                "clone",
                "--quiet",
                ".",
                origin.path.to_str().unwrap(),
            ])),
        }
        origin.write("", "", &system);
        add_submodule(&origin, "library", "../libraries/library", &library);
        world.follow(name, &origin.path.display().to_string());
        world.configure(|config| config["submodules"] = json!(true));
        world.comin(&["run"], 0);
        assert_eq!(world.running(), label);
        assert_eq!(planned(&world), world.status()["running"]["out"]);
    }
}

#[test]
fn a_lock_file_that_is_missing_or_stale_is_told_by_nix_and_nothing_is_written_into_the_mirror() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let input = world.repository("input");
    fs::write(input.path.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
    input.commit_all("input");
    let with_input = |name: &str| {
        let configuration = origin.configuration("", name, &System::default());
        let flake = format!(
            "{{ inputs.{name}.url = \"git+file://{}\"; outputs = _: {{ nixosConfigurations.\"m\".config = {configuration}; }}; }}",
            input.path.display()
        );
        fs::write(origin.path.join("flake.nix"), flake).unwrap();
    };
    let refused = || {
        origin.commit_all("broken");
        let said = world.comin(&["run"], 1);
        let error = world.status()["deployed"]["error"].clone();
        assert!(error.as_str().unwrap().contains("lock file"), "{said:?}");
        let mirror = world.files("root/var/lib/comin/repository");
        assert!(
            !mirror.contains("/flake.lock ") && !mirror.contains("/index "),
            "{mirror}"
        );
    };
    let lock = || {
        let mut nix = Command::new("nix");
        isolated(&mut nix, &world.path("home"));
        nix.args(["--extra-experimental-features", "nix-command flakes"]);
        let locked = nix.args(["flake", "lock"]).arg(&origin.path).output();
        assert!(locked.unwrap().status.success());
    };
    with_input("first");
    refused();
    lock();
    with_input("second");
    refused();
    lock();
    origin.commit_all("mended");
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn the_submodules_that_a_flake_asks_for_itself_are_beside_the_remote() {
    need!("git", "nix");
    if !is_nix_at_least(27) {
        return;
    }
    let mut world = World::empty();
    let (label, library) = library(&world, "served/group");
    let origin = world.repository("served/group/origin");
    let configuration = origin.configuration("", "", &labelled_by_the_submodule(&world));
    let flake = format!(
        "{{ inputs.self.submodules = true; outputs = _: {{ nixosConfigurations.\"m\".config = {configuration}; }}; }}"
    );
    fs::write(origin.path.join("flake.nix"), flake).unwrap();
    add_submodule(&origin, "library", "../libraries/library", &library);
    world.follow("origin", &origin.path.display().to_string());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), label);
    assert_eq!(planned(&world), world.status()["running"]["out"]);
}

#[test]
fn files_in_git_lfs_are_told_if_the_machine_gets_pointers() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let told = |said: &Said| said.err.contains("inputs.self.lfs = true");
    assert!(!told(&world.comin(&["run"], 0)));
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n",
        "a".repeat(64)
    );
    fs::write(
        origin.path.join(".gitattributes"),
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    )
    .unwrap();
    fs::write(origin.path.join("a.bin"), pointer).unwrap();
    origin.git(&["-c", "filter.lfs.required=false", "add", "--all"]);
    origin.commit("pointers", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(told(&said), "{said:?}");

    // A flake that asks for them gets them, or Nix says why not: here, no server has them.
    let configuration = origin.configuration(
        "",
        "files",
        &System::with("extra.\"a\" = builtins.readFile ./a.bin;"),
    );
    let flake = format!(
        "{{ inputs.self.lfs = true; outputs = _: {{ nixosConfigurations.\"m\".config = {configuration}; }}; }}"
    );
    fs::write(origin.path.join("flake.nix"), flake).unwrap();
    origin.commit_all("files");
    let said = world.comin(&["run"], 1);
    assert!(!told(&said), "{said:?}");
    assert!(
        said.err.contains("nix eval exited with status 1: error: "),
        "{said:?}"
    );
}
