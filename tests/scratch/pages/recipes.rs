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
    let module = module(block);
    evaluate(&format!(
        "let
           pkgs = {{ curl = \"{curl}\"; jq = \"{jq}\"; writeShellScript = _: text: text; }};
           block = {module};
         in (if builtins.isFunction block then block {{ inherit pkgs; }} else block).{option}"
    ))
}

/// What the module makes of the Nix code in a block for the file `config.json`.
fn settings(block: &str) -> Value {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/module/module.nix");
    let folder = tempfile::tempdir().unwrap();
    let example = folder.path().join("example.nix");
    fs::write(&example, module(block)).unwrap();
    let example = example.display();
    evaluate(&format!("(import {tests} {{ }}).settingsWith {example}"))
}

fn module(block: &str) -> String {
    if block.starts_with('{') {
        block.to_string()
    } else {
        format!("{{ {block} }}")
    }
}

fn evaluate(code: &str) -> Value {
    let mut nix = Command::new("nix-instantiate");
    let world = World::empty();
    isolated(&mut nix, &world.path("home"));
    nix.args(["--eval", "--strict", "--json", "--expr", code]);
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
                if sender.send(request).is_err() {
                    return;
                }
                let body = body.lock().unwrap().clone();
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
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

/// Runs comin on a machine whose newest commit has to wait for this reason.
#[track_caller]
fn assert_waits(world: &World, comin: impl Fn(&[&str]) -> Command, reason: &str) {
    let before = world.running();
    let said = Said::of(&comin(&["run"]).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = Said::of(&comin(&["plan", "--json"]).output().unwrap());
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(plan["action"], "await_gate", "{plan:#}");
    let hindrance = plan["hindrance"].as_str().unwrap();
    assert!(hindrance.contains(reason), "{hindrance}");
    assert_eq!(world.running(), before);
    world.comin(&["retry"], 0);
}

/// Lets comin ask once more: the newest commit passes.
#[track_caller]
fn assert_passes(world: &World, comin: impl Fn(&[&str]) -> Command, label: &str) {
    let said = Said::of(&comin(&["run"]).output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.running(), label);
}

#[test]
fn recipes_of_gates_wait_and_let_pass() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let [supply, lock] = ["supply", "maintenance"].map(|it| world.path(it));
    let mut gates = json!({});
    for (text, name, path, here) in [
        ("onACPower", "ac-power", "/sys/class/power_supply", &supply),
        ("unmetered", "unmetered", "Metered", &"Metered".into()),
        ("/run/maintenance", "maintenance", "/run/maintenance", &lock),
    ] {
        let gate = settings(&block("gates.md", "nix", text))["gates"][name].to_string();
        assert!(gate.contains(path), "{gate}");
        let gate = gate.replace(path, here.to_str().unwrap());
        gates[name] = serde_json::from_str(&gate).unwrap();
    }
    world.configure(|config| config["gates"] = gates);
    assert_eq!(world.plan()["action"], "nothing");
    let space = settings(&block("gates.md", "nix", "minFree"));
    assert_eq!(space["min_free"], 5_u64 << 30);

    // The laptop runs on battery, over a phone, while somebody works on it.
    for (name, file, content) in [
        ("BAT0", "type", "Battery\n"),
        ("AC", "type", "Mains\n"),
        ("AC", "online", "0\n"),
    ] {
        fs::create_dir_all(supply.join(name)).unwrap();
        fs::write(supply.join(name).join(file), content).unwrap();
    }
    let shown = block("gates.md", "sh", "/run/maintenance")
        .replace("/run/maintenance", lock.to_str().unwrap());
    let mut shell = Command::new("sh");
    assert!(shell
        .args(["-c", &shown.replace("sudo ", "")])
        .status()
        .unwrap()
        .success());
    let manager = "org.freedesktop.NetworkManager";
    let question = format!(
        "get-property {manager} /{} {manager} Metered",
        manager.replace('.', "/")
    );
    let network =
        |metered: u32| format!("[ \"$*\" != '{question}' ] || {{ echo u {metered}; exit 0; }}");
    let comin = |arguments: &[&str], metered: u32| {
        world.command_with(arguments, &[("busctl", &network(metered))])
    };
    let on_phone = |arguments: &[&str]| comin(arguments, 1);
    let at_home = |arguments: &[&str]| comin(arguments, 2);
    origin.commit("second", &System::default());
    assert_waits(&world, on_phone, "at the gate ac-power (on battery)");
    fs::write(supply.join("AC/online"), "1\n").unwrap();
    let reason = "at the gate unmetered (the connection is metered)";
    assert_waits(&world, on_phone, reason);
    let reason = "at the gate maintenance (database migration, ask Alice)";
    assert_waits(&world, at_home, reason);
    fs::remove_file(&lock).unwrap();
    assert_passes(&world, at_home, "second");
}

#[test]
fn night_window_of_the_page_is_open_at_night_and_at_the_weekend() {
    need!("git", "nix", "faketime");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let set = settings(&block("gates.md", "nix", "deployWindow"));
    world.configure(|config| config["deploy_window"] = set["deploy_window"].clone());
    origin.commit("second", &System::default());
    for (time, opens) in [
        // A Wednesday, a Friday night and a Monday.
        ("2030-01-02 12:00:00", "2030-01-02 22:00:00"),
        ("2030-01-04 23:30:00", "2030-01-05 00:00:00"),
        ("2030-01-07 05:00:01", "2030-01-07 22:00:00"),
    ] {
        let reason = format!("(it opens at {opens} ");
        assert_waits(&world, |arguments| world.at(time, arguments), &reason);
    }
    // The night from Thursday to Friday, and a Sunday.
    assert_passes(&world, |it| world.at("2030-01-11 04:59:00", it), "second");
    origin.commit("third", &System::default());
    assert_passes(&world, |it| world.at("2030-01-13 23:58:00", it), "third");
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
    let away = |world: &mut World, is_away: bool| {
        let (from, to) = (service.url.as_str(), "http://127.0.0.1:1");
        let (from, to) = if is_away { (from, to) } else { (to, from) };
        world.configure(|config| {
            let command = config["gates"]["ci"]["command"].as_str().unwrap();
            config["gates"]["ci"]["command"] = json!(command.replace(from, to));
        });
    };
    away(&mut world, true);
    let reason = "at the gate ci (GitHub does not answer)";
    assert_waits(&world, |arguments| world.command(arguments), reason);
    away(&mut world, false);
    for (state, hindrance) in [
        ("pending", "it waits at the gate ci (CI is not done)"),
        ("failure", "the gate ci refused it (CI failed)"),
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

    // A testing branch, with the line of the page in front.
    let all = pages();
    let page = all.iter().find(|it| it.name().ends_with("gates.md"));
    let code = page.unwrap().code();
    let line = code.iter().find(|it| it.starts_with("case $COMIN_GIT_REF"));
    world.configure(|config| {
        let command = config["gates"]["ci"]["command"].as_str().unwrap();
        config["gates"]["ci"]["command"] = json!(format!("{}\n{command}", line.unwrap()));
    });
    service.answers("{\"state\": \"failure\"}");
    origin.git(&["switch", "--quiet", "--create", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    origin.git(&["switch", "--quiet", "main"]);
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.plan()["action"], "held");
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
