//! A world for comin: a scratch root, repositories, and the program itself, all of them real.

pub mod boot;
pub mod desktop;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use serde_json::{json, Value};
use tempfile::TempDir;

use crate::support::{self, isolated, transitions, Said};

/// What is said of a repository whose objects have names of SHA-256.
pub const SHA256: &str = "a repository with SHA-256 objects cannot be followed: use one with SHA-1 objects, as git init --object-format=sha1 makes it";

/// comin on a terminal that can do colours and be drawn on.
pub fn on_terminal(home: &Path, arguments: &str) -> Command {
    let mut script = Command::new("script");
    isolated(&mut script, home);
    let comin = env!("CARGO_BIN_EXE_comin");
    script
        .args(["--quiet", "--return", "--command"])
        // Not every shell gives way to its last command by itself, and one that stays gets the keys, too.
        .arg(format!("exec {comin} {arguments}"))
        .arg("/dev/null")
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    script
}

/// A machine below a folder of its own, and the repositories that it follows.
pub struct World {
    dir: TempDir,
    config: Value,
}

impl World {
    /// A machine `m` that follows the remote `origin`, a work tree with one commit on `main`.
    pub fn new() -> (Self, Repository) {
        let mut world = Self::empty();
        let origin = world.repository("origin");
        origin.commit("first", &System::default());
        world.follow("origin", &origin.path.display().to_string());
        (world, origin)
    }

    /// A machine `m` that follows nothing yet.
    pub fn empty() -> Self {
        // The first Nix ever on a machine makes the store, and two of them get in each other's way.
        static STORE: Once = Once::new();
        STORE.call_once(|| {
            let made = Command::new("nix-store").arg("--init").status();
            assert!(made.is_err() || made.unwrap().success());
        });
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        fs::create_dir_all(dir.path().join("home")).unwrap();
        fs::write(
            dir.path().join("root/etc/machine-id"),
            format!("{}\n", "5".repeat(32)),
        )
        .unwrap();
        let config = json!({"hostname": "m", "remotes": []});
        let mut world = Self { dir, config };
        world.configure(|_| ());
        world
    }

    /// A path below the world.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The scratch root.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// An empty repository whose branch is `main`.
    pub fn repository(&self, name: &str) -> Repository {
        self.repository_with(name, "sha1")
    }

    /// [`World::repository`], whose objects have names of this format.
    pub fn repository_with(&self, name: &str, object_format: &str) -> Repository {
        let repository = Repository::at(self, name);
        fs::create_dir(&repository.path).unwrap();
        let object_format = format!("--object-format={object_format}");
        repository.git(&["init", "--quiet", "--initial-branch=main", &object_format]);
        repository
    }

    /// Adds a remote.
    pub fn follow(&mut self, name: &str, url: &str) {
        self.configure(|config| {
            let remotes = config["remotes"].as_array_mut().unwrap();
            remotes.push(json!({"name": name, "url": url}));
        });
    }

    /// Changes the configuration.
    pub fn configure(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }

