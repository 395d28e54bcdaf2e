//! `comin publish`, by real Git and Nix: which systems are named, and when nothing is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::prebuilt::Ci;
use crate::support::Said;
use crate::world::System;

/// A flake whose host `m` is a system of this label, in the work tree of the CI, and the code for it.
pub fn flake_of(ci: &Ci, label: &str, identity: &str, others: &str) {
    fs::create_dir_all(ci.origin.path.join(label)).unwrap();
    let arguments = format!("extra.\"comin.json\" = {identity};");
    let system = ci
        .origin
        .configuration(label, label, &System::with(&arguments));
    let system = system.replace("./system", &format!("./{label}/system"));
    let flake = format!(
        "{{ outputs = {{ self }}: {{ nixosConfigurations = rec {{ m.config = {system}; {others} }}; }}; }}"
    );
    fs::write(ci.origin.path.join("flake.nix"), flake).unwrap();
}

/// A bare repository that the CI pushes to, and its path.
pub fn hub(ci: &Ci, remote: &str) -> String {
    let hub = ci.world.path("hub").display().to_string();
    ci.origin.git(&["clone", "--quiet", "--bare", ".", &hub]);
    ci.origin.git(&["remote", "add", remote, &hub]);
    hub
}

/// A CI that has pushed a commit whose hosts can be built.
struct Job {
    ci: Ci,
    cache: String,
}

impl Job {
    fn new(others: &str) -> Self {
        let mut ci = Ci::with_notes();
        let url = format!("file://{}", hub(&ci, "hub"));
        ci.world
            .configure(|config| config["remotes"][0]["url"] = json!(url));
        flake_of(&ci, "one", "''{\"hostname\": \"m\"}''", others);
        ci.commit = ci.origin.commit_all("third");
        ci.origin.git(&["push", "--quiet", "hub", "main"]);
        let cache = ci.world.path("cache").display().to_string();
        let key = ci.world.path("ours");
        let cache = format!("file://{cache}?secret-key={}", key.display());
        Self { ci, cache }
    }

    fn arguments<'a>(&'a self, hosts: &[&'a str]) -> Vec<&'a str> {
        [&["publish", "--remote", "hub", "--to", &self.cache], hosts].concat()
    }

    /// In the clone of the CI.
    fn here<'a>(&self, comin: &'a mut Command) -> &'a mut Command {
        comin
            .current_dir(&self.ci.origin.path)
            .env("TMPDIR", self.ci.world.path("home"))
    }

    fn publish(&self, hosts: &[&str], code: i32) -> Said {
        let mut comin = self.ci.world.command(&self.arguments(hosts));
        let said = Said::of(&self.here(&mut comin).output().unwrap());
        assert_eq!(said.code, Some(code), "{said:?}");
        said
    }

    /// What the hub has of the notes, if it has any.
    fn notes(&self) -> String {
        let git = &self.ci.origin;
        git.git(&["ls-remote", "hub", "refs/notes/comin"])
    }

    /// The lines of the note that the hub has of the commit.
    fn note(&self) -> Vec<String> {
        if self.notes().is_empty() {
            return Vec::new();
        }
        let hub = self.ci.world.path("hub").display().to_string();
        let arguments = ["--git-dir", &hub, "notes", "--ref=comin", "list"];
        let git = &self.ci.origin;
        let notes = git.git(&arguments);
        let note = notes.lines().find_map(|line| {
            let (note, commit) = line.split_once(' ')?;
            (commit == self.ci.commit).then_some(note)
        });
        let note = note.map(|note| git.git(&["--git-dir", &hub, "cat-file", "-p", note]));
        let note = note.unwrap_or_default();
        let lines = note.lines().filter(|line| !line.is_empty());
        lines.map(str::to_string).collect()
    }

    /// Another clone puts this into the note.
    fn push_note(&self, note: &str) {
        self.ci.note(&self.ci.commit, note.as_bytes());
        let git = &self.ci.origin;
        git.git(&["push", "--quiet", "--force", "hub", "refs/notes/comin"]);
        git.git(&["update-ref", "-d", "refs/notes/comin"]);
    }

    /// What CI has in its clone.
    fn clone(&self) -> String {
        let git = &self.ci.origin;
        git.git(&["for-each-ref"]) + &git.git(&["status", "--porcelain"])
    }
}

