//! comin killed at any moment: the next run reaches the right system, and nothing is lost.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::is_rooted;
use crate::support::sweep::{kill_with_descendants, times, Dice};
use crate::world::{await_that, Repository, System, World};

/// Runs comin, and kills it after a while: it alone, or with all that it has started.
fn run_and_kill(world: &World, arguments: &[&str], after: Duration, alone: bool) {
    let mut comin = world.command(arguments);
    let comin = comin.stdout(Stdio::null()).stderr(Stdio::null());
    let mut comin = comin.spawn().unwrap();
    thread::sleep(after);
    if alone {
        comin.kill().unwrap();
    } else {
        kill_with_descendants(comin.id());
    }
    comin.wait().unwrap();
}

/// How long something takes.
fn time(job: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    job();
    begin.elapsed()
}

fn state(world: &World) -> Value {
    let state = fs::read(world.path("root/var/lib/comin/state.json")).unwrap();
    serde_json::from_slice(&state).unwrap()
}

/// What has to be true of a machine whenever comin has come to an end of its own.
#[track_caller]
fn assert_whole(world: &World, label: &str) {
    assert_eq!(world.running(), label);
    let profiles = world.path("root/nix/var/nix/profiles");
    let boots = fs::read_to_string(profiles.join("system/nixos-version")).unwrap();
    assert_eq!(boots, label);
    let attempts = state(world)["attempts"].as_array().unwrap().clone();
    let ids: Vec<_> = attempts.iter().map(|a| a["id"].as_u64().unwrap()).collect();
    assert!(ids.windows(2).all(|ids| ids[0] < ids[1]), "{ids:?}");
    let running = attempts.iter().find(|a| a["status"] == "running");
    assert_eq!(running, None);
    let latest = attempts.last().unwrap();
    assert_eq!(latest["status"], "done", "{latest:#}");
    assert_eq!(latest["subject"], label);
    // One file of each kind.
    let folders = ["root/var/lib/comin", "root/run/comin"].map(|folder| world.path(folder));
    let files = folders.map(|folder| fs::read_dir(folder).unwrap().count());
    assert!(files[0] <= 10 && files[1] <= 10, "{files:?}");
}

/// What a fetch that was killed leaves in the mirror.
fn leftovers(world: &World) -> Vec<String> {
    let mirror = world.path("root/var/lib/comin/repository");
    let mut find = Command::new("find");
    find.arg(mirror)
        .args(["-name", "*.lock", "-o", "-name", "*_git2_*"])
        .args(["-o", "-path", "*/incoming/*/*"]);
    let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
    found.lines().map(str::to_string).collect()
}

/// Whether Nix would keep the system that runs, as far as comin's own roots go.
#[track_caller]
fn assert_rooted(world: &World) {
    let runs = fs::canonicalize(world.path("root/run/current-system")).unwrap();
    let mut nix = Command::new("nix-store");
    let roots = nix.args(["--gc", "--print-roots"]).output().unwrap();
    let roots = String::from_utf8(roots.stdout).unwrap();
    let root = format!(
        "{}/attempt-",
        world.path("root/var/lib/comin/gcroots").display()
    );
    assert!(is_rooted(&roots, &root, runs.to_str().unwrap()), "{roots}");
}

#[test]
fn killed_at_any_moment_the_next_run_deploys() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("undisturbed", &System::default());
    let longest = time(|| drop(world.comin(&["run"], 0)));
    let mut dice = Dice::new("kills");
    for n in 0..times("COMIN_SWEEP_KILLS", 50, 200) {
        let label = format!("kill{n}");
        origin.commit(&label, &System::default());
        let (after, alone) = (dice.delay(longest), n.is_multiple_of(2));
        run_and_kill(&world, &["run"], after, alone);
        let activation = fs::read_to_string(world.path("root/run/comin/activation.json"));
        let ended = activation
            .is_ok_and(|record| record.contains(&label) && !record.contains("\"ended\":null"));
        let said = world.comin(&["run"], 0);
        let case = format!("{label} after {after:?}, alone: {alone}, {said:?}");
        assert_eq!(world.running(), label, "{case}");
        assert_whole(&world, &label);
        // A switch outlives comin; only one that was killed with it is run again.
        let wanted = format!("switch {label}");
        let switches = world.switches().iter().filter(|s| **s == wanted).count();
        assert!(
            switches == 1 || (switches == 2 && !alone && !ended),
            "{case}"
        );
        if n.is_multiple_of(10) {
            assert_rooted(&world);
        }
    }
    assert_rooted(&world);
}

#[test]
fn a_fetch_that_is_killed_leaves_a_mirror_that_works() {
    need!("git");
    let (world, origin) = World::new();
    world.comin(&["fetch", "origin"], 0);
    // Large enough to be in the midst of it, and random enough not to be compressed away.
    let mut dice = Dice::new("fetches");
    let mut grow = || {
        let mut bytes = Vec::with_capacity(1 << 20);
        while bytes.len() < 1 << 20 {
            bytes.extend(dice.below(u64::MAX).to_le_bytes());
        }
        fs::write(origin.path.join("large"), bytes).unwrap();
        (origin.commit_all("large"), dice.below(1000))
    };
    grow();
    let longest = time(|| drop(world.comin(&["fetch", "origin"], 0)));
    for _ in 0..times("COMIN_SWEEP_FETCHES", 50, 200) {
        let (commit, part) = grow();
        let after = longest * u32::try_from(part).unwrap() / 1000;
        run_and_kill(&world, &["fetch", "origin"], after, true);
        world.comin(&["fetch", "origin"], 0);
        assert_eq!(world.mirrored("origin/main").unwrap(), commit);
    }
    // What the last one left goes with the next fetch.
    grow();
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(leftovers(&world), [""; 0]);
    Repository::at(&world, "root/var/lib/comin/repository").git(&["fsck", "--no-dangling"]);
}

