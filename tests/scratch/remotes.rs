//! What is fetched, from where, and what is said about it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::http::Server;
use crate::support::{is_root, skip, Said};
use crate::world::{await_that, Repository, System, World, SHA256};

/// A repository with one commit and no flake: for what ends before an evaluation.
fn plain(world: &World, name: &str) -> (Repository, String) {
    let repository = world.repository(name);
    let commit = repository.commit_all("one");
    (repository, commit)
}

fn fetched(url: impl Fn(&World, &Repository) -> String) {
    let mut world = World::empty();
    let (repository, commit) = plain(&world, "origin");
    let url = url(&world, &repository);
    world.follow("origin", &url);
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(commit));
}

#[test]
fn every_kind_of_local_repository() {
    need!("git");
    fetched(|_, origin| origin.path.display().to_string());
    fetched(|_, origin| format!("{}/", origin.path.display()));
    fetched(|_, origin| format!("file://{}", origin.path.display()));
    fetched(|world, origin| {
        let bare = world.path("bare.git").display().to_string();
        origin.git(&["clone", "--quiet", "--bare", ".", &bare]);
        bare
    });
    fetched(|world, origin| {
        let spaced = world.path("with space").display().to_string();
        origin.git(&["clone", "--quiet", ".", &spaced]);
        format!("file://{}", spaced.replace(' ', "%20"))
    });
    fetched(|world, origin| {
        let linked = world.path("linked").display().to_string();
        origin.git(&["worktree", "add", "--quiet", "-b", "other", &linked]);
        linked
    });
    fetched(|_, origin| {
        origin.git(&["pack-refs", "--all"]);
        origin.path.display().to_string()
    });
    fetched(|_, origin| {
        // Only libgit2 can tell.
        origin.git(&["branch", "--quiet", "--move", "main", "real"]);
        origin.git(&["symbolic-ref", "refs/heads/main", "refs/heads/real"]);
        origin.path.display().to_string()
    });
}

#[test]
fn a_repository_of_another_user() {
    need!("git");
    if !is_root() {
        skip("only root can give a repository away");
        return;
    }
    fetched(|_, origin| {
        let path = origin.path.display().to_string();
        let status = Command::new("chown")
            .args(["-R", "65534:65534", &path])
            .status();
        assert!(status.unwrap().success());
        path
    });
}

#[test]
fn a_repository_with_sha256_objects_is_a_sentence() {
    need!("git");
    let mut world = World::empty();
    let origin = world.repository_with("origin", "sha256");
    origin.commit_all("one");
    world.follow("origin", origin.path.to_str().unwrap());
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(said.err.contains(SHA256), "{said:?}");
    assert!(!said.err.contains("class="), "{said:?}");
}

#[test]
fn a_repository_that_never_answers_is_given_up() {
    need!("git", "mkfifo");
    for is_object in [false, true] {
        let mut world = World::empty();
        let (origin, head) = plain(&world, "origin");
        let (folder, file) = head.split_at(2);
        let place = if is_object {
            origin.path.join(".git/objects").join(folder).join(file)
        } else {
            origin.path.join(".git/objects/info/alternates")
        };
        let _ = fs::remove_file(&place);
        // Whoever opens it waits for somebody to write into it.
        let made = Command::new("mkfifo").arg(&place).status();
        assert!(made.unwrap().success());
        world.follow("origin", origin.path.to_str().unwrap());
        world.configure(|config| config["remotes"][0]["timeout"] = json!(1));
        let said = world.comin(&["fetch", "origin"], 1);
        assert!(said.err.contains("timed out after 1 seconds"), "{said:?}");
        // Nor does anything wait on for it, once what was killed is dead.
        let path = origin.path.to_str().unwrap();
        await_that(|| {
            let processes = fs::read_dir("/proc").unwrap();
            let commands =
                processes.filter_map(|it| fs::read(it.unwrap().path().join("cmdline")).ok());
            let mut commands = commands.map(|it| String::from_utf8_lossy(&it).into_owned());
            !commands.any(|command| command.contains(path))
        });
    }
}

