//! A whole machine for comin: a real systemd with a real Nix (see `tests/host`), a repository in the home
//! of its user, and a server. Its system is comin's own units, as the module makes them, on a small NixOS.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{json, Value};
use tempfile::TempDir;

use crate::support::http::Server;
use crate::support::{await_that, tell, transitions, Said};

/// How many machines run at a time.
const SLOTS: usize = 2;
/// The user who owns the local repository.
pub const OWNER: u32 = 1000;
/// Where it is on the machine; nobody else can enter the folder above it.
pub const LOCAL: &str = "/home/owner/config";
/// The path that the module would give to comin's services.
const PATH: &str = "/usr/local/bin:/usr/bin";

/// The configuration of the machine: `configuration.json` beside it holds what commits change.
///
/// * `label`: the system's name;
/// * `comin`: what is given to the module's units, and becomes `config.json`; null: comin is disabled;
/// * `evaluation`, `build`: shell code that runs during the evaluation and during the build;
/// * `units`, `wants`: further units, and what pulls them in;
/// * `settings`: further keys of `config.json`;
/// * `etc`: further files below `/etc`;
/// * `system`: further arguments of `tests/host/system`.
const FLAKE: &str = r#"{
  outputs =
    _:
    let
      configuration = builtins.fromJSON (builtins.readFile ./configuration.json);
      inherit (configuration) comin;

      units = import ./module/units.nix comin;
      rendered = import ./module/render.nix units;
      # What NixOS adds to each service by itself, and module/default.nix by its options.
      environment = builtins.listToAttrs (
        map (service: {
          name = "${service}.service.d/environment.conf";
          value = "[Service]\nEnvironment=PATH=@PATH@\n"
            + (if service == "comin" then "Environment=HOME=/root\n" else "");
        }) (builtins.attrNames units.services)
      );
      settings = configuration.settings // {
        hostname = "machine";
        remotes = map (
          remote: removeAttrs remote [ "watch" ] // { poller = { inherit (remote.poller) period; }; }
        ) comin.remotes;
      };

      run =
        name: script:
        derivation {
          inherit name;
          system = "x86_64-linux";
          builder = "/bin/sh";
          PATH = "/usr/bin:/bin";
          args = [
            "-euc"
            "${script}\necho ${name} >$out"
          ];
        };
      # Nix has to build it before it can go on with the evaluation.
      evaluated =
        if configuration ? evaluation then builtins.readFile (run "evaluation" configuration.evaluation) else "";
      built = if configuration ? build then { "built" = "${run "build" configuration.build}"; } else { };

      ofComin =
        if comin == null then
          { }
        else
          {
            users = [ "comin" "comin-eval" ];
            units = rendered.files // environment // configuration.units or { };
            wants = rendered.wants // configuration.wants or { };
            inherit (rendered) requires;
            etc = {
              "comin/config.json" = builtins.toJSON settings;
            }
            // builtins.listToAttrs (
              map (unit: {
                name = "systemd/user/${unit}";
                value = rendered.userFiles.${unit};
              }) (builtins.attrNames rendered.userFiles)
            )
            // configuration.etc or { };
          };
      toplevel = import ./system (
        {
          inherit (configuration) label;
          extra = built;
        }
        // ofComin
        // configuration.system or { }
      );
    in
    {
      nixosConfigurations.machine.config = {
        services.comin.machineId = null;
        system.build.toplevel = builtins.seq evaluated toplevel;
      };
    };
}
"#;

/// Leaves the test where there can be no machine: visibly at home, as a failure in CI.
macro_rules! need_host {
    () => {
        if let Err(reason) = $crate::machine::rootfs() {
            $crate::support::skip(reason);
            return;
        }
    };
}

/// The file system that every machine starts from, or the reason why there can be none. `COMIN_TEST_SUITE`
/// names the Debian that it is made of.
pub fn rootfs() -> Result<&'static Path, &'static str> {
    static ROOTFS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let prepare = || {
        let suite = std::env::var_os("COMIN_TEST_SUITE").unwrap_or("trixie".into());
        let rootfs = PathBuf::from(script("rootfs.sh", &[Path::new(&suite)])?);
        // Whether one can be started here only a start can tell.
        let trial = tempfile::tempdir().unwrap();
        let booted = script("boot.sh", &[&rootfs, trial.path()]);
        script("stop.sh", &[trial.path()]).unwrap();
        booted.map(|_| rootfs)
    };
    let rootfs = ROOTFS.get_or_init(prepare).as_ref();
    rootfs.map(PathBuf::as_path).map_err(String::as_str)
}

