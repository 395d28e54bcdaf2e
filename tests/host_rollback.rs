//! A whole machine that must not be stranded: what breaks it is undone, by comin or without it.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::host::{await_that, Configuration, Host};

/// A machine that finds its origin by a name which its system has to know.
fn by_name(label: &str) -> Configuration {
    Configuration::new(label).with(label, |c| {
        c["settings"]["health_check"] = json!({"connectivity_timeout": 2});
        c["etc"] = json!({"hosts": "127.0.0.1 localhost machine origin.example\n"});
        let url = c["comin"]["remotes"][1]["url"].as_str().unwrap();
        c["comin"]["remotes"][1]["url"] = url.replace("@ORIGIN@", "@NAMED_ORIGIN@").into();
    })
}

/// What has to be true of a machine after a rollback.
#[track_caller]
fn assert_rolled_back(host: &Host, commit: &str, error: &str) {
    let attempt = host.await_ended(commit);
    assert_eq!(attempt["status"], "rolled_back", "{attempt:#}");
    assert_eq!(attempt["error"], error);
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
    assert_eq!(host.status()["deployed"]["status"], "rolled_back");
    await_that("the end of the dead man's switch", || {
        host.units("--all comin-dead-man*").is_empty()
    });
    // By whichever of the two it was rolled back.
    let lines = host.journal(&format!("COMIN_COMMIT={commit} COMIN_OUTCOME=rolled_back"));
    assert!(lines[0].message.contains(error), "{lines:#?}");
    assert_eq!(lines[0].field("COMIN_STAGE"), Some("rolling_back"));
    assert_eq!(lines[0].priority, "3");
    let mut failed = host.units("--failed");
    failed.retain(|unit| unit != "comin.service");
    assert_eq!(failed, [""; 0]);
}

#[test]
fn a_system_that_cuts_the_machine_off_is_rolled_back_and_the_fixed_one_is_deployed() {
    need_host!();
    let first = by_name("first");
    let host = Host::installed(&first);
    host.await_fetched("origin");
    let bad = first.with("bad", |c| {
        c["etc"]["hosts"] = json!("127.0.0.1 localhost\n");
    });
    let commit = host.commit(&bad);
    let error = "origin could be fetched from before, and not within 2 seconds now";
    assert_rolled_back(&host, &commit, error);
    let hindrance = host.status()["hindrance"].clone();
    assert_eq!(
        hindrance,
        format!("it is in quarantine until a head moves, or comin retry: {error}")
    );
    host.await_polls(2);
    assert_eq!(
        host.switches(),
        ["switch first", "switch bad", "switch first"]
    );

    let commit = host.commit(&first.named("fixed"));
    host.await_deployed(&commit);
    assert_eq!(host.systems(), ("fixed".into(), "fixed".into()));
}

#[test]
fn an_activation_that_hangs_for_ever_is_rolled_back_by_the_dead_man() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["rollback"] = json!({"timeout": 3});
    });
    let host = Host::installed(&first);
    let hanging = first.with("hanging", |c| {
        c["system"]["activation"] = json!("sleep infinity");
    });
    let commit = host.commit(&hanging);
    assert_rolled_back(&host, &commit, "it did not pass its checks in time");
    let commit = host.commit(&first.named("fixed"));
    host.await_deployed(&commit);
    assert_eq!(host.systems(), ("fixed".into(), "fixed".into()));
}

#[test]
fn a_dead_man_whose_comin_died_with_all_recorded_is_disarmed_by_the_next_one() {
    need_host!();
    let host = Host::installed(&Configuration::new("first"));
    host.await_fetched("origin");
    host.await_idle();
    host.run("systemd-run --quiet --collect --unit=comin-dead-man --on-active=1h true");
    assert_eq!(
        host.units("--all comin-dead-man.timer"),
        ["comin-dead-man.timer"]
    );
    host.run("systemctl start comin.service");
    host.await_idle();
    assert_eq!(host.units("--all comin-dead-man*"), [""; 0]);
    assert_eq!(host.systems(), ("first".into(), "first".into()));
}

#[test]
fn what_fails_a_health_check_or_breaks_a_unit_is_rolled_back() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["health_check"] =
            json!({"commands": ["test ! -e /run/current-system/ill"], "failed_units": true});
    });
    let host = Host::installed(&first);
    let ill = first.with("ill", |c| c["system"]["extra"] = json!({"ill": ""}));
    let commit = host.commit(&ill);
    let error = "the health check exited with status 1 (test ! -e /run/current-system/ill)";
    assert_rolled_back(&host, &commit, error);

    let broken = first.with("broken", |c| {
        c["units"] = json!({"broken.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n"});
        c["wants"] = json!({"multi-user.target": ["broken.service"]});
    });
    let commit = host.commit(&broken);
    assert_rolled_back(&host, &commit, "units failed: broken.service");
}

#[test]
fn an_outage_of_the_origin_ends_with_the_deployment_in_place() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["health_check"] = json!({"connectivity_timeout": 2});
        c["comin"]["remotes"][1]["poller"]["period"] = json!(1);
    });
    let host = Host::installed(&first);
    host.await_fetched("origin");
    // Within the switch, and until the test ends it.
    let away = host.path("/srv/away");
    host.server.rule(|rules| rules.away_while = Some(away));
    let second = first.with("second", |c| {
        c["system"]["activation"] = json!("touch /srv/away");
    });
    let commit = host.commit(&second);
    await_that("a rollback", || {
        host.attempts()
            .iter()
            .any(|attempt| attempt["status"] == "rolled_back")
    });
    assert_eq!(
        host.status()["hindrance"]
            .as_str()
            .unwrap_or_default()
            .matches("outage")
            .count(),
        1
    );
    host.server.rule(|rules| rules.away_while = None);
    host.await_done(&commit);
    assert_eq!(host.systems(), ("second".into(), "second".into()));
}

#[test]
fn killed_while_it_checks_the_next_start_checks_again() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["health_check"] =
            json!({"commands": ["touch /srv/checking; until [ -e /srv/checked ]; do sleep 0.01; done"]});
        c["settings"]["rollback"] = json!({"timeout": 30});
    });
    let host = Host::installed_with(&first, |host| host.write("/srv/checked", ""));
    host.run("rm /srv/checked /srv/checking");
    let commit = host.commit(&first.named("second"));
    await_that("the check", || host.path("/srv/checking").exists());
    host.run("systemctl kill --signal=KILL comin.service");
    host.run("rm -f /srv/checking");
    await_that("the check of the next comin", || {
        host.path("/srv/checking").exists()
    });
    assert_eq!(host.status()["phase"], "checking");
    host.write("/srv/checked", "");
    host.await_deployed(&commit);
    assert_eq!(host.switches(), ["switch first", "switch second"]);
}

#[test]
fn a_bad_system_that_boots_before_it_has_been_checked_is_rolled_back_then() {
    need_host!();
    let first = by_name("first").with("first", |c| {
        c["settings"]["health_check"]["connectivity_timeout"] = json!(8);
    });
    let host = Host::installed(&first);
    host.await_fetched("origin");
    let bad = first.with("bad", |c| {
        c["etc"]["hosts"] = json!("127.0.0.1 localhost\n");
    });
    let commit = host.commit(&bad);
    await_that("the checks", || host.status()["phase"] == "checking");
    host.cut_power();
    host.boot();
    assert_eq!(host.label("/run/booted-system"), "bad");
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "rolled_back", "{attempt:#}");
    host.await_idle();
    assert_eq!(host.systems(), ("first".into(), "first".into()));
}
