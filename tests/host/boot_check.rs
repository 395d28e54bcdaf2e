//! Whole machines that a reboot breaks: they go back to the system before, by one reboot, and by themselves.

use std::thread;
use std::time::Duration;

use serde_json::{json, Value};

use crate::machine::{Configuration, Host};
use crate::support::sweep::{times, Dice};
use crate::support::{await_that, tell};

/// A machine that finds its origin by a name which its system has to know, and judges its first boots.
fn first() -> Configuration {
    Configuration::new("first").with("first", |c| {
        c["settings"]["reboot"] = json!({"allow": true, "delay": 0});
        // What is well is reached in time on a busy machine, too.
        c["settings"]["health_check"] = json!({"connectivity_timeout": 20});
        c["settings"]["boot_check"] = json!({"enable": true, "timeout": 6});
        c["comin"]["bootCheck"] = json!(true);
        let loader = "if [ -e /srv/loader.armed ]; then mv /srv/loader.armed /srv/loader.begun; sleep infinity; fi";
        c["system"] = json!({"extra": {"kernel": null, "initrd": null}, "bootloader": loader});
        c["etc"] = json!({"hosts": "127.0.0.1 localhost machine origin.example\n"});
        let url = c["comin"]["remotes"][1]["url"].as_str().unwrap();
        c["comin"]["remotes"][1]["url"] = url.replace("@ORIGIN@", "@NAMED_ORIGIN@").into();
    })
}

/// A system that is well as long as it is only switched to.
fn broken_by_a_boot(label: &str) -> Configuration {
    first().with(label, |c| {
        let forget = "[ -n \"${NIXOS_ACTION:-}\" ] || { rm /etc/hosts; echo 127.0.0.1 localhost >/etc/hosts; }";
        c["system"]["activation"] = json!(forget);
    })
}

/// A machine that has booted its first system, which was found good.
fn booted() -> Host {
    booted_with(&first())
}

fn booted_with(configuration: &Configuration) -> Host {
    let host = Host::installed(configuration);
    host.await_fetched("origin");
    host.reboot();
    await_judged(&host);
    host.await_fetched("origin");
    host.await_idle();
    host
}

#[track_caller]
fn await_judged(host: &Host) {
    await_that("the verdict on the boot", || {
        let latest = host.attempts().pop().unwrap_or_default();
        latest["boot_checked"].is_string()
    });
}

fn boots(host: &Host) -> String {
    host.label(host.read("/boot/loader-default").trim())
}

#[track_caller]
fn assert_fallen_back(host: &Host, commit: &str, error: &str) {
    let attempt = host.await_ended(commit);
    assert_eq!(attempt["status"], "rolled_back", "{attempt:#}");
    assert_eq!(attempt["error"], error);
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    assert_eq!(boots(host), "first");
    let status = host.status();
    assert_eq!(status["action"], "quarantined", "{status:#}");
    assert_eq!(status["drift"], Value::Null);
    assert_eq!(status["need_to_reboot"], false);
}

#[test]
fn system_whose_network_a_reboot_breaks_falls_back_by_itself_once() {
    need_host!();
    let host = booted();
    let commit = host.commit(&broken_by_a_boot("bad"));
    host.await_deployed(&commit);
    host.await_idle();
    assert_eq!(host.systems(), ("bad".into(), "bad".into()));
    host.reboot();
    host.await_reboot();
    let error = "lost connectivity: origin could not be reached within 6 seconds";
    assert_fallen_back(&host, &commit, error);
    host.await_polls(2);
    host.await_idle();
    assert_fallen_back(&host, &commit, error);

    let commit = host.commit(&first().named("fixed"));
    host.await_deployed(&commit);
    host.await_idle();
    host.reboot();
    await_judged(&host);
    assert_eq!(host.systems(), ("fixed".into(), "fixed".into()));
}

