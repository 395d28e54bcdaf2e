//! What a person sees while Nix works, and after it has failed. On real Git and real Nix.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::Said;
use crate::world::{await_that, building, Gate, System, World};

/// A derivation of a builder that runs this script, as Nix code; no other test has built it.
fn derivation(world: &World, name: &str, script: &str) -> String {
    // A string of Nix, which may refer to other derivations.
    let script = format!("\": {}; {script}\"", world.path("").display());
    format!(
        "(derivation {{ name = {name:?}; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
          args = [ \"-c\" {script} ]; }})"
    )
}

/// A system that needs these.
fn needing(derivations: &[String]) -> System {
    let lines = derivations.iter().zip(1..);
    let lines = lines.map(|(needed, n)| format!("extra.\"needed-{n}\" = \"${{{needed}}}\";"));
    System::with(&lines.collect::<String>())
}

fn details(world: &World, attempt: &str) -> Value {
    let said = world.comin(&["history", attempt, "--json"], 0);
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn the_status_tells_how_far_a_build_is() {
    need!("git", "nix");
    let (world, origin) = World::new();
    assert!(world.status()["progress"].is_null());
    let (_, mut deploy, open) = building(&world, &origin);
    await_that(|| world.status()["progress"]["derivation"] == "gate");
    let progress = world.status()["progress"].clone();
    assert_eq!(
        (&progress["built"], &progress["to_build"]),
        (&0.into(), &2.into())
    );
    assert_eq!(
        (&progress["downloaded"], &progress["to_download"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        progress["since"].as_str().unwrap().len(),
        "2026-01-02T03:04:05Z".len()
    );
    let text = world.comin(&["status"], 0).out;
    assert!(
        text.contains("  progress   0 of 2 built, gate for "),
        "{text}"
    );

    // What a killed deploy has left is nobody's progress.
    deploy.kill().unwrap();
    deploy.wait().unwrap();
    assert!(world.path("root/run/comin/progress.json").exists());
    assert!(world.status()["progress"].is_null());
    open();
    world.comin(&["run"], 0);
    assert!(!world.path("root/run/comin/progress.json").exists());
}

/// What a command shows on a terminal, with `N s` for each number of seconds.
fn shown(command: &mut Command) -> Said {
    let mut said = Said::of(&command.output().unwrap());
    let mut parts = said.out.split(" s");
    let mut out = parts.next().unwrap().to_string();
    for part in parts {
        let before = out.trim_end_matches(|it: char| it.is_ascii_digit()).len();
        if before < out.len() {
            out.truncate(before);
            out.push('N');
        }
        out += " s";
        out += part;
    }
    said.out = out;
    said
}

#[test]
fn a_terminal_shows_how_far_a_build_is_in_colour() {
    need!("git", "nix", "script");
    let (world, origin) = World::new();
    let slow = derivation(&world, "slow-1.0", "echo half-way; echo >$out");
    origin.commit("slow", &needing(&[slow]));
    let said = shown(&mut world.on_terminal("run"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let commit = &origin.git(&["rev-parse", "HEAD"])[..8];
    for wanted in [
        &format!("Evaluating {commit} (origin/main), N s"),
        &format!(
            "Building {commit} (origin/main), N s: \x1b[36m0 of 2 built, slow-1.0 for N s\x1b[0m"
        ),
        "\x1b[2mslow-1.0> half-way\x1b[0m",
    ] {
        assert!(said.out.contains(wanted), "{wanted:?}: {said:?}");
    }

    let salted = derivation(&world, "slow-1.1", "echo >$out");
    origin.commit("plain", &needing(&[salted]));
    let mut plain = world.on_terminal("run");
    let said = shown(plain.env("NO_COLOR", "1"));
    assert!(
        said.out.contains("N s: 0 of 2 built, slow-1.1 for N s"),
        "{said:?}"
    );
    assert!(!said.out.contains("\x1b[36m"), "{said:?}");

    let salted = derivation(&world, "slow-1.2", "echo half-way; echo >$out");
    origin.commit("pipe", &needing(&[salted]));
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("\nslow-1.2> half-way\n"), "{said:?}");
    assert!(!said.err.contains(['\x1b', '\r']), "{said:?}");
}

#[test]
fn builds_by_hand_show_on_a_terminal_how_far_they_are() {
    need!("git", "nix", "script");
    let (world, origin) = World::new();
    let built = |name: &str, command: &str| {
        let slow = derivation(&world, name, "echo half-way; echo >$out");
        origin.commit(name, &needing(&[slow]));
        world.comin(&["fetch", "origin"], 0);
        let mut run = world.on_terminal(command);
        let said = shown(run.current_dir(&origin.path));
        assert_eq!(said.code, Some(0), "{command}: {said:?}");
        let steps = format!("\x1b[36m0 of 2 built, {name} for N s\x1b[0m");
        assert!(said.out.contains(&steps), "{command}: {said:?}");
        let line = format!("\x1b[2m{name}> half-way\x1b[0m");
        assert!(said.out.contains(&line), "{command}: {said:?}");
    };
    built("slow-2.0", "plan --build");
    built("slow-2.1", "build .#m");
}

#[test]
fn a_failed_build_is_kept_with_its_last_lines_and_its_whole_log() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let script = "pad=$(printf %0250d 0); for n in $(seq 100); do echo line $n $pad; done; echo no such printer; exit 3";
    origin.commit(
        "broken",
        &needing(&[derivation(&world, "printer-1.0", script)]),
    );
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("> no such printer"), "{said:?}");
    assert!(said.err.ends_with("→ comin history 2 --log\n"), "{said:?}");

    let failure = details(&world, "2")["failure"].clone();
    let derivation = failure["derivation"].as_str().unwrap();
    assert!(derivation.ends_with("-printer-1.0.drv"), "{failure}");
    let lines = failure["lines"].as_array().unwrap();
    assert_eq!(lines.last().unwrap(), "no such printer");
    let lines: Vec<&str> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("line 100 ")),
        "{failure}"
    );
    let bytes = lines.concat().len();
    assert!(
        (2048..=4096).contains(&bytes),
        "{bytes} of 4 KiB are kept: {failure}"
    );
    let text = world.comin(&["history", "2"], 0).out;
    let command = format!("  whole log  nix-store --read-log {derivation}\n");
    assert!(text.contains(&command), "{text}");
    assert!(
        text.contains("             journalctl COMIN_ATTEMPT=2 COMIN_COMMIT="),
        "{text}"
    );

    let whole = world.comin(&["history", "2", "--log"], 0).out;
    assert_eq!(whole.lines().count(), 101, "{whole}");
    assert!(details(&world, "1")["failure"].is_null());
}

#[test]
fn an_evaluation_error_is_that_of_the_configuration_with_paths_of_the_repository() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    fs::create_dir(origin.path.join("hosts")).unwrap();
    for (number, subject, code, wanted) in [
        (
            2,
            "thrown",
            "throw \"the printer is on fire\"",
            "error: the printer is on fire; ",
        ),
        (
            3,
            "missing",
            "{ }.driver",
            "error: attribute 'driver' missing at hosts/m.nix:1:1; ",
        ),
    ] {
        fs::write(origin.path.join("hosts/m.nix"), code).unwrap();
        origin.commit(subject, &System::instead("import ./hosts/m.nix"));
        let said = world.comin(&["run"], 1);
        let said_at_last = format!("(origin/main): nix eval exited with status 1: {wanted}");
        assert!(said.err.contains(&said_at_last), "{said:?}");
        // There is no log of a build that `--log` could show.
        let look = format!("→ comin history {number}\n");
        assert!(said.err.ends_with(&look), "{said:?}");
        for ours in [
            "toplevel.drvPath",
            "no NixOS system",
            "«string»",
            "--show-trace",
        ] {
            assert!(!said.err.contains(ours), "{said:?}");
            assert!(!world.comin(&["history", "--json"], 0).out.contains(ours));
        }
    }
    let failure = details(&world, "3")["failure"].clone();
    let lines = failure["lines"].to_string();
    assert!(
        lines.contains("at hosts/m.nix:1:1") && !lines.contains("-source/"),
        "{lines}"
    );
    assert!(failure["derivation"].is_null());
    assert_eq!(failure["commands"].as_array().unwrap().len(), 1);

    let said = world.comin(&["plan", "--build"], 1);
    assert!(
        said.err.contains("missing at hosts/m.nix:1:1\n")
            || said.err.contains("missing\nat hosts/m.nix:1:1"),
        "{said:?}"
    );
}