#[test]
fn a_repository_may_have_anything_in_place_of_its_files() {
    need!("git", "mkfifo", "truncate");
    for (file, make, says) in [
        ("refs/heads/main", "mkfifo", "it is no file"),
        ("refs/heads/main", "ln -s /dev/zero", "it is no file"),
        ("refs/heads/main", "truncate --size=1T", "it has more than"),
        ("commondir", "mkfifo", "it is no file"),
        ("packed-refs", "ln -s /dev/zero", "it is no file"),
    ] {
        let mut world = World::empty();
        let (origin, _) = plain(&world, "origin");
        if file == "packed-refs" {
            fs::remove_file(origin.path.join(".git/refs/heads/main")).unwrap();
        }
        let script = format!("rm -f .git/{file} && {make} .git/{file}");
        let made = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&origin.path)
            .status();
        assert!(made.unwrap().success());
        world.follow("origin", origin.path.to_str().unwrap());
        let said = world.comin(&["fetch", "origin"], 1);
        assert!(said.err.contains(says), "{make} {file}: {said:?}");
    }
}

#[test]
fn nobody_reads_by_a_repository_what_only_root_may_read() {
    need!("git");
    let mut world = World::empty();
    let (origin, _) = plain(&world, "origin");
    let secret = world.path("secret");
    fs::write(&secret, "s3cret\n").unwrap();
    world.follow("origin", origin.path.to_str().unwrap());
    // Git quotes the one as it warns, and the other as it dies.
    symlink(&secret, origin.path.join(".git/objects/info/alternates")).unwrap();
    symlink(&secret, origin.path.join(".git/shallow")).unwrap();
    let said = world.comin(&["fetch", "origin"], 1);
    assert!(
        said.err.contains("git fetch exited with status"),
        "{said:?}"
    );
    let status = world.comin(&["status", "--json"], 0);
    assert!(
        !said.err.contains("s3cret") && !status.out.contains("s3cret"),
        "{said:?}"
    );
    let said = world.comin(&["--debug", "fetch", "origin"], 1);
    assert!(said.err.contains("s3cret"), "{said:?}");
}

#[test]
fn a_branch_whose_name_is_no_text_is_in_nobodys_way() {
    need!("git", "bash");
    let mut world = World::empty();
    let (origin, commit) = plain(&world, "origin");
    // Git lists it first, where there is no HEAD.
    let script = r"git update-ref $'refs/heads/caf\xe9' HEAD && git tag $'\xff' && git symbolic-ref HEAD refs/heads/none";
    let made = Command::new("bash")
        .args(["-c", script])
        .current_dir(&origin.path)
        .status();
    assert!(made.unwrap().success());
    let server = Server::start(&world.path(""));
    let urls = [
        origin.path.display().to_string(),
        format!("{}/origin/.git", server.url),
    ];
    for (name, url) in ["local", "server"].into_iter().zip(urls) {
        world.follow(name, &url);
        world.comin(&["fetch", name], 0);
        assert_eq!(
            world.mirrored(&format!("{name}/main")).as_ref(),
            Some(&commit)
        );
    }
}

#[test]
fn an_idle_poll_writes_nothing_says_nothing_and_asks_for_nothing() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["fetch", "origin"], 0);
    let wanted = world.path("root/run/comin/wanted");
    assert!(wanted.exists());
    world.comin(&["deploy"], 0);
    assert!(!wanted.exists());

    let before = world.files("root/var");
    let mut comin = world.command(&["fetch", "origin"]);
    // It runs no other program.
    let said = Said::of(&comin.env("PATH", "/nonexistent").output().unwrap());
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), "", "")
    );
    assert_eq!(world.files("root/var"), before);
    assert!(!wanted.exists());

    let second = origin.commit("second", &System::default());
    let said = world.comin(&["fetch", "origin"], 0);
    assert_eq!(said.err, format!("origin/main is at {}\n", &second[..8]));
    assert!(wanted.exists());
}

