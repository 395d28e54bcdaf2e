//! What is not built or deployed before somebody, or time, has confirmed it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::sweep::{kill_with_descendants, times, Dice};
use crate::support::{is_rooted, Said};
use crate::world::{await_that, boot, start, Gate, Repository, System, World};

/// A machine that runs the system of its first commit, and whose next ones have to be confirmed.
fn asking(confirmers: &Value) -> (World, Repository) {
    let (mut world, origin) = World::new();
    boot::begin(&world);
    world.comin(&["run"], 0);
    let with = confirmers.as_object().unwrap().clone();
    world.configure(|config| config.as_object_mut().unwrap().extend(with));
    (world, origin)
}

fn manual(step: &str) -> Value {
    json!({ format!("{step}_confirmer"): {"mode": "manual"} })
}

fn both() -> Value {
    json!({"build_confirmer": {"mode": "manual"}, "deploy_confirmer": {"mode": "manual"}})
}

/// Runs comin, which notes how often it evaluates.
fn noting(world: &World, arguments: &[&str]) -> Said {
    let said = Said::of(&world.noting_calls(arguments).output().unwrap());
    assert_eq!(said.code, Some(0), "comin {arguments:?}: {said:?}");
    said
}

/// How often Nix was asked to evaluate.
fn evaluations(world: &World) -> usize {
    let calls = fs::read_to_string(world.path("calls")).unwrap_or_default();
    calls.matches(" eval ").count()
}

/// Whether Nix would keep a path because of this link of comin's.
fn is_kept(world: &World, link: &str, path: &str) -> bool {
    let mut nix = Command::new("nix-store");
    let roots = nix.args(["--gc", "--print-roots"]).output().unwrap();
    let gcroots = world.path("root/var/lib/comin/gcroots");
    let roots = String::from_utf8(roots.stdout).unwrap();
    is_rooted(&roots, &format!("{}/{link}", gcroots.display()), path)
}

