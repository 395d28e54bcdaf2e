//! What has to let a deployment pass: commands, times and free space.

use std::fs;
use std::process::Command;

use serde_json::{json, Value};

use crate::support::memory::Memory;
use crate::support::Said;
use crate::world::{boot, start, Repository, System, World};

/// A machine that runs the system of its first commit, and whose next ones have to pass this gate: it notes each
/// question, prints the file `says` and exits with the code in the file `code`.
fn gated(before: &str) -> (World, Repository) {
    let (mut world, origin) = World::new();
    boot::begin(&world);
    world.comin(&["run"], 0);
    let [asked, says, code] = ["asked", "says", "code"].map(|file| world.path(file));
    let command = format!(
        "echo x >>{}; cat {}; exit $(cat {})",
        asked.display(),
        says.display(),
        code.display()
    );
    world.configure(|config| {
        config["gates"] = json!({"lock": {"before": before, "command": command}});
    });
    (world, origin)
}

/// What the gate says from now on.
fn answer(world: &World, code: i32, says: &str) {
    fs::write(world.path("says"), format!("{says}\n")).unwrap();
    fs::write(world.path("code"), code.to_string()).unwrap();
}

/// How often the gate was asked.
fn asked(world: &World) -> usize {
    let asked = fs::read_to_string(world.path("asked")).unwrap_or_default();
    asked.lines().count()
}

fn stages(attempt: &Value) -> Vec<&str> {
    let stages = attempt["stages"].as_array().unwrap().iter();
    stages.map(|s| s["stage"].as_str().unwrap()).collect()
}

