//! Deployments that cannot strand a machine: checks, the way back, quarantine, outages, orders of an
//! operator, and what overtakes what.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::http::Server;
use crate::support::Said;
use crate::world::{await_that, building, Repository, System, World};

/// A machine whose systems are well as long as they are not called `bad…`.
fn checked() -> (World, Repository) {
    let (mut world, origin) = World::new();
    let running = world.path("root/run/current-system/nixos-version");
    world.configure(|config| {
        let command = format!("! grep bad {} >&2", running.display());
        config["health_check"] = json!({"commands": [command]});
    });
    world.comin(&["run"], 0);
    (world, origin)
}

#[test]
fn a_system_that_fails_its_check_is_rolled_back_and_stays_away_until_a_head_moves() {
    need!("git", "nix");
    let (world, origin) = checked();
    let bad = origin.commit("bad", &System::default());
    let said = world.comin(&["run"], 1);
    let error = "the health check exited with status 1: bad";
    let rolled_back = format!("Rolled back {} (origin/main): {error}", &bad[..8]);
    assert!(said.err.contains(&rolled_back), "{said:?}");
    assert_eq!(
        world.switches(),
        ["switch first", "switch bad", "switch first"]
    );
    assert_eq!(
        (world.running(), world.profile().unwrap()),
        ("first".into(), "system-1-link".into())
    );
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "rolled_back");
    assert_eq!(status["deployed"]["commit"], bad.as_str());
    let hindrance = status["hindrance"].as_str().unwrap();
    assert!(hindrance.starts_with("it is held until someone pushes: the health check"));
    assert_eq!(world.plan()["action"], "quarantined");
    assert!(world
        .comin(&["status"], 0)
        .out
        .contains("held until someone pushes"));

    // It stays away, and a fix on top of it is deployed.
    world.comin(&["run"], 1);
    assert_eq!(world.switches().len(), 3);
    origin.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "fixed");
    assert_eq!(world.status()["deployed"]["status"], "done");
}

#[test]
fn a_retry_brings_a_quarantined_commit_back() {
    need!("git", "nix");
    let (mut world, origin) = checked();
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    world.configure(|config| config["health_check"] = json!({}));
    world.comin(&["run"], 1);
    assert_eq!(world.running(), "first");
    let said = world.comin(&["retry"], 0);
    assert!(said.err.contains("The next deploy tries again what failed"));
    assert_eq!(world.plan()["action"], "deploy");
    assert_eq!(world.status()["action"], "deploy");
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "bad");
}

#[test]
fn retry_is_not_forgotten_if_the_state_cannot_be_written() {
    need!("git", "nix");
    let (mut world, origin) = checked();
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    world.configure(|config| config["health_check"] = json!({}));
    let in_the_way = world.path("root/var/lib/comin/state.json.new");
    fs::create_dir(&in_the_way).unwrap();
    world.comin(&["retry"], 0);
    let said = world.comin(&["deploy"], 1);
    assert!(said.err.contains("state.json"), "{said:?}");
    fs::remove_dir(&in_the_way).unwrap();
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "bad");
    assert!(!world.path("root/var/lib/comin/retry").exists());
}

