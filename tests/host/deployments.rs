//! comin on a whole machine: the module's own units on a real systemd, a real Nix, reboots, power cuts.

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use crate::machine::{Configuration, Gate, Host, Line, LOCAL};
use crate::support::{await_that, tell};

/// nixos-rebuild's name for the unit of an activation.
const ACTIVATION: &str = "nixos-rebuild-switch-to-configuration";

#[test]
fn an_idle_machine_polls_every_second_and_leaves_no_trace() {
    need_host!();
    let seconds = std::env::var("COMIN_IDLE_SECONDS").map_or(60, |s| s.parse().unwrap());
    let host = Host::installed(&Configuration::new("first"));
    host.await_polls(2);
    let disk = "find /var/lib/comin -printf %p,%i,%s,%T@\\n";
    let (idle, before) = (host.cursor_now(), host.run(disk));

    // Here the time itself is the subject.
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut polls = Vec::new();
    while Instant::now() < end {
        let poll = host.fetched("local");
        if polls.last() != Some(&poll) {
            polls.push(poll);
        }
        thread::sleep(Duration::from_millis(50));
    }

    let (polls, lines) = (polls.len() as u64, host.journal(&idle));
    tell(&format!(
        "idle: {polls} polls in {seconds} s, {} lines in the journal",
        lines.len()
    ));
    assert!(lines.is_empty(), "{lines:#?}");
    // On a busy machine, a poll takes a part of each second.
    assert!(polls >= seconds / 2);
    assert_eq!(host.run(disk), before, "a poll has written to the disk");
    for unit in ["comin-local.timer", "comin-local.path", "comin.path"] {
        assert_eq!(host.show(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(host.show(unit, "Result"), "success", "{unit}");
    }
    for unit in ["comin-local", "comin-origin", "comin"] {
        assert_eq!(host.show(unit, "Result"), "success", "{unit}");
        assert_eq!(host.show(unit, "NRestarts"), "0", "{unit}");
    }
}

#[test]
fn a_commit_is_noticed_by_the_path_unit_alone_and_by_the_timer_alone() {
    need_host!();
    // Within this test nothing but the path unit notices.
    let path_alone = Configuration::new("first").with("path-alone", |c| {
        c["comin"]["remotes"][0]["poller"]["period"] = json!(3600);
    });
    let timer_alone = path_alone.with("timer-alone", |c| {
        c["comin"]["remotes"][0]["poller"]["period"] = json!(1);
        c["comin"]["remotes"][0]["watch"] = json!([]);
    });
    let host = Host::installed(&path_alone);
    // Tells when an evaluation starts, and how many there are. Another user than root evaluates.
    let nix = "#!/bin/bash\n[[ \" $* \" != *' eval '* ]] || echo $EPOCHREALTIME >>/run/evaluations\nexec /usr/bin/nix \"$@\"\n";
    host.write("/usr/local/bin/nix", nix);
    host.run("chmod +x /usr/local/bin/nix");
    host.write("/run/evaluations", "");
    host.run("chmod a+w /run/evaluations");

    let latencies = |configuration: &Configuration| {
        let mut all: Vec<_> = (0..5)
            .map(|_| Latency::of_a_commit(&host, configuration))
            .collect();
        all.sort();
        all
    };
    let path = latencies(&path_alone);
    let mut units: Vec<_> = (0..5).map(|_| Latency::of_units_alone(&host)).collect();
    units.sort();
    host.await_deployed(&host.commit(&timer_alone));
    assert_eq!(host.show("comin-local.path", "LoadState"), "not-found");
    let timer = latencies(&timer_alone);

    tell(&format!(
        "from a commit to its deployment/to Nix, in ms: path unit {path:?}, timer {timer:?}; the units alone {units:?}"
    ));
}

/// Times since a commit.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Latency {
    /// Until comin says that it deploys the commit.
    deployed: Duration,
    /// Until Nix is started to evaluate it.
    evaluated: Duration,
}

impl Latency {
    /// Of a commit that changes nothing, so that the evaluation is nearly all that is done.
    fn of_a_commit(host: &Host, configuration: &Configuration) -> Self {
        host.await_idle();
        let before = host.read("/run/evaluations").lines().count();
        let now = host.cursor_now();
        host.await_deployed(&host.commit(configuration));
        let evaluations = host.read("/run/evaluations");
        let evaluations: Vec<_> = evaluations.lines().skip(before).collect();
        let [started] = evaluations[..] else {
            panic!("one evaluation for each deployment: {evaluations:?}");
        };
        let started = Duration::from_secs_f64(started.parse().unwrap());
        let lines = host.journal(&now);
        let says = lines.iter().find(|it| it.message.starts_with("Deploying "));
        let moved = host.local.moved(host);
        Self {
            deployed: says.unwrap().received().saturating_sub(moved),
            evaluated: started.saturating_sub(moved),
        }
    }

    /// What of it is systemd's own: of the same units, in which one program touches a file and another, a shell
    /// as above, is started for that.
    fn of_units_alone(host: &Host) -> Duration {
        let unit = |name: &str, program: &str| {
            let text = host.run(&format!("cat /etc/systemd/system/{name}"));
            let lines = text.lines().map(|line| match line.split_once('=') {
                Some(("ExecStart", _)) => format!("ExecStart={program}\n"),
                Some(_) | None => format!("{}\n", line.replace("=comin-%i", "=alone-comin-%i")),
            });
            host.write(
                &format!("/etc/systemd/system/alone-{name}"),
                &lines.collect::<String>(),
            );
        };
        let path = |name: &str, condition: &str, unit: &str| {
            let text = format!("[Path]\n{condition}\nUnit={unit}\n");
            host.write(&format!("/etc/systemd/system/{name}"), &text);
        };
        unit("comin-commit@.service", "/bin/sh -c :");
        unit("comin-local.service", "/bin/touch /run/comin/remotes/alone");
        unit("comin.service", "/usr/local/bin/alone");
        path(
            "alone-local.path",
            "PathModified=/srv/alone",
            "alone-comin-commit@local.service",
        );
        path(
            "alone.path",
            "PathExists=/run/comin/remotes/alone",
            "alone-comin.service",
        );
        host.write("/srv/alone", "");
        host.write(
            "/usr/local/bin/alone",
            "#!/bin/bash\necho $EPOCHREALTIME >/run/started\nrm -f /run/comin/remotes/alone\n",
        );
        host.run("chmod +x /usr/local/bin/alone");
        host.run("systemctl daemon-reload");
        host.run("systemctl start alone-local.path alone.path");
        let moved = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        host.write("/srv/alone", "moved");
        await_that("both have been started", || {
            host.read("/run/started").ends_with('\n')
                && !host.path("/run/comin/remotes/alone").exists()
        });
        let started = host.read("/run/started");
        host.run("systemctl stop alone-local.path alone.path");
        host.run("rm /run/started");
        let started = Duration::from_secs_f64(started.trim().parse().unwrap());
        started.saturating_sub(moved)
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deployed, evaluated) = (self.deployed.as_millis(), self.evaluated.as_millis());
        write!(f, "{deployed}/{evaluated}")
    }
}

