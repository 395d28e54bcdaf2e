//! What may be deployed, on real Git: signatures, rewrites, remotes that change, long histories.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{kill_process, Pid, Signal};

use crate::support::Said;
use crate::world::{await_that, building, Gate, Repository, System, World};

/// An SSH key for signing, which the machine trusts as `alice`.
pub fn trusted_signer(world: &mut World, name: &str) -> PathBuf {
    let key = ssh_key(world, name);
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = world.path("signers");
    fs::write(&signers, format!("alice {public}")).unwrap();
    world.configure(|config| config["ssh_allowed_signers_path"] = signers.to_str().unwrap().into());
    key
}

fn ssh_key(world: &World, name: &str) -> PathBuf {
    let key = world.path(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    key
}

/// From now on the repository's commits are signed.
pub fn sign(repository: &Repository, key: &std::path::Path) {
    repository.git(&["config", "gpg.format", "ssh"]);
    repository.git(&["config", "user.signingKey", key.to_str().unwrap()]);
    repository.git(&["config", "commit.gpgSign", "true"]);
}

#[test]
fn only_what_is_signed_is_deployed_and_the_signer_is_told() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    let unsigned = origin.git(&["rev-parse", "HEAD"]);
    let refusal = "it is not signed; sign it, e.g. with git commit -S";
    let said = world.comin(&["run"], 0);
    let refused = format!("Refused {} (origin/main): {refusal}\n", &unsigned[..8]);
    assert!(said.err.ends_with(&refused), "{said:?}");
    assert_eq!(world.switches(), [""; 0]);
    let status = world.status();
    assert_eq!(status["remotes"][0]["main"]["refused"], refusal);
    assert!(status["selected"].is_null() && status["accepted_main"].is_null());
    // Said once, and nothing was accepted on the way.
    assert_eq!(world.comin(&["run"], 0).err, "");

    sign(&origin, &key);
    let signed = origin.commit("signed", &System::default());
    world.comin(&["run"], 0);
    let status = world.status();
    assert_eq!(status["deployed"]["commit"], signed.as_str());
    for place in ["selected", "deployed"] {
        let name = status[place]["signer"].as_str().unwrap();
        assert!(name.starts_with("alice (SSH SHA256:"), "{name}");
    }
    let text = world.comin(&["status"], 0).out;
    assert!(text.contains("signed by alice (SSH SHA256:"), "{text}");
    // As long as nothing has moved, the status is what that deploy found: ssh-keygen is not asked again.
    let without_tools = |report: &str| {
        let output = world.command(&[report]).env("PATH", "").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let same = without_tools("status");
    assert!(
        same.starts_with("m: up to date\n") && same.contains("signed by alice"),
        "{same}"
    );
    assert!(without_tools("plan").contains("could not be checked"));

    // A testing branch is no way around, and a bad tip does not hide main.
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.git(&["config", "commit.gpgSign", "false"]);
    origin.commit("unsigned", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains(refusal), "{said:?}");
    assert_eq!(world.running(), "signed");
    // Nor is the operator: a key is what the owner asked for.
    origin.git(&["checkout", "--quiet", "main"]);
    let unsigned = origin.commit("unsigned-main", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let said = world.comin(&["accept", &unsigned], 1);
    assert!(
        said.err.contains("cannot be accepted: it is not signed"),
        "{said:?}"
    );
}

#[test]
fn a_key_that_is_trusted_from_now_on_is_met_by_the_next_poll() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let another = trusted_signer(&mut world, "alice");
    let key = ssh_key(&world, "bob");
    sign(&origin, &key);
    origin.commit("signed", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("add this one to"), "{said:?}");
    world.comin(&["fetch", "origin"], 0);
    let wanted = world.path("root/run/comin/wanted");
    assert!(!wanted.exists());

    let signers = world.path("more");
    let keys = [("alice", another), ("bob", key)].map(|(name, key)| {
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        format!("{name} {public}")
    });
    fs::write(&signers, keys.concat()).unwrap();
    world.configure(|config| config["ssh_allowed_signers_path"] = signers.to_str().unwrap().into());
    world.comin(&["fetch", "origin"], 0);
    assert!(wanted.exists());
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "signed");
}