#[test]
fn head_that_moves_during_a_fetch_is_fetched_where_it_is_then() {
    need!("git");
    for known in [false, true] {
        let mut world = World::empty();
        let (origin, _) = plain(&world, "origin");
        world.follow("origin", origin.path.to_str().unwrap());
        if known {
            world.comin(&["fetch", "origin"], 0);
            origin.commit_all("second");
        }
        let script = format!(
            "case \" $* \" in *' fetch '*) cd '{}' && [ ! -e moved ] && touch moved &&\n\
             git -c user.name=a -c user.email=a@b commit --quiet --amend --allow-empty -m rewritten &&\n\
             git reflog expire --expire=now --all && git gc --quiet --prune=now; cd - >/dev/null;; esac",
            origin.path.display()
        );
        let mut comin = world.command_with(&["fetch", "origin"], &[("git", &script)]);
        let said = Said::of(&comin.output().unwrap());
        assert_eq!(said.code, Some(0), "known: {known}: {}", said.err);
        let head = origin.git(&["rev-parse", "main"]);
        assert_eq!(world.mirrored("origin/main").as_ref(), Some(&head));
    }
}

#[test]
fn a_boot_asks_for_a_deploy_although_no_head_has_moved() {
    need!("git", "nix");
    let (world, _) = World::new();
    world.comin(&["run"], 0);
    fs::remove_dir_all(world.path("root/run/comin")).unwrap();
    world.comin(&["fetch", "origin"], 0);
    assert!(world.path("root/run/comin/wanted").exists());
    world.comin(&["deploy"], 0);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn only_the_followed_branches_are_stored_and_deleted_ones_pruned() {
    need!("git");
    let mut world = World::empty();
    let (origin, _) = plain(&world, "origin");
    origin.git(&["checkout", "--quiet", "-b", "feature"]);
    let feature = origin.commit_all("feature");
    origin.git(&["tag", "v1"]);
    origin.git(&["checkout", "--quiet", "-b", "testing-m", "main"]);
    origin.commit_all("testing");
    world.follow("origin", origin.path.to_str().unwrap());
    world.comin(&["fetch", "origin"], 0);
    let mirror = world.path("root/var/lib/comin/repository");
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("--git-dir")
            .arg(&mirror)
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let refs = git(&["for-each-ref", "--format=%(refname)"]).1;
    assert_eq!(
        refs,
        "refs/remotes/origin/main\nrefs/remotes/origin/testing-m\n"
    );
    assert!(!git(&["cat-file", "-e", &feature]).0);

    origin.git(&["checkout", "--quiet", "main"]);
    origin.git(&["branch", "--quiet", "-D", "testing-m"]);
    let said = world.comin(&["fetch", "origin"], 0);
    assert_eq!(said.err, "origin/testing-m is gone\n");
    assert_eq!(
        git(&["for-each-ref", "--format=%(refname)"]).1,
        "refs/remotes/origin/main\n"
    );
}

#[test]
fn a_head_that_cannot_be_read_is_named_and_the_next_fetch_brings_it() {
    need!("git");
    let mut world = World::empty();
    let (origin, main) = plain(&world, "origin");
    world.follow("origin", origin.path.to_str().unwrap());
    world.comin(&["fetch", "origin"], 0);
    let reference = "refs/remotes/origin/main";
    let file = world.path("root/var/lib/comin/repository").join(reference);
    fs::write(&file, "damaged").unwrap();
    let refused = world.status()["remotes"][0]["main"]["refused"].clone();
    assert!(refused.as_str().unwrap().contains(reference), "{refused}");
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.status()["remotes"][0]["main"]["commit"], json!(main));
}

/// Git keeps a branch in a file by its name, so there is never both `release` and `release/test`.
#[test]
fn a_main_and_a_testing_branch_below_its_name_take_turns() {
    need!("git");
    for pack in [false, true] {
        let mut world = World::empty();
        let (origin, main) = plain(&world, "origin");
        origin.git(&["branch", "release"]);
        world.follow("origin", origin.path.to_str().unwrap());
        world.configure(|config| {
            config["remotes"][0]["branches"] =
                json!({"main": {"name": "release"}, "testing": {"name": "release/test"}});
        });
        let fetch = || {
            if pack {
                origin.git(&["pack-refs", "--all"]);
            }
            world.comin(&["fetch", "origin"], 0);
            let status = world.status();
            ["main", "testing"].map(|branch| status["remotes"][0][branch]["commit"].clone())
        };
        for _ in 0..2 {
            assert_eq!(fetch(), [json!(main), json!(null)]);
            assert_eq!(world.mirror_refs(), ["refs/remotes/origin/release"]);
            origin.git(&["branch", "-D", "release"]);
            origin.git(&["branch", "release/test", "main"]);
            assert_eq!(fetch(), [json!(null), json!(main)]);
            assert_eq!(world.mirror_refs(), ["refs/remotes/origin/release/test"]);
            origin.git(&["branch", "-D", "release/test"]);
            origin.git(&["branch", "release", "main"]);
        }
    }
}