    /// The program with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.path("config.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_comin"));
        isolated(&mut command, &self.path("home"));
        command
            .arg("--root")
            .arg(self.root())
            .arg("--config")
            .arg(config)
            .args(arguments);
        command
    }

    /// The program with these arguments, for a shell.
    pub fn line(&self, arguments: &[&str]) -> String {
        let comin = self.command(arguments);
        let words = std::iter::once(comin.get_program()).chain(comin.get_args());
        let words: Vec<&str> = words.map(|it| it.to_str().unwrap()).collect();
        words.join(" ")
    }

    /// The program with these arguments, on a terminal.
    pub fn on_terminal(&self, arguments: &str) -> Command {
        let (root, config) = (self.root(), self.path("config.json"));
        let (root, config) = (root.display(), config.display());
        let arguments = format!("--root {root} --config {config} {arguments}");
        on_terminal(&self.path("home"), &arguments)
    }

    /// Runs comin and expects this exit code.
    pub fn comin(&self, arguments: &[&str], code: i32) -> Said {
        let said = Said::of(&self.command(arguments).output().unwrap());
        assert_eq!(said.code, Some(code), "comin {arguments:?}: {said:?}");
        said
    }

    /// Runs comin with its clock shifted, as `-1y`, and returns what it said.
    pub fn shifted(&self, by: &str, arguments: &[&str]) -> Said {
        Said::of(&self.at_time(by, arguments).output().unwrap())
    }

    /// The program at a local time, such as `2030-01-02 12:00:00`.
    pub fn at(&self, time: &str, arguments: &[&str]) -> Command {
        self.at_time(&format!("@{time}"), arguments)
    }

    fn at_time(&self, time: &str, arguments: &[&str]) -> Command {
        let comin = self.command(arguments);
        let mut faketime = Command::new("faketime");
        isolated(&mut faketime, &self.path("home"));
        // As everywhere: the clock that runs from the boot is right.
        faketime
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .args(["-f", time])
            .arg(comin.get_program())
            .args(comin.get_args());
        faketime
    }

    /// The program with a shell script in front of each of these tools, which it ends by running.
    pub fn command_with(&self, arguments: &[&str], before: &[(&str, &str)]) -> Command {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let path = std::env::var("PATH").unwrap();
        for (tool, script) in before {
            let script = format!("#!/bin/sh\nPATH='{path}'\n{script}\nexec {tool} \"$@\"\n");
            fs::write(bin.join(tool), script).unwrap();
            fs::set_permissions(bin.join(tool), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut comin = self.command(arguments);
        comin.env("PATH", format!("{}:{path}", bin.display()));
        comin
    }

    /// The program that notes in the file `calls` how it calls what evaluates, a line each.
    pub fn noting_calls(&self, arguments: &[&str]) -> Command {
        let calls = self.path("calls");
        let note = |tool: &str| {
            format!(
                "echo {tool} \"$*\" | tr '\\n' ' ' >>'{}'; echo >>'{0}'",
                calls.display()
            )
        };
        let (nix, old) = (note("nix"), note("nix-instantiate"));
        self.command_with(arguments, &[("nix", &nix), ("nix-instantiate", &old)])
    }

    /// The commit that the mirror has for a branch of a remote, as `origin/main`.
    pub fn mirrored(&self, branch: &str) -> Option<String> {
        let mut git = Command::new("git");
        git.arg("--git-dir")
            .arg(self.path("root/var/lib/comin/repository"));
        let output = git
            .args(["rev-parse", "--verify", "--quiet"])
            .arg(format!("refs/remotes/{branch}"))
            .output();
        let output = output.unwrap();
        let commit = String::from_utf8(output.stdout).unwrap().trim().to_string();
        output.status.success().then_some(commit)
    }

    /// `comin status --json`.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.comin(&["status", "--json"], 0).out).unwrap()
    }

    /// `comin plan --json`.
    pub fn plan(&self) -> Value {
        serde_json::from_str(&self.comin(&["plan", "--json"], 0).out).unwrap()
    }

    /// `comin history --json`.
    pub fn history(&self) -> Vec<Value> {
        serde_json::from_str(&self.comin(&["history", "--json"], 0).out).unwrap()
    }

    /// What `switch-to-configuration` did: `switch LABEL`, in order.
    pub fn switches(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("root/switch.log")).unwrap_or_default();
        let label = |line: &str| {
            let (action, toplevel) = line.split_once(' ').unwrap();
            let label = fs::read_to_string(Path::new(toplevel).join("nixos-version")).unwrap();
            format!("{action} {}", label.trim())
        };
        log.lines().map(label).collect()
    }

    /// The label of the running system.
    pub fn running(&self) -> String {
        fs::read_to_string(self.path("root/run/current-system/nixos-version")).unwrap()
    }

    /// The current generation of the system profile, as `system-N-link`.
    pub fn profile(&self) -> Option<String> {
        let link = fs::read_link(self.path("root/nix/var/nix/profiles/system")).ok()?;
        Some(link.display().to_string())
    }

    /// The references of the mirror.
    pub fn mirror_refs(&self) -> Vec<String> {
        let mirror = Repository::at(self, "root/var/lib/comin/repository");
        let refs = mirror.git(&["for-each-ref", "--format=%(refname)"]);
        refs.lines().map(str::to_string).collect()
    }

    /// Every file below a path, with what changes when it is written or replaced.
    pub fn files(&self, path: &str) -> String {
        let mut find = Command::new("find");
        find.arg(self.path(path))
            .args(["-printf", "%p %i %s %T@\n"]);
        String::from_utf8(find.output().unwrap().stdout).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let state = fs::read(self.path("root/var/lib/comin/state.json"));
            transitions::check(&state.unwrap_or_default());
        }
    }
}

/// What a commit's configuration says of the machine's system.
#[derive(Clone)]
pub struct System {
    /// Nix code for further arguments of `tests/host/system`.
    pub arguments: String,
    /// Nix code for `services.comin.machineId`.
    pub machine_id: String,
    /// Nix code that replaces the toplevel.
    pub toplevel: Option<String>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            arguments: String::new(),
            machine_id: "null".to_string(),
            toplevel: None,
        }
    }
}