#[test]
fn system_that_never_comes_up_is_held_after_a_reboot_of_comin() {
    need_host!();
    let host = booted();
    let bad = first().with("bad", |c| {
        c["system"]["extra"] = json!({"kernel": "another", "initrd": null, "does-not-boot": ""});
    });
    let commit = host.commit(&bad);
    host.await_reboot();
    await_that("the rollback", || {
        latest(&host, &commit)["status"] == "rolled_back"
    });
    let error = latest(&host, &commit)["error"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(error.contains("it did not come up: "), "{error}");
    for _ in 0..2 {
        assert_fallen_back(&host, &commit, &error);
        host.await_polls(2);
    }
}

#[test]
fn outage_at_a_reboot_of_a_good_system_reboots_nobody() {
    need_host!();
    let host = booted();
    let attempts = host.attempts();
    host.server
        .rule(|rules| rules.away_while = Some("/".into()));
    host.reboot();
    let boot = host.read("/proc/sys/kernel/random/boot_id");
    host.await_polls(2);
    host.await_idle();
    assert_eq!(host.attempts(), attempts);
    let lines = host.journal("--boot --identifier=comin");
    let checks = lines.iter().filter(|it| it.message.contains("first boot"));
    assert_eq!(checks.count(), 0, "{lines:#?}");
    assert_eq!(host.read("/proc/sys/kernel/random/boot_id"), boot);
    assert_eq!(host.systems(), ("first".into(), "first".into()));
}

#[test]
fn boot_counts_as_complete_only_after_a_good_verdict() {
    need_host!();
    let complete = |base: Configuration| {
        let label = base.label().to_string();
        base.with(&label, |c| {
            let bless = "[Unit]\nDefaultDependencies=no\nRequires=boot-complete.target\nAfter=boot-complete.target\n";
            let bless = format!("{bless}[Service]\nType=oneshot\nExecStart=touch /run/blessed\n");
            c["units"] = json!({"bless-boot.service": bless});
            c["wants"] = json!({"basic.target": ["bless-boot.service"]});
        })
    };
    let host = booted_with(&complete(first()));
    let is_blessed = || host.path("/run/blessed").exists();
    await_that("the boot is complete", is_blessed);
    let commit = host.commit(&complete(broken_by_a_boot("bad")));
    host.await_deployed(&commit);
    host.await_idle();
    host.reboot();
    await_that("the machine goes down", || {
        assert!(host.is_down() || !is_blessed());
        host.is_down()
    });
    host.boot();
    await_that("the boot is complete", is_blessed);
}

/// A moment of a fallback at which the power is cut.
enum At {
    /// When the installer of the boot loader runs, in this boot since the deployment.
    Loader(u32),
    /// As soon as this can be seen.
    Seen(fn(&Host, &str) -> bool),
}

const MOMENTS: [(&str, At); 6] = [
    ("judging", At::Seen(|_, _| true)),
    (
        "the fallback was recorded",
        At::Seen(|host, commit| latest(host, commit)["stage"] == "rolling_back"),
    ),
    ("telling the boot loader", At::Loader(1)),
    (
        "the boot loader was told",
        At::Seen(|host, _| boots(host) == "first"),
    ),
    (
        "the reboot was ordered",
        At::Seen(|host, commit| {
            let reboot = host.json("/var/lib/comin/state.json")["reboot"].take();
            reboot["attempt"].is_number() && reboot["attempt"] == latest(host, commit)["id"]
        }),
    ),
    ("settling after the reboot", At::Loader(2)),
];

/// The latest attempt, if it goes back from this commit.
fn latest(host: &Host, commit: &str) -> Value {
    let latest = host.attempts().pop().unwrap_or_default();
    if latest["commit"] == commit && latest["boot_fault"].is_object() {
        latest
    } else {
        Value::Null
    }
}

#[test]
fn power_cut_at_any_step_of_a_fallback_ends_in_the_system_before() {
    need_host!();
    let host = booted();
    let mut dice = Dice::new("boot check");
    let random = (0..times("COMIN_SWEEP_CUTS", 1, 10)).map(|_| None);
    let moments = MOMENTS.iter().map(Some).chain(random);
    for (number, moment) in moments.enumerate() {
        let commit = host.commit(&broken_by_a_boot(&format!("bad{number}")));
        host.await_deployed(&commit);
        host.await_idle();
        host.run("rm -f /srv/loader.begun");
        let arm = || host.write("/srv/loader.armed", "");
        if let Some((_, At::Loader(1))) = moment {
            arm();
        }
        host.reboot();
        let told = moment.map_or("at any moment", |(name, _)| name);
        match moment {
            Some((_, At::Seen(seen))) => await_that(told, || seen(&host, &commit)),
            Some((_, At::Loader(boot))) => {
                if *boot == 2 {
                    await_that("the boot loader is told", || boots(&host) == "first");
                    arm();
                    host.await_reboot();
                }
                await_that(told, || host.path("/srv/loader.begun").exists());
            }
            None => thread::sleep(dice.delay(Duration::from_secs(9))),
        }
        host.cut_power();
        tell(&format!("round {number}: power cut when {told}"));
        host.boot();
        await_that("the end of the fallback", || {
            if host.is_down() {
                host.boot();
            }
            latest(&host, &commit)["status"] == "rolled_back"
        });
        let error = latest(&host, &commit)["error"].take();
        assert_fallen_back(&host, &commit, error.as_str().unwrap());
        let mut attempts = host.attempts();
        attempts.retain(|it| it["commit"] == commit.as_str());
        let statuses: Vec<_> = attempts.iter().map(|it| &it["status"]).collect();
        assert_eq!(statuses, ["done", "rolled_back"], "{told}");
        host.await_fetched("origin");
        host.await_idle();
    }
}
