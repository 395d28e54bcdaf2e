//! Command lines of the pages that need units and a journal.

use serde_json::json;

use crate::machine::{Configuration, Host};
use crate::support::pages::ON_HOST;
use crate::support::prometheus::free_port;

/// What the output of a line has, if the line prints anything.
fn expected(line: &str) -> &'static str {
    match line {
        "journalctl COMIN_OUTCOME=failed" => "(local/main): ",
        "journalctl -u comin-origin" => "origin/main is at ",
        line if line.starts_with("journalctl") => "Deployed ",
        "systemctl list-timers 'comin-*'" => "comin-origin.timer",
        "systemctl status comin-exporter.socket" => "(listening)",
        "systemctl --failed" => "0 loaded units",
        "systemctl status comin" => "comin.service",
        _ => "",
    }
}

#[test]
fn commands_of_the_pages_work() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["comin"]["exporter"] = json!({"listen_address": "127.0.0.1", "port": free_port()});
    });
    let host = Host::installed(&first);
    host.write("/usr/local/bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
    host.run("chmod +x /usr/local/bin/sudo");
    let broken = first.with("broken", |c| c["evaluation"] = json!("exit 1"));
    assert_eq!(host.await_ended(&host.commit(&broken))["status"], "failed");
    let commit = host.commit(&first.named("second"));
    host.await_deployed(&commit);
    host.local.git(&host, "push --quiet origin main");
    host.run("systemctl start comin-origin");
    host.run("systemctl reset-failed");
    host.await_idle();
    for line in ON_HOST {
        let typed = line
            .replace("journalctl -f ", "journalctl ")
            .replace("3f2a9c1e7b50d4861c9e2f07a35b8d6e41f0c2a9", &commit)
            .replace("sleep 2h", "sleep 0");
        host.write("/root/line", &typed);
        let said = host.try_run("sh /root/line");
        // 3: the unit is there, and does not run just now.
        let is_right =
            said.code == Some(0) || line == "systemctl status comin" && said.code == Some(3);
        assert!(
            is_right && said.out.contains(expected(line)),
            "{line}: {said:?}"
        );
    }
}
