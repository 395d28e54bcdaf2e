//! Bad input, damage and death: a clear sentence, the documented exit code, nothing half done.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{kill_process, kill_process_group, Pid, Signal};
use serde_json::{json, Value};

use crate::support::Said;
use crate::world::{await_that, building, Repository, System, World};

#[test]
fn a_bad_configuration_is_named_and_touches_nothing() {
    let mut world = World::empty();
    let commands: [&[&str]; 5] = [
        &["run"],
        &["fetch", "o"],
        &["deploy"],
        &["status"],
        &["plan"],
    ];
    world.configure(|config| *config = json!({"hostname": "m", "remotes": [], "colour": "blue"}));
    for command in commands {
        let said = world.comin(command, 2);
        assert!(
            said.err
                .contains("config.json: colour: unknown field `colour`"),
            "{said:?}"
        );
    }
    world.configure(|config| {
        *config = json!({"hostname": "m", "remotes": [{"name": "../x", "url": "/r"}]});
    });
    let said = world.comin(&["run"], 2);
    assert!(
        said.err
            .contains("remotes[0].name: \"../x\" cannot name units and files"),
        "{said:?}"
    );
    let config = world.path("config.json");
    let said = world.comin(&["check-config", config.to_str().unwrap()], 2);
    assert!(said.err.contains("remotes[0].name"), "{said:?}");
    world.configure(|config| {
        *config = json!({"hostname": "m", "remotes": [{"name": "x", "url": "/r"}]});
    });
    let said = world.comin(&["fetch", "y"], 2);
    assert!(
        said.err
            .contains("There is no remote \"y\" in the configuration: it has x"),
        "{said:?}"
    );
    let said = world.comin(&["check-config", config.to_str().unwrap()], 0);
    assert!(said.out.contains("config.json is a valid configuration"));
    assert_eq!(said.err, "");
    world.comin(&["check-config", "/nonexistent"], 2);
    world.comin(&["no-such-command"], 2);
    assert!(!world.path("root/var").exists());
}

#[test]
fn a_request_is_taken_back_even_with_a_bad_configuration() {
    // Or systemd would start the deploy again and again.
    let mut world = World::empty();
    fs::create_dir_all(world.path("root/run/comin")).unwrap();
    fs::write(world.path("root/run/comin/wanted"), "").unwrap();
    world.configure(|config| *config = json!({}));
    world.comin(&["deploy"], 2);
    assert!(!world.path("root/run/comin/wanted").exists());
}

