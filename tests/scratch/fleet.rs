//! What a fleet's Prometheus makes of the metrics: the alert rules and the dashboard of the module.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{json, Value};

use crate::support::prometheus::{free_port, Prometheus};
use crate::support::{await_that, Said};
use crate::world::{System, World};

/// Every rule, and the machines of [`Fleet`] that it finds.
const ALERTS: [(&str, &[&str]); 13] = [
    ("CominGone", &["gone"]),
    ("CominNotDeploying", &["late"]),
    ("CominWaitsForCI", &["unbuilt"]),
    ("CominWaitsAtGate", &["gated"]),
    ("CominFailing", &["failing"]),
    ("CominGivenUp", &["lost"]),
    ("CominHeldByHand", &["held"]),
    ("CominDrifted", &["drifted"]),
    ("CominUndecided", &["refused"]),
    ("CominNotPolling", &["fresh"]),
    ("CominFetchFailing", &["failing"]),
    ("CominNeedsReboot", &["waiting"]),
    ("CominSuspended", &["suspended"]),
];

/// What the dashboard counts of them.
const COUNTS: [(&str, &str); 8] = [
    ("Machines", "12"),
    ("Out of reach", "1"),
    ("Behind", "9"),
    ("Failing", "2"),
    ("Held", "2"),
    ("Remotes failing", "1"),
    ("Need a reboot", "2"),
    ("Suspended", "1"),
];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn promtool(arguments: &[&str], path: &str) {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(arguments).arg(file(path)).output();
    let said = Said::of(&output.unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn the_alert_rules_say_of_each_situation_what_they_should() {
    need!("promtool");
    promtool(
        &["check", "rules", "--lint=all", "--lint-fatal"],
        "module/alerts.yml",
    );
    promtool(&["test", "rules"], "tests/alerts/alerts.yml");
}

/// Starts comin for each request at a port, as systemd does.
fn export(world: &World) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut comin = world.command(&["exporter"]);
    comin.stdout(Stdio::null()).stderr(Stdio::null());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let socket = OwnedFd::from(stream.unwrap());
            let mut child = comin.stdin(socket).spawn().unwrap();
            // The command has the socket, too.
            comin.stdin(Stdio::null());
            child.wait().unwrap();
        }
    });
    port
}

