//! What a machine may run into: a full disk, a folder that cannot be written, a clock that is wrong, and
//! input of any size. Each ends with a clear error or a completed deployment, and nothing is lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{json, Value};

use crate::support::{is_root, isolated, skip, Said};
use crate::world::{await_that, building, Repository, System, World};

// ---- full disks and read-only folders

/// Something mounted, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts, where this machine lets us.
    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        if !is_root() {
            skip("mounting needs root");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(arguments).arg(at).output().unwrap();
        if !mounted.status.success() {
            skip(&format!("mounting is not allowed here: {mounted:?}"));
            return None;
        }
        Some(Self(at.to_path_buf()))
    }

    /// A small disk.
    fn disk(at: &Path, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        Self::new(&["-t", "tmpfs", "-o", &size, "comin-test"], at)
    }

    /// The same folder, which cannot be written.
    fn read_only(at: &Path) -> Option<Self> {
        let folder = at.to_str().unwrap();
        Self::new(&["-o", "bind,ro", folder], at)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills the disk, but for so many bytes.
    fn fill_but(&self, bytes: usize) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        while filler.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
        let full = filler.metadata().unwrap().len();
        filler.set_len(full.saturating_sub(bytes as u64)).unwrap();
    }

    fn tidy(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let _ = umount.arg("--lazy").arg(&self.0).status();
    }
}

