//! What only a boot breaks: the machine goes back to the system before, once.

use std::fs;
use std::path::PathBuf;

use serde_json::{json, Value};

use crate::support::Said;
use crate::world::{boot, Repository, System, World};

/// A system that is well until it has booted.
fn ill() -> System {
    System::with(r#"extra = { ill = ""; };"#)
}

/// A machine that has booted the system of its first commit, which was found good.
fn booted() -> (World, Repository) {
    let (mut world, origin) = World::new();
    let booted = world.path("root/run/booted-system");
    world.configure(|config| {
        let check = format!("test ! -e {}/ill", booted.display());
        config["health_check"] = json!({"commands": [check], "connectivity_timeout": 20});
        config["boot_check"] = json!({"enable": true, "timeout": 0});
    });
    origin.commit("first", &System::default());
    boot::begin(&world);
    world.comin(&["run"], 0);
    let said = boot_and_run(&world, 0);
    assert_eq!(count(&said, "is well after its first boot"), 1, "{said:?}");
    (world, origin)
}

fn boot_and_run(world: &World, code: i32) -> Said {
    boot::boot(world);
    world.comin(&["run"], code)
}

fn count(said: &Said, text: &str) -> usize {
    said.err.matches(text).count()
}

fn next_boot(world: &World) -> String {
    let system = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    fs::read_to_string(PathBuf::from(system.trim()).join("nixos-version")).unwrap()
}

/// What has to be true after a fallback to the first system.
#[track_caller]
fn assert_fallen_back(world: &World, error: &str) {
    let status = world.status();
    let deployed = &status["deployed"];
    assert_eq!(deployed["status"], "rolled_back", "{status:#}");
    assert_eq!(deployed["error"], error);
    assert_eq!(status["action"], "quarantined");
    assert_eq!(status["drift"], Value::Null);
    assert_eq!(status["need_to_reboot"], false);
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(next_boot(world), "first");
}

#[test]
fn system_that_is_bad_after_its_first_boot_is_undone_by_one_reboot() {
    need!("git", "nix");
    let (world, origin) = booted();
    let bad = origin.commit("bad", &ill());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "bad");

    let said = boot_and_run(&world, 1);
    let name = format!("{} (origin/main)", &bad[..8]);
    for line in [
        format!("Checking {name} after its first boot\n"),
        format!("Rolling back {name} after its first boot: the health check exited"),
        "the machine reboots to complete the rollback\n".to_string(),
    ] {
        assert_eq!(count(&said, &line), 1, "{line}: {said:?}");
    }
    assert_eq!(world.status()["phase"], "idle");
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(next_boot(&world), "first");
    // Until it has rebooted, nothing is deployed.
    let said = world.comin(&["run"], 1);
    assert_eq!(count(&said, "the machine reboots"), 1, "{said:?}");
    assert_eq!(count(&world.comin(&["boot-check"], 1), "Checking"), 0);

    let said = boot_and_run(&world, 1);
    let check = "test ! -e".to_string();
    assert_eq!(count(&said, &format!("Rolled back {name}")), 1, "{said:?}");
    let error = world.status()["deployed"]["error"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(error.contains(&check), "{error}");
    assert_fallen_back(&world, &error);
    world.comin(&["boot-check"], 0);
    boot_and_run(&world, 1);
    assert_fallen_back(&world, &error);
    let switches = ["switch first", "switch bad", "boot first", "boot first"];
    assert_eq!(world.switches(), switches);

    origin.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    let said = boot_and_run(&world, 0);
    assert_eq!(count(&said, "is well after its first boot"), 1, "{said:?}");
    assert_eq!(world.running(), "fixed");
}

#[test]
fn outage_at_the_first_boot_leads_back_and_does_not_hold_the_commit() {
    need!("git", "nix");
    let (world, origin) = booted();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let away = origin.path.with_extension("away");
    fs::rename(&origin.path, &away).unwrap();
    boot_and_run(&world, 1);
    assert_eq!(next_boot(&world), "first");
    boot_and_run(&world, 1);
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "rolled_back", "{status:#}");
    assert_eq!(world.running(), "first");

    fs::rename(&away, &origin.path).unwrap();
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    let said = boot_and_run(&world, 0);
    assert_eq!(count(&said, "is well after its first boot"), 1, "{said:?}");

    // From now on, an outage at a boot is only an outage.
    fs::rename(&origin.path, &away).unwrap();
    boot_and_run(&world, 1);
    assert_eq!(world.running(), "second");
    assert_eq!(world.history().len(), 4);
}

#[test]
fn system_that_never_comes_up_after_a_reboot_of_comin_is_held() {
    need!("git", "nix");
    let (mut world, origin) = booted();
    world.configure(|config| config["reboot"] = json!({"allow": true, "delay": 0}));
    let first = fs::read_link(world.path("root/run/booted-system")).unwrap();
    let second = System::with(r#"extra = { kernel = "another"; };"#);
    let commit = origin.commit("second", &second);
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "Rebooting"), 1, "{said:?}");
    boot::boot_into(&world, &first);
    world.comin(&["run"], 1);
    assert_fallen_back(
        &world,
        &format!("it did not come up: {} was booted instead", first.display()),
    );
    assert_eq!(world.status()["deployed"]["commit"], commit.as_str());
    let said = world.comin(&["run"], 1);
    assert_eq!(count(&said, "Rebooting"), 0, "{said:?}");
}

#[test]
fn boot_is_not_judged_while_suspended_or_of_a_testing_branch() {
    need!("git", "nix");
    let (world, origin) = booted();
    origin.commit("bad", &ill());
    world.comin(&["run"], 0);
    world.comin(&["suspend"], 0);
    let said = boot_and_run(&world, 0);
    assert_eq!(count(&said, "first boot"), 0, "{said:?}");
    world.comin(&["boot-check"], 0);
    assert_eq!(world.running(), "bad");
    world.comin(&["resume"], 0);
    assert_eq!(count(&world.comin(&["run"], 1), "Rolling back"), 1);
    world.comin(&["boot-check"], 1);
}
