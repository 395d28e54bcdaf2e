//! The cycle below a scratch root, on real Git and real Nix.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

use crate::world::{await_that, start, Gate, Repository, System, World};

#[test]
fn the_first_commit_is_deployed_and_an_idle_cycle_changes_nothing() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let before = world.status();
    assert!(
        before["deployed"].is_null() && before["selected"].is_null(),
        "{before}"
    );
    assert_eq!(
        before["remotes"][0]["main"]["refused"],
        "the remote has not been fetched yet"
    );

    let said = world.comin(&["run"], 0);
    let commit = origin.git(&["rev-parse", "HEAD"]);
    assert!(
        said.err.contains(&format!(
            "Deployed {} (origin/main) by switch",
            &commit[..8]
        )),
        "{said:?}"
    );
    let status = world.status();
    assert_eq!(status["hostname"], "m");
    assert_eq!(status["phase"], "idle");
    assert_eq!(status["accepted_main"], commit.as_str());
    assert_eq!(status["selected"]["commit"], commit.as_str());
    assert_eq!(status["selected"]["testing"], false);
    let deployed = &status["deployed"];
    assert_eq!(deployed["status"], "done");
    assert_eq!(deployed["operation"], "switch");
    assert!(deployed["error"].is_null());
    assert_eq!(status["remotes"][0]["main"]["commit"], commit.as_str());
    assert!(status["remotes"][0]["main"]["refused"].is_null());
    assert!(status["remotes"][0]["testing"]["commit"].is_null());
    let out = fs::read_link(world.path("root/run/current-system")).unwrap();
    assert_eq!(deployed["out"], out.to_str().unwrap());
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.switches(), ["switch first"]);

    let before = world.files("root/var");
    let said = world.comin(&["run"], 0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert_eq!(world.files("root/var"), before);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn the_built_system_is_a_gc_root_as_nix_sees_it() {
    need!("git", "nix");
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    let root = world.path("root/var/lib/comin/gcroots/attempt-1");
    let roots = std::process::Command::new("nix-store")
        .args(["--gc", "--print-roots"])
        .output()
        .unwrap();
    let roots = String::from_utf8(roots.stdout).unwrap();
    let root = root.to_str().unwrap();
    assert!(roots.contains(root), "{root} is not in\n{roots}");
}

#[test]
fn a_testing_branch_is_tested_and_main_comes_back_when_it_is_deleted() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let main = origin.git(&["rev-parse", "HEAD"]);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    let tested = origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    let status = world.status();
    assert_eq!(status["selected"]["testing"], true);
    assert_eq!(status["deployed"]["commit"], tested.as_str());
    assert_eq!(status["deployed"]["operation"], "test");
    assert_eq!(status["accepted_main"], main.as_str());
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.running(), "tested");

    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    world.comin(&["run"], 0);
    assert_eq!(
        world.switches(),
        ["switch first", "test tested", "switch first"]
    );
    assert_eq!(world.profile().unwrap(), "system-1-link");
}

#[test]
fn a_tested_commit_that_becomes_main_is_switched_to() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    let tested = origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["merge", "--quiet", "--ff-only", "testing-m"]);
    world.comin(&["run"], 0);
    assert_eq!(
        world.switches(),
        ["switch first", "test tested", "switch tested"]
    );
    let status = world.status();
    assert_eq!(status["accepted_main"], tested.as_str());
    let refused = status["remotes"][0]["testing"]["refused"].as_str().unwrap();
    assert_eq!(refused, "it has nothing that main does not have");
}

#[test]
fn a_commit_that_does_not_evaluate_changes_nothing_and_the_next_one_is_deployed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let first = origin.git(&["rev-parse", "HEAD"]);
    let broken = origin.commit(
        "broken",
        &System::instead("throw \"the printer is on fire\""),
    );
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains(&format!("Failed to deploy {} (origin/main): nix eval exited with status 1: error: the printer is on fire", &broken[..8])), "{said:?}");
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "failed");
    assert_eq!(status["deployed"]["commit"], broken.as_str());
    assert_eq!(status["accepted_main"], first.as_str());
    assert!(status["deployed"]["error"]
        .as_str()
        .unwrap()
        .contains("the printer is on fire"));
    assert_eq!(world.running(), "first");

    // It is tried again later, not at once.
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("is tried again at"), "{said:?}");
    assert_eq!(world.plan()["action"], "retry");

    origin.commit("mended", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch mended"]);
}

