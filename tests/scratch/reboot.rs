//! What only a reboot brings: why one is needed, switches that are put off until one, boots that went
//! elsewhere, and reboots that comin does by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use crate::support::Said;
use crate::world::{boot, Repository, System, World};

/// A system whose kernel and initrd are the same as those of any other one, with further files.
fn system(files: &str) -> System {
    System::with(&format!(
        "extra = {{ kernel = null; initrd = null; {files} }};"
    ))
}

/// A system with a critical component.
fn with_dbus(dbus: &str) -> System {
    system(&format!(
        r#""switch-inhibitors" = builtins.toJSON {{ dbus = "{dbus}"; }};"#
    ))
}

/// A machine that has booted the system of its first commit, and does nothing by itself.
fn booted(first: &System) -> (World, Repository) {
    let (world, origin) = World::new();
    origin.commit("first", first);
    boot::begin(&world);
    world.comin(&["run"], 0);
    boot::boot(&world);
    (world, origin)
}

fn generation(world: &World, generation: u64) -> PathBuf {
    let link = format!("root/nix/var/nix/profiles/system-{generation}-link");
    fs::read_link(world.path(&link)).unwrap()
}

fn reasons(world: &World) -> Vec<String> {
    let status = world.status();
    let reasons: Vec<String> = serde_json::from_value(status["reboot_reasons"].clone()).unwrap();
    assert_eq!(status["need_to_reboot"], !reasons.is_empty());
    reasons
}

