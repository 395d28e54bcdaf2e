//! What lies between a machine and its servers: proxies, names with several addresses, certificates of one's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::http::{Authority, Server};
use crate::support::prometheus::free_port;
use crate::support::ssh::{self, Sshd};
use crate::support::{await_that, is_root, isolated, skip, Said};
use crate::world::{Repository, World};

/// The server's name. An address on this machine would go past every proxy.
const NAME: &str = "git.internal.domain";

/// A machine that follows `origin` on a server with a name, and what runs beside it.
struct Network {
    world: World,
    origin: Repository,
    server: Server,
    running: Vec<Child>,
}

impl Network {
    /// The addresses are those of the name, in the order in which they are tried.
    fn new(addresses: &[&str]) -> Option<Self> {
        if !is_root() {
            skip("a name of one's own needs root");
            return None;
        }
        let mut world = World::empty();
        let origin = world.repository("origin");
        origin.commit_all("one");
        let server = Server::start(&world.path("."));
        world.follow("origin", "/replaced");
        let hosts = addresses
            .iter()
            .map(|address| format!("{address} {NAME}\n"));
        fs::write(world.path("hosts"), hosts.collect::<String>()).unwrap();
        let mut network = Self {
            world,
            origin,
            server,
            running: Vec::new(),
        };
        let url = network.server.url.replace("127.0.0.1", NAME);
        network.follow(&format!("{url}/origin"), 20);
        let known = Said::of(&network.here("true", &[]).output().unwrap());
        if known.code != Some(0) {
            skip(&format!("mounting is not allowed here: {known:?}"));
            return None;
        }
        Some(network)
    }

    fn follow(&mut self, url: &str, timeout: u32) {
        self.world.configure(|config| {
            config["remotes"][0]["url"] = json!(url);
            config["remotes"][0]["timeout"] = json!(timeout);
        });
    }

    /// A program that knows the name.
    fn here(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        isolated(&mut command, &self.world.path("home"));
        command
            .args(["--mount", "sh", "-ec"])
            .arg("mount --bind \"$0\" /etc/hosts; exec \"$@\"")
            .arg(self.world.path("hosts"))
            .arg(program)
            .args(arguments);
        command
    }

