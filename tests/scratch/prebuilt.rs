//! Systems that CI has built, from a real signed cache: comin neither evaluates nor builds.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Deserialize;
use serde_json::{json, Value};

use crate::publish::{flake_of, hub};
use crate::selection::{sign, trusted_signer};
use crate::support::memory::{family, Memory};
use crate::support::{is_rooted, isolated, skip, Said};
use crate::world::{await_that, Repository, System, World};

/// A machine, its repository, whose flake nobody can evaluate, and the CI that builds its systems.
pub struct Ci {
    pub world: World,
    pub origin: Repository,
    /// The commit that the machine has not deployed yet.
    pub commit: String,
}

/// An order to CI.
struct Order<'a> {
    label: &'a str,
    /// The content of `comin.json`, if there is one.
    identity: Option<Value>,
    /// The key that signs it, if one does.
    key: Option<&'a str>,
}

impl Ci {
    /// The machine runs what it has evaluated by itself, and has been told of CI since.
    fn new(prebuilt: &Value) -> Self {
        let (mut world, origin) = World::new();
        world.comin(&["run"], 0);
        world.configure(|config| config["prebuilt"] = prebuilt.clone());
        fs::write(origin.path.join("flake.nix"), "this is not Nix").unwrap();
        let commit = origin.commit_all("second");
        let ci = Self {
            world,
            origin,
            commit,
        };
        for key in ["ours", "theirs"] {
            let file = ci.world.path(key).display().to_string();
            ci.store(&[
                "--generate-binary-cache-key",
                key,
                &file,
                &format!("{file}.pub"),
            ]);
        }
        ci
    }

    /// CI that names its systems in notes.
    pub fn with_notes() -> Self {
        Self::new(&json!({"notes": "comin"}))
    }

    pub fn nix(&self, tool: &str) -> Command {
        let mut nix = Command::new(tool);
        isolated(&mut nix, &self.world.path("home"));
        nix
    }

    /// Builds a system that is in the cache, and not on this machine.
    fn build(&self, order: &Order) -> String {
        let system = self.make(order);
        self.copy(&system, order.key);
        self.store(&["--delete", "--ignore-liveness", &system]);
        assert!(!Path::new(&system).exists());
        system
    }

    /// What nix-store answers.
    fn store(&self, arguments: &[&str]) -> String {
        let output = self.nix("nix-store").args(arguments).output();
        let said = Said::of(&output.unwrap());
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out.trim().to_string()
    }

    /// Builds a system here.
    fn make(&self, order: &Order) -> String {
        let file = self.world.path(&format!("{}.nix", order.label));
        let identity = order.identity.as_ref().map_or("null".to_string(), |it| {
            // A Nix string in quotes.
            Value::from(it.to_string()).to_string()
        });
        let arguments = format!("extra.\"comin.json\" = {identity};");
        let system = System::with(&arguments);
        let configuration = self.origin.configuration("../ci", order.label, &system);
        fs::write(&file, configuration.replace("./system ", "./ci/system ")).unwrap();
        let mut nix = self.nix("nix-build");
        nix.args(["--no-out-link", "-A", "system.build.toplevel"])
            .arg(&file);
        let output = nix.output().unwrap();
        let said = Said::of(&output);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out.trim().to_string()
    }

    /// Copies a system to the cache, signed if there is a key.
    fn copy(&self, system: &str, key: Option<&str>) {
        let cache = format!("file://{}", self.world.path("cache").display());
        let key = key.map_or(String::new(), |key| {
            format!("?secret-key={}", self.world.path(key).display())
        });
        let mut nix = self.nix("nix");
        nix.args([
            "--extra-experimental-features",
            "nix-command",
            "copy",
            "--to",
        ])
        .args([&(cache + &key), system]);
        assert!(nix.output().unwrap().status.success());
    }

    /// A good system of the commit.
    fn build_good(&self, label: &str) -> String {
        self.build(&Order {
            label,
            identity: Some(self.identity()),
            key: Some("ours"),
        })
    }

    fn identity(&self) -> Value {
        json!({"hostname": "m", "machine_id": null, "revision": self.commit})
    }

    /// Puts this into the note of a commit, as it is.
    pub fn note(&self, commit: &str, note: &[u8]) {
        let file = self.world.path("note");
        fs::write(&file, note).unwrap();
        let blob = self
            .origin
            .git(&["hash-object", "-w", &file.display().to_string()]);
        let arguments = ["notes", "--ref=comin", "add", "-f", "-C", &blob, commit];
        self.origin.git(&arguments);
    }

    /// As CI does it.
    fn append(&self, line: &str) {
        let arguments = ["notes", "--ref=comin", "append", "-m", line, &self.commit];
        self.origin.git(&arguments);
    }