#[test]
fn order_without_a_request_for_a_deploy_is_in_force_and_does_not_fail() {
    need!("git", "nix");
    let (mut world, origin) = checked();
    let first = origin.git(&["rev-parse", "HEAD"]);
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    let ordered = |world: &World, arguments: &[&str]| {
        let in_the_way = world.path("root/run/comin/wanted.new");
        let _ = fs::remove_file(world.path("root/run/comin/wanted"));
        fs::create_dir(&in_the_way).unwrap();
        let said = world.comin(arguments, 0);
        assert!(said.err.contains("no deploy could be started"), "{said:?}");
        fs::remove_dir(&in_the_way).unwrap();
    };
    ordered(&world, &["suspend"]);
    assert_eq!(world.status()["suspended"], true);
    ordered(&world, &["resume"]);
    assert_eq!(world.status()["suspended"], false);
    world.configure(|config| config["health_check"] = json!({}));
    ordered(&world, &["retry"]);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "bad");
    origin.git(&["reset", "--quiet", "--hard", &first]);
    world.comin(&["fetch", "origin"], 0);
    ordered(&world, &["accept", &first]);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "first");
    world.configure(|config| config["deploy_confirmer"] = json!({"mode": "manual"}));
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    ordered(&world, &["confirm"]);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn what_was_tested_is_tested_again_when_a_switch_on_top_of_it_is_rolled_back() {
    need!("git", "nix");
    let (world, origin) = checked();
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["merge", "--quiet", "--ff-only", "testing-m"]);
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    assert_eq!(
        world.switches(),
        [
            "switch first",
            "test tested",
            "switch bad",
            "boot first",
            "test tested"
        ]
    );
    assert_eq!(
        (world.running(), world.profile().unwrap()),
        ("tested".into(), "system-1-link".into())
    );
    let boots = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    let label = fs::read_to_string(Path::new(boots.trim()).join("nixos-version")).unwrap();
    assert_eq!(label, "first");
}

#[test]
fn a_test_that_fails_its_check_is_undone_without_the_boot_loader() {
    need!("git", "nix");
    let (world, origin) = checked();
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    assert_eq!(world.switches(), ["switch first", "test bad", "test first"]);
    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    world.comin(&["run"], 0);
    assert_eq!(world.switches().len(), 3, "first is already there");
}

#[test]
fn without_rollback_a_fault_is_reported_and_the_system_stays() {
    need!("git", "nix");
    let (mut world, origin) = checked();
    world.configure(|config| config["rollback"] = json!({"enable": false}));
    origin.commit("bad", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Failed to deploy"), "{said:?}");
    assert_eq!(world.running(), "bad");
}

#[test]
fn a_check_that_hangs_is_a_check_that_fails() {
    need!("git", "nix");
    let (mut world, origin) = checked();
    world.configure(|config| {
        config["health_check"] = json!({"commands": ["sleep 600 & wait"], "timeout": 1});
    });
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    let why = "the health check timed out after 1 s";
    assert!(said.err.contains(why), "{said:?}");
    assert_eq!(world.running(), "first");
}

/// A machine that follows a work tree by path, and the same by HTTP.
fn connected() -> (World, Repository, Server) {
    let (mut world, origin) = World::new();
    let server = Server::start(&world.path(""));
    world.follow("server", &format!("{}/origin/.git", server.url));
    world.configure(|config| {
        config["health_check"] = json!({"connectivity_timeout": 3});
        config["retry"] = json!({"first_delay": 1});
    });
    world.comin(&["run"], 0);
    (world, origin, server)
}

#[test]
fn an_outage_of_the_server_costs_no_deployment() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    let second = origin.commit("second", &System::default());
    world.comin(&["fetch", "origin", "server"], 0);
    server.rule(|rules| rules.away_while = Some(world.path("config.json")));
    let said = world.comin(&["deploy"], 1);
    let error = "lost connectivity: server could not be reached within 3 seconds";
    assert!(said.err.contains(error), "{said:?}");
    assert!(
        said.err
            .contains("tried again when the remote server is back"),
        "{said:?}"
    );
    assert_eq!(world.running(), "first");
    assert_eq!(world.plan()["action"], "await_remotes");

    // Nothing is tried as long as the outage lasts, and then it is deployed by itself.
    world.comin(&["run"], 1);
    assert_eq!(world.running(), "first");
    server.rule(|rules| rules.away_while = None);
    world.comin(&["fetch", "server"], 0);
    assert!(world.path("root/run/comin/wanted").exists());
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
    assert_eq!(world.status()["deployed"]["commit"], second.as_str());
}

#[test]
fn a_system_that_cuts_the_machine_off_is_the_one_to_blame() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    // A system with this file is cut off while it runs.
    let cut = world.path("root/run/current-system/cut");
    server.rule(|rules| rules.away_while = Some(cut));
    origin.commit("bad", &System::with("extra.\"cut\" = \"\";"));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Rolled back"), "{said:?}");
    assert!(said.err.contains("held until someone pushes"), "{said:?}");
    assert_eq!(world.running(), "first");
    assert_eq!(world.plan()["action"], "quarantined");
    origin.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "fixed");
}