fn decided(world: &World) -> Value {
    let text = fs::read_to_string(world.path("root/run/comin/decided.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn count(said: &Said, text: &str) -> usize {
    said.err.matches(text).count()
}

#[test]
fn the_status_says_why_a_reboot_is_needed() {
    need!("git", "nix");
    let triggers = |value: &str| {
        system(&format!(
            r#""reboot-triggers" = builtins.toJSON {{ kernel-params = "{value}"; }};"#
        ))
    };
    let (world, origin) = booted(&triggers("quiet"));
    assert_eq!(reasons(&world), [""; 0]);
    origin.commit("second", &triggers("quiet"));
    world.comin(&["run"], 0);
    assert_eq!(reasons(&world), [""; 0]);
    origin.commit("third", &triggers("debug"));
    let said = world.comin(&["run"], 0);
    assert!(
        said.err
            .contains("by switch; a reboot is needed: kernel-params\n"),
        "{said:?}"
    );
    assert_eq!(reasons(&world), ["kernel-params"]);
    let status = world.comin(&["status"], 0).out;
    assert!(
        status.contains("reboot     needed: kernel-params"),
        "{status}"
    );
    // What cannot be understood is none.
    origin.commit("fourth", &system(r#""reboot-triggers" = "{";"#));
    world.comin(&["run"], 0);
    assert_eq!(reasons(&world), [""; 0]);
    origin.commit("fifth", &System::with("extra = { initrd = null; };"));
    world.comin(&["run"], 0);
    assert_eq!(reasons(&world), ["the kernel"]);
}

#[test]
fn a_switch_that_is_inhibited_is_put_off_until_the_next_boot() {
    need!("git", "nix");
    let (world, origin) = booted(&with_dbus("daemon"));
    let second = origin.commit("second", &with_dbus("broker"));
    let name = format!("{} (origin/main)", &second[..8]);
    world.comin(&["fetch", "origin"], 0);
    let planned = world.comin(&["plan", "--build"], 0).out;
    let (line, _) = planned.split_once("\n  origin/main").unwrap();
    assert_eq!(
        line,
        format!("Would deploy {name} by boot, from the next boot on: only a reboot changes dbus")
    );
    let said = world.comin(&["run"], 0);
    for line in [
        format!("{name} is put off until the next boot: only a reboot changes dbus"),
        format!("Deployed {name} by boot; a reboot is needed: another system boots next"),
    ] {
        assert!(said.err.contains(&line), "{said:?}");
    }
    assert_eq!(world.switches(), ["switch first", "boot second"]);
    assert_eq!(world.running(), "first");
    let deployed = world.status()["deployed"].clone();
    assert_eq!(
        [
            &deployed["commit"],
            &deployed["status"],
            &deployed["operation"]
        ],
        [second.as_str(), "done", "boot"]
    );
    assert_eq!(reasons(&world), ["another system boots next"]);

    // It counts as deployed, before the reboot and after it.
    world.comin(&["run"], 0);
    assert_eq!(world.plan()["action"], "nothing");
    boot::boot(&world);
    let said = world.comin(&["run"], 0);
    assert_eq!(said.err, "");
    assert_eq!(reasons(&world), [""; 0]);
    assert_eq!(world.running(), "second");
    assert_eq!(world.status()["booted_instead"], Value::Null);
    assert_eq!(world.switches().len(), 2);
    // From there on there is nothing that inhibits.
    origin.commit("third", &with_dbus("broker"));
    world.comin(&["run"], 0);
    assert_eq!(world.switches()[2..], ["switch third"]);
    let said = world.comin(&["rollback", "--to", "1"], 0);
    assert!(said.err.contains("Generation 1 is put off"), "{said:?}");
    assert_eq!(world.switches()[3..], ["boot first"]);
}

#[test]
fn a_boot_that_was_killed_before_the_boot_loader_had_it_is_done_again() {
    need!("git", "nix");
    let (mut world, origin) = booted(&with_dbus("daemon"));
    let killed = world.path("killed");
    let kill = format!(
        "[ -e {0} ] || {{
            touch {0}
            runner=$(cut -d ' ' -f 4 /proc/$PPID/stat)
            kill -KILL $(cut -d ' ' -f 4 /proc/$runner/stat) $runner $PPID $$
        }}",
        killed.display()
    );
    world.configure(|config| {
        config["remotes"][0]["branches"] = json!({"main": {"operation": "boot"}});
    });
    let arguments = with_dbus("broker").arguments;
    let second = System::with(&format!("{arguments} bootloader = ''{kill}'';"));
    origin.commit("second", &second);
    let output = world.command(&["run"]).output().unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
    assert_eq!(world.profile().unwrap(), "system-2-link");
    let said = world.comin(&["run"], 0);
    assert!(
        said.err.contains("was interrupted while activating"),
        "{said:?}"
    );
    let second = generation(&world, 2);
    let loader = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    assert_eq!(Path::new(loader.trim()), second);
    assert_eq!(
        world.switches(),
        ["switch first", "boot second", "boot second"]
    );
}

#[test]
fn a_test_that_is_inhibited_is_skipped() {
    need!("git", "nix");
    let (world, origin) = booted(&with_dbus("daemon"));
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &with_dbus("broker"));
    world.comin(&["fetch", "origin"], 0);
    let planned = world.comin(&["plan", "--build"], 0).out;
    assert!(planned.starts_with("Would skip "), "{planned}");
    let said = world.comin(&["run"], 0);
    let reason = "only a reboot changes dbus, so it cannot be tested while this system runs";
    assert!(said.err.contains(reason), "{said:?}");
    assert_eq!(world.status()["deployed"]["status"], "skipped");
    assert_eq!(world.switches(), ["switch first"]);
    world.comin(&["run"], 0);
    assert_eq!(world.history().len(), 2);
}

#[test]
fn test_that_only_a_reboot_allows_is_tried_again_by_order_after_it() {
    need!("git", "nix");
    let (world, origin) = booted(&with_dbus("daemon"));
    origin.commit("second", &with_dbus("broker"));
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &with_dbus("broker"));
    world.comin(&["run"], 0);
    let retry = || world.comin(&["retry"], 0).err;
    assert!(retry().contains("There is nothing to try again"));
    boot::boot(&world);
    world.comin(&["run"], 0);
    assert_eq!(
        (world.running(), world.status()["state"].take()),
        ("second".to_string(), "skipped".into())
    );
    for command in ["status", "plan"] {
        let shown = world.comin(&[command], 0).out;
        assert!(shown.contains("; the machine has booted since"), "{shown}");
        assert!(shown.contains("to test it → sudo comin retry"), "{shown}");
    }
    assert!(retry().contains("The next deploy tries again"));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
}

#[test]
fn a_boot_into_another_system_is_reported_and_left_alone() {
    need!("git", "nix");
    let (world, origin) = booted(&system(""));
    origin.commit("second", &system(""));
    world.comin(&["run"], 0);
    assert_eq!(world.status()["booted_instead"], Value::Null);

    let first = generation(&world, 1);
    boot::boot_into(&world, &first);
    let line = format!("The machine booted {} instead", first.display());
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, &line), 1, "{said:?}");
    assert_eq!(count(&world.comin(&["run"], 0), &line), 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    assert_eq!(world.running(), "first");
    assert_eq!(
        world.status()["booted_instead"],
        first.display().to_string()
    );
    let status = world.comin(&["status"], 0).out;
    assert!(status.contains("another system was booted"), "{status}");

    // Once for each boot, whatever was ordered before.
    boot::boot_into(&world, &first);
    assert_eq!(count(&world.comin(&["run"], 0), &line), 1);

    // By order it is deployed again, once.
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
    assert_eq!(world.switches()[2..], ["switch second"]);
    assert_eq!(world.status()["booted_instead"], Value::Null);
    boot::boot_into(&world, &first);
    world.comin(&["run"], 0);
    assert_eq!(
        world.running(),
        "first",
        "an order of before does not count"
    );
    world.comin(&["suspend"], 0);
    world.comin(&["retry"], 0);
    world.comin(&["deploy"], 0);
    assert_eq!(world.plan()["action"], "suspended");
    assert_eq!(world.running(), "first");
    world.comin(&["resume"], 0);

    // The next commit ends it, too.
    origin.commit("third", &system(""));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
    assert_eq!(world.status()["booted_instead"], Value::Null);
}