    /// comin on the machine, which trusts one key of the cache.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut comin = self.world.noting_calls(arguments);
        let key = fs::read_to_string(self.world.path("ours.pub")).unwrap();
        let cache = self.world.path("cache");
        comin.env(
            "NIX_CONFIG",
            format!(
                "build-users-group =\nsandbox = false\nsubstitute = true\nsubstituters = file://{}\ntrusted-public-keys = {key}\n",
                cache.display()
            ),
        );
        comin
    }

    pub fn comin(&self, arguments: &[&str], code: i32) -> Said {
        let said = Said::of(&self.command(arguments).output().unwrap());
        assert_eq!(said.code, Some(code), "comin {arguments:?}: {said:?}");
        said
    }

    fn plan(&self, arguments: &[&str]) -> Value {
        let arguments = [&["plan", "--json"], arguments].concat();
        serde_json::from_str(&self.comin(&arguments, 0).out).unwrap()
    }

    /// Nothing has been evaluated or activated since the machine was told of CI.
    fn assert_untouched(&self) {
        let calls = fs::read_to_string(self.world.path("calls")).unwrap_or_default();
        assert!(
            !calls.contains(" eval ") && !calls.contains("nix-instantiate"),
            "{calls}"
        );
        assert_eq!(self.world.switches(), ["switch first"]);
    }

    fn assert_awaited(&self) {
        self.assert_untouched();
        let status = self.world.status();
        assert_eq!(status["action"], "await_prebuilt", "{status:#}");
        assert_eq!(status["state"], "waits_for_ci");
        assert_eq!(status["deployed"]["status"], "done", "of the first one");
    }

    /// Whether a link of comin's keeps a path from being collected.
    fn is_rooted(&self, path: &str) -> bool {
        let roots = self.store(&["--gc", "--print-roots"]);
        let link = self.world.path("root/var/lib/comin/gcroots/attempt-2");
        is_rooted(&roots, &link.display().to_string(), path)
    }
}

#[test]
fn system_that_ci_has_built_is_deployed_without_evaluation() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.build_good("second");
    ci.append(&format!("other {system}"));
    ci.append(&format!("m {system}"));
    let mut comin = ci.command(&["run"]).spawn().unwrap();
    let process = comin.id();
    let memory = Memory::watch(move || family(process));
    assert!(comin.wait().unwrap().success());
    let peak = memory.peak();
    assert!((1..100).contains(&peak), "{peak} MiB");
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    let calls = fs::read_to_string(ci.world.path("calls")).unwrap_or_default();
    assert!(
        !calls.contains(" eval ") && !calls.contains("nix-instantiate"),
        "{calls}"
    );
    let status = ci.world.status();
    assert_eq!(status["accepted_main"], ci.commit.as_str());
    assert_eq!(status["deployed"]["out"], system.as_str());
    assert_eq!(status["deployed"]["status"], "done");
    assert!(ci.is_rooted(&system));
    let attempt: Value =
        serde_json::from_str(&ci.comin(&["history", "2", "--json"], 0).out).unwrap();
    assert!(attempt["derivation"].is_null());
    let stages = attempt["stages"].as_array().unwrap().iter();
    let stages: Vec<_> = stages.map(|stage| stage["stage"].clone()).collect();
    assert_eq!(stages, ["building", "activating", "checking"]);

    // An idle poll has nothing to do, and a note of another commit neither.
    ci.comin(&["fetch", "origin"], 0);
    let wanted = ci.world.path("root/run/comin/wanted");
    assert!(!wanted.exists());
    ci.note("HEAD~", format!("m {system}\n").as_bytes());
    let said = ci.comin(&["run"], 0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    assert_eq!(ci.world.switches().len(), 2);
}

/// A job in a file of the page for the CI of a forge.
#[derive(Deserialize)]
struct JobOfForge {
    script: String,
    /// Settings of Nix.
    settings: Option<String>,
}

/// The jobs in such a file, by real YAML.
fn jobs_of_yaml(yaml: &str) -> Vec<JobOfForge> {
    const JOBS: &str = "
import json, sys, yaml
jobs = yaml.safe_load(sys.stdin)
for job in jobs.get('jobs', jobs).values():
    steps = [step['run'] for step in job.get('steps', []) if 'run' in step]
    script = '\\n'.join(steps + job.get('script', []))
    print(json.dumps({'script': script, 'settings': job.get('variables', {}).get('NIX_CONFIG')}))
";
    let mut python = Command::new("python3");
    python.args(["-c", JOBS]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(yaml.as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{yaml}");
    let jobs = String::from_utf8(output.stdout).unwrap();
    let jobs = jobs.lines().map(serde_json::from_str);
    jobs.map(Result::unwrap).collect()
}

/// A flake that has comin as its package, for `nix run`; returns its URL.
fn flake_of_comin(world: &World) -> String {
    let comin = world.repository("comin");
    let link = format!(
        "/bin/mkdir -p $out/bin; /bin/ln -s {} $out/bin/comin; :",
        env!("CARGO_BIN_EXE_comin")
    );
    let flake = format!(
        "{{ outputs = _: {{ packages.x86_64-linux.default = derivation {{
            name = \"comin\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" {link:?} ]; }}; }}; }}"
    );
    fs::write(comin.path.join("flake.nix"), flake).unwrap();
    comin.commit_all("comin");
    format!("git+file://{}", comin.path.display())
}

/// The blocks of code of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("module/docs");
    let page = fs::read_to_string(pages.join(page)).unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_string());
    blocks.collect()
}