#[test]
fn a_server_that_a_commit_moves_is_looked_for_where_it_is_now() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    let moved = world.path("root/run/current-system/moved");
    server.rule(|rules| rules.away_while = Some(moved));
    let new = Server::start(&world.path(""));
    let config = world.path("config.json");
    let arguments = format!(
        "extra.\"moved\" = \"\"; activation = \"sed -i s,{},{}, {}\";",
        server.url,
        new.url,
        config.display()
    );
    origin.commit("second", &System::with(&arguments));
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    world.comin(&["fetch", "server"], 0);
}

#[test]
fn without_a_server_a_repository_on_this_machine_is_missed() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| {
        config["health_check"] = json!({"connectivity_timeout": 0});
    });
    let (here, away) = (origin.path.display(), world.path("away"));
    let put = |from: &dyn Display, to: &dyn Display| {
        System::with(&format!(
            "activation = \"[ ! -e {from} ] || mv {from} {to}\";"
        ))
    };
    let brings_it_back = put(&away.display(), &here);
    let moves_it_away = put(&here, &away.display());
    origin.commit("back", &brings_it_back);
    world.comin(&["run"], 0);
    origin.commit("bad", &moves_it_away);
    let said = world.comin(&["run"], 1);
    let error = "lost connectivity: origin could not be reached within 0 seconds";
    assert!(said.err.contains(error), "{said:?}");
    assert_eq!(world.running(), "back");
    assert_eq!(world.plan()["action"], "quarantined");
}

#[test]
fn a_repository_that_is_away_before_is_not_missed() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| {
        config["health_check"] = json!({"connectivity_timeout": 0});
    });
    world.comin(&["fetch", "origin"], 0);
    // As the disk that it is on.
    fs::rename(&origin.path, world.path("away")).unwrap();
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "first");
}

#[test]
fn a_server_that_was_down_before_is_not_missed() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    server.rule(|rules| rules.away_while = Some(world.path("config.json")));
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

// ---- switches that end half-way

/// Whether profile, boot menu and running system are the same, and of which label they are.
#[track_caller]
fn agreed(world: &World) -> String {
    let label = |system: &Path| fs::read_to_string(system.join("nixos-version")).unwrap();
    let boots = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    let profile = label(&world.path("root/nix/var/nix/profiles/system"));
    assert_eq!(
        (&world.running(), &profile),
        (&profile, &label(Path::new(boots.trim())))
    );
    profile
}

/// A system whose switch leaves a list of units and ends with this code once the system runs.
fn half_switched(world: &World, code: u32) -> System {
    let lists = world.path("root/run/nixos");
    System::with(&format!(
        "afterActivation = \"echo web.service >{}/start-list; exit {code}\";",
        lists.display()
    ))
}

#[test]
fn half_switched_system_that_is_well_is_kept_and_reported() {
    need!("git", "nix");
    let (world, origin) = checked();
    for (code, label) in [(1, "second"), (2, "third"), (28, "fourth")] {
        let commit = origin.commit(label, &half_switched(&world, code));
        let said = world.comin(&["run"], 1);
        let wanted = format!("status {code}");
        assert!(said.err.contains(&wanted), "{said:?}");
        assert!(said.err.contains("the new system stays active"), "{said:?}");
        assert_eq!(agreed(&world), label);
        let status = world.status();
        assert_eq!(status["deployed"]["status"], "failed");
        assert_eq!(status["deployed"]["commit"], commit.as_str());
        assert_eq!(status["accepted_main"], commit.as_str());
        assert_eq!(status["running"]["commit"], commit.as_str());
        assert_eq!(world.plan()["action"], "given_up");
    }
}

#[test]
fn half_switched_system_that_is_ill_is_rolled_back() {
    need!("git", "nix");
    let (world, origin) = checked();
    origin.commit("bad", &half_switched(&world, 1));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Rolled back"), "{said:?}");
    assert_eq!(
        world.switches(),
        ["switch first", "switch bad", "switch first"]
    );
    assert_eq!(agreed(&world), "first");
    assert_eq!(world.plan()["action"], "quarantined");
}