#[test]
fn a_full_disk_and_a_builder_that_is_killed_are_named_as_what_they_are() {
    need!("git", "nix");
    let (world, origin) = World::new();
    for (name, script, wanted) in [
        ("full", "cp /bin/sh /dev/full", ": the disk is full: "),
        ("killed", "kill -9 $$", ": out of memory: "),
    ] {
        origin.commit(name, &needing(&[derivation(&world, name, script)]));
        let said = world.comin(&["run"], 1);
        assert!(said.err.contains(wanted), "{said:?}");
    }
}

#[test]
fn a_build_that_is_stopped_is_told_by_who_stopped_it() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    // By the clock. Enough to begin the build, also on a busy machine.
    world.configure(|config| config["build_timeout"] = 10.into());
    let gate = Gate::new(&world);
    origin.commit("gated", &gate.system);
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("nix build timed out after 10 s while it built gate"),
        "{said:?}"
    );
    assert!(!said.err.contains("interrupted by the user"), "{said:?}");
    world.configure(|config| config["build_timeout"] = 0.into());

    // By a person.
    let gate = Gate::named(&world, "second");
    origin.commit("second", &gate.system);
    let mut run = world.command(&["run"]);
    let run = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
    gate.await_begun();
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said = Said::of(&run.wait_with_output().unwrap());
    let told = "Stopped nix build while it built gate: nothing was activated, and the next deploy begins again\n";
    assert!(said.err.ends_with(told), "{said:?}");
    assert!(!said.err.contains("interrupted by the user"), "{said:?}");

    // By a newer commit.
    gate.forget();
    let mut run = world.command(&["run"]);
    let run = run.stderr(std::process::Stdio::piped()).spawn().unwrap();
    gate.await_begun();
    origin.commit("newer", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let said = Said::of(&run.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("Stopped building: ") && said.err.contains("Deployed "),
        "{said:?}"
    );
    assert!(!said.err.contains("interrupted by the user"), "{said:?}");
}