fn json_of(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

fn is_wanted(world: &World) -> bool {
    world.path("root/run/comin/wanted").exists()
}

fn state(world: &World) -> Value {
    let state = fs::read_to_string(world.path("root/var/lib/comin/state.json")).unwrap();
    serde_json::from_str(&state).unwrap()
}

#[test]
fn a_closed_gate_is_shown_and_asked_again_each_minute() {
    need!("git", "nix", "faketime");
    let (world, origin) = gated("deploy");
    answer(&world, 75, "on \x1b[31mbattery\u{202e}");
    let second = origin.commit("second", &System::default());
    let said = world.comin(&["run"], 0);
    let closed = "at the gate lock (on \u{fffd}[31mbattery\u{fffd})";
    let line = format!(
        "{} (origin/main) is not deployed: it waits {closed}",
        &second[..8]
    );
    assert_eq!(said.err.matches(&line).count(), 1, "{said:?}");
    assert_eq!(world.switches(), ["switch first"]);

    let status = world.status();
    assert_eq!(status["action"], "await_gate");
    assert_eq!(status["hindrance"], format!("it waits {closed}"));
    assert_eq!(status["phase"], "waiting_at_gate");
    assert_eq!(status["state"], "waits");
    assert_eq!(world.plan()["action"], "await_gate");
    assert!(!world.plan()["retry_at"].is_null());
    let line = world.comin(&["status", "--check"], 3).out;
    assert_eq!(line, format!("waits {}: {closed}\n", &second[..8]));
    for command in ["status", "plan"] {
        let text = world.comin(&[command], 0).out.replace('\n', " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(closed), "{text}");
        assert!(text.contains("comin confirm --past-gates"), "{text}");
    }
    let waits = world.history()[0].clone();
    assert_eq!(waits["status"], "waiting");
    let built = ["evaluating", "building", "waiting_at_gate"];
    assert_eq!(stages(&waits), built);
    let metrics = world.comin(&["exporter"], 0).out;
    assert!(metrics.contains("comin_waits_at_gate 1\n"), "{metrics}");

    // It is asked no more than once a minute, and nobody confirms it by mistake.
    world.comin(&["fetch", "origin"], 0);
    assert!(!is_wanted(&world));
    let said = world.comin(&["deploy"], 0);
    assert_eq!((said.err.as_str(), asked(&world)), ("", 1));
    let said = world.comin(&["confirm"], 1);
    assert!(said.err.contains("waits at a gate"), "{said:?}");

    // Asked again, it writes nothing to the disk and says nothing in the journal, whatever its reason is now.
    let before = world.files("root/var/lib/comin/state.json");
    answer(&world, 75, "still on battery");
    world.shifted("+61s", &["fetch", "origin"]);
    assert!(is_wanted(&world));
    let said = world.shifted("+61s", &["deploy"]);
    assert_eq!((said.err.as_str(), asked(&world)), ("", 2));
    assert_eq!(world.files("root/var/lib/comin/state.json"), before);
    let status = json_of(&world.shifted("+62s", &["status", "--json"]));
    assert_eq!(
        status["hindrance"],
        "it waits at the gate lock (still on battery)"
    );

    answer(&world, 0, "");
    world.shifted("+122s", &["deploy"]);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    let history = world.history();
    assert_eq!(history.len(), 2);
    let stages_of_all = [&built[..], &["activating", "checking"]].concat();
    assert_eq!(stages(&history[0]), stages_of_all);
    let metrics = world.comin(&["exporter"], 0).out;
    assert!(metrics.contains("comin_waits_at_gate 0\n"), "{metrics}");
}

#[test]
fn a_commit_that_a_gate_refuses_is_held() {
    need!("git", "nix");
    let (mut world, origin) = gated("build");
    let told = world.path("told");
    let tell = world.path("tell");
    let script = format!(
        "#!/bin/sh\necho $COMIN_STATUS $COMIN_ERROR_MSG >>{}\n",
        told.display()
    );
    fs::write(&tell, script).unwrap();
    Command::new("chmod").arg("+x").arg(&tell).status().unwrap();
    world.configure(|config| config["post_deployment_command"] = json!(tell));
    answer(&world, 1, "CI failed");
    let second = origin.commit("second", &System::default());
    let said = world.comin(&["run"], 0);
    let reason = "the gate lock refused it (CI failed)";
    let line = format!("Skipped {} (origin/main): {reason}", &second[..8]);
    assert_eq!(said.err.matches(&line).count(), 1, "{said:?}");
    assert_eq!(
        fs::read_to_string(told).unwrap(),
        format!("skipped {reason}\n")
    );
    assert!(!fs::exists(world.history()[0]["out"].as_str().unwrap()).unwrap());

    assert_eq!(world.plan()["action"], "held");
    let status = world.status();
    assert_eq!(
        (&status["action"], &status["hindrance"]),
        (
            &json!("held"),
            &json!(format!("it is held until someone pushes: {reason}"))
        )
    );
    assert_eq!(
        (&status["phase"], &status["state"]),
        (&json!("idle"), &json!("held"))
    );
    let line = world.comin(&["status", "--check"], 4).out;
    assert_eq!(line, format!("held {}: {reason}\n", &second[..8]));
    assert_eq!(world.history()[0]["error"], reason);

    // Not before somebody pushes, or asks for it.
    world.comin(&["run"], 0);
    assert_eq!(asked(&world), 1);
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(
        (asked(&world), &world.plan()["action"]),
        (2, &json!("held"))
    );
    answer(&world, 0, "");
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch third"]);
}

#[test]
fn one_commit_passes_every_gate_by_order() {
    need!("git", "nix");
    let (world, origin) = gated("build");
    for (code, subject) in [(75, "waits"), (1, "held")] {
        answer(&world, code, "maintenance");
        let commit = origin.commit(subject, &System::default());
        world.comin(&["run"], 0);
        let asked_before = asked(&world);
        let said = world.comin(&["confirm", "--past-gates", "--commit", "0000000"], 1);
        assert!(said.err.contains("is selected, not"), "{said:?}");
        world.comin(&["confirm", "--past-gates", "build"], 2);
        world.comin(&["confirm", "--past-gates", "--commit", &commit[..8]], 0);
        assert!(is_wanted(&world));
        assert_eq!(world.plan()["action"], "deploy");
        let said = world.comin(&["deploy"], 0);
        let line = format!("{commit} passes every gate, as requested");
        assert_eq!(said.err.matches(&line).count(), 1, "{said:?}");
        assert_eq!(world.running(), subject);
        assert_eq!(asked(&world), asked_before);
    }
    // The next one does not.
    origin.commit("next", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.plan()["action"], "held");
    assert_eq!(world.running(), "held");
}

#[test]
fn order_that_waits_for_the_end_of_a_suspension_says_so() {
    need!("git", "nix");
    let (world, origin) = gated("build");
    answer(&world, 75, "maintenance");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["suspend"], 0);
    let ordered = |order: &[&str]| {
        let said = world.comin(order, 0);
        let waits = "The deployment still waits: comin is suspended";
        assert_eq!(said.err.matches(waits).count(), 1, "{said:?}");
        assert!(is_wanted(&world));
    };
    ordered(&["confirm", "--past-gates"]);
    ordered(&["retry"]);
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let rewritten = origin.amend("rewritten", &System::default());
    world.comin(&["fetch", "origin"], 0);
    ordered(&["accept", &rewritten]);
    let said = world.comin(&["resume"], 0);
    assert!(!said.err.contains("still waits"), "{said:?}");
}

#[test]
fn past_gates_needs_gates_and_lifts_no_other_quarantine() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    boot::begin(&world);
    world.comin(&["run"], 0);
    let said = world.comin(&["confirm", "--past-gates"], 1);
    assert!(said.err.contains("There are no gates"), "{said:?}");
    world.configure(|config| {
        config["gates"] = json!({"open": {"before": "build", "command": "true"}});
        config["health_check"] = json!({"commands": ["false"]});
    });
    origin.commit("ill", &System::default());
    world.comin(&["run"], 1);
    world.comin(&["confirm", "--past-gates"], 0);
    world.comin(&["deploy"], 1);
    assert_eq!(world.plan()["action"], "quarantined");
    assert_eq!(world.running(), "first");
}