/// The attempt that waits, in the state.
fn waiting(world: &World) -> Value {
    let state = fs::read_to_string(world.path("root/var/lib/comin/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let latest = state["attempts"].as_array().unwrap().last().unwrap();
    assert_eq!(latest["status"], "waiting", "{latest}");
    latest.clone()
}

fn order(world: &World) -> PathBuf {
    world.path("root/var/lib/comin/confirm.json")
}

fn wanted(world: &World) -> PathBuf {
    world.path("root/run/comin/wanted")
}

fn stages(attempt: &Value) -> Vec<&str> {
    let stages = attempt["stages"].as_array().unwrap().iter();
    stages.map(|s| s["stage"].as_str().unwrap()).collect()
}

#[test]
fn nothing_is_built_before_somebody_has_confirmed_it() {
    need!("git", "nix");
    let (mut world, origin) = asking(&manual("build"));
    let told = world.path("told");
    let tell = world.path("tell");
    let script = format!("#!/bin/sh\necho $COMIN_STATUS >>{}\n", told.display());
    fs::write(&tell, script).unwrap();
    Command::new("chmod").arg("+x").arg(&tell).status().unwrap();
    world.configure(|config| config["post_deployment_command"] = json!(tell));

    let second = origin.commit("second", &System::default());
    let said = noting(&world, &["run"]);
    let sentence = "it waits for your confirmation to be built";
    let line = format!(
        "{} (origin/main) is not deployed: {sentence}\nto build it → sudo comin confirm build",
        &second[..8]
    );
    assert_eq!(said.err.matches(&line).count(), 1, "{said:?}");
    let status = world.status();
    assert_eq!(status["phase"], "waiting_for_confirmation");
    assert_eq!(status["action"], "await_confirmation");
    assert_eq!(status["hindrance"], sentence);
    assert_eq!(status["deployed"]["status"], "done", "of the first one");
    let text = world.comin(&["status"], 0).out;
    assert!(text.contains("waits for your confirmation"), "{text}");
    let text = world.comin(&["plan"], 0).out;
    assert!(text.contains("comin confirm build"), "{text}");
    let metrics = world.comin(&["exporter"], 0).out;
    for sample in [
        "comin_phase{phase=\"waiting_for_confirmation\"} 1\n",
        "comin_is_behind 1\n",
        "comin_is_given_up 0\n",
        "comin_last_deployment_failed 0\n",
    ] {
        assert!(metrics.contains(sample), "{metrics}");
    }
    assert_eq!(world.history()[0]["status"], "waiting");
    let waits = waiting(&world);
    let (derivation, out) = (&waits["derivation"], &waits["out"]);
    assert!(!fs::exists(out.as_str().unwrap()).unwrap());
    assert!(is_kept(&world, "derivation", derivation.as_str().unwrap()));

    // Neither a poll nor a deploy has anything to do or to say.
    world.comin(&["fetch", "origin"], 0);
    assert!(!wanted(&world).exists());
    let said = noting(&world, &["run"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    let said = world.comin(&["confirm", "deploy"], 1);
    let refused = "does not wait to be deployed, but to be built: comin confirm build";
    assert!(said.err.contains(refused), "{said:?}");
    assert!(!told.exists());

    let said = world.comin(&["confirm", "build"], 0);
    assert!(
        said.err.contains("is confirmed, and built next"),
        "{said:?}"
    );
    assert!(wanted(&world).exists());
    assert_eq!(world.plan()["action"], "deploy");
    let status = world.status();
    assert_eq!(
        (&status["action"], &status["phase"]),
        (&json!("deploy"), &json!("waiting_for_confirmation"))
    );
    let said = noting(&world, &["deploy"]);
    assert!(
        said.err
            .contains("(origin/main) is confirmed, and built next"),
        "{said:?}"
    );
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(evaluations(&world), 1);
    assert_eq!(world.history().len(), 2);
    assert_eq!(
        stages(&world.history()[0]),
        [
            "evaluating",
            "waiting_for_confirmation",
            "building",
            "activating",
            "checking"
        ]
    );
    assert_eq!(world.status()["phase"], "idle");
    assert_eq!(fs::read_to_string(told).unwrap(), "done\n");
    assert!(!order(&world).exists());
    assert!(!is_kept(&world, "derivation", derivation.as_str().unwrap()));
    let said = world.comin(&["confirm"], 1);
    assert!(
        said.err.contains("Nothing waits for a confirmation"),
        "{said:?}"
    );
}

#[test]
fn what_is_built_waits_across_a_boot_before_it_is_activated() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("deploy"));
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    let waits = waiting(&world);
    let out = waits["out"].as_str().unwrap();
    assert!(fs::exists(out).unwrap());
    let root = format!("attempt-{}", waits["id"]);
    assert!(is_kept(&world, &root, out));

    boot::boot(&world);
    assert_eq!(world.status()["phase"], "waiting_for_confirmation");
    // The operator may not have seen it in the boot before.
    let said = noting(&world, &["run"]);
    let sentence =
        "it waits for your confirmation to be deployed\nto deploy it → sudo comin confirm deploy";
    assert_eq!(said.err.matches(sentence).count(), 1, "{said:?}");
    assert!(!said.err.contains("interrupted"), "{said:?}");
    assert_eq!(world.switches(), ["switch first"]);

    world.comin(&["confirm"], 0);
    noting(&world, &["deploy"]);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(evaluations(&world), 1);
    let history = world.history();
    assert_eq!(history.len(), 2);
    assert_eq!(
        stages(&history[0]),
        [
            "evaluating",
            "building",
            "waiting_for_confirmation",
            "activating",
            "checking"
        ]
    );
    // It was deployed in this boot, and not in the one in which it began.
    assert!(world.status()["booted_instead"].is_null());
}

#[test]
fn both_steps_may_have_to_be_confirmed_one_after_the_other() {
    need!("git", "nix");
    let (world, origin) = asking(&both());
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    world.comin(&["confirm"], 0);
    let of_the_build = fs::read(order(&world)).unwrap();
    let said = noting(&world, &["deploy"]);
    assert!(said.err.contains("comin confirm deploy"), "{said:?}");
    assert_eq!(world.switches(), ["switch first"]);

    // The order to build, as if it had not been removed, is none to deploy.
    fs::write(order(&world), of_the_build).unwrap();
    assert_eq!(world.plan()["action"], "await_confirmation");
    let said = noting(&world, &["deploy"]);
    assert!(said.err.contains("came too late"), "{said:?}");
    assert!(!order(&world).exists());
    assert_eq!(world.switches(), ["switch first"]);

    world.comin(&["confirm"], 0);
    noting(&world, &["deploy"]);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(evaluations(&world), 1);
}

#[test]
fn that_no_main_was_accepted_is_said_once() {
    need!("git", "nix");
    let (mut world, _) = World::new();
    world.configure(|config| {
        let with = both().as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(with);
    });
    let sentence = "First deployment: comin trusts this main";
    let mut times = world.comin(&["run"], 0).err.matches(sentence).count();
    for _ in 0..2 {
        world.comin(&["confirm"], 0);
        times += world.comin(&["deploy"], 0).err.matches(sentence).count();
    }
    assert_eq!(world.switches(), ["switch first"]);
    assert_eq!(times, 1);
}

#[test]
fn what_nobody_objects_to_is_confirmed_by_time() {
    need!("git", "nix", "faketime");
    let hour = json!({"mode": "auto", "autoconfirm_duration": 3600});
    let (world, origin) = asking(&json!({ "build_confirmer": hour }));
    origin.commit("second", &System::default());
    let said = noting(&world, &["run"]);
    let sentence = "it waits for your confirmation, and is built without one at 20";
    assert!(said.err.contains(sentence), "{said:?}");
    assert_eq!(world.plan()["action"], "await_confirmation");
    assert!(!world.plan()["retry_at"].is_null());
    // A machine may boot with a clock of long ago.
    world.shifted("-1y", &["deploy"]);
    assert_eq!(world.switches(), ["switch first"]);
    world.shifted("-1y", &["fetch", "origin"]);
    assert!(!wanted(&world).exists());
    world.shifted("+59m", &["fetch", "origin"]);
    assert!(!wanted(&world).exists());
    world.shifted("+61m", &["fetch", "origin"]);
    assert!(wanted(&world).exists());
    let said = world.shifted("+61m", &["deploy"]);
    let sentence = "(origin/main) is confirmed automatically, and built next";
    assert!(said.err.contains(sentence), "{said:?}");
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(
        stages(&world.history()[0])[..3],
        ["evaluating", "waiting_for_confirmation", "building"]
    );

    // Who does not want to wait may confirm it.
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["confirm", "build"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "third");
}

/// A flake is evaluated without a look at the machine, and nobody has confirmed any more than that.
#[test]
fn what_waits_to_be_built_reads_no_file_of_the_machine() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("build"));
    let secret = world.path("secret");
    fs::write(&secret, "geheim").unwrap();
    for name in ["evil.nix", "evil.drv"] {
        let file = format!(
            "builtins.toFile {name:?} ''throw (builtins.readFile {:?})''",
            secret.display().to_string()
        );
        let system = format!("{{ drvPath = {file}; outPath = builtins.toFile \"out\" \"\"; }}");
        origin.commit(name, &System::instead(&system));
        let said = Said::of(&world.command(&["run"]).output().unwrap());
        assert!(!said.err.contains("geheim"), "{said:?}");
        assert_eq!(world.running(), "first");
    }
}

