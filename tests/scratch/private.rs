//! A configuration whose submodules and inputs are private, and where the credentials do not go.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::http::Server;
use crate::support::ssh::{self, Sshd};
use crate::support::{isolated, skip, Said};
use crate::world::{Repository, System, World};

const TOKEN: &str = "s3cr3t-0123456789-t0ken";
/// `me:` and the token.
const BASIC: &str = "bWU6czNjcjN0LTAxMjM0NTY3ODktdDBrZW4=";

/// A repository that holds its own name, which no other run of the test has had.
fn private(world: &World, name: &str) -> (Repository, String) {
    let repository = world.repository(name);
    let unique = world
        .path(name)
        .display()
        .to_string()
        .replace(['/', '.'], "");
    fs::write(repository.path.join("name"), format!("{name}-{unique}")).unwrap();
    let commit = repository.commit_all("private");
    (repository, commit)
}

/// `flake.lock` for inputs, as name, URL and repository.
fn lock(inputs: &[(&str, &str, &Repository, &str)]) -> String {
    let mut nodes = json!({"root": {"inputs": {}}});
    for (name, url, repository, commit) in inputs {
        // What Nix takes of a commit: its files, without `.git`.
        let files = repository.path.with_extension("files");
        let path = files.to_str().unwrap();
        repository.git(&["worktree", "add", "--quiet", "--detach", path]);
        fs::remove_file(files.join(".git")).unwrap();
        let hash = Command::new("nix")
            .args([
                "--extra-experimental-features",
                "nix-command",
                "hash",
                "path",
                path,
            ])
            .output();
        let hash = String::from_utf8(hash.unwrap().stdout).unwrap();
        let modified: u64 = repository
            .git(&["log", "-1", "--format=%ct"])
            .parse()
            .unwrap();
        nodes["root"]["inputs"][name] = json!(name);
        nodes[name] = json!({
            "flake": false,
            "locked": {
                "type": "git", "url": url, "ref": "main", "rev": commit,
                "narHash": hash.trim(), "lastModified": modified, "revCount": 1,
            },
            "original": {"type": "git", "url": url, "ref": "main"},
        });
    }
    json!({"version": 7, "root": "root", "nodes": nodes}).to_string()
}

/// A machine whose configuration is put together from three private repositories: `origin` itself and a
/// submodule want the token, and so does an input; another input wants the key.
struct Private {
    world: World,
    key: String,
}