#[test]
fn suspension_during_a_gate_keeps_the_commit_from_its_activation() {
    need!("git", "nix");
    let (mut world, origin) = gated("deploy");
    let suspend = world.line(&["suspend"]);
    world.configure(|config| {
        config["gates"] = json!({"slow": {"before": "deploy", "command": suspend}});
    });
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    assert_eq!(world.plan()["action"], "suspended");
    world.configure(|config| config["gates"] = json!({}));
    world.comin(&["resume"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
}

/// What comes of a commit that has to pass this command.
fn gated_by(world: &mut World, origin: &Repository, label: &str, command: &str) -> Value {
    // It takes a while to read a flood.
    let timeout = if label == "late" { 1 } else { 300 };
    world.configure(|config| {
        config["gates"] =
            json!({"lock": {"before": "build", "command": command, "timeout": timeout}});
    });
    origin.commit(label, &System::default());
    world.comin(&["run"], 0);
    world.plan()
}

#[test]
fn gate_that_hangs_or_dies_is_asked_again_and_a_broken_one_holds() {
    need!("git", "nix");
    let (mut world, origin) = gated("build");
    let late = "did not answer within 1 seconds";
    for (label, command, action, reason) in [
        ("late", "sleep 600 & wait", "await_gate", late),
        ("late", "yes on battery", "await_gate", late),
        ("dead", "kill -9 $$", "await_gate", "was killed by signal 9"),
        ("silent", "exit 75", "await_gate", "it gave no reason"),
        ("broken", "(", "held", "the gate lock refused it ("),
    ] {
        let plan = gated_by(&mut world, &origin, label, command);
        assert_eq!(plan["action"], action, "{command}: {plan}");
        let hindrance = plan["hindrance"].as_str().unwrap();
        assert!(hindrance.contains(reason), "{command}: {hindrance}");
        assert_eq!(world.running(), "first");
    }
}

#[test]
fn gate_that_floods_its_output_gives_a_short_reason() {
    need!("git", "nix");
    let (mut world, origin) = gated("build");
    let flood = "head -c 5000000 /dev/zero";
    for (command, reason) in [
        (format!("{flood} | tr '\\0' x; echo; echo full"), "(full)"),
        // Without a line break, and with everything that moves a cursor.
        (format!("{flood} | tr '\\0' x >&2"), "(xxxx"),
        (flood.to_string(), "(\u{fffd}\u{fffd}"),
        (format!("{flood} | tr '\\0' '\\033'"), "(\u{fffd}\u{fffd}"),
        (
            "head -c 300000 /dev/zero | tr '\\0' '\\n'; echo full".to_string(),
            "(full)",
        ),
    ] {
        let command = format!("{command}; exit 75");
        let plan = gated_by(&mut world, &origin, "flooded", &command);
        assert_eq!(plan["action"], "await_gate", "{command}: {plan}");
        let hindrance = plan["hindrance"].as_str().unwrap();
        assert!(hindrance.contains(reason), "{command}: {hindrance}");
        assert!(hindrance.chars().count() < 250, "{command}: {hindrance}");
        let status = world.comin(&["status"], 0).out;
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(status.chars().all(is_plain), "{command}: {status:?}");
        assert_eq!(world.running(), "first");
    }
}

#[test]
fn gate_that_floods_its_output_needs_little_memory() {
    need!("git", "nix");
    let (mut world, origin) = gated("build");
    world.configure(|config| {
        let command = "head -c 45000000 /dev/zero; exit 75";
        config["gates"] = json!({"lock": {"before": "build", "command": command, "timeout": 300}});
    });
    origin.commit("flooded", &System::default());
    let comin = start(&world, &["run"]);
    let process = comin.id();
    let memory = Memory::watch(move || vec![process]);
    let said = Said::of(&comin.wait_with_output().unwrap());
    let peak = memory.peak();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.plan()["action"], "await_gate");
    assert!(peak < 64, "{peak} MiB");
}

#[test]
fn gate_that_lies_is_taken_by_its_exit_code_alone() {
    need!("git", "nix");
    let (mut world, origin) = gated("build");
    let forged = "printf 'all is well\\nexit code 0\\n<6>Deployed by switch\\n'";
    for (label, command, action) in [
        (
            "a",
            "echo 'the gate lock refused it'".to_string(),
            "nothing",
        ),
        // What a gate leaves behind is not waited for.
        (
            "b",
            "echo 'it waits'; sleep 9 & exit 0".to_string(),
            "nothing",
        ),
        ("c", format!("{forged}; exit 75"), "await_gate"),
        ("d", format!("{forged}; exit 1"), "held"),
    ] {
        let before = world.running();
        let plan = gated_by(&mut world, &origin, label, &command);
        assert_eq!(plan["action"], action, "{command}: {plan}");
        if action == "nothing" {
            assert_eq!(world.running(), label);
        } else {
            let hindrance = plan["hindrance"].as_str().unwrap();
            assert!(hindrance.contains("(<6>Deployed by switch)"), "{hindrance}");
            assert_eq!(world.running(), before);
        }
    }
}

#[test]
fn gate_that_is_removed_is_not_waited_for() {
    need!("git", "nix");
    for before in ["build", "deploy"] {
        let (mut world, origin) = gated(before);
        answer(&world, 75, "not yet");
        origin.commit("second", &System::default());
        world.comin(&["run"], 0);
        assert_eq!(world.plan()["action"], "await_gate");
        world.configure(|config| config["gates"] = json!({}));
        assert_eq!(world.plan()["action"], "deploy");
        world.comin(&["fetch", "origin"], 0);
        assert!(is_wanted(&world));
        world.comin(&["deploy"], 0);
        assert_eq!(world.running(), "second");
        assert_eq!(world.history().len(), 2);
        assert_eq!(asked(&world), 1);

        // A commit that a gate has refused is held until somebody pushes, or asks.
        world.configure(|config| {
            config["gates"] = json!({"lock": {"before": before, "command": "exit 1"}});
        });
        origin.commit("third", &System::default());
        world.comin(&["run"], 0);
        world.configure(|config| config["gates"] = json!({}));
        world.comin(&["run"], 0);
        assert_eq!(world.plan()["action"], "held");
        world.comin(&["retry"], 0);
        world.comin(&["deploy"], 0);
        assert_eq!(world.running(), "third");
    }
}

#[test]
fn a_retry_asks_a_closed_gate_at_once_and_so_does_a_boot() {
    need!("git", "nix");
    let (world, origin) = gated("deploy");
    answer(&world, 75, "not yet");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(asked(&world), 2);
    boot::boot(&world);
    assert_eq!(world.status()["phase"], "waiting_at_gate");
    answer(&world, 0, "");
    world.comin(&["run"], 0);
    assert_eq!((asked(&world), &*world.running()), (3, "second"));
}

#[test]
fn another_commit_takes_the_place_of_one_that_waits_at_a_gate() {
    need!("git", "nix");
    let (world, origin) = gated("build");
    answer(&world, 75, "not yet");
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    answer(&world, 0, "");
    origin.commit("third", &System::default());
    let said = world.comin(&["run"], 0);
    let line = format!("Stopped waiting at gate: {}", &second[..8]);
    assert!(said.err.contains(&line), "{said:?}");
    assert_eq!(world.running(), "third");
    assert_eq!(world.history()[1]["status"], "skipped");
}

#[test]
fn a_gate_finds_the_commit_and_its_system() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let seen = world.path("seen");
    let command = format!(
        "test -e \"$COMIN_OUT/nixos-version\" && env | grep ^COMIN_ | sort >{}",
        seen.display()
    );
    world.configure(|config| {
        config["gates"] = json!({"see": {"before": "deploy", "command": command}});
    });
    let commit = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let seen = fs::read_to_string(seen).unwrap();
    for line in [
        format!("COMIN_GIT_SHA={commit}\n"),
        "COMIN_GIT_REF=origin/main\n".to_string(),
        "COMIN_GIT_MSG=second\n".to_string(),
        "COMIN_HOSTNAME=m\n".to_string(),
        "COMIN_STATUS=running\n".to_string(),
        format!(
            "COMIN_OUT={}\n",
            world.history()[0]["out"].as_str().unwrap()
        ),
    ] {
        assert!(seen.contains(&line), "{line}: {seen}");
    }
    assert_eq!(world.running(), "second");
}

