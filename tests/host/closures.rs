//! On a whole machine: what became of its units, and what would become of them.

use serde_json::{json, Value};

use crate::machine::{Configuration, Gate, Host};
use crate::support::{await_that, Said};

/// A service that runs on.
fn runs(version: u32) -> Value {
    json!(format!(
        "[Service]\nEnvironment=VERSION={version}\nExecStart=sleep infinity\n"
    ))
}

/// Has these services, and one that a timer starts all the time.
fn has(configuration: &mut Value, services: &[(&str, Value)]) {
    let mut units = json!({
        "tick.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=sleep 0.2\n",
        "tick.timer": "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=0.1\nAccuracySec=1ms\n",
    });
    // comin's own are wanted by other targets.
    let mut wanted = vec!["tick.timer"];
    for (name, text) in services {
        units[*name] = text.clone();
        wanted.push(*name);
    }
    configuration["units"] = units;
    configuration["wants"] = json!({"multi-user.target": wanted});
}

fn json_of(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn what_became_of_units_is_told_also_when_comin_has_died_meanwhile() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        let services = [
            ("old.service", runs(1)),
            ("steady.service", runs(1)),
            ("web.service", runs(1)),
        ];
        has(c, &services);
    });
    let host = Host::installed(&first);
    let steady = host.show("steady.service", "InvocationID");

    let second = first.with("second", |c| {
        let services = [
            // The switch waits for its end.
            (
                "bad.service",
                json!("[Service]\nType=oneshot\nExecStart=false\n"),
            ),
            ("new.service", runs(1)),
            ("steady.service", runs(1)),
            ("web.service", runs(2)),
        ];
        has(c, &services);
    });
    let gate = Gate::new(&host, "activation");
    let commit = host.commit(&second.with("second", |c| {
        c["system"]["activation"] = json!(gate.code());
    }));
    gate.await_begun();
    host.run("systemctl kill --signal=KILL comin.service");
    gate.open();
    let attempt = host.await_ended(&commit);
    assert_eq!(attempt["status"], "failed", "{attempt:#}");
    assert_eq!(
        attempt["units"],
        json!({
            "restarted": ["web.service"],
            "started": ["new.service"],
            "stopped": ["old.service"],
            "failed": ["bad.service"],
            "left_out": 0,
        })
    );
    assert_eq!(host.show("steady.service", "InvocationID"), steady);
    host.await_idle();
    let number = attempt["id"].to_string();
    let details = json_of(&host.try_run(&format!("comin history {number} --json")));
    assert_eq!(details["units"], attempt["units"]);
    let text = host.run(&format!("comin history {number}"));
    for line in [
        "  units      restarted web.service\n",
        "             started new.service\n",
        "             stopped old.service\n",
        "             failed bad.service",
        "  next       held until someone pushes, or comin retry\n",
        "  packages   none has changed\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    // A reload of everything that touches nothing.
    let commit = host.commit(&second.with("third", |c| {
        has(c, &[("steady.service", runs(1))]);
        c["units"]["new.service"] = runs(1);
        c["units"]["web.service"] = runs(2);
    }));
    let attempt = host.await_deployed(&commit);
    let nothing =
        json!({"restarted": [], "started": [], "stopped": [], "failed": [], "left_out": 0});
    assert_eq!(attempt["units"], nothing);
    let text = host.run(&format!("comin history {}", attempt["id"]));
    let line = "  units      none was restarted, started or stopped, and none failed";
    assert!(text.contains(line), "{text}");
}

#[test]
fn what_would_become_of_units_is_told_to_root_and_the_packages_to_everybody() {
    need_host!();
    let first = Configuration::new("1.0").with("1.0", |c| {
        has(c, &[("old.service", runs(1)), ("web.service", runs(1))]);
    });
    let host = Host::installed(&first);
    host.run("comin suspend");
    let commit = host.commit(&first.with("1.1", |c| {
        has(c, &[("web.service", runs(2))]);
        c["etc"] = json!({"large": "x".repeat(30 * 1024)});
    }));
    host.run("comin fetch local");
    // The path unit has seen it, too.
    await_that("the decision", || host.status()["action"] == "suspended");
    host.await_idle();
    let unchanged = "find /var/lib/comin /nix/var/nix/profiles /etc/static /run/current-system -printf %p,%i,%s,%T@\\n";
    let before = host.run(unchanged);
    let web = host.show("web.service", "InvocationID");

    let plan = json_of(&host.try_run("comin plan --build --json"));
    assert_eq!(plan["action"], "suspended");
    assert_eq!(plan["target"]["commit"], commit.as_str());
    let build = &plan["build"];
    assert_eq!(host.label(build["out"].as_str().unwrap()), "1.1");
    let change = &build["closure"]["changes"][0];
    assert_eq!(change["package"], "nixos-system-machine");
    assert_eq!(
        (&change["removed"], &change["added"]),
        (&json!(["1.0"]), &json!(["1.1"]))
    );
    let size = change["size"].as_i64().unwrap();
    assert!((25 * 1024..35 * 1024).contains(&size), "{size}");
    let lines = build["dry_activation"]["lines"].as_array().unwrap();
    for line in [
        "would stop the following units: old.service, web.service",
        "would start the following units: web.service",
    ] {
        assert!(lines.contains(&json!(line)), "{lines:?}");
    }

    // As anybody, through the daemon that NixOS has.
    host.run("install --directory --owner=65534 --group=65534 /run/nobody");
    let anybody =
        "env HOME=/run/nobody NIX_REMOTE=daemon setpriv --reuid=65534 --regid=65534 --clear-groups";
    let plan = json_of(&host.try_run(&format!("{anybody} comin plan --build --json")));
    assert_eq!(plan["build"]["out"], build["out"]);
    assert_eq!(plan["build"]["closure"], build["closure"]);
    let left_out = &plan["build"]["dry_activation"]["left_out"];
    assert_eq!(left_out, "this needs root: try again with sudo");

    assert_eq!(host.run(unchanged), before);
    assert_eq!(host.show("web.service", "InvocationID"), web);
    assert_eq!(host.switches(), ["switch 1.0"]);
    let left = host.run("find / -xdev -ignore_readdir_race -name comin-plan-*");
    assert_eq!(left, "");
}