#[test]
fn a_failed_build_is_reported_with_the_end_of_its_log_and_retried_after_its_time() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let flag = world.path("online");
    // The build depends on the world, as one that downloads does.
    let toplevel = format!(
        r#"let system = import ./system {{ label = "second"; scratch = {:?}; }};
        in derivation {{
            name = "second"; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-c" "[ -e {} ] || {{ echo no route to the cache; exit 1; }}; cp -r ${{system}} $out; :" ];
        }}"#,
        world.root(),
        flag.display()
    );
    world.comin(&["run"], 0);
    origin.commit("second", &System::instead(&toplevel));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("no route to the cache"), "{said:?}");
    let status = world.status();
    assert!(
        status["deployed"]["error"]
            .as_str()
            .unwrap()
            .contains("nix build exited with status"),
        "{status}"
    );
    assert_eq!(world.running(), "first");

    // The time of the retry comes.
    fs::write(&flag, "").unwrap();
    let file = world.path("root/var/lib/comin/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state["attempts"][1]["ended_at"] = "2020-01-01T00:00:00Z".into();
    fs::write(&file, state.to_string()).unwrap();
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

/// A build of one commit after the other, each stopped for the next one, until the one with this number is being built.
fn stop_builds_until(world: &World, origin: &Repository, last: usize) -> (Child, Vec<Gate>) {
    let gate = |n: usize| Gate::named(world, &format!("gate{n}"));
    let mut gates = vec![gate(1)];
    origin.commit("commit1", &gates[0].system);
    let comin = start(world, &["run"]);
    for n in 2..=last {
        gates[n - 2].await_begun();
        gates.push(gate(n));
        origin.commit(&format!("commit{n}"), &gates[n - 1].system);
        world.comin(&["fetch", "origin"], 0);
    }
    gates[last - 1].await_begun();
    (comin, gates)
}

#[test]
fn commits_that_come_faster_than_a_build_stop_three_of_them_in_a_row() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (mut comin, gates) = stop_builds_until(&world, &origin, 4);
    for label in ["commit5", "commit6"] {
        origin.commit(label, &System::default());
        world.comin(&["fetch", "origin"], 0);
        await_that(|| !world.path("root/run/comin/wanted").exists());
    }
    gates[3].open();
    assert!(comin.wait().unwrap().success());
    assert_eq!(
        world.switches(),
        ["switch first", "switch commit4", "switch commit6"]
    );
}

#[test]
fn the_build_that_no_newer_commit_stops_is_stopped_when_its_commit_is_taken_back() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (mut comin, _) = stop_builds_until(&world, &origin, 4);
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    origin.commit("rewritten", &System::default());
    world.comin(&["fetch", "origin"], 0);
    assert!(comin.wait().unwrap().success());
    assert_eq!(world.switches(), ["switch first", "switch rewritten"]);
}

#[test]
fn a_system_that_is_none_is_refused_before_anything_is_touched() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let toplevel = "derivation { name = \"x\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo > $out\" ]; }";
    origin.commit("nothing", &System::instead(toplevel));
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("is not a NixOS system: it has no nixos-version"),
        "{said:?}"
    );
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.running(), "first");
}

#[test]
fn a_rewound_or_rewritten_main_is_refused_once_and_named_in_the_status() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["reset", "--quiet", "--hard", &first]);
    let said = world.comin(&["run"], 0);
    assert!(
        said.err.contains(&format!(
            "Refused {} (origin/main): rewound, or not pushed yet: it is behind the accepted main {}",
            &first[..8],
            &second[..8]
        )),
        "{said:?}"
    );
    assert!(!world.comin(&["run"], 0).err.contains("Refused"));
    let status = world.status();
    assert!(status["selected"].is_null());
    assert_eq!(status["accepted_main"], second.as_str());
    assert!(status["remotes"][0]["main"]["refused"]
        .as_str()
        .unwrap()
        .contains("git revert"));
    assert_eq!(world.plan()["candidates"][0]["verdict"], "refused");

    let other = origin.commit("other", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(
        said.err
            .contains(&format!("Refused {} (origin/main): diverged", &other[..8])),
        "{said:?}"
    );
    assert_eq!(world.switches(), ["switch second"]);

    // The cure that the sentence names.
    origin.git(&["reset", "--quiet", "--hard", &second]);
    origin.git(&["revert", "--no-edit", "HEAD"]);
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch second", "switch first"]);
}