#[test]
fn a_push_to_origin_is_deployed_when_its_unit_is_started() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let elsewhere = host.local.cloned(&host, "/home/owner/elsewhere");
    let commit = elsewhere.commit(&host, &first.named("pushed"));
    elsewhere.git(&host, "push --quiet origin main");
    host.run("systemctl start comin-origin");
    let attempt = host.await_deployed(&commit);
    assert_eq!(attempt["remote"], "origin");
    assert_eq!(host.switches(), ["switch first", "switch pushed"]);
    assert_eq!(host.systems(), ("pushed".into(), "pushed".into()));
}

#[test]
fn a_fetch_is_confined_and_reads_what_only_its_owner_may() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let home = fs::metadata(host.path(LOCAL).parent().unwrap()).unwrap();
    assert_eq!(
        (home.permissions().mode() & 0o777, home.uid()),
        (0o700, 1000)
    );
    host.await_deployed(&host.commit(&first.named("second")));
    host.await_polls(2);
    assert_eq!(host.run("find /home/owner -not -user 1000"), "");
    for (property, value) in [
        ("CapabilityBoundingSet", "cap_dac_read_search"),
        ("User", "comin"),
        ("NoNewPrivileges", "yes"),
    ] {
        assert_eq!(host.show("comin-local", property), value);
    }
}