#[test]
fn half_switched_system_that_cuts_the_machine_off_is_rolled_back() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    let cut = world.path("root/run/current-system/cut");
    server.rule(|rules| rules.away_while = Some(cut));
    let lists = world.path("root/run/nixos");
    let arguments = format!(
        "extra.\"cut\" = \"\"; afterActivation = \"echo x >{}/start-list; exit 1\";",
        lists.display()
    );
    origin.commit("bad", &System::with(&arguments));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Rolled back"), "{said:?}");
    assert_eq!(agreed(&world), "first");
    assert_eq!(world.plan()["action"], "quarantined");
}

#[test]
fn switch_that_stops_before_the_new_system_runs_is_rolled_back() {
    need!("git", "nix");
    let (world, origin) = checked();
    let lists = world.path("root/run/nixos");
    // The list is there, and the system before still runs.
    let bootloader = format!(
        "bootloader = \"echo x >{}/start-list; exit 1\";",
        lists.display()
    );
    origin.commit("second", &System::with(&bootloader));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("half-way"), "{said:?}");
    assert!(said.err.contains("Rolled back"), "{said:?}");
    assert_eq!(agreed(&world), "first");
}

#[test]
fn switch_that_activates_nothing_takes_the_boot_menu_back() {
    need!("git", "nix");
    let (world, origin) = checked();
    // The boot loader has been told when the activation cannot even be started.
    let arguments = "extra.\"activate\" = null; extra.\"init-interface-version\" = \"systemd 2\"; \
         afterActivation = \"exit 28\";";
    let no_activation =
        arguments.replace("extra.\"activate\" = null;", "activation = \"kill -9 $$\";");
    origin.commit("second", &System::with(&no_activation));
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("nothing was activated"), "{said:?}");
    assert_eq!(agreed(&world), "first");
    assert_eq!(
        world.switches(),
        ["switch first", "switch second", "boot first"]
    );
    assert_eq!(world.profile().unwrap(), "system-1-link");
    // It is tried again by order alone.
    world.comin(&["run"], 1);
    assert_eq!(world.switches().len(), 3);
}

#[test]
fn switch_that_a_reboot_completes_is_no_drift() {
    need!("git", "nix");
    let (world, origin) = checked();
    let init = "extra.\"init-interface-version\" = \"systemd 3\";";
    origin.commit("second", &System::with(init));
    world.comin(&["run"], 0);
    let status = world.status();
    assert_eq!(status["deployed"]["status"], "done");
    assert_eq!(status["deployed"]["operation"], "boot");
    assert_eq!(status["need_to_reboot"], true);
    assert_eq!(status["drift"], serde_json::Value::Null);
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
}

#[test]
fn rollback_by_hand_holds_whatever_its_switch_does() {
    need!("git", "nix");
    let (world, origin) = World::new();
    for (code, label) in [(2, "second"), (1, "third")] {
        origin.commit(&format!("before-{label}"), &half_switched(&world, code));
        world.comin(&["run"], 1);
        origin.commit(label, &System::default());
        world.comin(&["run"], 0);
        assert_eq!(agreed(&world), label);
        let said = world.comin(&["rollback"], 1);
        assert!(said.err.contains("comin stays there"), "{said:?}");
        assert_eq!(agreed(&world), format!("before-{label}"));
        // The next poll does not undo what the operator wanted.
        world.comin(&["run"], 0);
        assert_eq!(agreed(&world), format!("before-{label}"));
        fs::remove_file(world.path("root/run/nixos/start-list")).unwrap();
        world.comin(&["retry"], 0);
        world.comin(&["run"], 0);
        assert_eq!(agreed(&world), label);
    }
}

#[test]
fn rollback_by_hand_that_activates_nothing_changes_nothing() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let full = world.path("full");
    let bootloader = format!("bootloader = \"test ! -e {}\";", full.display());
    origin.commit("second", &System::with(&bootloader));
    world.comin(&["run"], 0);
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    fs::write(&full, "").unwrap();
    let said = world.comin(&["rollback"], 1);
    assert!(said.err.contains("nothing was activated"), "{said:?}");
    assert_eq!(agreed(&world), "third");
    assert_eq!(world.plan()["action"], "nothing");
}

