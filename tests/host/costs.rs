//! What an idle machine costs: the CPU of all its processes, systemd included. `tests/bench.sh machine` prints the table.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::machine::{Configuration, Host, LOCAL};
use crate::support::prometheus::free_port;
use crate::support::tell;

/// A remote as users name it, with the period that they want.
struct Remote {
    name: String,
    is_local: bool,
    period: u64,
}

impl Remote {
    fn server(number: usize) -> Self {
        let name = format!("server{number}");
        Self {
            name,
            is_local: false,
            period: 60,
        }
    }

    /// For the Go comin, with the period that is asked for; for ours, with the one that the module makes of it.
    fn json(&self, is_ours: bool) -> Value {
        let period = if is_ours && self.is_local {
            self.period.max(60)
        } else {
            self.period
        };
        json!({
            "name": self.name,
            "url": if self.is_local { LOCAL } else { "@ORIGIN@" },
            "timeout": 300,
            "branches": {
                // A work tree is for testing only, which the Go comin does not have.
                "main": {"name": if is_ours && self.is_local { "" } else { "main" }, "operation": "switch"},
                "testing": {"name": "testing-machine", "operation": "test"},
            },
            "poller": {"period": period},
        })
    }
}

/// README's quick start.
fn quick_start() -> Vec<Remote> {
    let remote = |name: &str, is_local, period| Remote {
        name: name.into(),
        is_local,
        period,
    };
    vec![remote("origin", false, 300), remote("local", true, 1)]
}

/// The CPU that a whole machine has used since it was booted, in milliseconds.
fn used(host: &Host) -> f64 {
    let stat = host.read("/sys/fs/cgroup/cpu.stat");
    let usage = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    usage.unwrap().parse::<f64>().unwrap() / 1000.0
}

/// The same for each second of some time.
fn load(host: &Host, time: Duration) -> f64 {
    let (begin, before) = (Instant::now(), used(host));
    // Here the time itself is the subject.
    thread::sleep(time);
    (used(host) - before) / begin.elapsed().as_secs_f64()
}

/// The CPU of one start of each unit, the median of some rounds in turns, less that of the order to start it.
fn starts(host: &Host, units: &[&str]) -> Vec<f64> {
    const STARTS: u8 = 20;
    let units = [&["basic.target"], units].concat();
    let mut rounds = vec![Vec::new(); units.len()];
    for _ in 0..9 {
        for (unit, costs) in units.iter().zip(&mut rounds) {
            let before = used(host);
            for _ in 0..STARTS {
                host.run(&format!("systemctl start {unit}"));
            }
            costs.push((used(host) - before) / f64::from(STARTS));
        }
    }
    let mut medians = rounds.iter_mut().map(|costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    // It is active already.
    let order = medians.next().unwrap();
    medians.map(|cost| cost - order).collect()
}

/// Waits until what came with the start of the machine or of a program is over.
fn await_quiet(host: &Host) {
    while load(host, Duration::from_secs(5)) > 20.0 {}
}

fn configuration(remotes: &[Remote], is_ours: bool) -> Configuration {
    Configuration::new("first").with("first", |c| {
        c["comin"]["remotes"] = remotes.iter().map(|remote| remote.json(is_ours)).collect();
    })
}

/// A machine that this comin has deployed.
fn ours(remotes: &[Remote]) -> Host {
    let host = Host::installed(&configuration(remotes, true));
    host.await_idle();
    await_quiet(&host);
    host
}

fn of_ours(remotes: &[Remote], time: Duration) -> f64 {
    let host = ours(remotes);
    // From the end of a fetch, so that the time has as many as it should.
    for remote in remotes {
        host.run(&format!("systemctl start comin-{}", remote.name));
    }
    load(&host, time)
}

/// Of the Go comin at `program`.
fn of_go(program: &str, remotes: &[Remote], time: Duration) -> f64 {
    let host = Host::bare();
    std::fs::copy(program, host.path("/usr/local/bin/comin-go")).unwrap();
    host.commit(&configuration(remotes, false));
    host.local.git(&host, "push --quiet origin main");
    let address = || json!({"listen_address": "127.0.0.1", "port": free_port()});
    let settings = json!({
        "hostname": "machine",
        "state_dir": "/var/lib/comin-go",
        "state_filepath": "/var/lib/comin-go/state.json",
        "repository_type": "flake",
        "remotes": remotes.iter().map(|remote| remote.json(false)).collect::<Vec<_>>(),
        "api_server": address(),
        "exporter": address(),
        "grpc": {"unix_socket_path": "/run/comin-go.sock"},
        "build_confirmer": {"mode": "without"},
        "deploy_confirmer": {"mode": "without"},
        "retention": {
            "deployment_boot_entry_capacity": 3,
            "deployment_successful_capacity": 3,
            "deployment_any_capacity": 5,
        },
    });
    host.write("/root/go.json", &host.located(&settings));
    host.run("mkdir -p /var/lib/comin-go");
    host.run("git config --global safe.directory *");
    host.run("systemd-run --quiet --unit=comin-go --setenv=HOME=/root --setenv=PATH=/usr/local/bin:/usr/bin --setenv=NIX_CONFIG=extra-experimental-features=nix-command\\x20flakes /usr/local/bin/comin-go run --config /root/go.json");
    await_quiet(&host);
    let load = load(&host, time);
    assert_eq!(host.show("comin-go", "ActiveState"), "active");
    load
}

#[test]
#[ignore = "measures for a minute: tests/bench.sh machine"]
fn a_start() {
    need_host!();
    let host = ours(&quick_start());
    let nothing = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nLogLevelMax=notice\nExecStart=/bin/true\n";
    host.write("/run/systemd/system/nothing.service", nothing);
    host.run("systemctl daemon-reload");
    let costs = starts(&host, &["nothing", "comin-local", "comin-origin"]);
    let mut table = vec!["| one start of | CPU | ratio |\n|---|---|---|".to_string()];
    for (what, cost) in [
        "`/bin/true`, without any setting",
        "the fetch of a work tree",
        "the fetch of a server over HTTP",
    ]
    .iter()
    .zip(&costs)
    {
        table.push(format!(
            "| {what} | {cost:.1} ms | {:.2} × |",
            cost / costs[0]
        ));
    }
    tell(&table.join("\n"));
}

#[test]
#[ignore = "measures for minutes: tests/bench.sh machine"]
fn an_idle_machine() {
    need_host!();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60 + 10);
    let nothing = {
        let host = Host::bare();
        await_quiet(&host);
        load(&host, minutes(1))
    };
    let go = std::env::var("COMIN_GO").ok();
    let mut table = vec![
        "| idle machine, all processes | comin | Go comin | ratio |\n|---|---|---|---|".to_string(),
        format!("| neither | {nothing:.2} ms/s | | |"),
    ];
    for (what, remotes, time) in [
        (
            "a watched work tree, and a server each 300 s",
            quick_start(),
            minutes(5),
        ),
        ("a server each 60 s", vec![Remote::server(0)], minutes(2)),
        (
            "ten servers each 60 s",
            (0..10).map(Remote::server).collect(),
            minutes(2),
        ),
    ] {
        let ours = of_ours(&remotes, time);
        let (theirs, ratio) = match &go {
            None => ("not run".to_string(), String::new()),
            Some(program) => {
                let theirs = of_go(program, &remotes, time);
                (
                    format!("{theirs:.2} ms/s"),
                    format!("{:.2} ×", ours / theirs),
                )
            }
        };
        table.push(format!("| {what} | {ours:.2} ms/s | {theirs} | {ratio} |"));
    }
    tell(&table.join("\n"));
}