#[test]
fn what_somebody_made_the_next_boot_or_a_reboot_undid_is_no_other_system() {
    need!("git", "nix");
    let (world, origin) = booted(&system(""));
    origin.commit("second", &system(""));
    world.comin(&["run"], 0);
    world.comin(&["rollback"], 0);
    boot::boot(&world);
    assert_eq!(world.running(), "first");
    assert_eq!(world.status()["booted_instead"], Value::Null);
    assert_eq!(count(&world.comin(&["run"], 0), "instead"), 0);

    origin.commit("third", &system(""));
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &system(""));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    boot::boot(&world);
    assert_eq!(world.running(), "third");
    assert_eq!(world.status()["booted_instead"], Value::Null);
    assert_eq!(count(&world.comin(&["run"], 0), "instead"), 0);
}

/// A machine that may reboot by itself, and has a reason to.
fn waiting(policy: Value) -> (World, Repository) {
    let (mut world, origin) = booted(&with_dbus("daemon"));
    world.configure(|config| config["reboot"] = policy);
    origin.commit("second", &with_dbus("broker"));
    (world, origin)
}

const REBOOTING: &str = "There is no systemd that could reboot the machine";

#[test]
fn only_where_it_may_the_machine_reboots_by_itself() {
    need!("git", "nix");
    for policy in [json!({}), json!({"allow": false, "delay": 0})] {
        let (world, _origin) = waiting(policy);
        let said = world.comin(&["run"], 0);
        assert_eq!(count(&said, "eboots in"), 0, "{said:?}");
        assert_eq!(decided(&world)["retry"], Value::Null);
    }
}

#[test]
fn a_reboot_waits_at_a_gate_and_is_not_ordered_if_the_gate_refuses_it() {
    need!("git", "nix", "faketime");
    let (mut world, _origin) = waiting(json!({"allow": true, "delay": 0}));
    let [asked, code] = ["asked", "code"].map(|file| world.path(file));
    let command = format!(
        "echo x >>{}; echo a backup runs; exit $(cat {})",
        asked.display(),
        code.display()
    );
    world.configure(|config| {
        config["gates"] = json!({"backup": {"before": "reboot", "command": command}});
    });
    let times = || fs::read_to_string(&asked).unwrap().lines().count();
    fs::write(&code, "75").unwrap();
    let said = world.comin(&["run"], 0);
    let closed = "another system boots next; the gate backup is closed (a backup runs)\n";
    assert_eq!((count(&said, closed), times()), (1, 1), "{said:?}");
    let said = world.comin(&["run"], 0);
    assert_eq!((count(&said, REBOOTING), times()), (0, 1));
    let shown = || world.status()["reboot_gate"].take();
    assert_eq!(shown(), "the gate backup is closed (a backup runs)");
    let status = world.comin(&["status"], 0).out;
    assert!(status.contains("the gate backup is closed"), "{status}");

    fs::write(&code, "1").unwrap();
    let said = world.shifted("+61s", &["deploy"]);
    assert_eq!((count(&said, REBOOTING), times()), (0, 2), "{said:?}");
    world.shifted("+1d", &["deploy"]);
    assert_eq!(times(), 2);
    assert_eq!(shown(), "the gate backup refused it (a backup runs)");
    world.comin(&["confirm", "--past-gates"], 0);
    let said = world.comin(&["deploy"], 0);
    assert_eq!((count(&said, REBOOTING), times()), (1, 2), "{said:?}");
    assert_eq!(shown(), Value::Null);
}

#[test]
fn reboot_gate_is_shown_only_if_nothing_else_hinders_the_reboot() {
    need!("git", "nix");
    let (mut world, _origin) = waiting(json!({"allow": true, "delay": 0}));
    world.configure(|config| {
        config["gates"] = json!({"backup": {"before": "reboot", "command": "exit 75"}});
    });
    let shows_gate = || world.status()["reboot_gate"].is_string();
    world.comin(&["run"], 0);
    assert!(shows_gate());
    world.comin(&["suspend"], 0);
    assert!(!shows_gate());
    world.comin(&["resume"], 0);
    world.comin(&["run"], 0);
    assert!(shows_gate());
    // Nobody can tell whether another switch runs.
    let lock = world.path("root/run/nixos/switch-to-configuration.lock");
    let _ = fs::remove_file(&lock);
    fs::create_dir_all(&lock).unwrap();
    let said = world.comin(&["run"], 0);
    assert_eq!(
        count(&said, "it waits for a lock that cannot be read"),
        1,
        "{said:?}"
    );
    assert!(!shows_gate());
}