/// Runs a script of `tests/host`; the error is its own reason why this machine cannot do it.
fn script(name: &str, arguments: &[&Path]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host");
    let mut script = Command::new(path.join(name));
    let output = script.args(arguments).stdin(Stdio::null()).output();
    let said = Said::of(&output.unwrap());
    match said.code {
        Some(0) => Ok(said.out.trim().to_string()),
        Some(77) => Err(said.err.trim().to_string()),
        _ => panic!("{name} {arguments:?}: {said:?}"),
    }
}

/// The right to run a machine.
struct Slot;

static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Slot {
    fn take() -> Self {
        let taken = TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = TAKEN.1.wait_while(taken, |taken| *taken >= SLOTS);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TAKEN.1.notify_one();
    }
}

/// A machine that runs, until it is dropped.
pub struct Host {
    folder: TempDir,
    init: Cell<u32>,
    /// The server of its origin.
    pub server: Server,
    /// The repository in the owner's home.
    pub local: Repository,
    /// After the machine.
    _slot: Slot,
}

impl Host {
    /// A machine that runs the system of the first commit, which comin itself has deployed.
    pub fn installed(configuration: &Configuration) -> Self {
        Self::installed_with(configuration, |_| ())
    }

    /// The same on a machine that is prepared first.
    pub fn installed_with(configuration: &Configuration, prepare: impl FnOnce(&Self)) -> Self {
        let host = Self::bare();
        prepare(&host);
        let commit = host.commit(configuration);
        host.local.git(&host, "push --quiet origin main");
        host.write("/root/config.json", &configuration.settings(&host));
        host.run("comin --config /root/config.json run");
        host.await_deployed(&commit);
        host.await_idle();
        host
    }

    /// A machine without any comin in it but the program, a repository and a server.
    pub fn bare() -> Self {
        let slot = Slot::take();
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        let host = Self {
            folder,
            init: Cell::new(0),
            server,
            local: Repository(LOCAL),
            _slot: slot,
        };
        receiving_repository(&host.folder.path().join("origin.git"));
        host.boot();
        host.make_local();
        host
    }