// ---- the lock of the switch

#[test]
fn stranger_with_the_lock_of_the_switch_delays_and_is_not_blamed_on_the_commit() {
    need!("git", "nix");
    let (world, origin) = checked();
    let accepted = world.status()["accepted_main"].clone();
    let lock = world.path("root/run/nixos/switch-to-configuration.lock");
    let stranger = fs::File::options().append(true).create(true).open(&lock);
    let stranger = stranger.unwrap();
    stranger.lock().unwrap();
    let second = origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("another switch-to-configuration is still running"),
        "{said:?}"
    );
    // Nothing has moved, and nobody is to blame.
    assert_eq!(world.switches(), ["switch first"]);
    assert_eq!(
        (agreed(&world), world.profile().unwrap()),
        ("first".into(), "system-1-link".into())
    );
    assert_eq!(world.status()["accepted_main"], accepted);
    assert_eq!(world.plan()["action"], "retry");
    let said = world.comin(&["rollback", "--to", "1"], 1);
    assert!(
        said.err.contains("another switch-to-configuration"),
        "{said:?}"
    );
    drop(stranger);
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(agreed(&world), "second");
    assert_eq!(world.status()["accepted_main"], second.as_str());
}

#[test]
fn main_is_not_accepted_if_its_activation_could_not_begin() {
    need!("git", "nix");
    let (world, origin) = checked();
    let accepted = world.status()["accepted_main"].clone();
    let link = world.path("root/nix/var/nix/profiles/system-2-link");
    fs::create_dir(&link).unwrap();
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Could not begin to activate"), "{said:?}");
    assert_eq!(world.status()["accepted_main"], accepted);
    let kept = Repository::at(&world, "root/var/lib/comin/repository");
    assert_eq!(accepted, kept.git(&["rev-parse", "refs/comin/main"]).trim());
}

// ---- what overtakes what

#[test]
fn a_burst_of_commits_during_a_build_deploys_the_last_one_and_at_most_one_before() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (system, deploy, open) = building(&world, &origin);
    let mut last = String::new();
    for n in 0..20 {
        last = origin.commit(&format!("burst{n}"), &system);
        world.comin(&["fetch", "origin"], 0);
    }
    open();
    let said = Said::of(&deploy.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("Stopped building"), "{said:?}");
    let switches = world.switches();
    assert!(switches.len() <= 3, "{switches:?}");
    assert_eq!(switches.last().unwrap(), "switch burst19");
    assert_eq!(world.status()["deployed"]["commit"], last.as_str());
    let running = |attempt: &serde_json::Value| attempt["status"] == "running";
    assert!(!world.history().iter().any(running));
    // Nothing is left of the build.
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), switches);
}

#[test]
fn an_outage_during_a_build_does_not_stop_it() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let spare = world.path("spare");
    origin.git(&["clone", "--quiet", ".", spare.to_str().unwrap()]);
    world.follow("spare", spare.to_str().unwrap());
    let (_, deploy, open) = building(&world, &origin);
    fs::rename(&origin.path, world.path("away")).unwrap();
    world.comin(&["fetch", "origin"], 1);
    await_that(|| !world.path("root/run/comin/wanted").exists());
    open();
    let said = Said::of(&deploy.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.switches()[..2], ["switch first", "switch gated"]);
}

// ---- orders