#[test]
fn an_unreadable_state_is_an_error_and_never_a_first_run() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    let file = world.path("root/var/lib/comin/state.json");
    let good = fs::read_to_string(&file).unwrap();
    let newer = good.replace("\"version\": 1", "\"version\": 3");
    let with_lapsed = |id: &str| {
        let lapsed = format!("\"version\": 1, \"lapsed\": {id}");
        good.replace("\"version\": 1", &lapsed)
    };
    for bad in [
        "",
        "{",
        "[]",
        "{\"version\": 0}",
        "\0\0\0\0",
        &good[..good.len() / 2],
        &newer,
        &with_lapsed("2"),
        &with_lapsed("4294967296"),
    ] {
        fs::write(&file, bad).unwrap();
        for command in [&["run"][..], &["deploy"], &["status"], &["plan"]] {
            let said = world.comin(command, 1);
            assert!(
                said.err.contains("state.json cannot be read: ")
                    && said
                        .err
                        .contains("restore it from a backup, or move it away"),
                "{said:?}"
            );
            let is_newer = said.err.contains(
                "a newer comin wrote it (version 3, and this one knows version 1): use that one, or restore it",
            );
            assert_eq!(is_newer, bad == newer, "{said:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), bad);
    }
    assert_eq!(world.running(), "first");
    // It is met again after a while, not at every poll.
    world.comin(&["fetch", "origin"], 0);
    assert!(!world.path("root/run/comin/wanted").exists());
    fs::write(&file, good).unwrap();
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn damaged_cache_of_nix_is_emptied_and_the_evaluation_is_tried_again() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let cache = world.path("root/var/cache/comin");
    let mode = fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let databases = || {
        let files = fs::read_dir(cache.join("nix")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|kind| kind == "sqlite"))
    };
    for (label, damage) in [("garbage", &[7; 4096][..]), ("cut", &[][..])] {
        let mut damaged = 0;
        for database in databases() {
            let mut content = fs::read(&database).unwrap();
            content.splice(..4096, damage.iter().copied());
            fs::write(&database, content).unwrap();
            damaged += 1;
        }
        assert!(damaged > 0);
        origin.commit(label, &System::default());
        let said = world.comin(&["run"], 0);
        assert!(
            said.err.contains("emptying it and trying again"),
            "{said:?}"
        );
        assert_eq!(world.running(), label);
    }

    // Nothing else makes comin evaluate twice, or empties the cache.
    let before: Vec<_> = databases().collect();
    origin.commit("broken", &System::instead("throw \"sqlite database\""));
    let said = Said::of(&world.noting_calls(&["run"]).output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    let calls = fs::read_to_string(world.path("calls")).unwrap();
    assert_eq!(calls.matches(" eval ").count(), 1, "{calls}");
    assert_eq!(databases().collect::<Vec<_>>(), before);
}

#[test]
fn a_state_of_the_next_version_is_read() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let file = world.path("root/var/lib/comin/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state["version"] = json!(2);
    state["new_key"] = json!({"a": 1});
    state["attempts"][0]["status"] = json!("postponed");
    state["attempts"][0]["stage"] = json!("signing");
    let stages = state["attempts"][0]["stages"].as_array_mut().unwrap();
    stages.truncate(3);
    stages[2]["stage"] = json!("signing");
    fs::write(&file, state.to_string()).unwrap();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn a_lost_state_is_restored_from_the_mirror() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    fs::remove_file(world.path("root/var/lib/comin/state.json")).unwrap();
    origin.git(&["reset", "--quiet", "--hard", &first]);
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("Refused"), "{said:?}");
    assert_eq!(world.status()["accepted_main"], second.as_str());
}

#[test]
fn the_reports_work_for_everybody() {
    need!("git", "nix", "setpriv");
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    let traversable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.path("."), traversable).unwrap();
    // The program may lie in a home that is not everybody's.
    let program = world.path("comin");
    fs::copy(env!("CARGO_BIN_EXE_comin"), &program).unwrap();
    for report in ["status", "plan"] {
        let as_root = world.comin(&[report, "--json"], 0);
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("--root")
            .arg(world.root())
            .arg("--config")
            .arg(world.path("config.json"))
            .args([report, "--json"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            as_root.out,
            "{output:?}"
        );
    }
}

/// Starts a cycle, and returns when it has made the file.
fn until(world: &World, file: &Path) -> Child {
    let mut comin = world.command(&["run"]);
    let mut comin = comin.stderr(Stdio::null()).spawn().unwrap();
    await_that(|| file.exists() || comin.try_wait().unwrap().is_some());
    assert!(file.exists(), "comin ended early");
    comin
}

/// Shell code that says that it has begun, and goes on when it is let.
fn gate(begun: &Path, go_on: &Path) -> String {
    let (begun, go_on) = (begun.display(), go_on.display());
    format!("touch {begun}; while [ ! -e {go_on} ]; do sleep 0.01; done;")
}