#[test]
fn examples_of_the_page_publish_a_system_that_is_then_deployed() {
    const FLAKES: &str = "experimental-features = nix-command flakes";
    need!("git", "nix", "python3", "jq");
    let yaml = Command::new("python3").args(["-c", "import yaml"]).output();
    if !yaml.unwrap().status.success() {
        skip("python3-yaml is missing");
        return;
    }
    let mut ci = Ci::with_notes();
    let hub = hub(&ci, "origin");
    let url = format!("file://{hub}");
    ci.world
        .configure(|config| config["remotes"][0]["url"] = json!(url));
    let (cache, key) = (ci.world.path("cache"), ci.world.path("ours"));
    let key_of_ci = fs::read_to_string(&key).unwrap();
    let input = format!(
        "{{ inputs.comin.url = {:?}; outputs = {{ self, comin }}:",
        flake_of_comin(&ci.world)
    );
    let registry = ci.world.path("registry.json").display().to_string();
    fs::write(&registry, r#"{"version": 2, "flakes": []}"#).unwrap();
    let mut expected = vec!["switch first".to_string()];
    let mut deploys = |label: &str, job: &JobOfForge| {
        let identity =
            "builtins.toJSON { hostname = \"m\"; machine_id = null; revision = self.rev; }";
        flake_of(&ci, label, identity, "");
        let flake = ci.origin.path.join("flake.nix");
        let text = fs::read_to_string(&flake).unwrap();
        fs::write(&flake, text.replace("{ outputs = { self }:", &input)).unwrap();
        let mut lock = ci.nix("nix");
        lock.args(["--extra-experimental-features", "nix-command flakes"]);
        let locked = lock.args(["flake", "lock"]).current_dir(&ci.origin.path);
        assert!(locked.output().unwrap().status.success());
        ci.origin.commit_all(label);
        ci.origin.git(&["push", "--quiet", "origin", "main"]);
        // As forges do it: without the history, and on no branch.
        let clone = ci.world.path(label);
        let shown = clone.display().to_string();
        ci.origin
            .git(&["clone", "--quiet", "--depth=1", &url, &shown]);
        ci.origin
            .git(&["-C", &shown, "checkout", "--quiet", "--detach"]);
        let script = job
            .script
            .replace(
                "s3://cache?endpoint=s3.example.org&",
                &format!("file://{}?", cache.display()),
            )
            .replace(
                "https://ci:$PUSH_TOKEN@$CI_SERVER_HOST/$CI_PROJECT_PATH.git",
                &hub,
            );
        // The other one enables flakes by itself. None asks the network for other flakes.
        let settings = job.settings.as_deref().unwrap_or(FLAKES);
        let mut sh = ci.nix("sh");
        let said = sh
            .args(["-euc", &script])
            .current_dir(&clone)
            .env(
                "NIX_CONFIG",
                format!("build-users-group =\nsubstitute = false\nsandbox = false\nflake-registry = {registry}\n{settings}"),
            )
            .env("RUNNER_TEMP", ci.world.path("home"))
            // A variable in one CI, and the name of a file in the other.
            .env(
                "CACHE_KEY",
                if script.contains("printenv") {
                    key_of_ci.trim()
                } else {
                    key.to_str().unwrap()
                },
            )
            .output();
        let said = Said::of(&said.unwrap());
        assert_eq!(said.code, Some(0), "{script}: {said:?}");
        ci.comin(&["run"], 0);
        expected.push(format!("switch {label}"));
        assert_eq!(ci.world.switches(), expected, "{script}");
    };
    let files = blocks("systems-from-ci.md", "yaml");
    assert_eq!(files.len(), 2);
    for (file, label) in files.iter().zip(["github", "gitlab"]) {
        for job in jobs_of_yaml(file) {
            deploys(label, &job);
        }
    }
    // What Hydra and buildbot-nix run after a build that they have copied to the cache.
    let script = ci.world.path("publish-note");
    fs::write(&script, &blocks("systems-from-ci.md", "bash")[0]).unwrap();
    let build =
        "nix --extra-experimental-features 'nix-command flakes' build --out-link ../result \
        .#nixosConfigurations.m.config.system.build.toplevel";
    let copy = format!(
        "nix --extra-experimental-features nix-command copy --to 'file://{}?secret-key={}' ../result",
        cache.display(),
        key.display()
    );
    let publish = format!("sh {} {hub} ../result", script.display());
    let job = JobOfForge {
        script: format!("{build}\n{copy}\n{publish}"),
        settings: None,
    };
    deploys("hydra", &job);
}

#[test]
fn note_that_comes_while_the_machine_waits_is_acted_on_at_the_next_poll() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let said = ci.comin(&["run"], 0);
    assert!(said.err.contains("waits for CI"), "{said:?}");
    ci.assert_awaited();
    let plan = ci.plan(&["--build"]);
    assert_eq!(plan["action"], "await_prebuilt");
    assert!(plan["build"]["skipped"].is_string(), "{plan:#}");
    for words in [&["status"][..], &["status", "--oneline"], &["plan"]] {
        let said = ci.comin(words, 0);
        assert!(said.out.contains("waits for CI"), "{said:?}");
    }
    assert_eq!(ci.comin(&["status", "--check"], 3).err, "");
    let metrics = ci.comin(&["exporter"], 0).out;
    assert!(
        metrics.contains("comin_state{state=\"waits_for_ci\"} 1\n"),
        "{metrics}"
    );

    // Polls find nothing new, and say nothing.
    let wanted = ci.world.path("root/run/comin/wanted");
    assert_eq!(ci.comin(&["fetch", "origin"], 0).err, "");
    assert!(!wanted.exists());
    // A note of somebody else's commit, and of another host.
    ci.note("HEAD~", b"m /nix/store/a-b\n");
    ci.append("other /nix/store/a-b");
    ci.comin(&["fetch", "origin"], 0);
    assert!(wanted.exists());
    assert_eq!(ci.comin(&["deploy"], 0).err, "", "this is said once");
    ci.assert_awaited();

    // Somebody pushes notes with another history.
    ci.origin.git(&["update-ref", "-d", "refs/notes/comin"]);
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.comin(&["fetch", "origin"], 0);
    assert!(wanted.exists());
    assert_eq!(ci.plan(&[])["prebuilt"], system.as_str());
    ci.comin(&["deploy"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    let metrics = ci.comin(&["exporter"], 0).out;
    assert!(
        metrics.contains("comin_state{state=\"waits_for_ci\"} 0\n"),
        "{metrics}"
    );
}

#[test]
fn note_on_another_remote_counts_if_that_remote_has_the_commit() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    let hub = hub(&ci, "hub");
    ci.world.follow("hub", &hub);
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.origin
        .git(&["push", "--quiet", "hub", "refs/notes/comin"]);
    ci.origin.git(&["update-ref", "-d", "refs/notes/comin"]);
    ci.origin
        .git(&["push", "--quiet", "--force", "hub", "HEAD~:main"]);
    ci.comin(&["run"], 0);
    ci.assert_awaited();
    // Whoever may only test there does not say what main is.
    ci.origin.git(&["push", "--quiet", "hub", "HEAD:testing-m"]);
    ci.comin(&["run"], 0);
    ci.assert_awaited();
    ci.origin.git(&["push", "--quiet", "hub", "main"]);
    // That the first note cannot be used is in nobody's way.
    ci.append("m /etc");
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn testing_branch_is_tested_with_what_ci_has_built_and_left_when_it_is_deleted() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    let main = ci.build_good("second");
    ci.append(&format!("m {main}"));
    ci.comin(&["run"], 0);
    ci.origin.git(&["checkout", "--quiet", "-b", "testing-m"]);
    ci.commit = ci.origin.commit_all("third");
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.status()["action"], "await_prebuilt");
    let tested = ci.build_good("third");
    ci.append(&format!("m {tested}"));
    ci.comin(&["run"], 0);
    let mut expected = vec!["switch first", "switch second", "test third"];
    assert_eq!(ci.world.switches(), expected);
    // What runs before main comes back is in the store already, and need not be in the cache any more.
    fs::remove_dir_all(ci.world.path("cache")).unwrap();
    ci.origin.git(&["checkout", "--quiet", "main"]);
    ci.origin.git(&["branch", "-D", "testing-m"]);
    ci.comin(&["run"], 0);
    expected.push("switch second");
    assert_eq!(ci.world.switches(), expected);
}