#[test]
fn whoever_ends_comin_while_it_looks_at_a_signature_ends_the_build_too() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    let gate = Gate::new(&world);
    origin.commit("gated", &gate.system);
    let (holds, looks) = (world.path("holds"), world.path("looks"));
    let hold = format!(
        "[ ! -e {} ] || {{ touch {}; exec sleep 60; }}",
        holds.display(),
        looks.display()
    );
    let temporary = world.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut comin = world.command_with(&["run"], &[("ssh-keygen", &hold)]);
    let mut comin = comin.env("TMPDIR", &temporary).spawn().unwrap();
    gate.await_begun();
    let pid = Pid::from_child(&comin);
    let children = format!("/proc/{0}/task/{0}/children", pid.as_raw_pid());
    let nix = fs::read_to_string(children).unwrap();
    fs::write(&holds, "").unwrap();
    origin.commit("next", &System::default());
    world.comin(&["fetch", "origin"], 0);
    await_that(|| looks.exists());
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(comin.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    let stat = fs::read_to_string(format!("/proc/{}/stat", nix.trim())).unwrap_or_default();
    let is_over = stat.is_empty() || stat.contains(") Z ");
    gate.open();
    assert!(is_over, "{stat}");
    let private = fs::read_dir(world.path("root/run/comin/private"));
    let left = fs::read_dir(temporary)
        .unwrap()
        .chain(private.into_iter().flatten());
    let left = left.map(|file| file.unwrap().file_name().into_string().unwrap());
    let ours: Vec<_> = left.filter(|name| name.starts_with("comin-")).collect();
    assert_eq!(ours, [""; 0]);
}

#[test]
fn a_signed_ancestor_is_taken_only_if_the_owner_asked_for_that() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    origin.commit("signed", &System::default());
    let newest = origin.commit("newest-signed", &System::default());
    origin.git(&["config", "commit.gpgSign", "false"]);
    let tip = origin.commit("unsigned", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), [""; 0]);

    world.configure(|config| config["signed_ancestors"] = true.into());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch newest-signed"]);
    let status = world.status();
    assert_eq!(status["accepted_main"], newest.as_str());
    assert_eq!(status["selected"]["commit"], newest.as_str());
    let main = &status["remotes"][0]["main"];
    assert_eq!(main["commit"], tip.as_str());
    assert_eq!(
        main["refused"],
        "it is not signed; sign it, e.g. with git commit -S"
    );
}

/// A commit on top that is not signed, and is fetched.
fn push_unsigned(world: &World, origin: &Repository) {
    origin.git(&["config", "commit.gpgSign", "false"]);
    origin.commit("unsigned", &System::default());
    world.comin(&["fetch", "origin"], 0);
    origin.git(&["config", "commit.gpgSign", "true"]);
}

#[test]
fn an_unsigned_push_does_not_stop_the_build_of_the_signed_commit_below_it() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    let (_, mut comin, open) = building(&world, &origin);
    push_unsigned(&world, &origin);
    // The running deploy takes the request back when it has looked.
    await_that(|| !world.path("root/run/comin/wanted").exists());
    open();
    assert!(comin.wait().unwrap().success());
    assert_eq!(world.switches(), ["switch gated"]);
    assert_eq!(world.history().len(), 1);
    // It stays deployed.
    world.comin(&["run"], 0);
    let status = world.status();
    assert_eq!(status["selected"]["commit"], status["deployed"]["commit"]);
    assert_eq!(status["action"], "nothing");
    let refused = status["remotes"][0]["main"]["refused"].as_str().unwrap();
    assert!(refused.contains("not signed"), "{refused}");
}

#[test]
fn an_unsigned_push_does_not_void_a_confirmation() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    world.configure(|config| config["build_confirmer"] = serde_json::json!({"mode": "manual"}));
    sign(&origin, &key);
    let signed = origin.commit("signed", &System::default());
    world.comin(&["run"], 0);
    push_unsigned(&world, &origin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.plan()["action"], "await_confirmation");
    world.comin(&["confirm", "build", "--commit", &signed], 0);
    push_unsigned(&world, &origin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch signed"]);
    assert_eq!(world.history().len(), 1);
}

#[test]
fn an_unsigned_push_leaves_a_tested_commit_and_a_rewind_takes_it_back() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    origin.commit("signed", &System::default());
    origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    origin.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    push_unsigned(&world, &origin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "tested");
    // A commit that was never selected does not stand for the head.
    origin.git(&["reset", "--quiet", "--hard", "main"]);
    origin.commit("another", &System::default());
    push_unsigned(&world, &origin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "signed");
}