#[test]
fn killed_while_building_the_next_cycle_deploys() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (begun, go_on) = (world.path("begun"), world.path("go-on"));
    let toplevel = format!(
        r#"let system = import ./system {{ label = "second"; scratch = {:?}; }};
        in derivation {{
            name = "second"; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-c" "{} cp -r ${{system}} $out; :" ];
        }}"#,
        world.root(),
        gate(&begun, &go_on)
    );
    origin.commit("second", &System::instead(&toplevel));
    let mut comin = until(&world, &begun);
    assert_eq!(world.status()["phase"], "building");
    comin.kill().unwrap();
    comin.wait().unwrap();
    let status = world.status();
    assert_eq!(status["phase"], "idle");
    assert_eq!(status["deployed"]["status"], "done");
    // A poll notices, although no head has moved.
    fs::write(&go_on, "").unwrap();
    world.comin(&["fetch", "origin"], 0);
    assert!(world.path("root/run/comin/wanted").exists());
    let said = world.comin(&["deploy"], 0);
    assert!(
        said.err.contains("was interrupted while building"),
        "{said:?}"
    );
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    let state = fs::read_to_string(world.path("root/var/lib/comin/state.json")).unwrap();
    assert!(!state.contains("\"running\""), "{state}");
}

#[test]
fn killed_while_activating_the_switch_goes_on_and_the_next_cycle_learns_how_it_ended() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (begun, go_on) = (world.path("begun"), world.path("go-on"));
    let activation = format!("activation = \"{}\";", gate(&begun, &go_on));
    origin.commit("second", &System::with(&activation));
    let mut comin = until(&world, &begun);
    assert_eq!(world.status()["phase"], "activating");
    comin.kill().unwrap();
    comin.wait().unwrap();
    // The next cycle waits for the switch.
    let mut next = world.command(&["run"]);
    let next = next.stderr(Stdio::piped()).spawn().unwrap();
    fs::write(&go_on, "").unwrap();
    let output = next.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(world.status()["deployed"]["status"], "done");
}

/// Deploys a commit, and kills the switch and comin half-way, all at once, as at a power cut.
fn die_half_way(world: &World, origin: &Repository) {
    let (begun, go_on, pids) = (world.path("begun"), world.path("go-on"), world.path("pids"));
    let activation = format!(
        "activation = \"echo $PPID $$ > {}; {}\";",
        pids.display(),
        gate(&begun, &go_on)
    );
    origin.commit("second", &System::with(&activation));
    let mut comin = until(world, &begun);
    let pids = fs::read_to_string(pids).unwrap();
    let switch = pids.split_whitespace().next().unwrap();
    let runner = fs::read_to_string(format!("/proc/{switch}/status")).unwrap();
    let runner = runner
        .lines()
        .find_map(|line| line.strip_prefix("PPid:\t"))
        .unwrap();
    let kill = format!("kill -9 {} {runner} {pids}", comin.id());
    assert!(Command::new("sh")
        .args(["-c", &kill])
        .status()
        .unwrap()
        .success());
    comin.wait().unwrap();
    fs::write(&go_on, "").unwrap();
}

#[test]
fn activation_that_cannot_begin_after_one_that_died_half_way_is_postponed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    die_half_way(&world, &origin);
    let in_the_way = world.path("root/run/comin/activation.json.new");
    fs::create_dir(&in_the_way).unwrap();
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Could not begin to activate"), "{said:?}");
    assert_eq!(world.plan()["action"], "retry");
    fs::remove_dir(&in_the_way).unwrap();
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn rebuild_by_hand_that_comes_first_keeps_its_generation() {
    need!("git", "nix", "flock");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let first = fs::canonicalize(world.path("root/run/current-system")).unwrap();
    origin.commit("second", &System::default());
    // As soon as comin has moved the profile, somebody else moves it too, and switches.
    let lock = world.path("root/run/nixos/switch-to-configuration.lock");
    let held = world.path("held");
    let rebuild = format!(
        "case \"$*\" in *--set*) ;; *) exec nix-env \"$@\" ;; esac
         nix-env \"$@\"
         nix-env --profile {} --set {}
         flock {} sh -c 'touch {held}; while [ -e {held} ]; do sleep 0.01; done' >/dev/null 2>&1 &
         while [ ! -e {held} ]; do sleep 0.01; done
         exit 0",
        world.path("root/nix/var/nix/profiles/system").display(),
        first.display(),
        lock.display(),
        held = held.display(),
    );
    let mut comin = world.command_with(&["run"], &[("nix-env", &rebuild)]);
    let said = Said::of(&comin.output().unwrap());
    fs::remove_file(&held).unwrap();
    assert!(said.err.contains("Could not begin to activate"), "{said:?}");
    assert_eq!(world.profile().unwrap(), "system-3-link");
    assert_eq!(world.running(), "first");
}