#[test]
fn commit_whose_ci_fails_leaves_the_machine_as_it_is() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    ci.comin(&["run"], 0);
    ci.assert_awaited();
    assert_ne!(ci.world.status()["accepted_main"], ci.commit.as_str());
    ci.commit = ci.origin.commit_all("third");
    ci.comin(&["run"], 0);
    ci.assert_awaited();
    let system = ci.build_good("third");
    ci.append(&format!("m {system}"));
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch third"]);
    assert_eq!(ci.world.history().len(), 2);
}

#[test]
fn system_that_is_not_of_this_commit_and_machine_is_refused() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    let with = |key: &str, value: Value| {
        let mut identity = ci.identity();
        identity[key] = value;
        Some(identity)
    };
    let other = "6".repeat(32);
    for (label, identity, key, status, words) in [
        (
            "unsigned",
            with("revision", json!(ci.commit)),
            None,
            "failed",
            "trusted-public-keys",
        ),
        (
            "theirs",
            with("revision", json!(ci.commit)),
            Some("theirs"),
            "failed",
            "trusted-public-keys",
        ),
        (
            "host",
            with("hostname", json!("n")),
            Some("ours"),
            "failed",
            "another host",
        ),
        (
            "commit",
            with("revision", json!("0".repeat(40))),
            Some("ours"),
            "failed",
            "another commit",
        ),
        (
            "dirty",
            with("revision", json!(format!("{}-dirty", ci.commit))),
            Some("ours"),
            "failed",
            "another commit",
        ),
        ("none", None, Some("ours"), "failed", "comin.json"),
        (
            "odd",
            Some(json!([1])),
            Some("ours"),
            "failed",
            "comin.json",
        ),
        (
            "machine",
            with("machine_id", json!(other)),
            Some("ours"),
            "skipped",
            "services.comin.machineId",
        ),
    ] {
        let system = ci.build(&Order {
            label,
            identity,
            key,
        });
        ci.append(&format!("m {system}"));
        // What failed before does not keep another system from being tried at once.
        let said = ci.comin(&["run"], i32::from(status == "failed"));
        assert!(said.err.contains(words), "{label}: {said:?}");
        ci.assert_untouched();
        let deployed = &ci.world.status()["deployed"];
        assert_eq!(deployed["status"], status, "{label}");
        assert!(
            deployed["error"].as_str().unwrap().contains(words),
            "{label}: {deployed}"
        );
    }
    // What is for another machine is skipped for good.
    ci.commit = ci.origin.commit_all("third");
    let system = ci.build_good("third");
    ci.append(&format!("m {system}"));
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch third"]);
}

