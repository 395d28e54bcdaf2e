//! Somebody else changes what the machine runs or boots: comin activates again what it activated last. And what is tested
//! is kept by order.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{json, Value};

use crate::support::sweep::{kill_with_descendants, times, Dice};
use crate::support::Said;
use crate::world::{await_that, boot, start, Repository, System, World};

/// A machine with two generations of comin's, which heals a drift after so many seconds.
fn healing(grace: u32) -> (World, Repository) {
    let (mut world, origin) = World::new();
    world.configure(|config| config["drift"] = json!({"heal": true, "grace": grace}));
    boot::begin(&world);
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    (world, origin)
}

/// The same, which tests a third system.
fn testing(grace: u32) -> (World, Repository) {
    let (world, origin) = healing(grace);
    origin.git(&["switch", "--quiet", "--create", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    (world, origin)
}

/// What `nixos-rebuild switch`, `test` or `boot` does, with the system of a generation.
pub fn rebuild(world: &World, operation: &str, generation: u32) {
    let profiles = world.path("root/nix/var/nix/profiles");
    let generation = format!("system-{generation}-link");
    if operation != "test" {
        let profile = profiles.join("system");
        fs::remove_file(&profile).unwrap();
        symlink(&generation, profile).unwrap();
    }
    let program = profiles
        .join(generation)
        .join("bin/switch-to-configuration");
    assert!(Command::new(program)
        .arg(operation)
        .status()
        .unwrap()
        .success());
}

fn is_wanted(world: &World) -> bool {
    world.comin(&["fetch"], 0);
    world.path("root/run/comin/wanted").exists()
}

fn next_boot(world: &World) -> String {
    let system = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    fs::read_to_string(PathBuf::from(system.trim()).join("nixos-version")).unwrap()
}

/// The labels of what runs, of what the profile is at, and of what boots.
fn systems(world: &World) -> [String; 3] {
    let label = |path: &Path| fs::read_to_string(path.join("nixos-version")).unwrap();
    let profile = label(&world.path("root/nix/var/nix/profiles/system"));
    [world.running(), profile, next_boot(world)]
}

fn count(said: &Said, text: &str) -> usize {
    said.err.matches(text).count()
}

#[test]
fn drift_is_healed_after_the_grace_without_an_evaluation() {
    need!("git", "nix", "faketime");
    let (world, _origin) = healing(3600);
    assert!(!is_wanted(&world));
    rebuild(&world, "switch", 1);
    // It is seen by the next poll, and told once.
    assert!(is_wanted(&world));
    let said = world.comin(&["deploy"], 0);
    assert_eq!(
        count(&said, "Drift: another system was activated"),
        1,
        "{said:?}"
    );
    assert_eq!(
        count(&said, "is activated again by switch at"),
        1,
        "{said:?}"
    );
    let status = world.status();
    assert_eq!(status["drift"]["kind"], "activated");
    assert_eq!(status["healing"]["refused"], Value::Null);
    assert!(status["healing"]["at"].is_string(), "{status:#}");
    assert_eq!(world.plan()["healing"], status["healing"]);
    for arguments in ["status", "plan"] {
        let said = world.comin(&[arguments], 0);
        assert!(said.out.contains("is activated again in"), "{said:?}");
    }
    for _ in 0..2 {
        assert!(!is_wanted(&world), "nothing is due yet");
    }
    let said = world.shifted("+2h", &["fetch"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(world.path("root/run/comin/wanted").exists());

    let said = world.shifted("+2h", &["deploy"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        count(&said, "again by switch: another system was activated"),
        1,
        "{said:?}"
    );
    assert_eq!(count(&said, "Evaluating"), 0);
    assert_eq!(systems(&world), ["second", "second", "second"]);
    let history = world.history();
    assert_eq!((history.len(), &history[0]["healed"]), (3, &json!(true)));
    let stages = history[0]["stages"].as_array().unwrap().iter();
    let stages: Vec<_> = stages.map(|it| it["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["building", "activating", "checking"]);
    assert!(world
        .comin(&["history"], 0)
        .out
        .contains("by switch, healed"));
    let status = world.status();
    assert_eq!(
        (&status["drift"], &status["healing"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(status["state"], "up_to_date");
}

#[test]
fn healing_ends_the_drift_that_there_is_three_times_a_day() {
    need!("git", "nix");
    let (world, _origin) = testing(0);
    for (operation, healings) in [
        ("test", vec!["test tested"]),
        ("boot", vec!["boot second"]),
        ("switch", vec!["test tested"]),
    ] {
        let before = world.switches().len();
        rebuild(&world, operation, 1);
        world.comin(&["run"], 0);
        assert_eq!(world.switches()[before + 1..], healings, "{operation}");
    }
    // The last of them needed two steps, and the second is the fourth of this day.
    assert_eq!(systems(&world), ["tested", "first", "first"]);
    let status = world.status();
    assert_eq!(status["drift"]["kind"], "boots_next", "{status:#}");
    assert!(status["healing"]["at"].is_string(), "{status:#}");
    assert!(!is_wanted(&world));
}

#[test]
fn healing_that_fails_is_rolled_back_and_not_repeated() {
    need!("git", "nix");
    let (mut world, origin) = healing(0);
    let well = world.path("well");
    fs::write(&well, "").unwrap();
    world.configure(|config| {
        let check = format!("test -e {}", well.display());
        config["health_check"] = json!({"commands": [check]});
    });
    world.comin(&["run"], 0);
    rebuild(&world, "switch", 1);
    fs::remove_file(&well).unwrap();
    world.comin(&["run"], 1);
    assert_eq!(systems(&world), ["first", "first", "first"]);
    let (switches, history) = (world.switches(), world.history());
    assert_eq!(history[0]["status"], "rolled_back");
    assert_eq!(history[0]["healed"], true);
    world.comin(&["run"], 1);
    assert!(!is_wanted(&world));
    assert_eq!(world.switches(), switches);
    let status = world.status();
    assert_eq!(
        (&status["state"], &status["drift"]),
        (&json!("rolled_back"), &Value::Null)
    );

    fs::write(&well, "").unwrap();
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(systems(&world), ["third", "third", "third"]);
}

#[test]
fn what_the_operator_has_chosen_is_not_healed() {
    need!("git", "nix");
    let (world, origin) = healing(0);
    let refused = |why: &str| {
        let (switches, wanted) = (world.switches(), is_wanted(&world));
        assert!(wanted, "{why}");
        world.comin(&["deploy"], 0);
        let status = world.status();
        let refused = status["healing"]["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(why), "{status:#}");
        assert!(world.comin(&["status"], 0).out.contains("it is not healed"));
        assert_eq!(world.plan()["healing"], status["healing"]);
        assert!(!is_wanted(&world), "{why}");
        assert_eq!(world.switches(), switches);
    };
    world.comin(&["suspend"], 0);
    rebuild(&world, "switch", 1);
    refused("suspended");
    world.comin(&["resume"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(systems(&world), ["second", "second", "second"]);

    world.comin(&["rollback"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "first");
    assert_eq!(world.status()["drift"], Value::Null);
    rebuild(&world, "switch", 2);
    refused("rollback");
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(systems(&world), ["third", "third", "third"]);

    let old = fs::canonicalize(world.path("root/nix/var/nix/profiles/system-1-link")).unwrap();
    boot::boot_into(&world, &old);
    refused("at the boot");
    assert_eq!(world.running(), "first");
}

#[test]
fn healing_waits_for_a_gate_and_for_what_goes_on() {
    need!("git", "nix");
    let (mut world, origin) = healing(0);
    let lock = world.path("maintenance");
    fs::write(&lock, "ask Alice").unwrap();
    world.configure(|config| {
        let command = format!("! cat {} || exit 75", lock.display());
        config["gates"] = json!({"maintenance": {"before": "deploy", "command": command}});
    });
    rebuild(&world, "switch", 1);
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "ask Alice"), 1, "{said:?}");
    assert_eq!(world.running(), "first");
    let closed = "the gate maintenance is closed (ask Alice)";
    let status = world.comin(&["status"], 0).out;
    let words: Vec<_> = status.split_whitespace().collect();
    assert!(words.join(" ").contains(closed), "{status}");
    assert!(!status.contains("replaces it now"), "{status}");
    // A gate that refuses it is not asked again.
    world.configure(|config| {
        config["gates"] = json!({"ci": {"before": "deploy", "command": "echo no; exit 1"}});
    });
    world.comin(&["deploy"], 0);
    let refused = "the gate ci refused it (no)";
    let status = world.status();
    assert_eq!(status["healing"]["at"], Value::Null);
    assert_eq!(status["healing"]["refused"], refused);
    let text = world.comin(&["status"], 0).out;
    assert!(text.contains("the next push replaces it"), "{text}");
    // A gate that is removed is not waited for.
    world.configure(|config| config["gates"] = json!({}));
    assert!(is_wanted(&world));
    world.comin(&["deploy"], 0);
    assert_eq!(systems(&world), ["second", "second", "second"]);

    rebuild(&world, "switch", 1);
    let third = origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(systems(&world), ["third", "third", "third"]);
    assert_eq!(world.history()[0]["commit"], third.as_str());
    assert_eq!(world.history()[0]["healed"], false);
}

#[test]
fn drift_is_looked_at_again_after_the_gates() {
    need!("git", "nix", "faketime");
    for is_suspended in [true, false] {
        let (mut world, _origin) = testing(3600);
        let once = world.path("once");
        let switch =
            world.path("root/nix/var/nix/profiles/system-2-link/bin/switch-to-configuration");
        let meanwhile = if is_suspended {
            world.line(&["suspend"])
        } else {
            format!("{} test", switch.display())
        };
        world.configure(|config| {
            let command = format!(
                "[ -e {0} ] || {{ touch {0}; {meanwhile}; }}",
                once.display()
            );
            config["gates"] = json!({"slow": {"before": "deploy", "command": command}});
        });
        rebuild(&world, "test", 1);
        world.comin(&["deploy"], 0);
        let said = world.shifted("+2h", &["deploy"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(once.exists(), "{said:?}");
        let (runs, healing) = (world.running(), world.status()["healing"].take());
        if is_suspended {
            assert_eq!(
                (&*runs, &healing["refused"]),
                ("first", &json!("comin is suspended"))
            );
            world.comin(&["resume"], 0);
        } else {
            // It has a grace of its own.
            assert_eq!((&*runs, &healing["refused"]), ("second", &Value::Null));
        }
        let said = world.shifted("+4h", &["deploy"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(systems(&world), ["tested", "second", "second"]);
    }
}

/// How long a healing waits that has just come to nothing.
fn wait(world: &World) -> i64 {
    let latest = world.history()[0].take();
    assert_eq!(latest["healed"], true, "{latest:#}");
    let at = |key: &str| latest[key].as_str().unwrap().parse::<Timestamp>().unwrap();
    at("retry_at").duration_since(at("ended_at")).as_secs()
}

#[test]
fn healing_that_cannot_begin_waits_longer_each_time() {
    need!("git", "nix", "faketime");
    let (world, _origin) = healing(0);
    let in_the_way = world.path("root/run/comin/activation.json.new");
    fs::create_dir(&in_the_way).unwrap();
    rebuild(&world, "switch", 1);
    let attempts = world.history().len();
    for (n, (at, seconds)) in [("+0", 60), ("+2m", 120), ("+5m", 240)]
        .into_iter()
        .enumerate()
    {
        let said = world.shifted(at, &["run"]);
        assert_eq!(count(&said, "Could not begin to activate"), 1, "{said:?}");
        assert_eq!(wait(&world), seconds);
        assert_eq!(world.history().len(), attempts + n + 1);
    }
    fs::remove_dir(&in_the_way).unwrap();
    let said = world.shifted("+10m", &["run"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(systems(&world), ["second", "second", "second"]);
}

#[test]
fn healing_that_is_killed_three_times_before_its_activation_waits() {
    need!("git", "nix", "faketime");
    let (world, _origin) = healing(0);
    rebuild(&world, "switch", 1);
    for _ in 0..3 {
        let mut comin = world.command_with(&["deploy"], &[("nix-store", "kill -9 $PPID")]);
        assert_eq!(comin.output().unwrap().status.code(), None);
    }
    let attempts = world.history().len();
    world.comin(&["deploy"], 1);
    assert_eq!(
        (world.history().len(), &*world.running()),
        (attempts, "first")
    );
    assert_eq!(wait(&world), 240);
    let said = world.shifted("+5m", &["deploy"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(systems(&world), ["second", "second", "second"]);
}

#[test]
fn machine_that_dies_at_each_healing_is_left_alone_after_three() {
    need!("git", "nix");
    for operation in ["switch", "boot"] {
        let (world, origin) = healing(0);
        let [armed, begun] = ["armed", "begun"].map(|file| world.path(file));
        let (from, to) = (armed.display(), begun.display());
        let deadly = format!("[ ! -e {from} ] || {{ mv {from} {to}; sleep infinity; }}");
        origin.commit("third", &System::with(&format!("bootloader = {deadly:?};")));
        world.comin(&["run"], 0);
        rebuild(&world, operation, 1);
        let before = world.switches().len();
        for _ in 0..3 {
            fs::write(&armed, "").unwrap();
            let mut comin = start(&world, &["deploy"]);
            await_that(|| begun.exists());
            kill_with_descendants(comin.id());
            comin.wait().unwrap();
            fs::remove_file(&begun).unwrap();
        }
        fs::write(&armed, "").unwrap();
        let said = world.comin(&["run"], 1);
        let why = "interrupted while activating too often";
        assert!(said.err.contains(why), "{said:?}");
        let switches = world.switches();
        let tried = format!("{operation} third");
        let back = format!("{operation} first");
        assert_eq!(switches[before..], [&*tried, &tried, &tried, &back]);
        let status = world.status();
        assert_eq!(
            (&status["state"], &status["drift"]),
            (&json!("rolled_back"), &Value::Null)
        );
        world.comin(&["run"], 1);
        assert_eq!(world.switches(), switches);
    }
}

#[test]
fn without_healing_a_drift_stays() {
    need!("git", "nix");
    let (mut world, _origin) = healing(0);
    world.configure(|config| config["drift"] = json!({"heal": false}));
    world.comin(&["run"], 0);
    rebuild(&world, "switch", 1);
    assert!(!is_wanted(&world));
    // Whether another switch runs does not matter.
    let lock = world.path("root/run/nixos/switch-to-configuration.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "comin leaves it there"), 1, "{said:?}");
    assert_eq!(world.running(), "first");
    assert_eq!(world.status()["healing"], Value::Null);
}

#[test]
fn kept_test_boots_until_main_moves_on() {
    need!("git", "nix");
    let (world, origin) = testing(0);
    assert_eq!(systems(&world), ["tested", "second", "second"]);
    let said = world.comin(&["keep"], 0);
    assert_eq!(
        count(&said, "boots next, until main moves on"),
        1,
        "{said:?}"
    );
    assert_eq!(systems(&world), ["tested", "tested", "tested"]);
    assert_eq!(world.profile().unwrap(), "system-3-link");
    let history = world.history();
    assert_eq!(history[0]["operation"], "boot");
    assert!(history[0]["kept_by"].is_string(), "{history:#?}");
    assert!(world
        .comin(&["history"], 0)
        .out
        .contains("by boot, kept by "));
    // Nothing is evaluated for that, and nothing has drifted.
    let is_at_rest = || {
        assert!(!is_wanted(&world));
        let said = world.comin(&["run"], 0);
        assert_eq!(said.err, "");
        let status = world.status();
        assert_eq!(
            (&status["drift"], &status["state"]),
            (&Value::Null, &json!("testing"))
        );
    };
    world.comin(&["run"], 0);
    is_at_rest();
    let said = world.comin(&["keep"], 1);
    assert_eq!(count(&said, "boots next already"), 1, "{said:?}");

    boot::boot(&world);
    world.comin(&["run"], 0);
    is_at_rest();
    assert_eq!(systems(&world), ["tested", "tested", "tested"]);
    assert_eq!(world.history().len(), history.len());

    // A drift from what is kept is one.
    rebuild(&world, "switch", 1);
    world.comin(&["run"], 0);
    assert_eq!(systems(&world), ["tested", "tested", "tested"]);

    origin.git(&["switch", "--quiet", "main"]);
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(systems(&world), ["third", "third", "third"]);
    assert_eq!(world.status()["drift"], Value::Null);
}

#[test]
fn kept_test_stays_after_a_comin_that_does_not_know_keep() {
    need!("git", "nix");
    let (world, _origin) = testing(0);
    world.comin(&["keep"], 0);
    let switches = world.switches();
    let file = world.path("root/var/lib/comin/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for attempt in state["attempts"].as_array_mut().unwrap() {
        let attempt = attempt.as_object_mut().unwrap();
        attempt.remove("reactivation");
        attempt.remove("branch_operation");
    }
    fs::write(&file, state.to_string()).unwrap();
    for _ in 0..2 {
        world.comin(&["run"], 0);
        assert_eq!(world.switches(), switches);
        let status = world.status();
        assert_eq!(
            (&status["drift"], &status["state"]),
            (&Value::Null, &json!("testing"))
        );
    }
}

#[test]
fn keep_says_why_there_is_nothing_to_keep() {
    need!("git", "nix");
    let (world, origin) = healing(0);
    let refused = |why: &str| {
        let before = systems(&world);
        let said = world.comin(&["keep"], 1);
        assert_eq!(count(&said, why), 1, "{why}: {said:?}");
        assert_eq!(systems(&world), before);
    };
    refused("runs, and boots next already");
    origin.git(&["switch", "--quiet", "--create", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    rebuild(&world, "test", 1);
    refused("Nothing is tested: ");
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    // main contains it by now.
    origin.git(&["switch", "--quiet", "main"]);
    origin.git(&["merge", "--quiet", "--ff-only", "testing-m"]);
    world.comin(&["fetch"], 0);
    refused("is selected by now");
    assert_eq!(
        world
            .history()
            .iter()
            .filter(|it| it["kept_by"].is_string())
            .count(),
        0
    );
    world.comin(&["suspend"], 0);
    refused("is selected by now");
}

#[test]
fn keep_whose_boot_loader_fails_changes_nothing() {
    need!("git", "nix");
    let (world, origin) = healing(0);
    origin.git(&["switch", "--quiet", "--create", "testing-m"]);
    origin.commit("tested", &System::with(r#"bootloader = "exit 1";"#));
    world.comin(&["run"], 0);
    world.comin(&["keep"], 1);
    assert_eq!(systems(&world), ["tested", "second", "second"]);
    assert_eq!(world.status()["drift"], Value::Null);
    let before = world.switches();
    let _ = world.command(&["run"]).status();
    assert_eq!(world.switches(), before);
}

#[test]
fn killed_keep_is_finished_by_the_deploy_that_the_next_fetch_requests() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.git(&["switch", "--quiet", "--create", "testing-m"]);
    let hangs = world.path("hangs");
    let bootloader = format!(
        "[ -e {0} ] || {{ echo x >{0}; sleep 1000; }}",
        hangs.display()
    );
    origin.commit(
        "tested",
        &System::with(&format!("bootloader = {bootloader:?};")),
    );
    world.comin(&["run"], 0);
    let mut keep = start(&world, &["keep"]);
    await_that(|| hangs.exists());
    assert_eq!(world.status()["phase"], "activating");
    assert!(!is_wanted(&world), "it is at work");
    kill_with_descendants(keep.id());
    keep.wait().unwrap();
    assert!(is_wanted(&world));
    world.comin(&["deploy"], 0);
    let history = world.history();
    assert_eq!((history.len(), &history[0]["status"]), (3, &json!("done")));
    assert_eq!(systems(&world), ["tested", "tested", "tested"]);
}

#[test]
fn deploy_follows_every_order_that_acts_at_once() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    for (order, code) in [("keep", 1), ("rollback", 0)] {
        world.comin(&[order], code);
        assert!(world.path("root/run/comin/wanted").exists(), "{order}");
        world.comin(&["deploy"], 0);
        assert!(!is_wanted(&world), "{order}");
    }
    assert_eq!(world.running(), "first");
}

/// Starts comin, and kills it at a moment of the dice.
fn kill_some_time(world: &World, dice: &mut Dice, arguments: &[&str]) {
    let mut comin = start(world, arguments);
    thread::sleep(dice.delay(Duration::from_millis(400)));
    kill_with_descendants(comin.id());
    comin.wait().unwrap();
}

#[test]
fn killed_at_any_moment_a_test_is_kept_or_as_before() {
    need!("git", "nix");
    let (world, origin) = testing(0);
    let mut dice = Dice::new("keep");
    for n in 0..times("COMIN_SWEEP_KEEP", 5, 50) {
        let label = format!("test{n}");
        origin.commit(&label, &System::default());
        world.comin(&["run"], 0);
        let before = systems(&world)[1].clone();
        kill_some_time(&world, &mut dice, &["keep"]);
        let _ = world.command(&["run"]).status().unwrap();
        let [runs, profile, boots] = systems(&world);
        assert_eq!((&runs, &profile), (&label, &boots));
        assert!(boots == label || boots == before, "{boots}");
        assert_eq!(world.status()["drift"], Value::Null);
        if boots == before {
            world.comin(&["keep"], 0);
        }
        assert_eq!(systems(&world), [&*label, &label, &label]);
    }
}

#[test]
fn killed_at_any_moment_of_a_healing_the_machine_is_healed_by_the_next_run() {
    need!("git", "nix");
    let mut dice = Dice::new("healing");
    for _ in 0..times("COMIN_SWEEP_HEALING", 1, 10) {
        let (world, _origin) = healing(0);
        // More would have to wait for the next day.
        for _ in 0..3 {
            rebuild(&world, "switch", 1);
            kill_some_time(&world, &mut dice, &["deploy"]);
            let _ = world.command(&["run"]).status().unwrap();
            assert_eq!(systems(&world), ["second", "second", "second"]);
            assert_eq!(world.status()["drift"], Value::Null);
        }
    }
}
