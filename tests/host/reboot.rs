//! Whole machines that need a reboot: by hand, by comin itself, and into another system.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use crate::machine::{Configuration, Host};
use crate::support::await_that;

/// A system with a critical component, whose kernel and initrd are the same as those of any other one.
fn with_dbus(label: &str, dbus: &str) -> Configuration {
    Configuration::new(label).with(label, |c| {
        let inhibitors = json!({"dbus": dbus}).to_string();
        c["system"]["extra"] =
            json!({"switch-inhibitors": inhibitors, "kernel": null, "initrd": null});
    })
}

/// `/etc/localtime` of a time zone that is five hours ahead.
fn five_hours_ahead() -> String {
    // No leap second, no transition, one type of time, four letters of a name.
    let zeros = "\0".repeat(34);
    let block = format!("TZif2{zeros}\x01\0\0\0\x04\0\0\x46\x50\0\0+05\0");
    format!("{block}{block}\n<+05>-5\n")
}

/// The same on a machine that may reboot by itself, in a window that is open by its local time alone.
fn reboots(label: &str, dbus: &str) -> Configuration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let in_hours = |hours: u64| format!("{:02}:30", (now.as_secs() / 3600 + hours) % 24);
    with_dbus(label, dbus).with(label, |c| {
        let window = json!({"lower": in_hours(4), "upper": in_hours(7)});
        c["settings"]["reboot"] = json!({"allow": true, "delay": 0, "window": window});
    })
}

/// A machine that has booted what it runs.
fn booted(configuration: &Configuration) -> Host {
    let host = Host::installed_with(configuration, |host| {
        host.run("rm -f /etc/localtime");
        host.write("/etc/localtime", &five_hours_ahead());
    });
    host.reboot();
    host.await_polls(2);
    host.await_idle();
    assert_eq!(host.status()["need_to_reboot"], false);
    host
}

#[track_caller]
fn assert_settled(host: &Host, label: &str) {
    host.await_polls(2);
    host.await_idle();
    assert_eq!(host.systems(), (label.into(), label.into()));
    let status = host.status();
    assert_eq!(status["need_to_reboot"], false, "{status:#}");
    assert_eq!(status["booted_instead"], Value::Null);
}

fn said(host: &Host, text: &str) -> usize {
    let lines = host.journal("--identifier=comin");
    lines.iter().filter(|l| l.message.contains(text)).count()
}

#[test]
fn a_switch_that_is_inhibited_becomes_a_boot_and_a_reboot_settles_it() {
    need_host!();
    let host = booted(&with_dbus("first", "daemon"));
    let commit = host.commit(&with_dbus("second", "broker"));
    let attempt = host.await_deployed(&commit);
    assert_eq!(attempt["inhibitors"], json!(["dbus"]));
    host.await_polls(2);
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "second".into()));
    let status = host.status();
    assert_eq!(status["deployed"]["operation"], "boot");
    assert_eq!(
        status["reboot_reasons"],
        json!(["another system boots next"])
    );
    assert_eq!(said(&host, "only a reboot changes dbus"), 1);

    host.reboot();
    assert_settled(&host, "second");
    assert_eq!(host.switches(), ["switch first", "boot second"]);
    assert_eq!(host.attempts().len(), 2);
}

#[test]
fn a_boot_into_an_older_generation_is_reported_and_not_repaired() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    host.await_deployed(&host.commit(&first.named("second")));
    host.await_idle();
    // As somebody does at the boot loader.
    let profiles = "/nix/var/nix/profiles";
    let chosen = host.run(&format!("readlink {profiles}/system-1-link"));
    let default = host.read("/boot/loader-default");
    host.write("/boot/loader-default", &chosen);
    host.reboot();
    host.write("/boot/loader-default", &default);
    host.await_polls(3);
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "second".into()));
    assert_eq!(host.status()["booted_instead"], chosen);
    assert_eq!(
        said(&host, &format!("The machine booted {chosen} instead")),
        1
    );
    assert_eq!(host.switches(), ["switch first", "switch second"]);

    host.run("comin retry");
    await_that("what is deployed runs", || {
        host.systems() == ("second".into(), "second".into())
    });
    host.await_idle();
    assert_eq!(host.status()["booted_instead"], Value::Null);
    host.await_deployed(&host.commit(&first.named("third")));
    assert_eq!(host.systems(), ("third".into(), "third".into()));
}

#[test]
fn a_machine_that_may_reboots_by_itself_once() {
    need_host!();
    let host = booted(&reboots("first", "daemon"));
    host.commit(&reboots("second", "broker"));
    host.await_reboot();
    assert_settled(&host, "second");
    assert_eq!(host.switches(), ["switch first", "boot second"]);
    assert_eq!(host.attempts().len(), 2);
    assert_eq!(said(&host, "reboot"), 0, "nothing of it is left");
    let reboot = host.json("/var/lib/comin/state.json")["reboot"].take();
    assert_eq!(
        (&reboot["attempt"], &reboot["stage"]),
        (&json!(2), &json!("ordered"))
    );
}

#[test]
fn a_lock_of_logind_holds_a_reboot_back() {
    need_host!();
    let host = booted(&reboots("first", "daemon"));
    host.run("systemd-run --unit=lock systemd-inhibit --what=shutdown --mode=block --who=backup --why=runs sleep infinity");
    await_that("the lock", || {
        host.run("systemd-inhibit --list").contains("backup")
    });
    let commit = host.commit(&reboots("second", "broker"));
    host.await_deployed(&commit);
    host.await_polls(2);
    host.await_idle();
    let waits =
        "A reboot is needed: another system boots next; it waits for a lock of backup (runs)";
    assert_eq!(said(&host, waits), 1);
    assert_eq!(said(&host, "Rebooting"), 0);

    host.run("systemctl stop lock");
    // It may well be killed.
    host.try_run("comin deploy");
    host.await_reboot();
    assert_settled(&host, "second");
}

#[test]
fn what_runs_has_booted_and_would_be_rolled_back_to_is_not_collected() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["retention"] = json!({
            "deployment_boot_entry_capacity": 1,
            "deployment_successful_capacity": 1,
            "deployment_any_capacity": 1,
        });
    });
    let host = booted(&first);
    for label in ["second", "third", "fourth"] {
        host.await_deployed(&host.commit(&first.named(label)));
        host.await_idle();
    }
    host.run("nix-collect-garbage");
    let systems = host.run("ls /nix/store");
    let is_there = |label: &str| {
        let name = format!("-nixos-system-machine-{label}");
        systems.lines().any(|system| system.ends_with(&name))
    };
    // It has booted the first, runs the fourth, and would go back to the third.
    assert_eq!(
        ["first", "second", "third", "fourth"].map(is_there),
        [true, false, true, true]
    );
    let generations = host.run("ls /nix/var/nix/profiles");
    let links: Vec<&str> = generations
        .lines()
        .filter(|l| l.ends_with("-link"))
        .collect();
    assert_eq!(links, ["system-1-link", "system-3-link", "system-4-link"]);
    host.run("comin rollback");
    assert_eq!(host.systems(), ("third".into(), "third".into()));
}
