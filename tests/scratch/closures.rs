//! What a deployment has changed, and what one would change, on real Git and real Nix.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{kill_process, Pid, Signal};
use serde_json::{json, Value};

use crate::support::{is_root, isolated, skip, Said};
use crate::world::{await_that, Repository, System, World};

/// A system with a package of this version, and that many bytes of it.
fn with_package(version: &str, bytes: u32) -> System {
    System::with(&format!(
        "extra.package = \"${{derivation {{
            name = \"package-{version}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\";
            PATH = \"/usr/bin:/bin:/run/current-system/sw/bin\";
            args = [ \"-c\" \"head -c {bytes} /dev/zero >$out; :\" ];
        }}}}\";"
    ))
}

fn details(world: &World, number: &str) -> Value {
    serde_json::from_str(&world.comin(&["history", number, "--json"], 0).out).unwrap()
}

fn preview(world: &World) -> Value {
    serde_json::from_str(&world.comin(&["plan", "--build", "--json"], 0).out).unwrap()
}

/// What became of the package.
fn package(closure: &Value) -> Value {
    let changes = closure["changes"].as_array().unwrap();
    let package = changes.iter().find(|c| c["package"] == "package");
    package.cloned().unwrap_or_default()
}

#[test]
fn an_attempt_is_told_in_full_with_what_it_changed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    origin.commit("first", &with_package("1.0", 10_000));
    world.comin(&["run"], 0);
    origin.write("", "second", &with_package("1.1", 50_000));
    let commit = origin.commit_all("second\u{1b}[31m");
    world.comin(&["run"], 0);

    let first = details(&world, "1");
    assert!(
        first["closure"].is_null() && first["before"].is_null(),
        "nothing ran before: {first:#}"
    );
    let second = details(&world, "2");
    assert_eq!(second["id"], 2);
    assert_eq!(second["commit"], commit.as_str());
    assert_eq!(second["status"], "done");
    assert_eq!(second["tries"], 1);
    assert_eq!(second["generation"], 2);
    assert_eq!(second["before"], first["out"]);
    assert!(second["closure"]["unavailable"].is_null());
    assert_eq!(
        package(&second["closure"]),
        json!({"package": "package", "removed": ["1.0"], "added": ["1.1"], "size": 40_038}),
        "{second:#}"
    );
    assert!(second["units"].is_null(), "there is no systemd");
    let stages = second["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|s| s["stage"].clone()).collect();
    assert_eq!(names, ["evaluating", "building", "activating", "checking"]);
    for (stage, next) in stages.iter().zip(&stages[1..]) {
        assert_eq!(stage["ended_at"], next["started_at"]);
    }
    assert_eq!(stages[3]["ended_at"], second["ended_at"]);
    // What the list has of it is the same.
    for (key, value) in world.history()[0].as_object().unwrap() {
        assert_eq!(*value, second[key], "{key}");
    }

    let text = world.comin(&["history", "2"], 0).out;
    for line in [
        &format!(
            "Attempt 2: {} (origin/main) by switch: done\n",
            &commit[..8]
        ),
        "  subject    second\u{fffd}[31m\n",
        &format!("  commit     {commit}\n"),
        "  stages     evaluating ",
        &format!(
            "  system     {}, generation 2\n",
            second["out"].as_str().unwrap()
        ),
        &format!("  before     {}\n", first["out"].as_str().unwrap()),
        "package: 1.0 → 1.1, +39.1 KiB\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");

    let said = world.comin(&["history", "7"], 1);
    assert_eq!(said.err, "There is no attempt 7: the history has 1, 2\n");
    let said = world.comin(&["history", "second"], 2);
    assert!(said.err.contains("invalid value 'second'"), "{said:?}");
}

#[test]
fn a_system_that_has_been_collected_is_said_to_be() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let before = details(&world, "2")["before"].clone();
    let before = before.as_str().unwrap();
    for root in [
        "var/lib/comin/gcroots/attempt-1",
        "var/lib/comin/gcroots/before",
        "nix/var/nix/profiles/system-1-link",
    ] {
        fs::remove_file(world.root().join(root)).unwrap();
    }
    let deleted = Command::new("nix-store")
        .args(["--delete", "--ignore-liveness", before])
        .output();
    let deleted = Said::of(&deleted.unwrap());
    assert_eq!(deleted.code, Some(0), "{deleted:?}");

    let closure = details(&world, "2")["closure"].clone();
    let sentence = format!("{before} was garbage-collected");
    assert_eq!(closure, json!({"changes": null, "unavailable": sentence}));
    let text = world.comin(&["history", "2"], 0).out;
    let line = format!("  packages   cannot be compared: {sentence}");
    assert!(text.contains(&line), "{text}");
}

