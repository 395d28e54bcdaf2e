//! A whole machine that must not be stranded: what breaks it is undone, by comin or without it.

use serde_json::json;

use crate::machine::{Configuration, Host};
use crate::support::await_that;

/// A machine that finds its origin by a name which its system has to know.
fn by_name(label: &str) -> Configuration {
    Configuration::new(label).with(label, |c| {
        c["settings"]["health_check"] = json!({"connectivity_timeout": 5});
        c["etc"] = json!({"hosts": "127.0.0.1 localhost machine origin.example\n"});
        let url = c["comin"]["remotes"][1]["url"].as_str().unwrap();
        c["comin"]["remotes"][1]["url"] = url.replace("@ORIGIN@", "@NAMED_ORIGIN@").into();
    })
}

#[track_caller]
fn await_disarmed(host: &Host) {
    await_that("the end of the dead man's switch", || {
        host.units("--all comin-dead-man*").is_empty()
    });
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
    await_disarmed(host);
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
    let error = "lost connectivity: origin could not be reached within 5 seconds";
    assert_rolled_back(&host, &commit, error);
    let hindrance = host.status()["hindrance"].clone();
    assert_eq!(
        hindrance,
        format!("it is held until someone pushes: {error}")
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
        c["settings"]["rollback"] = json!({"timeout": 15});
        c["settings"]["post_deployment_command"] = json!("/srv/notify");
    });
    let host = Host::installed_with(&first, |host| {
        let script = "#!/bin/sh\necho $COMIN_STATUS $COMIN_GIT_SHA $HOME: $COMIN_ERROR_MSG >>/srv/notified\n";
        host.write("/srv/notify", script);
        host.run("chmod +x /srv/notify");
    });
    host.run("rm /srv/notified");
    // The configuration that it brings is not that of the comin which is to be notified of.
    let hanging = first.with("hanging", |c| {
        c["settings"]["post_deployment_command"] = json!("/srv/missing");
        c["system"]["activation"] = json!("sleep infinity");
    });
    let commit = host.commit(&hanging);
    let error = "its checks did not pass in time";
    assert_rolled_back(&host, &commit, error);
    await_that("the post-deployment command", || {
        host.read("/srv/notified").ends_with('\n')
    });
    let notified = format!("rolled_back {commit} /root: {error}\n");
    assert_eq!(host.read("/srv/notified"), notified);
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
    await_disarmed(&host);
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
        c["settings"]["health_check"] = json!({"connectivity_timeout": 5});
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
    await_that("the outage is told", || {
        let hindrance = host.status()["hindrance"].take();
        hindrance.to_string().matches("outage").count() == 1
    });
    host.server.rule(|rules| rules.away_while = None);
    host.await_done(&commit);
    assert_eq!(host.systems(), ("second".into(), "second".into()));
}

#[test]
fn killed_while_it_checks_the_next_start_checks_again() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["health_check"] =
            json!({"commands": ["echo >>/srv/checking; until [ -e /srv/checked ]; do sleep 0.01; done"]});
        c["settings"]["rollback"] = json!({"timeout": 300});
    });
    let host = Host::installed_with(&first, |host| host.write("/srv/checked", ""));
    host.run("rm /srv/checked /srv/checking");
    let commit = host.commit(&first.named("second"));
    let checks = || host.read("/srv/checking").len();
    await_that("the check", || checks() == 1);
    host.run("systemctl kill --signal=KILL comin.service");
    await_that("the check of the next comin", || checks() == 2);
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

// ---- switches that end half-way

/// What the machine runs, what its profile has, and what its boot menu starts.
#[track_caller]
fn agreed(host: &Host) -> String {
    let (runs, profile) = host.systems();
    let boots = host.label(host.read("/boot/loader-default").trim());
    assert_eq!((&runs, &runs), (&profile, &boots));
    runs
}

/// A system whose switch ends with this code once the system runs, before it has started any unit.
fn half_switched(configuration: &Configuration, label: &str, code: u32) -> Configuration {
    configuration.with(label, |c| {
        c["system"]["afterActivation"] =
            json!(format!("[ $NIXOS_ACTION != switch ] || exit {code}"));
    })
}