#[test]
fn a_machine_reboots_once_for_each_deployment() {
    need!("git", "nix");
    let (world, origin) = waiting(json!({"allow": true, "delay": 0}));
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "This machine reboots in 0 seconds for "), 1);
    assert_eq!(count(&said, REBOOTING), 1, "{said:?}");
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);

    // After the reboot there still is a reason.
    boot::boot(&world);
    boot::link(&world, "current-system", &generation(&world, 1));
    let vain = "The machine still needs a reboot after the reboot for this deployment: another";
    let said = world.comin(&["run"], 0);
    assert_eq!((count(&said, vain), count(&said, REBOOTING)), (1, 0));
    let said = world.comin(&["run"], 0);
    assert_eq!((count(&said, vain), count(&said, REBOOTING)), (0, 0));
    boot::boot(&world);
    boot::link(&world, "current-system", &generation(&world, 1));
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);

    // For another deployment it does.
    origin.commit("third", &with_dbus("third"));
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 1);
    boot::boot(&world);
    assert_eq!(world.running(), "third");
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "is well after its first boot"), 1, "{said:?}");
    assert_eq!(world.comin(&["run"], 0).err, "");

    // Somebody tries an older one by hand.
    boot::link(&world, "current-system", &generation(&world, 2));
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);
}

#[test]
fn a_reboot_is_announced_and_comes_when_a_poll_finds_it_due() {
    need!("git", "nix");
    let (world, _origin) = waiting(json!({"allow": true, "delay": 1}));
    let said = world.comin(&["run"], 0);
    assert_eq!(count(&said, "This machine reboots in 1 seconds for "), 1);
    assert_eq!(count(&said, REBOOTING), 0);
    let limit = Instant::now() + Duration::from_secs(60);
    while !world.path("root/run/comin/wanted").exists() {
        assert!(Instant::now() < limit);
        thread::sleep(Duration::from_millis(50));
        world.comin(&["fetch", "origin"], 0);
    }
    let said = world.comin(&["deploy"], 0);
    assert_eq!(count(&said, "This machine reboots"), 0);
    assert_eq!(count(&said, REBOOTING), 1);
}

#[test]
fn a_reboot_waits_for_its_window_and_for_the_end_of_a_suspension() {
    need!("git", "nix");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let in_hours = |hours: u64| format!("{:02}:30", (now.as_secs() / 3600 + hours) % 24);
    let closed = json!({"lower": in_hours(2), "upper": in_hours(4)});
    let policy = json!({"allow": true, "delay": 0, "window": closed});
    let (mut world, _origin) = waiting(policy);
    let run = |world: &World| {
        let mut comin = world.command(&["run"]);
        Said::of(&comin.env("TZ", "UTC0").output().unwrap())
    };
    let said = run(&world);
    assert_eq!(count(&said, "it waits until 20"), 1, "{said:?}");
    assert_eq!(count(&run(&world), "it waits until 20"), 0);
    let until = decided(&world)["retry"]["until"].clone();
    let until = until.as_str().unwrap();
    assert!(until.contains(&format!("T{}:00", in_hours(2))), "{until}");

    let open = json!({"lower": in_hours(23), "upper": in_hours(2)});
    world.configure(|config| config["reboot"]["window"] = open);
    world.comin(&["suspend", "--for", "1h"], 0);
    assert_eq!(count(&run(&world), REBOOTING), 0);
    assert!(decided(&world)["retry"]["until"].is_string());
    world.comin(&["resume"], 0);
    assert_eq!(count(&run(&world), REBOOTING), 1);
}

#[test]
fn what_somebody_tests_or_has_chosen_is_not_ended_by_a_reboot() {
    need!("git", "nix");
    let (mut world, origin) = booted(&system(""));
    world.configure(|config| config["reboot"] = json!({"allow": true, "delay": 0}));
    origin.commit("second", &system(""));
    world.comin(&["run"], 0);
    boot::boot_into(&world, &generation(&world, 1));
    assert_eq!(reasons(&world), ["another system boots next"]);
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);

    // Somebody tries an older one by hand.
    boot::boot(&world);
    boot::link(&world, "current-system", &generation(&world, 1));
    assert_eq!(reasons(&world), ["another system boots next"]);
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);
    boot::boot(&world);

    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &system(""));
    let said = world.comin(&["run"], 0);
    assert!(said.err.ends_with(" by test\n"), "{said:?}");
    assert_eq!(reasons(&world), [""; 0]);
    origin.commit("another", &System::default());
    assert_eq!(count(&world.comin(&["run"], 0), REBOOTING), 0);
    assert_eq!(reasons(&world), ["the kernel", "the initrd"]);
}