/// By hand, for what waits may be the very commit that would change it.
#[test]
fn who_has_to_confirm_may_change_meanwhile() {
    need!("git", "nix", "faketime");
    let (mut world, origin) = asking(&manual("build"));
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["fetch", "origin"], 0);
    assert!(!wanted(&world).exists());

    world.configure(|config| {
        config["build_confirmer"] = json!({"mode": "auto", "autoconfirm_duration": 3600});
    });
    world.shifted("+61m", &["fetch", "origin"]);
    assert!(wanted(&world).exists(), "it is due by now");
    world.comin(&["deploy"], 0);
    waiting(&world);

    world.configure(|config| config["build_confirmer"] = json!({"mode": "without"}));
    world.comin(&["fetch", "origin"], 0);
    assert!(wanted(&world).exists(), "nobody has to confirm it");
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
}

#[test]
fn no_time_to_object_is_no_wait() {
    need!("git", "nix");
    let now = json!({"mode": "auto", "autoconfirm_duration": 0});
    let (world, origin) = asking(&json!({"build_confirmer": now, "deploy_confirmer": now}));
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    assert_eq!(world.running(), "second");
    assert_eq!((evaluations(&world), world.history().len()), (1, 2));
}

#[test]
fn a_confirmation_is_of_no_other_commit() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("build"));
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let third = origin.commit("third", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let said = world.comin(&["confirm"], 1);
    let refused = format!(
        "{} (origin/main) is not confirmed: {} (origin/main) has been selected meanwhile",
        &second[..8],
        &third[..8]
    );
    assert!(said.err.contains(&refused), "{said:?}");
    assert!(!order(&world).exists());
    let said = world.comin(&["deploy"], 0);
    let stopped = format!("Stopped waiting for confirmation: {}", &second[..8]);
    assert!(said.err.contains(&stopped), "{said:?}");
    assert_eq!(world.history()[1]["status"], "skipped");
    assert_eq!(waiting(&world)["commit"], third.as_str());

    // It was confirmed, and is overtaken before the deploy.
    world.comin(&["confirm"], 0);
    let fourth = origin.commit("fourth", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(waiting(&world)["commit"], fourth.as_str());
    assert_eq!(world.switches(), ["switch first"]);
    world.comin(&["confirm"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch first", "switch fourth"]);
}

#[test]
fn what_was_taken_back_or_cannot_be_fetched_is_not_confirmed() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("deploy"));
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    let away = world.path("away");
    fs::rename(&origin.path, &away).unwrap();
    world.comin(&["fetch", "origin"], 1);
    let said = world.comin(&["confirm"], 1);
    assert!(
        said.err.contains("no branch qualifies any more"),
        "{said:?}"
    );
    // An outage is no reason not to wait.
    world.comin(&["deploy"], 0);
    waiting(&world);
    fs::rename(&away, &origin.path).unwrap();
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    world.comin(&["run"], 0);
    assert_eq!(world.status()["phase"], "idle");
    assert_eq!(world.history()[0]["status"], "skipped");
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn a_suspension_outlasts_a_confirmation_and_a_confirmation_is_not_lost() {
    need!("git", "nix", "faketime");
    let (world, origin) = asking(&manual("build"));
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    world.comin(&["suspend"], 0);
    let said = world.comin(&["confirm"], 0);
    assert!(
        said.err
            .contains("The deployment still waits: comin is suspended"),
        "{said:?}"
    );
    let given = fs::read(order(&world)).unwrap();
    // The request went with a deploy that died: the next poll finds the order.
    fs::remove_file(wanted(&world)).unwrap();
    world.comin(&["fetch", "origin"], 0);
    assert!(wanted(&world).exists());
    noting(&world, &["deploy"]);
    assert!(!order(&world).exists());
    waiting(&world);
    assert_eq!(world.switches(), ["switch first"]);

    // Killed when it was recorded, and before it was removed, it is taken once more.
    fs::write(order(&world), given).unwrap();
    let said = noting(&world, &["deploy"]);
    assert!(!said.err.contains("confirmed"), "{said:?}");
    assert!(!order(&world).exists());
    world.comin(&["resume"], 0);
    noting(&world, &["deploy"]);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(evaluations(&world), 1);
}

#[test]
fn what_was_taken_back_is_confirmed_anew_when_it_comes_back() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("deploy"));
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["suspend"], 0);
    world.comin(&["confirm"], 0);
    // That takes it up, and it still has to wait.
    world.comin(&["deploy"], 0);
    origin.git(&["branch", "--quiet", "--move", "away"]);
    world.comin(&["run"], 0);
    assert_eq!(world.history()[0]["status"], "skipped");
    world.comin(&["resume"], 0);
    origin.git(&["branch", "--quiet", "testing-m", "away"]);
    world.comin(&["run"], 0);
    assert_eq!(waiting(&world)["subject"], "tested");
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn a_rollback_by_hand_ends_the_wait_and_a_retry_does_not() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("build"));
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    world.comin(&["retry"], 0);
    noting(&world, &["deploy"]);
    waiting(&world);
    world.comin(&["confirm"], 0);
    noting(&world, &["deploy"]);
    assert_eq!(world.running(), "second");
    assert_eq!(evaluations(&world), 1);

    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["rollback"], 0);
    assert_eq!(world.running(), "first");
    assert_eq!(world.status()["phase"], "idle");
    world.comin(&["run"], 0);
    assert_eq!(world.plan()["action"], "quarantined");
    world.comin(&["confirm"], 1);
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(waiting(&world)["subject"], "third", "it asks again");
}

