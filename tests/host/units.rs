//! comin's units on a real systemd: what they may do, what they may not, and what somebody gets who scrapes.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{json, Value};

use crate::machine::{Configuration, Gate, Host, Line};
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
pub const BASIC: &str = "Basic Y29taW46dG9rZW4=";

/// Adds a remote that is polled when the test starts its unit, and no sooner.
pub fn follow(configuration: &mut Value, name: &str, url: &str, auth: Value) {
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

pub fn copy(host: &Host, from: &Path, to: &str) {
    host.write(to, &fs::read_to_string(from).unwrap());
    // As anybody's: it is systemd that reads it.
    host.run(&format!("chown 1000:1000 {to}"));
    host.run(&format!("chmod 400 {to}"));
}

/// Fetches with the remote's unit, and returns the record of it.
pub fn fetch(host: &Host, remote: &str) -> Value {
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
    // The timer counts from the end of the service, which is a little after the fetch.
    let at = |key: &str| -> Timestamp { origin[key].as_str().unwrap().parse().unwrap() };
    let period = at("next_fetch_at").duration_since(at("fetched_at"));
    assert!(period.as_secs() >= 299, "{status:#}");
    await_that("the text of the status", || {
        let text = host.run(anybody);
        text.contains(", watched\n") && text.contains(", next in ")
    });
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
        (&["comin-fetcher.service"], "not_polled"),
        (&["comin.path", "comin-origin.timer"], "not_deploying"),
    ] {
        let units = units.join(" ");
        host.run(&format!("systemctl stop {units}"));
        // Nobody waits long for the answer of a busy systemd.
        await_that(expected, || state() == expected);
        let line = format!("comin_state{{state={expected:?}}} 1");
        await_that(&line, || scraped().lines().any(|it| it == line));
        let cure = format!("→ sudo systemctl start {units}\n");
        await_that(&cure, || host.run("comin status").contains(&cure));
        host.run(&format!("systemctl start {units}"));
        await_that("the units", || state() == "up_to_date");
        host.await_polls(1);
    }
    // Orders at a shell are in the journal, with who gave them.
    host.run("SUDO_USER=me comin suspend --reason moving");
    await_that("the order in the journal", || {
        let lines = host.journal("--unit=comin");
        let is_it = |line: &Line| {
            line.message.contains("moving") && line.message.ends_with("(ordered by me)")
        };
        lines.iter().any(is_it)
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
        ("comin-local", 60),
        ("comin-origin", 60),
        ("comin-guarded", 60),
        ("comin-ssh", 60),
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

/// What somebody does who has taken over a fetch: tries to write, to read and to have root do something, and says what
/// worked.
const ATTACK: &str = r#"#!/bin/bash
exec >/run/comin/remotes/.attack 2>/dev/null
for folder in / /etc /root /home/owner /home/owner/config /var/lib /var/lib/comin /var/lib/comin/gcroots \
    /var/lib/comin/verified /usr/local/bin /nix/store /nix/var/nix/profiles /run /run/comin /run/systemd/system \
    /proc/sys/kernel /sys/fs/cgroup; do
    touch $folder/probe && echo "wrote $folder"
done
for file in /var/lib/comin/state.json /run/comin/decided.json /proc/sys/kernel/core_pattern /proc/sysrq-trigger \
    /sys/fs/cgroup/cgroup.procs /etc/passwd /dev/console; do
    (: >>$file) && echo "opened $file"
done
(: </dev/kmsg) && echo "reads a device"
mv /var/lib/comin/repository /var/lib/comin/moved && echo "moved the mirror"
mv /run/comin/remotes /run/comin/moved && echo "moved the records"
for file in /srv/secrets/token /srv/secrets.d/1/other-token /srv/secrets/key /root/secret; do
    grep -q something $file && echo "read $file"
done
for folder in /run/credentials/*; do
    for file in $folder/*; do grep -q something "$file" && echo "was handed ${file##*%2F}"; done
done
touch /var/lib/comin/repository/probe && echo "wrote the mirror"
touch /run/comin/remotes/probe && echo "wrote the record"
mknod /run/comin/remotes/device c 1 3 && echo "made a device"
mkfifo /run/comin/remotes/pipe && echo "made a pipe"
mount -t tmpfs none /var/lib/comin/repository && echo "mounted"
chown 1000 /run/comin/remotes/probe && echo "changed an owner"
kill -0 1 && echo "may kill"
/usr/local/bin/setuid-sh -p -c 'touch /etc/taken' && echo "ran a setuid program"
for order in "systemd-run --quiet --wait touch /root/taken" "systemctl start attacked" \
    "systemctl stop comin.path" "pkexec touch /root/taken" "comin suspend" \
    "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager Reboot"; do
    $order </dev/null && echo "had root do: $order"
done
/usr/local/bin/connect && echo "was taken for root"
(exec 3<>/dev/udp/127.0.0.1/9) && echo "opened an internet socket"
exit 0
"#;

/// Somebody who listens for root, as systemd and the daemon of Nix do, and asks the kernel who connects.
const TRUSTS_ROOT: &str = r"#!/usr/bin/perl
use Socket;
socket(my $server, AF_UNIX, SOCK_STREAM, 0) or die;
bind($server, sockaddr_un('/run/trusts-root')) or die;
chmod 0777, '/run/trusts-root';
listen($server, 9) or die;
while (accept(my $client, $server)) {
    my (undef, $uid) = unpack('iii', getsockopt($client, SOL_SOCKET, 17));
    syswrite($client, $uid == 0 ? 'root' : 'no');
}
";
const CONNECT: &str = r"#!/usr/bin/perl
use Socket;
socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or exit 1;
connect($socket, sockaddr_un('/run/trusts-root')) or exit 1;
sysread($socket, my $answer, 9);
exit($answer eq 'root' ? 0 : 1);
";

/// Puts a program onto a machine.
pub fn install(host: &Host, path: &str, text: &str) {
    host.write(path, text);
    host.run(&format!("chmod 755 {path}"));
}

/// Lets a remote's unit, as it is, run a program in place of the fetch.
pub fn take_over(host: &Host, remote: &str, program: &str) {
    let folder = format!("/run/systemd/system/comin-{remote}.service.d");
    host.run(&format!("mkdir -p {folder}"));
    let attack = format!("[Service]\nExecStart=\nExecStart={program}\n");
    host.write(&format!("{folder}/attack.conf"), &attack);
    host.run("systemctl daemon-reload");
    host.run(&format!("systemctl start comin-{remote}"));
    host.run(&format!("rm -r {folder}"));
    host.run("systemctl daemon-reload");
}

#[test]
fn attacker_in_a_fetch_writes_its_own_folders_reads_its_own_secrets_and_commands_nobody() {
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
    host.run("mkdir -p /var/lib/comin/gcroots");
    for file in ["token", "other-token", "key", "known_hosts"] {
        host.write(&format!("/srv/secrets.d/1/{file}"), "something\n");
        host.run(&format!("chmod 400 /srv/secrets.d/1/{file}"));
    }
    host.write("/root/secret", "something\n");
    host.run("chmod 600 /root/secret");
    host.stop_fetches();
    install(&host, "/usr/local/bin/attack", ATTACK);
    install(&host, "/usr/local/bin/connect", CONNECT);
    install(&host, "/usr/local/bin/trusts-root", TRUSTS_ROOT);
    host.run("systemd-run --quiet /usr/local/bin/trusts-root");
    let listens = || host.path("/run/trusts-root").exists();
    await_that("somebody listens", listens);
    host.run("cp /bin/bash /usr/local/bin/setuid-sh");
    host.run("chmod 4755 /usr/local/bin/setuid-sh");
    // As root, the same attack works.
    host.run("/usr/local/bin/connect");

    let allowed = ["wrote the mirror", "wrote the record"];
    for (remote, handed) in [
        ("local", &[][..]),
        ("origin", &[]),
        ("guarded", &["token"]),
        ("other", &["other-token"]),
        ("ssh", &["key", "known_hosts"]),
    ] {
        take_over(&host, remote, "/usr/local/bin/attack");
        let found = host.read("/run/comin/remotes/.attack");
        let found: Vec<_> = found.lines().map(str::to_string).collect();
        let handed = handed.iter().map(|file| format!("was handed {file}"));
        // A repository may be anywhere, and only its owner may be able to read it.
        let read: &[&str] = if remote == "local" {
            &[
                "read /srv/secrets/token",
                "read /srv/secrets.d/1/other-token",
                "read /srv/secrets/key",
                "read /root/secret",
            ]
        } else {
            &[]
        };
        let opened = (remote != "local").then_some("opened an internet socket");
        let wanted: Vec<_> = read
            .iter()
            .map(|line| (*line).to_string())
            .chain(handed)
            .chain(allowed.map(str::to_string))
            .chain(opened.map(str::to_string))
            .collect();
        assert_eq!(found, wanted, "{remote}");
    }
    for file in ["/root/taken", "/etc/taken"] {
        assert!(!host.path(file).exists(), "{file}");
    }
    assert_eq!(host.show("comin.path", "ActiveState"), "active");
}

/// What somebody may leave in the mirror and beside the records who has taken over a fetch: a name, and shell code.
const TRAPS: [(&str, &str); 8] = [
    (
        "settings that run a command",
        "cat >>config <<END
[core]
    fsmonitor = /usr/local/bin/taken
    sshCommand = /usr/local/bin/taken
    alternateRefsCommand = /usr/local/bin/taken
    hooksPath = /var/lib/comin/repository/hooks
[uploadpack]
    packObjectsHook = /usr/local/bin/taken
[extensions]
    partialClone = origin
[remote \"origin\"]
    promisor = true
    url = ext::/usr/local/bin/taken
    uploadpack = /usr/local/bin/taken
[include]
    path = /root/secret
END
        for hook in reference-transaction post-checkout pre-auto-gc; do cp /usr/local/bin/taken hooks; done",
    ),
    ("a link in place of a folder of refs", "rm -rf refs/comin; ln -s /root refs/comin"),
    ("a link in place of a ref", "rm -rf refs/comin; mkdir refs/comin; ln -s /root/secret refs/comin/target"),
    ("links in place of locks", "rm -rf refs/comin; mkdir refs/comin; for file in main target; do ln -s /root/taken refs/comin/$file.lock; done"),
    ("objects from elsewhere", "mkdir -p objects/info; echo /root/repository/objects >objects/info/alternates"),
    ("a pipe in place of a pack", "mkfifo objects/pack/pack-0.idx"),
    ("a pipe in place of the settings", "rm config; mkfifo config"),
    (
        "a record without an end",
        "cd /run/comin/remotes; rm -f local.json .wanted; mkfifo local.json; ln -s /root/taken origin.json.new; mkdir .wanted",
    ),
];

#[test]
fn mirror_that_an_attacker_has_written_to_makes_root_run_and_write_nothing() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    host.await_fetched("origin");
    install(
        &host,
        "/usr/local/bin/taken",
        "#!/bin/sh\ntouch /srv/taken-by-$(id -u)\n",
    );
    host.write("/root/secret", "something\n");
    let roots = || host.run("find /root -not -path */.cache* -printf %p,%s,%T@\\n");
    let before = roots();
    for (n, (trap, code)) in TRAPS.iter().enumerate() {
        host.stop_fetches();
        host.run("systemctl stop comin.path");
        let commit = host.commit(&first.named(&format!("commit{n}")));
        assert_eq!(fetch(&host, "local")["error"], Value::Null, "{trap}");
        let attack = format!("#!/bin/sh\nset -e\ncd /var/lib/comin/repository\n{code}\n");
        install(&host, "/usr/local/bin/attack", &attack);
        // Without the sandbox, which lets nobody make a pipe.
        host.run("setpriv --reuid=comin --regid=comin --clear-groups /usr/local/bin/attack");
        // The first deploy meets the trap. If nothing is left of the mirror then, the fetches bring it back.
        for _ in 0..2 {
            host.try_run("timeout 180 comin deploy");
            fetch(&host, "local");
        }
        host.run("timeout 180 comin deploy");
        host.await_deployed(&commit);
        assert!(!host.path("/srv/taken-by-0").exists(), "{trap}");
        assert_eq!(roots(), before, "{trap}");
    }
}

/// In place of git: writes down what another user than root finds in the environment, and the terminal, 0 for none.
const SPY: &str = r#"#!/bin/sh
[ "$(id -u)" = 0 ] || { env; cut -d ' ' -f 7 /proc/$$/stat; } >>/run/comin/remotes/.seen
exec /usr/bin/git "$@"
"#;

/// Root at a terminal.
const SESSION: &str =
    "SECRET=something script --quiet --return --command 'comin run local guarded ssh origin' /dev/null";

#[test]
fn root_at_a_shell_fetches_as_the_user_and_leaves_nothing_that_the_units_cannot_write() {
    need_host!();
    if !ssh::is_there() {
        skip("sshd is missing");
        return;
    }
    let servers = Servers::start();
    let first = servers.configuration("/srv/secrets").with("first", |c| {
        c["comin"]["remotes"][3]["timeout"] = json!(1);
    });
    // The first comin is root's, and so was its mirror.
    let host = Host::installed(&first);
    let server = &servers.sshd;
    host.run("mkdir -m 700 /srv/secrets");
    host.write("/srv/secrets/token", "token\n");
    host.run("chmod 400 /srv/secrets/token");
    copy(&host, &server.path("key"), "/srv/secrets/key");
    copy(
        &host,
        &server.path("known_hosts"),
        "/srv/secrets/known_hosts",
    );
    host.stop_fetches();
    let others = "find /var/lib/comin/repository /run/comin/remotes -not -user comin";
    fetch(&host, "local");
    assert_eq!(host.run(others), "");
    let commit = host.commit(&first.named("second"));
    // After a boot, nobody has made the folder of the records.
    host.run("rm -r /run/comin/remotes");
    // And a comin that was killed has left a token.
    host.run("mkdir -p /run/comin/handed-over/4194305-killed");
    host.run("touch /run/comin/handed-over/4194305-killed/token");
    install(&host, "/usr/local/bin/git", SPY);
    host.write("/root/session", SESSION);
    host.run("sh /root/session");
    host.await_deployed(&commit);
    assert_eq!(host.run(others), "");
    assert_eq!(host.run("find /run/comin/handed-over -mindepth 1"), "");
    for remote in ["local", "guarded", "ssh", "origin"] {
        let record = host.json(&format!("/run/comin/remotes/{remote}.json"));
        assert_eq!(record["error"], Value::Null, "{remote}");
    }
    let seen = host.read("/run/comin/remotes/.seen");
    assert!(seen.contains("PATH=") && !seen.contains("SECRET"), "{seen}");
    let terminals = seen.lines().filter(|line| line.parse::<u32>().is_ok());
    assert!(terminals.clone().count() > 3 && terminals.clone().all(|it| it == "0"));
    host.run("rm /usr/local/bin/git");
    let commit = host.commit(&first.named("third"));
    assert_eq!(fetch(&host, "local")["error"], Value::Null);
    host.await_deployed(&commit);
    // Every remote is tried, also if no fetch can begin.
    host.stop_fetches();
    host.run("mv /usr/bin/setpriv /usr/bin/not-setpriv");
    let said = host.try_run("comin run local origin");
    host.run("mv /usr/bin/not-setpriv /usr/bin/setpriv");
    assert_eq!(said.code, Some(1), "{said:?}");
    for remote in ["local", "origin"] {
        let record = host.json(&format!("/run/comin/remotes/{remote}.json"));
        let error = record["error"].as_str().unwrap();
        assert!(error.contains("as the user who owns the mirror"), "{error}");
    }
    // The user can let root wait for a while, and not for ever.
    host.run("systemd-run --quiet --uid=comin flock /run/comin/remotes/other.lock sleep infinity");
    await_that("the lock", || {
        let lock = "/run/comin/remotes/other.lock";
        // Or root's flock makes the file, which the user cannot open then.
        let try_lock = format!("flock --nonblock {lock} true");
        host.path(lock).exists() && host.try_run(&try_lock).code != Some(0)
    });
    let said = host.try_run("timeout 300 comin fetch other");
    assert!(
        said.code == Some(1) && said.err.contains("as the user who owns the mirror"),
        "{said:?}"
    );
    // Nobody else may.
    let anybody = "setpriv --reuid=65534 --regid=65534 --clear-groups comin fetch local";
    let said = host.try_run(anybody);
    assert!(
        said.code == Some(1) && said.err.contains("sudo comin fetch local"),
        "{said:?}"
    );
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
    host.stop_fetches();
    host.run("systemctl stop comin.path");
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