#[test]
fn a_revert_deploys_the_earlier_system_again() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["revert", "--no-edit", "HEAD"]);
    world.comin(&["run"], 0);
    assert_eq!(
        world.switches(),
        ["switch first", "switch second", "switch first"]
    );
    assert_eq!(world.profile().unwrap(), "system-3-link");
}

#[test]
fn a_commit_with_the_same_system_is_recorded_and_nothing_is_activated() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let comment = origin.commit_all("a comment");
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    let status = world.status();
    assert_eq!(status["accepted_main"], comment.as_str());
    assert_eq!(status["deployed"]["commit"], comment.as_str());
    assert_eq!(status["deployed"]["status"], "done");
    assert_eq!(status["deployed"]["generation"], 1);
}

#[test]
fn boot_moves_the_profile_and_leaves_the_running_system() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    world.configure(|config| {
        config["remotes"][0]["branches"] = serde_json::json!({"main": {"operation": "boot"}});
    });
    assert_eq!(world.status()["need_to_reboot"], false);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "boot second"]);
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-2-link");
    assert_eq!(world.status()["need_to_reboot"], true);
}

#[test]
fn a_boot_loader_that_fails_leaves_the_profile_where_it_was() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::with("bootloader = \"exit 1\";"));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("nothing was activated"), "{said:?}");
    assert!(
        said.err
            .contains("held until someone pushes, or comin retry"),
        "{said:?}"
    );
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.running(), "first");
    // The activation of the same commit is not repeated.
    world.comin(&["run"], 1);
    assert_eq!(world.plan()["action"], "given_up");
}

#[test]
fn a_switch_that_cannot_be_started_leaves_the_profile_where_it_was() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    // Neither the runner nor its caller can lock this.
    let lock = world.path("root/run/comin/activation.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Could not begin to activate"), "{said:?}");
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.running(), "first");
    // Nothing has changed, so it is tried again in a while.
    assert!(world.plan()["retry_at"].is_string());
    fs::remove_dir(&lock).unwrap();
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn an_activation_that_fails_is_reported_and_not_repeated() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let second = origin.commit("second", &System::with("activation = \"false\";"));
    let said = world.comin(&["run"], 1);
    assert!(
        said.err.contains("the activation script failed"),
        "{said:?}"
    );
    world.comin(&["run"], 1);
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "failed");
    // It runs, so going back behind it needs a revert.
    assert_eq!(status["accepted_main"], second.as_str());
    assert_eq!(world.running(), "second");
}

#[test]
fn a_configuration_for_another_machine_is_skipped() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let theirs = System {
        machine_id: format!("{:?}", "6".repeat(32)),
        ..System::default()
    };
    origin.commit("theirs", &theirs);
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("Skipped"), "{said:?}");
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "skipped");
    assert!(status["deployed"]["error"]
        .as_str()
        .unwrap()
        .contains("machineId"));
    assert!(status["accepted_main"].is_null());
    assert!(world.switches().is_empty());

    let ours = System {
        machine_id: format!("{:?}", "5".repeat(32)),
        ..System::default()
    };
    origin.commit("ours", &ours);
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch ours"]);
}

#[test]
fn a_flake_in_a_folder_of_the_repository() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    origin.write("hosts/a b", "deep", &System::default());
    origin.commit_all("deep");
    world.configure(|config| config["repository_subdir"] = "hosts/a b".into());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch deep"]);
}

