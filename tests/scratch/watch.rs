//! The status as it is followed: in lines through a pipe, as a picture on a terminal.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::Said;
use crate::world::{building, System, World};

/// A comin that goes on until it is told to end.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Follower {
    fn of(world: &World, arguments: &[&str]) -> Self {
        let mut command = world.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(!line.contains('\u{1b}'), "{line:?}");
        line
    }

    /// Reads until a line is like this.
    fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.line();
            assert_ne!(line, "", "it ended");
            if wanted(&line) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &self.child.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// What else it said, once it has ended.
    fn end(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

#[test]
fn a_line_for_a_status_bar_comes_whenever_something_changes() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let mut bar = Follower::of(&world, &["watch", "--oneline"]);
    assert_eq!(bar.line(), "not fetched\n");
    world.comin(&["run"], 0);
    let first = &origin.git(&["rev-parse", "HEAD"])[..8];
    let up_to_date = format!("up to date {first}\n");
    bar.until(|line| line == up_to_date);
    // That it was fetched once more is no news: what comes next is that it is suspended.
    world.comin(&["run"], 0);
    world.comin(&["suspend", "--for", "8h"], 0);
    let line = bar.line();
    assert!(
        line.starts_with(&format!("suspended {first}: until ")),
        "{line}"
    );
    world.comin(&["resume"], 0);
    assert_eq!(bar.line(), up_to_date);
    bar.signal("INT");
    assert_eq!(bar.end(), (Some(0), String::new(), String::new()));
}

#[test]
fn each_document_is_a_line() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let mut follower = Follower::of(&world, &["status", "--watch", "--json"]);
    let status = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    assert_eq!(status(&follower.line())["deployed"], Value::Null);
    world.comin(&["run"], 0);
    follower.until(|line| {
        let status = status(line);
        status["phase"] == "idle" && status["deployed"]["status"] == "done"
    });
    origin.commit("second", &System::instead("throw \"out of paper\""));
    world.comin(&["run"], 1);
    let line = follower.until(|line| status(line)["deployed"]["status"] == "failed");
    assert_eq!(status(&line), world.status());
    follower.signal("TERM");
    assert_eq!(follower.end().0, Some(0));
}

