//! Remotes on an HTTP server.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::support::http::{Authority, Fault, Rules, Server};
use crate::support::sweep::kill_with_descendants;
use crate::support::{await_that, Said};
use crate::world::{Repository, System, World, SHA256};

#[test]
fn http() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let server = Server::start(&world.path("."));
    world.configure(|config| config["remotes"][0]["url"] = json!(format!("{}/origin", server.url)));
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    server.requests.lock().unwrap().clear();
    let mut comin = world.command(&["fetch", "origin"]);
    // It runs no other program.
    let said = Said::of(&comin.env("PATH", "/nonexistent").output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(
        *server.requests.lock().unwrap(),
        ["GET /origin/info/refs?service=git-upload-pack "]
    );
    for n in 0..40 {
        origin.commit_all(&format!("commit {n}"));
    }
    origin.commit("second", &System::default());
    server.requests.lock().unwrap().clear();
    world.comin(&["fetch", "origin"], 0);
    let requests = server.requests.lock().unwrap().clone();
    let asked = requests.iter().filter(|request| request.starts_with("GET"));
    assert_eq!(asked.count(), 2, "once by comin, once by git: {requests:?}");
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
}

#[test]
fn a_token_is_read_where_systemd_has_put_it_for_the_unit() {
    need!("git");
    let mut world = World::empty();
    world.repository("origin").commit_all("one");
    let server = Server::start(&world.path("."));
    server.rule(|rules| rules.authorization = Some("Basic Y29taW46aGFuZGVk".to_string()));
    world.follow("origin", &format!("{}/origin", server.url));
    let file = world.path("100%:token").display().to_string();
    world.configure(|config| {
        config["remotes"][0]["auth"] = json!({"access_token_path": file});
    });
    let credentials = world.path("credentials");
    fs::create_dir(&credentials).unwrap();
    let name = file.replace('%', "%25").replace('/', "%2F");
    let copy = credentials.join(name.replace(':', "%3A"));
    let fetch = || {
        let mut comin = world.command(&["fetch", "origin"]);
        let output = comin.env("CREDENTIALS_DIRECTORY", &credentials).output();
        Said::of(&output.unwrap())
    };

    // As the module's units have it where there is no token.
    fs::write(&copy, "\n").unwrap();
    let said = fetch();
    assert_eq!(said.code, Some(1), "{said:?}");
    let wanted = format!("Failed to read the access token {file}, which auth.access_token_path");
    assert!(said.err.contains(&wanted), "{said:?}");

    fs::write(&copy, "handed\n").unwrap();
    let said = fetch();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.err.contains("handed"), "{said:?}");
}

/// A commit that is too large for the middle of an answer to be anything else.
fn commit_noise(repository: &Repository) -> String {
    let commits = repository.git(&["rev-list", "--count", "HEAD"]);
    // Another one each time.
    let factor = 2_654_435_761 + 2 * commits.trim().parse::<u32>().unwrap();
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| n.wrapping_mul(n).wrapping_mul(factor).to_be_bytes()[0])
        .collect();
    fs::write(repository.path.join("noise"), noise).unwrap();
    repository.commit_all("noise")
}

#[test]
fn http_that_fails_is_a_sentence_and_changes_no_ref() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository("origin");
    let first = origin.commit_all("one");
    let server = Server::start(&world.path("."));
    world.follow("origin", &format!("{}/origin", server.url));
    world.comin(&["fetch", "origin"], 0);
    let second = commit_noise(&origin);

    let says = |world: &World, wanted: &str| {
        let said = world.comin(&["fetch", "origin"], 1);
        assert!(said.err.contains(wanted), "{wanted}: {said:?}");
        assert_eq!(world.mirrored("origin/main"), Some(first.clone()));
    };
    let given_up = "the fetch timed out after 1 seconds, the timeout of the remote";
    for (fault, wanted) in [
        (Fault::Cuts, "Failed to fetch origin from http://127.0.0.1:"),
        (
            Fault::Corrupts,
            "Failed to fetch origin from http://127.0.0.1:",
        ),
        (Fault::Hangs, given_up),
        (Fault::Stalls, given_up),
    ] {
        server.rule(|rules| rules.fault = Some(fault));
        let timeout = if wanted == given_up { 1 } else { 60 };
        world.configure(|config| config["remotes"][0]["timeout"] = json!(timeout));
        says(&world, wanted);
    }
    world.configure(|config| config["remotes"][0]["timeout"] = json!(60));
    server.rule(|rules| {
        rules.fault = None;
        rules.authorization = Some("Basic eA==".to_string());
    });
    says(
        &world,
        "the server refused access (HTTP 401): check auth.access_token_path",
    );
    server.rule(|rules| *rules = Rules::default());
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(second));
    world
        .configure(|config| config["remotes"][0]["url"] = json!(format!("{}/nothing", server.url)));
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(said.err.contains("HTTP 404"), "{said:?}");
}