#[test]
fn a_hostname_with_a_dot_is_one_attribute() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let flake = fs::read_to_string(origin.path.join("flake.nix")).unwrap();
    fs::write(
        origin.path.join("flake.nix"),
        flake.replace("\"m\"", "\"a.b\""),
    )
    .unwrap();
    origin.commit_all("renamed");
    world.configure(|config| config["hostname"] = "a.b".into());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn what_a_commit_says_cannot_touch_a_terminal() {
    need!("git", "nix");
    let (world, origin) = World::new();
    origin.commit_all("\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}evil\u{9b}31m");
    let said = world.comin(&["run"], 0);
    let shown = [
        said.err,
        world.comin(&["status"], 0).out,
        world.comin(&["plan"], 0).out,
    ]
    .concat();
    assert!(shown.contains("evil"), "{shown}");
    for bad in ['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}'] {
        assert!(!shown.contains(bad), "{shown:?}");
    }
}

#[test]
fn plan_says_what_would_happen_and_changes_nothing() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let second = origin.commit("second", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let before = world.files("root/var");
    let plan = world.plan();
    assert_eq!(plan["action"], "deploy");
    assert_eq!(plan["target"]["commit"], second.as_str());
    assert_eq!(plan["target"]["operation"], "switch");
    assert_eq!(plan["target"]["subject"], "second");
    assert_eq!(world.status()["selected"]["subject"], "second");
    let text = world.comin(&["plan"], 0).out;
    assert!(
        text.starts_with(&format!(
            "Would deploy {} (origin/main) by switch, now and at every boot\n",
            &second[..8]
        )),
        "{text}"
    );
    assert_eq!(world.files("root/var"), before);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn the_post_deployment_command_is_told_everything_and_cannot_do_harm() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let (script, log) = (world.path("notify"), world.path("notified"));
    let text = format!(
        "#!/bin/sh\nenv -0 | grep -z ^COMIN_ | sort -z | tr '\\0' '|' >>{0}; echo >>{0}; exit 7\n",
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    world.configure(|c| c["post_deployment_command"] = script.to_str().unwrap().into());
    let said = world.comin(&["run"], 0);
    let command = format!("the post-deployment command {}", script.display());
    let failure = format!("{command} exited with status 7");
    assert!(said.err.contains(&failure), "{said:?}");
    let commit = origin.git(&["rev-parse", "HEAD"]);
    let mirror = world.path("root/var/lib/comin/repository");
    let told = |n: usize| -> String {
        let log = fs::read_to_string(&log).unwrap();
        log.lines().nth(n).unwrap_or_default().to_string()
    };
    assert_eq!(
        told(0),
        format!(
            "COMIN_ERROR_MSG=|COMIN_FLAKE_URL=git+file://{}?ref=refs/comin/target&rev={commit}|COMIN_GENERATION=1|\
             COMIN_GIT_MSG=first|COMIN_GIT_REF=origin/main|COMIN_GIT_SHA={commit}|COMIN_HOSTNAME=m|COMIN_OUT={}|\
             COMIN_STATUS=done|",
            mirror.display(),
            fs::read_link(world.path("root/run/current-system")).unwrap().display()
        )
    );

    fs::write(origin.path.join("flake.nix"), "{").unwrap();
    origin.git(&["commit", "--quiet", "--all", "--message", "bad\x1b[2J"]);
    world.comin(&["run"], 1);
    assert!(told(1).contains("COMIN_STATUS=failed|"), "{}", told(1));
    assert!(
        told(1).contains("COMIN_ERROR_MSG=nix eval exited"),
        "{}",
        told(1)
    );
    assert!(!told(1).contains('\x1b'));
    // An idle cycle deploys nothing, and tells nothing.
    world.comin(&["run"], 1);
    assert_eq!(told(2), "");

    let unstarted = format!("Failed to start {command}: ");
    fs::set_permissions(&script, Permissions::from_mode(0o644)).unwrap();
    origin.commit("unexecutable", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains(&unstarted), "{said:?}");
    assert!(said.err.contains("Permission denied"), "{said:?}");
    fs::remove_file(&script).unwrap();
    origin.commit("missing", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains(&unstarted), "{said:?}");
    assert!(said.err.contains("No such file"), "{said:?}");

    world.configure(|c| c["post_deployment_command"] = "notify".into());
    let said = world.comin(&["run"], 2);
    assert!(said
        .err
        .contains("post_deployment_command: notify is not an absolute path"));
}