#[test]
fn an_unsigned_push_does_not_end_a_quarantine() {
    need!("git", "nix", "ssh-keygen");
    let (mut world, origin) = World::new();
    let key = trusted_signer(&mut world, "alice");
    sign(&origin, &key);
    origin.commit("first", &System::default());
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    world.comin(&["rollback"], 0);
    push_unsigned(&world, &origin);
    world.comin(&["deploy"], 0);
    assert_eq!(world.running(), "first");
    assert_eq!(world.plan()["action"], "quarantined");
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    origin.commit("third", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
}

#[test]
fn keys_that_cannot_be_read_are_a_configuration_error_and_nothing_is_touched() {
    need!("git", "nix");
    let (mut world, _) = World::new();
    world.configure(|config| {
        config["gpg_public_key_paths"] = serde_json::json!(["/nonexistent/alice.asc"]);
    });
    for command in ["run", "deploy"] {
        let said = world.comin(&[command], 2);
        let wanted = "gpg_public_key_paths: /nonexistent/alice.asc cannot be used";
        assert!(said.err.contains(wanted), "{said:?}");
    }
    assert!(!world.path("root/var/lib/comin").exists());
    // The next poll need not say it again.
    world.comin(&["fetch", "origin"], 0);
    world.comin(&["deploy"], 2);
    world.comin(&["fetch", "origin"], 0);
    assert!(!world.path("root/run/comin/wanted").exists());
    let refused = world.status()["remotes"][0]["main"]["refused"].clone();
    let refused = refused.as_str().unwrap();
    assert!(refused.starts_with("its signature could not be checked: gpg_public_key_paths"));
    // A fetch decides nothing, and a check is made where the keys need not be.
    world.comin(&["fetch", "origin"], 0);
    world.comin(
        &["check-config", world.path("config.json").to_str().unwrap()],
        0,
    );
}

#[test]
fn a_rewrite_is_refused_until_the_operator_accepts_it_once() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    let second = origin.commit("second", &System::default());
    let said = world.comin(&["run"], 0);
    assert!(said
        .err
        .contains("First deployment: comin trusts this main"));

    origin.git(&["reset", "--quiet", "--hard", &first]);
    let rewritten = origin.commit("rewritten", &System::default());
    let said = world.comin(&["run"], 0);
    let cure = format!("→ sudo comin accept {}\n", &rewritten[..8]);
    assert!(said.err.contains(&cure), "{said:?}");
    assert_eq!(world.plan()["candidates"][0]["verdict"], "refused");

    // The latest order counts: to keep the accepted main takes back an order to accept another one.
    world.comin(&["accept", &rewritten], 0);
    origin.git(&["reset", "--quiet", "--hard", &second]);
    world.comin(&["fetch", "origin"], 0);
    world.comin(&["accept", &second], 0);
    origin.git(&["reset", "--quiet", "--hard", &rewritten]);
    world.comin(&["run"], 0);
    assert_eq!(world.status()["accepted_main"], second.as_str());

    // Only what a remote has as its main now.
    let said = world.comin(&["accept", &first], 1);
    let heads = format!("No main is at {first:?}: origin/main is at {rewritten}\n");
    assert!(said.err.ends_with(&heads), "{said:?}");
    let said = world.comin(&["accept", "HEAD"], 1);
    assert!(said.err.contains("at least 7 digits"), "{said:?}");
    assert_eq!(world.status()["accepted_main"], second.as_str());

    world.comin(&["accept", &rewritten[..6]], 1);
    // As git log --oneline has it.
    let said = world.comin(&["accept", &rewritten[..7]], 0);
    assert!(
        said.err.contains("is accepted as main, and deployed next"),
        "{said:?}"
    );
    assert!(world.path("root/run/comin/wanted").exists());
    // What it is going to do is known before it is done.
    let plan = world.plan();
    assert_eq!(
        (&plan["action"], &plan["target"]["commit"]),
        (&"deploy".into(), &rewritten.as_str().into())
    );
    assert_eq!(world.status()["selected"]["commit"], rewritten.as_str());
    assert_eq!(world.running(), "second");
    let said = world.comin(&["deploy"], 0);
    let logged =
        format!("Main {rewritten} (origin/main) is accepted as requested, in place of {second}");
    assert!(said.err.contains(&logged), "{said:?}");
    assert_eq!(world.running(), "rewritten");
    assert_eq!(world.status()["accepted_main"], rewritten.as_str());
    let said = world.comin(&["accept", &rewritten], 0);
    assert!(
        said.err.contains("is the accepted main already"),
        "{said:?}"
    );

    // Once: the way back is a rewrite of its own.
    origin.git(&["reset", "--quiet", "--hard", &second]);
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("Refused"), "{said:?}");
    assert_eq!(world.running(), "rewritten");
}