/// The name of a day that is not today: a window of it is closed.
fn day_after(days: u32) -> String {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C")
        .args(["-d", &format!("+{days} days"), "+%a"]);
    let day = String::from_utf8(date.output().unwrap().stdout).unwrap();
    day.trim().to_lowercase()
}

#[test]
fn a_window_is_for_activations_of_main() {
    need!("git", "nix", "faketime");
    let (mut world, origin) = World::new();
    boot::begin(&world);
    world.comin(&["run"], 0);
    world.configure(|config| {
        let day = day_after(3);
        config["deploy_window"] = json!([{"lower": "00:00", "upper": "00:00", "days": [day]}]);
    });
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let plan = world.plan();
    assert_eq!(plan["action"], "await_gate");
    let hindrance = plan["hindrance"].as_str().unwrap();
    assert!(
        hindrance.starts_with("it waits for the deploy window (it opens at 20"),
        "{plan}"
    );
    // It is built meanwhile.
    assert!(fs::exists(world.history()[0]["out"].as_str().unwrap()).unwrap());
    world.shifted("+1d", &["run"]);
    assert_eq!(world.running(), "first");

    // Whoever tests something is not kept waiting, and main waits on.
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "test tested"]);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    assert_eq!(world.plan()["action"], "await_gate");
    world.shifted("+3d", &["run"]);
    assert_eq!(world.running(), "second");
}