#[test]
fn a_failure_is_told_with_its_cure_as_long_as_it_is_the_latest() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let said = world.comin(&["history", "2"], 1);
    assert_eq!(said.err, "There is no attempt 2: the history has 1\n");
    origin.commit("bad", &System::instead("throw \"on fire\""));
    world.comin(&["run"], 1);
    let failed = details(&world, "2");
    assert!(failed["error"].as_str().unwrap().contains("on fire"));
    assert!(failed["next"]
        .as_str()
        .unwrap()
        .starts_with("tried again at 20"));
    assert!(failed["closure"].is_null() && failed["out"].is_null());
    let text = world.comin(&["history", "2"], 0).out;
    assert!(text.contains("  error      nix eval exited"), "{text}");
    assert!(text.contains("  next       tried again in "), "{text}");

    // The same system under another commit: it runs already.
    origin.git(&["revert", "--no-edit", "HEAD"]);
    world.comin(&["run"], 0);
    assert!(details(&world, "2")["next"].is_null());
    let text = world.comin(&["history", "3"], 0).out;
    assert!(
        text.contains(", generation 1, which ran already\n"),
        "{text}"
    );
}

#[test]
fn attempts_of_an_older_comin_and_odd_ones_are_told_too() {
    need!("git", "nix");
    let (world, _) = World::new();
    let said = world.comin(&["history", "1"], 1);
    assert_eq!(
        said.err,
        "There is no attempt 1: nothing has been deployed yet\n"
    );
    let state = world.path("root/var/lib/comin/state.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states/0.1.json"),
        &state,
    )
    .unwrap();
    for number in 1..=5 {
        let number = number.to_string();
        assert!(details(&world, &number)["units"].is_null());
        let text = world.comin(&["history", &number], 0).out;
        assert!(text.starts_with(&format!("Attempt {number}: ")), "{text}");
    }

    // Whoever could write it is root, and yet none of it is an option to Nix or reaches a terminal.
    let mut odd: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    odd["attempts"][0]["out"] = json!("/nix");
    odd["attempts"][0]["before"] = json!({"system": "/nix/store/\u{1b}[2J"});
    odd["attempts"][0]["units"] = json!({"failed": ["\u{1b}[2J.service"], "reloaded": ["x"]});
    odd["attempts"][1]["out"] = json!("/nix");
    odd["attempts"][1]["before"] = json!({"system": "/"});
    fs::write(&state, odd.to_string()).unwrap();
    let said = world.comin(&["history", "1"], 0);
    assert!(
        said.out.contains("\u{fffd}[2J was garbage-collected"),
        "{said:?}"
    );
    assert!(
        said.out.contains("  units      failed \u{fffd}[2J.service"),
        "{said:?}"
    );
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
    let said = world.comin(&["history", "2"], 0);
    assert!(said.out.contains("/ is not a store path"), "{said:?}");
    odd["attempts"][1]["id"] = json!(u64::MAX);
    fs::write(&state, odd.to_string()).unwrap();
    let said = world.comin(&["history", "2"], 1);
    assert!(said.err.contains("state.json cannot be read"), "{said:?}");
    odd["attempts"][1]["id"] = json!(2);
    fs::write(&state, odd.to_string()).unwrap();
    fs::create_dir(world.path("root/run")).unwrap();
    symlink(
        "/nix/store/\u{1b}[2J",
        world.path("root/run/current-system"),
    )
    .unwrap();
    let said = world.comin(&["status"], 0);
    assert!(said.out.contains("\u{fffd}[2J, which comin"), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
}

/// A machine that runs `first`, and to which `second` has come.
fn with_news(second: &System) -> (World, Repository) {
    let (world, origin) = World::new();
    origin.commit("first", &with_package("1.0", 10_000));
    world.comin(&["run"], 0);
    origin.commit("second", second);
    world.comin(&["fetch", "origin"], 0);
    (world, origin)
}