#[test]
fn repository_that_is_served_as_mere_files_is_refused_with_the_cure() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository("origin");
    origin.commit_all("one");
    let server = Server::start(&world.path("."));
    server.rule(|rules| rules.fault = Some(Fault::IsDumb));
    world.follow("origin", &format!("{}/origin", server.url));
    // Loose, and packed.
    for _ in 0..2 {
        let said = world.comin(&["fetch", "origin"], 1);
        let cure =
            "does not speak Git's smart HTTP protocol: serve the repository by git http-backend";
        assert!(said.err.contains(cure), "{said:?}");
        assert_eq!(world.mirrored("origin/main"), None);
        origin.git(&["repack", "--quiet", "-a", "-d"]);
    }
}

#[test]
fn server_that_breaks_each_fetch_differently_costs_one_read_of_the_whole_mirror() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository("origin");
    origin.commit_all("one");
    let server = Server::start(&world.path("."));
    world.follow("origin", &format!("{}/origin", server.url));
    world.comin(&["fetch", "origin"], 0);
    commit_noise(&origin);
    let reads_all = |fault| {
        server.rule(|rules| rules.fault = Some(fault));
        let said = world.comin(&["fetch", "origin"], 1);
        said.err.contains("The mirror is damaged")
    };
    assert!(!reads_all(Fault::Corrupts));
    // Nothing needs it, and only who reads everything finds it.
    let folder = world.path("root/var/lib/comin/repository/objects/aa");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a".repeat(38)), "rotten").unwrap();
    assert!(!reads_all(Fault::Cuts));
    assert!(!reads_all(Fault::Corrupts));
    // A boot forgets how the fetch before has failed.
    fs::remove_dir_all(world.path("root/run/comin")).unwrap();
    assert!(reads_all(Fault::Cuts));
}

#[test]
fn killed_fetch_counts_as_failed() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository("origin");
    origin.commit_all("one");
    let server = Server::start(&world.path("."));
    world.follow("origin", &format!("{}/origin", server.url));
    let remote = || world.status()["remotes"][0].clone();
    // The first one since a boot, and one after a fetch that worked.
    for has_fetched in [false, true] {
        commit_noise(&origin);
        server.rule(|rules| rules.fault = Some(Fault::Hangs));
        server.requests.lock().unwrap().clear();
        let mut comin = world.command(&["fetch", "origin"]).spawn().unwrap();
        let is_sent = || {
            let requests = server.requests.lock().unwrap();
            requests.iter().any(|it| it.starts_with("POST"))
        };
        await_that("the pack is sent", is_sent);
        assert_eq!(remote()["error"], json!(null));
        assert_eq!(remote()["fetched_at"].is_string(), has_fetched);
        kill_with_descendants(comin.id());
        comin.wait().unwrap();
        let error = remote()["error"].clone();
        assert!(error.as_str().unwrap().contains("killed"), "{error}");
        server.rule(|rules| rules.fault = None);
        let said = world.comin(&["fetch", "origin"], 0);
        assert!(said.err.contains("origin can be fetched again"), "{said:?}");
        assert_eq!(remote()["error"], json!(null));
    }
}

#[test]
fn a_repository_with_sha256_objects_is_a_sentence() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository_with("origin", "sha256");
    origin.commit_all("one");
    let server = Server::start(&world.path("."));
    world.follow("origin", &format!("{}/origin", server.url));
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(said.err.contains(SHA256), "{said:?}");
}