#[test]
fn progress_of_a_build_is_followed() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let mut follower = Follower::of(&world, &["watch", "--json"]);
    let (_, mut deploy, open) = building(&world, &origin);
    let progress = |line: &str| serde_json::from_str::<Value>(line).unwrap()["progress"].clone();
    let line = follower.until(|line| progress(line)["derivation"] == "gate");
    assert_eq!(progress(&line)["to_build"], 2);
    open();
    assert!(deploy.wait().unwrap().success());
    follower.until(|line| progress(line).is_null());
    follower.signal("INT");
    assert_eq!(follower.end().0, Some(0));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    need!("git");
    let (world, _) = World::new();
    let mut follower = Follower::of(&world, &["watch"]);
    assert!(follower.line().starts_with("m: "));
    let Follower { mut child, out } = follower;
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_in_its_own_time_whatever_it_has_asked_before() {
    need!("git", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = world.path("key").display().to_string();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    assert!(keygen.status().unwrap().success());
    for (name, value) in [("gpg.format", "ssh"), ("user.signingKey", &key)] {
        origin.git(&["config", name, value]);
    }
    origin.git(&["commit", "--quiet", "--amend", "--no-edit", "--gpg-sign"]);
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    fs::write(world.path("signers"), format!("a@example.org {public}")).unwrap();
    let signers = world.path("signers").display().to_string();
    world.configure(|config| config["ssh_allowed_signers_path"] = signers.into());
    world.comin(&["fetch", "origin"], 0);
    // Nothing is known of the head before ssh-keygen has been asked.
    let mut follower = Follower::of(&world, &["watch", "--oneline"]);
    assert!(follower.line().starts_with("due "));
    follower.signal("INT");
    assert_eq!(follower.end(), (Some(0), String::new(), String::new()));
}

#[test]
fn a_configuration_that_is_away_for_a_moment_is_awaited() {
    need!("git", "nix");
    let (world, _) = World::new();
    let mut follower = Follower::of(&world, &["watch", "--oneline"]);
    follower.line();
    let config = world.path("config.json");
    fs::rename(&config, world.path("away.json")).unwrap();
    fs::create_dir_all(world.path("root/run/comin/remotes")).unwrap();
    let mut stderr = BufReader::new(follower.child.stderr.take().unwrap());
    let mut fault = String::new();
    stderr.read_line(&mut fault).unwrap();
    assert!(fault.starts_with("There is no configuration"), "{fault}");
    fs::rename(world.path("away.json"), &config).unwrap();
    world.comin(&["run"], 0);
    follower.until(|line| line.starts_with("up to date"));
    follower.signal("INT");
    follower.child.wait().unwrap();
    let mut more = String::new();
    stderr.read_to_string(&mut more).unwrap();
    assert_eq!(more, "", "it is said once");
}

#[test]
fn what_contradicts_itself_is_a_usage_error() {
    let world = World::empty();
    for command in [
        &["status", "--json", "--oneline"][..],
        &["watch", "--json", "--oneline"],
        &["watch", "--watch"],
    ] {
        world.comin(command, 2);
    }
}

#[test]
fn there_is_colour_on_a_terminal_alone_and_where_it_is_wanted() {
    need!("git", "script");
    let (world, _) = World::new();
    let shown = |change: fn(&mut Command) -> &mut Command| {
        let mut script = world.on_terminal("status");
        Said::of(&change(&mut script).output().unwrap()).out
    };
    let coloured = shown(|script| script);
    assert!(coloured.contains("\u{1b}[33mno remote"), "{coloured:?}");
    let plain = world.comin(&["status"], 0).out;
    for plainly in [
        shown(|script| script.env("NO_COLOR", "1")),
        shown(|script| script.env("TERM", "dumb")),
        plain.clone(),
    ] {
        assert!(!plainly.contains('\u{1b}'), "{plainly:?}");
    }
    // The words are the same.
    let words = |text: &str| {
        let mut text = text.replace("\r\n", "\n");
        for code in ["0", "1", "2", "31", "32", "33", "36"] {
            text = text.replace(&format!("\u{1b}[{code}m"), "");
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words(&coloured), words(&plain));
}

#[test]
fn a_terminal_is_drawn_on_and_given_back() {
    need!("git", "nix", "script");
    let (world, _) = World::new();
    let mut script = world.on_terminal("watch");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let mut terminal = script.stdout.take().unwrap();
    let mut seen = String::new();
    let mut until = |wanted: &str| {
        let mut more = [0; 4096];
        while !seen.contains(wanted) {
            let read = terminal.read(&mut more).unwrap();
            assert_ne!(read, 0, "it ended before {wanted:?}: {seen:?}");
            seen += &String::from_utf8_lossy(&more[..read]);
        }
        std::mem::take(&mut seen)
    };
    let begin = until("Ctrl-C to leave");
    assert!(begin.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{begin:?}");
    assert!(begin.contains("no remote has been fetched"), "{begin:?}");
    world.comin(&["run"], 0);
    until("up to date");
    keyboard.write_all(b"\x03").unwrap();
    let end = until("\u{1b}[?1049l");
    assert!(end.contains("\u{1b}[?25h"), "{end:?}");
    assert_eq!(script.wait().unwrap().code(), Some(0));
}

#[test]
fn exit_code_of_a_check_tells_how_the_machine_is() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let check = |code: i32, state: &str| {
        let said = world.comin(&["status", "--check"], code);
        assert!(said.out.starts_with(&state.replace('_', " ")), "{said:?}");
        assert_eq!(world.status()["state"], state);
    };
    check(4, "not_fetched");
    world.comin(&["run"], 0);
    check(0, "up_to_date");
    let first = fs::read_link(world.path("root/run/current-system")).unwrap();

    world.comin(&["suspend", "--reason", "the move"], 0);
    origin.commit("second", &System::default());
    world.comin(&["fetch", "origin"], 0);
    check(5, "suspended");
    assert_eq!(world.status()["suspension"]["reason"], "the move");
    world.comin(&["resume"], 0);
    assert!(world.status()["suspension"].is_null());
    check(3, "due");
    world.comin(&["run"], 0);

    // Somebody activates the first system by hand.
    let link = world.path("root/run/current-system");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&first, &link).unwrap();
    check(6, "not_running");
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);

    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    world.comin(&["run"], 0);
    world.comin(&["status", "--check"], 4);
    let status = world.status();
    let [main, testing] = ["main", "testing"].map(|branch| &status["remotes"][0][branch]);
    assert_eq!(main["reason"], "rewound");
    // A testing branch that does not exist is not refused.
    assert_eq!(
        (&testing["commit"], &testing["refused"], &testing["reason"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[test]
fn times_in_json_are_whole_seconds() {
    need!("git", "nix");
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    let status = world.status();
    let remote = &status["remotes"][0];
    let deployed = &status["deployed"];
    for time in [
        &remote["fetched_at"],
        &remote["attempted_at"],
        &deployed["started_at"],
        &deployed["ended_at"],
        &deployed["stages"][0]["started_at"],
        &status["running"]["since"],
    ] {
        let time = time.as_str().unwrap();
        assert_eq!(
            (time.len(), time.chars().last()),
            ("2026-01-02T03:04:05Z".len(), Some('Z')),
            "{time}"
        );
    }
    assert_eq!(status["version"], 1);
}