/// Runs comin with a folder of its own for temporary files, in which nothing may stay.
fn tidily(world: &World, arguments: &[&str]) -> Command {
    let folder = world.path("tmp");
    fs::create_dir_all(&folder).unwrap();
    let mut command = world.command(arguments);
    command.env("TMPDIR", folder);
    command
}

fn left_behind(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.path("tmp")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_plan_builds_what_is_selected_and_changes_nothing() {
    need!("git", "nix");
    let (world, origin) = with_news(&with_package("1.1", 50_000));
    let second = origin.git(&["rev-parse", "HEAD"]);
    let before = world.files("root");

    let plan = preview(&world);
    assert_eq!(plan["action"], "deploy");
    let build = &plan["build"];
    let out = build["out"].as_str().unwrap();
    assert!(Path::new(out).join("nixos-version").exists());
    assert_eq!(build["runs_already"], false);
    assert_eq!(build["before"], world.status()["running"]["out"]);
    assert_eq!(
        package(&build["closure"]),
        json!({"package": "package", "removed": ["1.0"], "added": ["1.1"], "size": 40_038})
    );
    assert_eq!(
        build["dry_activation"],
        json!({"lines": ["would activate the configuration..."], "left_out": null, "error": null})
    );

    let said = Said::of(&tidily(&world, &["plan", "--build"]).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        &format!(
            "Would deploy {} (origin/main) by switch, now and at every boot\n",
            &second[..8]
        ),
        &format!("  system     {out}\n"),
        "package: 1.0 → 1.1, +39.1 KiB\n",
        "  units      would activate the configuration...\n",
    ] {
        assert!(said.out.contains(line), "{line:?} is not in {said:?}");
    }
    assert!(said.err.starts_with("Evaluating "), "{said:?}");

    // Not a byte of the machine has changed, and no root is left.
    assert_eq!(world.files("root"), before);
    assert_eq!(world.switches(), ["switch first"]);
    assert_eq!(left_behind(&world), [""; 0].map(PathBuf::from));
    let roots = Command::new("nix-store")
        .args(["--gc", "--print-roots"])
        .output();
    let roots = String::from_utf8(roots.unwrap().stdout).unwrap();
    assert!(
        !roots.contains(world.path("tmp").to_str().unwrap()),
        "{roots}"
    );

    // What a plan has built is what a deployment deploys.
    world.comin(&["run"], 0);
    assert_eq!(world.status()["running"]["out"], out);
    let text = world.comin(&["plan", "--build"], 0).out;
    assert!(text.starts_with("Nothing to do: "), "{text}");
    assert!(
        text.contains(&format!("{out}, which is deployed\n")),
        "{text}"
    );
    assert!(text.contains("packages   none has changed"), "{text}");
    assert!(!text.contains("would activate"), "{text}");
    assert_eq!(preview(&world)["build"]["closure"]["changes"], json!([]));
}

#[test]
fn a_plan_without_a_target_or_a_running_system_is_one_too() {
    need!("git", "nix");
    let (world, _) = World::new();
    assert!(preview(&world)["build"].is_null());
    let text = world.comin(&["plan", "--build"], 0).out;
    assert!(
        text.starts_with("Nothing to deploy: no remote has been fetched since the boot"),
        "{text}"
    );
    world.comin(&["fetch", "origin"], 0);
    let build = preview(&world)["build"].clone();
    assert!(
        build["before"].is_null() && build["closure"].is_null(),
        "{build:#}"
    );
    let text = world.comin(&["plan", "--build"], 0).out;
    assert!(
        text.contains("there is no running system to compare it with"),
        "{text}"
    );
    assert!(!world.path("root/var/lib/comin/state.json").exists());
}

#[test]
fn what_cannot_be_built_is_a_failure_of_the_plan() {
    need!("git", "nix");
    let (world, origin) = with_news(&System::instead("throw \"on fire\""));
    let failing = |sentence: &str| {
        let before = world.files("root");
        let said = Said::of(&tidily(&world, &["plan", "--build"]).output().unwrap());
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{said:?}");
        assert!(said.err.contains(sentence), "{said:?}");
        assert_eq!(world.files("root"), before);
        assert_eq!(left_behind(&world), [""; 0].map(PathBuf::from));
    };
    let commit = origin.git(&["rev-parse", "HEAD"]);
    failing(&format!(
        "Failed to evaluate {} (origin/main): nix eval exited with status 1: error: on fire",
        &commit[..8]
    ));

    let next = |subject: &str, toplevel: &str| {
        origin.commit(subject, &System::instead(toplevel));
        world.comin(&["fetch", "origin"], 0);
    };
    let builder = |script: &str| {
        format!(
            "derivation {{ name = \"x\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"{script}\" ]; }}"
        )
    };
    next("broken", &builder("echo out of paper; exit 1"));
    failing("out of paper");
    next("file", &builder("echo >$out; :"));
    failing("is not a NixOS system: it has no nixos-version");
}

#[test]
fn a_plan_for_another_machine_is_not_built() {
    need!("git", "nix");
    let (world, _) = with_news(&System {
        machine_id: "\"other\"".to_string(),
        ..System::default()
    });
    let build = preview(&world)["build"].clone();
    let reason = build["skipped"].as_str().unwrap();
    assert!(
        reason.starts_with("services.comin.machineId is \"other\""),
        "{reason}"
    );
    assert!(build["out"].is_null());
    let text = world.comin(&["plan", "--build"], 0).out;
    assert!(
        text.contains("  skipped    services.comin.machineId"),
        "{text}"
    );
}

/// A system whose `switch-to-configuration` is this script, for any action.
fn with_switch(script: &str) -> System {
    System::with(&format!(
        "extra.\"bin/switch-to-configuration\" = ''#!/bin/sh\n{script}\n'';"
    ))
}

#[test]
fn what_the_switch_says_is_shown_whatever_it_is() {
    need!("git", "nix", "flock");
    let (world, origin) = with_news(&with_switch(
        "printf 'would restart the following units: \\033[31ma.service\\n\\n' >&2; echo $1; seq 1000",
    ));
    let dry_activation = || preview(&world)["build"]["dry_activation"].clone();
    let lines = dry_activation()["lines"].clone();
    let lines = lines.as_array().unwrap();
    assert_eq!(
        lines[..3],
        [
            "would restart the following units: \u{fffd}[31ma.service",
            "dry-activate",
            "1"
        ]
    );
    assert_eq!(lines.len(), 200);

    // One at a time, or the activation would fail.
    let lock = world.path("root/run/comin/activation.lock");
    let mut flock = Command::new("flock");
    flock.arg(&lock).args(["sh", "-c", "echo; read x"]);
    let mut holder = Holder::of(&mut flock);
    let busy =
        json!({"lines": null, "left_out": "another system is being activated", "error": null});
    assert_eq!(dry_activation(), busy);
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();

    let next = |subject: &str, script: &str| {
        origin.commit(subject, &with_switch(script));
        world.comin(&["fetch", "origin"], 0);
    };
    next("busy", "exit 11");
    assert_eq!(dry_activation(), busy);
    next(
        "failing",
        "echo a; echo \"Pre-switch checks failed\"; exit 1",
    );
    let said = world.comin(&["plan", "--build"], 1);
    let error =
        "switch-to-configuration dry-activate exited with status 1: Pre-switch checks failed";
    assert_eq!(said.err.lines().last().unwrap(), error);
    assert!(
        said.out.contains(&format!("  units      {error}\n")),
        "{said:?}"
    );
}

#[test]
fn what_would_restart_nothing_is_not_asked() {
    need!("git", "nix");
    let (mut world, _) = with_news(&with_switch("echo asked"));
    world.configure(|config| {
        config["remotes"][0]["branches"] = json!({"main": {"operation": "boot"}});
    });
    let why = "boot leaves them alone until the next boot";
    assert_eq!(preview(&world)["build"]["dry_activation"]["left_out"], why);
    let text = world.comin(&["plan", "--build"], 0).out;
    let line = format!("  units      what would be restarted is left out: {why}");
    assert!(text.contains(&line), "{text}");
}

/// A child that has begun, and ends with this.
struct Holder(Child);

impl Holder {
    /// Waits for its first line.
    fn of(command: &mut Command) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Shell code that notes in this file what process it is, and does not end.
fn hanging(begun: &Path) -> String {
    let begun = begun.display();
    format!("echo $$ >{begun}.new; mv {begun}.new {begun}; exec sleep 600")
}

#[test]
fn a_plan_that_is_interrupted_takes_along_what_it_awaits_and_leaves_nothing() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let begun = world.path("begun");
    let script = hanging(&begun);
    let building = System::with(&format!(
        "extra.slow = \"${{derivation {{
            name = \"slow\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
            args = [ \"-c\" \"{script}\" ];
        }}}}\";"
    ));
    for (subject, system) in [("built", building), ("asked", with_switch(&script))] {
        origin.commit(subject, &system);
        world.comin(&["fetch", "origin"], 0);
        let mut command = tidily(&world, &["plan", "--build"]);
        let mut comin = command.stdout(Stdio::null()).spawn().unwrap();
        await_that(|| begun.exists());
        let is_ours = |path: &PathBuf| path.to_str().unwrap().contains("/comin-plan-");
        assert!(left_behind(&world).iter().any(is_ours));
        let child = fs::read_to_string(&begun).unwrap();
        let child = Path::new("/proc").join(child.trim());
        assert!(child.exists());
        kill_process(Pid::from_child(&comin), Signal::INT).unwrap();
        let ended = comin.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::INT.as_raw()), "{subject}");
        await_that(|| !child.exists());
        assert_eq!(left_behind(&world), [""; 0].map(PathBuf::from));
        fs::remove_file(&begun).unwrap();
    }
}