/// The one command that the status names, on a line of its own, without `sudo`.
fn named_command(world: &World) -> Vec<String> {
    let status = world.comin(&["status"], 0).out;
    let lines = status.lines().map(str::trim);
    let commands: Vec<&str> = lines
        .filter_map(|line| Some(line.split_once("→ sudo comin ")?.1))
        .collect();
    let [command] = commands[..] else {
        panic!("{status}");
    };
    command.split(' ').map(str::to_string).collect()
}

/// Carries that command out as it stands.
fn do_as_told(world: &World) {
    let command = named_command(world);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    world.comin(&command, 0);
    world.comin(&["run"], 0);
}

/// A bare `origin`, and a work tree that is followed as well.
fn origin_and_work_tree() -> (World, Repository) {
    let mut world = World::empty();
    let tree = world.repository("tree");
    tree.commit("first", &System::default());
    let origin = world.path("origin.git").display().to_string();
    tree.git(&["clone", "--quiet", "--bare", ".", &origin]);
    tree.git(&["remote", "add", "origin", &origin]);
    tree.git(&["fetch", "--quiet", "origin"]);
    tree.git(&["branch", "--quiet", "--set-upstream-to=origin/main"]);
    world.follow("origin", &origin);
    world.follow("local", tree.path.to_str().unwrap());
    world.comin(&["run"], 0);
    (world, tree)
}

/// Somebody else's push: a commit on top of what `origin` has.
fn push_of_another(world: &World) {
    let other = Repository::at(world, "other");
    let origin = world.path("origin.git").display().to_string();
    Repository::at(world, "tree").git(&["clone", "--quiet", &origin, other.path.to_str().unwrap()]);
    fs::write(other.path.join("notes"), "").unwrap();
    other.commit_all("notes");
    other.git(&["push", "--quiet", "origin", "main"]);
}

#[test]
fn a_commit_that_was_deployed_may_be_amended_and_the_status_names_the_command() {
    need!("git", "nix");
    let (world, tree) = origin_and_work_tree();
    let second = tree.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");

    let amended = tree.amend("amended", &System::default());
    let said = world.comin(&["run"], 0);
    let command = format!("→ sudo comin accept {}\n", &amended[..8]);
    assert!(said.err.contains(&command), "{said:?}");
    let status = world.status();
    let refused = status["remotes"][1]["main"]["refused"].as_str().unwrap();
    let accepted = format!("accepted main {} (local/main)", &second[..8]);
    assert!(refused.contains(&accepted), "{refused}");
    let cure = format!("sudo comin accept {}", &amended[..8]);
    assert_eq!(status["remotes"][1]["main"]["cure"], cure);
    assert!(status["remotes"][0]["main"]["cure"].is_null());
    do_as_told(&world);
    assert_eq!(world.running(), "amended");
}

#[test]
fn a_commit_that_was_deployed_may_be_rebased_and_pushed_and_the_status_names_the_command() {
    need!("git", "nix");
    let (world, tree) = origin_and_work_tree();
    tree.commit("second", &System::default());
    world.comin(&["run"], 0);
    tree.amend("amended", &System::default());
    world.comin(&["run"], 0);
    push_of_another(&world);
    tree.git(&["pull", "--quiet", "--rebase"]);
    tree.git(&["push", "--quiet"]);
    let pushed = tree.git(&["rev-parse", "HEAD"]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    assert_eq!(named_command(&world), ["accept", &pushed[..8]]);
    do_as_told(&world);
    assert_eq!(world.running(), "amended");
    assert_eq!(world.status()["accepted_main"], pushed.as_str());
    // From here on, pushes are deployed as ever.
    tree.commit("third", &System::default());
    tree.git(&["push", "--quiet"]);
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "third");
}

#[test]
fn a_work_tree_for_testing_only_may_be_rewritten_at_any_time() {
    need!("git", "nix");
    let (mut world, tree) = origin_and_work_tree();
    world.configure(|config| {
        config["remotes"][1]["branches"] = serde_json::json!({"main": {"name": ""}});
    });
    tree.git(&["checkout", "--quiet", "-b", "testing-m"]);
    tree.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
    tree.amend("amended", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "amended");
    push_of_another(&world);
    tree.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    tree.git(&["push", "--quiet", "origin", "HEAD:main"]);
    let pushed = tree.git(&["rev-parse", "HEAD"]);
    world.comin(&["run"], 0);
    let status = world.status();
    assert_eq!(status["accepted_main"], pushed.as_str());
    assert_eq!(status["deployed"]["operation"], "switch");
    assert_eq!(
        status["remotes"][0]["main"]["refused"],
        serde_json::Value::Null
    );
}