#[test]
fn what_a_killed_fetch_left_locked_is_unlocked() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let mirror = world.path("root/var/lib/comin/repository");
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let locks = [
        "refs/remotes/origin/main.lock",
        "refs/remotes/origin/testing-m.lock",
        "refs/comin/target.lock",
        "refs/comin/main.lock",
        "objects/pack/pack-0123.idx.lock",
        "objects/pack/pack_git2_0123",
        "packed-refs.lock",
    ];
    let lock = |locks: &[&str]| {
        for lock in locks {
            let lock = mirror.join(lock);
            // Where all references are packed, their folders are gone.
            fs::create_dir_all(lock.parent().unwrap()).unwrap();
            fs::write(lock, "").unwrap();
        }
    };
    // A head that moves, a branch that goes, and a remote that goes.
    Repository::at(&world, "root/var/lib/comin/repository").git(&["pack-refs", "--all"]);
    lock(&locks);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_whole(&world, "second");
    assert_eq!(leftovers(&world), [""; 0]);
    lock(&locks[..1]);
    world.configure(|config| config["remotes"][0]["name"] = "other".into());
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_whole(&world, "third");
    assert_eq!(leftovers(&world), [""; 0]);
}

#[test]
fn whatever_is_damaged_in_the_mirror_the_next_commit_is_deployed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let mut dice = Dice::new("damages");
    for n in 0..times("COMIN_SWEEP_DAMAGES", 15, 100) {
        let mut find = Command::new("find");
        find.arg(world.path("root/var/lib/comin/repository"))
            .args(["-type", "f"]);
        let files = String::from_utf8(find.output().unwrap().stdout).unwrap();
        let mut files: Vec<_> = files.lines().collect();
        files.sort_unstable();
        let file = files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let mut content = fs::read(file).unwrap();
        let damage = match dice.below(3) {
            0 => {
                fs::remove_file(file).unwrap();
                "removed"
            }
            1 => {
                content.truncate(content.len() / 2);
                "truncated"
            }
            _ => {
                content.fill(0);
                "zeroed"
            }
        };
        if damage != "removed" {
            // They are read-only, for everybody but root.
            fs::remove_file(file).unwrap();
            fs::write(file, content).unwrap();
        }
        let label = format!("damage{n}");
        let main = origin.commit(&label, &System::default());
        // The first run may find the damage only while it evaluates.
        let first = world.command(&["run"]).output().unwrap();
        let second = world.command(&["run"]).output().unwrap();
        let case = format!("{file} {damage}: {first:?} {second:?}");
        assert_eq!(world.running(), label, "{case}");
        assert_eq!(world.status()["accepted_main"], main.as_str(), "{case}");
    }
}

/// Starts a deployment of a system whose activation waits, and kills all of it there.
fn cut_power_while_activating(world: &World) {
    let begun = world.path("begun");
    let mut comin = world.command(&["run"]);
    let mut comin = comin.stderr(Stdio::null()).spawn().unwrap();
    await_that(|| begun.exists());
    kill_with_descendants(comin.id());
    comin.wait().unwrap();
    fs::remove_file(begun).unwrap();
}

/// A system that says when it is being activated, and waits there until there is a file `open`.
fn waiting(world: &World) -> System {
    let (begun, open) = (world.path("begun"), world.path("open"));
    System::with(&format!(
        "activation = \"touch {}; while [ ! -e {} ]; do sleep 0.01; done\";",
        begun.display(),
        open.display()
    ))
}

#[test]
fn the_way_back_outlives_attempts_that_came_to_nothing() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let check = format!("test ! -e {}", world.path("ill").display());
    world.configure(|config| config["health_check"] = serde_json::json!({"commands": [check]}));
    origin.commit("half", &waiting(&world));
    cut_power_while_activating(&world);
    assert_eq!(world.profile().unwrap(), "system-2-link");
    // The next one comes to nothing as well, before it reaches the machine.
    origin.commit("broken", &System::instead("throw \"broken\""));
    world.comin(&["run"], 1);
    fs::write(world.path("ill"), "").unwrap();
    origin.commit("ill", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Rolled back"), "{said:?}");
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-1-link");
}

#[test]
fn an_activation_that_is_interrupted_again_and_again_is_rolled_back() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("half", &waiting(&world));
    for _ in 0..3 {
        cut_power_while_activating(&world);
    }
    let said = world.comin(&["run"], 1);
    let error = "it was interrupted while activating too often";
    assert!(said.err.contains(error), "{said:?}");
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(world.plan()["action"], "quarantined");
    origin.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    assert_whole(&world, "fixed");
}

#[test]
fn a_runner_whose_order_was_taken_back_does_nothing() {
    need!("git", "nix");
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    let runs = fs::canonicalize(world.path("root/run/current-system")).unwrap();
    // That order has been carried out.
    let said = world.comin(&["activate", "1", runs.to_str().unwrap(), "switch"], 1);
    assert!(
        said.err.contains("no order for this activation any more"),
        "{said:?}"
    );
    assert_eq!(world.switches(), ["switch first"]);
}