#[test]
fn publish_names_systems_that_a_machine_then_deploys() {
    need!("git", "nix");
    let job = Job::new("broken = throw \"no\";");
    let ci = &job.ci;
    // A large fleet has its hosts in the note already, and somebody has a note of his own.
    let path = "/nix/store/00000000000000000000000000000000-nixos-system-other-26.05";
    let others: Vec<_> = (0..2000).map(|n| format!("host{n} {path}")).collect();
    job.push_note(&others.join("\n"));
    let arguments = ["notes", "--ref=comin", "add", "-m", "mine", &ci.commit];
    ci.origin.git(&arguments);
    let before = job.clone();

    let said = job.publish(&[], 1);
    assert!(said.err.contains("broken"), "{said:?}");
    let (host, path) = said.out.trim().split_once(' ').unwrap();
    assert_eq!(host, "m");
    assert!(Path::new(path).exists());
    let named = [&others[..], &[said.out.trim().to_string()]].concat();
    assert_eq!(job.note(), named);
    // What is named already is not named again: nothing is pushed that every machine would look at.
    let notes = job.notes();
    assert_eq!(job.publish(&["m"], 0).out, said.out);
    assert_eq!(job.notes(), notes);
    assert_eq!(job.clone(), before);

    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch one"]);
}

#[test]
fn note_that_no_machine_would_read_is_not_pushed() {
    need!("git", "nix");
    let job = Job::new("");
    let line = job.publish(&["m"], 0).out;
    // With the line break between them, the note is one byte too long.
    let full = 256 * 1024 - line.len();
    job.push_note(&"x".repeat(full));
    let before = (job.notes(), job.clone());
    let said = job.publish(&["m"], 1);
    assert!(said.err.contains("--notes"), "{said:?}");
    assert_eq!((job.notes(), job.clone()), before);

    job.push_note(&"x".repeat(full - 1));
    job.publish(&["m"], 0);
    job.ci.comin(&["run"], 0);
    assert_eq!(job.ci.world.switches(), ["switch first", "switch one"]);
}

#[test]
fn host_that_no_note_can_name_does_not_keep_the_others_from_being_published() {
    need!("git", "nix");
    let job = Job::new(
        "\"two words\" = m; \"line\\nm /nix/store/a-b\" = m; \"\" = m; \"ü.o'\\${x}\" = m;",
    );
    let said = job.publish(&[], 1);
    for host in [r#""two words""#, r#""line\nm /nix/store/a-b""#, r#""""#] {
        let words = format!("{host} is not published");
        assert!(said.err.contains(&words), "{host}: {said:?}");
    }
    let note = job.note();
    let mut named: Vec<_> = note
        .iter()
        .filter_map(|line| line.split(" /nix/store/").next())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["m", "ü.o'${x}"]);
    let said = job.publish(&["two words"], 1);
    assert!(said.err.contains("is not published"), "{said:?}");
    assert_eq!(job.note(), note);
}