#[test]
fn an_unreachable_remote_is_reported_once_and_once_when_it_is_back() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let local = world.repository("local");
    local.git(&["pull", "--quiet", origin.path.to_str().unwrap(), "main"]);
    let ahead = local.commit("ahead", &System::default());
    world.follow("local", local.path.to_str().unwrap());
    world.comin(&["run"], 0);
    assert_eq!(world.status()["accepted_main"], ahead.as_str());

    fs::rename(&local.path, world.path("away")).unwrap();
    // The journal is told once, a person who asks each time.
    let journal = world.path("journal");
    let told = || {
        let journal = fs::File::create(&journal).unwrap();
        let file = journal.metadata().unwrap();
        let mut comin = world.command(&["fetch", "local"]);
        comin.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
        assert_eq!(comin.stderr(journal).status().unwrap().code(), Some(1));
        fs::read_to_string(world.path("journal")).unwrap()
    };
    let first = told();
    assert_eq!(first.lines().count(), 1, "{first}");
    assert!(
        first.starts_with("<4>Failed to fetch local from "),
        "{first}"
    );
    for _ in 0..2 {
        assert_eq!(told(), "");
        let said = world.comin(&["fetch", "local"], 1);
        assert!(said.err.contains("Failed to fetch local"), "{said:?}");
    }
    let status = world.status();
    let remote = &status["remotes"][1];
    assert!(
        remote["error"]
            .as_str()
            .unwrap()
            .contains("is not a Git repository"),
        "{remote}"
    );
    assert!(remote["fetched_at"].is_string());
    assert_eq!(remote["main"]["commit"], ahead.as_str());
    assert_eq!(remote["main"]["refused"], "the remote cannot be fetched");
    // Its heads do not count, the others do, and main does not go back.
    world.comin(&["run", "origin"], 0);
    assert_eq!(world.running(), "ahead");

    fs::rename(world.path("away"), &local.path).unwrap();
    let said = world.comin(&["fetch", "local"], 0);
    assert_eq!(said.err, "local can be fetched again\n");
    assert!(world.status()["remotes"][1]["error"].is_null());
}

#[test]
fn all_remotes_unreachable_is_a_failure_one_of_two_is_not() {
    need!("git", "nix");
    let (mut world, _) = World::new();
    world.follow("gone", "/nonexistent/repository");
    let said = world.comin(&["fetch", "gone"], 1);
    assert!(
        said.err
            .contains("Failed to fetch gone from /nonexistent/repository"),
        "{said:?}"
    );
    world.comin(&["run", "gone"], 1);
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first"]);
}

#[test]
fn a_fix_on_one_remote_is_deployed_past_the_broken_commit_of_another() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let local = world.repository("local");
    local.git(&["pull", "--quiet", origin.path.to_str().unwrap(), "main"]);
    world.follow("local", local.path.to_str().unwrap());
    world.comin(&["run"], 0);
    origin.commit("broken", &System::instead("throw \"broken\""));
    world.comin(&["run"], 1);
    local.git(&["pull", "--quiet", origin.path.to_str().unwrap(), "main"]);
    local.commit("fixed", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.switches(), ["switch first", "switch fixed"]);
    // Neither of two that have diverged contains the other.
    origin.git(&["pull", "--quiet", local.path.to_str().unwrap(), "main"]);
    origin.commit("of-the-first", &System::default());
    local.commit("of-the-second", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "of-the-first");
}

