//! comin's units on a real systemd: what they may do, what they may not, and what somebody gets who scrapes.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{json, Value};

use crate::machine::{Configuration, Gate, Host};
use crate::support::http::Server;
use crate::support::prometheus::{free_port, Prometheus};
use crate::support::ssh::{self, Sshd};
use crate::support::{await_that, skip};

/// Those of the Go comin.
const OF_GO: [&str; 9] = [
    "comin_build_info",
    "comin_deployment_info",
    "comin_fetch_count",
    "comin_is_suspended",
    "comin_need_to_reboot",
    "comin_last_fetch_failed",
    "comin_last_eval_failed",
    "comin_last_build_failed",
    "comin_last_deployment_failed",
];

/// `comin:token`, as the server wants to see it.
const BASIC: &str = "Basic Y29taW46dG9rZW4=";

/// Adds a remote that is polled when the test starts its unit, and no sooner.
fn follow(configuration: &mut Value, name: &str, url: &str, auth: Value) {
    let remotes = configuration["comin"]["remotes"].as_array_mut().unwrap();
    let mut remote = remotes[1].clone();
    remote["name"] = json!(name);
    remote["url"] = json!(url);
    remote["auth"] = auth;
    remote["poller"]["period"] = json!(3600);
    remotes.push(remote);
}

/// A bare repository with one commit that is in no other one.
fn repository(path: &Path) {
    let git = |words: &str| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"]);
        git.arg(path).args(words.split(' '));
        let output = git.output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    fs::create_dir_all(path).unwrap();
    git("init --quiet --bare --initial-branch=main");
    let tree = git("hash-object -t tree -w --stdin");
    let commit = git(&format!("commit-tree {tree} -m alone"));
    git(&format!("update-ref refs/heads/main {commit}"));
}

fn with_exporter(port: u16) -> Configuration {
    Configuration::new("first").with("first", |c| {
        c["comin"]["exporter"] = json!({"listen_address": "127.0.0.1", "port": port});
    })
}

/// A machine with remotes of every kind, and the servers of those.
struct Servers {
    http: Server,
    sshd: Sshd,
    _folder: tempfile::TempDir,
}

impl Servers {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        repository(&folder.path().join("http/guarded.git"));
        repository(&folder.path().join("ssh.git"));
        let http = Server::start(&folder.path().join("http"));
        http.rule(|rules| rules.authorization = Some(BASIC.to_string()));
        let sshd = Sshd::start(&folder.path().join("sshd"));
        Self {
            http,
            sshd,
            _folder: folder,
        }
    }

    fn configuration(&self, secrets: &str) -> Configuration {
        with_exporter(free_port()).with("first", |c| {
            // By its name: it has to be resolved.
            let guarded = self.http.url.replace("127.0.0.1", "localhost");
            let token = |file: &str| json!({"access_token_path": format!("{secrets}/{file}")});
            follow(
                c,
                "guarded",
                &format!("{guarded}/guarded.git"),
                token("token"),
            );
            follow(
                c,
                "other",
                &format!("{guarded}/other.git"),
                token("other-token"),
            );
            let repository = self.sshd.path("../ssh.git");
            let url = self.sshd.url(repository.to_str().unwrap());
            let auth = json!({
                "ssh_deploy_key_path": format!("{secrets}/key"),
                "ssh_known_hosts_path": format!("{secrets}/known_hosts"),
            });
            follow(c, "ssh", &url, auth);
        })
    }
}

fn copy(host: &Host, from: &Path, to: &str) {
    host.write(to, &fs::read_to_string(from).unwrap());
    // As anybody's: it is systemd that reads it.
    host.run(&format!("chown 1000:1000 {to}"));
    host.run(&format!("chmod 400 {to}"));
}

/// Fetches with the remote's unit, and returns the record of it.
fn fetch(host: &Host, remote: &str) -> Value {
    host.run(&format!("systemctl start comin-{remote}"));
    host.json(&format!("/run/comin/remotes/{remote}.json"))
}

