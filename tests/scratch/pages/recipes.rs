//! The recipes of the pages, run by comin as its configuration would.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{json, Value};

use super::pages;
use crate::support::{isolated, Said};
use crate::world::{Repository, System, World};

/// The block of code on a page that has this text.
fn block(page: &str, language: &str, text: &str) -> String {
    let all = pages();
    let page = all.iter().find(|it| it.name().ends_with(page)).unwrap();
    let start = format!("```{language}\n");
    let mut blocks = page.text.split(&start).skip(1);
    let found = blocks.find_map(|rest| {
        let block = rest.split("```").next().unwrap();
        block.contains(text).then(|| block.to_string())
    });
    found.unwrap_or_else(|| panic!("{} has no {text:?}", page.name()))
}

/// An option of the Nix code in a block; packages are those of this machine.
fn option(block: &str, option: &str) -> Value {
    let package = |program: &str| {
        let said = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        let path = PathBuf::from(Said::of(&said.unwrap()).out.trim());
        path.ancestors().nth(2).unwrap().display().to_string()
    };
    let (curl, jq) = (package("curl"), package("jq"));
    let module = if block.starts_with('{') {
        block.to_string()
    } else {
        format!("{{ {block} }}")
    };
    let code = format!(
        "let
           pkgs = {{ curl = \"{curl}\"; jq = \"{jq}\"; writeShellScript = _: text: text; }};
           block = {module};
         in (if builtins.isFunction block then block {{ inherit pkgs; }} else block).{option}"
    );
    let mut nix = Command::new("nix-instantiate");
    let world = World::empty();
    isolated(&mut nix, &world.path("home"));
    nix.args(["--eval", "--strict", "--json", "--expr", &code]);
    let said = Said::of(&nix.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// An HTTP server that notes what it is asked.
struct Service {
    url: String,
    answer: Arc<Mutex<String>>,
    requests: Receiver<String>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new("{}".to_string()));
        let (sender, requests) = channel();
        let body = answer.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut request = String::new();
                while !request.ends_with("\r\n\r\n") {
                    reader.read_line(&mut request).unwrap();
                }
                let lower = request.to_lowercase();
                let length = lower
                    .lines()
                    .find_map(|it| it.strip_prefix("content-length: "));
                let mut content = vec![0; length.map_or(0, |it| it.parse().unwrap())];
                reader.read_exact(&mut content).unwrap();
                request += &String::from_utf8(content).unwrap();
                let body = body.lock().unwrap().clone();
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self {
            url,
            answer,
            requests,
        }
    }

    fn answers(&self, body: &str) {
        *self.answer.lock().unwrap() = body.to_string();
    }
}

fn executable(world: &World, name: &str, script: &str) -> String {
    let path = world.path(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// A machine with this program from a block of the page as its `postDeploymentCommand`, after a failed deployment.
fn notified(world: &mut World, origin: &Repository, text: &str, replace: &[(&str, &str)]) {
    let block = block("monitoring.md", "nix", text);
    let program = option(&block, "services.comin.postDeploymentCommand");
    let mut program = format!("#!/usr/bin/env bash\n{}", program.as_str().unwrap());
    for (from, to) in replace {
        assert!(program.contains(from), "{from} is not in {program}");
        program = program.replace(from, to);
    }
    let program = executable(world, "program", &program);
    world.configure(|config| config["post_deployment_command"] = json!(program));
    origin.commit(text, &System::instead("throw \"no driver\""));
    let said = world.comin(&["run"], 1);
    assert!(!said.err.contains(&program), "{said:?}");
}

#[test]
fn notifications_arrive() {
    need!("git", "nix", "curl", "jq");
    let (mut world, origin) = World::new();
    let service = Service::start();
    let url = service.url.as_str();
    notified(&mut world, &origin, "ntfy.sh", &[("https://ntfy.sh", url)]);
    let request = service.requests.recv().unwrap();
    assert!(request.starts_with("POST /my-secret-topic "), "{request}");
    assert!(request.contains("\r\nTitle: m: failed\r\n"), "{request}");
    assert!(request.contains("\r\n\r\norigin/main "), "{request}");
    assert!(request.contains("no driver"), "{request}");
    // It says nothing of those that are well.
    origin.commit("well", &System::default());
    world.comin(&["run"], 0);

    let token = world.path("token").display().to_string();
    fs::write(&token, "syt_token\n").unwrap();
    let replace = [
        ("https://matrix.example.org", url),
        ("/run/secrets/matrix-token", token.as_str()),
    ];
    notified(&mut world, &origin, "matrix", &replace);
    let request = service.requests.recv().unwrap();
    let path = "PUT /_matrix/client/v3/rooms/!room:example.org/send/m.room.message/";
    assert!(request.starts_with(path), "{request}");
    assert!(
        request.contains("\r\nAuthorization: Bearer syt_token\r\n"),
        "{request}"
    );
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["msgtype"], "m.text");
    let text = body["body"].as_str().unwrap();
    assert!(
        text.starts_with("m: failed ") && text.contains("no driver"),
        "{text}"
    );

    let mail = world.path("mail").display().to_string();
    let script = format!("#!/bin/sh\n{{ echo \"To: $*\"; cat; }} >{mail}\n");
    let sendmail = executable(&world, "sendmail", &script);
    let replace = [("/run/wrappers/bin/sendmail", sendmail.as_str())];
    notified(&mut world, &origin, "sendmail", &replace);
    let mail = fs::read_to_string(mail).unwrap();
    let head = "To: admin@example.org\nSubject: m: failed\n\nsendmail\n";
    assert!(
        mail.starts_with(head) && mail.contains("no driver"),
        "{mail}"
    );
}

#[test]
fn gate_of_ci_and_health_check_ask_a_server() {
    need!("git", "nix", "curl", "jq");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let service = Service::start();
    let gate = block("gates.md", "nix", "api.github.com");
    let gate = option(&gate, "services.comin.gates.ci");
    let command = gate["command"].as_str().unwrap();
    let command = command.replace("https://api.github.com", &service.url);
    let check = block("health-checks-and-rollback.md", "nix", "curl");
    let check = option(&check, "services.comin.healthCheck.commands");
    let check = check[0].as_str().unwrap();
    let check = check.replace("http://localhost:8080", &service.url);
    world.configure(|config| {
        config["gates"] = json!({"ci": {"before": gate["before"], "command": command}});
        config["health_check"] = json!({"commands": [check]});
    });
    let second = origin.commit("second", &System::default());
    for (state, hindrance) in [
        ("pending", "it waits at the gate ci (CI is not done)"),
        ("failure", "the gate ci refused it (CI: failure)"),
    ] {
        service.answers(&json!({ "state": state }).to_string());
        world.comin(&["retry"], 0);
        world.comin(&["run"], 0);
        let found = world.status()["hindrance"].to_string();
        assert!(found.contains(hindrance), "{found}");
        let request = service.requests.recv().unwrap();
        assert!(
            request.contains(&format!("/commits/{second}/status ")),
            "{request}"
        );
    }
    service.answers("{\"state\": \"success\"}");
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    let requests: Vec<String> = service.requests.try_iter().collect();
    assert!(requests[1].starts_with("GET /health "), "{requests:?}");
}

#[test]
fn recipes_for_other_programs_are_valid() {
    need!("nix", "promtool", "jq");
    let world = World::empty();
    let waybar = block("monitoring.md", "json", "custom/comin");
    let waybar: Value = serde_json::from_str(&format!("{{{waybar}}}")).unwrap();
    assert_eq!(waybar["custom/comin"]["exec"], "comin watch --oneline");

    let promtool = |what: &str, content: &Value| {
        let file = world.path(what);
        fs::write(&file, content.to_string()).unwrap();
        let mut promtool = Command::new("promtool");
        let said = Said::of(&promtool.args(["check", what]).arg(file).output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    let scrape = block("monitoring.md", "nix", "scrapeConfigs");
    let scrape = option(&scrape, "services.prometheus.scrapeConfigs");
    promtool("config", &json!({ "scrape_configs": scrape }));
    let rules = ["comin_is_behind", "comin_running_info"]
        .map(|it| json!({"record": "a:b", "expr": block("fleet.md", "text", it)}));
    promtool("rules", &json!({"groups": [{"name": "a", "rules": rules}]}));

    let json = fs::read_to_string("module/docs/json.md").unwrap();
    let filter = json
        .split("Use `jq '")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let mut jq = Command::new("jq");
    let said = jq.args([
        "--null-input",
        &format!("{{\"deployed\": null}} | {filter}"),
    ]);
    let said = Said::of(&said.output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
}