/// What a deployment must not leave behind.
#[track_caller]
fn assert_nothing_is_left(host: &Host) {
    host.await_idle();
    let activation = host.json("/run/comin/activation.json");
    assert_eq!(activation["ended"], json!({"status": 0}));
    for attempt in host.attempts() {
        assert_eq!(attempt["status"], "done", "{attempt:#}");
    }
    await_that("the end of the activation's unit", || {
        host.show(ACTIVATION, "LoadState") == "not-found"
    });
    assert_eq!(host.units("--failed"), [""; 0]);
    assert_eq!(
        host.run("ls /run/nixos"),
        "switch-to-configuration.lock",
        "a switch that ended has removed its lists"
    );
    for unit in host.units("--all comin*") {
        assert_eq!(host.show(&unit, "NeedDaemonReload"), "no", "{unit}");
    }
}

#[test]
fn a_switch_may_change_and_remove_comins_own_units() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let push = || {
        host.local.git(&host, "push --quiet origin main");
        host.run("systemctl start comin-origin");
    };

    // All services and a timer change, and there are new ones.
    host.run("cp /usr/local/bin/comin /usr/local/bin/comin-next");
    let changed = first.with("changed", |c| {
        c["comin"]["comin"] = json!("/usr/local/bin/comin-next");
        c["comin"]["debug"] = json!(true);
        c["comin"]["remotes"][0]["poller"]["period"] = json!(2);
        let mut another = c["comin"]["remotes"][0].clone();
        another["name"] = json!("another");
        another["poller"]["period"] = json!(3600);
        // Or either of the two may be the first to see a commit.
        another["watch"] = json!([]);
        c["comin"]["remotes"].as_array_mut().unwrap().push(another);
    });
    host.await_deployed(&host.commit(&changed));
    assert_nothing_is_left(&host);
    for unit in ["comin", "comin-local", "comin-another"] {
        let start = host.show(unit, "ExecStart");
        assert!(start.contains("/comin-next --debug "), "{start}");
    }
    let timer = host.show("comin-local.timer", "TimersMonotonic");
    assert!(timer.contains("OnUnitInactiveUSec=2s"), "{timer}");
    await_that("the new remote is fetched", || {
        !host.fetched("another").is_null()
    });
    host.await_deployed(&host.commit(&changed.named("after-change")));
    assert_nothing_is_left(&host);

    // The remote that brings the commit is not in it any more.
    let alone = first.with("alone", |c| {
        c["comin"]["remotes"].as_array_mut().unwrap().remove(0);
    });
    let attempt = host.await_deployed(&host.commit(&alone));
    assert_eq!(attempt["remote"], "local");
    assert_nothing_is_left(&host);
    await_that("the end of the remotes' units", || {
        let units = host.units("--all comin*");
        units
            == [
                "comin.path",
                "comin-fetcher.service",
                "comin-origin.service",
                "comin.service",
                "comin-origin.timer",
            ]
    });
    let commit = host.commit(&alone.named("after-removal"));
    push();
    assert_eq!(host.await_deployed(&commit)["remote"], "origin");
    assert_nothing_is_left(&host);

    // comin itself is not in it any more.
    let commit = host.commit(&alone.with("disabled", |c| c["comin"] = Value::Null));
    push();
    host.await_deployed(&commit);
    assert_nothing_is_left(&host);
    await_that("the end of comin's units", || {
        host.units("--all comin*").is_empty()
    });
    assert!(!host.path("/etc/comin/config.json").is_symlink());
    assert_eq!(
        host.switches(),
        [
            "switch first",
            "switch changed",
            "switch after-change",
            "switch alone",
            "switch after-removal",
            "switch disabled",
        ]
    );
}