fn error(host: &Host, remote: &str) -> String {
    let record = fetch(host, remote);
    record["error"].as_str().unwrap_or_default().to_string()
}

#[test]
fn everybody_sees_when_a_remote_is_fetched_next() {
    need_host!();
    // Of whatever name.
    let remote = "git.example.org";
    let host = Host::installed(&Configuration::new("first").with("first", |c| {
        c["comin"]["remotes"][1]["name"] = json!(remote);
    }));
    host.await_fetched(remote);
    host.await_idle();
    assert_eq!(error(&host, remote), "");
    let anybody = "setpriv --reuid=65534 --regid=65534 --clear-groups comin status";
    let mut status = Value::Null;
    // While it is being fetched, a remote has no next time.
    await_that("an idle timer", || {
        status = serde_json::from_str(&host.run(&format!("{anybody} --json"))).unwrap();
        status["remotes"][1]["next_fetch_at"].is_string()
    });
    let [local, origin] = [&status["remotes"][0], &status["remotes"][1]];
    assert_eq!(
        (&local["watched"], &origin["watched"]),
        (&json!(true), &json!(false))
    );
    let at = |key: &str| -> Timestamp { origin[key].as_str().unwrap().parse().unwrap() };
    let period = at("next_fetch_at").duration_since(at("fetched_at"));
    // The timer counts from the end of the service, which is a little after the fetch.
    assert!((299..310).contains(&period.as_secs()), "{status:#}");
    let text = host.run(anybody);
    assert!(
        text.contains(", watched\n") && text.contains(", next in 4 min\n"),
        "{text}"
    );
}

#[test]
fn machine_is_not_up_to_date_if_nobody_would_fetch_or_deploy() {
    need_host!();
    let port = free_port();
    let host = Host::installed(&with_exporter(port));
    host.await_fetched("origin");
    host.await_idle();
    let state = || host.status()["state"].clone();
    let scraped = || {
        let scrape = "curl --silent --show-error --fail";
        host.run(&format!("{scrape} http://127.0.0.1:{port}/metrics"))
    };
    await_that("the deployment", || state() == "up_to_date");
    assert_eq!(host.status()["inactive_units"], json!([]));
    for (units, expected) in [
        (&["comin-origin.timer"][..], "not_polled"),
        (&["comin-local.path"], "not_polled"),
        (&["comin.path", "comin-origin.timer"], "not_deploying"),
    ] {
        let units = units.join(" ");
        host.run(&format!("systemctl stop {units}"));
        assert_eq!(state(), expected, "{units}");
        let line = format!("comin_state{{state={expected:?}}} 1");
        let metrics = scraped();
        assert!(metrics.lines().any(|it| it == line), "{units}: {metrics}");
        let text = host.run("comin status");
        assert!(
            text.contains(&format!("→ sudo systemctl start {units}\n")),
            "{text}"
        );
        host.run(&format!("systemctl start {units}"));
        await_that("the units", || state() == "up_to_date");
    }
    // Orders at a shell are in the journal, with who gave them.
    host.run("SUDO_USER=me comin suspend --reason moving");
    let line = "--unit=comin --grep=moving";
    await_that("the order in the journal", || {
        let lines = host.journal(line);
        lines
            .iter()
            .any(|line| line.message.ends_with("(ordered by me)"))
    });
}