/// What nobody wants to lose.
fn kept(world: &World) -> Value {
    let state = fs::read(world.path("root/var/lib/comin/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    json!([state["accepted_main"], state["attempts"][0]])
}

#[track_caller]
fn assert_says(said: &Said, words: &[&str]) {
    for word in words {
        assert!(said.err.contains(word), "{word:?} in {said:?}");
    }
}

#[test]
fn a_full_disk_below_the_state_loses_nothing() {
    need!("git", "nix", "mount");
    let (world, origin) = World::new();
    let Some(disk) = Mount::disk(&world.path("root/var/lib/comin"), "2M") else {
        return;
    };
    let Some(_mirror) = Mount::disk(&world.path("root/var/lib/comin/repository"), "8M") else {
        return;
    };
    world.comin(&["run"], 0);
    for (n, left) in [0, 4096, 8192].into_iter().enumerate() {
        let before = kept(&world);
        disk.fill_but(left);
        let label = format!("next{n}");
        let main = origin.commit(&label, &System::default());
        let said = Said::of(&world.command(&["run"]).output().unwrap());
        if said.code == Some(0) {
            assert_eq!(world.running(), label);
        } else {
            assert_says(&said, &["state.json: No space left on device"]);
            assert_eq!(kept(&world)[1], before[1]);
        }
        assert_eq!(world.status()["phase"], "idle");
        disk.tidy();
        world.comin(&["run"], 0);
        assert_eq!(world.running(), label);
        assert_eq!(kept(&world), json!([main, before[1]]));
        assert!(!world.history().iter().any(|a| a["status"] == "running"));
        let switch = format!("switch {label}");
        let switches = world.switches();
        assert_eq!(switches.iter().filter(|s| **s == switch).count(), 1);
    }
}

#[test]
fn a_full_disk_below_the_mirror_is_a_fetch_that_fails() {
    need!("git", "nix", "mount");
    let (world, origin) = World::new();
    let mirror = world.path("root/var/lib/comin/repository");
    let Some(disk) = Mount::disk(&mirror, "64M") else {
        return;
    };
    world.comin(&["run"], 0);
    let mut noise = 1_u64;
    for left in [0, 4096, 64 * 1024, 512 * 1024, 1024 * 1024, 2 * 1024 * 1024] {
        disk.fill_but(left);
        // Does not compress.
        let mut bytes = Vec::new();
        while bytes.len() < 3 << 20 {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            bytes.extend(noise.to_be_bytes());
        }
        fs::write(origin.path.join("large"), bytes).unwrap();
        let label = format!("left{left}");
        origin.commit(&label, &System::default());
        let said = world.comin(&["run"], 1);
        assert_says(
            &said,
            &[
                "Failed to fetch origin from",
                ": the disk is full: ",
                "No space left on device",
            ],
        );
        let status = world.status();
        assert!(status["remotes"][0]["error"].is_string(), "{status:#}");
        disk.tidy();
        world.comin(&["run"], 0);
        assert_eq!(world.running(), label);
    }
}

#[test]
fn a_full_run_folder_is_a_sentence() {
    need!("git", "nix", "mount");
    let (world, origin) = World::new();
    let Some(disk) = Mount::disk(&world.path("root/run/comin"), "64k") else {
        return;
    };
    world.comin(&["run"], 0);
    let before = kept(&world);
    disk.fill_but(0);
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert_says(&said, &["root/run/comin/", "No space left on device"]);
    assert_eq!(kept(&world), before);
    disk.tidy();
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn run_folder_that_is_full_during_a_build_fails_no_build() {
    need!("git", "nix", "mount");
    let (world, origin) = World::new();
    let Some(disk) = Mount::disk(&world.path("root/run/comin"), "64k") else {
        return;
    };
    world.comin(&["run"], 0);
    let (_, mut deploy, open) = building(&world, &origin);
    disk.fill_but(0);
    fs::write(world.path("root/run/comin/wanted"), "").unwrap();
    let mut said = BufReader::new(deploy.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("No space left on device")));
    disk.tidy();
    open();
    let failure = said
        .map(Result::unwrap)
        .find(|line| line.contains("Failed to"));
    assert_eq!(failure, None);
    assert!(deploy.wait().unwrap().success());
    assert_eq!(world.running(), "gated");
}

#[test]
fn gate_that_cannot_be_recorded_is_not_the_fault_of_the_commit() {
    need!("git", "nix", "mount");
    let (mut world, origin) = World::new();
    let Some(disk) = Mount::disk(&world.path("root/run/comin"), "64k") else {
        return;
    };
    world.comin(&["run"], 0);
    let filler = disk.filler();
    world.configure(|config| {
        let command = format!("cat /dev/zero >{}; echo locked; exit 75", filler.display());
        config["gates"] = json!({"lock": {"before": "deploy", "command": command}});
    });
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert_says(&said, &["root/run/comin/", "No space left on device"]);
    disk.tidy();
    let oneline = world.comin(&["status", "--oneline"], 0).out;
    assert!(oneline.starts_with("postponed "), "{oneline}");
    world.configure(|config| config["gates"] = json!({}));
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn a_disk_that_is_full_while_nix_builds_fails_the_build_and_it_is_tried_again() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| config["retry"] = json!({"first_delay": 1}));
    world.comin(&["run"], 0);
    let full = world.path("full");
    fs::write(&full, "").unwrap();
    let build = format!(
        r#"let system = import ./system {{ label = "second"; scratch = {:?}; }};
        in derivation {{
            name = "second"; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-ec" "if [ -e {} ]; then echo x | tee /dev/full >&2; exit 1; fi; cp -r ${{system}} $out; :" ];
        }}"#,
        world.root(),
        full.display()
    );
    origin.commit("second", &System::instead(&build));
    let said = world.comin(&["run"], 1);
    assert_says(
        &said,
        &[
            "No space left on device",
            "Failed to deploy",
            ": the disk is full: ",
        ],
    );
    assert_eq!(world.history()[0]["status"], "failed");
    assert_eq!(world.running(), "first");
    fs::remove_file(full).unwrap();
    await_that(|| {
        world.comin(&["fetch", "origin"], 0);
        world.path("root/run/comin/wanted").exists()
    });
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn a_read_only_folder_is_a_sentence() {
    need!("git", "nix", "mount");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    for (n, folder) in ["root/var/lib/comin", "root/run/comin"].iter().enumerate() {
        let label = format!("next{n}");
        origin.commit(&label, &System::default());
        let before = kept(&world);
        let Some(mount) = Mount::read_only(&world.path(folder)) else {
            return;
        };
        for command in [&["run"][..], &["deploy"]] {
            let said = world.comin(command, 1);
            assert_says(&said, &[folder, "Read-only file system"]);
        }
        assert_eq!(kept(&world), before);
        world.status();
        drop(mount);
        world.comin(&["run"], 0);
        assert_eq!(world.running(), label);
    }
}

#[test]
fn order_fails_only_if_it_is_not_in_force() {
    need!("git", "strace");
    let (world, _) = World::new();
    let suspend_with_failing = |fsync: u32| {
        let mut strace = Command::new("strace");
        isolated(&mut strace, &world.path("home"));
        let inject = format!("inject=fsync:error=EIO:when={fsync}");
        let comin = world.command(&["suspend"]);
        strace
            .args(["-f", "-o", "/dev/null", "-e", &inject])
            .arg(comin.get_program())
            .args(comin.get_args());
        let said = Said::of(&strace.output().unwrap());
        let is_in_force = world.status()["suspended"] == true;
        assert_eq!(said.code, Some(i32::from(!is_in_force)), "{said:?}");
        (is_in_force, said.err)
    };
    // Of the file, and of its folder.
    assert!(!suspend_with_failing(1).0);
    let (is_in_force, warning) = suspend_with_failing(2);
    assert!(is_in_force && warning.contains("power cut"), "{warning}");
}

// ---- clocks

#[test]
fn a_clock_that_is_wrong_costs_no_deployment() {
    need!("git", "nix", "faketime");
    let (world, origin) = World::new();
    for (n, by) in ["+0", "-1y", "+10y", "+0", "-1y", "+0"].iter().enumerate() {
        let label = format!("next{n}");
        let commit = origin.commit(&label, &System::default());
        let said = world.shifted(by, &["run"]);
        assert_eq!(said.code, Some(0), "{by}: {said:?}");
        assert_eq!(world.running(), label, "{by}");
        assert_eq!(world.status()["accepted_main"], commit.as_str());
        // A poll with any other clock has nothing to do.
        for by in ["-1y", "+0", "+10y"] {
            let said = world.shifted(by, &["fetch", "origin"]);
            assert_eq!(said.code, Some(0), "{said:?}");
            assert!(!world.path("root/run/comin/wanted").exists(), "{by}");
        }
    }
    let mut ids: Vec<_> = world.history().iter().map(|a| a["id"].as_u64()).collect();
    ids.reverse();
    assert!(ids.windows(2).all(|ids| ids[0] < ids[1]), "{ids:?}");
}

#[test]
fn a_retry_starves_under_no_clock() {
    need!("git", "nix", "faketime");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("broken", &System::instead("throw \"broken\""));
    world.comin(&["run"], 1);
    let attempts = || world.history().len();
    let before = attempts();
    world.comin(&["run"], 1);
    assert_eq!(attempts(), before, "it waits for a minute");
    // Each jump ends a wait, and a poll notices.
    for (n, by) in ["-1y", "+10y", "+0"].iter().enumerate() {
        world.shifted(by, &["fetch", "origin"]);
        let wanted = world.path("root/run/comin/wanted");
        assert!(wanted.exists(), "{by}");
        let said = world.shifted(by, &["deploy"]);
        assert_eq!(said.code, Some(1), "{by}: {said:?}");
        assert_eq!(attempts(), before + n + 1, "{by}: {said:?}");
    }
}

#[test]
fn suspension_holds_until_its_end_under_every_clock() {
    need!("git", "nix", "faketime");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let mut n = 0;
    let mut deployed_after = |order: &str, deploy: &str| {
        n += 1;
        let label = format!("next{n}");
        assert_eq!(
            world.shifted(order, &["suspend", "--for", "1h"]).code,
            Some(0)
        );
        origin.commit(&label, &System::default());
        let said = world.shifted(deploy, &["run"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        // And a poll has nothing to do.
        world.shifted(deploy, &["fetch", "origin"]);
        assert!(!world.path("root/run/comin/wanted").exists(), "{deploy}");
        let deployed = world.running() == label;
        // Or it would be in the way of the next one.
        world.comin(&["resume"], 0);
        deployed
    };
    assert!(!deployed_after("+0", "+0"));
    assert!(!deployed_after("+0", "-30"), "a clock may be set a little");
    assert!(!deployed_after("+0", "-1y"), "a board without a battery");
    assert!(deployed_after("+0", "+10y"));
    assert!(!deployed_after("+10y", "+0"), "only comin resume ends it");
}

#[test]
fn a_quarantine_knows_no_clock() {
    need!("git", "nix", "faketime");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let running = world.path("root/run/current-system/nixos-version");
    let check = format!("! grep bad {}", running.display());
    world.configure(|config| config["health_check"] = json!({"commands": [check]}));
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    for by in ["-1y", "+10y"] {
        assert_eq!(world.shifted(by, &["run"]).code, Some(1));
        assert_eq!(world.running(), "first", "{by}");
    }
    assert_eq!(world.switches().len(), 3);
    origin.commit("good", &System::default());
    assert_eq!(world.shifted("-1y", &["run"]).code, Some(0));
    assert_eq!(world.running(), "good");
}

// ---- input of any size

fn size_of_state(world: &World) -> u64 {
    let state = fs::metadata(world.path("root/var/lib/comin/state.json"));
    state.unwrap().len()
}

#[test]
fn nothing_that_a_commit_says_makes_the_state_large() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.write("", "second", &System::default());
    let message = world.path("message");
    fs::write(&message, "ü".repeat(5_000_000)).unwrap();
    origin.git(&["add", "--all"]);
    origin.git(&["commit", "--quiet", "--file", message.to_str().unwrap()]);
    let said = world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    assert!(said.err.len() < 10_000, "{}", said.err.len());
    assert!(size_of_state(&world) < 10_000);

    let long = "builtins.concatStringsSep \"x\" (builtins.genList (_: \"0123456789\") 100000)";
    let toplevels = [
        format!("throw ({long})"),
        format!("{{ drvPath = {long}; outPath = \"/nix/store/x\"; }}"),
        format!("{{ drvPath = \"/nix/store/x.drv\"; outPath = {long}; }}"),
        "{ drvPath = \"/etc/passwd\"; outPath = \"/etc\"; }".to_string(),
    ];
    for toplevel in &toplevels {
        origin.commit("large", &System::instead(toplevel));
        let said = world.comin(&["run"], 1);
        assert_says(&said, &["Failed to deploy"]);
        assert!(said.err.len() < 2_000_000, "{}", said.err.len());
        assert!(size_of_state(&world) < 50_000, "{toplevel}");
    }
    let machine = System {
        machine_id: long.to_string(),
        ..System::default()
    };
    origin.commit("another", &machine);
    let said = world.comin(&["run"], 0);
    assert_says(&said, &["services.comin.machineId is"]);
    assert!(size_of_state(&world) < 50_000);
    assert_eq!(world.running(), "second");
}

#[test]
fn a_state_that_is_large_already_is_read_and_written() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let file = world.path("root/var/lib/comin/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let attempt = state["attempts"][0].clone();
    let many = (1..=100).map(|id| {
        let mut attempt = attempt.clone();
        attempt["id"] = id.into();
        attempt["subject"] = "s".repeat(1 << 20).into();
        attempt
    });
    state["attempts"] = many.collect();
    fs::write(&file, state.to_string()).unwrap();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    let history = world.history();
    assert_eq!((history.len(), &history[0]["id"]), (100, &json!(101)));
}

#[test]
fn a_commit_with_very_many_files_is_deployed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    for folder in 0..100 {
        let folder = origin.path.join(format!("folder{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..500 {
            fs::write(folder.join(file.to_string()), file.to_string()).unwrap();
        }
    }
    origin.commit("many", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "many");
}

/// Makes a folder of these entries, as git-mktree(1) reads them.
fn folder(repository: &Repository, entries: &[u8]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(&repository.path).arg("mktree");
    git.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut git = git.spawn().unwrap();
    git.stdin.take().unwrap().write_all(entries).unwrap();
    let made = git.wait_with_output().unwrap().stdout;
    String::from_utf8(made).unwrap().trim().to_string()
}

#[test]
fn a_commit_with_more_files_than_anybody_can_count_costs_no_more_than_its_evaluation() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let file = origin.git(&["rev-parse", "HEAD:flake.nix"]);
    let mut top = folder(&origin, format!("100644 blob {file}\tfile\n").as_bytes());
    for _ in 0..10 {
        let ten = (0..10).map(|n| format!("040000 tree {top}\tfolder{n}\n"));
        let ten = [
            ten.collect::<String>().as_bytes(),
            b"040000 tree ",
            top.as_bytes(),
            b"\t\xff\n",
        ]
        .concat();
        top = folder(&origin, &ten);
    }
    let first = origin.git(&["rev-parse", "HEAD"]);
    let second = origin.commit("second", &System::default());
    let many = origin.git(&["commit-tree", "-p", &first, "-m", "many", &top]);
    let files = format!("{second}^{{tree}}");
    let next = origin.git(&["commit-tree", "-p", &many, "-m", "second", &files]);
    origin.git(&["update-ref", "refs/heads/main", &many]);
    world.configure(|config| config["eval_timeout"] = json!(1));
    let said = world.comin(&["run"], 1);
    // Some versions of Nix read all of it until the time is over, others only the one file that is missing.
    assert!(said.err.contains("Failed to deploy"), "{said:?}");
    assert!(!said.err.contains("damaged"), "{said:?}");
    origin.git(&["update-ref", "refs/heads/main", &next]);
    world.configure(|config| config["eval_timeout"] = json!(0));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

/// Makes an object of this kind and content, and says its name.
fn object(repository: &Repository, kind: &str, content: impl FnOnce(&mut dyn Write)) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(&repository.path);
    git.args(["hash-object", "--literally", "-w", "--stdin", "-t", kind]);
    git.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut git = git.spawn().unwrap();
    content(git.stdin.as_mut().unwrap());
    let made = git.wait_with_output().unwrap().stdout;
    String::from_utf8(made).unwrap().trim().to_string()
}

/// Makes a commit whose message has so many megabytes, on top of the head.
fn large_commit(repository: &Repository, megabytes: usize) -> String {
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    let parent = repository.git(&["rev-parse", "HEAD"]);
    let author = "a <a@example.org> 1 +0000";
    object(repository, "commit", |into| {
        write!(
            into,
            "tree {tree}\nparent {parent}\nauthor {author}\ncommitter {author}\n\n"
        )
        .unwrap();
        let line = "x".repeat(1024 * 1024);
        (0..megabytes).for_each(|_| into.write_all(line.as_bytes()).unwrap());
    })
}

#[test]
fn push_that_needs_much_memory_costs_other_remotes_none() {
    need!("git", "nix", "sh", "time");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let other = Repository::at(&world, "other");
    origin.git(&["clone", "--quiet", ".", other.path.to_str().unwrap()]);
    world.follow("other", other.path.to_str().unwrap());
    origin.git(&["branch", "--force", "large", &large_commit(&origin, 400)]);
    let tree = origin.git(&["rev-parse", "HEAD^{tree}"]);
    let head = origin.git(&["commit-tree", "-p", "large", "-m", "small", &tree]);
    origin.git(&["update-ref", "refs/heads/main", &head]);
    world.comin(&["fetch", "origin"], 1);
    other.commit("second", &System::default());
    let memory = world.path("memory");
    for arguments in [&["fetch", "other"][..], &["deploy"]] {
        let comin = world.command(arguments);
        let mut limited = Command::new("sh");
        isolated(&mut limited, &world.path("home"));
        // A machine with 1.5 GiB, and the largest of all processes.
        limited
            .args(["-c", "ulimit -v 1572864 && exec time -f %M -o \"$@\"", "sh"])
            .arg(&memory)
            .arg(comin.get_program())
            .args(comin.get_args());
        let said = Said::of(&limited.output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
        let kilobytes: u64 = fs::read_to_string(&memory).unwrap().trim().parse().unwrap();
        assert!(kilobytes < 128 * 1024, "{arguments:?}: {kilobytes} KiB");
    }
    assert_eq!(world.running(), "second");
}

#[test]
fn large_commit_or_folder_anywhere_in_a_push_is_refused_and_needs_little_memory() {
    need!("git", "sh");
    let mut world = World::empty();
    let (origin, other) = (world.repository("origin"), world.repository("other"));
    let first = origin.commit_all("first");
    world.follow("origin", origin.path.to_str().unwrap());
    world.follow("other", other.path.to_str().unwrap());
    world.comin(&["fetch", "origin"], 0);
    let tree = origin.git(&["rev-parse", "HEAD^{tree}"]);
    let large_commit = |megabytes| large_commit(&origin, megabytes);
    let file = origin.git(&["hash-object", "-w", "--stdin"]);
    let file: Vec<u8> = (0..20)
        .map(|n| u8::from_str_radix(&file[2 * n..2 * n + 2], 16).unwrap())
        .collect();
    let large_folder = object(&origin, "tree", |into| {
        for n in 0..600_000 {
            let entry = [format!("100644 {n:010}\0").as_bytes(), &file].concat();
            into.write_all(&entry).unwrap();
        }
    });
    let on_top =
        |parent: &str, tree: &str| origin.git(&["commit-tree", "-p", parent, "-m", "small", tree]);
    let heads = [
        large_commit(17),
        on_top(&large_commit(17), &tree),
        on_top(&first, &large_folder),
        on_top(&large_commit(400), &tree),
    ];
    for (head, is_known) in heads.iter().zip([true, true, true, false]) {
        origin.git(&["update-ref", "refs/heads/main", head]);
        let comin = world.command(&["fetch", "origin"]);
        let mut limited = Command::new("sh");
        isolated(&mut limited, &world.path("home"));
        limited
            .args(["-c", "ulimit -v 1000000 && exec \"$@\"", "sh"])
            .arg(comin.get_program())
            .args(comin.get_args());
        let said = Said::of(&limited.output().unwrap());
        assert_eq!(said.code, Some(1), "{said:?}");
        let refused = said.err.contains("bytes, and the limit is 16777216");
        assert_eq!(refused, is_known, "{said:?}");
        assert!(!said.err.contains("damaged"), "{said:?}");
        assert_eq!(world.mirrored("origin/main").as_ref(), Some(&first));
    }
    let good = other.commit_all("good");
    world.comin(&["fetch", "other"], 0);
    assert_eq!(world.mirrored("other/main"), Some(good));
    origin.git(&["update-ref", "refs/heads/main", &first]);
    let second = origin.commit_all("second");
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main").as_ref(), Some(&second));

    // The mirror of an older comin, which had no bounds.
    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    mirror.git(&["config", "core.logAllRefUpdates", "false"]);
    origin.git(&["update-ref", "refs/heads/main", &heads[1]]);
    let into = "+refs/heads/main:refs/remotes/origin/main";
    mirror.git(&["fetch", "--quiet", origin.path.to_str().unwrap(), into]);
    let good = other.commit_all("better");
    let said = world.comin(&["fetch", "other"], 0);
    assert!(
        said.err.contains("bytes, and the limit is 16777216"),
        "{said:?}"
    );
    assert_eq!(world.mirrored("other/main"), Some(good));
    assert_eq!(world.mirrored("origin/main"), None);
}

#[test]
fn fetch_checks_the_size_of_what_comes_and_not_of_the_whole_mirror() {
    need!("git");
    let (world, origin) = World::new();
    world.comin(&["fetch", "origin"], 0);
    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    object(&mirror, "commit", |into| {
        into.write_all("x".repeat(17 * 1024 * 1024).as_bytes())
            .unwrap();
    });
    let packed = || {
        let counts = mirror.git(&["count-objects", "--verbose"]);
        let packed = counts.lines().find_map(|it| it.strip_prefix("in-pack: "));
        packed.unwrap().parse::<usize>().unwrap()
    };
    let before = packed();
    origin.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(packed(), before + 1, "everything has come again");
}

#[test]
fn a_history_that_came_in_very_many_packs_is_walked() {
    need!("git", "sh");
    let mut world = World::empty();
    let origin = world.repository("origin");
    origin.commit_all("first");
    world.follow("origin", origin.path.to_str().unwrap());
    world.comin(&["fetch", "origin"], 0);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit_all("tested");
    origin.git(&["checkout", "--quiet", "main"]);
    // One pack for each commit, as from as many fetches.
    let packs = world.path("root/var/lib/comin/repository/objects/pack/pack");
    for n in 0..200 {
        let commit = origin.commit_all(&n.to_string());
        fs::write(world.path("commit"), commit).unwrap();
        let mut git = Command::new("git");
        git.args(["pack-objects", "--quiet"]).arg(&packs);
        git.stdin(fs::File::open(world.path("commit")).unwrap());
        git.stdout(Stdio::null()).current_dir(&origin.path);
        assert!(git.status().unwrap().success());
    }
    world.comin(&["fetch", "origin"], 0);
    let comin = world.command(&["plan"]);
    let mut limited = Command::new("sh");
    isolated(&mut limited, &world.path("home"));
    limited
        .args(["-c", "ulimit -n 150 && exec \"$@\"", "sh"])
        .arg(comin.get_program())
        .args(comin.get_args());
    let said = Said::of(&limited.output().unwrap());
    assert!(said.out.contains("it does not contain main"), "{said:?}");
}

#[test]
fn a_branch_may_have_a_long_name() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let branch = "b".repeat(200);
    world.configure(|config| {
        config["remotes"][0]["branches"] = json!({"testing": {"name": branch}});
    });
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "-b", &branch]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
}

#[test]
fn packed_references_that_are_damaged() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.git(&["pack-refs", "--all"]);
    let packed = origin.path.join(".git/packed-refs");
    let good = fs::read(&packed).unwrap();
    for bad in [
        &b"\0\0\0\0"[..],
        b"nonsense\n",
        b"# pack-refs with: sorted\nx refs/heads/main\n",
    ] {
        fs::write(&packed, bad).unwrap();
        let said = Said::of(&world.command(&["run"]).output().unwrap());
        assert!(!said.err.contains("panicked"), "{said:?}");
        assert_eq!(world.running(), "first");
    }
    fs::write(&packed, good).unwrap();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");

    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    for (n, bad) in [&b"\0\0\0\0"[..], b"nonsense\n"].into_iter().enumerate() {
        mirror.git(&["pack-refs", "--all"]);
        fs::write(mirror.path.join("packed-refs"), bad).unwrap();
        let label = format!("next{n}");
        let main = origin.commit(&label, &System::default());
        world.comin(&["run"], 0);
        assert_eq!(world.running(), label);
        assert_eq!(world.status()["accepted_main"], main.as_str());
    }
}