#[test]
fn a_changed_url_replaces_the_remote() {
    need!("git", "nix");
    let (mut world, _) = World::new();
    world.comin(&["run"], 0);
    let accepted = world.status()["accepted_main"].clone();
    let (other, commit) = plain(&world, "other");
    world.configure(|config| config["remotes"][0]["url"] = json!(other.path));
    // Before it has been fetched, what the old one had does not count.
    let status = world.status();
    assert_eq!(
        status["remotes"][0]["main"]["refused"],
        "the remote has not been fetched yet"
    );
    assert!(status["remotes"][0]["fetched_at"].is_null());
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("diverged"), "{said:?}");
    assert_eq!(world.mirrored("origin/main"), Some(commit));
    assert_eq!(world.status()["accepted_main"], accepted);
}

#[test]
fn a_damaged_mirror_is_made_anew_without_losing_the_accepted_main() {
    need!("git", "nix");
    let (world, origin) = World::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let mirror = world.path("root/var/lib/comin/repository");
    let damages: [&dyn Fn(); 7] = [
        &|| fs::write(mirror.join("config"), "\0").unwrap(),
        &|| fs::remove_dir_all(mirror.join("objects")).unwrap(),
        &|| fs::write(mirror.join("HEAD"), "\0").unwrap(),
        &|| fs::write(mirror.join("commondir"), "objects/..\n").unwrap(),
        &|| {
            fs::remove_file(mirror.join(".git")).unwrap();
            fs::create_dir(mirror.join(".git")).unwrap();
        },
        &|| fs::write(mirror.join("refs/remotes/origin/main"), "garbage").unwrap(),
        &|| {
            let truncate = Command::new("sh")
                .args(["-c", "find objects -type f | xargs chmod +w && find objects -type f -exec truncate -s 20 {} +"])
                .current_dir(&mirror)
                .status();
            assert!(truncate.unwrap().success());
        },
    ];
    for (n, damage) in damages.iter().enumerate() {
        damage();
        let label = format!("damage-{n}");
        origin.commit(&label, &System::default());
        let said = world.comin(&["run"], 0);
        assert!(
            said.err.contains("The mirror is damaged and is made anew"),
            "{said:?}"
        );
        assert_eq!(world.running(), label);
    }
    // The protection against going back has survived.
    fs::remove_dir_all(&mirror).unwrap();
    origin.git(&["reset", "--quiet", "--hard", &first]);
    let said = world.comin(&["run"], 0);
    assert!(said.err.contains("Refused"), "{said:?}");
    assert_eq!(world.running(), "damage-6");
}

#[test]
fn a_file_missing_in_the_mirror_is_found_when_the_evaluation_fails() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    origin.commit("second", &System::default());
    world.comin(&["fetch", "origin"], 0);
    let blob = origin.git(&["rev-parse", "HEAD:flake.nix"]);
    let mirror = world.path("root/var/lib/comin/repository");
    // Out of the packs, and away with the one.
    let script = format!(
        "set -e; mkdir p; mv objects/pack/* p/; for p in p/*.pack; do git --git-dir . unpack-objects -q < $p; done; rm -f objects/{}/{}",
        &blob[..2],
        &blob[2..]
    );
    let unpacked = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&mirror)
        .status();
    assert!(unpacked.unwrap().success());
    let said = world.comin(&["deploy"], 1);
    assert!(said.err.contains("The mirror is damaged"), "{said:?}");
    // Beside the mirror, a fetch in its sandbox could not write.
    assert!(!mirror.with_extension("lock").exists());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "second");
}

#[test]
fn deploy_removes_what_killed_fetches_have_left_and_keeps_the_folders_of_the_others() {
    need!("git", "nix");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let incoming = world.path("root/var/lib/comin/repository/incoming");
    let left = |remote: &str| fs::read_dir(incoming.join(remote)).unwrap().count();
    assert_eq!(left("origin"), 0);
    for killed in ["origin/.tmp1/objects", "gone/.tmp2/objects"] {
        fs::create_dir_all(incoming.join(killed)).unwrap();
    }
    world.comin(&["deploy"], 0);
    assert_eq!([left("origin"), left("gone")], [0, 0]);

    fs::remove_dir(incoming.join("origin")).unwrap();
    fs::write(incoming.join("origin"), "").unwrap();
    origin.commit_all("news");
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(left("origin"), 0);
}