#[test]
fn killed_at_any_stage_the_next_poll_brings_the_right_system() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let kill = || host.run("systemctl kill --signal=KILL comin.service");

    let gate = Gate::new(&host, "evaluation");
    let commit = host.commit(&first.with("second", |c| c["evaluation"] = json!(gate.code())));
    gate.await_begun();
    assert_eq!(host.status()["phase"], "evaluating");
    kill();
    gate.open();
    host.await_deployed(&commit);

    let gate = Gate::new(&host, "build");
    let commit = host.commit(&first.with("third", |c| c["build"] = json!(gate.code())));
    gate.await_begun();
    let anybody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let status = host.run(&format!("{anybody} comin status --json"));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["phase"], "building");
    assert_eq!(status["selected"]["commit"], commit.as_str());
    assert_eq!(status["deployed"]["subject"], "second");
    kill();
    gate.open();
    host.await_deployed(&commit);

    let gate = Gate::new(&host, "activation");
    let commit = host.commit(&first.with("fourth", |c| {
        c["system"]["activation"] = json!(gate.code());
    }));
    gate.await_begun();
    assert_eq!(host.status()["phase"], "activating");
    let run = host.show(ACTIVATION, "InvocationID");
    let killed = host.show("comin.service", "InvocationID");
    kill();
    await_that("a poll that notices", || {
        host.show("comin.service", "InvocationID") != killed
            && host.show("comin.service", "ActiveState") == "active"
    });
    // It went on by itself, and the new comin waits for it.
    assert_eq!(host.show(ACTIVATION, "InvocationID"), run);
    assert_eq!(host.show(ACTIVATION, "ActiveState"), "active");
    gate.open();
    host.await_deployed(&commit);

    host.await_idle();
    assert_eq!(host.systems(), ("fourth".into(), "fourth".into()));
    let once = [
        "switch first",
        "switch second",
        "switch third",
        "switch fourth",
    ];
    assert_eq!(host.switches(), once);
    let attempts = host.attempts().into_iter();
    let attempts: Vec<_> = attempts
        .map(|attempt| (attempt["subject"].clone(), attempt["status"].clone()))
        .collect();
    let expected = [
        ("first", "done"),
        ("second", "interrupted"),
        ("second", "done"),
        ("third", "interrupted"),
        ("third", "done"),
        ("fourth", "done"),
    ];
    assert_eq!(
        attempts,
        expected.map(|(subject, status)| (json!(subject), json!(status)))
    );
}

#[test]
fn a_reboot_undoes_a_test_until_there_is_another_one() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    host.local
        .git(&host, "switch --quiet --create testing-machine");
    let attempt = host.await_deployed(&host.commit(&first.named("tested")));
    assert_eq!(attempt["operation"], "test");
    assert_eq!(host.systems(), ("tested".into(), "first".into()));

    host.reboot();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    host.await_polls(3);
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    assert_eq!(host.switches(), ["switch first", "test tested"]);

    host.await_deployed(&host.commit(&first.named("again")));
    assert_eq!(host.systems(), ("again".into(), "first".into()));
    assert_eq!(
        host.switches(),
        ["switch first", "test tested", "test again"]
    );
}

#[test]
fn a_deployment_and_a_rebuild_by_hand_exclude_each_other() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let rebuild = format!("systemd-run --collect --unit={ACTIVATION} sleep infinity");
    host.run(&rebuild);
    let commit = host.commit(&first.named("second"));
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "postponed", "{attempt:#}");
    let error = attempt["error"].as_str().unwrap();
    assert!(
        error.contains(&format!("{ACTIVATION}.service was already loaded")),
        "{error}"
    );
    assert_eq!(host.switches(), ["switch first"]);
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    // It is tried again by itself once that has come to its end.
    host.run(&format!("systemctl stop {ACTIVATION}"));
    host.await_done(&commit);
    assert_eq!(host.systems(), ("second".into(), "second".into()));

    let gate = Gate::new(&host, "activation");
    let commit = host.commit(&first.with("third", |c| {
        c["system"]["activation"] = json!(gate.code());
    }));
    gate.await_begun();
    let said = host.try_run(&rebuild);
    assert_ne!(said.code, Some(0), "{said:?}");
    gate.open();
    host.await_deployed(&commit);
    let switches = ["switch first", "switch second", "switch third"];
    assert_eq!(host.switches(), switches);
    assert_eq!(host.systems(), ("third".into(), "third".into()));
}

