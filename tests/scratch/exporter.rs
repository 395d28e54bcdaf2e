//! The exporter, as systemd starts it for a connection, and as a person does.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::support::{has, skip, Said};
use crate::world::{System, World};

/// Those of the Go comin, with their labels.
const OF_GO: [(&str, &[&str]); 9] = [
    ("comin_build_info", &["version"]),
    ("comin_deployment_info", &["commit_id", "status"]),
    ("comin_fetch_count", &["remote_name", "status"]),
    ("comin_is_suspended", &[]),
    ("comin_need_to_reboot", &[]),
    ("comin_last_fetch_failed", &["remote_name"]),
    ("comin_last_eval_failed", &[]),
    ("comin_last_build_failed", &[]),
    ("comin_last_deployment_failed", &[]),
];

/// What is printed where nobody is connected.
fn metrics(world: &World) -> String {
    world.comin(&["exporter"], 0).out
}

/// The value of a sample, as `name{labels}`.
#[track_caller]
fn sample(metrics: &str, name: &str) -> Option<f64> {
    let prefix = format!("{name} ");
    let line = metrics.lines().find(|line| line.starts_with(&prefix))?;
    Some(line[prefix.len()..].parse().unwrap())
}

/// What comes back over a connection that comin has on standard input, and what comin says.
fn request(
    world: &World,
    mut ours: impl Read + Write,
    theirs: impl Into<OwnedFd>,
    request: &str,
    code: i32,
) -> (String, Said) {
    let mut comin = world.command(&["exporter"]);
    let child = comin
        .stdin(theirs.into())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command has the other end, too.
    drop(comin);
    ours.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    ours.read_to_string(&mut response).unwrap();
    drop(ours);
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(code), "{said:?}");
    assert_eq!(said.out, "", "the answer goes to the socket alone");
    (response, said)
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n";

#[test]
fn a_request_is_answered_on_the_socket_that_systemd_hands_over() {
    let (world, _) = World::new();
    world.comin(&["fetch", "origin"], 0);
    let printed = metrics(&world);

    let (ours, theirs) = UnixStream::pair().unwrap();
    let (response, said) = request(&world, ours, theirs, GET, 0);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, printed);
    assert_eq!(said.err, "");

    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    let (response, said) = request(&world, ours, theirs, "GET /x HTTP/1.1\r\n\r\n", 0);
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    assert_eq!(said.err, "");
}

#[test]
fn whoever_says_nothing_is_not_waited_for() {
    let (world, _) = World::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // It is we who would wait for ever, if it were not given up.
    let (response, said) = request(&world, ours, theirs, "GET /metrics", 0);
    assert_eq!((response.as_str(), said.err.as_str()), ("", ""));
}

#[test]
fn a_state_that_cannot_be_read_is_one_line_in_the_journal_and_no_metrics() {
    let (world, _) = World::new();
    fs::create_dir_all(world.path("root/var/lib/comin")).unwrap();
    fs::write(world.path("root/var/lib/comin/state.json"), "{").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (response, said) = request(&world, ours, theirs, GET, 1);
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    assert!(!response.contains("state.json"), "{response}");
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(
        said.err.contains("state.json cannot be read"),
        "{}",
        said.err
    );
}