#[test]
fn what_was_confirmed_and_killed_goes_on_without_a_question() {
    need!("git", "nix");
    let (world, origin) = asking(&both());
    let gate = Gate::new(&world);
    origin.commit("gated", &gate.system);
    world.comin(&["run"], 0);
    world.comin(&["confirm"], 0);
    let mut deploy = start(&world, &["deploy"]);
    gate.await_begun();
    kill_with_descendants(deploy.id());
    deploy.wait().unwrap();
    gate.open();
    world.comin(&["run"], 0);
    assert_eq!(waiting(&world)["awaiting"], "deploy", "and not to be built");

    // In the middle of the switch.
    origin.commit("switched", &{
        let begun = world.path("switching");
        let wait = format!("[ -e {0} ] || {{ touch {0}; sleep 600; }}", begun.display());
        System::with(&format!("activation = \"{wait}\";"))
    });
    for _ in ["build", "deploy"] {
        world.comin(&["run"], 0);
        world.comin(&["confirm"], 0);
    }
    let mut deploy = start(&world, &["deploy"]);
    await_that(|| world.path("switching").exists());
    kill_with_descendants(deploy.id());
    deploy.wait().unwrap();
    // The first only finds what was left behind.
    let _ = world.command(&["run"]).status().unwrap();
    assert_eq!(world.running(), "switched");
    assert_eq!(world.status()["deployed"]["status"], "done");
}

