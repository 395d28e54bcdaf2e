//! What is told and asked on a desktop, by a real notification server.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::support::Said;
use crate::world::desktop::Desktop;
use crate::world::{await_that, start, Gate, Repository, System, World};

/// polkit would ask a person who that is, and none is here.
const ALLOWED: &str = "shift; exec \"$@\"";

/// A machine with a desktop whose user has logged in, and has been told nothing.
fn at_desktop() -> (World, Repository, Desktop) {
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let desktop = Desktop::start(&world);
    let said = tell(&world, &desktop);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(desktop.shown(), [""; 0]);
    (world, origin, desktop)
}

/// What the user unit runs.
fn command(world: &World, desktop: &Desktop, pkexec: &str) -> Command {
    let mut comin = world.command_with(&["desktop", "--title", "machine m"], &[("pkexec", pkexec)]);
    desktop.with(&mut comin);
    comin.stderr(Stdio::piped());
    comin
}

fn tell(world: &World, desktop: &Desktop) -> Said {
    Said::of(&command(world, desktop, ALLOWED).output().unwrap())
}

/// Asks, and returns who waits for the answer.
fn ask(world: &World, desktop: &Desktop, pkexec: &str) -> Child {
    let shown = desktop.shown().len();
    let child = command(world, desktop, pkexec).spawn().unwrap();
    // Once without the button, for its number, and once with it.
    desktop.await_shown(shown + 2);
    child
}

fn asking(step: &str) -> (World, Repository, Desktop) {
    let (mut world, origin, desktop) = at_desktop();
    world.configure(|config| config[format!("{step}_confirmer")] = json!({"mode": "manual"}));
    (world, origin, desktop)
}

fn done(mut child: Child) {
    await_that(|| child.try_wait().unwrap().is_some());
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_deployment_is_told_while_it_is_at_work_and_when_it_is_done() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (world, origin, desktop) = at_desktop();
    let gate = Gate::new(&world);
    let gated = origin.commit("gated", &gate.system);
    let run = start(&world, &["run"]);
    gate.await_begun();
    let comin = command(&world, &desktop, ALLOWED).spawn().unwrap();
    let name = format!("{} (origin/main)", &gated[..8]);
    let shown = desktop.await_shown(1);
    let (id, text) = shown[0].split_once(' ').unwrap();
    assert_eq!(text, format!("NORMAL machine m: Deploying {name}|gated"));
    gate.open();
    done(run);
    done(comin);
    // In place of the first.
    assert_eq!(
        desktop.await_shown(2)[1],
        format!("{id} NORMAL machine m: Deployed {name}|gated")
    );
    assert_eq!(desktop.control(&["count", "displayed"]), "1");
    tell(&world, &desktop);
    desktop.await_shown(2);
}

#[test]
fn a_failure_is_told_once_and_nothing_of_it_is_markup() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (mut world, origin, desktop) = at_desktop();
    world.configure(|config| config["retry"] = json!({"first_delay": 1}));
    let error = "<b>on fire</b> & \\\\n \u{202e}";
    let broken = System::instead(&format!("throw \"{error}\""));
    let bad = origin.commit("bad", &broken);
    world.comin(&["run"], 1);
    tell(&world, &desktop);
    let shown = desktop.await_shown(1);
    let wanted = format!(
        "CRITICAL machine m: Failed to deploy {} (origin/main)|nix eval",
        &bad[..8]
    );
    assert!(shown[0].contains(&wanted), "{shown:?}");
    assert!(
        shown[0].contains("&lt;b&gt;on fire&lt;/b&gt; &amp; \\n \u{fffd}"),
        "{shown:?}"
    );
    await_that(|| {
        world.comin(&["fetch", "origin"], 0);
        world.path("root/run/comin/wanted").exists()
    });
    world.comin(&["deploy"], 1);
    tell(&world, &desktop);
    desktop.await_shown(1);
    origin.commit("good", &System::default());
    world.comin(&["run"], 0);
    tell(&world, &desktop);
    assert!(desktop.await_shown(2)[1].contains("NORMAL machine m: Deployed"));
}