#[test]
fn nothing_is_built_without_enough_space() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    boot::begin(&world);
    world.comin(&["run"], 0);
    world.configure(|config| config["min_free"] = json!(u64::MAX));
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let plan = world.plan();
    assert_eq!(plan["action"], "await_gate");
    let hindrance = plan["hindrance"].as_str().unwrap();
    assert!(hindrance.starts_with("it waits for free space ("), "{plan}");
    assert!(!fs::exists(world.history()[0]["out"].as_str().unwrap()).unwrap());
    world.configure(|config| config["min_free"] = json!(1));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

/// After a rollback an older comin reads the state. It knows no gates, so that it goes on with what waits.
#[test]
fn a_comin_without_gates_reads_what_waits_at_one() {
    need!("git", "nix");
    let (world, origin) = gated("deploy");
    answer(&world, 75, "not yet");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let state = state(&world);
    let latest = state["attempts"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&latest["status"], &latest["awaiting"]),
        (&json!("waiting"), &json!("deploy"))
    );
    assert!(latest["stage"].is_null(), "{latest}");
    assert_eq!(stages(latest), ["evaluating", "building"]);
    assert_eq!(latest["waits"][0]["index"], 2);
}

#[test]
fn a_confirmation_is_asked_for_before_a_gate() {
    need!("git", "nix");
    let (mut world, origin) = gated("deploy");
    world.configure(|config| config["deploy_confirmer"] = json!({"mode": "manual"}));
    answer(&world, 75, "not yet");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(
        (asked(&world), &world.plan()["action"]),
        (0, &json!("await_confirmation"))
    );
    world.comin(&["confirm"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(
        (asked(&world), &world.plan()["action"]),
        (1, &json!("await_gate"))
    );
    answer(&world, 0, "");
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
    assert_eq!(
        stages(&world.history()[0])[1..4],
        ["building", "waiting_for_confirmation", "waiting_at_gate"]
    );
}