#[test]
fn who_interrupts_twice_waits_no_longer() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let (begun, told) = (world.path("begun"), world.path("told"));
    // It goes on, whatever it is asked.
    let script = format!(
        "trap ': >{}' TERM; : >{}; while :; do sleep 600 & wait; done",
        told.display(),
        begun.display()
    );
    origin.commit("stubborn", &with_switch(&script));
    world.comin(&["fetch", "origin"], 0);
    let mut command = tidily(&world, &["--debug", "plan", "--build"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let comin = command.spawn().unwrap();
    let interrupt = || kill_process(Pid::from_child(&comin), Signal::INT).unwrap();
    await_that(|| begun.exists());
    interrupt();
    await_that(|| told.exists());
    interrupt();
    let ended = comin.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()));
    let said = Said::of(&ended);
    assert!(!said.err.contains("A child did not end"), "{said:?}");
    assert_eq!(left_behind(&world), [""; 0].map(PathBuf::from));
}

/// A Nix daemon that builds for everybody, at a socket of its own.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(world: &World) -> Self {
        let socket = world.path("daemon/socket");
        let mut daemon = Command::new("nix-daemon");
        isolated(&mut daemon, &world.path("home"));
        daemon.env("NIX_DAEMON_SOCKET_PATH", &socket);
        let child = daemon.stderr(Stdio::null()).spawn().unwrap();
        await_that(|| socket.exists());
        Self { child, socket }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn anybody_may_ask_although_the_mirror_is_roots() {
    need!("git", "nix", "nix-daemon", "setpriv");
    if !is_root() {
        skip("only root can become somebody else");
        return;
    }
    let (world, _) = with_news(&with_package("1.1", 50_000));
    let home = world.path("nobody");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    // Wherever the project is, nobody may be kept out of there.
    let program = world.path("comin");
    fs::copy(env!("CARGO_BIN_EXE_comin"), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.path(""), open).unwrap();
    let daemon = Daemon::start(&world);
    let before = world.files("root");
    let ask = |arguments: &[&str]| {
        let comin = world.command(arguments);
        let mut setpriv = Command::new("setpriv");
        isolated(&mut setpriv, &home);
        setpriv
            .env("TMPDIR", &home)
            .env("NIX_REMOTE", "daemon")
            .env("NIX_DAEMON_SOCKET_PATH", &daemon.socket)
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&program)
            .args(comin.get_args());
        Said::of(&setpriv.output().unwrap())
    };
    let said = ask(&["plan", "--build", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let build = serde_json::from_str::<Value>(&said.out).unwrap()["build"].clone();
    assert_eq!(package(&build["closure"])["added"], json!(["1.1"]));
    let why = build["dry_activation"]["left_out"].as_str().unwrap();
    assert!(why.contains("activation.lock: Permission denied"), "{why}");
    let left = fs::read_dir(&home)
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_str().unwrap().starts_with("comin"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.files("root"), before);

    let said = ask(&["history", "1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // It is the very system that root gets.
    assert_eq!(preview(&world)["build"]["out"], build["out"]);
}
