//! The evaluation of a configuration, which is somebody else's code: who evaluates, what that user may read, and with
//! whose credentials.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{json, Value};

use crate::machine::{Configuration, Host, Line, LOCAL};
use crate::support::http::Server;
use crate::support::skip;
use crate::support::ssh::{self, Sshd};
use crate::units::{copy, follow, BASIC};

/// What only root may read, in `/root/secret`.
const SECRET: &str = "s3cr3t-of-root";
/// Its hash.
const HASH: &str = "8bdce3d1289aa9f30c5801466c2c82655b1d46e2a82e030356822fd34c27e2b1";

/// A repository without a flake, with the same configuration.
const DEFAULT_NIX: &str = "((import ./flake.nix).outputs { }).nixosConfigurations.machine\n";

fn write_secret(host: &Host) {
    host.write("/root/secret", SECRET);
    host.run("chmod 600 /root/secret");
}

fn evaluated_as_root(configuration: &mut Value) {
    configuration["settings"]["evaluate_as_root"] = json!(true);
}

/// Who owns what the evaluations leave, and so has evaluated.
fn evaluator(host: &Host) -> String {
    host.run("stat --format=%U /var/cache/comin/nix")
}

/// Changes the flake of the local repository, and commits that.
fn commit_with(host: &Host, configuration: &Configuration, change: (&str, &str)) -> String {
    let file = format!("{LOCAL}/flake.nix");
    let flake = host.read(&file);
    let changed = flake.replace(change.0, change.1);
    assert_ne!(flake, changed);
    host.write(&file, &changed);
    let commit = host.commit(configuration);
    host.write(&file, &flake);
    commit
}

/// Fails if a configuration is deployed that steals root's secret, or if the secret is in the store.
fn steals_nothing(host: &Host, commit: &str) -> String {
    let attempt = host.await_ended(commit);
    host.await_idle();
    assert_eq!(attempt["status"], "failed", "{attempt:#}");
    let found = host.try_run(&format!(
        "grep --recursive --files-with-matches {SECRET} /nix/store"
    ));
    // The sources of the thief have no copy of the text.
    assert_eq!(found.out, "", "{attempt:#}");
    attempt["error"].as_str().unwrap().to_string()
}

#[test]
fn flake_is_evaluated_by_a_user_who_cannot_read_what_only_root_may_read() {
    need_host!();
    let first = Configuration::new("first");
    // There is no user yet: the first evaluation is root's.
    let host = Host::installed(&first);
    write_secret(&host);
    assert_eq!(evaluator(&host), "root");
    assert_eq!(host.status()["evaluator"], "comin-eval");
    host.await_deployed(&host.commit(&first.named("second")));
    assert_eq!(evaluator(&host), "comin-eval");
    host.await_idle();

    let fetch_tree = "builtins.fetchTree { type = \"path\"; path = \"/root/secret\"; \
         narHash = \"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"; }";
    let fetch_url =
        format!("builtins.fetchurl {{ url = \"file:///root/secret\"; sha256 = \"{HASH}\"; }}");
    let machine_id = "machineId = null";
    let steal = |code: &str| format!("machineId = builtins.seq (builtins.readFile ({code})) null");
    let thief = |label: &str, code: &str| {
        commit_with(&host, &first.named(label), (machine_id, &steal(code)))
    };
    let error = steals_nothing(&host, &thief("by-path", fetch_tree));
    assert!(error.contains("Permission denied"), "{error}");
    assert!(
        error.contains("set services.comin.evaluateAsRoot"),
        "{error}"
    );
    steals_nothing(&host, &thief("by-url", &fetch_url));
    // By the working folder, it would find the copies of credentials.
    let copy = fetch_tree.replace("/root/secret", "/proc/self/cwd/.gitconfig");
    let error = steals_nothing(&host, &thief("by-folder", &copy));
    assert!(!error.contains("mismatch"), "{error}");

    // A damaged cache is emptied.
    let damage = "for file in /var/cache/comin/nix/*.sqlite /var/cache/comin/nix/*/*.sqlite; do echo damaged >$file; done";
    host.write("/root/damage", damage);
    host.run("sh /root/damage");
    let commit = host.commit(&first.with("third", evaluated_as_root));
    host.await_deployed(&commit);
    assert_eq!(evaluator(&host), "comin-eval");
    assert_eq!(host.run("find /run/comin/handed-over -mindepth 1"), "");
    host.await_idle();

    // Root may do all that.
    let root = first.with("as-root", evaluated_as_root);
    let commit = commit_with(&host, &root, (machine_id, &steal(&fetch_url)));
    host.await_deployed(&commit);
    assert_eq!(evaluator(&host), "root");
    assert_eq!(host.status()["evaluator"], Value::Null);
}

#[test]
fn repository_without_a_flake_cannot_read_what_only_root_may_read() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["repository_type"] = json!("nix");
    });
    let file = format!("{LOCAL}/default.nix");
    let host = Host::installed_with(&first, |host| host.write(&file, DEFAULT_NIX));
    write_secret(&host);
    let thief = format!("builtins.seq (builtins.readFile /root/secret) ({DEFAULT_NIX})");
    host.write(&file, &thief);
    let error = steals_nothing(&host, &host.commit(&first.named("thief")));
    assert!(error.contains("Permission denied"), "{error}");

    host.write(&file, DEFAULT_NIX);
    host.await_deployed(&host.commit(&first.with("second", evaluated_as_root)));
    host.write(&file, &thief);
    let root = first.with("as-root", evaluated_as_root);
    host.await_deployed(&host.commit(&root));
}

