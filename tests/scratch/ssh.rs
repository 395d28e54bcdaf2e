//! Remotes on an SSH server.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::ssh::{self, Sshd};
use crate::support::{is_root, skip, Said};
use crate::world::{Repository, World, SHA256};

/// A machine that follows `origin` on a server.
struct Followed {
    world: World,
    server: Sshd,
    origin: Repository,
    first: String,
}

impl Followed {
    fn new() -> Option<Self> {
        if !ssh::is_there() {
            skip("OpenSSH is missing");
            return None;
        }
        let mut world = World::empty();
        let server = Sshd::start(&world.path("100% server"));
        let origin = world.repository("origin");
        let first = origin.commit_all("first");
        world.follow("origin", &server.url(origin.path.to_str().unwrap()));
        let mut followed = Self {
            world,
            server,
            origin,
            first,
        };
        followed.credentials("key", "known_hosts");
        Some(followed)
    }

    /// Uses these files of the server's.
    fn credentials(&mut self, key: &str, known_hosts: &str) {
        let (key, known_hosts) = (self.server.path(key), self.server.path(known_hosts));
        self.world.configure(|config| {
            config["remotes"][0]["auth"] =
                json!({"ssh_deploy_key_path": key, "ssh_known_hosts_path": known_hosts});
        });
    }

    fn url(&mut self, url: &str) {
        self.world
            .configure(|config| config["remotes"][0]["url"] = json!(url));
    }

    /// Fetches, which works.
    fn fetches(&self, commit: &str) {
        self.world.comin(&["fetch", "origin"], 0);
        assert_eq!(self.world.mirrored("origin/main").unwrap(), commit);
    }

    /// Fetches, which fails with this sentence and changes nothing.
    fn says(&self, wanted: &str) -> Said {
        let before = self.world.mirrored("origin/main");
        let said = self.world.comin(&["fetch", "origin"], 1);
        assert!(said.err.contains(wanted), "{wanted}: {said:?}");
        assert_eq!(self.world.mirrored("origin/main"), before);
        said
    }
}

#[test]
fn a_push_is_fetched() {
    need!("git");
    let Some(remote) = Followed::new() else {
        return;
    };
    remote.fetches(&remote.first);
    assert_eq!(remote.world.comin(&["fetch", "origin"], 0).err, "");
    for n in 0..20 {
        remote.origin.commit_all(&format!("commit {n}"));
    }
    let second = remote.origin.commit_all("second");
    remote.fetches(&second);
}

#[test]
fn every_form_of_a_url() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    let odd = remote.world.path("it's odd!");
    fs::rename(&remote.origin.path, &odd).unwrap();
    let written = odd.to_str().unwrap().replace(' ', "%20");
    let url = remote.server.url(&written);
    remote.url(&url);
    remote.fetches(&remote.first);

    remote.url(&url.replace(&format!("{}@", remote.server.user), ""));
    remote.says("refuses the user comin with the SSH key");
    let user = remote.server.user.clone();
    remote.world.configure(|config| {
        config["remotes"][0]["auth"]["username"] = json!(user);
    });
    remote.fetches(&remote.first);
}

#[test]
fn a_url_as_scp_has_it() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    // It has no port, so this asks whatever listens at 22, if anything does: with no key that it knows.
    remote.url(&format!("{}@localhost:me/r.git", remote.server.user));
    let said = remote.world.comin(&["--debug", "fetch", "origin"], 1);
    let address = format!("\"{}@localhost:me/r.git\"", remote.server.user);
    assert!(said.err.contains(&address), "{said:?}");
    assert!(
        said.err.contains("localhost cannot be reached: ")
            || said.err.contains("the host key of localhost is not known"),
        "{said:?}"
    );
}

#[test]
fn an_unknown_and_a_changed_host_key_are_refused() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    remote.fetches(&remote.first);
    remote.origin.commit_all("second");
    remote.credentials("key", "none");
    let said = remote.says("the host key of 127.0.0.1 is not known (");
    let cure = format!(
        "\"ssh-keyscan -p {} 127.0.0.1\" shows it",
        remote.server.port
    );
    assert!(said.err.contains(&cure), "{said:?}");
    // It has not been learned either.
    remote.says("the host key of 127.0.0.1 is not known");

    remote.credentials("key", "known_hosts");
    ssh::key(&remote.server.path("host"), "");
    let said = remote.says("127.0.0.1 shows another host key than the one in");
    assert!(!said.err.contains("@@"), "{said:?}");
    remote.server.know();
    remote.world.comin(&["fetch", "origin"], 0);
}

