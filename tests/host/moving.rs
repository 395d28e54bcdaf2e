//! A machine that moves over from the Go comin on a real systemd.

use serde_json::{json, Value};

use crate::machine::{Configuration, Host};
use crate::support::await_that;
use crate::support::prometheus::free_port;

/// What somebody at a shell does, and the Go comin by itself.
const REBUILD: &str = r"#!/bin/sh -e
git config --global --replace-all safe.directory '*'
configuration=git+file:///home/owner/config#nixosConfigurations.machine.config.system.build.toplevel
nix='nix --extra-experimental-features nix-command --extra-experimental-features flakes'
toplevel=$($nix build --no-link --print-out-paths $configuration)
nix-env --profile /nix/var/nix/profiles/system --set $toplevel
$toplevel/bin/switch-to-configuration switch
";

/// In place of the Go comin, as far as it stands in the way: it has the unit's name and the port.
fn of_go(port: u16) -> Configuration {
    let unit = format!(
        "[Unit]\nX-RestartIfChanged=false\n[Service]\n\
         ExecStart=/usr/bin/systemd-socket-activate --accept --listen=127.0.0.1:{port} /usr/bin/cat\n"
    );
    Configuration::new("of-go").with("of-go", |c| {
        c["comin"] = Value::Null;
        c["system"]["units"] = json!({"comin.service": unit});
        c["system"]["wants"] = json!({"multi-user.target": ["comin.service"]});
    })
}

#[test]
fn while_the_go_comin_runs_nothing_fails_and_then_all_of_it_works() {
    need_host!();
    let port = free_port();
    let host = Host::bare();
    host.write("/usr/local/bin/rebuild", REBUILD);
    host.run("chmod 755 /usr/local/bin/rebuild");
    let before = host.commit(&of_go(port));
    host.run("rebuild");
    host.run("mkdir --mode=755 /var/lib/comin");
    let store =
        json!({"deployments": [{"status": "done", "generation": {"main_commit_id": before}}]});
    host.write("/var/lib/comin/store.json", &store.to_string());
    await_that("the port is taken", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });

    let commit = host.commit(&Configuration::new("ours").with("ours", |c| {
        c["comin"]["exporter"] = json!({"listen_address": "127.0.0.1", "port": port});
    }));
    // Fails where a unit does.
    host.run("rebuild");
    host.await_fetched("local");
    assert_eq!(host.units("--failed"), [""; 0]);
    assert_eq!(
        host.show("comin-exporter.socket", "ActiveState"),
        "inactive"
    );
    assert_eq!(host.show("comin.service", "ActiveState"), "active");
    assert_eq!(host.attempts(), [Value::Null; 0]);

    host.run("systemctl stop comin.service");
    host.await_deployed(&commit);
    let lines = host.journal("--identifier=comin");
    let taken = format!("The accepted main is {before}");
    assert!(lines.iter().any(|line| line.message.contains(&taken)));
    let url = format!("http://127.0.0.1:{port}/metrics");
    await_that("the metrics", || {
        let metrics = host.try_run(&format!("curl --silent --fail {url}"));
        metrics.out.contains("comin_build_info")
    });
    assert_eq!(host.units("--failed"), [""; 0]);

    // From the next boot on it is as on any other machine.
    host.reboot();
    await_that("the sockets", || {
        host.show("sockets.target", "ActiveState") == "active"
    });
    assert_eq!(host.show("comin-exporter.socket", "ActiveState"), "active");
}