#[test]
fn the_packs_of_many_fetches_are_put_together() {
    need!("git", "nix", "flock");
    let (world, origin) = World::new();
    world.comin(&["run"], 0);
    let mirror = Repository::at(&world, "root/var/lib/comin/repository");
    let packs = || {
        let files = fs::read_dir(mirror.path.join("objects/pack")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let is_pack = |file: &PathBuf| file.extension().is_some_and(|it| it == "pack");
        files.filter(is_pack).collect::<BTreeSet<_>>()
    };
    let fetch = |times: usize| {
        for _ in 0..times {
            origin.git(&["commit", "--quiet", "--allow-empty", "--message", "x"]);
            world.comin(&["fetch", "origin"], 0);
        }
    };
    fetch(49);
    let before = packs();
    assert_eq!(before.len(), 50);
    world.comin(&["deploy"], 0);
    assert_eq!(packs(), before);
    fetch(1);
    // Whoever fetches keeps all of them.
    let lock = fs::File::open(world.path("root/run/comin/remotes/origin.lock")).unwrap();
    lock.lock().unwrap();
    world.comin(&["deploy"], 0);
    assert_eq!(packs().len(), 51);
    drop(lock);
    // Nor can anybody fetch meanwhile.
    let git = format!(
        "case \"$*\" in *repack*) flock --nonblock {} echo free >&2 || echo broken >&2; exit 3;; esac",
        world.path("root/run/comin/remotes/origin.lock").display()
    );
    let git = [("git", &*git)];
    let said = Said::of(&world.command_with(&["deploy"], &git).output().unwrap());
    assert!(
        said.err
            .ends_with("Failed to repack the mirror: git repack exited with status 3: broken\n"),
        "{said:?}"
    );
    assert_eq!(said.code, Some(0));
    world.comin(&["deploy"], 0);
    assert_eq!(packs().len(), 1);
    mirror.git(&["fsck", "--strict"]);
    assert_eq!(
        world.mirrored("origin/main"),
        Some(origin.git(&["rev-parse", "HEAD"]))
    );
    fetch(1);
    assert_eq!(packs().len(), 2);
}

#[test]
fn a_head_that_is_no_commit_costs_nobody_the_mirror() {
    need!("git", "nix", "sh");
    let (mut world, origin) = World::new();
    let (other, commit) = plain(&world, "other");
    world.follow("other", other.path.to_str().unwrap());
    world.comin(&["run"], 0);
    let head = origin.git(&["rev-parse", "HEAD"]);
    // Not even for a moment is it what the mirror has: another fetch may look just then.
    let refs = || world.files("root/var/lib/comin/repository/refs");
    let before = refs();
    let script = "printf 'tree %s\\nauthor nobody\\ncommitter nobody\\n\\nx\\n' $(git rev-parse HEAD^{tree}) | git hash-object --literally -t commit -w --stdin";
    let mut malformed = Command::new("sh");
    malformed.args(["-c", script]).current_dir(&origin.path);
    let malformed = String::from_utf8(malformed.output().unwrap().stdout).unwrap();
    let file = origin.git(&["rev-parse", "HEAD:flake.nix"]);
    for bad in [malformed.trim(), &file] {
        fs::write(origin.path.join(".git/refs/heads/main"), bad).unwrap();
        for _ in 0..2 {
            let said = world.command(&["fetch", "origin"]).output().unwrap();
            assert_eq!(said.status.code(), Some(1), "{said:?}");
            let error = &world.status()["remotes"][0]["error"];
            let error = error.as_str().unwrap();
            assert!(error.starts_with("git fetch exited with status"), "{error}");
        }
        let said = world.comin(&["deploy"], 0);
        assert!(!said.err.contains("damaged"), "{said:?}");
        assert_eq!(refs(), before);
        assert_eq!(world.mirrored("origin/main").as_ref(), Some(&head));
        assert_eq!(world.mirrored("other/main").as_ref(), Some(&commit));
    }
    fs::write(origin.path.join(".git/refs/heads/main"), &head).unwrap();
    world.comin(&["fetch", "origin"], 0);
}

#[test]
fn history_with_harmless_faults_of_old_tools_is_fetched() {
    need!("git", "bash");
    let mut world = World::empty();
    let (origin, _) = plain(&world, "origin");
    // A folder's mode begins with a zero, and a time zone has no sign.
    let script = r#"folder=$(git rev-parse HEAD^{tree} | sed 's/../\\x&/g')
        tree=$(printf "040000 folder\\0$folder" | git hash-object --literally -t tree -w --stdin)
        who='a <a@example.org> 1 0000'
        printf 'tree %s\nauthor %s\ncommitter %s\n\nold\n' $tree "$who" "$who" |
            git hash-object --literally -t commit -w --stdin >.git/refs/heads/main"#;
    let mut made = Command::new("bash");
    made.args(["-ec", script]).current_dir(&origin.path);
    assert!(made.status().unwrap().success());
    let old = origin.git(&["rev-parse", "main"]);
    world.follow("origin", origin.path.to_str().unwrap());
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(old));
}