#[test]
fn a_remote_that_cannot_be_fetched_offers_nothing_to_accept() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let head = origin.git(&["rev-parse", "HEAD"]);
    fs::rename(&origin.path, world.path("elsewhere")).unwrap();
    world.comin(&["fetch", "origin"], 1);
    let said = world.comin(&["accept", &head], 1);
    assert!(said.err.contains("No remote could be fetched"), "{said:?}");
}

#[test]
fn the_accepted_main_survives_the_loss_of_state_or_mirror_and_not_of_both() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    let second = origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["reset", "--quiet", "--hard", &first]);
    let state = world.path("root/var/lib/comin/state.json");
    let mirror = world.path("root/var/lib/comin/repository");

    fs::remove_file(&state).unwrap();
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("Refused"), "{said:?}");
    fs::remove_dir_all(&mirror).unwrap();
    let said = world.comin(&["run"], 0);
    assert!(!said.err.contains("Deploying"), "{said:?}");
    assert_eq!(world.status()["accepted_main"], second.as_str());

    fs::remove_file(&state).unwrap();
    fs::remove_dir_all(&mirror).unwrap();
    let said = world.comin(&["run"], 0);
    assert!(said
        .err
        .contains("First deployment: comin trusts this main"));
    assert_eq!(world.running(), "first");
}

#[test]
fn the_order_of_fetches_does_not_matter() {
    need!("git", "nix");
    let plans = [["origin", "local"], ["local", "origin"]].map(|order| {
        let (mut world, origin) = World::new();
        world.comin(&["run"], 0);
        origin.git(&[
            "clone",
            "--quiet",
            ".",
            world.path("local").to_str().unwrap(),
        ]);
        world.follow("local", world.path("local").to_str().unwrap());
        origin.commit("on-origin", &System::default());
        let local = Repository::at(&world, "local");
        local.git(&["checkout", "--quiet", "-b", "testing-m"]);
        local.commit("tested", &System::default());
        for remote in order {
            world.comin(&["fetch", remote], 0);
        }
        world.comin(&["deploy"], 0);
        (world.switches(), world.running())
    });
    assert_eq!(plans[0], plans[1]);
    assert_eq!(plans[0].1, "on-origin");
}

#[test]
fn a_renamed_remote_keeps_the_accepted_main_and_leaves_nothing_in_the_mirror() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    world.comin(&["run"], 0);
    world.configure(|config| config["remotes"][0]["name"] = "upstream".into());
    origin.git(&["checkout", "--quiet", "--orphan", "another"]);
    origin.commit("unrelated", &System::default());
    origin.git(&["branch", "--quiet", "-M", "main"]);
    let said = world.comin(&["run"], 0);
    assert!(said
        .err
        .contains("diverged: it does not contain the accepted main"));
    assert_eq!(world.status()["accepted_main"], first.as_str());
    assert_eq!(world.running(), "first");
    let refs = world.mirror_refs();
    assert_eq!(
        refs,
        [
            "refs/comin/main",
            "refs/comin/target",
            "refs/remotes/upstream/main"
        ]
    );
}

#[test]
fn a_remote_may_be_called_as_its_server() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let path = origin.path.to_str().unwrap();
    world.follow("git.example.org", path);
    world.follow("git.example.org.timer", path);
    world.follow("git", path);
    for remote in ["git.example.org", "git.example.org.timer", "git", "origin"] {
        world.comin(&["fetch", remote], 0);
    }
    let first = origin.git(&["rev-parse", "HEAD"]);
    assert_eq!(world.mirrored("git.example.org/main"), Some(first.clone()));
    world.configure(|config| {
        let remotes = config["remotes"].as_array_mut().unwrap();
        remotes.retain(|remote| remote["name"] == "git.example.org");
    });
    let plan = world.plan();
    assert_eq!(plan["action"], "deploy", "{plan}");
    assert_eq!(plan["candidates"][0]["remote"], "git.example.org", "{plan}");
    world.comin(&["run", "git.example.org"], 0);
    assert_eq!(world.running(), "first");
    assert_eq!(
        world.mirror_refs(),
        [
            "refs/comin/main",
            "refs/comin/target",
            "refs/remotes/git.example.org/main"
        ]
    );
    let status = world.status();
    assert_eq!(status["deployed"]["remote"], "git.example.org");
    assert_eq!(status["remotes"][0]["main"]["commit"], first.as_str());
    assert!(status["remotes"][0]["fetched_at"].is_string());
    assert!(world
        .path("root/run/comin/remotes/git.example.org.json")
        .exists());
    let said = world.comin(&["status"], 0);
    assert!(said.out.contains("git.example.org/main"), "{said:?}");

    world.configure(|config| config["remotes"][0]["name"] = "git".into());
    world.comin(&["run"], 0);
    assert_eq!(
        world.mirror_refs(),
        [
            "refs/comin/main",
            "refs/comin/target",
            "refs/remotes/git/main"
        ]
    );
}