#[test]
fn a_token_is_read_at_use_and_never_shown() {
    need!("git");
    let mut world = World::empty();
    let commit = world.repository("origin").commit_all("one");
    let server = Server::start(&world.path("."));
    let token = world.path("token");
    let url = format!("{}/origin", server.url.replace("://", "://me@"));
    world.follow("origin", &url);
    world.configure(|config| {
        config["remotes"][0]["auth"] = json!({"access_token_path": token});
    });
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(
        said.err.contains("Failed to read the access token"),
        "{said:?}"
    );

    fs::write(&token, "tok3n\n").unwrap();
    // base64 of me:tok3n
    server.rule(|rules| rules.authorization = Some("Basic bWU6dG9rM24=".to_string()));
    let said = world.comin(&["--debug", "fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(commit));
    let grep = Command::new("grep")
        .args(["-rE", "tok3n|bWU6dG9rM24"])
        .arg(world.root())
        .output()
        .unwrap();
    assert!(grep.stdout.is_empty(), "{grep:?}");
    assert!(
        !said.err.contains("tok3n") && !said.err.contains("bWU6"),
        "{said:?}"
    );
}

#[test]
fn a_redirection_is_followed_and_another_host_sees_no_credentials() {
    need!("git");
    let mut world = World::empty();
    let commit = world.repository("origin").commit_all("one");
    let server = Server::start(&world.path("."));
    let front = Server::start(&world.path("."));
    front.rule(|rules| rules.redirect = Some(server.url.clone()));
    fs::write(world.path("token"), "tok3n").unwrap();
    world.follow("origin", &format!("{}/origin", front.url));
    let token = world.path("token");
    world.configure(|config| config["remotes"][0]["auth"] = json!({"access_token_path": token}));
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(commit));
    assert!(front.requests.lock().unwrap()[0].contains("Basic "));
    for request in server.requests.lock().unwrap().iter() {
        assert!(!request.contains("Basic"), "{request}");
    }
}

#[test]
fn no_proxy_is_shown_what_stays_on_this_machine() {
    need!("git");
    let mut world = World::empty();
    let commit = world.repository("origin").commit_all("one");
    let server = Server::start(&world.path("."));
    fs::write(world.path("token"), "tok3n").unwrap();
    world.follow("origin", &format!("{}/origin", server.url));
    let token = world.path("token");
    world.configure(|config| {
        config["remotes"][0]["auth"] = json!({"access_token_path": token});
        config["remotes"][0]["timeout"] = json!(10);
    });
    let proxy = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    proxy.set_nonblocking(true).unwrap();
    let mut comin = world.command(&["fetch", "origin"]);
    comin.env(
        "http_proxy",
        format!("http://{}", proxy.local_addr().unwrap()),
    );
    let said = Said::of(&comin.env_remove("no_proxy").output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.mirrored("origin/main"), Some(commit));
    assert_eq!(proxy.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn https_is_for_servers_whose_certificate_is_good() {
    need!("git", "openssl", "faketime");
    let mut world = World::empty();
    let commit = world.repository("origin").commit_all("one");
    let token = world.path("token");
    fs::write(&token, "tok3n").unwrap();
    world.follow("origin", "/replaced");
    let trusted = Authority::new(&world.path("trusted"));
    let unknown = Authority::new(&world.path("unknown"));
    let names = "DNS:localhost,IP:127.0.0.1";
    let (today, over) = (0, 3);
    let mut fetch = |authority, names, age, code| {
        let server = Server::start_tls(&world.path("."), authority, names, age);
        server.rule(|rules| rules.authorization = Some("Basic Y29taW46dG9rM24=".to_string()));
        world.configure(|config| {
            config["remotes"][0]["url"] = json!(format!("{}/origin", server.url));
            config["remotes"][0]["auth"] = json!({"access_token_path": token});
        });
        let mut comin = world.command(&["fetch", "origin"]);
        let said = Said::of(
            &comin
                .env("SSL_CERT_FILE", trusted.certificate())
                .output()
                .unwrap(),
        );
        assert_eq!(said.code, Some(code), "{said:?}");
        // Nothing is said to a server that may be another one.
        let heard = !server.requests.lock().unwrap().is_empty();
        assert_eq!(heard, code == 0);
        said.err
    };
    let said = fetch(&unknown, names, today, 1);
    assert!(
        said.contains("the server's certificate has an unknown issuer"),
        "{said}"
    );
    let said = fetch(&trusted, names, over, 1);
    assert!(
        said.contains("certificate has expired, or this machine's clock is wrong"),
        "{said}"
    );
    let said = fetch(&trusted, "DNS:another.example.org", today, 1);
    assert!(
        said.contains("certificate is for another host name"),
        "{said}"
    );
    fetch(&trusted, names, today, 0);
    assert_eq!(world.mirrored("origin/main"), Some(commit));
}