#[test]
fn after_a_power_cut_the_machine_reaches_the_right_system_by_itself() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);

    let gate = Gate::new(&host, "build");
    let commit = host.commit(&first.with("second", |c| c["build"] = json!(gate.code())));
    gate.await_begun();
    host.cut_power();
    host.boot();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    gate.open();
    host.await_deployed(&commit);
    host.await_idle();
    assert_eq!(host.switches(), ["switch first", "switch second"]);

    let gate = Gate::new(&host, "activation");
    // The boot must not wait.
    let in_switch = format!(
        "if [ -n \"${{NIXOS_ACTION:-}}\" ]; then {}; fi",
        gate.code()
    );
    let commit = host.commit(&first.with("third", |c| {
        c["system"]["activation"] = json!(in_switch);
    }));
    gate.await_begun();
    host.cut_power();
    host.boot();
    gate.open();
    host.await_deployed(&commit);
    host.await_idle();
    assert_eq!(host.label("/run/booted-system"), "third");
    assert_eq!(host.systems(), ("third".into(), "third".into()));
    // The boot has activated it: to switch once more would be for nothing.
    assert_eq!(
        host.switches(),
        ["switch first", "switch second", "switch third"]
    );
}

/// A machine that tries nothing again while the test reads its journal.
fn tried_once() -> Configuration {
    Configuration::new("first").with("first", |c| {
        c["settings"]["retry"] = json!({"first_delay": 3600});
    })
}

#[test]
fn the_journal_tells_a_deployment_step_by_step() {
    need_host!();
    let first = tried_once();
    let host = Host::installed(&first);
    let story = host.cursor_now();
    // What comin says itself; systemd says something about comin's units, too.
    let said = |unit: &str, priority: &str| -> Vec<String> {
        let lines = host.journal(&format!("{story} --unit={unit}")).into_iter();
        let lines = lines.filter(|line| line.identifier == "comin" && line.priority == priority);
        lines.map(|line| line.message).collect()
    };

    let commit = host.commit(&first.with("good", |c| c["build"] = json!("echo the mill grinds")));
    let attempt = host.await_deployed(&commit);
    host.await_idle();
    let (short, out) = (&commit[..8], attempt["out"].as_str().unwrap());
    assert_eq!(
        said("comin-local", "5"),
        [format!("local/main is at {short}")]
    );
    assert_eq!(
        said("comin", "5"),
        [
            format!("Deploying {short} (local/main) by switch: good"),
            format!("Building {out}"),
            format!("Activating {out}"),
            format!("Deployed {short} (local/main) by switch"),
        ]
    );
    assert!(said("comin", "6").contains(&"build> the mill grinds".to_string()));
    assert_eq!(said("comin", "3"), [""; 0]);

    let commit = host.commit(&first.with("bad", |c| c["system"] = json!({"colour": "blue"})));
    host.await_ended(&commit);
    host.await_idle();
    let errors = said("comin", "3");
    let beginning = format!(
        "Failed to deploy {} (local/main): nix eval exited with status 1: ",
        &commit[..8]
    );
    assert!(
        errors.len() == 1 && errors[0].starts_with(&beginning),
        "{errors:#?}"
    );
}

