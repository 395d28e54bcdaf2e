//! Gates of a whole machine: one that hangs, across a reboot, and one that stands in the way of its own removal.

use std::fs;

use serde_json::json;

use crate::machine::{Configuration, Host};
use crate::support::await_that;

/// A machine with this gate before each activation, which answers within so many seconds.
fn gated(command: &str, timeout: u32) -> Configuration {
    Configuration::new("first").with("first", |c| {
        let gate = json!({"before": "deploy", "command": command, "timeout": timeout});
        c["settings"]["gates"] = json!({ "lock": gate });
    })
}

/// Waits until a commit waits at the gate for this reason.
#[track_caller]
fn await_at_gate(host: &Host, commit: &str, reason: &str) {
    await_that("the wait", || {
        let latest = host.attempts().pop().unwrap_or_default();
        latest["commit"] == commit && latest["status"] == "waiting"
    });
    host.await_idle();
    let status = host.status();
    assert_eq!(status["action"], "await_gate", "{status:#}");
    assert_eq!(
        status["hindrance"],
        format!("it waits at the gate lock ({reason})")
    );
    assert_eq!(host.systems(), ("first".into(), "first".into()));
}

#[test]
fn gate_that_hangs_is_asked_again_after_a_reboot() {
    need_host!();
    let first = gated("[ ! -e /srv/lock ] || sleep infinity", 1);
    let host = Host::installed(&first);
    host.write("/srv/lock", "");
    let commit = host.commit(&first.named("second"));
    let late = "the gate lock did not answer within 1 seconds and was stopped";
    await_at_gate(&host, &commit, late);
    fs::remove_file(host.path("/srv/lock")).unwrap();
    host.reboot();
    host.await_done(&commit);
    host.await_idle();
    assert_eq!(host.systems(), ("second".into(), "second".into()));
    let evaluations = host
        .attempts()
        .iter()
        .filter(|it| it["commit"] == commit.as_str())
        .count();
    assert_eq!(evaluations, 1);
}

#[test]
fn gate_that_stands_in_the_way_of_its_own_removal_is_passed_by_order() {
    need_host!();
    let first = gated("[ ! -e /srv/lock ] || { cat /srv/lock; exit 75; }", 60);
    let host = Host::installed(&first);
    host.write("/srv/lock", "for ever\n");
    let open = first.with("open", |c| c["settings"]["gates"] = json!({}));
    let commit = host.commit(&open);
    await_at_gate(&host, &commit, "for ever");
    host.run("comin confirm --past-gates");
    host.await_done(&commit);
    host.await_idle();
    let commit = host.commit(&open.named("next"));
    host.await_deployed(&commit);
    host.await_idle();
    assert_eq!(host.systems(), ("next".into(), "next".into()));
}