#[test]
fn each_unit_is_confined_and_yet_does_its_work() {
    need_host!();
    if !ssh::is_there() {
        skip("sshd is missing");
        return;
    }
    let servers = Servers::start();
    let first = servers.configuration("/root/secrets");
    let host = Host::installed(&first);

    for (unit, bound) in [
        ("comin-local", 33),
        ("comin-origin", 20),
        ("comin-guarded", 20),
        ("comin-ssh", 20),
        ("comin-exporter@0", 15),
    ] {
        // In tenths.
        host.run(&format!(
            "systemd-analyze security --no-pager --threshold={bound} {unit}.service"
        ));
    }

    // What is not there is said by comin, once, in its own words.
    host.run("mkdir -m 700 /root/secrets");
    let missing = host.cursor_now();
    for (remote, file) in [("guarded", "token"), ("ssh", "key")] {
        for _ in 0..2 {
            let error = error(&host, remote);
            let wanted = format!("/root/secrets/{file}, which auth.");
            assert!(
                error.contains(&wanted) && error.contains("No such file"),
                "{error}"
            );
        }
        let lines = host.journal(&format!("{missing} --unit=comin-{remote}"));
        assert!(lines.len() <= 1, "{lines:#?}");
    }

    // A name is resolved, a token and a key are handed over, whoever's they are.
    let server = &servers.sshd;
    host.write("/root/secrets/token", "token\n");
    host.run("chown 1000:1000 /root/secrets/token");
    host.run("chmod 400 /root/secrets/token");
    copy(&host, &server.path("key"), "/root/secrets/key");
    copy(
        &host,
        &server.path("known_hosts"),
        "/root/secrets/known_hosts",
    );
    for remote in ["local", "origin", "guarded", "ssh"] {
        assert_eq!(fetch(&host, remote)["error"], Value::Null, "{remote}");
    }
    let requests = servers.http.requests.lock().unwrap().clone();
    assert!(requests.iter().any(|r| r.contains(BASIC)), "{requests:?}");
    for line in host.journal(&missing) {
        assert!(!line.message.contains("token="), "{line:?}");
    }

    // A mirror is made anew, although a fetch cannot write all of it.
    host.write("/var/lib/comin/repository/HEAD", "");
    let commit = host.commit(&first.named("second"));
    host.await_deployed(&commit);
    host.await_idle();
    assert_eq!(fetch(&host, "local")["error"], Value::Null);

    // And where nobody but a fetch looks: below the accepted main.
    host.await_deployed(&host.commit(&first.named("third")));
    host.await_idle();
    let (folder, name) = commit.split_at(2);
    let script = format!(
        "set -e
        cd /var/lib/comin/repository
        mkdir /tmp/packs
        mv objects/pack/* /tmp/packs
        for pack in /tmp/packs/*.pack; do git --git-dir . unpack-objects -q <$pack; done
        rm objects/{folder}/{name}"
    );
    host.write("/root/lose", &script);
    host.run("sh /root/lose");
    let commit = host.commit(&first.named("fourth"));
    host.await_deployed(&commit);
}

/// Tries to write and to read, and says what it could.
const PROBE: &str = r#"#!/bin/bash
exec >/run/comin/probe 2>/dev/null
for folder in / /etc /root /home/owner /home/owner/config /tmp /var/tmp /var/lib /var/lib/comin \
    /var/lib/comin/gcroots /var/lib/comin/repository/hooks /usr/local/bin /nix/store /nix/var/nix/profiles \
    /run /run/systemd/system /dev/shm /proc/sys/kernel /sys/fs/cgroup; do
    touch $folder/probe && echo "wrote $folder"
done
for file in /var/lib/comin/state.json /var/lib/comin/repository/config /proc/sys/kernel/core_pattern \
    /proc/sysrq-trigger /sys/fs/cgroup/cgroup.procs /etc/passwd /dev/console; do
    (: >>$file) && echo "opened $file"
done
mv /var/lib/comin/repository /var/lib/comin/moved && echo "moved the mirror"
rm -f /var/lib/comin/repository/config && echo "removed the mirror's config"
for file in /srv/secrets/token /srv/secrets.d/1/other-token /srv/secrets/key /root/secret; do
    grep -q something $file && echo "read $file"
done
for folder in /run/credentials/*; do
    for file in $folder/*; do grep -q . "$file" && echo "was handed ${file##*%2F}"; done
done
touch /var/lib/comin/repository/probe && echo "wrote the mirror"
touch /run/comin/remotes/probe && echo "wrote the record"
mknod /run/comin/device c 1 3 && echo "made a device"
mount -t tmpfs none /var/lib/comin/repository && echo "mounted"
chown 1000 /run/comin/probe && echo "changed an owner"
(exec 3<>/dev/udp/127.0.0.1/9) && echo "opened an internet socket"
exit 0
"#;

#[test]
fn a_fetch_writes_only_its_own_folders_and_reads_only_its_own_secrets() {
    need_host!();
    if !ssh::is_there() {
        skip("sshd is missing");
        return;
    }
    let servers = Servers::start();
    // As those have it who keep the secrets of each generation.
    let host = Host::installed(&servers.configuration("/srv/secrets"));
    host.run("mkdir -p /srv/secrets.d/1");
    host.run("ln -s /srv/secrets.d/1 /srv/secrets");
    host.run("mkdir -p /var/lib/comin/gcroots /var/lib/comin/repository/hooks");
    for file in ["token", "other-token", "key", "known_hosts"] {
        host.write(&format!("/srv/secrets.d/1/{file}"), "something\n");
    }
    host.write("/root/secret", "something\n");
    host.run("systemctl stop comin-local.timer comin-local.path");
    host.write("/usr/local/bin/probe", PROBE);
    host.run("chmod +x /usr/local/bin/probe");

    let allowed = ["wrote the mirror", "wrote the record"];
    for (remote, handed) in [
        ("local", &[][..]),
        ("origin", &[]),
        ("guarded", &["token"]),
        ("other", &["other-token"]),
        ("ssh", &["key", "known_hosts"]),
    ] {
        // The unit as it is, but for what it runs.
        let folder = format!("/run/systemd/system/comin-{remote}.service.d");
        host.run(&format!("mkdir -p {folder}"));
        let probe = "[Service]\nExecStart=\nExecStart=/usr/local/bin/probe\n";
        host.write(&format!("{folder}/probe.conf"), probe);
        host.run("systemctl daemon-reload");
        host.run(&format!("systemctl start comin-{remote}"));
        let found = host.read("/run/comin/probe");
        let mut found: Vec<_> = found.lines().map(str::to_string).collect();
        if remote != "local" {
            // A tmpfs of its own.
            found.retain(|line| {
                !["wrote /tmp", "wrote /var/tmp", "wrote /dev/shm"].contains(&&**line)
            });
        }
        let handed = handed.iter().map(|file| format!("was handed {file}"));
        let (read, opened) = if remote == "local" {
            // What is no remote's secret may be the owner's repository.
            (Some("read /root/secret".to_string()), None)
        } else {
            (None, Some("opened an internet socket".to_string()))
        };
        let wanted: Vec<_> = read
            .into_iter()
            .chain(handed)
            .chain(allowed.map(str::to_string))
            .chain(opened)
            .collect();
        assert_eq!(found, wanted, "{remote}");
        assert_eq!(host.run("find /tmp /var/tmp -name probe"), "", "{remote}");
    }
}

#[test]
fn a_scrape_is_answered_and_leaves_nothing_behind() {
    need_host!();
    let port = free_port();
    let first = with_exporter(port);
    let host = Host::installed(&first);
    assert_eq!(host.show("comin-exporter.socket", "ActiveState"), "active");
    host.await_polls(1);

    let before = host.cursor_now();
    let disk = "find /var/lib/comin -printf %p,%i,%s,%T@\\n";
    let files = host.run(disk);
    for n in 0..5 {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let metrics = host.run(&format!("curl --silent --show-error --fail {url}"));
        for name in OF_GO {
            assert!(
                metrics.contains(&format!("\n# TYPE {name} ")),
                "{n}: {name}\n{metrics}"
            );
        }
        assert!(
            metrics.contains("\ncomin_phase{phase=\"idle\"} 1\n"),
            "{metrics}"
        );
    }
    let code = "curl --silent --output /dev/null --write-out %{http_code}";
    assert_eq!(
        host.run(&format!("{code} http://127.0.0.1:{port}/x")),
        "404"
    );
    assert_eq!(
        host.run(&format!("{code} --head http://127.0.0.1:{port}/metrics")),
        "200"
    );
    await_that("the end of the scrapes", || {
        host.units("--all comin-exporter@*").is_empty()
    });
    assert_eq!(host.try_run("pgrep --full comin.exporter").out, "");
    let lines = host.journal(&before);
    assert!(lines.is_empty(), "{lines:#?}");
    assert_eq!(host.run(disk), files);

    // Garbage is answered by a process of its own, and leaves as little.
    let garbage = "curl --silent --max-time 20 --output /dev/null --write-out %{http_code} --http2-prior-knowledge";
    host.try_run(&format!("{garbage} http://127.0.0.1:{port}/"));
    await_that("the end of the garbage", || {
        host.units("--all comin-exporter@*").is_empty()
    });
    let lines = host.journal(&before);
    assert!(lines.is_empty(), "{lines:#?}");

    // It sees whether root's deploy is at work.
    let gate = Gate::new(&host, "build");
    let commit = host.commit(&first.with("second", |c| c["build"] = json!(gate.code())));
    gate.await_begun();
    let url = format!("http://127.0.0.1:{port}/metrics");
    let metrics = host.run(&format!("curl --silent --show-error --fail {url}"));
    assert!(
        metrics.contains("\ncomin_phase{phase=\"building\"} 1\n"),
        "{metrics}"
    );
    assert!(metrics.ends_with("\ncomin_is_behind 1"), "{metrics}");
    gate.open();
    host.await_deployed(&commit);
    host.await_idle();

    // What goes wrong is one line, and the socket goes on.
    host.run("systemctl stop comin-local.timer comin-local.path comin.path");
    let before = host.cursor_now();
    host.write("/var/lib/comin/state.json", "{");
    assert_eq!(host.run(&format!("{code} {url}")), "500");
    await_that("the end of the failure", || {
        host.units("--all comin-exporter@*").is_empty()
    });
    let lines = host.journal(&before);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].message.contains("state.json cannot be read"),
        "{lines:#?}"
    );
    assert_eq!(host.show("comin-exporter.socket", "ActiveState"), "active");
}

#[test]
fn while_the_port_is_taken_only_a_switch_tries_to_get_it() {
    need_host!();
    let port = free_port();
    let first = with_exporter(port);
    let host = Host::installed(&first);
    let before = host.cursor_now();
    host.run("systemctl stop comin-exporter.socket");
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let commit = host.commit(&first.named("second"));
    let attempt = host.await_ended(&commit);
    host.await_idle();
    assert_eq!(
        attempt["error"],
        "switch-to-configuration exited with status 4: the new system runs, but units failed: comin-exporter.socket"
    );
    let lines = host.journal(&format!(
        "{before} --identifier=systemd --grep=^Failed.to.listen"
    ));
    assert_eq!(lines.len(), 1, "{lines:#?}");

    drop(taken);
    let commit = host.commit(&first.named("third"));
    host.await_deployed(&commit);
    assert_eq!(host.show("comin-exporter.socket", "ActiveState"), "active");
}

#[test]
fn a_real_prometheus_finds_the_metrics_of_the_go_comin() {
    need_host!();
    need!("prometheus", "curl");
    let port = free_port();
    let first = with_exporter(port);
    let begin = Timestamp::now().as_second();
    let host = Host::installed(&first);
    let prometheus = Prometheus::scraping(&[("m", port)], &[]);
    // On a busy machine a scrape may end too late, which the next one makes good.
    let await_one = |query: &str| await_that(query, || prometheus.query(query).len() == 1);
    for name in OF_GO {
        await_that(name, || !prometheus.query(name).is_empty());
    }
    await_one(&format!(
        "comin_last_fetch_success_timestamp_seconds{{remote_name=\"local\"}} >= {begin}"
    ));

    let commit = host.commit(&first.named("second"));
    host.await_deployed(&commit);
    await_one(&format!(
        "comin_deployment_info{{commit_id=\"{commit}\",status=\"done\"}}"
    ));
    await_one("comin_is_behind == 0");
    await_one("up == 1");
}