/// A run on a terminal as a person sees it: each line that stays, and of the line at the bottom a look at each step
/// that has been built for a second. Without what differs from one run to the next.
fn recording(said: &str, commit: &str) -> String {
    let mut seen = Vec::new();
    let mut lines = Vec::new();
    for frame in said
        .split(['\r', '\n'])
        .map(|frame| frame.replace("\x1b[K", ""))
    {
        let (shown, is_bottom) = match frame.strip_prefix("\x1b[?7l") {
            Some(shown) => (shown.trim_end_matches("\x1b[?7h"), true),
            None => (&*frame, false),
        };
        let built = shown.rsplit(", ").next().unwrap_or_default();
        let (name, time) = built.split_once(" for ").unwrap_or_default();
        // On a busy machine, the system itself may take a second, too.
        let is_step = !matches!(time, "" | "0 s") && !name.starts_with("nixos-system-");
        if is_bottom && (!is_step || seen.contains(&name.to_string())) {
            continue;
        }
        if is_bottom {
            seen.push(name.to_string());
        }
        if !shown.is_empty() {
            lines.push(shown.replace(commit, "3f2a9c1e"));
        }
    }
    let text = lines.join("\n") + "\n";
    let mut parts = text.split("/nix/store/");
    let mut recorded = parts.next().unwrap().to_string();
    for part in parts {
        recorded += "/nix/store/…";
        recorded += part.get(32..).unwrap_or_default();
    }
    recorded
}

/// `UPDATE_EXPECT=1` makes the recording anew.
#[test]
fn the_recording_of_a_run_is_what_the_program_shows() {
    need!("git", "nix", "script");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let step = |name: &str, needs: &str| {
        let script = format!("echo compiling {name}; sleep 2.6; echo done >$out");
        derivation(&world, name, &format!(": {needs}; {script}"))
    };
    let library = step("library-1.4", "");
    let program = step("program-2.0", &format!("${{{library}}}"));
    let system = needing(&[step("manual-2.0", &format!("${{{program}}}"))]);
    origin.write("", "updated", &system);
    origin.commit_all("Update the program");
    let mut run = world.on_terminal("run");
    let said = Said::of(&run.env("NO_COLOR", "1").output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let commit = &origin.git(&["rev-parse", "HEAD"])[..8];
    let recorded = format!("$ sudo comin run\n{}", recording(&said.out, commit));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("module/docs/run.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&file, &recorded).unwrap();
    }
    let without_times = |text: &str| {
        let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let times = words.map(|words| {
            let is_time = |n: usize| {
                words
                    .get(n + 1)
                    .is_some_and(|unit| unit.starts_with('s') && unit.len() < 3)
            };
            let words = words.iter().enumerate();
            words
                .filter(|(n, _)| !is_time(*n))
                .map(|(_, word)| *word)
                .collect::<Vec<_>>()
                .join(" ")
        });
        times.collect::<Vec<_>>().join("\n")
    };
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        without_times(&recorded),
        without_times(&expected),
        "{said:?}"
    );
}