#[test]
fn main_and_testing_may_have_the_same_name() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    world.configure(|config| {
        config["remotes"][0]["branches"] = serde_json::json!({"testing": {"name": "main"}});
    });
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch second"]);
    let refused = world.status()["remotes"][0]["testing"]["refused"].clone();
    assert_eq!(refused, "it has nothing that main does not have");
}

/// 100,000 commits on top of the repository's main, each tenth thousand an octopus merge of three
/// lines; returns the last one.
fn grow(repository: &Repository) -> String {
    let first = repository.git(&["rev-parse", "HEAD"]);
    let mut stream = String::new();
    for n in 1..=100_000 {
        let from = if n == 1 {
            first.clone()
        } else {
            format!(":{}", n - 1)
        };
        let branch = if n % 10_000 == 0 {
            for side in 1..=2 {
                let mark = n * 10 + side;
                write!(
                    stream,
                    "commit refs/heads/side\nmark :{mark}\ncommitter a <a@example.org> {n} +0000\ndata 1\nx\nfrom {first}\n",
                )
                .unwrap();
            }
            format!("merge :{}\nmerge :{}\n", n * 10 + 1, n * 10 + 2)
        } else {
            String::new()
        };
        write!(
            stream,
            "commit refs/heads/main\nmark :{n}\ncommitter a <a@example.org> {n} +0000\ndata 1\nx\nfrom {from}\n{branch}",
        )
        .unwrap();
    }
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet", "--force"])
        .current_dir(&repository.path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = import.stdin.take().unwrap();
    input.write_all(stream.as_bytes()).unwrap();
    drop(input);
    assert!(import.wait().unwrap().success());
    repository.git(&["rev-parse", "main"])
}

#[test]
fn a_hundred_thousand_commits_with_octopus_merges_are_one_step() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    world.comin(&["run"], 0);
    origin.git(&["branch", "--quiet", "testing-m"]);
    let last = grow(&origin);
    world.comin(&["fetch", "origin"], 0);
    let plan = world.plan();
    assert_eq!(plan["target"]["commit"], last.as_str());
    assert_eq!(
        plan["candidates"][1]["refused"],
        "it has nothing that main does not have"
    );

    // And back again: from its side each of them is behind.
    let state = world.path("root/var/lib/comin/state.json");
    let text = fs::read_to_string(&state).unwrap();
    let accepted = format!("\"accepted_main\": \"{first}\"");
    assert!(text.contains(&accepted));
    let text = text.replace(&accepted, &format!("\"accepted_main\": \"{last}\""));
    fs::write(&state, text).unwrap();
    origin.git(&["update-ref", "refs/heads/main", &format!("{last}~50000")]);
    world.comin(&["fetch", "origin"], 0);
    let refused = world.plan()["candidates"][0]["refused"].clone();
    assert!(
        refused.as_str().unwrap().starts_with("rewound"),
        "{refused}"
    );
}

#[test]
fn a_person_is_told_each_time_what_stands_in_the_way() {
    need!("git", "nix", "script");
    let (world, origin) = World::new();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let told = |said: &str| said.matches("Refused").count();
    assert_eq!(told(&world.comin(&["run"], 0).err), 1);
    assert_eq!(told(&world.comin(&["run"], 0).err), 0);
    for _ in 0..2 {
        let said = Said::of(&world.on_terminal("run").output().unwrap());
        assert_eq!((said.code, told(&said.out)), (Some(0), 1), "{said:?}");
    }
    assert_eq!(told(&world.comin(&["run"], 0).err), 0);
}
