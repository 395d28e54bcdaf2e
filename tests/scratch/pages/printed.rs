//! The output in the pages: each block after `<!-- printed: NAME -->` is what comin prints in one of these scenes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use expect_test::expect_file;
use serde_json::json;

use super::{pages, words};
use crate::drift::rebuild;
use crate::support::{isolated, Said};
use crate::world::{await_that, boot, start, Repository, System, World};

/// A machine `laptop`, and the output of the commands that ran on it.
struct Laptop {
    world: World,
    origin: Repository,
    /// All commits, in the order of [`COMMITS`].
    commits: Vec<String>,
    printed: Vec<(&'static str, String)>,
}

/// The ids that the pages show instead of those of the commits.
const COMMITS: [&str; 5] = [
    "3f2a9c1e7b50d4861c9e2f07a35b8d6e41f0c2a9",
    "8b07d2e4553d9f951e75f627910c30e9696e1158",
    "5e1f0c2290ab47d3e8861f5c7720b9d4a3e6f018",
    "c94a6b10e7f2d8350b1c4a96e5d7038f2b6a91cd",
    "17d3f8ab26c05e914f7b8a3d60e2c19758d4b0fe",
];

/// How the pages look at the journal.
const JOURNAL: &str = "journalctl -f -t comin -p notice -o cat";

/// The binary cache that the pages show.
const CACHE: &str = "s3://cache?endpoint=s3.example.org&secret-key=/tmp/cache-key";

impl Laptop {
    /// A laptop that has deployed the first push to `main`.
    fn new() -> Self {
        let mut world = World::empty();
        let origin = world.repository("origin");
        world.follow("origin", &origin.path.display().to_string());
        world.configure(|config| config["hostname"] = "laptop".into());
        boot::begin(&world);
        let mut laptop = Self {
            world,
            origin,
            commits: Vec::new(),
            printed: Vec::new(),
        };
        laptop.commit("Install the laptop", "");
        laptop.run("run");
        boot::boot(&laptop.world);
        laptop.run("run");
        laptop
    }

    /// Commits a system with these additional files to the current branch of `origin`.
    fn commit(&mut self, subject: &str, files: &str) {
        let arguments = format!(
            "extra = {{ kernel = null; initrd = null; \"subject\" = {subject:?}; {files} }};"
        );
        let configuration = self
            .origin
            .configuration("", "26.05", &System::with(&arguments));
        self.commit_flake(subject, &configuration);
    }

    /// Commits a flake with this Nix code as its configuration.
    fn commit_flake(&mut self, subject: &str, configuration: &str) {
        let flake = format!(
            "{{ outputs = _: {{ nixosConfigurations.laptop.config = {configuration}; }}; }}"
        );
        fs::write(self.origin.path.join("flake.nix"), flake).unwrap();
        let commit = self.origin.commit_all(subject);
        self.commits.push(commit);
    }

    /// Runs comin and ignores the output.
    fn run(&self, arguments: &str) {
        self.print(arguments);
    }