#[test]
fn one_deployment_is_found_in_the_journal_by_its_commit() {
    need_host!();
    let first = tried_once();
    let host = Host::installed(&first);
    let story = host.cursor_now();
    let commit = host.commit(&first.with("good", |c| {
        c["build"] = json!("echo the mill grinds");
        c["system"] = json!({"activation": "echo the bread is baked"});
    }));
    host.await_deployed(&commit);
    let bad = host.commit(&first.with("bad", |c| {
        // Nix tells of it in one message of several lines.
        c["evaluation"] = json!("echo PRIORITY=0; echo COMIN_OUTCOME=done; exit 1");
    }));
    host.await_ended(&bad);
    host.await_idle();

    // Each with the stage and the outcome.
    let told = |lines: &[Line]| -> Vec<(String, String, String)> {
        let field = |line: &Line, name| line.field(name).unwrap_or_default().to_string();
        let told = |line: &Line| {
            let (stage, outcome) = (field(line, "COMIN_STAGE"), field(line, "COMIN_OUTCOME"));
            (line.message.clone(), stage, outcome)
        };
        lines.iter().map(told).collect()
    };
    let entry = |text: &str, stage: &str, outcome: &str| {
        (text.to_string(), stage.to_string(), outcome.to_string())
    };
    let of = |commit: &str| host.journal(&format!("COMIN_COMMIT={commit}"));
    let lines = of(&commit);
    for (field, value) in [
        ("COMIN_REMOTE", "local"),
        ("COMIN_OPERATION", "switch"),
        ("COMIN_ATTEMPT", "2"),
    ] {
        for line in &lines {
            assert_eq!(line.field(field), Some(value), "{line:?}");
        }
    }
    let (short, out) = (&commit[..8], &host.attempts()[1]["out"]);
    let out = out.as_str().unwrap();
    let begin = format!("Deploying {short} (local/main) by switch: good");
    let end = format!("Deployed {short} (local/main) by switch");
    let story_of_good = told(&lines);
    let mut rest = story_of_good.iter();
    for step in [
        entry(&begin, "evaluating", ""),
        entry(&format!("Building {out}"), "building", ""),
        entry("build> the mill grinds", "building", ""),
        entry(&format!("Activating {out}"), "activating", ""),
        // The switch says that itself, in a unit of its own.
        entry("the bread is baked", "activating", ""),
        entry(&end, "checking", "done"),
    ] {
        let found = rest.any(|line| *line == step);
        assert!(found, "{step:?} in {story_of_good:#?}");
    }

    // Text from a repository makes no field, and does not change one.
    let lines_of_bad = of(&bad);
    let is_failure = |line: &&Line| line.message.starts_with("Failed to deploy ");
    let failed = lines_of_bad.iter().find(is_failure).unwrap();
    assert!(failed.message.contains("COMIN_OUTCOME=done"), "{failed:?}");
    assert_eq!(failed.field("COMIN_OUTCOME"), Some("failed"), "{failed:?}");
    assert_eq!(failed.priority, "3", "{failed:?}");

    // By the unit each of comin's lines is found in its order, also the last one before the process ends.
    let by_unit = host.journal(&format!("{story} --unit=comin --identifier=comin"));
    let is_about = |line: &&Line| line.field("COMIN_COMMIT").is_some();
    let by_unit: Vec<_> = by_unit.iter().filter(is_about).map(Line::cursor).collect();
    let is_comins = |line: &&Line| line.field("OBJECT_SYSTEMD_UNIT") == Some("comin.service");
    let by_commit = lines.iter().chain(&lines_of_bad).filter(is_comins);
    assert_eq!(by_unit, by_commit.map(Line::cursor).collect::<Vec<_>>());
    // A fetch, which has no socket, tells the journal as ever.
    let fetched = host.journal(&format!("{story} --unit=comin-local"));
    assert_eq!(fetched[0].message, format!("local/main is at {short}"));
    assert_eq!(fetched[0].priority, "5");
}

#[test]
fn the_journal_has_the_last_words_of_a_process_by_its_unit() {
    need_host!();
    let host = Host::installed(&Configuration::new("first"));
    // Ends right after the one line that it says.
    let last_words = |unit: &str, setting: &str| {
        let comin = "/usr/local/bin/comin --config /nonexistent deploy";
        let said = host.try_run(&format!(
            "systemd-run --quiet --wait --collect --unit={unit} {setting} {comin}"
        ));
        assert_eq!(said.code, Some(2), "{said:?}");
    };
    for _ in 0..20 {
        last_words("brief", "--service-type=exec");
    }
    last_words(
        "without-socket",
        "--property=InaccessiblePaths=/run/systemd/journal/socket",
    );
    for (unit, number, transport) in [("brief", 20, "journal"), ("without-socket", 1, "stdout")] {
        let lines = host.journal(&format!("--unit={unit} --identifier=comin"));
        assert_eq!(lines.len(), number, "{unit}: {lines:#?}");
        for line in &lines {
            assert_eq!(line.field("_TRANSPORT"), Some(transport));
            // journald itself knows the unit of nearly all of them: these are for the others.
            let named = (transport == "journal").then(|| format!("{unit}.service"));
            assert_eq!(line.field("OBJECT_SYSTEMD_UNIT"), named.as_deref());
            assert_eq!(line.priority, "3");
            assert!(line.message.contains("/nonexistent"), "{line:?}");
        }
    }
}