#[test]
fn half_switched_system_is_checked_then_kept_or_rolled_back() {
    need_host!();
    let first = by_name("first");
    let host = Host::installed(&first);
    host.await_fetched("origin");
    let well = half_switched(&first, "well", 1);
    let commit = host.commit(&well);
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "failed", "{attempt:#}");
    let error = attempt["error"].as_str().unwrap();
    assert!(error.contains("the new system stays active"), "{error}");
    host.await_idle();
    assert_eq!(agreed(&host), "well");
    await_disarmed(&host);

    let commit = host.commit(&first.named("fixed"));
    host.await_deployed(&commit);
    assert_eq!(agreed(&host), "fixed");
    let cut_off = half_switched(&first, "cut-off", 1).with("cut-off", |c| {
        c["etc"]["hosts"] = json!("127.0.0.1 localhost\n");
    });
    let commit = host.commit(&cut_off);
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "rolled_back", "{attempt:#}");
    host.await_idle();
    assert_eq!(agreed(&host), "fixed");
    assert_eq!(host.status()["action"], "quarantined");
}

#[test]
fn half_switched_system_whose_checks_hang_is_rolled_back_by_the_dead_man() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["rollback"] = json!({"timeout": 15});
        c["settings"]["health_check"] =
            json!({"commands": ["[ ! -e /run/current-system/ill ] || sleep infinity"]});
    });
    let host = Host::installed(&first);
    let ill = half_switched(&first, "ill", 1).with("ill", |c| {
        c["system"]["extra"] = json!({"ill": ""});
    });
    let commit = host.commit(&ill);
    assert_rolled_back(&host, &commit, "its checks did not pass in time");
    assert_eq!(agreed(&host), "first");
}

#[test]
fn unit_that_fails_in_each_try_has_not_failed_before() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let broken = first.with("broken", |c| {
        c["units"] = json!({"broken.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n"});
        c["wants"] = json!({"multi-user.target": ["broken.service"]});
    });
    let commit = host.commit(&broken);
    for tries in 2..5 {
        await_that("the try", || host.attempts().len() == tries);
        let attempt = host.await_ended(&commit);
        assert_eq!(attempt["status"], "failed", "{attempt:#}");
        let error = attempt["error"].as_str().unwrap();
        assert!(error.contains("units failed: broken.service"), "{error}");
        host.await_idle();
        host.run("comin retry");
    }
}

// ---- strangers

#[test]
fn stranger_with_the_lock_of_the_switch_holds_nothing_up_for_ever() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["rollback"] = json!({"timeout": 15});
        c["settings"]["retry"] = json!({"first_delay": 1});
    });
    let host = Host::installed(&first);
    let lock = "/run/nixos/switch-to-configuration.lock";
    let hold = format!(
        "systemd-run --quiet --unit=stranger --property=User=nobody --service-type=exec flock {lock} sleep infinity"
    );
    // As the switch of NixOS leaves it.
    host.run(&format!("chmod 644 {lock}"));
    host.run(&hold);
    let second = host.commit(&first.named("second"));
    let attempt = host.await_ended(&second);
    assert_eq!(attempt["status"], "postponed", "{attempt:#}");
    assert_eq!(agreed(&host), "first");
    host.run("systemctl stop stranger");
    host.await_done(&second);
    assert_eq!(agreed(&host), "second");

    // It comes during the checks, and the dead man needs the lock.
    let check = format!("[ ! -e /run/current-system/ill ] || {{ {hold}; sleep infinity; }}");
    let checked = first.with("checked", |c| {
        c["settings"]["health_check"] = json!({"commands": [check]});
    });
    let commit = host.commit(&checked);
    host.await_deployed(&commit);
    let ill = checked.with("ill", |c| c["system"]["extra"] = json!({"ill": ""}));
    let commit = host.commit(&ill);
    await_that("the rollback", || {
        host.attempts().pop().unwrap()["stage"] == "rolling_back"
    });
    await_that("the path unit", || {
        host.show("comin.path", "ActiveState") == "active"
    });
    // It waited for nobody, and the attempt does not end half-way.
    let attempt = host.attempts().pop().unwrap();
    assert_eq!(
        (&attempt["status"], &attempt["stage"]),
        (&json!("running"), &json!("rolling_back"))
    );
    host.run("systemctl stop stranger");
    host.run("systemctl start comin.service");
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "rolled_back", "{attempt:#}");
    assert_eq!(agreed(&host), "checked");
}

#[test]
fn failed_unit_of_an_earlier_rebuild_blocks_no_activation() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    host.await_idle();
    let unit = "nixos-rebuild-switch-to-configuration";
    host.try_run(&format!("systemd-run --quiet --wait --unit={unit} false"));
    assert_eq!(host.show(unit, "ActiveState"), "failed");
    let commit = host.commit(&first.named("second"));
    host.await_deployed(&commit);
    assert_eq!(agreed(&host), "second");
}
