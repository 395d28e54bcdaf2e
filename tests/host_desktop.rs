//! comin's units of a user on a real systemd, for somebody without privileges.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::host::{await_that, Configuration, Host};

/// In place of libnotify's, which needs a desktop: notes what is shown, and waits for an answer that nobody gives.
const NOTIFY_SEND: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in *--action=*) question=yes ;; *) question= ;; esac
echo "$question $last" | tr '\n' '|' >>"$XDG_RUNTIME_DIR/shown"
echo >>"$XDG_RUNTIME_DIR/shown"
[ "$question" != yes ] || exec sleep 600
echo 7
"#;

const USER: u32 = 1000;

/// The manager of a user who is logged in, as logind and PAM start it.
fn log_in(host: &Host) {
    host.run(&format!("useradd --uid={USER} --no-create-home somebody"));
    let folder = format!("/run/systemd/system/user@{USER}.service.d");
    host.run(&format!("mkdir -p {folder}"));
    host.write(
        &format!("{folder}/session.conf"),
        &format!("[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/{USER}\n"),
    );
    host.write("/usr/local/bin/notify-send", NOTIFY_SEND);
    host.run("chmod 755 /usr/local/bin/notify-send");
    host.run("systemctl daemon-reload");
    host.run(&format!("systemctl start user@{USER}.service"));
    // What the target of a graphical session wants.
    user(host, "start comin-desktop.path comin-desktop.service");
}

/// `systemctl --user`, of that user.
fn user(host: &Host, words: &str) -> String {
    let who = format!("setpriv --reuid={USER} --regid={USER} --clear-groups");
    let environment = format!("env XDG_RUNTIME_DIR=/run/user/{USER}");
    host.run(&format!("{who} {environment} systemctl --user {words}"))
}

fn await_shown(host: &Host, wanted: &[String]) {
    let shown = || host.read(&format!("/run/user/{USER}/shown"));
    let lines = || -> Vec<String> {
        let shown = shown();
        let lines = shown
            .lines()
            .map(|line| line.trim_matches([' ', '|']).to_string());
        lines.collect()
    };
    await_that(&format!("{wanted:#?}"), || lines().len() >= wanted.len());
    assert_eq!(lines(), wanted);
}

fn await_end(host: &Host) {
    let state = || {
        user(
            host,
            "show --value --property=ActiveState comin-desktop.service",
        )
    };
    await_that("the end of comin desktop", || state() == "inactive");
}

#[test]
fn a_user_is_told_what_comin_does_and_nothing_runs_in_between() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["comin"]["desktop"] = json!({"title": "comin"});
    });
    let host = Host::installed(&first);
    log_in(&host);
    await_end(&host);

    // Not asked for yet.
    let asking = first.with("asking", |c| {
        c["settings"]["deploy_confirmer"] = json!({"mode": "manual"});
    });
    let commit = host.commit(&asking);
    host.await_deployed(&commit);
    let name = format!("{} (local/main)", &commit[..8]);
    let mut wanted = vec![
        format!("Deploying {name}|asking"),
        format!("Deployed {name}|asking"),
    ];
    await_shown(&host, &wanted);
    await_end(&host);
    host.await_polls(2);
    await_shown(&host, &wanted);

    let commit = host.commit(&asking.named("third"));
    let name = format!("{} (local/main)", &commit[..8]);
    let question = format!("{name} waits for your confirmation to be deployed|third");
    wanted.extend([
        format!("Deploying {name}|third"),
        question.clone(),
        format!("yes {question}"),
    ]);
    await_shown(&host, &wanted);
    assert_eq!(user(&host, "is-active comin-desktop.service"), "active");
    let status = host.status();
    assert_eq!(status["phase"], "waiting_for_confirmation");
    let lines = host.journal("COMIN_STAGE=waiting_for_confirmation");
    let said = |text: &str| lines.iter().any(|line| line.message.contains(text));
    assert!(said(
        "waits for your confirmation to be deployed: comin confirm deploy"
    ));
    host.run("comin confirm");
    host.await_deployed(&commit);
    wanted.extend([
        format!("{name} waits no longer|third"),
        format!("Deployed {name}|third"),
    ]);
    await_shown(&host, &wanted);
    await_end(&host);
    assert_eq!(user(&host, "list-units --failed --plain --no-legend"), "");
}
