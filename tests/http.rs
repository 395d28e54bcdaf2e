//! Remotes on an HTTP server.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use serde_json::json;
use support::http::Server;
use support::{Repository, System, World};

#[test]
fn http() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let server = Server::start(&world.path("."));
    world.configure(|config| config["remotes"][0]["url"] = json!(format!("{}/origin", server.url)));
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
    server.requests.lock().unwrap().clear();
    assert_eq!(world.comin(&["fetch", "origin"], 0).err, "");
    assert_eq!(
        *server.requests.lock().unwrap(),
        ["GET /origin/info/refs?service=git-upload-pack "]
    );
    for n in 0..40 {
        origin.commit_all(&format!("commit {n}"));
    }
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
}

#[test]
fn http_that_fails_is_a_sentence_and_changes_no_ref() {
    need!("git");
    let mut world = World::empty();
    let (origin, first) = plain(&world, "origin");
    let server = Server::start(&world.path("."));
    world.follow("origin", &format!("{}/origin", server.url));
    world.configure(|config| config["remotes"][0]["timeout"] = json!(1));
    world.comin(&["fetch", "origin"], 0);
    origin.commit_all("two");

    let says = |wanted: &str| {
        let said = world.comin(&["fetch", "origin"], 1);
        assert!(said.err.contains(wanted), "{wanted}: {said:?}");
        assert_eq!(world.mirrored("origin/main"), Some(first.clone()));
    };
    server.rule(|rules| rules.cut = true);
    says("Failed to fetch origin from http://127.0.0.1:");
    server.rule(|rules| rules.stall = true);
    says("timeout");
    server.rule(|rules| {
        rules.stall = false;
        rules.authorization = Some("Basic eA==".to_string());
    });
    says("the server refused access (HTTP 401): check auth.access_token_path");
    server.rule(|rules| rules.authorization = None);
    world
        .configure(|config| config["remotes"][0]["url"] = json!(format!("{}/nothing", server.url)));
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(said.err.contains("HTTP 404"), "{said:?}");
}

#[test]
fn a_token_is_read_at_use_and_never_shown() {
    need!("git");
    let mut world = World::empty();
    let (_, commit) = plain(&world, "origin");
    let server = Server::start(&world.path("."));
    let token = world.path("token");
    world.follow("origin", &format!("{}/origin", server.url));
    world.configure(|config| {
        config["remotes"][0]["auth"] = json!({"access_token_path": token, "username": "me"});
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
    let (_, commit) = plain(&world, "origin");
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