    fn run(&mut self, program: &str, arguments: &[&str]) -> &mut Child {
        let mut command = self.here(program, arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.running.push(command.spawn().unwrap());
        self.running.last_mut().unwrap()
    }

    /// Fetches a new commit, and then nothing, with these variables.
    #[track_caller]
    fn fetches(&self, variables: &[(&str, &str)]) {
        let commit = self.origin.commit_all("another");
        for _ in 0..2 {
            let said = self.fetch(variables);
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        assert_eq!(self.world.mirrored("origin/main"), Some(commit));
    }

    fn fetch(&self, variables: &[(&str, &str)]) -> Said {
        let comin = self.world.command(&["fetch", "origin"]);
        let arguments = comin.get_args().map(|it| it.to_str().unwrap());
        let arguments: Vec<&str> = arguments.collect();
        let mut command = self.here(comin.get_program().to_str().unwrap(), &arguments);
        Said::of(&command.envs(variables.iter().copied()).output().unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn proxy_is_used_but_for_hosts_in_no_proxy() {
    need!("git", "unshare", "tinyproxy");
    let Some(mut network) = Network::new(&["127.0.0.1"]) else {
        return;
    };
    let port = free_port();
    let (config, log) = (
        network.world.path("tinyproxy.conf"),
        network.world.path("log"),
    );
    let text = format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nLogFile \"{}\"\nLogLevel Connect\n",
        log.display()
    );
    fs::write(&config, text).unwrap();
    network.run("tinyproxy", &["-d", "-c", config.to_str().unwrap()]);
    await_that("the proxy listens", || listens(port));
    let proxy = format!("http://127.0.0.1:{port}");
    let requests = || fs::read_to_string(&log).unwrap().matches(NAME).count();

    network.fetches(&[("http_proxy", &proxy), ("no_proxy", "internal.domain")]);
    assert_eq!(requests(), 0);
    network.fetches(&[("http_proxy", &proxy)]);
    assert!(requests() > 0);
    let said = network.fetch(&[("http_proxy", "http://127.0.0.1:1")]);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn socks_proxy_is_used() {
    need!("git", "unshare");
    if !ssh::is_there() {
        skip("OpenSSH is missing");
        return;
    }
    let Some(mut network) = Network::new(&["127.0.0.1"]) else {
        return;
    };
    let sshd = Sshd::start(&network.world.path("sshd"));
    let port = free_port();
    let (key, known_hosts) = (sshd.path("key"), sshd.path("known_hosts"));
    let script = format!(
        "exec ssh -N -F none -o BatchMode=yes -o UserKnownHostsFile={} -i {} -D 127.0.0.1:{port} -p {} {}@127.0.0.1",
        known_hosts.display(),
        key.display(),
        sshd.port,
        sshd.user
    );
    network.run("sh", &["-c", &script]);
    await_that("the proxy listens", || listens(port));
    network.fetches(&[("all_proxy", &format!("socks5://127.0.0.1:{port}"))]);
    let said = network.fetch(&[("all_proxy", "socks5://127.0.0.1:1")]);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn second_address_is_tried_if_the_first_one_never_answers() {
    need!("git", "unshare", "python3");
    let Some(mut network) = Network::new(&["::1", "127.0.0.1"]) else {
        return;
    };
    let port = network.server.url.rsplit(':').next().unwrap().to_string();
    // It has no room for another connection, so what wants to connect waits.
    let script = "import socket, sys
full = socket.socket(socket.AF_INET6)
full.bind(('::1', int(sys.argv[1])))
full.listen(0)
waiting = [socket.socket(socket.AF_INET6) for _ in range(4)]
for one in waiting:
    one.setblocking(False)
    one.connect_ex(full.getsockname())
print('full', flush=True)
sys.stdin.read()";
    let full = network.run("python3", &["-c", script, &port]);
    let mut line = String::new();
    BufReader::new(full.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    if line != "full\n" {
        skip("there is no IPv6 here");
        return;
    }
    network.fetches(&[]);
}

#[test]
fn certificate_that_nobody_signed_is_good_if_the_machine_trusts_it() {
    need!("git", "openssl");
    let mut world = World::empty();
    let commit = world.repository("origin").commit_all("one");
    let certificate = Authority::self_signed(&world.path("own"), "IP:127.0.0.1");
    let server = Server::start_certified(&world.path("."), &certificate);
    world.follow("origin", &format!("{}/origin", server.url));
    world.comin(&["fetch", "origin"], 1);
    let mut comin = world.command(&["fetch", "origin"]);
    let said = Said::of(&comin.env("SSL_CERT_FILE", &certificate.0).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.mirrored("origin/main"), Some(commit));
}

/// Writes a commit into the mirror, without its history. No ref leads to it.
fn leave_in_mirror(world: &World, origin: &Repository, commit: &str) {
    let file = world.path("commit");
    fs::write(&file, origin.git(&["cat-file", "commit", commit]) + "\n").unwrap();
    let mirror = Repository::at(world, "root/var/lib/comin/repository");
    let file = file.display().to_string();
    let written = mirror.git(&["hash-object", "-w", "-t", "commit", &file]);
    assert_eq!(written, commit);
}

#[test]
fn commit_without_its_history_in_the_mirror_is_fetched_with_all_of_it() {
    need!("git");
    let (world, origin) = World::new();
    world.comin(&["fetch", "origin"], 0);
    origin.commit_all("second");
    let third = origin.commit_all("third");
    leave_in_mirror(&world, &origin, &third);
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(third));
    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    mirror.git(&["fsck", "--connectivity-only"]);
}

#[test]
fn history_of_which_remote_and_mirror_together_lack_a_part_is_refused() {
    need!("git");
    let (world, origin) = World::new();
    world.comin(&["fetch", "origin"], 0);
    let first = world.mirrored("origin/main");
    origin.commit_all("second");
    let third = origin.commit_all("third");
    let fourth = origin.commit_all("fourth");
    leave_in_mirror(&world, &origin, &third);
    // To git there, the commit has no parent.
    let grafts = origin.path.join(".git/info/grafts");
    fs::write(&grafts, format!("{fourth}\n")).unwrap();
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(!said.err.contains("damaged"), "{said:?}");
    assert_eq!(world.mirrored("origin/main"), first);
    fs::remove_file(grafts).unwrap();
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(fourth));
}

#[test]
fn shallow_clone_as_a_remote_is_a_sentence_with_the_cure() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository("origin");
    origin.commit_all("one");
    let commit = origin.commit_all("two");
    let shallow = world.path("shallow").display().to_string();
    let url = format!("file://{}", origin.path.display());
    origin.git(&["clone", "--quiet", "--depth=1", &url, &shallow]);
    let server = Server::start(&world.path("."));
    world.follow("local", &shallow);
    world.follow("server", &format!("{}/shallow/.git", server.url));
    for name in ["local", "server"] {
        let said = world.comin(&["fetch", name], 1);
        assert!(said.err.contains("git fetch --unshallow"), "{said:?}");
    }
    Repository::at(&world, "shallow").git(&["fetch", "--quiet", "--unshallow"]);
    for name in ["local", "server"] {
        world.comin(&["fetch", name], 0);
        let head = world.mirrored(&format!("{name}/main"));
        assert_eq!(head.as_ref(), Some(&commit));
    }
}
