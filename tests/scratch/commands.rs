//! What a person runs by hand: hosts of any flake without a configuration, on real Nix; the manual.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use serde_json::{json, Value};

use crate::support::{isolated, skip, Said};
use crate::world::{on_terminal, Repository, System, World};

/// A checkout whose flake has these hosts: Nix code for their names and their toplevels.
fn checkout(world: &World, hosts: &[(&str, &str)]) -> Repository {
    let checkout = world.repository("checkout");
    checkout.write("", "unused", &System::default());
    let host = |(name, toplevel): &(&str, &str)| {
        format!("{name}.config.system.build.toplevel = {toplevel};")
    };
    let hosts: Vec<String> = hosts.iter().map(host).collect();
    let flake = format!(
        "{{ outputs = _: let
            system = label: import ./system {{ inherit label; scratch = {scratch:?}; }};
            file = derivation {{
                name = \"file\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \"echo > $out\" ];
            }};
        in {{ nixosConfigurations = {{ {hosts} }}; }}; }}",
        scratch = world.root().display().to_string(),
        hosts = hosts.join("\n"),
    );
    fs::write(checkout.path.join("flake.nix"), flake).unwrap();
    checkout.git(&["add", "--all"]);
    checkout
}

/// Runs comin in a checkout, as on a machine that has no configuration.
fn comin(world: &World, checkout: &Repository, arguments: &[&str], code: i32) -> Said {
    let mut comin = Command::new(env!("CARGO_BIN_EXE_comin"));
    isolated(&mut comin, &world.path("home"));
    comin.current_dir(&checkout.path).args(arguments);
    let said = Said::of(&comin.output().unwrap());
    assert_eq!(said.code, Some(code), "comin {arguments:?}: {said:?}");
    said
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// Hosts whose names are anything but names.
const ODD: &[(&str, &str)] = &[
    (r#""a.b""#, r#"system "dot""#),
    (r#""q\"uote\${x}\\""#, r#"system "quote""#),
    (
        "\"../\u{1b}[31m\u{202e}line\\nline\"",
        r#"system "hostile""#,
    ),
];
const ODD_NAMES: [&str; 3] = ["../\u{1b}[31m\u{202e}line\nline", "a.b", "q\"uote${x}\\"];

#[test]
fn hosts_are_listed_one_a_line_whatever_they_are_called() {
    need!("git", "nix");
    let world = World::empty();
    let checkout = checkout(&world, ODD);
    let said = comin(&world, &checkout, &["list"], 0);
    assert_eq!(
        said.out,
        "../\u{fffd}[31m\u{fffd}line line\na.b\nq\"uote${x}\\\n"
    );
    let said = comin(&world, &checkout, &["list", "--json"], 0);
    assert_eq!(json(&said), json!(ODD_NAMES));
    assert!(!said.out.contains(['\u{1b}', '\u{202e}']), "{said:?}");

    // From anywhere, of any flake.
    let url = format!("git+file://{}", checkout.path.display());
    let elsewhere = world.repository("elsewhere");
    let said = comin(
        &world,
        &elsewhere,
        &["list", "--json", "--flake-url", &url],
        0,
    );
    assert_eq!(json(&said), json!(ODD_NAMES));
    let said = comin(&world, &elsewhere, &["list"], 1);
    assert!(
        said.err
            .contains("Failed to list the hosts of .: nix eval exited with status 1: "),
        "{said:?}"
    );
}

#[test]
fn hosts_are_evaluated_whatever_they_are_called() {
    need!("git", "nix");
    let world = World::empty();
    let checkout = checkout(&world, ODD);
    let said = comin(&world, &checkout, &["eval", "--json"], 0);
    let systems = json(&said);
    for (system, name) in systems.as_array().unwrap().iter().zip(ODD_NAMES) {
        assert_eq!(system["host"], name);
        assert!(
            system["error"].is_null() && system["link"].is_null(),
            "{system}"
        );
        assert!(Path::new(system["derivation"].as_str().unwrap()).exists());
        let alone = comin(
            &world,
            &checkout,
            &["eval", "--json", "--hostname", name],
            0,
        );
        assert_eq!(json(&alone), json!([system]));
    }
    assert!(!said.err.contains('\u{1b}'), "{said:?}");
    assert!(said.err.contains("Evaluating a.b (2 of 3)\n"), "{said:?}");

    let said = comin(&world, &checkout, &["eval", "--hostname", "a.b"], 0);
    assert_eq!(
        said.out,
        format!(
            "a.b\n  derivation  {}\n  output      {}\n",
            systems[1]["derivation"].as_str().unwrap(),
            systems[1]["out"].as_str().unwrap()
        )
    );
}

#[test]
fn a_host_that_fails_does_not_keep_the_others_from_being_evaluated() {
    need!("git", "nix");
    let world = World::empty();
    let hosts = [
        ("bad", r#"throw "the printer is on fire""#),
        ("good", r#"system "good""#),
    ];
    let checkout = checkout(&world, &hosts);
    let said = comin(&world, &checkout, &["eval"], 1);
    assert!(
        said.out.starts_with("good\n  derivation  /nix/store/"),
        "{said:?}"
    );
    assert!(
        said.err.contains(
            "Failed to evaluate bad: nix eval exited with status 1: error: the printer is on fire"
        ),
        "{said:?}"
    );
    assert!(said.err.ends_with("1 of 2 hosts failed: bad\n"), "{said:?}");

    let systems = json(&comin(&world, &checkout, &["eval", "--json"], 1));
    assert!(
        systems[0]["error"]
            .as_str()
            .unwrap()
            .contains("the printer is on fire")
            && systems[0]["out"].is_null()
            && systems[1]["error"].is_null()
            && systems[1]["out"].is_string(),
        "{systems}"
    );

    let said = comin(&world, &checkout, &["eval", "--hostname", "webb"], 1);
    assert_eq!(said.out, "");
    assert!(
        said.err
            .contains("there is no host webb: nixosConfigurations has bad, good"),
        "{said:?}"
    );
}

#[test]
fn what_is_no_path_of_the_store_reaches_neither_nix_nor_a_terminal() {
    need!("git", "nix");
    let world = World::empty();
    let hosts = [
        (
            "option",
            r#"{ drvPath = "--help"; outPath = "/nix/store/a"; }"#,
        ),
        (
            "escape",
            "{ drvPath = \"/nix/store/a.drv\"; outPath = \"/nix/store/\u{1b}[31m\"; }",
        ),
    ];
    let checkout = checkout(&world, &hosts);
    for (command, name) in [("build", "option"), ("eval", "option"), ("eval", "escape")] {
        let said = comin(&world, &checkout, &[command, "--hostname", name], 1);
        assert_eq!(said.out, "");
        assert!(
            said.err.contains("The system's path is not a store path: ")
                && !said.err.contains('\u{1b}'),
            "{said:?}"
        );
    }
}

#[test]
fn a_flake_without_hosts_is_no_success() {
    need!("git", "nix");
    let world = World::empty();
    let checkout = checkout(&world, &[]);
    assert_eq!(comin(&world, &checkout, &["list"], 0).out, "");
    let said = comin(&world, &checkout, &["build"], 1);
    assert!(said.err.contains(". has no hosts"), "{said:?}");
}

#[test]
fn a_built_system_is_linked_and_kept_from_being_collected() {
    need!("git", "nix");
    let world = World::empty();
    let hosts = [
        (r#""a/b""#, r#"system "slash""#),
        (
            "broken",
            r#"derivation { name = "broken"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo out of paper; exit 1" ]; }"#,
        ),
        ("none", "file"),
        ("web", r#"system "web""#),
    ];
    let checkout = checkout(&world, &hosts);
    let said = comin(&world, &checkout, &["build", "--hostname", "web"], 0);
    let link = checkout.path.join("result");
    let out = fs::read_link(&link).unwrap();
    assert!(
        said.out
            .contains(&format!("  output      {}\n", out.display())),
        "{said:?}"
    );
    assert!(
        said.out
            .ends_with(&format!("  link        {}\n", link.display())),
        "{said:?}"
    );
    assert_eq!(
        fs::read_to_string(link.join("nixos-version"))
            .unwrap()
            .trim(),
        "web"
    );
    let roots = Command::new("nix-store")
        .args(["--gc", "--print-roots"])
        .output()
        .unwrap();
    let roots = String::from_utf8(roots.stdout).unwrap();
    assert!(roots.contains(link.to_str().unwrap()), "{roots}");

    let said = comin(
        &world,
        &checkout,
        &["build", "--json", "--out-link", "../out"],
        1,
    );
    assert!(
        said.err
            .contains("Failed to build broken: nix build exited with status"),
        "{said:?}"
    );
    assert!(said.err.contains("out of paper"), "{said:?}");
    assert!(
        said.err.contains("Failed to build none: /nix/store/")
            && said
                .err
                .contains("is not a NixOS system: it has no nixos-version"),
        "{said:?}"
    );
    assert!(
        said.err.ends_with("2 of 4 hosts failed: broken, none\n"),
        "{said:?}"
    );
    let systems = json(&said);
    assert!(
        systems[1]["error"].is_string() && systems[1]["out"].is_null(),
        "{systems}"
    );
    assert_eq!(
        fs::read_link(world.path("out-a%2Fb")).unwrap().to_str(),
        systems[0]["out"].as_str()
    );
    assert_eq!(fs::read_link(world.path("out-web")).unwrap(), out);
    let refused = fs::symlink_metadata(world.path("out-none"));
    assert!(refused.is_err(), "a host that is refused is not linked to");
}

#[test]
fn a_terminal_shows_what_is_worked_at_and_nothing_of_it_stays() {
    need!("git", "nix", "script");
    let world = World::empty();
    let checkout = checkout(
        &world,
        &[("bad", "throw \"x\""), ("good", r#"system "good""#)],
    );
    let on_terminal = |term: &str| {
        let mut script = on_terminal(&world.path("home"), "eval");
        script.env("TERM", term).env("NO_COLOR", "1");
        Said::of(&script.current_dir(&checkout.path).output().unwrap())
    };
    let said = on_terminal("xterm");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out
            .contains("\x1b[?7lEvaluating bad (1 of 2), 0 s\x1b[?7h"),
        "{said:?}"
    );
    // On the screen, each line is what came after its last erasure.
    let screen = said
        .out
        .lines()
        .map(|line| line.rsplit("\r\x1b[K").next().unwrap());
    let screen: Vec<&str> = screen.collect();
    assert!(
        screen.contains(&"Evaluating good (2 of 2)") && screen.contains(&"good"),
        "{screen:?}"
    );
    assert!(
        !screen.iter().any(|line| line.contains('\x1b')),
        "{screen:?}"
    );

    assert!(!on_terminal("dumb").out.contains('\x1b'));
}

#[test]
fn what_is_no_flake_url_is_told_so() {
    let comin = |url: &str| {
        let mut comin = Command::new(env!("CARGO_BIN_EXE_comin"));
        Said::of(
            &comin
                .arg("eval")
                .arg(format!("--flake-url={url}"))
                .output()
                .unwrap(),
        )
    };
    let said = comin(".#web");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("use --flake-url . --hostname web"),
        "{said:?}"
    );
    assert_eq!(comin("--impure").code, Some(2));
}

#[test]
fn a_machine_without_a_configuration_is_told_what_to_do() {
    let world = World::empty();
    fs::remove_file(world.path("config.json")).unwrap();
    for command in [&[][..], &["status"], &["watch"], &["plan"], &["run"]] {
        let said = world.comin(command, 2);
        assert!(
            said.err.starts_with(&format!(
                "There is no configuration {}: ",
                world.path("config.json").display()
            )) && said.err.contains("services.comin.enable")
                && said.err.contains("--config FILE"),
            "{said:?}"
        );
    }
}

#[test]
fn comin_alone_shows_the_status() {
    need!("git");
    let (world, _) = World::new();
    assert_eq!(world.comin(&[], 0).out, world.comin(&["status"], 0).out);
}

/// The completions and man pages, in a folder of the world's.
fn manual(world: &World) -> impl Fn(&str) -> String {
    world.comin(&["generate", world.path("manual").to_str().unwrap()], 0);
    let folder = world.path("manual");
    move |file| folder.join(file).display().to_string()
}

/// The commands that `comin help` has.
fn commands(world: &World) -> Vec<String> {
    let help = world.comin(&["help"], 0).out;
    let (_, commands) = help.split_once("Every day:\n").unwrap();
    let (commands, _) = commands.split_once("\nOptions:\n").unwrap();
    let lines = commands.lines().filter(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_string).collect()
}

#[test]
fn a_command_is_called_the_same_in_every_list_and_in_its_own_help() {
    let world = World::empty();
    let file = manual(&world);
    let text = |name: &str| {
        let text = fs::read_to_string(file(name)).unwrap();
        text.replace(r"\-", "-")
    };
    let [overview, fish] = ["comin.1", "comin.fish"].map(text);
    let help = world.comin(&["help"], 0).out;
    for command in commands(&world) {
        let mut lines = help.lines().map(str::trim);
        let does = lines.find_map(|line| line.strip_prefix(&command));
        let does = does.unwrap().trim();
        let own = world.comin(&[&command, "--help"], 0).out;
        assert_eq!(own.lines().next().unwrap(), does);
        let page = text(&format!("comin-{command}.1"));
        for text in [&page, &overview, &fish] {
            assert!(text.contains(does), "{command}: {does} is not in {text}");
        }
    }
}

/// Runs a tool that has nothing to say where all is well.
fn is_content(tool: &str, arguments: &[&str]) {
    let said = Said::of(&Command::new(tool).args(arguments).output().unwrap());
    assert_eq!(
        (said.code, &*said.err),
        (Some(0), ""),
        "{tool} {arguments:?}: {said:?}"
    );
}

#[test]
fn the_shells_take_the_completions() {
    need!("bash", "zsh", "fish");
    let world = World::empty();
    let file = manual(&world);
    is_content("bash", &["-n", &file("comin.bash")]);
    is_content("zsh", &["-n", &file("_comin")]);
    is_content("fish", &["--no-execute", &file("comin.fish")]);

    // What a shell offers is every command, and no other.
    let script = format!(
        "source {}; COMP_WORDS=(comin ''); COMP_CWORD=1; _comin comin '' comin; echo ${{COMPREPLY[@]}}",
        file("comin.bash")
    );
    let said = Said::of(&Command::new("bash").args(["-c", &script]).output().unwrap());
    let mut offered: Vec<&str> = said
        .out
        .split_whitespace()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let mut commands = commands(&world);
    commands.push("help".to_string());
    offered.sort_unstable();
    commands.sort_unstable();
    assert_eq!(offered, commands, "{said:?}");
}

#[test]
fn every_command_has_a_man_page_that_renders() {
    need!("man");
    let world = World::empty();
    let file = manual(&world);
    let rendered = |page: &str| {
        let mut man = Command::new("man");
        man.env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .args(["--warnings", "--local-file"]);
        let said = Said::of(&man.arg(file(page)).output().unwrap());
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{page}: {said:?}");
        said.out
    };
    let overview = rendered("comin.1");
    for section in ["EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"] {
        assert!(overview.contains(section), "{overview}");
    }
    let commands = commands(&world);
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        assert!(
            overview.contains(&format!("comin-{command}(1)")),
            "{overview}"
        );
        let page = rendered(&format!("comin-{command}.1"));
        assert!(
            page.contains("OPTIONS") && page.contains("--config <FILE>"),
            "{page}"
        );
    }
}

#[test]
fn whoever_interrupts_a_build_ends_what_nix_has_started() {
    need!("git", "nix", "mkfifo");
    let world = World::empty();
    let (builds, never) = (world.path("builds"), world.path("never"));
    let made = Command::new("mkfifo").arg(&builds).arg(&never).status();
    assert!(made.unwrap().success());
    // The builder holds the one pipe as long as it lives, and waits for the other.
    let builder = format!(
        "exec 3>{}; echo >&3; read x <{}",
        builds.display(),
        never.display()
    );
    let slow = format!(
        "derivation {{ name = \"slow\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" {builder:?} ]; }}"
    );
    let checkout = checkout(&world, &[("slow", &slow)]);
    let build = |signals: &str| {
        let mut comin = Command::new("env");
        isolated(&mut comin, &world.path("home"));
        comin
            .current_dir(&checkout.path)
            .args([signals, env!("CARGO_BIN_EXE_comin"), "build"]);
        comin
    };
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // Whoever runs the tests may ignore some.
        let mut comin = build("--default-signal");
        let mut comin = comin.spawn().unwrap();
        let mut pipe = fs::File::open(&builds).unwrap();
        pipe.read_exact(&mut [0]).unwrap();
        kill_process(Pid::from_child(&comin), signal).unwrap();
        assert_eq!(comin.wait().unwrap().signal(), Some(signal.as_raw()));
        // Nobody has the pipe any more.
        let (closed, is_closed) = channel();
        thread::spawn(move || closed.send(pipe.read(&mut [0]).unwrap()));
        let left = is_closed.recv_timeout(Duration::from_secs(60));
        assert_eq!(left, Ok(0), "the builder goes on");
    }

    // As nohup does it.
    let mut comin = build("--ignore-signal=HUP").spawn().unwrap();
    let mut pipe = fs::File::open(&builds).unwrap();
    pipe.read_exact(&mut [0]).unwrap();
    kill_process(Pid::from_child(&comin), Signal::HUP).unwrap();
    fs::write(&never, "\n").unwrap();
    assert_eq!(comin.wait().unwrap().signal(), None);
}

#[test]
fn times_are_those_of_whoever_reads() {
    need!("git", "nix");
    let tokyo = "/usr/share/zoneinfo/Asia/Tokyo";
    if !Path::new(tokyo).exists() {
        return skip("the time zones are missing");
    }
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    let history = |zone: &str| {
        let mut comin = world.command(&["history"]);
        Said::of(&comin.env("TZ", zone).output().unwrap()).out
    };
    assert_eq!(history("Asia/Tokyo"), history(&format!(":{tokyo}")));
    assert_ne!(history("Asia/Tokyo"), history("UTC"));
}