    fn make_local(&self) {
        let repository = self.path(LOCAL);
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, from) in [("module", "module"), ("system", "tests/host/system")] {
            fs::create_dir_all(repository.join(folder)).unwrap();
            for file in fs::read_dir(project.join(from)).unwrap() {
                let file = file.unwrap();
                // The pages of module/docs are no part of the module.
                if file.file_type().unwrap().is_file() {
                    fs::copy(file.path(), repository.join(folder).join(file.file_name())).unwrap();
                }
            }
        }
        fs::write(repository.join("flake.nix"), FLAKE.replace("@PATH@", PATH)).unwrap();
        fs::write(repository.join("configuration.json"), "").unwrap();
        let home = repository.parent().unwrap();
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
        self.run(&format!("chown --recursive {OWNER}:{OWNER} {LOCAL}/.."));
        self.local.git(self, "init --quiet --initial-branch=main");
        self.local
            .git(self, &format!("remote add origin {}", self.origin()));
    }

    fn origin(&self) -> String {
        format!("{}/origin.git", self.server.url)
    }

    /// A configuration as text, with the address of the origin, or a name for it.
    pub fn located(&self, configuration: &Value) -> String {
        let (address, text) = (self.origin(), configuration.to_string());
        let name = address.replace("127.0.0.1", "origin.example");
        text.replace("@ORIGIN@", &address)
            .replace("@NAMED_ORIGIN@", &name)
    }

    // ---- power

    fn machine(&self) -> PathBuf {
        self.folder.path().join("machine")
    }

    /// Starts it, on the disk as it was left. `COMIN_BIN` names another program than the one of the tests.
    pub fn boot(&self) {
        let program = std::env::var_os("COMIN_BIN").unwrap_or(env!("CARGO_BIN_EXE_comin").into());
        let program = Path::new(&program);
        let init = script("boot.sh", &[rootfs().unwrap(), &self.machine(), program]);
        self.init.set(init.unwrap().parse().unwrap());
    }

    /// Cuts its power: at one moment for all, or comin would see systemd die, and act on that.
    pub fn cut_power(&self) {
        self.try_run("kill -STOP -1");
        script("stop.sh", &[&self.machine()]).unwrap();
    }

    /// Shuts it down in good order and starts it again.
    pub fn reboot(&self) {
        // It may be stopped along with the machine before it can say that it has worked.
        self.try_run("systemctl reboot --no-block");
        self.await_reboot();
    }

    /// Whether it has gone down by itself.
    pub fn is_down(&self) -> bool {
        self.machine().join("exit").exists()
    }

    /// Waits until it goes down by itself, and starts it again.
    pub fn await_reboot(&self) {
        await_that("the machine goes down", || self.is_down());
        self.boot();
    }

    // ---- what is on it

    /// A path of the machine, seen from outside; of its disk, if the machine is down. Absolute links on it lead astray.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.init.get()));
        let root = if root.exists() {
            root
        } else {
            self.machine().join("root")
        };
        root.join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn write(&self, path: &str, content: &str) {
        fs::write(self.path(path), content).unwrap();
    }

    /// A JSON file of the machine, `null` where there is none.
    pub fn json(&self, path: &str) -> Value {
        match self.read(path).as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    /// Runs a command as root, whatever comes of it. It is split at spaces.
    pub fn try_run(&self, words: &str) -> Said {
        self.try_all(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn try_all(&self, arguments: &[&str]) -> Said {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/run.sh");
        let mut command = Command::new(run);
        command.arg(self.machine()).args(arguments);
        Said::of(&command.stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command that has to work, and returns what it printed.
    #[track_caller]
    pub fn run(&self, words: &str) -> String {
        let said = self.try_run(words);
        assert_eq!(said.code, Some(0), "{words}: {said:?}");
        said.out.trim_end().to_string()
    }

    /// A property of a unit.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(&format!(
            "systemctl show --value --property={property} {unit}"
        ))
    }

    /// The units that these arguments of systemctl list.
    #[track_caller]
    pub fn units(&self, arguments: &str) -> Vec<String> {
        let list = format!("systemctl list-units --plain --no-legend {arguments}");
        let first = |line: &str| line.split_whitespace().next().unwrap().to_string();
        self.run(&list).lines().map(first).collect()
    }

    /// The lines of the journal that these arguments of journalctl find.
    #[track_caller]
    pub fn journal(&self, arguments: &str) -> Vec<Line> {
        let mut lines = self.whole_journal(arguments);
        // From version 262, systemd complains at each start of a unit if it cannot limit processes, because
        // the machine that runs the tests keeps that cgroup controller to itself.
        let controllers = self.read("/sys/fs/cgroup/cgroup.controllers");
        if !controllers.contains("pids") {
            lines.retain(|line| line.identifier != "systemd" || !line.message.contains("pids.max"));
        }
        lines
    }

    #[track_caller]
    fn whole_journal(&self, arguments: &str) -> Vec<Line> {
        self.run("journalctl --sync");
        let lines = format!("journalctl --quiet --no-pager --output=json {arguments}");
        self.run(&lines).lines().map(Line::parse).collect()
    }

    /// The arguments of journalctl for what comes from now on.
    #[track_caller]
    pub fn cursor_now(&self) -> String {
        let last = self.whole_journal("--lines=1").pop().unwrap();
        format!("--after-cursor={}", last.cursor)
    }

    // ---- comin

    /// Commits to the local repository.
    #[track_caller]
    pub fn commit(&self, configuration: &Configuration) -> String {
        self.local.commit(self, configuration)
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run("comin status --json")).unwrap()
    }

    pub fn attempts(&self) -> Vec<Value> {
        let state = self.json("/var/lib/comin/state.json");
        state["attempts"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the latest attempt is one on this commit and has ended, and returns it. One that was
    /// interrupted is followed by another, and one that waits has not ended.
    #[track_caller]
    pub fn await_ended(&self, commit: &str) -> Value {
        let mut attempt = Value::Null;
        await_that("the end of the attempt", || {
            attempt = self.attempts().pop().unwrap_or_default();
            attempt["commit"] == commit
                && !["running", "waiting", "interrupted"]
                    .map(Value::from)
                    .contains(&attempt["status"])
        });
        attempt
    }

    /// Waits until this commit is deployed, whatever becomes of the tries before.
    #[track_caller]
    pub fn await_done(&self, commit: &str) {
        await_that("the deployment", || {
            let attempt = self.attempts().pop().unwrap_or_default();
            attempt["commit"] == commit && attempt["status"] == "done"
        });
    }

    /// Waits until this commit is deployed.
    #[track_caller]
    pub fn await_deployed(&self, commit: &str) -> Value {
        let attempt = self.await_ended(commit);
        assert_eq!(attempt["status"], "done", "{attempt:#}");
        attempt
    }

    /// Waits until no deployment is under way or asked for.
    #[track_caller]
    pub fn await_idle(&self) {
        await_that("comin is idle", || {
            self.json("/run/comin/decided.json")["settled"] == true
                && !self.path("/run/comin/wanted").exists()
                && !self.path("/run/comin/remotes/.wanted").exists()
                && ["inactive", "failed"].contains(&&*self.show("comin.service", "ActiveState"))
        });
    }

    /// Stops what fetches by itself, and waits for the end of what that has begun. Each switch starts it again.
    #[track_caller]
    pub fn stop_fetches(&self) {
        self.run("systemctl stop comin-local.timer comin-local.path comin-origin.timer");
        let fetches = "comin-commit@local comin-local comin-origin";
        await_that("the end of the fetches", || {
            !self.show(fetches, "ActiveState").contains("activating")
        });
        self.await_idle();
    }

    /// When a remote was fetched.
    pub fn fetched(&self, remote: &str) -> Value {
        self.json(&format!("/run/comin/remotes/{remote}.json"))["attempted_at"].take()
    }

    /// Waits until a remote has been fetched.
    #[track_caller]
    pub fn await_fetched(&self, remote: &str) {
        let record = format!("/run/comin/remotes/{remote}.json");
        await_that("a fetch", || self.json(&record)["succeeded_at"].is_string());
    }

    /// Waits for further fetches of the local repository.
    #[track_caller]
    pub fn await_polls(&self, number: u32) {
        for _ in 0..number {
            let before = self.fetched("local");
            await_that("the next poll", || self.fetched("local") != before);
        }
    }

    /// What `switch-to-configuration` was asked for, as `switch LABEL`, in order.
    pub fn switches(&self) -> Vec<String> {
        let label = |line: &str| {
            let (action, toplevel) = line.split_once(' ').unwrap();
            format!("{action} {}", self.label(toplevel))
        };
        self.read("/switch.log").lines().map(label).collect()
    }

    /// The labels of the system that runs and of the one in the profile.
    pub fn systems(&self) -> (String, String) {
        let generation = format!("/nix/var/nix/profiles/{}", self.profile().display());
        (self.label("/run/current-system"), self.label(&generation))
    }

    /// The current generation of the system profile, as `system-N-link`.
    pub fn profile(&self) -> PathBuf {
        fs::read_link(self.path("/nix/var/nix/profiles/system")).unwrap()
    }

    /// The label of a system: a path of the store, or a link that leads there.
    pub fn label(&self, system: &str) -> String {
        let link = fs::read_link(self.path(system));
        let system = link.unwrap_or_else(|_| PathBuf::from(system));
        self.read(&format!("{}/nixos-version", system.display()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let state = self.read("/var/lib/comin/state.json");
        if thread::panicking() {
            let said = self.try_run("journalctl --no-pager --quiet --output=short-precise");
            let lines = said.out.lines().filter(|l| !l.contains(" skipped, "));
            let journal = lines.collect::<Vec<_>>().join("\n");
            tell(&format!("---- journal\n{journal}\n---- state\n{state}"));
        }
        if let Err(reason) = script("stop.sh", &[&self.machine()]) {
            tell(&reason);
        }
        if !thread::panicking() {
            transitions::check(state.as_bytes());
        }
    }
}

/// Makes an empty repository to which a [`Server`] lets everybody push.
pub fn receiving_repository(path: &Path) {
    let mut git = Command::new("git");
    git.args(["init", "--quiet", "--bare", "--initial-branch=main"]);
    assert!(git.arg(path).status().unwrap().success());
    let config = path.join("config");
    let receives = "[http]\n\treceivepack = true\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + receives).unwrap();
}

/// A repository on the machine, of the owner's.
pub struct Repository(&'static str);

impl Repository {
    /// Runs git as the owner, its arguments split at spaces.
    #[track_caller]
    pub fn git(&self, host: &Host, words: &str) {
        let name = "GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@example.org GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@example.org";
        let owner = format!("setpriv --reuid={OWNER} --regid={OWNER} --clear-groups");
        host.run(&format!(
            "env HOME=/home/owner {name} {owner} git -C {} {words}",
            self.0
        ));
    }

    /// Commits a configuration, whose label is the subject.
    #[track_caller]
    pub fn commit(&self, host: &Host, configuration: &Configuration) -> String {
        let file = format!("{}/configuration.json", self.0);
        host.write(&file, &configuration.text(host));
        let commit = "commit --quiet --all --allow-empty --message";
        self.git(host, "add .");
        self.git(host, &format!("{commit} {}", configuration.label()));
        let head = fs::read_to_string(self.head(host)).unwrap();
        head.trim().to_string()
    }

    /// The file of the branch that is checked out.
    fn head(&self, host: &Host) -> PathBuf {
        let head = host.read(&format!("{}/.git/HEAD", self.0));
        let branch = head.strip_prefix("ref: ").unwrap().trim();
        host.path(&format!("{}/.git/{branch}", self.0))
    }

    /// When the branch that is checked out moved, since 1970.
    pub fn moved(&self, host: &Host) -> Duration {
        let modified = fs::metadata(self.head(host)).unwrap().modified().unwrap();
        modified.duration_since(UNIX_EPOCH).unwrap()
    }

    /// Another repository with the same history, whose `origin` is the server.
    #[track_caller]
    pub fn cloned(&self, host: &Host, path: &'static str) -> Self {
        self.git(host, &format!("clone --quiet . {path}"));
        let clone = Self(path);
        clone.git(host, &format!("remote set-url origin {}", host.origin()));
        clone
    }
}

/// What a commit says of the machine: `configuration.json`.
#[derive(Clone)]
pub struct Configuration(Value);

impl Configuration {
    /// comin, following the local repository every second and the server every five minutes.
    pub fn new(label: &str) -> Self {
        let remote = |name, url, period| {
            json!({
                "name": name,
                "url": url,
                "timeout": 300,
                "branches": {
                    "main": {"name": "main", "operation": "switch"},
                    "testing": {"name": "testing-machine", "operation": "test"},
                },
                // Without jitter: a test knows when the first fetch is.
                "poller": {"period": period, "jitter": 0},
            })
        };
        Self(json!({
            "label": label,
            "settings": {"retry": {"first_delay": 1}},
            "comin": {
                "comin": "/usr/local/bin/comin",
                "debug": false,
                "remotes": [remote("local", LOCAL, 1), remote("origin", "@ORIGIN@", 300)],
            },
        }))
    }

    /// The same under another name.
    pub fn named(&self, label: &str) -> Self {
        self.with(label, |_| ())
    }

    /// The same under another name, and changed.
    pub fn with(&self, label: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut next = self.clone();
        next.0["label"] = label.into();
        change(&mut next.0);
        next
    }

    pub fn label(&self) -> &str {
        self.0["label"].as_str().unwrap()
    }

    fn text(&self, host: &Host) -> String {
        host.located(&self.0)
    }

    /// `config.json`, as the flake makes it.
    fn settings(&self, host: &Host) -> String {
        let mut remotes = self.0["comin"]["remotes"].clone();
        for remote in remotes.as_array_mut().unwrap() {
            remote.as_object_mut().unwrap().remove("watch");
            remote["poller"].as_object_mut().unwrap().remove("jitter");
        }
        let mut settings = self.0["settings"].clone();
        settings["hostname"] = "machine".into();
        settings["remotes"] = remotes;
        host.located(&settings)
    }
}

/// Shell code that waits until the test lets it go on, on whichever side of a power cut.
pub struct Gate<'a>(&'a Host, &'static str);

impl<'a> Gate<'a> {
    pub fn new(host: &'a Host, name: &'static str) -> Self {
        Self(host, name)
    }

    fn file(&self, what: &str) -> String {
        format!("/srv/{}.{what}", self.1)
    }

    /// The code. What is done again while the gate is closed waits again.
    pub fn code(&self) -> String {
        let (begun, open) = (self.file("begun"), self.file("open"));
        format!("touch {begun}; while [ ! -e {open} ]; do sleep 0.01; done")
    }

    #[track_caller]
    pub fn await_begun(&self) {
        let begun = self.0.path(&self.file("begun"));
        await_that(self.1, || begun.exists());
    }

    pub fn open(&self) {
        self.0.write(&self.file("open"), "");
    }
}

/// A line of the journal.
#[derive(Debug)]
pub struct Line {
    pub message: String,
    /// As in syslog: 3 is an error, 5 a notice, 6 information.
    pub priority: String,
    /// The program that said it.
    pub identifier: String,
    cursor: String,
    fields: Value,
}

impl Line {
    /// When the journal got it, since 1970.
    pub fn received(&self) -> Duration {
        let micros = self.fields["__REALTIME_TIMESTAMP"].as_str().unwrap();
        Duration::from_micros(micros.parse().unwrap())
    }

    fn parse(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        Self {
            message: field("MESSAGE"),
            priority: field("PRIORITY"),
            identifier: field("SYSLOG_IDENTIFIER"),
            cursor: field("__CURSOR"),
            fields: line,
        }
    }

    /// Where it is in the journal, and nothing else is.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Any field, where it is there once: of several, nobody could say which one counts.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields[name].as_str()
    }
}