#[test]
fn a_history_that_nobody_can_read_is_in_no_other_remotes_way() {
    need!("git", "sh");
    let mut world = World::empty();
    let (origin, _) = plain(&world, "origin");
    let (other, good) = plain(&world, "other");
    for repository in [&origin, &other] {
        let name = repository.path.file_name().unwrap().to_str().unwrap();
        world.follow(name, repository.path.to_str().unwrap());
    }
    world.comin(&["fetch", "origin", "other"], 0);
    let script = r#"tree=$(git rev-parse HEAD^{tree})
        make() { printf 'tree %s\nparent %s\nauthor %s\ncommitter %s\n\nx\n' $tree $1 "$2" "$2" |
            git hash-object --literally -t commit -w --stdin; }
        make $(make $(git rev-parse HEAD) nobody) 'a <a@example.org> 1 +0000'"#;
    let mut made = Command::new("sh");
    made.args(["-c", script]).current_dir(&other.path);
    let made = String::from_utf8(made.output().unwrap().stdout).unwrap();
    fs::write(other.path.join(".git/refs/heads/main"), &made).unwrap();
    for _ in 0..2 {
        world.comin(&["fetch", "other"], 1);
        assert_eq!(world.mirrored("other/main").as_ref(), Some(&good));
    }
    let second = origin.commit_all("second");
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(second));
    fs::write(other.path.join(".git/refs/heads/main"), &good).unwrap();
    let mended = other.commit_all("mended");
    world.comin(&["fetch", "other"], 0);
    assert_eq!(world.mirrored("other/main"), Some(mended));
}

#[test]
fn a_source_without_its_history_does_not_cost_the_mirror() {
    need!("git", "nix", "flock");
    let (mut world, origin) = World::new();
    origin.commit("second", &System::default());
    world.comin(&["run"], 0);
    let shallow = world.path("shallow").display().to_string();
    let url = format!("file://{}", origin.path.display());
    origin.git(&["clone", "--quiet", "--depth=1", &url, &shallow]);
    world.follow("shallow", &shallow);
    let commit = world.status()["accepted_main"]
        .as_str()
        .unwrap()
        .to_string();
    world.comin(&["run"], 0);
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(commit));
    // The mirror has what the clone lacks.
    let next = Repository::at(&world, "shallow").commit_all("next");
    world.comin(&["fetch", "shallow"], 0);
    assert_eq!(world.mirrored("shallow/main"), Some(next));
}

#[test]
fn history_of_which_the_remote_sends_only_a_part_is_refused() {
    need!("git");
    let mut world = World::empty();
    let (origin, _) = plain(&world, "origin");
    let head = origin.commit_all("two");
    world.follow("origin", origin.path.to_str().unwrap());
    // To git there, the commit has no parent.
    let grafts = origin.path.join(".git/info/grafts");
    fs::write(&grafts, format!("{head}\n")).unwrap();
    world.comin(&["fetch", "origin"], 1);
    assert_eq!(world.mirrored("origin/main"), None);
    fs::remove_file(grafts).unwrap();
    world.comin(&["fetch", "origin"], 0);
    assert_eq!(world.mirrored("origin/main"), Some(head));
}

