//! The evaluation of a configuration, which is somebody else's code: who evaluates, what that user may read, and with
//! whose credentials.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{json, Value};
use tempfile::TempDir;

use crate::machine::{receiving_repository, Configuration, Host, Line, LOCAL};
use crate::support::http::{Authority, Server};
use crate::support::skip;
use crate::support::ssh::{self, Sshd};
use crate::units::{copy, fetch, follow, BASIC};

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

    // A directory for temporary files is root's, or anybody's.
    host.run("comin suspend");
    let commit = host.commit(&first.named("planned"));
    assert_eq!(fetch(&host, "local")["error"], Value::Null);
    host.run("mkdir -m 700 /root/closed");
    let plan = host.try_run("env TMPDIR=/root/closed comin plan --build");
    assert_eq!(plan.code, Some(1), "{plan:?}");
    assert!(
        plan.err.contains("set TMPDIR to another directory"),
        "{plan:?}"
    );
    host.run("comin plan --build");
    host.run("comin resume");
    host.await_deployed(&commit);
    host.await_idle();

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

/// Where the certificates are that a machine trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn trust(host: &Host, file: &str, certificates: &str) {
    host.write(file, certificates);
    host.run(&format!("chmod 644 {file}"));
}

/// Private repositories: a flake, its submodule and an input behind HTTPS and a token, and an input behind SSH.
struct Private {
    https: Server,
    sshd: Sshd,
    /// The certificate of who has signed the server's.
    authority: String,
    /// The commit of the submodule.
    submodule: String,
    folder: TempDir,
}

