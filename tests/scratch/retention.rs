//! What is kept of what was deployed, in the profile and against Nix's garbage collection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{is_rooted, isolated};
use crate::world::{System, World};

/// The generations of the system profile.
fn generations(world: &World) -> Vec<u64> {
    let mut generations: Vec<u64> = names(&world.path("root/nix/var/nix/profiles"))
        .iter()
        .filter_map(|name| {
            let name = name.strip_prefix("system-")?;
            name.strip_suffix("-link")?.parse().ok()
        })
        .collect();
    generations.sort_unstable();
    generations
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn roots(world: &World) -> Vec<String> {
    names(&world.path("root/var/lib/comin/gcroots"))
}

fn nix_env(world: &World, arguments: &[&str]) {
    let mut nix = Command::new("nix-env");
    isolated(&mut nix, &world.path("home"));
    nix.arg("--profile")
        .arg(world.path("root/nix/var/nix/profiles/system"))
        .args(arguments);
    assert!(nix.status().unwrap().success());
}

fn system(world: &World) -> PathBuf {
    fs::read_link(world.path("root/run/current-system")).unwrap()
}

#[test]
fn old_generations_of_comins_go_and_those_of_others_stay() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| {
        config["retention"] = json!({"deployment_boot_entry_capacity": 2});
    });
    world.comin(&["run"], 0);
    let first = system(&world);
    std::os::unix::fs::symlink(&first, world.path("root/run/booted-system")).unwrap();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let second = system(&world);
    // Somebody rebuilds by hand what comin has in another generation already.
    nix_env(&world, &["--set", first.to_str().unwrap()]);
    nix_env(&world, &["--set", second.to_str().unwrap()]);
    for label in ["third", "fourth", "fifth", "sixth"] {
        origin.commit(label, &System::default());
        let said = world.comin(&["run"], 0);
        if label == "fifth" {
            assert!(
                said.err.contains("Removed the old generations 5 of "),
                "{said:?}"
            );
        }
    }
    // 1 has booted; 3 and 4 are somebody's; 2 and 5 went.
    assert_eq!(generations(&world), [1, 3, 4, 7, 8]);
    assert_eq!(world.profile().unwrap(), "system-8-link");
    let said = world.comin(&["rollback"], 0);
    assert!(said.err.contains("Rolled back to generation 7"), "{said:?}");
}

#[test]
fn what_is_rolled_back_to_stays() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let running = world.path("root/run/current-system/nixos-version");
    world.configure(|config| {
        config["retention"] = json!({"deployment_boot_entry_capacity": 1});
        let command = format!("! grep bad {} >&2", running.display());
        config["health_check"] = json!({"commands": [command]});
    });
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    // The first is what the latest activation found.
    assert_eq!(generations(&world), [1, 2]);
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    assert_eq!(world.running(), "second");
    // The bad one is not what is deployed, and not comin's to remove.
    assert_eq!(generations(&world), [2, 3]);
    assert_eq!(world.profile().unwrap(), "system-2-link");
}

#[test]
fn roots_are_those_of_the_latest_and_the_latest_successful_attempts() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| {
        config["retention"] =
            json!({"deployment_successful_capacity": 2, "deployment_any_capacity": 3});
    });
    world.comin(&["run"], 0);
    let gcroots = world.path("root/var/lib/comin/gcroots");
    fs::write(gcroots.join("attempt-99"), "of a state that was lost").unwrap();
    fs::write(gcroots.join("mine"), "").unwrap();
    let [second, third] = ["second", "third"].map(|label| {
        origin.commit(label, &System::default());
        world.comin(&["run"], 0);
        system(&world)
    });
    // Evaluates and builds, and is no system.
    let broken = System::instead(
        r#"derivation { name = "broken"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo >$out" ]; }"#,
    );
    for label in ["fourth", "fifth", "sixth"] {
        origin.commit(label, &broken);
        world.comin(&["run"], 1);
    }
    assert_eq!(
        roots(&world),
        [
            "attempt-2",
            "attempt-3",
            "attempt-4",
            "attempt-5",
            "attempt-6",
            "attempt-99",
            "before",
            "mine"
        ]
    );
    // Nix knows them.
    let mut nix = Command::new("nix-store");
    isolated(&mut nix, &world.path("home"));
    let said = nix.args(["--gc", "--print-roots"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for (name, system) in [("attempt-3", &third), ("before", &second)] {
        let root = gcroots.join(name);
        let (root, system) = (root.to_str().unwrap(), system.to_str().unwrap());
        assert!(is_rooted(&said, root, system), "{said}");
    }
}

#[test]
fn what_cannot_be_tidied_up_costs_no_deployment() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    // A folder where the root of the first attempt was, and capacities that it exceeds.
    let root = world.path("root/var/lib/comin/gcroots/attempt-1");
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    for label in ["second", "third", "fourth", "fifth", "sixth"] {
        origin.commit(label, &System::default());
        let said = world.comin(&["run"], 0);
        let failed = said.err.contains("Failed to remove old systems");
        assert_eq!(failed, label == "sixth", "{said:?}");
    }
    assert_eq!(world.running(), "sixth");
}
