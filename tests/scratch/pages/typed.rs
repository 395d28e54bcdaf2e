//! A person who reads the pages and types their command lines, in a clone of the machines' repository.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::pages;
use crate::support::pages::{ON_DESKTOP, ON_HOST};
use crate::support::ssh::{self, Sshd};
use crate::support::{is_nix_at_least, isolated, skip, Said};
use crate::world::desktop::Desktop;
use crate::world::{await_that, Repository, System, World};

/// Lines that a script runs after these tests, with this command.
const BY_SCRIPT: [(&str, &str, &str); 5] = [
    ("./tests/demo.sh # a deployment, a live test, a failure and a refused force-push, below a scratch directory", "tests/run.sh", " tests/demo.sh\n"),
    ("./tests/run.sh  # all tests", ".ci/run", "exec tests/run.sh\n"),
    ("./tests/bench.sh crowd", "tests/run.sh", " tests/bench.sh crowd 3\n"),
    ("./tests/bench.sh fleet", "tests/run.sh", " tests/bench.sh fleet 3\n"),
    ("COMIN_FLAKE=path:.#laptop ./tests/bench.sh fleet", "tests/run.sh", " COMIN_FLAKE=\"path:$work/flake#laptop\" tests/bench.sh fleet 3\n"),
];

/// The program of NixOS, which this machine lacks: builds, sets the profile and switches.
const NIXOS_REBUILD: &str = r#"
attribute=config.system.build.toplevel
case "$*" in
    "switch --flake .#laptop") nix build --out-link "$HOME/built" ".#nixosConfigurations.laptop.$attribute" ;;
    "switch --file . --attr laptop") nix-build --out-link "$HOME/built" --attr "laptop.$attribute" ;;
    "switch --rollback")
        nix-env --profile "$PROFILES/system" --rollback
        exec "$PROFILES/system/bin/switch-to-configuration" switch ;;
    *) exit 1 ;;
esac
nix-env --profile "$PROFILES/system" --set "$HOME/built"
"$HOME/built/bin/switch-to-configuration" switch
"#;

/// The reader.
struct Reader {
    world: World,
    /// Where the lines are typed.
    folder: PathBuf,
    sshd: Sshd,
    typed: BTreeSet<(String, String)>,
}

impl Reader {
    /// A reader whose `origin` is empty yet, and whose flake has two hosts and two inputs.
    fn new() -> Self {
        let mut world = World::empty();
        let url = world.path("origin.git").display().to_string();
        world.follow("origin", &url);
        world.configure(|config| config["hostname"] = "laptop".into());
        for input in ["nixpkgs", "comin"] {
            world.repository(input);
        }
        let folder = world.path("machines");
        let sshd = Sshd::start(&world.path("sshd"));
        let reader = Self {
            world,
            folder,
            sshd,
            typed: BTreeSet::new(),
        };
        reader.update_inputs("first");
        reader.shim("sudo", "exec \"$@\"");
        reader.shim("ssh", "shift; exec \"$@\"");
        let profiles = reader.world.path("root/nix/var/nix/profiles");
        fs::create_dir_all(&profiles).unwrap();
        let profiles = format!("PROFILES={}", profiles.display());
        reader.shim(
            "nixos-rebuild",
            &format!("set -e; {profiles}{NIXOS_REBUILD}"),
        );
        let comin = reader.world.line(&[]);
        reader.shim("comin", &format!("exec {comin} \"$@\""));
        reader.write("");
        reader
    }

