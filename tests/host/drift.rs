//! Somebody changes a whole machine by hand: comin puts it back after the grace. And a test that is kept survives a reboot.

use serde_json::{json, Value};

use crate::machine::{Configuration, Host};
use crate::support::await_that;

/// A machine that heals a drift as soon as it sees one.
fn healing() -> Configuration {
    Configuration::new("first").with("first", |c| {
        c["settings"]["drift"] = json!({"heal": true, "grace": 0});
    })
}

/// A machine with two generations of comin's, the second of which runs.
fn deployed() -> Host {
    let host = Host::installed(&healing());
    host.await_deployed(&host.commit(&healing().named("second")));
    host.await_idle();
    host
}

/// What `nixos-rebuild switch` does, with the system of the first generation.
fn switch_by_hand(host: &Host) {
    // Nobody looks at the machine between the two steps.
    host.stop_fetches();
    let profile = "/nix/var/nix/profiles/system";
    host.run(&format!(
        "nix-env --profile {profile} --switch-generation 1"
    ));
    let switch = format!("{profile}/bin/switch-to-configuration switch");
    host.run(&format!("systemd-run --wait --collect --quiet --unit=nixos-rebuild-switch-to-configuration {switch}"));
}

fn said(host: &Host, text: &str) -> usize {
    let lines = host.journal("--boot --identifier=comin");
    lines.iter().filter(|it| it.message.contains(text)).count()
}

/// Waits until comin has seen what the machine runs, and has nothing to do about that.
#[track_caller]
fn await_rest(host: &Host) {
    host.await_polls(3);
    host.await_idle();
}

#[test]
fn machine_that_was_switched_by_hand_is_healed_once() {
    need_host!();
    let host = deployed();
    switch_by_hand(&host);
    await_that("the machine is healed", || {
        host.systems() == ("second".into(), "second".into())
    });
    await_rest(&host);
    assert_eq!(
        host.switches(),
        [
            "switch first",
            "switch second",
            "switch first",
            "switch second"
        ]
    );
    let attempt = host.attempts().pop().unwrap();
    assert_eq!(attempt["status"], "done", "{attempt:#}");
    assert_eq!(attempt["reactivation"], json!({"operation": "switch"}));
    assert_eq!(said(&host, "Drift: another system was activated"), 1);
    assert_eq!(
        said(&host, "again by switch: another system was activated"),
        1
    );
    assert_eq!(host.status()["drift"], Value::Null);
    assert_eq!(
        host.label(host.read("/boot/loader-default").trim()),
        "second"
    );
}

#[test]
fn rollback_by_hand_and_an_old_generation_at_the_boot_are_not_healed() {
    need_host!();
    let host = deployed();
    host.run("comin rollback");
    switch_by_hand(&host);
    await_rest(&host);
    assert_eq!(host.systems(), ("first".into(), "first".into()));

    host.await_deployed(&host.commit(&healing().named("third")));
    host.await_idle();
    // As somebody does at the boot loader.
    let chosen = host.run("readlink /nix/var/nix/profiles/system-1-link");
    let default = host.read("/boot/loader-default");
    host.write("/boot/loader-default", &chosen);
    host.reboot();
    host.write("/boot/loader-default", &default);
    await_rest(&host);
    assert_eq!(host.systems(), ("first".into(), "third".into()));
    let refused = &host.status()["healing"]["refused"];
    assert!(
        refused.as_str().unwrap().contains("at the boot"),
        "{refused}"
    );
    assert_eq!(said(&host, "again by "), 0);
}

#[test]
fn kept_test_survives_a_reboot_until_main_moves_on() {
    need_host!();
    let host = deployed();
    host.local
        .git(&host, "switch --quiet --create testing-machine");
    let commit = host.commit(&healing().named("tested"));
    host.await_deployed(&commit);
    host.await_idle();
    let said_no = host.try_run("setpriv --reuid=1000 --regid=1000 --clear-groups comin keep");
    assert_eq!(said_no.code, Some(1), "{said_no:?}");
    host.run("comin keep");
    assert_eq!(
        said(&host, "boots next, until main moves on (ordered by root)"),
        1
    );
    host.reboot();
    await_rest(&host);
    assert_eq!(host.systems(), ("tested".into(), "tested".into()));
    let status = host.status();
    assert_eq!(
        (&status["drift"], &status["state"]),
        (&Value::Null, &json!("testing"))
    );
    assert_eq!(
        host.attempts().last().unwrap()["reactivation"]["kept_by"],
        "root"
    );

    host.local.git(&host, "switch --quiet main");
    host.await_deployed(&host.commit(&healing().named("third")));
    host.await_idle();
    assert_eq!(host.systems(), ("third".into(), "third".into()));
    assert_eq!(
        host.label(host.read("/boot/loader-default").trim()),
        "third"
    );
}
