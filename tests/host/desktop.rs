//! comin's units of a user on a real systemd, for somebody without privileges.

use std::process::Command;

use serde_json::json;

use crate::machine::{Configuration, Host};
use crate::support::await_that;
use crate::support::pages::ON_DESKTOP;

/// In place of libnotify's, which needs a desktop: notes what is shown, and waits for an answer to a question.
const NOTIFY_SEND: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in *--action=*) question=yes ;; *) question= ;; esac
line=$(echo "$question $last" | tr '\n' '|')
printf '%s\n' "$line" >>"$XDG_RUNTIME_DIR/shown"
[ "$question" != yes ] || exec cat "$XDG_RUNTIME_DIR/answer"
echo 7
"#;

/// In place of an agent of polkit's that asks for a password, which needs a desktop: what the user may do, and no more.
const RULE: &str = r#"polkit.addRule(function(action, subject) {
    if (action.id == "org.comin.confirm" && subject.user == "somebody")
        return polkit.Result.YES;
});
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
    host.run(&format!("mkfifo --mode=666 /run/user/{USER}/answer"));
    // What the target of a graphical session wants.
    user(host, "start comin-desktop.path comin-desktop.service");
}

/// `systemctl --user`, of that user.
fn user(host: &Host, words: &str) -> String {
    let who = format!("setpriv --reuid={USER} --regid={USER} --clear-groups");
    let environment = format!("env XDG_RUNTIME_DIR=/run/user/{USER}");
    host.run(&format!("{who} {environment} systemctl --user {words}"))
}

/// What was shown, apart from the end of what waited: whether that is seen before the next commit is begun, is chance.
fn shown(host: &Host) -> Vec<String> {
    let shown = host.read(&format!("/run/user/{USER}/shown"));
    let lines = shown
        .lines()
        .filter(|line| !line.contains("will not be deployed"))
        .map(|line| line.trim_matches([' ', '|']).to_string());
    lines.collect()
}

/// Shell code that waits until this has been shown. Without it, a deployment may be over before anybody is told that it
/// has begun.
fn until_shown(pattern: &str) -> String {
    format!(
        "until grep --quiet --no-messages '{pattern}' /run/user/{USER}/shown; do sleep 0.01; done"
    )
}

/// The same configuration, whose build waits until its deployment has been told.
fn told(configuration: &Configuration) -> Configuration {
    let label = configuration.label();
    configuration.with(label, |c| {
        c["build"] = json!(until_shown(&format!("Deploying .*|{label}|")));
    })
}

fn await_shown(host: &Host, wanted: &[String]) {
    await_that(&format!("{wanted:#?}"), || {
        shown(host).len() >= wanted.len()
    });
    assert_eq!(shown(host), wanted);
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

/// A machine that asks before it deploys what comes next, its user, and what they were told of how it came to that.
fn asking() -> (Host, Configuration, Vec<String>) {
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
    let commit = host.commit(&told(&asking));
    host.await_deployed(&commit);
    let name = format!("{} (local/main)", &commit[..8]);
    let shown = vec![
        format!("Deploying {name}|asking"),
        format!("Deployed {name}|asking"),
    ];
    await_shown(&host, &shown);
    await_end(&host);
    (host, asking, shown)
}

/// Commits, and waits until the user is asked for it; what it is called.
fn commit_asked(
    host: &Host,
    configuration: &Configuration,
    shown: &mut Vec<String>,
) -> (String, String) {
    let commit = host.commit(&told(configuration));
    let (name, label) = (
        format!("{} (local/main)", &commit[..8]),
        configuration.label(),
    );
    let question = format!("{name} waits for your confirmation to be deployed|{label}");
    shown.extend([
        format!("Deploying {name}|{label}"),
        question.clone(),
        format!("yes {question}"),
    ]);
    await_shown(host, shown);
    (commit, name)
}

#[test]
fn a_user_is_told_what_comin_does_and_nothing_runs_in_between() {
    need_host!();
    let (host, asking, mut wanted) = asking();
    host.await_polls(2);
    await_shown(&host, &wanted);

    let third = asking.with("third", |c| {
        let told = until_shown("waits no longer|third|");
        c["system"] = json!({"activation": format!("[ -z \"${{NIXOS_ACTION:-}}\" ] || {told}")});
    });
    let (commit, name) = commit_asked(&host, &third, &mut wanted);
    assert_eq!(user(&host, "is-active comin-desktop.service"), "active");
    let status = host.status();
    assert_eq!(status["phase"], "waiting_for_confirmation");
    let lines = host.journal("COMIN_STAGE=waiting_for_confirmation");
    let said = |text: &str| lines.iter().any(|line| line.message.contains(text));
    assert!(said("waits for your confirmation to be deployed"));
    assert!(said("→ sudo comin confirm deploy"));
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

#[test]
fn whom_polkit_lets_confirms_by_a_click() {
    need!("nix-instantiate");
    need_host!();
    let (host, asking, mut wanted) = asking();
    // Clicks, and waits for what comes of it in the end.
    let mut confirm = |system: &str, end: &dyn Fn(&str) -> String| {
        let (commit, name) = commit_asked(&host, &asking.named(system), &mut wanted);
        host.write(&format!("/run/user/{USER}/answer"), "confirm");
        let end = end(&name);
        await_that(&end, || shown(&host).last() == Some(&end));
        await_end(&host);
        wanted = shown(&host);
        commit
    };
    confirm("third", &|name| {
        // Nobody is there whom polkit could ask for a password.
        let why = "Error executing command as another user: No authentication agent found.";
        format!("{name} is not confirmed|pkexec exited with status 127: {why}")
    });
    assert_eq!(host.status()["phase"], "waiting_for_confirmation");

    host.write("/usr/share/polkit-1/actions/org.comin.policy", &policy());
    host.write("/etc/polkit-1/rules.d/50-comin.rules", RULE);
    host.run("systemctl restart polkit.service");
    let commit = confirm("fourth", &|name| format!("Deployed {name}|fourth"));
    host.await_deployed(&commit);

    // At a shell of theirs, too, as the pages say.
    let who = format!(
        "setpriv --reuid={USER} --regid={USER} --clear-groups env XDG_RUNTIME_DIR=/run/user/{USER}"
    );
    let (commit, _) = commit_asked(&host, &asking.named("fifth"), &mut wanted);
    for line in ON_DESKTOP {
        // polkit asks who has started pkexec, which must be a process of the host.
        host.write("/usr/local/share/line", &format!("{line}\nexit $?\n"));
        host.run(&format!("{who} sh /usr/local/share/line"));
    }
    host.await_deployed(&commit);

    // And that is all that the rule allows.
    let order = "pkexec --disable-internal-agent comin \"$@\"\nexit $?\n";
    host.write("/usr/local/share/order", order);
    for (words, says) in [
        ("confirm --config /tmp/mine.json", "use sudo"),
        ("confirm --root /tmp", "use sudo"),
        ("retry", "No authentication agent found"),
        ("rollback", "No authentication agent found"),
    ] {
        let said = host.try_run(&format!("{who} sh /usr/local/share/order {words}"));
        assert!(said.code != Some(0) && said.err.contains(says), "{said:?}");
    }
}

/// The actions, as the module ships them, of the host's program.
fn policy() -> String {
    let mut nix = Command::new("nix-instantiate");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/module/polkit.nix");
    let expression = format!("import {file} \"/usr/local/bin/comin\"");
    nix.args(["--eval", "--json", "--expr", &expression]);
    serde_json::from_slice(&nix.output().unwrap().stdout).unwrap()
}