impl Private {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let submodule = private(&path("served/library"), "library");
        private(&path("served/by-https"), "by-https");
        private(&path("by-ssh"), "by-ssh");
        receiving_repository(&path("served/flake"));
        let authority = Authority::new(&path("authority"));
        let names = "IP:127.0.0.1,DNS:localhost";
        Self {
            https: Server::start_tls(&path("served"), &authority, names, 0),
            sshd: Sshd::start(&path("sshd")),
            authority: fs::read_to_string(authority.certificate()).unwrap(),
            submodule,
            folder,
        }
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.https.url)
    }

    fn ssh_url(&self) -> String {
        self.sshd
            .url(self.folder.path().join("by-ssh").to_str().unwrap())
    }

    /// comin, following nothing that is not private.
    fn configuration(&self) -> Configuration {
        Configuration::new("first").with("first", |c| {
            c["settings"]["submodules"] = json!(true);
            let token = json!({"access_token_path": "/srv/secrets/token"});
            follow(c, "private", &self.url("flake"), token);
            let key = json!({
                "ssh_deploy_key_path": "/srv/secrets/key",
                "ssh_known_hosts_path": "/srv/secrets/known_hosts",
            });
            follow(c, "by-ssh", &self.ssh_url(), key);
            c["comin"]["remotes"].as_array_mut().unwrap().drain(..2);
        })
    }

    /// Lets a machine have what opens the repositories, and its own repository need them and be pushed to them.
    fn prepare(&self, host: &Host) {
        host.run("mkdir -m 700 /srv/secrets");
        host.write("/srv/secrets/token", "token\n");
        host.run("chmod 400 /srv/secrets/token");
        let netrc = "machine localhost login comin password token\n";
        host.write("/etc/nix/netrc", netrc);
        host.run("chmod 400 /etc/nix/netrc");
        for file in ["key", "known_hosts"] {
            copy(host, &self.sshd.path(file), &format!("/srv/secrets/{file}"));
        }
        let flake = host.read(&format!("{LOCAL}/flake.nix"));
        let inputs = format!(
            "inputs.by-https = {{ url = \"git+{}?ref=main\"; flake = false; }};
            inputs.by-ssh = {{ url = \"git+{}?ref=main\"; flake = false; }};
            inputs.by-file = {{ url = \"file+{}\"; flake = false; }};
            outputs = inputs:",
            self.url("by-https"),
            self.ssh_url(),
            self.url("by-https/HEAD").replace("127.0.0.1", "localhost")
        );
        let flake = flake.replacen("outputs =\n    _:", &inputs, 1);
        let label = "label = builtins.concatStringsSep \"-\" ([ configuration.label ] ++
            map (folder: assert builtins.readFile inputs.by-file != \"\"; builtins.readFile (folder + \"/name\"))
            [ ./library inputs.by-https inputs.by-ssh ]);";
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
            self.url("library")
        );
        host.write(&format!("{LOCAL}/.gitmodules"), &modules);
        let commit = &self.submodule;
        let link = format!("update-index --add --cacheinfo 160000,{commit},library");
        host.local.git(host, &link);
        host.run(&format!("mkdir {LOCAL}/library"));
        let to_push = self.url("flake");
        let to_push = to_push.replace("https://", "https://comin:token@");
        host.local
            .git(host, &format!("remote set-url origin {to_push}"));
        let authority = "config http.sslCAInfo /srv/certificates";
        host.local.git(host, authority);
        self.https
            .rule(|rules| rules.authorization = Some(BASIC.to_string()));
        forget(host);
    }
}

#[test]
fn private_flake_with_private_submodule_and_inputs_is_evaluated_over_https_by_the_user_and_by_root()
{
    need_host!();
    need!("openssl", "faketime");
    if !ssh::is_there() {
        skip("sshd is missing");
        return;
    }
    let private = Private::start();
    let first = private.configuration();
    let mut public = String::new();
    let host = Host::installed_with(&first, |host| {
        public = host.read(CERTIFICATES);
        trust(host, CERTIFICATES, &(public.clone() + &private.authority));
        trust(host, "/srv/certificates", &private.authority);
        private.prepare(host);
    });

    // From the third commit on, only the units trust the server.
    let by_variable = first.with("by-variable", |c| {
        let variable = |name: &str| format!("[Service]\nEnvironment={name}=/srv/certificates\n");
        c["units"] = json!({
            "comin.service.d/certificates.conf": variable("NIX_SSL_CERT_FILE"),
            "comin-private.service.d/certificates.conf": variable("SSL_CERT_FILE"),
        });
    });
    for (configuration, user) in [
        (first.named("second"), "comin-eval"),
        (by_variable.named("third"), "comin-eval"),
        (by_variable.with("fourth", evaluated_as_root), "comin-eval"),
        (by_variable.with("fifth", evaluated_as_root), "root"),
    ] {
        host.await_idle();
        // No fetch is under way any more that has not seen the commit.
        fetch(&host, "private");
        forget(&host);
        let before = host.cursor_now();
        let commit = host.commit(&configuration);
        host.local.git(&host, "push --quiet origin main");
        private.https.requests.lock().unwrap().clear();
        assert_eq!(fetch(&host, "private")["error"], Value::Null);
        host.await_deployed(&commit);
        let owner = "stat --format=%U /var/lib/comin/repository";
        assert_eq!(host.run(owner), "comin");
        assert_eq!(evaluator(&host), user);
        let label = configuration.label();
        assert_eq!(host.systems().0, format!("{label}-library-by-https-by-ssh"));
        let requests = private.https.requests.lock().unwrap().join("\n");
        for repository in ["/flake/", "/library/", "/by-https/info", "/by-https/HEAD"] {
            let asked = |line: &str| line.contains(repository) && line.contains(BASIC);
            assert!(requests.lines().any(asked), "{requests}");
        }
        assert_eq!(host.run("find /run/comin/handed-over -mindepth 1"), "");
        // The daemon lets users choose few settings, and warns of others.
        let lines = host.journal(&format!("{before} --unit=comin"));
        let is_warning = |line: &&Line| line.message.contains("ignoring");
        assert_eq!(lines.iter().filter(is_warning).count(), 0, "{lines:#?}");
        if label == "third" {
            trust(&host, CERTIFICATES, &public);
        }
    }
}