impl Private {
    fn new() -> Option<Self> {
        if !ssh::is_there() {
            skip("OpenSSH is missing");
            return None;
        }
        let mut world = World::empty();
        let sshd = Sshd::start(&world.path("secrets"));
        let server = Server::start(&world.path("."));
        server.rule(|rules| rules.authorization = Some(format!("Basic {BASIC}")));
        let token = world.path("secrets/token");
        fs::write(&token, TOKEN).unwrap();
        let (_, submodule) = private(&world, "submodule");
        let (by_http, by_http_commit) = private(&world, "by-http");
        let (by_ssh, by_ssh_commit) = private(&world, "by-ssh");
        let http_url = format!("{}/by-http", server.url);
        let ssh_url = sshd.url(by_ssh.path.to_str().unwrap());

        let origin = world.repository("origin");
        let toplevel = format!(
            "import ./system {{ scratch = {:?}; label =
                with builtins; concatStringsSep \"-\" (map readFile [ ./submodule/name (inputs.by-http + \"/name\") (inputs.by-ssh + \"/name\") ]); }}",
            world.root()
        );
        origin.write("", "", &System::instead(&toplevel));
        let flake = origin.path.join("flake.nix");
        let inputs = format!(
            "{{ inputs.by-http = {{ url = \"git+{http_url}?ref=main\"; flake = false; }};
               inputs.by-ssh = {{ url = \"git+{ssh_url}?ref=main\"; flake = false; }};
               outputs = inputs:"
        );
        let text = fs::read_to_string(&flake).unwrap();
        fs::write(&flake, text.replacen("{ outputs = _:", &inputs, 1)).unwrap();
        let locked = lock(&[
            ("by-http", &http_url, &by_http, &by_http_commit),
            ("by-ssh", &ssh_url, &by_ssh, &by_ssh_commit),
        ]);
        fs::write(origin.path.join("flake.lock"), locked).unwrap();
        let modules = format!(
            "[submodule \"submodule\"]\npath = submodule\nurl = {}/submodule\n",
            server.url
        );
        fs::write(origin.path.join(".gitmodules"), modules).unwrap();
        origin.git(&["add", "--all"]);
        let link = format!("160000,{submodule},submodule");
        origin.git(&["update-index", "--add", "--cacheinfo", &link]);
        origin.git(&["commit", "--quiet", "--message", "put together"]);

        world.follow("origin", &format!("{}/origin", server.url));
        world.follow("by-ssh", &ssh_url);
        let (key, known_hosts) = (sshd.path("key"), sshd.path("known_hosts"));
        world.configure(|config| {
            config["submodules"] = json!(true);
            config["remotes"][0]["auth"] = json!({"access_token_path": token, "username": "me"});
            config["remotes"][1]["auth"] =
                json!({"ssh_deploy_key_path": key, "ssh_known_hosts_path": known_hosts});
        });
        // Would keep on the disk what it is told.
        fs::write(
            world.path("home/.gitconfig"),
            "[credential]\nhelper = store\n",
        )
        .unwrap();
        let key = fs::read_to_string(key)
            .unwrap()
            .lines()
            .nth(3)
            .unwrap()
            .to_string();
        Some(Self { world, key })
    }

    /// Fails where a secret is below a folder.
    fn found_nowhere_below(&self, folder: &Path) {
        let grep = Command::new("grep")
            .args([
                "-raF",
                "--exclude-dir=secrets",
                "-e",
                TOKEN,
                "-e",
                BASIC,
                "-e",
                &self.key,
            ])
            .arg(folder)
            .output()
            .unwrap();
        assert_eq!(grep.status.code(), Some(1), "{grep:?}");
    }
}

#[test]
fn private_submodules_and_inputs_are_fetched_and_no_secret_is_left_anywhere() {
    need!("git", "nix", "strace");
    let Some(private) = Private::new() else {
        return;
    };
    let world = &private.world;
    let comin = world.command(&["--debug", "run"]);
    let mut strace = Command::new("strace");
    isolated(&mut strace, &world.path("home"));
    // Nobody listens there, nor has anything to hear.
    strace.env("http_proxy", "http://127.0.0.1:1");
    // Every process that is started, with all its arguments and all its environment.
    strace
        .args(["-f", "-v", "-s", "100000", "-e", "trace=execve", "-o"])
        .arg(world.path("processes"))
        .arg(comin.get_program())
        .args(comin.get_args());
    let said = Said::of(&strace.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let label = world.running();
    for name in ["submodule-", "by-http-", "by-ssh-"] {
        assert!(label.contains(name), "{label}");
    }

    let processes = fs::read_to_string(world.path("processes")).unwrap();
    for started in [
        "git-remote-http",
        "\"credential\"",
        "\"get\"",
        "git-upload-pack '",
        "ssh_config",
    ] {
        assert!(processes.contains(started), "{started}");
    }
    let output = format!("{}{}", said.out, said.err);
    for secret in [TOKEN, BASIC, &private.key] {
        assert!(!output.contains(secret), "{output}");
    }
    // The list of processes is in there, and so are the state, the mirror and what Git and Nix cache.
    private.found_nowhere_below(&world.path("."));
    let closure = Command::new("nix-store")
        .args(["--query", "--requisites"])
        .arg(world.path("root/run/current-system"))
        .output();
    let closure = String::from_utf8(closure.unwrap().stdout).unwrap();
    assert!(!closure.is_empty());
    for path in closure.lines() {
        private.found_nowhere_below(Path::new(path));
    }
}

#[test]
fn without_its_token_a_private_submodule_is_not_fetched() {
    need!("git", "nix");
    let Some(private) = Private::new() else {
        return;
    };
    let world = &private.world;
    world.comin(&["fetch", "origin"], 0);
    fs::remove_file(world.path("secrets/token")).unwrap();
    let said = world.comin(&["deploy"], 1);
    assert!(
        said.err.contains("Failed to read the access token"),
        "{said:?}"
    );
}