#[test]
fn fetches_are_counted_and_dated() {
    let (mut world, origin) = World::new();
    world.follow("gone", &world.path("gone").display().to_string());
    let before = metrics(&world);
    assert_eq!(
        sample(
            &before,
            r#"comin_fetch_count{remote_name="gone",status="failed"}"#
        ),
        Some(0.0)
    );
    assert_eq!(
        sample(&before, r#"comin_last_fetch_failed{remote_name="gone"}"#),
        None
    );

    world.comin(&["fetch", "origin"], 0);
    world.comin(&["fetch", "origin"], 0);
    world.comin(&["fetch", "gone"], 1);
    let after = metrics(&world);
    for (name, value) in [
        (
            r#"comin_fetch_count{remote_name="origin",status="succeeded"}"#,
            2.0,
        ),
        (
            r#"comin_fetch_count{remote_name="origin",status="failed"}"#,
            0.0,
        ),
        (
            r#"comin_fetch_count{remote_name="gone",status="failed"}"#,
            1.0,
        ),
        (r#"comin_last_fetch_failed{remote_name="origin"}"#, 0.0),
        (r#"comin_last_fetch_failed{remote_name="gone"}"#, 1.0),
    ] {
        assert_eq!(sample(&after, name), Some(value), "{name}\n{after}");
    }
    let at = |what: &str, remote: &str| {
        sample(
            &after,
            &format!("comin_last_fetch_{what}timestamp_seconds{{remote_name=\"{remote}\"}}"),
        )
    };
    let boot = fs::metadata(&origin.path).unwrap().modified().unwrap();
    let boot = boot
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!(at("", "gone").unwrap() > boot - 60.0);
    assert!(at("success_", "origin").unwrap() > boot - 60.0);
    assert_eq!(at("success_", "gone"), None);
    assert!(
        !after.contains("://") && !after.contains(&world.path("").display().to_string()),
        "{after}"
    );
}

#[test]
fn deployments_are_told_in_the_words_of_the_go_comin_and_more() {
    need!("nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let first = origin.git(&["rev-parse", "HEAD"]);
    let done = metrics(&world);
    for (name, labels) in OF_GO {
        let sample = done.lines().find(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let sample = sample.unwrap_or_else(|| panic!("{name}: {done}"));
        let has: Vec<_> = sample
            .split(['{', ','])
            .skip(1)
            .map(|l| l.split('=').next().unwrap())
            .collect();
        assert_eq!(has, labels, "{sample}");
    }
    let info = |status: &str, commit: &str| {
        format!(r#"comin_deployment_info{{commit_id="{commit}",status="{status}"}}"#)
    };
    assert_eq!(sample(&done, &info("done", &first)), Some(1.0), "{done}");
    assert_eq!(sample(&done, "comin_is_behind"), Some(0.0));
    assert_eq!(sample(&done, "comin_last_eval_failed"), Some(0.0));
    assert_eq!(sample(&done, r#"comin_phase{phase="idle"}"#), Some(1.0));

    origin.git(&["branch", "testing-m"]);
    let bad = origin.commit("a \"wrong\" one\\", &System::with("colour = \"blue\";"));
    world.comin(&["run"], 1);
    let failed = metrics(&world);
    let of = |name: &str, commit: &str| {
        format!(
            r#"{name}{{commit_id="{commit}",remote_name="origin",branch="main",operation="switch"}}"#
        )
    };
    let head = |commit: &str| {
        format!(r#"comin_head_info{{remote_name="origin",branch="main",commit_id="{commit}"}}"#)
    };
    let refused = r#"comin_head_refused{remote_name="origin",branch="testing-m",reason="behind"}"#;
    for (name, value) in [
        (info("failed", &bad), 1.0),
        (of("comin_deployed_info", &first), 1.0),
        (of("comin_selected_info", &bad), 1.0),
        (of("comin_running_info", &first), 1.0),
        (r#"comin_state{state="failed"}"#.to_string(), 1.0),
        (r#"comin_state{state="up_to_date"}"#.to_string(), 0.0),
        (r#"comin_drift{kind="activated"}"#.to_string(), 0.0),
        (head(&bad), 1.0),
        (refused.to_string(), 1.0),
        ("comin_is_behind".to_string(), 1.0),
        ("comin_is_given_up".to_string(), 0.0),
        ("comin_last_eval_failed".to_string(), 1.0),
        ("comin_last_build_failed".to_string(), 0.0),
        ("comin_last_deployment_failed".to_string(), 1.0),
    ] {
        assert_eq!(sample(&failed, &name), Some(value), "{name}\n{failed}");
    }
    for time in [
        "comin_running_commit_timestamp_seconds",
        "comin_last_decision_timestamp_seconds",
        "comin_next_retry_timestamp_seconds",
    ] {
        assert!(sample(&failed, time) > Some(1e9), "{time}\n{failed}");
    }
    let success = "comin_last_deployment_success_timestamp_seconds";
    assert_eq!(sample(&failed, success), sample(&done, success));
    let ended = "comin_last_deployment_timestamp_seconds";
    assert!(sample(&failed, ended) > sample(&done, ended));
    assert!(
        !failed.contains("wrong"),
        "a commit's message is not for a metric"
    );
    check(&failed);
}

#[test]
fn what_is_not_tried_again_is_given_up_until_a_head_moves() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let given_up = |world: &World| sample(&metrics(world), "comin_is_given_up");
    assert_eq!(given_up(&world), Some(0.0));
    origin.commit("broken", &System::with("activation = \"exit 1\";"));
    world.comin(&["run"], 1);
    assert_eq!(world.plan()["action"], "given_up");
    assert_eq!(given_up(&world), Some(1.0));
    // A new commit is another thing.
    origin.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(given_up(&world), Some(0.0));
}

#[test]
fn what_is_hostile_stays_within_its_label() {
    let (world, _) = World::new();
    world.comin(&["fetch", "origin"], 0);
    let commit = "a".repeat(40);
    let branch = "x\\\"} 1\\ncomin_evil 1\\u001b[2J\\u202e";
    fs::create_dir_all(world.path("root/var/lib/comin")).unwrap();
    let state = format!(
        r#"{{"version": 1, "accepted_main": null, "attempts": [{{"id": 1, "commit": "{commit}", "subject": "secret words",
            "remote": "origin", "branch": "{branch}", "testing": false, "operation": "switch", "main": "{commit}",
            "started_at": "2026-01-02T03:04:05Z", "tries": 1, "derivation": null, "out": null,
            "generation_before": null, "stage": null, "status": "done", "ended_at": "2026-01-02T03:05:05Z",
            "generation": 1, "error": null}}]}}"#
    );
    fs::write(world.path("root/var/lib/comin/state.json"), state).unwrap();
    let metrics = metrics(&world);
    assert!(
        !metrics.lines().any(|line| line.starts_with("comin_evil")),
        "{metrics}"
    );
    assert!(
        !metrics.contains(|c: char| c.is_control() && c != '\n'),
        "{metrics:?}"
    );
    assert!(!metrics.contains("secret words"), "{metrics}");
    assert_eq!(
        sample(&metrics, "comin_last_deployment_duration_seconds"),
        Some(60.0)
    );
    check(&metrics);
}

/// Lets Prometheus' own tool read the metrics.
fn check(metrics: &str) {
    if !has("promtool") {
        skip("promtool is missing");
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let said = Said::of(&promtool.wait_with_output().unwrap());
    // The one name that Prometheus would choose otherwise is the Go comin's.
    let complaints = format!("{}{}", said.out, said.err);
    let ours = |complaint: &&str| !complaint.starts_with("comin_fetch_count ");
    let complaints: Vec<_> = complaints.lines().filter(ours).collect();
    assert_eq!(complaints, [""; 0], "{metrics}");
}