#[test]
fn killed_at_any_moment_nothing_is_asked_twice_or_done_unasked() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("build"));
    let mut dice = Dice::new("confirmations");
    let rounds = times("COMIN_SWEEP_CONFIRMATIONS", 10, 100);
    for n in 0..rounds {
        let label = format!("kill{n}");
        origin.commit(&label, &System::default());
        let before = world.running();
        let killed = |dice: &mut Dice, arguments: &[&str]| {
            let mut comin = start(&world, arguments);
            // Longer than a deployment takes here, mostly.
            thread::sleep(dice.delay(Duration::from_millis(600)));
            kill_with_descendants(comin.id());
            comin.wait().unwrap();
        };
        killed(&mut dice, &["run"]);
        let _ = world.command(&["run"]).status().unwrap();
        waiting(&world);
        assert_eq!(world.running(), before, "nobody has confirmed {label}");
        world.comin(&["confirm"], 0);
        killed(&mut dice, &["deploy"]);
        let _ = world.command(&["run"]).status().unwrap();
        assert_eq!(world.running(), label);
        assert!(!order(&world).exists());
    }
    let switches = world.switches();
    let finished: BTreeSet<&String> = switches.iter().collect();
    assert_eq!(finished.len(), 1 + rounds as usize, "{switches:?}");
}

#[test]
fn what_was_collected_meanwhile_is_made_again_without_a_question() {
    need!("git", "nix");
    let (world, origin) = asking(&both());
    let delete = |path: &str| {
        let mut nix = Command::new("nix-store");
        let deleted = nix
            .args(["--delete", "--ignore-liveness", path])
            .output()
            .unwrap();
        assert!(deleted.status.success(), "{deleted:?}");
    };
    let gcroots = world.path("root/var/lib/comin/gcroots");
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    fs::remove_file(gcroots.join("derivation")).unwrap();
    delete(waiting(&world)["derivation"].as_str().unwrap());
    world.comin(&["confirm"], 0);
    noting(&world, &["deploy"]);
    let waits = waiting(&world);
    assert_eq!(waits["awaiting"], "deploy");
    assert_eq!(evaluations(&world), 2);

    fs::remove_file(gcroots.join(format!("attempt-{}", waits["id"]))).unwrap();
    delete(waits["out"].as_str().unwrap());
    world.comin(&["confirm"], 0);
    noting(&world, &["deploy"]);
    assert_eq!(world.running(), "second");
    assert_eq!(world.history().len(), 2);
}

#[test]
fn a_derivation_that_is_collected_before_its_build_is_evaluated_again() {
    need!("git", "nix");
    let (world, _) = World::new();
    // Nothing keeps it as long as nobody builds it.
    let once = world.path("deleted");
    let script = format!(
        "case \"$1 $2\" in *.drv) [ -e {0} ] || nix-store --delete --ignore-liveness \"$2\" >{0} ;; esac",
        once.display()
    );
    let mut run = world.command_with(&["run"], &[("nix-store", &script)]);
    let said = Said::of(&run.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("was garbage-collected"), "{said:?}");
    assert_eq!(
        (world.running(), world.history().len()),
        ("first".into(), 1)
    );
}

#[test]
fn a_system_that_runs_already_needs_no_confirmation() {
    need!("git", "nix");
    let (world, origin) = asking(&both());
    fs::write(origin.path.join("README"), "read me").unwrap();
    let same = origin.commit_all("words");
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("runs already"), "{said:?}");
    assert_eq!(world.status()["deployed"]["commit"], same.as_str());
}

#[test]
fn what_waits_goes_on_when_nobody_asks_any_more() {
    need!("git", "nix");
    let (mut world, origin) = asking(&manual("build"));
    origin.commit("second", &System::default());
    noting(&world, &["run"]);
    world.configure(|config| {
        config.as_object_mut().unwrap().remove("build_confirmer");
    });
    noting(&world, &["run"]);
    assert_eq!(world.running(), "second");
    assert_eq!(evaluations(&world), 1);
}

#[test]
fn a_damaged_confirmation_confirms_nothing() {
    need!("git", "nix");
    let (world, origin) = asking(&manual("build"));
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    fs::write(order(&world), "{").unwrap();
    let said = world.comin(&["deploy"], 0);
    assert!(said.err.contains("use comin confirm again"), "{said:?}");
    assert!(!order(&world).exists());
    waiting(&world);
}