#[test]
fn git_that_is_killed_tells_no_damage_of_the_copy_that_is_evaluated() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    // The machine evaluates a copy.
    world.configure(|config| {
        config["deploy_confirmer"] = json!({"mode": "auto", "autoconfirm_duration": 0});
    });
    world.comin(&["run"], 0);
    let copy = world.path("root/var/lib/comin/verified/repository");
    let made = fs::metadata(&copy).unwrap();
    origin.commit("second", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let killed = "case \" $* \" in *' fetch '*) kill -9 $$;; esac";
    let mut comin = world.command_with(&["deploy"], &[("git", killed)]);
    let said = Said::of(&comin.output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("git fetch was killed by signal 9"),
        "{said:?}"
    );
    assert!(!said.err.contains("as they were committed"), "{said:?}");
    assert_eq!(fs::metadata(&copy).unwrap().ino(), made.ino());
}

#[test]
fn a_switch_that_died_half_way_is_run_again() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    die_half_way(&world, &origin);
    let said = world.comin(&["run"], 0);
    assert!(
        said.err.contains("was interrupted while activating"),
        "{said:?}"
    );
    assert_eq!(world.running(), "second");
    assert_eq!(world.switches().last().unwrap(), "switch second");
    assert_eq!(world.status()["deployed"]["status"], "done");
}

#[test]
fn a_switch_that_is_killed_is_run_again_and_then_rolled_back() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit(
        "second",
        &System::with("activation = \"kill -9 $PPID $$\";"),
    );
    let said = world.comin(&["run"], 1);
    assert!(
        said.err.contains("was interrupted while activating"),
        "{said:?}"
    );
    assert_eq!(world.switches().len(), 1 + 3 + 1);
    world.comin(&["run"], 1);
    assert_eq!(world.switches().len(), 1 + 3 + 1);
    assert_eq!(world.status()["deployed"]["status"], "rolled_back");
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-1-link");
}

#[test]
fn switch_that_leaves_no_result_is_run_again_and_then_rolled_back() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    // The new system runs, and whoever runs the switch dies before it can say so.
    origin.commit(
        "second",
        &System::with("afterActivation = \"kill -9 $PPID; sleep 0.1\";"),
    );
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("left no result"), "{said:?}");
    let second = "switch second".to_string();
    assert_eq!(
        world.switches(),
        ["switch first", &second, &second, &second, "switch first"]
    );
    assert_eq!(world.status()["deployed"]["status"], "rolled_back");
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-1-link");
}