#[test]
fn each_fault_of_a_key_is_named() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    let path = |name: &str| remote.server.path(name);
    let (key, wrong, secret, open, garbage, unended) = (
        path("key"),
        path("wrong"),
        path("secret"),
        path("open"),
        path("garbage"),
        path("unended"),
    );
    let text = fs::read_to_string(&key).unwrap();
    fs::write(&unended, text.trim_end()).unwrap();
    fs::set_permissions(&unended, Permissions::from_mode(0o600)).unwrap();
    ssh::key(&wrong, "");
    ssh::key(&secret, "passphrase");
    fs::copy(key, &open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    fs::write(&garbage, "no key\n").unwrap();
    fs::set_permissions(&garbage, Permissions::from_mode(0o600)).unwrap();
    for (key, wanted) in [
        ("missing", "Failed to read the SSH key"),
        ("wrong", "127.0.0.1 refuses the user"),
        ("secret", "has a passphrase, which nobody is there to enter"),
        ("open", "others may read the SSH key"),
        ("garbage", "garbage cannot be used: "),
        ("unended", "has no line break at its end"),
    ] {
        remote.credentials(key, "known_hosts");
        remote.says(wanted);
    }
    remote.credentials("key", "known_hosts");
    remote.fetches(&remote.first);
}

#[test]
fn an_agent_lends_no_key() {
    need!("git", "ssh-agent", "ssh-add");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    let socket = remote.world.path("agent");
    ssh::key(&remote.server.path("wrong"), "");
    remote.credentials("wrong", "known_hosts");
    let mut agent = Command::new("ssh-agent")
        .arg("-d")
        .arg("-a")
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // What it says first, it says when it listens.
    std::io::Read::read(agent.stdout.as_mut().unwrap(), &mut [0; 64]).unwrap();
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(remote.server.path("key"))
        .env("SSH_AUTH_SOCK", &socket)
        .status();
    let mut comin = remote.world.command(&["fetch", "origin"]);
    let said = Said::of(&comin.env("SSH_AUTH_SOCK", &socket).output().unwrap());
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added.unwrap().success());
    assert!(said.err.contains("refuses the user"), "{said:?}");
}

#[test]
fn what_is_not_there_is_named() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    remote.url(&remote.server.url("/nonexistent"));
    remote.says("the server has no such repository, or hides it from this key (");
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("ssh://git@{}/r", closed.local_addr().unwrap());
    drop(closed);
    remote.url(&url);
    remote.says("127.0.0.1 cannot be reached: ");
    remote.url("ssh://git@host.invalid/r");
    remote.says("host.invalid cannot be reached: ");

    let says_with = |path: &str, wanted: &str| {
        let mut comin = remote.world.command(&["fetch", "origin"]);
        let said = Said::of(&comin.env("PATH", remote.world.path(path)).output().unwrap());
        assert!(said.err.contains(wanted), "{said:?}");
    };
    says_with("home", "Failed to start git ls-remote: is it installed?");
    let git = Command::new("sh").args(["-c", "command -v git"]).output();
    let git = String::from_utf8(git.unwrap().stdout).unwrap();
    symlink(git.trim(), remote.world.path("home/git")).unwrap();
    says_with("home", "ssh cannot be started: is it installed?");
}

#[test]
fn a_repository_with_sha256_objects_is_a_sentence() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    let origin = remote.world.repository_with("sha256", "sha256");
    origin.commit_all("one");
    remote.url(&remote.server.url(origin.path.to_str().unwrap()));
    remote.says(SHA256);
}

#[test]
fn whatever_a_server_says_is_a_sentence() {
    need!("git");
    let Some(remote) = Followed::new() else {
        return;
    };
    let keys = remote.server.path("key.pub");
    let key = fs::read_to_string(&keys).unwrap();
    let command = r#"command="printf 'no\000\033[31mway\377' >&2; exit 1""#;
    fs::write(&keys, format!("{command} {key}")).unwrap();
    remote.says("no\u{fffd}\u{fffd}[31mway\u{fffd}");
    // In the middle of a conversation.
    let path = remote.origin.path.display();
    let command = format!(
        "command=\"git upload-pack --advertise-refs {path}; head -c 4 >/dev/null; echo out of paper >&2; exit 1\""
    );
    fs::write(&keys, format!("{command} {key}")).unwrap();
    remote.says("out of paper");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    need!("git");
    let Some(mut remote) = Followed::new() else {
        return;
    };
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    remote.url(&format!("ssh://git@{}/r", silent.local_addr().unwrap()));
    remote
        .world
        .configure(|config| config["remotes"][0]["timeout"] = json!(1));
    remote.says("the fetch timed out after 1 seconds, the timeout of the remote");
}

#[test]
fn the_sandbox_of_the_unit_is_enough() {
    need!("git", "setpriv");
    if !is_root() {
        skip("only root can give a key away");
        return;
    }
    let Some(remote) = Followed::new() else {
        return;
    };
    // A key of another user's, and what module/units.nix leaves to root.
    std::os::unix::fs::chown(remote.server.path("key"), Some(65534), Some(65534)).unwrap();
    let comin = remote.world.command(&["fetch", "origin"]);
    let mut command = Command::new("setpriv");
    command
        .args([
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all,+dac_read_search",
        ])
        .arg(comin.get_program())
        .args(comin.get_args())
        .env_remove("HOME");
    let said = Said::of(&command.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(remote.world.mirrored("origin/main").unwrap(), remote.first);
}