#[test]
fn a_flood_of_requests_during_a_build_deploys_once() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (begun, open) = (world.path("begun"), world.path("open"));
    let system = System::with(&format!(
        "extra.\"gate\" = \"${{derivation {{
            name = \"gate\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
            args = [ \"-c\" \"touch {}; while [ ! -e {} ]; do sleep 0.01; done; echo >$out\" ]; }}}}\";",
        begun.display(),
        open.display()
    ));
    origin.commit("second", &system);
    let mut deploy = world.command(&["run"]);
    let deploy: Child = deploy.stderr(Stdio::piped()).spawn().unwrap();
    await_that(|| begun.exists());
    for _ in 0..1000 {
        fs::write(world.path("root/run/comin/wanted"), "").unwrap();
    }
    fs::write(open, "").unwrap();
    let said = Said::of(&deploy.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.matches("Building").count(), 1, "{said:?}");
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(world.history().len(), 2);
}

#[test]
fn a_clock_that_is_behind_is_suspected_once() {
    need!("git", "nix", "faketime");
    let (world, origin) = World::new();
    let words = "The clock of this machine is or was wrong: attempt 1 was under way at ";
    assert!(!world.comin(&["run"], 0).err.contains(words));
    let said = world.shifted("-1y", &["deploy"]);
    assert!(said.err.contains(words), "{said:?}");
    let said = world.shifted("-1y", &["deploy"]);
    assert!(!said.err.contains(words), "{said:?}");
    let said = world.shifted("-1y", &["status"]).out;
    let words = "the clock of this machine may be wrong (it says ";
    assert!(
        said.contains(words) && said.contains("→ timedatectl"),
        "{said}"
    );
    origin.commit("second", &System::default());
    assert!(!world.comin(&["run"], 0).err.contains(words));
}