#[test]
fn jobs_that_publish_at_once_all_name_their_hosts() {
    need!("git", "nix");
    let job = Job::new("a = m; b = m; c = m;");
    // The first push of each job comes too late.
    let once = job.ci.world.path("once");
    let late = format!(
        "case \"$1 $*\" in push*:refs/notes/comin) if mkdir '{}' 2>/dev/null; then
             note=$(git commit-tree -m note $(git mktree </dev/null)) && git push --quiet hub $note:refs/notes/comin
         fi;; esac",
        once.display()
    );
    let hosts = ["m", "a", "b", "c"];
    let commands = hosts.map(|host| {
        let arguments = job.arguments(&[host]);
        job.ci.world.command_with(&arguments, &[("git", &late)])
    });
    let jobs = commands.map(|mut comin| {
        let comin = job.here(&mut comin);
        let comin = comin.stdout(Stdio::piped()).stderr(Stdio::piped());
        comin.spawn().unwrap()
    });
    for job in jobs {
        let said = Said::of(&job.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert!(once.exists());
    let mut note = job.note();
    note.sort();
    let named = note.iter().filter_map(|line| line.split(' ').next());
    assert_eq!(named.collect::<Vec<_>>(), ["a", "b", "c", "m"]);
}

#[test]
fn publish_that_cannot_succeed_says_why_and_changes_nothing() {
    need!("git", "nix");
    let mut job = Job::new("");
    let before = job.clone();
    let good = job.cache.clone();
    let absent = job.ci.world.path("absent").display().to_string();
    for (cache, words) in [
        (good.replace("/ours", "/absent"), &*absent),
        ("http://127.0.0.1:1".to_string(), "http://127.0.0.1:1"),
    ] {
        job.cache = cache;
        let said = job.publish(&["m"], 1);
        assert!(said.err.contains(words), "{said:?}");
        assert!(said.err.contains("Nothing was built"), "{said:?}");
        assert!(!said.err.contains("Evaluating"), "{said:?}");
    }
    job.cache = good;

    let hook = job.ci.world.path("hub/hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho You may not >&2\nexit 1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&hook, mode).unwrap();
    let said = job.publish(&["m"], 1);
    assert!(said.err.contains("You may not"), "{said:?}");
    assert!(
        said.err
            .contains("refs/notes/comin cannot be pushed to hub"),
        "{said:?}"
    );
    assert_eq!(said.out, "");

    fs::write(job.ci.origin.path.join("flake.nix"), "changed").unwrap();
    let said = job.publish(&["m"], 1);
    assert!(said.err.contains("in no commit"), "{said:?}");
    job.ci.origin.git(&["checkout", "--quiet", "flake.nix"]);
    let said = job.publish(&["nobody"], 1);
    assert!(said.err.contains("nobody"), "{said:?}");
    assert_eq!((job.notes(), job.clone()), (String::new(), before));
}

#[test]
fn publish_that_is_killed_names_nothing_before_its_push() {
    need!("git", "nix");
    let job = Job::new("");
    let git = &job.ci.origin;
    job.ci.note("HEAD~", b"m /nix/store/a-b");
    git.git(&["push", "--quiet", "hub", "refs/notes/comin"]);
    let (notes, before) = (job.notes(), job.clone());
    for (tool, step) in [
        ("git", "status"),
        ("nix", "*store\\ ping"),
        ("nix", "*eval"),
        ("nix-store", "--realise"),
        ("nix", "*copy"),
        ("git", "ls-remote"),
        ("git", "fetch"),
        ("git", "notes*append"),
        ("git", "push"),
    ] {
        for kill in [
            "kill -9 $PPID; exit".to_string(),
            format!("{tool} \"$@\"; kill -9 $PPID; exit"),
        ] {
            let script = format!("case \"$*\" in {step}*) {kill};; esac");
            let _ = fs::remove_dir_all(job.ci.world.path("bin"));
            let arguments = job.arguments(&["m"]);
            let mut comin = job.ci.world.command_with(&arguments, &[(tool, &script)]);
            let said = Said::of(&job.here(&mut comin).output().unwrap());
            assert_eq!(said.code, None, "{step}: {said:?}");
            assert_eq!(job.clone(), before, "{step}");
            if job.notes() != notes {
                assert!(step == "push" && kill.starts_with("git"), "{step}");
            }
        }
    }
    let note = job.note();
    assert_eq!(note.len(), 1, "of the one that was killed after its push");
    let (_, system) = note[0].split_once(' ').unwrap();
    let hash = &system["/nix/store/".len()..][..32];
    let info = job.ci.world.path(&format!("cache/{hash}.narinfo"));
    assert!(info.exists(), "{system}");
    assert_eq!(job.publish(&["m"], 0).out.trim(), note[0]);
    assert_eq!(job.note(), note);
}