    /// A program of the reader's machine.
    fn shim(&self, name: &str, script: &str) {
        let path = self.world.path("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Commits to the inputs of the flake.
    fn update_inputs(&self, subject: &str) {
        for input in ["nixpkgs", "comin"] {
            let input = Repository::at(&self.world, input);
            fs::write(input.path.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
            input.commit_all(subject);
        }
    }

    fn machines(&self) -> Repository {
        Repository::at(&self.world, "machines")
    }

    /// Writes the flake, whose systems have this label.
    fn write(&self, label: &str) {
        let machines = self.machines();
        if !machines.path.exists() {
            self.shell("git init --quiet --bare --initial-branch=main origin.git; git clone --quiet origin.git machines", &self.world.path(""));
        }
        let configuration = machines.configuration("", label, &System::default());
        let input = |name: &str| format!("git+file://{}", self.world.path(name).display());
        let (nixpkgs, comin) = (input("nixpkgs"), input("comin"));
        let flake = format!(
            "{{ inputs.nixpkgs.url = \"{nixpkgs}\"; inputs.comin.url = \"{comin}\";
              outputs = _: {{ nixosConfigurations = {{
                laptop.config = {configuration}; server.config = {configuration};
              }}; }}; }}"
        );
        fs::write(machines.path.join("flake.nix"), flake).unwrap();
        fs::create_dir_all(machines.path.join("hosts")).unwrap();
        fs::write(machines.path.join("hosts/laptop.nix"), "{ }").unwrap();
        machines.git(&["add", "system"]);
    }

    /// A shell at which the reader sits.
    fn command(&self, script: &str, folder: &Path) -> Command {
        let mut shell = Command::new("sh");
        isolated(&mut shell, &self.world.path("home"));
        let path = std::env::var("PATH").unwrap();
        let bin = self.world.path("bin");
        shell
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("GNUPGHOME", self.world.path("home/.gnupg"))
            .env("NIX_CONFIG", "build-users-group =\nsubstitute = false\nsandbox = false\nexperimental-features = nix-command flakes")
            .args(["-euc", script])
            .current_dir(folder);
        shell
    }

    #[track_caller]
    fn shell(&self, script: &str, folder: &Path) -> String {
        let input = fs::File::open(self.world.path("config.json")).unwrap();
        let mut shell = self.command(script, folder);
        let said = Said::of(&shell.stdin(Stdio::from(input)).output().unwrap());
        assert_eq!(said.code, Some(0), "{script}: {said:?}");
        said.out
    }

    /// The lines of a section, as they can be typed here.
    fn lines(&mut self, page: &str, heading: &str) -> String {
        let all = pages();
        let page = all.iter().find(|it| it.name().ends_with(page)).unwrap();
        let section = page.section(heading);
        let lines = section.blocks("sh");
        let here = lines
            .lines()
            .filter(|line| !elsewhere().any(|it| it == *line));
        let here: Vec<&str> = here.collect();
        for line in &here {
            self.typed.insert((page.name(), (*line).to_string()));
        }
        let root = self.world.root().display().to_string();
        let cache = self.world.path("cache").display().to_string();
        let server = format!("-p {} 127.0.0.1", self.sshd.port);
        let mut lines = here.join("\n");
        if !is_nix_at_least(19) {
            lines = lines.replace("flake update ", "flake lock --update-input ");
        }
        lines
            .replace(" /etc/", &format!(" {root}/etc/"))
            .replace(" /var/", &format!(" {root}/var/"))
            .replace(" /run/", &format!(" {root}/run/"))
            .replace("ssh://cache.example.org", &format!("file://{cache}"))
            .replace(
                "s3://cache?endpoint=s3.example.org&",
                &format!("file://{cache}?"),
            )
            .replace("git.example.org", &server)
    }

    /// Types a command that a sentence of the page has, with other words in it, and returns what was printed.
    #[track_caller]
    fn types(&mut self, page: &str, line: &str, replace: &[(&str, &str)]) -> String {
        let all = pages();
        let page = all.iter().find(|it| it.name().ends_with(page)).unwrap();
        assert!(page.code().contains(&line), "no sentence has {line:?}");
        self.typed.insert((page.name(), line.to_string()));
        let with = |line: String, (from, to): &(&str, &str)| line.replace(from, to);
        let line = replace.iter().fold(line.to_string(), with);
        self.shell(&line, &self.folder.clone())
    }

    /// Types the lines of a section and returns what was printed.
    #[track_caller]
    fn follow(&mut self, page: &str, heading: &str) -> String {
        let lines = self.lines(page, heading);
        assert!(!lines.is_empty(), "{page} has no lines at {heading}");
        self.shell(&lines, &self.folder.clone())
    }

    /// Commits a system to the current branch and pushes it.
    fn push(&self, label: &str) {
        self.write(label);
        self.shell(
            &format!("git commit --quiet --all -m '{label}'; git push --quiet origin HEAD"),
            &self.folder,
        );
    }

    #[track_caller]
    fn deploys(&self, switch: &str) {
        self.world.comin(&["run"], 0);
        assert_eq!(self.world.switches().last().unwrap(), switch);
    }
}

fn getting_started(reader: &mut Reader) {
    let page = "getting-started.md";
    let nixos = reader.world.path("root/etc/nixos");
    fs::create_dir_all(&nixos).unwrap();
    let configuration = "{ imports = [ ./hardware-configuration.nix ]; }";
    fs::write(nixos.join("configuration.nix"), configuration).unwrap();
    fs::write(nixos.join("hardware-configuration.nix"), "{ }").unwrap();
    reader.follow(page, "1. Add comin to the flake");
    let copy = fs::read_to_string(reader.folder.join("hosts/laptop.nix")).unwrap();
    assert_eq!(copy, "{ imports = [ ./laptop-hardware.nix ]; }");
    reader.write("first");
    reader.follow(page, "2. Push, then switch once by hand");
    // comin finds that its system runs, and activates nothing.
    reader.deploys("switch first");
    assert_eq!(reader.world.switches().len(), 1);
    reader.follow("from-go-comin.md", "The step itself");
    reader.push("second");
    reader.deploys("switch second");
    reader.update_inputs("second");
    fs::create_dir_all(reader.world.path("root/var/cache/comin")).unwrap();
    reader.follow(page, "Every day");
    assert_eq!(reader.world.switches().last().unwrap(), "switch first");
    assert!(!reader.world.path("root/var/lib/comin").exists());
    let subjects = reader
        .machines()
        .git(&["log", "--format=%s", "origin/main"]);
    assert_eq!(
        subjects,
        "Update comin\nUpdate nixpkgs\nsecond\nInstall the laptop"
    );
    reader.world.comin(&["run"], 0);
    assert_eq!(reader.world.history().len(), 1);
}

fn without_flakes(reader: &mut Reader) {
    let machines = reader.machines();
    let configuration = machines.configuration("", "pinned", &System::default());
    let code = format!("{{ laptop.config = {configuration}; }}");
    fs::write(machines.path.join("default.nix"), code).unwrap();
    reader.follow("getting-started.md", "Without flakes");
    reader.world.configure(|config| {
        config["repository_type"] = json!("nix");
        config["system_attr"] = json!("laptop");
    });
    machines.commit_all("Pin the inputs");
    machines.git(&["push", "--quiet", "origin", "main"]);
    let switches = reader.world.switches().len();
    reader.deploys("switch pinned");
    assert_eq!(reader.world.switches().len(), switches);
    reader.world.configure(|config| {
        config["repository_type"] = json!("flake");
        config.as_object_mut().unwrap().remove("system_attr");
    });
}

fn live_testing(reader: &mut Reader) {
    let page = "live-testing.md";
    reader.write("desktop");
    reader.follow(page, "Try a change");
    reader.deploys("test desktop");
    for (page, heading) in [
        (page, "If `main` moves on meanwhile"),
        ("troubleshooting.md", "`it does not contain main`"),
    ] {
        // Somebody else pushes to main.
        let other = reader.world.path("other");
        reader.shell(
            "rm -rf other; git clone --quiet origin.git other; cd other
             date +%N >>notes; git add notes; git commit --quiet -m 'Take notes'; git push --quiet origin main",
            other.parent().unwrap(),
        );
        reader.world.comin(&["run"], 0);
        let status = reader.world.status();
        assert_eq!(status["remotes"][0]["testing"]["reason"], "diverged");
        reader.follow(page, heading);
        reader.deploys("test desktop");
    }
    reader.follow(page, "Keep it");
    reader.deploys("switch desktop");
    reader.shell("git switch --quiet testing-laptop", &reader.folder);
    reader.push("colours");
    reader.deploys("test colours");
    reader.follow(page, "Keep it on this machine only");
    reader.push("lamps");
    reader.deploys("test lamps");
    reader.follow("drift.md", "Keep a test");
    reader.follow(page, "Drop it");
    reader.deploys("switch desktop");
    reader.shell("git switch --quiet main", &reader.folder);
}

fn failures(reader: &mut Reader) {
    let page = "troubleshooting.md";
    let shown = reader.follow(page, "Troubleshooting");
    assert!(shown.contains("laptop: up to date"), "{shown}");
    reader.follow(page, "`the server refused access (HTTP`");
    let shown = reader.follow(page, "`is tried again`");
    assert!(shown.contains("Attempt 2"), "{shown}");
    reader.follow(page, "If it does not work");
    reader.types(page, "df -h /nix /var", &[]);
    let new = "git init --object-format=sha1";
    reader.types(page, new, &[("git init", "git init --quiet ../new")]);
    let folder = reader.folder.clone();
    let url = format!("file://{}", folder.display());
    reader.shell(
        &format!("git clone --quiet --depth 1 {url} shallow"),
        folder.parent().unwrap(),
    );
    reader.folder = reader.world.path("shallow");
    reader.follow(page, "`the repository lacks a part of its history`");
    assert!(!reader.folder.join(".git/shallow").exists());
    reader.folder = folder;
}

fn credentials(reader: &mut Reader) {
    let page = "private-repositories.md";
    let mode = |reader: &Reader, file: &str| {
        let path = reader.world.path("root/var/lib/secrets").join(file);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    reader.follow(page, "HTTPS with a token");
    assert_eq!(mode(reader, "comin-token"), 0o600);
    let shown = reader.follow(page, "SSH with a deploy key");
    assert_eq!(shown.matches("ssh-ed25519 ").count(), 2, "{shown}");
    let key = reader.world.path("root/var/lib/secrets/comin-key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    reader.follow("troubleshooting.md", "`others may read the SSH key`");
    assert_eq!(mode(reader, "comin-key"), 0o600);
}

fn signatures(reader: &mut Reader) {
    let page = "signatures.md";
    let home = reader.world.path("home");
    reader.shell(
        "mkdir -p .ssh; ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519",
        &home,
    );
    reader.follow(page, "With SSH keys");
    reader.push("signed");
    let shown = reader.types(page, "git log --show-signature", &[]);
    assert!(shown.contains("for me@example.org"), "{shown}");
    let signers = reader.folder.join("keys/allowed_signers");
    reader.world.configure(|config| {
        config["ssh_allowed_signers_path"] = json!(signers);
    });
    reader.deploys("switch signed");
    let signer = &reader.world.status()["selected"]["signer"];
    assert!(
        signer.as_str().unwrap().starts_with("me@example.org"),
        "{signer}"
    );

    reader.shell(
        "mkdir -m 700 .gnupg; gpg --quiet --batch --passphrase '' --quick-gen-key me@example.org",
        &home,
    );
    reader.follow(page, "With GPG keys");
    reader.shell("gpgconf --kill all", &home);
    let key = fs::read_to_string(reader.folder.join("keys/me.asc")).unwrap();
    assert!(key.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    reader.world.configure(|config| {
        config
            .as_object_mut()
            .unwrap()
            .remove("ssh_allowed_signers_path");
    });
}

fn gates(reader: &mut Reader) {
    let lock = reader.world.path("root/run/maintenance");
    let lock = lock.display();
    reader.world.configure(|config| {
        let command = format!("test ! -e {lock} || {{ cat {lock}; exit 75; }}");
        config["gates"] = json!({"maintenance": {"before": "deploy", "command": command}});
    });
    reader.follow("gates.md", "A maintenance lock");
    reader.push("locked");
    reader.world.comin(&["run"], 0);
    let status = reader.world.status();
    assert_eq!(
        status["hindrance"],
        "it waits at the gate maintenance (database migration, ask Alice)"
    );
    reader.follow("gates.md", "Let one commit pass");
    reader.deploys("switch locked");
}

fn fleet(reader: &mut Reader) {
    let page = "fleet.md";
    reader.follow(page, "Build once");
    reader.follow(page, "Rings");
    let branches = reader.machines().git(&["ls-remote", "--heads", "origin"]);
    for branch in ["refs/heads/built", "refs/heads/stable"] {
        assert!(branches.contains(branch), "{branches}");
    }
    let copied = fs::read_dir(reader.world.path("cache")).unwrap();
    assert!(copied.count() > 2);
    let cache = format!("file://{}", reader.world.path("cache").display());
    reader.types(
        "systems-from-ci.md",
        "nix path-info --sigs --store https://cache.example.org PATH",
        &[
            ("https://cache.example.org", &cache),
            ("PATH", "$(realpath result-laptop)"),
        ],
    );
    let shown = reader.follow(page, "Which machine is not on the newest commit?");
    assert!(shown.starts_with("laptop: up to date"), "{shown}");
    assert!(shown.contains("\nserver: up to date"), "{shown}");
}

fn systems_from_ci(reader: &mut Reader) {
    let page = "systems-from-ci.md";
    reader.follow(page, "1. Make a key");
    assert!(reader.folder.join("cache-key.pub").exists());
    reader.follow(page, "Any other CI");
    let note = reader
        .machines()
        .git(&["ls-remote", "origin", "refs/notes/comin"]);
    assert!(note.ends_with("refs/notes/comin"), "{note:?}");
    let note = reader.follow(page, "If it does not work");
    assert!(note.starts_with("laptop /nix/store/"), "{note:?}");
}

fn reference(reader: &mut Reader) {
    let metrics = reader.follow("monitoring.md", "With Prometheus");
    assert!(metrics.contains("comin_build_info"), "{metrics}");
    let page = "configuration-file.md";
    let all = pages();
    let example = all.iter().find(|it| it.name().ends_with(page)).unwrap();
    fs::write(reader.folder.join("config.json"), example.blocks("json")).unwrap();
    reader.follow(page, "Configuration file");
    let shown = reader.follow("commands.md", "Hosts of a flake, by hand");
    assert!(shown.starts_with("laptop\nserver\n"), "{shown}");

    let line = reader.lines("commands.md", "Live status");
    let desktop = Desktop::start(&reader.world);
    let mut shell = reader.command(&line, &reader.folder);
    let mut shell = desktop.with(&mut shell).spawn().unwrap();
    let shown = desktop.await_shown(1);
    assert!(shown[0].contains("up to date"), "{shown:?}");
    // The next line that comin writes ends it.
    reader.push("last");
    reader.world.comin(&["run"], 0);
    await_that(|| desktop.shown().len() > 1);
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// Beginnings of the command lines that sentences and tables show.
const INLINE: [&str; 16] = [
    "./tests/bench.sh",
    "df ",
    "git ",
    "journalctl ",
    "nix ",
    "nix-collect-garbage ",
    "nix-store ",
    "nixos-generate-config ",
    "nixos-install ",
    "nixos-rebuild ",
    "nmcli ",
    "npins ",
    "sudo ",
    "systemctl ",
    "systemd-analyze ",
    "systemd-inhibit ",
];

/// Commands that sentences name, and that nobody is to type like this.
const NAMED: [&str; 15] = [
    "git -c fetch.fsckObjects=true fetch",
    "git fetch",
    "git http-backend",
    "git ls-remote",
    "git merge-base --is-ancestor",
    "git pull",
    "git revert",
    "git upload-pack",
    "nix copy --to",
    "nix flake",
    "nix flake check",
    "nix store diff-closures",
    "sudo chmod 600",
    "systemd-analyze security",
    "systemd-inhibit --what=shutdown",
];

/// Commands that no test runs: they need NixOS, a network, GitHub, or an idle machine for many minutes.
const NOT_RUN: [&str; 10] = [
    "./tests/bench.sh",
    "./tests/bench.sh machine",
    "nixos-generate-config --root /mnt",
    "nixos-rebuild list-generations",
    "nixos-rebuild switch",
    "nmcli connection modify NAME connection.metered yes",
    "npins add github NixOS nixpkgs --branch nixos-26.05",
    "npins add github OWNER comin --branch main",
    "npins init --bare",
    "npins update comin",
];

/// The lines that other tests run.
fn elsewhere() -> impl Iterator<Item = &'static str> {
    let by_script = BY_SCRIPT.iter().map(|(line, _, _)| *line);
    ON_HOST.into_iter().chain(ON_DESKTOP).chain(by_script)
}

/// The pages show no other command that has not been run.
#[test]
fn commands_of_the_pages_work() {
    need!(
        "git",
        "nix",
        "ssh-keyscan",
        "gpg",
        "Xvfb",
        "dunst",
        "notify-send"
    );
    if !ssh::is_there() {
        skip("there is no OpenSSH server");
        return;
    }
    let mut reader = Reader::new();
    for scene in [
        getting_started,
        without_flakes,
        live_testing,
        failures,
        credentials,
        signatures,
        gates,
        fleet,
        systems_from_ci,
        reference,
    ] {
        scene(&mut reader);
    }
    for (line, script, command) in BY_SCRIPT {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = fs::read_to_string(root.join(script)).unwrap();
        assert!(script.contains(command), "{line}: {script}");
    }
    let listed: BTreeSet<&str> = elsewhere().collect();
    let not_typed: BTreeSet<&str> = NAMED.into_iter().chain(NOT_RUN).collect();
    let mut unused: BTreeSet<&str> = listed.union(&not_typed).copied().collect();
    let mut missed = Vec::new();
    for page in pages() {
        let blocks = page.blocks("sh");
        let shown = page.blocks("console");
        let shown = shown.lines().filter_map(|line| line.strip_prefix("$ "));
        // Those of comin are run for their output.
        let shown = shown.filter(|line| !line.contains("comin ") || line.starts_with("journalctl"));
        let spans = page.code();
        let spans = spans
            .into_iter()
            .filter(|code| INLINE.iter().any(|it| code.starts_with(it)) && !code.contains('<'))
            // A command of the program, which another test runs.
            .filter(|code| !code.starts_with("sudo comin"));
        let is_typed = |line: &str| reader.typed.iter().any(|(_, it)| it == line);
        for line in blocks.lines().chain(shown) {
            unused.remove(line);
            let typed = (page.name(), line.to_string());
            if !line.is_empty() && !listed.contains(line) && !reader.typed.contains(&typed) {
                missed.push(format!("{}: {line}", page.name()));
            }
        }
        for line in spans {
            unused.remove(line);
            if !listed.contains(line) && !not_typed.contains(line) && !is_typed(line) {
                missed.push(format!("{}: {line}", page.name()));
            }
        }
        let printed = page.text.matches("<!-- printed: ").count();
        assert_eq!(
            page.text.matches("```console").count(),
            printed,
            "{}",
            page.name()
        );
        assert!(
            !page.text.contains("\n\n```\n"),
            "{}: a block without a language",
            page.name()
        );
    }
    assert!(missed.is_empty(), "nobody has typed\n{}", missed.join("\n"));
    assert!(unused.is_empty(), "no page has {unused:?}");
}