#[test]
fn while_it_is_suspended_nothing_is_deployed_and_everything_is_fetched() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let said = world.comin(
        &["suspend", "--reason", "the move\x1b[2J", "--for", "3d"],
        0,
    );
    assert!(said.err.contains("comin is suspended until 20"), "{said:?}");
    let second = origin.commit("second", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(
        said.err
            .contains("is not deployed: comin is suspended until"),
        "{said:?}"
    );
    assert!(!said.err.contains('\x1b'));
    let status = world.status();
    assert_eq!(status["suspended"], true);
    assert_eq!(status["selected"]["commit"], second.as_str());
    assert_eq!(world.running(), "first");
    assert_eq!(world.plan()["action"], "suspended");

    let said = world.comin(&["resume"], 0);
    assert!(said.err.contains("comin deploys again"), "{said:?}");
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "second");
    assert_eq!(world.status()["suspended"], false);
    assert!(world
        .comin(&["resume"], 0)
        .err
        .contains("was not suspended"));
    for bad in ["0s", "-1h", "soon", "3"] {
        world.comin(&["suspend", "--for", bad], 2);
    }
    assert_eq!(world.status()["suspended"], false);
}

#[test]
fn a_suspension_that_is_over_or_damaged() {
    need!("git", "nix", "faketime");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    world.comin(&["suspend", "--for", "1h"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "first");
    // A poll notices that it is over, without any news.
    let wanted = world.path("root/run/comin/wanted");
    world.shifted("+59m", &["fetch", "origin"]);
    assert!(!wanted.exists());
    world.shifted("+61m", &["fetch", "origin"]);
    assert!(wanted.exists());
    let said = world.shifted("+61m", &["deploy"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(world.running(), "second");
    world.comin(&["resume"], 0);

    fs::write(world.path("root/var/lib/comin/suspended.json"), "{").unwrap();
    origin.commit("third", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(
        said.err
            .contains("use comin suspend or comin resume to write it anew"),
        "{said:?}"
    );
    assert_eq!(world.running(), "second");
    world.comin(&["resume"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
}

#[test]
fn a_rollback_by_hand_holds_until_a_head_moves() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let said = world.comin(&["rollback"], 1);
    assert!(
        said.err.contains("has no generation to go back from"),
        "{said:?}"
    );
    world.comin(&["run"], 0);
    let said = world.comin(&["rollback"], 1);
    assert!(
        said.err.contains("there is no generation before this one"),
        "{said:?}"
    );
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);

    let said = world.comin(&["rollback"], 0);
    assert!(said.err.contains("Rolled back to generation 2"), "{said:?}");
    assert_eq!(
        (world.running(), world.profile().unwrap()),
        ("second".into(), "system-2-link".into())
    );
    let said = world.comin(&["rollback", "--to", "7"], 1);
    assert!(
        said.err.contains("has no generation 7: it has 1, 2, 3"),
        "{said:?}"
    );
    world.comin(&["rollback", "--to", "1"], 0);
    assert_eq!(world.running(), "first");
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "first");
    let hindrance = world.status()["hindrance"].clone();
    assert_eq!(
        hindrance,
        "it is held until someone pushes: rolled back to generation 1 by hand"
    );
    // That a head moves which is not selected does not bring it back by halves.
    origin.git(&["branch", "testing-m", "HEAD~1"]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
    origin.git(&["branch", "-D", "testing-m"]);
    world.comin(&["rollback"], 0);
    assert_eq!(world.running(), "second");
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
    origin.commit("fourth", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "fourth");
}

#[test]
fn the_history_has_every_attempt_with_its_stages() {
    need!("git", "nix");
    let (world, origin) = checked();
    assert_eq!(world.history().len(), 1);
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    let history = world.history();
    let stages = |n: usize| -> Vec<String> {
        let stages = history[n]["stages"].as_array().unwrap().iter();
        stages
            .map(|s| s["stage"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(
        stages(1),
        ["evaluating", "building", "activating", "checking"]
    );
    assert_eq!(
        stages(0),
        [
            "evaluating",
            "building",
            "activating",
            "checking",
            "rolling_back"
        ]
    );
    assert_eq!(history[0]["status"], "rolled_back");
    assert_eq!(history[1]["status"], "done");
    let text = world.comin(&["history"], 0).out;
    assert!(
        text.lines().next().unwrap().contains("rolled back"),
        "{text}"
    );
}

#[test]
fn a_suspension_stops_what_is_being_built() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let (_, deploy, open) = building(&world, &origin);
    world.comin(&["suspend"], 0);
    let said = Said::of(&deploy.wait_with_output().unwrap());
    open();
    assert!(said.err.contains("Stopped building"), "{said:?}");
    assert_eq!(world.running(), "first");
    world.comin(&["resume"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "gated");
}

#[test]
fn what_a_check_leaves_behind_holds_nothing_up() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    let pid = world.path("pid");
    world.configure(|config| {
        let command = format!("sleep 600 & echo $! >{}", pid.display());
        config["health_check"] = json!({"commands": [command]});
    });
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let pid = fs::read_to_string(&pid).unwrap();
    let kill = format!("kill {}", pid.trim());
    let killed = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(killed.unwrap().success(), "it still runs");
}

#[test]
fn the_way_back_needs_no_generation() {
    need!("git", "nix");
    // A profile that was not there before.
    let (mut world, origin) = checked();
    world.configure(|config| config["profile"] = "mine".into());
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    assert_eq!(world.running(), "first");
    let mine = world.path("root/nix/var/nix/profiles/system-profiles/mine/nixos-version");
    assert_eq!(fs::read_to_string(mine).unwrap(), "first");
    let boots = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    let label = fs::read_to_string(Path::new(boots.trim()).join("nixos-version")).unwrap();
    assert_eq!(label, "first");

    // A generation that somebody has removed meanwhile.
    let (mut world, origin) = checked();
    let link = world.path("root/nix/var/nix/profiles/system-1-link");
    world.configure(|config| {
        let command = format!("rm {}; false", link.display());
        config["health_check"] = json!({"commands": [command]});
    });
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    assert_eq!(world.running(), "first");
    assert_eq!(world.profile().unwrap(), "system-3-link");
    assert_eq!(world.status()["deployed"]["status"], "rolled_back");
}

#[test]
fn what_failed_before_it_was_activated_is_tried_again() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.comin(&["run"], 0);
    world.configure(|config| config["retry"] = json!({"first_delay": 1}));
    // A directory in the way of the profile's next generation.
    let link = world.path("root/nix/var/nix/profiles/system-2-link");
    fs::create_dir(&link).unwrap();
    origin.commit("second", &System::default());
    let said = world.comin(&["run"], 1);
    assert!(said.err.contains("Could not begin to activate"), "{said:?}");
    assert_eq!(world.running(), "first");
    fs::remove_dir(&link).unwrap();
    world.comin(&["retry"], 0);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn a_test_that_runs_gives_way_to_main_by_a_rollback() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    world.comin(&["rollback"], 0);
    assert_eq!(
        (world.running(), world.profile().unwrap()),
        ("second".into(), "system-2-link".into())
    );
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn an_outage_that_comes_with_each_try_is_the_commits_fault_in_the_end() {
    need!("git", "nix");
    let (world, origin, server) = connected();
    let away = world.path("away");
    let bad = System::with(&format!("activation = \"touch {}\";", away.display()));
    server.rule(|rules| rules.away_while = Some(away.clone()));
    origin.commit("bad", &bad);
    for action in ["await_remotes", "await_remotes", "quarantined"] {
        world.comin(&["run"], 1);
        assert_eq!(world.plan()["action"], action);
        fs::remove_file(&away).unwrap();
        world.comin(&["fetch", "server"], 0);
    }
    let switches = world.switches().len();
    world.comin(&["run"], 1);
    assert_eq!(world.switches().len(), switches);
    assert_eq!(world.running(), "first");
}

#[test]
fn an_order_whose_request_was_lost_is_found_by_the_next_poll() {
    need!("git", "nix");
    let (world, origin) = checked();
    origin.commit("bad", &System::default());
    world.comin(&["run"], 1);
    let wanted = world.path("root/run/comin/wanted");
    for order in ["retry", "suspend", "resume"] {
        world.comin(&["fetch", "origin"], 0);
        assert!(!wanted.exists(), "nothing to do before {order}");
        world.comin(&[order], 0);
        fs::remove_file(&wanted).unwrap();
        world.comin(&["fetch", "origin"], 0);
        assert!(wanted.exists(), "{order}");
        let _ = world.command(&["deploy"]).status();
    }
}