#[test]
fn a_click_confirms_what_was_shown() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (world, origin, desktop) = asking("build");
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let calls = world.path("pkexec");
    let pkexec = format!("echo \"$*\" >>{}\n{ALLOWED}", calls.display());
    let comin = ask(&world, &desktop, &pkexec);
    let question = format!(
        "{} (origin/main) waits for your confirmation to be built|second",
        &second[..8]
    );
    assert!(
        desktop.shown()[1].ends_with(&question),
        "{:?}",
        desktop.shown()
    );
    desktop.control(&["action", "0"]);
    done(comin);
    let calls = fs::read_to_string(calls).unwrap();
    assert!(
        calls.trim().ends_with(&format!(
            "confirm build --commit {second} --operation switch"
        )),
        "{calls}"
    );
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
    tell(&world, &desktop);
    assert!(desktop.await_shown(3)[2].contains("Deployed"));
}

#[test]
fn a_question_that_is_void_gives_way_to_the_next_one_and_a_click_is_of_that() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (world, origin, desktop) = asking("deploy");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let comin = ask(&world, &desktop, ALLOWED);
    let third = origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    await_that(|| {
        let shown = desktop.shown();
        let question = format!("{} (origin/main) waits for your confirmation", &third[..8]);
        shown.iter().filter(|line| line.contains(&question)).count() == 2
    });
    assert_eq!(desktop.control(&["count", "displayed"]), "1");
    desktop.control(&["action", "0"]);
    done(comin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "third");

    // Who does not want it now is not asked again.
    origin.commit("fourth", &System::default());
    world.comin(&["run"], 0);
    let comin = ask(&world, &desktop, ALLOWED);
    desktop.control(&["close"]);
    done(comin);
    let shown = desktop.shown().len();
    tell(&world, &desktop);
    desktop.await_shown(shown);
    assert_eq!(world.status()["phase"], "waiting_for_confirmation");

    // That it cannot be answered any more is told.
    world.comin(&["rollback"], 0);
    tell(&world, &desktop);
    let last = desktop.await_shown(shown + 1).pop().unwrap();
    assert!(last.contains("will not be deployed"), "{last}");
}

/// What is tried becomes main, and so is to stay, while somebody types a password.
#[test]
fn a_click_is_of_no_other_operation() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (world, origin, desktop) = asking("deploy");
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tried", &System::default());
    world.comin(&["run"], 0);
    let (asked, allowed) = (world.path("asked"), world.path("allowed"));
    let pkexec = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done; {ALLOWED}",
        asked.display(),
        allowed.display()
    );
    let comin = ask(&world, &desktop, &pkexec);
    desktop.control(&["action", "0"]);
    await_that(|| asked.exists());
    origin.git(&["branch", "--quiet", "--force", "main", "testing-m"]);
    world.comin(&["run"], 0);
    let waits = &world.history()[0];
    assert_eq!(
        (&waits["status"], &waits["operation"]),
        (&json!("waiting"), &json!("switch"))
    );
    fs::write(allowed, "").unwrap();
    // Then it asks for that one.
    let shown = desktop.await_shown(5);
    assert!(shown[2].contains("is not confirmed"), "{shown:?}");
    assert!(shown[4].contains("(origin/main) waits"), "{shown:?}");
    assert!(!world.path("root/var/lib/comin/confirm.json").exists());
    desktop.control(&["action", "0"]);
    done(comin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "tried");
}

#[test]
fn who_is_not_allowed_to_confirm_is_told() {
    need!("git", "nix", "dunst", "Xvfb", "notify-send", "dbus-daemon");
    let (world, origin, desktop) = asking("build");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let comin = ask(&world, &desktop, "echo Not authorized >&2; exit 127");
    desktop.control(&["action", "0"]);
    done(comin);
    let last = desktop.await_shown(3).pop().unwrap();
    assert!(
        last.contains("is not confirmed|pkexec exited with status 127: Not authorized"),
        "{last}"
    );
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "first");
}

#[test]
fn without_a_session_or_a_server_it_says_so() {
    need!("git", "nix", "notify-send");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let mut comin = world.command(&["desktop"]);
    let said = Said::of(&comin.env_remove("XDG_RUNTIME_DIR").output().unwrap());
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("There is no XDG_RUNTIME_DIR"), "{said:?}");

    let tell = || {
        let mut comin = world.command(&["desktop"]);
        comin
            .env("XDG_RUNTIME_DIR", world.path("home"))
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
        Said::of(&comin.output().unwrap())
    };
    assert_eq!(tell().code, Some(0), "there is no news");
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let said = tell();
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("notify-send exited with status 1"),
        "{said:?}"
    );
}