/// A machine for each thing that a person wants to hear of.
struct Fleet(Vec<(&'static str, World)>);

impl Fleet {
    fn new() -> Self {
        let (well, _) = World::new();
        well.comin(&["run"], 0);

        let (mut failing, origin) = World::new();
        failing.comin(&["run"], 0);
        origin.commit("bad", &System::with("colour = \"blue\";"));
        failing.comin(&["run"], 1);
        failing.follow("gone", &failing.path("gone").display().to_string());
        failing.comin(&["fetch", "gone"], 1);

        let (mut lost, origin) = World::new();
        lost.comin(&["run"], 0);
        lost.configure(|config| config["health_check"] = json!({"commands": ["false"]}));
        origin.commit("unwell", &System::default());
        lost.comin(&["run"], 1);

        let (suspended, origin) = World::new();
        suspended.comin(&["run"], 0);
        suspended.comin(&["suspend"], 0);
        origin.commit("later", &System::default());
        suspended.comin(&["run"], 0);

        let (mut waiting, origin) = World::new();
        waiting.comin(&["run"], 0);
        let system = fs::read_link(waiting.path("root/run/current-system")).unwrap();
        symlink(system, waiting.path("root/run/booted-system")).unwrap();
        waiting.configure(|config| {
            config["remotes"][0]["branches"] = json!({"main": {"operation": "boot"}});
        });
        origin.commit("next", &System::default());
        waiting.comin(&["run"], 0);

        let (mut gated, origin) = World::new();
        gated.comin(&["run"], 0);
        gated.configure(|config| config["min_free"] = json!(u64::MAX));
        origin.commit("later", &System::default());
        gated.comin(&["run"], 0);

        let (fresh, _) = World::new();

        let (late, origin) = World::new();
        late.comin(&["run"], 0);
        origin.commit("later", &System::default());
        late.comin(&["fetch", "origin"], 0);

        let (held, origin) = World::new();
        held.comin(&["run"], 0);
        origin.commit("second", &System::default());
        held.comin(&["run"], 0);
        held.comin(&["rollback"], 0);
        held.comin(&["run"], 0);

        let (drifted, origin) = World::new();
        drifted.comin(&["run"], 0);
        let link = drifted.path("root/run/current-system");
        let first = fs::read_link(&link).unwrap();
        origin.commit("second", &System::default());
        drifted.comin(&["run"], 0);
        fs::remove_file(&link).unwrap();
        symlink(first, link).unwrap();

        let (refused, origin) = World::new();
        origin.commit("second", &System::default());
        refused.comin(&["run"], 0);
        origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        refused.comin(&["run"], 0);

        let (mut unbuilt, origin) = World::new();
        unbuilt.comin(&["run"], 0);
        unbuilt.configure(|config| config["prebuilt"] = json!({"notes": "comin"}));
        origin.commit("second", &System::default());
        unbuilt.comin(&["run"], 0);

        Self(vec![
            ("well", well),
            ("failing", failing),
            ("lost", lost),
            ("suspended", suspended),
            ("waiting", waiting),
            ("gated", gated),
            ("fresh", fresh),
            ("late", late),
            ("held", held),
            ("drifted", drifted),
            ("refused", refused),
            ("unbuilt", unbuilt),
        ])
    }

    /// A Prometheus that scrapes it, and a machine that is gone.
    fn scraped(&self) -> Prometheus {
        let machines = self.0.iter().map(|(name, world)| (*name, export(world)));
        let mut targets: Vec<_> = machines.collect();
        targets.push(("gone", free_port()));
        Prometheus::scraping(&targets, &[&file("module/alerts.yml")])
    }
}

/// The machines that a rule finds; none, too, if it cannot be evaluated.
fn found(rules: &[Value], name: &str) -> Vec<String> {
    let rule = rules.iter().find(|rule| rule["name"] == name);
    let alerts = rule
        .filter(|rule| rule["health"] == "ok")
        .and_then(|rule| rule["alerts"].as_array());
    let mut instances: Vec<String> = alerts
        .into_iter()
        .flatten()
        .map(|alert| {
            alert["labels"]["instance"]
                .as_str()
                .unwrap_or_default()
                .to_string()
        })
        .collect();
    instances.sort();
    instances.dedup();
    instances
}

/// The panels of the dashboard: title and queries, for the machines that are chosen.
fn panels(machines: &str) -> Vec<(String, Vec<String>)> {
    let dashboard = fs::read(file("module/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panel = |panel: &Value| {
        let query = |target: &Value| {
            let query = target["expr"].as_str().unwrap();
            query
                .replace("$instance", machines)
                .replace("$__rate_interval", "30s")
        };
        let targets = panel["targets"].as_array().unwrap();
        let title = panel["title"].as_str().unwrap().to_string();
        (title, targets.iter().map(query).collect())
    };
    let panels = dashboard["panels"].as_array().unwrap();
    panels.iter().map(panel).collect()
}

#[test]
fn every_alert_and_every_panel_has_data_of_a_real_fleet() {
    need!("git", "nix", "prometheus", "curl");
    let fleet = Fleet::new();
    let prometheus = fleet.scraped();
    await_that("the first scrapes", || {
        prometheus.query("up == 1").len() == fleet.0.len()
    });

    for (name, expected) in ALERTS {
        let what = format!("{name} of {expected:?}");
        await_that(&what, || found(&prometheus.rules(), name) == expected);
    }
    assert_eq!(prometheus.rules().len(), ALERTS.len());

    for (title, queries) in panels(".*") {
        for query in queries {
            // Only a group of a pattern is left, and no variable.
            assert!(!query.replace("\"$1\"", "").contains('$'), "{query}");
            await_that(&format!("data for {title}: {query}"), || {
                !prometheus.query(&query).is_empty()
            });
        }
    }
    let counts = |machines: &str, title: &str| {
        let panels = panels(machines);
        let (_, queries) = panels.iter().find(|(name, _)| name == title).unwrap();
        let counted = prometheus.query(&queries[0]).pop();
        counted.unwrap_or_default()["value"][1].clone()
    };
    // A scrape may end too late, which the next one makes good.
    let await_count = |machines: &str, title: &str, count: &str| {
        let what = format!("{title} of {machines} is {count}");
        await_that(&what, || counts(machines, title) == count);
    };
    for (title, count) in COUNTS {
        await_count(".*", title, count);
        let count_of_one = if title == "Machines" { "1" } else { "0" };
        await_count("well", title, count_of_one);
    }
}