#[test]
fn an_empty_repository_is_no_error() {
    need!("git", "nix");
    let mut world = World::empty();
    let empty = world.repository("empty");
    world.follow("origin", empty.path.to_str().unwrap());
    let said = world.comin(&["run"], 0);
    assert_eq!(
        said.err,
        "Nothing to deploy: there is no origin/main; push it, or name another branch in branches.main.name\n"
    );
    assert_eq!(world.comin(&["run"], 0).err, "", "it has been said");
    for report in ["status", "plan"] {
        let text = world.comin(&[report], 0).out;
        for missing in [
            "there is no origin/main",
            "push it, or name another branch in branches.main.name",
        ] {
            assert!(text.contains(missing), "{text}");
        }
    }
    let status = world.status();
    assert_eq!(
        status["remotes"][0]["main"]["refused"],
        "there is no such branch"
    );
    assert!(status["selected"].is_null());
}

#[test]
fn a_repository_for_testing_alone_misses_no_main_while_the_others_cannot_be_fetched() {
    need!("git");
    let mut world = World::empty();
    let empty = world.repository("empty");
    world.follow("local", empty.path.to_str().unwrap());
    world.follow("origin", world.path("away").to_str().unwrap());
    for fetched in ["local", "origin"] {
        world.comin(&["fetch", fetched], i32::from(fetched == "origin"));
        assert_eq!(world.comin(&["deploy"], 0).err, "", "after {fetched}");
    }
}

#[test]
fn a_remote_may_be_followed_for_testing_only() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    let local = world.repository("local");
    local.git(&["pull", "--quiet", origin.path.to_str().unwrap(), "main"]);
    world.follow("local", local.path.to_str().unwrap());
    world.configure(|config| {
        config["remotes"][1]["branches"] = json!({"main": {"name": ""}});
    });
    let unpushed = local.commit("unpushed", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "first");
    let status = world.status();
    assert_eq!(status["remotes"][1]["main"], json!(null));
    assert_eq!(world.plan()["candidates"].as_array().unwrap().len(), 3);
    world.comin(&["accept", &unpushed], 1);

    local.git(&["checkout", "--quiet", "-b", "testing-m"]);
    local.commit("tested", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "tested");
    // A testing branch may be rewritten at any time.
    local.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    local.commit("rewritten", &System::default());
    world.comin(&["run"], 0);
    assert_eq!(world.running(), "rewritten");
    assert_eq!(
        world.mirror_refs(),
        [
            "refs/comin/main",
            "refs/comin/target",
            "refs/remotes/local/testing-m",
            "refs/remotes/origin/main"
        ]
    );
    let metrics = world.comin(&["exporter"], 0).out;
    assert!(metrics.contains("remote_name=\"local\""), "{metrics}");
    let text = world.comin(&["status"], 0).out;
    assert!(text.contains("local/testing-m"), "{text}");
}

#[test]
fn an_origin_that_waits_for_a_push_and_a_stale_testing_branch_are_no_news_at_every_commit() {
    need!("git", "nix");
    let (mut world, origin) = World::new();
    origin.git(&["branch", "--quiet", "testing-m"]);
    let local = world.repository("local");
    local.git(&["pull", "--quiet", origin.path.to_str().unwrap(), "main"]);
    world.follow("local", local.path.to_str().unwrap());
    world.comin(&["run"], 0);
    for label in ["second", "third"] {
        local.commit(label, &System::default());
        let said = world.comin(&["run"], 0);
        assert!(!said.err.contains("Refused"), "{said:?}");
        assert_eq!(world.running(), label);
    }
    origin.git(&["checkout", "--quiet", "testing-m"]);
    origin.commit_all("beside main");
    assert!(world.comin(&["run"], 0).err.contains("Refused"));
    for label in ["fourth", "fifth"] {
        local.commit(label, &System::default());
        let said = world.comin(&["run"], 0);
        assert!(!said.err.contains("Refused"), "{said:?}");
    }
}
