//! Moving over from the Go comin: what that leaves in the state folder.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::is_root;
use crate::world::{Repository, System, World};

/// The subject of what the Go comin has deployed.
const FIRST: &str = "first";

/// The state folder as the Go comin leaves it after its deployment of origin's `main`.
fn left_by_go(world: &World, origin: &Repository) {
    let state = state(world);
    fs::create_dir_all(&state).unwrap();

    // It fetches every branch and tag, and evaluates what is not a flake from a branch of its own.
    origin.git(&["branch", "somebody-elses"]);
    origin.git(&["tag", "--annotate", "--message", "a tag", "v1"]);
    let mirror = Repository::at(world, "root/var/lib/comin/repository");
    fs::create_dir(&mirror.path).unwrap();
    mirror.git(&["init", "--quiet", "--bare", "--initial-branch=master"]);
    let url = origin.path.display().to_string();
    mirror.git(&["remote", "add", "origin", &url]);
    mirror.git(&["fetch", "--quiet", "--tags", "origin"]);
    mirror.git(&[
        "update-ref",
        "refs/heads/archive",
        "refs/remotes/origin/main",
    ]);

    let gcroots = state.join("gcroots");
    fs::create_dir(&gcroots).unwrap();
    symlink(out(), gcroots.join("last-built-generation")).unwrap();
    if is_root() {
        // Made with no permissions at all.
        fs::set_permissions(&gcroots, fs::Permissions::from_mode(0o000)).unwrap();
    }
    // The socket of a daemon that is gone.
    drop(UnixListener::bind(state.join("grpc.sock")).unwrap());
    fs::write(state.join("store.json"), store(origin)).unwrap();

    let profiles = world.path("root/nix/var/nix/profiles/system-profiles");
    fs::create_dir_all(&profiles).unwrap();
    symlink(out(), profiles.join("comin-1-link")).unwrap();
    symlink("comin-1-link", profiles.join("comin")).unwrap();
}

fn state(world: &World) -> PathBuf {
    world.path("root/var/lib/comin")
}

fn out() -> &'static str {
    "/nix/store/4q1ypx9ds8fh0gr3xk2n5v7w6z1b0cma-nixos-system-m-26.05"
}

/// `store.json`, as protojson prints it with the names of the fields and those that are empty.
fn store(origin: &Repository) -> String {
    let commit = origin.git(&["rev-parse", "main"]);
    let uuid = "5b1cd8c8-6c0a-4b39-a2fd-3ac1a7f8b2f6";
    let at = "2026-06-01T10:00:00.123456789Z";
    let generation = json!({
        "uuid": "0e3b6c3c-3a0f-4f9f-8f64-3f5c1c0b8c55",
        "repository_path": "/var/lib/comin/repository", "repository_subdir": ".",
        "system_attr": "nixosConfigurations", "hostname": "m",
        "selected_remote_url": "", "selected_remote_name": "origin", "selected_branch_name": "main",
        "selected_commit_id": commit, "selected_commit_msg": format!("{FIRST}\n"),
        "selected_branch_is_testing": false,
        "main_commit_id": commit, "main_remote_name": "main", "main_branch_name": "main",
        "eval_status": "evaluated", "eval_started_at": at, "eval_ended_at": at, "eval_err": "",
        "out_path": out(), "drv_path": format!("{}.drv", out()), "machine_id": "",
        "build_status": "built", "build_reason": "", "build_started_at": at, "build_ended_at": at,
        "build_err": "",
    });
    let deployment = json!({
        "uuid": uuid, "reason": "", "generation": generation,
        "started_at": at, "ended_at": at, "error_msg": "", "restart_comin": false,
        "profile_path": "/nix/var/nix/profiles/system-profiles/comin-1-link", "status": "done",
        "operation_submitted": "switch", "operation": "switch", "operation_reason": "",
        "created_at": at, "current_inhibitors": {}, "new_inhibitors": {},
    });
    let store = json!({
        "deployments": [deployment], "generations": [],
        "deployment_switched": uuid, "deployment_booted": uuid,
        "deployments_boot_entry": [uuid], "deployments_successful": [uuid], "deployments_any": [uuid],
        "deployer": {"is_suspended": false, "suspend_reason": ""},
        "deployment_boot_entry_capacity": 3, "deployment_successful_capacity": 3,
        "deployment_any_capacity": 5,
    });
    store.to_string()
}

/// What is not this comin's: each file as it is.
fn not_ours(world: &World) -> (Vec<u8>, Vec<String>) {
    let files = [
        "var/lib/comin/store.json",
        "var/lib/comin/grpc.sock",
        "var/lib/comin/gcroots/last-built-generation",
        "nix/var/nix/profiles/system-profiles",
    ];
    let files = files.map(|file| world.files(&format!("root/{file}")));
    let store = fs::read(state(world).join("store.json")).unwrap();
    (store, files.into())
}