/// Every user of a machine can build a system that says whatever he likes.
#[test]
fn system_that_is_in_the_store_already_needs_a_signature_too() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.make(&Order {
        label: "second",
        identity: Some(ci.identity()),
        key: None,
    });
    ci.append(&format!("m {system}"));
    for signature in [None, Some("theirs")] {
        if signature.is_some() {
            ci.copy(&system, signature);
            ci.comin(&["retry"], 0);
        }
        ci.comin(&["fetch", "origin"], 0);
        let words = "no key of nix.settings.trusted-public-keys signed";
        let said = ci.comin(&["plan", "--build"], 1);
        assert!(said.err.contains(words), "{said:?}");
        let said = ci.comin(&["run"], 1);
        assert!(said.err.contains(words), "{said:?}");
        ci.assert_untouched();
    }
    // CI that runs on the machine itself signs only what it copies to the cache.
    fs::remove_dir_all(ci.world.path("cache")).unwrap();
    ci.copy(&system, Some("ours"));
    ci.comin(&["retry"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

/// Nix asks for no signature of what is named by its content, and lets every user add it.
#[test]
fn folder_that_somebody_added_to_the_store_is_no_system_of_ci() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let built = ci.make(&Order {
        label: "second",
        identity: Some(ci.identity()),
        key: None,
    });
    let folder = ci.world.path("added");
    let copy = ["-rL", &built, folder.to_str().unwrap()];
    assert!(Command::new("cp").args(copy).status().unwrap().success());
    let added = ci.store(&["--add", &folder.display().to_string()]);
    ci.append(&format!("m {added}"));
    ci.comin(&["fetch", "origin"], 0);
    let said = ci.comin(&["run"], 1);
    let words = "no key of nix.settings.trusted-public-keys signed";
    assert!(said.err.contains(words), "{said:?}");
    ci.assert_untouched();
}

#[test]
fn system_of_a_signed_commit_has_to_tell_that_commit() {
    need!("git", "nix", "ssh-keygen");
    let mut ci = Ci::with_notes();
    let key = trusted_signer(&mut ci.world, "alice");
    sign(&ci.origin, &key);
    ci.commit = ci.origin.commit_all("signed");
    let mut identity = ci.identity();
    identity["revision"] = Value::Null;
    let system = ci.build(&Order {
        label: "nameless",
        identity: Some(identity),
        key: Some("ours"),
    });
    ci.append(&format!("m {system}"));
    let said = ci.comin(&["run"], 1);
    assert!(said.err.contains("does not tell its commit"), "{said:?}");
    ci.assert_untouched();
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    // Also if it is not the head any more.
    ci.origin.git(&["config", "commit.gpgSign", "false"]);
    ci.origin.commit_all("unsigned");
    ci.world
        .configure(|config| config["signed_ancestors"] = true.into());
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn system_that_comes_to_the_cache_late_is_fetched() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.build_good("second");
    let (cache, away) = (ci.world.path("cache"), ci.world.path("away"));
    fs::rename(&cache, &away).unwrap();
    ci.append(&format!("m {system}"));
    ci.comin(&["run"], 1);
    ci.assert_untouched();
    assert_eq!(ci.plan(&[])["action"], "retry");
    let _ = fs::remove_dir_all(&cache);
    fs::rename(&away, &cache).unwrap();
    ci.comin(&["retry"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn system_of_which_the_cache_lacks_a_part_is_not_activated() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let file = ci.world.path("part");
    fs::write(&file, ci.world.root().display().to_string()).unwrap();
    let part = ci.store(&["--add", &file.display().to_string()]);
    // A path in Nix code that refers to the part.
    let mut identity = ci.identity();
    identity["part"] = json!(format!("${{{}}}", file.display()));
    let system = ci.build(&Order {
        label: "second",
        identity: Some(identity),
        key: Some("ours"),
    });
    let hash = &part["/nix/store/".len()..][..32];
    let info = ci.world.path(&format!("cache/{hash}.narinfo"));
    let away = ci.world.path("narinfo");
    fs::rename(&info, &away).unwrap();
    let users = ci.store(&["--query", "--referrers-closure", &part]);
    let users: Vec<_> = users.lines().collect();
    ci.store(&[&["--delete", "--ignore-liveness"], &users[..]].concat());
    ci.append(&format!("m {system}"));
    let said = ci.comin(&["run"], 1);
    assert!(said.err.contains(&part), "{said:?}");
    let cure = format!("a cache of nix.settings.substituters must have {system}");
    assert!(said.err.contains(&cure), "{said:?}");
    ci.assert_untouched();
    fs::rename(&away, &info).unwrap();
    ci.comin(&["retry"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn hostile_notes_are_refused_and_neither_fetched_nor_run() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let derivation = format!("/nix/store/{}-x.drv", "a".repeat(32));
    let large = "m /nix/store/a-b\n".repeat(1024 * 1024 / 17);
    let marker = ci.world.path("marker");
    let no_system = "the note of the commit cannot be used: ";
    let no_path = "is not the store path of a system";
    for (note, words) in [
        (format!("m {}", ci.world.path("ours").display()), no_path),
        ("m --help".to_string(), no_path),
        (
            format!("m --option\tpost-build-hook {}", marker.display()),
            no_path,
        ),
        (
            format!("m /nix/store/a-b;touch {}", marker.display()),
            no_path,
        ),
        (format!("m $(touch {})", marker.display()), no_path),
        ("m /nix/store/../../etc".to_string(), no_path),
        (format!("m {derivation}"), no_path),
        ("m /nix/store/a-\u{1b}[31m\u{7}".to_string(), no_path),
        ("m \0".to_string(), no_path),
        (large, "bytes, and the limit is 262144"),
    ] {
        ci.note(&ci.commit, note.as_bytes());
        let said = ci.comin(&["run"], 0);
        let shown: String = note.chars().take(80).collect();
        let is_said = |words| said.err.contains(words);
        assert!(
            is_said("waits for CI") && is_said(words),
            "{shown}: {said:?}"
        );
        assert_eq!(is_said(no_system), words == no_path, "{shown}: {said:?}");
        assert!(!said.err.contains(['\u{1b}', '\u{7}', '\0']), "{said:?}");
        ci.assert_awaited();
        let calls = fs::read_to_string(ci.world.path("calls")).unwrap_or_default();
        assert!(
            !calls.contains("realise") && !marker.exists(),
            "{shown}: {calls}"
        );
    }
    // A folder in place of the note.
    let tree = ci.origin.git(&["rev-parse", "HEAD^{tree}"]);
    put_tree(&ci, &format!("040000 tree {tree}\t{}\n", ci.commit));
    let said = ci.comin(&["run"], 0);
    assert!(said.err.contains("it is not a text"), "{said:?}");
    ci.assert_awaited();
}

/// Makes a tree with this content the notes.
fn put_tree(ci: &Ci, content: &str) {
    let mktree = format!("printf '%s' '{content}' | git mktree --missing");
    let tree = sh(ci, &mktree);
    let commit = ci.origin.git(&["commit-tree", &tree, "-m", "notes"]);
    ci.origin.git(&["update-ref", "refs/notes/comin", &commit]);
}

fn sh(ci: &Ci, script: &str) -> String {
    let mut sh = Command::new("sh");
    isolated(&mut sh, &ci.world.path("home"));
    let output = sh
        .args(["-c", script])
        .current_dir(&ci.origin.path)
        .output();
    let said = Said::of(&output.unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.trim().to_string()
}

#[test]
fn note_is_found_below_folders() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.build_good("second");
    fs::write(ci.world.path("note"), format!("m {system}\n")).unwrap();
    let file = ci.world.path("note").display().to_string();
    let blob = ci.origin.git(&["hash-object", "-w", &file]);
    let (first, rest) = ci.commit.split_at(2);
    let (second, rest) = rest.split_at(2);
    let inner = sh(
        &ci,
        &format!("printf '100644 blob {blob}\\t{rest}\\n' | git mktree"),
    );
    let outer = sh(
        &ci,
        &format!("printf '040000 tree {inner}\\t{second}\\n' | git mktree"),
    );
    put_tree(&ci, &format!("040000 tree {outer}\t{first}\n"));
    assert!(ci
        .origin
        .git(&["notes", "--ref=comin", "show", "HEAD"])
        .contains(&system));
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn commit_is_evaluated_here_when_patience_is_over() {
    need!("git", "nix", "faketime");
    let mut ci = Ci::new(&json!({"notes": "comin", "otherwise": "evaluate", "patience": 3600}));
    ci.commit = ci.origin.commit("third", &System::default());
    let said = ci.comin(&["run"], 0);
    assert!(said.err.contains("waits for CI"), "{said:?}");
    ci.assert_awaited();
    assert!(ci.world.plan()["retry_at"].is_string());
    let said = ci.world.shifted("+59m", &["run"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    ci.assert_awaited();
    let said = ci.world.shifted("+61m", &["fetch", "origin"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(ci.world.path("root/run/comin/wanted").exists());
    let said = ci.world.shifted("+61m", &["deploy"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(ci.world.switches(), ["switch first", "switch third"]);
}

#[test]
fn evaluation_is_stopped_if_ci_names_the_system_meanwhile() {
    need!("git", "nix");
    let mut ci = Ci::new(&json!({"notes": "comin", "otherwise": "evaluate", "patience": 0}));
    let (begun, open) = (ci.world.path("begun"), ci.world.path("open"));
    let system = System::instead(&format!(
        "throw (builtins.readFile (derivation {{
            name = \"evaluation\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
            args = [ \"-c\" \"touch {}; while [ ! -e {} ]; do sleep 0.01; done; echo >$out\" ]; }}))",
        begun.display(),
        open.display()
    ));
    ci.commit = ci.origin.commit("second", &system);
    let built = ci.build_good("second");
    let mut comin = ci.command(&["run"]);
    let child = comin.stderr(Stdio::piped()).spawn().unwrap();
    await_that(|| begun.exists());
    ci.append("other /nix/store/a-b");
    ci.comin(&["fetch", "origin"], 0);
    let wanted = ci.world.path("root/run/comin/wanted");
    await_that(|| !wanted.exists());
    assert_eq!(ci.world.status()["phase"], "evaluating");
    ci.append(&format!("m {built}"));
    ci.comin(&["fetch", "origin"], 0);
    await_that(|| ci.world.switches() == ["switch first", "switch second"]);
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    let statuses: Vec<_> = ci
        .world
        .history()
        .iter()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(statuses, ["done", "skipped", "done"]);
}

#[test]
fn system_that_ci_has_built_is_confirmed_like_any_other() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    let manual = json!({"mode": "manual"});
    ci.world.configure(|config| {
        config["build_confirmer"] = manual.clone();
        config["deploy_confirmer"] = manual;
    });
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.comin(&["run"], 0);
    assert!(
        !Path::new(&system).exists(),
        "it is not fetched before it is confirmed"
    );
    ci.comin(&["confirm", "build"], 0);
    ci.comin(&["run"], 0);
    assert!(ci.is_rooted(&system));
    assert_eq!(ci.world.switches(), ["switch first"]);
    // Nothing is asked of CI again.
    ci.origin.git(&["update-ref", "-d", "refs/notes/comin"]);
    ci.comin(&["fetch", "origin"], 0);
    ci.comin(&["confirm", "deploy"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    assert_eq!(ci.world.history().len(), 2);
}

#[test]
fn system_that_ci_names_during_the_wait_for_a_confirmation_is_fetched() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    ci.world
        .configure(|config| config["build_confirmer"] = json!({"mode": "manual"}));
    ci.append(&format!("m /nix/store/{}-gone", "a".repeat(32)));
    ci.comin(&["run"], 0);
    assert_eq!(ci.plan(&[])["action"], "await_confirmation");
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.comin(&["fetch", "origin"], 0);
    ci.comin(&["confirm", "build"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    let statuses = ci.world.history();
    let statuses: Vec<_> = statuses.iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, ["done", "done"]);
}

#[test]
fn system_that_ci_has_built_passes_the_gates() {
    need!("git", "nix");
    let mut ci = Ci::with_notes();
    let open = ["build", "deploy"].map(|before| ci.world.path(before));
    ci.world.configure(|config| {
        let gate = |n: usize, before: &str| {
            let command = format!("test -e {} || exit 75", open[n].display());
            json!({"before": before, "command": command})
        };
        config["gates"] = json!({"b": gate(0, "build"), "d": gate(1, "deploy")});
    });
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.comin(&["run"], 0);
    assert_eq!(ci.plan(&[])["action"], "await_gate");
    assert!(!Path::new(&system).exists());
    fs::write(&open[0], "").unwrap();
    ci.comin(&["retry"], 0);
    ci.comin(&["run"], 0);
    assert!(ci.is_rooted(&system));
    assert_eq!(ci.plan(&[])["action"], "await_gate");
    assert_eq!(ci.world.switches(), ["switch first"]);
    fs::write(&open[1], "").unwrap();
    ci.comin(&["retry"], 0);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    assert_eq!(ci.world.history().len(), 2);
}

#[test]
fn plan_builds_what_ci_has_built() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    ci.comin(&["fetch", "origin"], 0);
    let plan = ci.plan(&["--build"]);
    assert_eq!(plan["action"], "deploy");
    assert_eq!(plan["build"]["out"], system.as_str(), "{plan:#}");
    assert!(plan["build"]["derivation"].is_null());
    ci.assert_untouched();
}

/// A server that answers each request with this, and tells what was requested.
fn serve(answer: Arc<Mutex<String>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = requests.clone();
    thread::spawn(move || {
        // None is closed: an answer ends where it says, or never.
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            log.lock()
                .unwrap()
                .extend(head.lines().next().map(str::to_string));
            let answer = answer.lock().unwrap().clone();
            let _ = stream.write_all(answer.as_bytes());
            streams.push(stream);
        }
    });
    (url, requests)
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[test]
fn server_names_the_system_of_a_commit() {
    need!("git", "nix");
    let answer = Arc::new(Mutex::new(response("404 Not Found", "")));
    let (url, requests) = serve(answer.clone());
    let template = format!("{url}/{{hostname}}/{{branch}}?rev={{commit}}");
    let ci = Ci::new(&json!({"url": template}));
    let say = |status: &str, body: &str| *answer.lock().unwrap() = response(status, body);
    ci.comin(&["run"], 0);
    ci.assert_awaited();
    let asked = format!("GET /m/main?rev={} HTTP/1.1", ci.commit);
    assert_eq!(requests.lock().unwrap().last(), Some(&asked));
    assert!(ci.world.status()["hindrance"]
        .as_str()
        .unwrap()
        .contains("waits for CI"));

    let system = ci.build_good("second");
    let (large, several) = ("x".repeat(1024 * 1024), format!("{system} /nix/store/a-b"));
    for endless in [
        format!("HTTP/1.1 200 OK\r\n\r\n{large}"),
        format!("HTTP/1.1 200 OK\r\nX: {large}"),
        response("302 Found\r\nLocation: /again", ""),
    ] {
        *answer.lock().unwrap() = endless;
        let shown = ci.comin(&["plan"], 0).out;
        assert!(shown.contains(&url), "{shown}");
    }
    for (status, body, words) in [
        ("500 Internal Server Error", "", "500"),
        ("302 Found\r\nLocation: file:///etc/passwd", "", &url),
        ("200 OK", "{}", "no store path"),
        ("200 OK", several.as_str(), "several"),
        ("200 OK", large.as_str(), &url),
    ] {
        say(status, body);
        let said = ci.comin(&["run"], 0);
        assert!(said.err.contains(words), "{status}: {said:?}");
        ci.assert_awaited();
    }

    // A server's word is not enough: the system has to tell its commit.
    let mut identity = ci.identity();
    identity["revision"] = Value::Null;
    let nameless = ci.build(&Order {
        label: "nameless",
        identity: Some(identity),
        key: Some("ours"),
    });
    say("200 OK", &nameless);
    let said = ci.comin(&["run"], 1);
    assert!(
        said.err.contains("system.configurationRevision"),
        "{said:?}"
    );
    ci.assert_untouched();

    let hydra = json!({"drvpath": "/nix/store/a-b.drv", "buildoutputs": {"out": {"path": system}}});
    say("200 OK", &hydra.to_string());
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
}

#[test]
fn file_that_ci_writes_beside_the_cache_names_a_system() {
    need!("git", "nix", "jq");
    let script = &blocks("fleet.md", "bash")[0];
    let settings = blocks("fleet.md", "nix");
    let url = settings
        .iter()
        .find_map(|it| it.split_once("url = \"https://cache.example.org/s"));
    let (_, url) = url.unwrap();
    let url = url.split('"').next().unwrap();

    let answer = Arc::new(Mutex::new(response("404 Not Found", "")));
    let (server, requests) = serve(answer.clone());
    let mut ci = Ci::new(&json!({"url": format!("{server}/s{url}")}));
    let identity = "builtins.toJSON { hostname = \"m\"; machine_id = null; revision = self.rev; }";
    flake_of(&ci, "built", identity, "broken = throw \"no\";");
    ci.commit = ci.origin.commit_all("third");
    ci.comin(&["run"], 0);
    ci.assert_awaited();

    let bucket = ci.world.path("bucket");
    let cache = format!("file://{}?", ci.world.path("cache").display());
    let sync = "aws s3 sync --endpoint-url https://s3.example.org systems s3://cache/systems";
    let script = script
        .replace(
            "comin build",
            &format!("{} build", env!("CARGO_BIN_EXE_comin")),
        )
        .replace("s3://cache?endpoint=s3.example.org&", &cache)
        .replace(sync, &format!("cp -r systems {}", bucket.display()));
    let mut sh = ci.nix("sh");
    sh.env("NIX_CONFIG", "experimental-features = nix-command\nsandbox = false\nsubstitute = false\nbuild-users-group =\n");
    sh.env("CACHE_KEY", ci.world.path("ours"));
    let output = sh
        .args(["-euc", &script])
        .current_dir(&ci.origin.path)
        .output();
    let said = Said::of(&output.unwrap());
    assert_eq!(said.code, Some(1), "of the broken host: {said:?}");

    let asked = requests.lock().unwrap().last().cloned().unwrap();
    let file = asked
        .split(' ')
        .nth(1)
        .unwrap()
        .strip_prefix("/systems/")
        .unwrap();
    let content = fs::read_to_string(bucket.join(file)).unwrap();
    *answer.lock().unwrap() = response("200 OK", &content);
    ci.comin(&["run"], 0);
    assert_eq!(ci.world.switches(), ["switch first", "switch built"]);
}

#[test]
fn server_is_asked_again_after_a_minute() {
    need!("git", "nix", "faketime");
    let answer = Arc::new(Mutex::new(response("404 Not Found", "")));
    let (url, requests) = serve(answer);
    let ci = Ci::new(&json!({"url": format!("{url}/{{commit}}")}));
    ci.comin(&["run"], 0);
    let wanted = ci.world.path("root/run/comin/wanted");
    ci.comin(&["fetch", "origin"], 0);
    assert!(!wanted.exists());
    assert_eq!(requests.lock().unwrap().len(), 1);
    let said = ci.world.shifted("+61s", &["fetch", "origin"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(wanted.exists());
}

/// A run that fetches a system from a cache that holds it back.
#[test]
fn fetch_of_a_system_goes_on_while_a_newer_commit_waits_for_ci() {
    need!("git", "nix");
    let ci = Ci::with_notes();
    let system = ci.build_good("second");
    ci.append(&format!("m {system}"));
    let (begun, open): (PathBuf, PathBuf) = (ci.world.path("begun"), ci.world.path("open"));
    let hold = format!(
        "case \"$*\" in *--realise*second*) touch '{}'; while [ ! -e '{}' ]; do sleep 0.01; done;; esac",
        begun.display(),
        open.display()
    );
    let environment = ci.command(&[]);
    let mut comin = ci.world.command_with(&["run"], &[("nix-store", &hold)]);
    let config = environment
        .get_envs()
        .find(|(name, _)| *name == "NIX_CONFIG");
    comin.env("NIX_CONFIG", config.unwrap().1.unwrap());
    let child = comin.stderr(Stdio::piped()).spawn().unwrap();
    await_that(|| begun.exists());
    ci.origin.commit_all("third");
    ci.comin(&["fetch", "origin"], 0);
    let wanted = ci.world.path("root/run/comin/wanted");
    await_that(|| !wanted.exists());
    fs::write(&open, "").unwrap();
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(ci.world.switches(), ["switch first", "switch second"]);
    assert_eq!(ci.world.status()["action"], "await_prebuilt");
}