#[test]
fn two_cycles_at_once_deploy_once() {
    need!("git", "nix");
    let (world, _) = World::new();
    let cycles: Vec<Child> = (0..4)
        .map(|_| {
            world
                .command(&["run"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for cycle in cycles {
        let output = cycle.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn missing_nix_and_missing_git_are_sentences() {
    need!("git", "nix");
    let (world, _) = World::new();
    let output = world
        .command(&["run"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("Failed to start git fetch: is it installed?"),
        "{said}"
    );
    world.comin(&["fetch", "origin"], 0);
    let output = world
        .command(&["run"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("Failed to start nix eval: is it installed?"),
        "{said}"
    );
}

#[test]
fn an_evaluation_that_hangs_is_stopped() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    // Enough to begin the build, also on a busy machine.
    world.configure(|config| config["eval_timeout"] = json!(10));
    // Nix builds what an evaluation imports.
    let hang = r#"import (derivation {
        name = "hang"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "sleep 600" ]; PATH = "/usr/bin:/bin";
    })"#;
    origin.commit("hang", &System::instead(hang));
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("nix eval timed out after 10 s while it built hang"),
        "{said:?}"
    );
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_sentence() {
    need!("git", "nix");
    let (world, _) = World::new();
    fs::create_dir_all(world.path("root/var/lib")).unwrap();
    fs::write(world.path("root/var/lib/comin"), "in the way").unwrap();
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("root/var/lib/comin"), "{said:?}");
    assert!(world.switches().is_empty());
}

#[test]
fn help_and_version() {
    let world = World::empty();
    let help = world.comin(&["--help"], 0).out;
    for command in ["run", "fetch", "deploy", "status", "plan", "check-config"] {
        assert!(help.contains(&format!("  {command} ")), "{help}");
    }
    assert!(!help.contains("activate"), "{help}");
    assert!(world.comin(&["--version"], 0).out.starts_with("comin "));
}

/// As systemd stops a service, on a machine that is busy: all of its processes are told to end, and the others
/// have done so before comin gets to know.
#[test]
fn a_build_that_was_ended_along_with_comin_has_not_failed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let (_, mut deploy, open) = building(&world, &origin);
    let comin = Pid::from_child(&deploy);
    let children = format!("/proc/{0}/task/{0}/children", comin.as_raw_pid());
    let nix: i32 = fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill_process(comin, Signal::STOP).unwrap();
    kill_process_group(Pid::from_raw(nix).unwrap(), Signal::TERM).unwrap();
    await_that(|| {
        let stat = fs::read_to_string(format!("/proc/{nix}/stat")).unwrap();
        stat.contains(") Z ")
    });
    kill_process(comin, Signal::TERM).unwrap();
    kill_process(comin, Signal::CONT).unwrap();
    assert_eq!(deploy.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    open();
    let said = world.comin(&["deploy"], 0);
    assert!(
        said.err.contains("was interrupted while building"),
        "{said:?}"
    );
    assert_eq!(world.switches(), ["switch gated"]);
}

#[test]
fn near_misses_are_answered_with_what_was_meant() {
    let (mut world, _) = World::new();
    let said = world.comin(&["suspend", "8h"], 2);
    assert!(said.err.contains("use --for 8h"), "{said:?}");
    let said = world.comin(&["retry"], 0);
    assert!(said.err.contains("nothing to try again"), "{said:?}");
    assert!(!world.path("root/var/lib/comin/retry").exists());
    world.configure(|config| config["remotes"][0]["tiemout"] = json!(5));
    let said = world.comin(&["status"], 2);
    assert!(
        said.err.contains("`tiemout`; did you mean `timeout`?"),
        "{said:?}"
    );
}

#[test]
fn fetch_without_a_name_fetches_every_remote() {
    need!("git");
    let (mut world, _) = World::new();
    world.follow("gone", &world.path("gone").display().to_string());
    world.comin(&["fetch"], 0);
    let remotes = &world.status()["remotes"];
    for remote in [&remotes[0], &remotes[1]] {
        assert!(remote["attempted_at"].is_string(), "{remote}");
    }
}

#[test]
fn run_fails_as_long_as_the_last_attempt_at_what_is_selected_failed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("bad", &System::with("colour = \"blue\";"));
    world.comin(&["run"], 1);
    for command in ["run", "run", "deploy"] {
        let said = world.comin(&[command], 1);
        assert!(said.err.contains("is not deployed: "), "{said:?}");
    }
    world.comin(&["status", "--check"], 4);
    // The commit is taken back: what is selected runs.
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    world.comin(&["run"], 0);
    origin.commit("fix", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["deploy"], 0);
}