#[test]
fn the_first_run_takes_over_the_mirror_and_leaves_the_rest_alone() {
    need!("git", "nix");
    let (world, origin) = World::new();
    left_by_go(&world, &origin);
    let before = not_ours(&world);
    let head = world.files("root/var/lib/comin/repository/HEAD");
    let commit = origin.commit("second", &System::default());

    let said = world.comin(&["run"], 0);
    let deployed = format!("Deployed {} (origin/main) by switch", &commit[..8]);
    assert!(said.err.contains(&deployed), "{said:?}");
    assert!(!said.err.contains("damaged"), "{said:?}");
    assert_eq!(world.switches(), ["switch second"]);
    assert_eq!(world.status()["accepted_main"], commit.as_str());
    assert_eq!(world.profile().unwrap(), "system-1-link");
    assert_eq!(not_ours(&world), before);

    // The same repository, without what is not followed.
    assert_eq!(world.files("root/var/lib/comin/repository/HEAD"), head);
    assert_eq!(
        world.mirror_refs(),
        [
            "refs/comin/main",
            "refs/comin/target",
            "refs/heads/archive",
            "refs/remotes/origin/main",
            "refs/tags/v1"
        ]
    );

    let said = world.comin(&["run"], 0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert_eq!(not_ours(&world), before);
}

#[test]
fn what_the_go_comin_has_deployed_is_the_accepted_main_of_the_first_run() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let old = origin.git(&["rev-parse", "HEAD"]);
    let deployed = origin.commit("second", &System::default());
    left_by_go(&world, &origin);
    let before = not_ours(&world);
    origin.git(&["reset", "--quiet", "--hard", &old]);

    // Before anything is changed, this is what a deploy is expected to do.
    world.comin(&["fetch", "origin"], 0);
    let refused = world.plan()["candidates"][0]["refused"].clone();
    assert!(refused.as_str().unwrap().contains("rewound"), "{refused}");
    assert_eq!(world.status()["accepted_main"], deployed.as_str());
    assert!(!state(&world).join("state.json").exists());

    let said = world.comin(&["deploy"], 0).err;
    let taken = format!("The accepted main is {deployed}, because the Go comin deployed it");
    assert!(said.contains(&taken), "{said}");
    assert!(said.contains("store.json"), "{said}");
    assert!(said.contains("(origin/main): rewound"), "{said}");
    let said = world.comin(&["run"], 0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert_eq!(world.switches(), [""; 0]);
    assert_eq!(world.status()["accepted_main"], deployed.as_str());
    assert!(world.mirror_refs().contains(&"refs/comin/main".to_string()));

    // It may be older than what this comin has accepted since.
    let commit = origin.commit("third", &System::default());
    world.comin(&["accept", &commit[..12]], 1);
    world.comin(&["fetch", "origin"], 0);
    world.comin(&["accept", &commit[..12]], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch third"]);
    fs::remove_file(state(&world).join("state.json")).unwrap();
    world.comin(&["run"], 0);
    assert_eq!(world.status()["accepted_main"], commit.as_str());
    assert_eq!(not_ours(&world), before);
}

#[test]
fn a_main_of_the_go_comin_that_no_remote_has_is_no_dead_end() {
    need!("git", "nix");
    let (world, origin) = World::new();
    left_by_go(&world, &origin);
    // Another repository at the same place, and a mirror without the old commits.
    fs::remove_dir_all(state(&world).join("repository")).unwrap();
    fs::remove_dir_all(&origin.path).unwrap();
    let origin = world.repository("origin");
    let commit = origin.commit("rewritten", &System::default());

    let said = world.comin(&["run"], 0).err;
    let cure = format!("→ sudo comin accept {}\n", &commit[..8]);
    assert!(said.contains("(origin/main): diverged"), "{said}");
    assert!(said.contains(&cure), "{said}");
    assert_eq!(world.switches(), [""; 0]);

    world.comin(&["accept", &commit[..8]], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch rewritten"]);
    assert_eq!(world.status()["accepted_main"], commit.as_str());
}

#[test]
fn a_store_json_that_does_not_tell_makes_a_first_run_with_a_warning() {
    need!("git", "nix");
    let (world, origin) = World::new();
    left_by_go(&world, &origin);
    let path = state(&world).join("store.json");
    let unknown = "so main is accepted even if it is older: Failed to find the main in";
    let plan_says = |expected: &str| {
        let plan = world.plan();
        assert_eq!(plan["action"], expected, "{plan}");
    };

    // Suspended, it is not a first run any more only when it goes on.
    world.comin(&["suspend"], 0);
    world.comin(&["fetch", "origin"], 0);
    fs::remove_file(&path).unwrap();
    let fifo = Command::new("mkfifo").arg(&path).status();
    assert!(fifo.unwrap().success());
    let said = world.comin(&["deploy"], 0).err;
    assert!(said.contains(unknown), "{said}");
    assert!(said.contains("store.json: it is no file"), "{said}");
    plan_says("suspended");

    fs::remove_file(&path).unwrap();
    let hostile = json!({"deployments": [
        {"status": "\u{1b}[2Jdone", "generation": {"main_commit_id": "a".repeat(40)}},
        {"status": "done", "generation": {"main_commit_id": "\u{1b}[31m\n<0>refs/heads/main"}},
    ]});
    fs::write(&path, hostile.to_string()).unwrap();
    let said = world.comin(&["deploy"], 0).err;
    assert!(said.contains(unknown), "{said}");
    assert!(said.contains("is not a full commit id"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(world.comin(&["deploy"], 0).err, "");

    world.comin(&["resume"], 0);
    plan_says("deploy");
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), hostile.to_string());
}

#[test]
fn a_mirror_with_files_as_the_go_comin_made_it_before_0_13_is_made_anew() {
    need!("git", "nix");
    let (world, origin) = World::new();
    left_by_go(&world, &origin);
    let before = not_ours(&world);
    let path = world.path("root/var/lib/comin/repository");
    fs::remove_dir_all(&path).unwrap();
    let url = origin.path.display().to_string();
    origin.git(&["clone", "--quiet", &url, path.to_str().unwrap()]);

    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    assert!(!path.join("flake.nix").exists());
    assert_eq!(not_ours(&world), before);
}