    /// Runs comin. Returns standard output and standard error together, and the exit code.
    fn print(&self, arguments: &str) -> (String, i32) {
        let mut arguments = arguments.to_string();
        for (commit, shown) in self.commits.iter().zip(COMMITS) {
            arguments = arguments.replace(&shown[..8], &commit[..8]);
        }
        arguments = arguments.replace(CACHE, &self.cache());
        let arguments = words(&arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let comin = self.world.command(&arguments);
        let mut shell = Command::new("sh");
        isolated(&mut shell, &self.world.path("home"));
        shell
            .current_dir(&self.origin.path)
            .env("TZ", "UTC")
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .arg(comin.get_program())
            .args(comin.get_args());
        let said = Said::of(&shell.output().unwrap());
        (said.out, said.code.unwrap())
    }

    /// Runs a command line and keeps its output for the pages.
    fn show(&mut self, name: &'static str, line: &str) {
        let (comin, after) = line.split_once("; ").unwrap_or((line, ""));
        let arguments = comin
            .trim_start_matches("sudo ")
            .trim_start_matches("comin")
            .trim();
        let (mut printed, code) = self.print(arguments);
        if after == "echo $?" {
            writeln!(printed, "{code}").unwrap();
        }
        if ["rollback", "publish", "plan --build"]
            .iter()
            .any(|it| arguments.starts_with(it))
        {
            printed = comins(&printed);
        }
        self.add(name, line, &printed);
    }

    /// Fetches and deploys, and keeps the lines of comin in the journal for the pages.
    fn show_journal(&mut self, name: &'static str) {
        let (printed, _) = self.print("run");
        self.add(name, JOURNAL, &comins(&printed));
    }

    /// A binary cache of this machine's.
    fn cache(&self) -> String {
        let [cache, key] = ["cache", "key"].map(|it| self.world.path(it));
        format!("file://{}?secret-key={}", cache.display(), key.display())
    }

    fn add(&mut self, name: &'static str, line: &str, printed: &str) {
        let mut text = printed.to_string();
        for (commit, shown) in self.commits.iter().zip(COMMITS) {
            text = text
                .replace(commit, shown)
                .replace(&commit[..8], &shown[..8]);
        }
        let origin = self.origin.path.display().to_string();
        let text = text
            .replace(&self.cache(), CACHE)
            .replace(&origin, "https://git.example.org/machines.git")
            .replace("nixos-system-machine-", "nixos-system-laptop-");
        let text = timeless(&without_hashes(&text));
        self.printed.push((name, format!("$ {line}\n{text}")));
    }
}

/// The lines of comin. The output of other programs depends on their versions.
fn comins(printed: &str) -> String {
    let is_comins = |line: &&str| {
        let is_one_of = |starts: &[&str]| starts.iter().any(|it| line.starts_with(it));
        let first = line.split(' ').next().unwrap();
        let is_commit = first.len() == 8 && first.bytes().all(|it| it.is_ascii_hexdigit());
        is_commit
            || line.starts_with(|c: char| c.is_uppercase() || c == '→')
            || is_one_of(&["origin/", "laptop ", "  "]) && !is_one_of(&["  /", "  units "])
    };
    let lines: Vec<&str> = printed.lines().filter(is_comins).collect();
    lines.join("\n")
}

/// Shortens store paths and fingerprints, which are different in each run.
fn without_hashes(text: &str) -> String {
    let mut shown = text.to_string();
    for (mark, length) in [("/nix/store/", 32), ("SHA256:", 43)] {
        let mut parts = shown.split(mark);
        let mut text = parts.next().unwrap().to_string();
        for part in parts {
            text += mark;
            text.push('…');
            text += part.get(length..).unwrap_or(part);
        }
        shown = text;
    }
    shown
}

/// Replaces times and durations, which are different in each run.
fn timeless(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut shown: Vec<String> = Vec::new();
        for (n, word) in words.iter().enumerate() {
            let core = word.trim_end_matches([',', ';', '.', ':', ')']);
            let end = &word[core.len()..];
            let form: String = core
                .chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect();
            let next = |at: usize| {
                words
                    .get(n + at)
                    .map_or("", |word| word.trim_end_matches([',', ';', '.', ')']))
            };
            match form.as_str() {
                // comin prints the date only if it is not today's.
                "0000-00-00" if next(1).len() == 5 && next(1).contains(':') => {}
                "0000-00-00" => shown.push(format!("2026-06-01{end}")),
                "00:00" => shown.push(format!("14:02{end}")),
                "0.0" if next(1) == "s" => shown.push("1.2".to_string()),
                "00:00:00" => shown.push(format!("14:02:10{end}")),
                "0" | "00" if next(1) == "s" => {
                    let number = match (shown.last().map(String::as_str), next(2)) {
                        (_, "ago") => "4",
                        (Some("in"), _) if form == "00" => "58",
                        (Some("in"), _) => "2",
                        (_, _) => "1",
                    };
                    shown.push(number.to_string());
                }
                _ => shown.push((*word).to_string()),
            }
        }
        lines.push(shown.join(" ").trim_end().to_string() + "\n");
    }
    lines.concat()
}

fn pushes() -> Laptop {
    let mut laptop = Laptop::new();
    laptop.show("up-to-date", "comin status");
    laptop.commit("Enable the printer", "");
    laptop.show_journal("push");
    laptop.show("pushed", "comin status");
    laptop.show("oneline", "comin status --oneline");
    laptop.show("check", "comin status --check; echo $?");
    laptop.show(
        "suspend",
        "sudo comin suspend --reason \"moving house\" --for 8h",
    );
    laptop.commit("Enable the scanner", "");
    laptop.run("run");
    laptop.show("suspended", "comin status");
    laptop.show("resume", "sudo comin resume");
    laptop.show("plan", "comin plan");
    laptop.run("run");
    laptop.show("history", "comin history");
    laptop.show("history-one", "comin history 3");
    laptop
}

fn failures() -> Laptop {
    let mut laptop = Laptop::new();
    laptop.commit_flake("Enable the printer", "throw \"the printer has no driver\"");
    laptop.run("run");
    laptop.show("broken-status", "comin status");
    laptop.show("retry", "sudo comin retry");
    laptop.commit("Add a driver", "");
    laptop.run("run");
    laptop.origin.git(&["reset", "--quiet", "--hard", "HEAD^^"]);
    laptop.run("run");
    laptop.show("rewound-status", "comin status");
    laptop.show("accept", "sudo comin accept 3f2a9c1e");
    laptop
}

fn tests_of_a_branch() -> Laptop {
    let mut laptop = Laptop::new();
    let git = |laptop: &Laptop, arguments: &[&str]| laptop.origin.git(arguments);
    git(
        &laptop,
        &["switch", "--quiet", "--create", "testing-laptop"],
    );
    laptop.commit("Try another desktop", "");
    laptop.show_journal("testing");
    laptop.show("testing-status", "comin status");
    git(&laptop, &["switch", "--quiet", "main"]);
    git(&laptop, &["branch", "--move", "testing-laptop", "aside"]);
    laptop.show_journal("testing-dropped");
    git(&laptop, &["branch", "--move", "aside", "testing-laptop"]);
    laptop.run("run");
    boot::boot(&laptop.world);
    laptop.run("run");
    laptop.show("testing-rebooted", "comin status");
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    laptop.show("testing-behind-status", "comin status");
    laptop
}

fn checks() -> Laptop {
    let mut laptop = Laptop::new();
    laptop.world.configure(|config| {
        config["health_check"] = json!({"commands": ["test -e /sys/class/net/wg0"]});
    });
    laptop.commit("Move the VPN to another port", "");
    laptop.show_journal("rolled-back");
    laptop.show("rolled-back-status", "comin status");
    laptop.world.configure(|config| {
        config["health_check"] = json!({"commands": []});
    });
    laptop.commit("Open the port", "");
    laptop.run("run");
    laptop.show("rollback", "sudo comin rollback");
    laptop.run("run");
    laptop.show("rollback-status", "comin status");
    laptop
}

fn confirmations() -> Laptop {
    let mut laptop = Laptop::new();
    laptop
        .world
        .configure(|config| config["deploy_confirmer"] = json!({"mode": "manual"}));
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    laptop.show("waits", "comin status");
    laptop.show("confirm", "sudo comin confirm");
    laptop.run("run");
    laptop
        .world
        .configure(|config| config["deploy_confirmer"] = json!({"mode": "without"}));
    laptop.commit("Update the kernel", "\"kernel-modules\" = \"new\";");
    laptop.run("run");
    laptop.show("reboot-needed", "comin status");
    laptop
}

fn signatures() -> Laptop {
    let mut laptop = Laptop::new();
    let key = laptop.world.path("home/key");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    assert!(keygen.status().unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = laptop.world.path("home/allowed_signers");
    fs::write(&signers, format!("me@example.org {public}")).unwrap();
    laptop.origin.git(&["config", "gpg.format", "ssh"]);
    laptop
        .origin
        .git(&["config", "user.signingKey", key.to_str().unwrap()]);
    laptop.origin.git(&["config", "commit.gpgSign", "true"]);
    laptop.world.configure(|config| {
        config["ssh_allowed_signers_path"] = signers.to_str().unwrap().into();
    });
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    laptop.show("signed-status", "comin status");
    laptop.origin.git(&["config", "commit.gpgSign", "false"]);
    laptop.commit("Enable the scanner", "");
    laptop.run("run");
    laptop.show("unsigned-status", "comin status");
    laptop
}

fn previews() -> Laptop {
    let with_editor = |version: &str| {
        format!(
            "editor = \"${{derivation {{
                name = \"editor-{version}\"; system = \"{}-linux\"; builder = \"/bin/sh\";
                args = [ \"-c\" \"printf %0900000d 1 >$out\" ];
            }}}}\";",
            std::env::consts::ARCH
        )
    };
    let mut laptop = Laptop::new();
    laptop.commit("Install an editor", &with_editor("9.1"));
    laptop.run("run");
    laptop.commit("Update the editor", &with_editor("9.2"));
    laptop.run("fetch");
    laptop.show("preview", "comin plan --build");
    laptop
}