#[test]
fn daemon_of_nix_that_refuses_the_user_is_reported_with_the_cure() {
    need_host!();
    let first = Configuration::new("first");
    let host = Host::installed(&first);
    let settings = host.read("/etc/nix/nix.conf");
    host.write(
        "/etc/nix/nix.conf",
        &format!("{settings}allowed-users = root\n"),
    );
    host.run("systemctl stop nix-daemon.service");
    let attempt = host.await_ended(&host.commit(&first.named("second")));
    let error = attempt["error"].as_str().unwrap();
    assert!(error.contains("nix.settings.allowed-users"), "{error}");
}

/// Makes a repository with a file `name`, and returns its commit.
fn private(path: &Path, name: &str) -> String {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("name"), name).unwrap();
    let git = |words: &str| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"]);
        let output = git.arg(path).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    git("init --quiet --initial-branch=main");
    git("add name");
    git("commit --quiet --message private");
    git("rev-parse HEAD")
}

/// Takes away what Nix has fetched.
fn forget(host: &Host) {
    host.run("rm -rf /var/cache/comin /root/.cache");
    host.run("nix-store --gc");
}

#[test]
fn private_submodule_and_inputs_are_evaluated_by_the_user_and_by_root() {
    need_host!();
    if !ssh::is_there() {
        skip("sshd is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [library, by_http, by_ssh] =
        ["library", "by-http", "by-ssh"].map(|name| folder.path().join(name));
    let submodule = private(&library, "library");
    private(&by_http, "by-http");
    private(&by_ssh, "by-ssh");
    let server = Server::start(folder.path());
    let sshd = Sshd::start(&folder.path().join("sshd"));
    let url = |name: &str| format!("{}/{name}", server.url);
    let ssh_url = sshd.url(by_ssh.to_str().unwrap());
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["submodules"] = json!(true);
        let token = json!({"access_token_path": "/srv/secrets/token"});
        follow(c, "by-http", &url("by-http"), token);
        let key = json!({
            "ssh_deploy_key_path": "/srv/secrets/key",
            "ssh_known_hosts_path": "/srv/secrets/known_hosts",
        });
        follow(c, "by-ssh", &ssh_url, key);
    });
    let host = Host::installed_with(&first, |host| {
        host.run("mkdir -m 700 /srv/secrets");
        host.write("/srv/secrets/token", "token\n");
        host.run("chmod 400 /srv/secrets/token");
        let netrc = "machine localhost login comin password token\n";
        host.write("/etc/nix/netrc", netrc);
        host.run("chmod 400 /etc/nix/netrc");
        for file in ["key", "known_hosts"] {
            copy(host, &sshd.path(file), &format!("/srv/secrets/{file}"));
        }
        let flake = host.read(&format!("{LOCAL}/flake.nix"));
        let inputs = format!(
            "inputs.by-http = {{ url = \"git+{}?ref=main\"; flake = false; }};
            inputs.by-ssh = {{ url = \"git+{ssh_url}?ref=main\"; flake = false; }};
            inputs.by-file = {{ url = \"file+{}\"; flake = false; }};
            outputs = inputs:",
            url("by-http"),
            url("by-http/HEAD").replace("127.0.0.1", "localhost")
        );
        let flake = flake.replacen("outputs =\n    _:", &inputs, 1);
        let label = "label = builtins.concatStringsSep \"-\" ([ configuration.label ] ++
            map (folder: assert builtins.readFile inputs.by-file != \"\"; builtins.readFile (folder + \"/name\"))
            [ ./library inputs.by-http inputs.by-ssh ]);";
        let flake = flake.replacen("inherit (configuration) label;", label, 1);
        host.write(&format!("{LOCAL}/flake.nix"), &flake);
        let lock = format!(
            "export NIX_CONFIG='experimental-features = nix-command flakes'
            export GIT_SSH_COMMAND='ssh -i /srv/secrets/key -o UserKnownHostsFile=/srv/secrets/known_hosts'
            nix flake lock path:{LOCAL}"
        );
        host.write("/root/lock", &lock);
        host.run("sh /root/lock");
        let modules = format!(
            "[submodule \"library\"]\npath = library\nurl = {}\n",
            url("library")
        );
        host.write(&format!("{LOCAL}/.gitmodules"), &modules);
        let link = format!("update-index --add --cacheinfo 160000,{submodule},library");
        host.local.git(host, &link);
        host.run(&format!("mkdir {LOCAL}/library"));
        server.rule(|rules| rules.authorization = Some(BASIC.to_string()));
        forget(host);
    });

    for (configuration, user) in [
        (first.named("second"), "comin-eval"),
        (first.with("third", evaluated_as_root), "comin-eval"),
        (first.with("fourth", evaluated_as_root), "root"),
    ] {
        host.await_idle();
        forget(&host);
        let before = host.cursor_now();
        server.requests.lock().unwrap().clear();
        host.await_deployed(&host.commit(&configuration));
        assert_eq!(evaluator(&host), user);
        let label = host.systems().0;
        assert_eq!(
            label,
            format!("{}-library-by-http-by-ssh", configuration.label())
        );
        let requests = server.requests.lock().unwrap().join("\n");
        for repository in ["/library/", "/by-http/info", "/by-http/HEAD"] {
            let asked = |line: &str| line.contains(repository) && line.contains(BASIC);
            assert!(requests.lines().any(asked), "{requests}");
        }
        assert_eq!(host.run("find /run/comin/handed-over -mindepth 1"), "");
        // The daemon lets users choose few settings, and warns of others.
        let lines = host.journal(&format!("{before} --unit=comin"));
        let is_warning = |line: &&Line| line.message.contains("ignoring");
        assert_eq!(lines.iter().filter(is_warning).count(), 0, "{lines:#?}");
    }
}