impl System {
    pub fn with(arguments: &str) -> Self {
        Self {
            arguments: arguments.to_string(),
            ..Self::default()
        }
    }

    /// A toplevel of the test's own.
    pub fn instead(toplevel: &str) -> Self {
        Self {
            toplevel: Some(toplevel.to_string()),
            ..Self::default()
        }
    }
}

/// A Git repository with a flake in it.
pub struct Repository {
    pub path: PathBuf,
    home: PathBuf,
    root: PathBuf,
}

impl Repository {
    /// One of a world's repositories that is there already.
    pub fn at(world: &World, name: &str) -> Self {
        Self {
            path: world.path(name),
            home: world.path("home"),
            root: world.root(),
        }
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        isolated(&mut git, &self.home);
        let output = git
            .arg("-C")
            .arg(&self.path)
            .args(arguments)
            .output()
            .unwrap();
        let said = Said::of(&output);
        assert_eq!(said.code, Some(0), "git {arguments:?}: {said:?}");
        said.out.trim_end().to_string()
    }

    /// Commits a system whose label is the subject, and returns the commit.
    pub fn commit(&self, subject: &str, system: &System) -> String {
        self.write("", subject, system);
        self.commit_all(subject)
    }

    pub fn commit_all(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Puts a system in place of the latest commit's, and returns the commit.
    pub fn amend(&self, subject: &str, system: &System) -> String {
        self.write("", subject, system);
        self.git(&[
            "commit",
            "--quiet",
            "--all",
            "--amend",
            "--message",
            subject,
        ]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Writes a flake into a folder of the work tree.
    pub fn write(&self, folder: &str, label: &str, system: &System) {
        let configuration = self.configuration(folder, label, system);
        let flake = format!(
            "{{ outputs = _: {{ nixosConfigurations.\"m\".config = {configuration}; }}; }}"
        );
        fs::write(self.path.join(folder).join("flake.nix"), flake).unwrap();
    }

    /// Nix code for what a NixOS configuration has as `config`, for a file in this folder of the work
    /// tree, into which goes what the code needs.
    pub fn configuration(&self, folder: &str, label: &str, system: &System) -> String {
        let folder = self.path.join(folder);
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/system");
        fs::create_dir_all(folder.join("system")).unwrap();
        for file in fs::read_dir(files).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join("system").join(file.file_name())).unwrap();
        }
        let toplevel = system.toplevel.clone().unwrap_or_else(|| {
            format!(
                "import ./system {{ label = {label:?}; scratch = {:?}; {} }}",
                self.root, system.arguments
            )
        });
        format!(
            "{{ system.build.toplevel = {toplevel}; services.comin.machineId = {}; }}",
            system.machine_id
        )
    }
}

/// Waits for what another process brings about.
#[track_caller]
pub fn await_that(done: impl FnMut() -> bool) {
    support::await_that("see the line of this panic", done);
}

/// Starts the program.
pub fn start(world: &World, arguments: &[&str]) -> Child {
    let mut command = world.command(arguments);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A system whose build begins, and then waits until the test lets it go on.
pub struct Gate {
    pub system: System,
    begun: PathBuf,
    open: PathBuf,
}

impl Gate {
    pub fn new(world: &World) -> Self {
        Self::named(world, "gate")
    }

    /// One of several.
    pub fn named(world: &World, name: &str) -> Self {
        let (begun, open) = (
            world.path(&format!("{name}-begun")),
            world.path(&format!("{name}-open")),
        );
        let script = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.01; done",
            begun.display(),
            open.display()
        );
        let system = System::with(&format!(
            "extra.\"gate\" = \"${{derivation {{
            name = \"gate\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
            args = [ \"-c\" \"{script}; echo >$out\" ]; salt = \"{}\"; }}}}\";",
            begun.display()
        ));
        Self {
            system,
            begun,
            open,
        }
    }

    /// Waits until the build has begun.
    pub fn await_begun(&self) {
        await_that(|| self.begun.exists());
    }

    /// A build that has begun was stopped: the next one is awaited.
    pub fn forget(&self) {
        fs::remove_file(&self.begun).unwrap();
    }

    pub fn open(&self) {
        fs::write(&self.open, "").unwrap();
    }
}

/// A run that is building a system, whose build waits until the test lets it go on.
pub fn building(world: &World, origin: &Repository) -> (System, Child, impl Fn()) {
    let gate = Gate::new(world);
    origin.commit("gated", &gate.system);
    let deploy = start(world, &["run"]);
    gate.await_begun();
    (gate.system.clone(), deploy, move || gate.open())
}