/// A deployment that stays in each stage until it has been seen.
fn watched() -> Laptop {
    let mut laptop = Laptop::new();
    let folder = laptop.world.path("stages");
    fs::create_dir(&folder).unwrap();
    let hold = |stage: &str| {
        let file = folder.join(stage).display().to_string();
        format!("while [ ! -e {file} ]; do sleep 0.01; done")
    };
    let derivation = |name: &str| {
        format!(
            "derivation {{
                name = \"{name}\"; system = \"{}-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\";
                args = [ \"-c\" \"{}; echo >$out\" ];
            }}",
            std::env::consts::ARCH,
            hold(name)
        )
    };
    let system = System::with(&format!(
        "extra = {{
            kernel = null; initrd = null;
            evaluated = builtins.readFile \"${{{}}}\";
            editor = \"${{{}}}\";
        }};
        activation = \"{}\";",
        derivation("settings"),
        derivation("editor-9.2"),
        hold("activating")
    ));
    let check = hold("checking");
    laptop
        .world
        .configure(|config| config["health_check"] = json!({"commands": [check]}));
    let mut watch = laptop.world.command(&["watch", "--oneline"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut seen = String::new();
    let mut await_line = |state: &str| {
        for line in lines.by_ref() {
            writeln!(seen, "{}", line.as_ref().unwrap()).unwrap();
            if line.unwrap().starts_with(state) {
                return;
            }
        }
    };
    await_line("up to date");
    let configuration = laptop.origin.configuration("", "26.05", &system);
    laptop.commit_flake("Update the editor", &configuration);
    laptop.run("fetch");
    await_line("due");
    let mut deploy = start(&laptop.world, &["deploy"]);
    let go_on = |stage: &str| fs::write(folder.join(stage), "").unwrap();
    await_line("evaluating");
    go_on("settings");
    await_line("building");
    await_that(|| laptop.world.status()["progress"]["derivation"] == "editor-9.2");
    let (building, _) = laptop.print("status");
    go_on("editor-9.2");
    await_line("activating");
    go_on("activating");
    await_line("checking");
    go_on("checking");
    await_line("up to date");
    assert!(deploy.wait().unwrap().success());
    watch.kill().unwrap();
    watch.wait().unwrap();
    laptop.add("building", "comin watch", &building);
    laptop.add("watched", "comin watch --oneline", &seen);
    laptop
}

fn gates() -> Laptop {
    let mut laptop = Laptop::new();
    laptop.world.configure(|config| {
        let command = "echo database migration, ask Alice; exit 75";
        config["gates"] = json!({"maintenance": {"before": "deploy", "command": command}});
    });
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    laptop.show("gate", "comin status --oneline");
    laptop
}

fn boot_checks() -> Laptop {
    let mut laptop = Laptop::new();
    laptop
        .world
        .configure(|config| config["boot_check"] = json!({"enable": true, "timeout": 0}));
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    boot::boot(&laptop.world);
    laptop.show_journal("boot-check");
    laptop
}

fn drift() -> Laptop {
    let mut laptop = Laptop::new();
    laptop
        .world
        .configure(|config| config["drift"] = json!({"heal": true, "grace": 1}));
    laptop.commit("Enable the printer", "");
    laptop.run("run");
    rebuild(&laptop.world, "switch", 1);
    let (seen, _) = laptop.print("run");
    let wanted = laptop.world.path("root/run/comin/wanted");
    await_that(|| {
        laptop.run("fetch");
        wanted.exists()
    });
    let (healed, _) = laptop.print("run");
    laptop.add("drift", JOURNAL, &comins(&(seen + &healed)));
    laptop
}

fn systems_from_ci() -> Laptop {
    let mut laptop = Laptop::new();
    laptop
        .world
        .configure(|config| config["prebuilt"] = json!({"notes": "comin"}));
    laptop.commit(
        "Enable the printer",
        "\"comin.json\" = ''{\"hostname\": \"laptop\"}'';",
    );
    laptop.run("run");
    laptop.show("ci-waits", "comin status --oneline");
    laptop.show("ci-plan", "comin plan");
    let hub = laptop.world.path("hub").display().to_string();
    let key = laptop.world.path("key").display().to_string();
    laptop
        .origin
        .git(&["clone", "--quiet", "--bare", ".", &hub]);
    laptop.origin.git(&["remote", "add", "origin", &hub]);
    let mut nix = Command::new("nix-store");
    nix.args(["--generate-binary-cache-key", "cache.example.org-1"]);
    nix.args([&key, &format!("{key}.pub")]);
    assert!(nix.status().unwrap().success());
    laptop.show(
        "ci-publish",
        &format!("comin publish --to \"{CACHE}\" laptop"),
    );
    laptop
}

/// `UPDATE_EXPECT=1 cargo test --test scratch pages` writes the output into the pages.
#[test]
fn pages_show_what_the_program_prints() {
    need!("git", "nix", "ssh-keygen");
    let scenes = [
        pushes,
        failures,
        tests_of_a_branch,
        checks,
        confirmations,
        signatures,
        previews,
        watched,
        gates,
        boot_checks,
        drift,
        systems_from_ci,
    ];
    let printed: BTreeMap<&str, String> = thread::scope(|scope| {
        let scenes: Vec<_> = scenes.map(|scene| scope.spawn(scene)).into();
        let printed = scenes.into_iter().flat_map(|it| it.join().unwrap().printed);
        printed.collect()
    });
    let mut unused: BTreeSet<&str> = printed.keys().copied().collect();
    for page in pages() {
        let mut parts = page.text.split("<!-- printed: ");
        let mut text = parts.next().unwrap().to_string();
        for part in parts {
            let (names, rest) = part.split_once(" -->\n").unwrap();
            let (_, after) = rest.split_once("\n```\n").unwrap();
            write!(text, "<!-- printed: {names} -->\n```console\n").unwrap();
            for name in names.split(", ") {
                unused.remove(name);
                let found = printed.get(name);
                text += found.unwrap_or_else(|| panic!("{name} is not printed"));
            }
            write!(text, "```\n{after}").unwrap();
        }
        expect_file![&page.path].assert_eq(&text);
    }
    assert!(unused.is_empty(), "no page shows {unused:?}");
}
