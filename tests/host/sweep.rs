//! comin killed at every boundary of a deployment and at any moment, and the power cut, on a whole machine:
//! each time it reaches the right system by itself, nothing is lost, and nothing is activated twice.
//!
//! `COMIN_SWEEP=full` takes ten minutes; see `support::sweep`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::machine::{Configuration, Host};
use crate::support::sweep::{is_full, times, Dice};
use crate::support::{await_that, is_rooted, tell};

/// On the machine: says that it has begun, and waits as long as the test wants it to.
const GATE: &str = "#!/bin/sh
[ -e /srv/$1.armed ] || exit 0
touch /srv/$1.begun
while [ -e /srv/$1.armed ]; do sleep 0.01; done
";
const ACTIVATION: &str = "nixos-rebuild-switch-to-configuration";

/// What follows from the death of a comin that changed the machine.
const INTERRUPTIONS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/model/after_switch/interruptions.txt"
));
/// No case of that table: nothing was changed, so the attempt is repeated.
const UNCHANGED: &str = "";

/// How the attempts of a commit end if comin dies in this case.
fn ends(case: &str) -> &'static [&'static str] {
    let find = |line: &'static str| {
        let (found, next) = line.rsplit_once('|')?;
        (found.split_whitespace().eq(case.split_whitespace())).then(|| next.trim())
    };
    let next = match case {
        UNCHANGED => "repeat",
        _ => INTERRUPTIONS.lines().find_map(find).unwrap(),
    };
    match next.split(':').next().unwrap() {
        "repeat" => &["interrupted", "done"],
        "conclude 0" => &["done"],
        "roll back" => &["rolled_back"],
        _ => panic!("{case}: {next}"),
    }
}

/// A moment of a deployment.
enum At {
    /// Within what this gate holds up.
    Gate(&'static str),
    /// As soon as this can be seen.
    Seen(fn(&Round) -> bool),
}

/// Every boundary of a deployment that comes to a good end, and its case.
const BOUNDARIES: [(&str, At, &str); 13] = [
    (
        "the request was taken",
        At::Seen(|round| {
            let wanted = ["/run/comin/wanted", "/run/comin/remotes/.wanted"];
            round.comin().is_some() && !wanted.iter().any(|file| round.host.path(file).exists())
        }),
        UNCHANGED,
    ),
    (
        "it was decided",
        At::Seen(|round| {
            let decided = round.host.read("/run/comin/decided.json");
            decided.contains(&round.commit)
        }),
        UNCHANGED,
    ),
    (
        "the attempt was recorded",
        At::Seen(|round| round.is_at("evaluating")),
        UNCHANGED,
    ),
    ("evaluating", At::Gate("evaluation"), UNCHANGED),
    (
        "the build was recorded",
        At::Seen(|round| round.is_at("building")),
        UNCHANGED,
    ),
    ("building", At::Gate("build"), UNCHANGED),
    (
        "the activation was recorded",
        At::Seen(|round| round.is_at("activating")),
        "activating | - | - | -",
    ),
    (
        "the dead man was armed",
        At::Seen(|round| round.has_transient("comin-dead-man.timer")),
        "activating | - | - | -",
    ),
    (
        "the profile was set",
        At::Seen(|round| round.host.profile() != round.profile),
        "activating | - | - | -",
    ),
    (
        "the switch was started",
        At::Seen(|round| round.has_transient(&format!("{ACTIVATION}.service"))),
        "activating | - | 0 | -",
    ),
    (
        "activating",
        At::Gate("activation"),
        "activating | - | 0 | -",
    ),
    (
        "the switch has ended",
        At::Seen(|round| {
            let record = round.host.read("/run/comin/activation.json");
            record.contains(&round.label) && record.contains("\"status\":")
        }),
        "activating | - | 0 | -",
    ),
    ("checking", At::Gate("checking"), "checking | - | 0 | -"),
];

/// Those of one that is rolled back.
const BOUNDARIES_BACK: [(&str, At, &str); 4] = [
    (
        "the rollback was recorded",
        At::Seen(|round| round.is_at("rolling_back")),
        "rolling_back | it is ill | - | -",
    ),
    (
        "the profile was taken back",
        At::Seen(|round| round.is_at("rolling_back") && round.host.profile() == round.profile),
        "rolling_back | it is ill | - | -",
    ),
    (
        "rolling back",
        At::Gate("rollback"),
        "rolling_back | it is ill | - | -",
    ),
    (
        "it was quarantined",
        At::Seen(|round| {
            let state = round.host.read("/var/lib/comin/state.json");
            state.contains("\"quarantine\"") && state.contains(&round.quarantined())
        }),
        "rolling_back | it is ill | - | -",
    ),
];

/// How comin dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// With everything in its unit.
    WithUnit,
    /// Alone; systemd tidies up.
    Alone,
    /// And is started again at once.
    WithUnitAndStarted,
}

impl Death {
    fn of(n: usize) -> Self {
        [Self::WithUnit, Self::Alone, Self::WithUnitAndStarted][n % 3]
    }
}

/// A machine, and what it is to run.
struct Sweep {
    host: Host,
    base: Configuration,
    /// The label of what runs.
    label: String,
    rounds: u32,
}

/// A commit on it.
struct Round<'a> {
    host: &'a Host,
    commit: String,
    label: String,
    /// The current generation before.
    profile: PathBuf,
}

impl Round<'_> {
    fn latest(&self) -> Value {
        let latest = self.host.attempts().pop().unwrap_or_default();
        if latest["commit"] == self.commit.as_str() {
            latest
        } else {
            Value::Null
        }
    }

    fn is_at(&self, stage: &str) -> bool {
        let latest = self.latest();
        latest["status"] == "running" && latest["stage"] == stage
    }

    fn has_transient(&self, unit: &str) -> bool {
        let unit = format!("/run/systemd/transient/{unit}");
        self.host.path(&unit).exists()
    }

    fn quarantined(&self) -> String {
        format!("\"commit\": \"{}\",\n      \"operation\"", self.commit)
    }

    /// The process of comin.service.
    fn comin(&self) -> Option<String> {
        let procs = self
            .host
            .read("/sys/fs/cgroup/system.slice/comin.service/cgroup.procs");
        let is_comin = |pid: &&str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.ends_with(b"\0deploy\0")
        };
        procs.lines().find(is_comin).map(str::to_string)
    }

    /// From outside of the machine: to enter it takes longer than some of the moments last.
    fn kill(&self, death: Death) -> bool {
        let comin = self.comin();
        match (death, &comin) {
            (_, None) => {}
            (Death::Alone, Some(pid)) => {
                // It may have ended by itself meanwhile.
                let _ = Command::new("kill").args(["-KILL", pid]).output().unwrap();
            }
            (Death::WithUnit | Death::WithUnitAndStarted, Some(_)) => {
                let group = "/sys/fs/cgroup/system.slice/comin.service/cgroup.kill";
                let _ = fs::write(self.host.path(group), "1");
            }
        }
        if let Death::WithUnitAndStarted = death {
            self.host.run("systemctl start comin.service");
        }
        comin.is_some()
    }
}

impl Sweep {
    fn new() -> Self {
        let base = Configuration::new("first").with("first", |c| {
            c["settings"]["health_check"] = json!({
                "commands": ["test ! -e /run/current-system/ill", "/usr/local/bin/gate checking"],
            });
            c["system"]["activation"] = json!(activation("first"));
        });
        let host = Host::installed_with(&base, |host| {
            host.write("/usr/local/bin/gate", GATE);
            host.run("chmod +x /usr/local/bin/gate");
        });
        Self {
            host,
            base,
            label: "first".to_string(),
            rounds: 0,
        }
    }

    fn begin(&mut self, ill: bool) -> Round<'_> {
        self.rounds += 1;
        let label = format!("round{}", self.rounds);
        let next = self.base.with(&label, |c| {
            // What has been built already would not be built again.
            c["evaluation"] = json!(format!("/usr/local/bin/gate evaluation; : {label}"));
            c["build"] = json!(format!("/usr/local/bin/gate build; : {label}"));
            c["system"]["activation"] = json!(activation(&label));
            if ill {
                c["system"]["extra"] = json!({"ill": ""});
            }
        });
        let profile = self.host.profile();
        let commit = self.host.commit(&next);
        Round {
            host: &self.host,
            commit,
            label,
            profile,
        }
    }

    fn gate_file(&self, gate: &str, what: &str) -> String {
        let name = match gate {
            "activation" => format!("activation-round{}", self.rounds + 1),
            "rollback" => format!("activation-{}", self.label),
            gate => gate.to_string(),
        };
        format!("/srv/{name}.{what}")
    }

    /// Kills comin at a boundary.
    fn kill_at(&mut self, (name, at, case): &(&str, At, &str), death: Death, ill: bool) {
        let ends = ends(case);
        let told = format!("killed when {name}, {death:?}");
        match at {
            At::Gate(gate) => {
                let (armed, begun) = (self.gate_file(gate, "armed"), self.gate_file(gate, "begun"));
                // What an earlier round has started may have begun again since.
                let _ = fs::remove_file(self.host.path(&begun));
                self.host.write(&armed, "");
                let round = self.begin(ill);
                let begun = round.host.path(&begun);
                await_that(name, || begun.exists());
                assert!(round.kill(death), "{told}");
                fs::remove_file(round.host.path(&armed)).unwrap();
            }
            At::Seen(seen) => {
                let round = self.begin(ill);
                let limit = Instant::now() + Duration::from_secs(180);
                while !seen(&round) && Instant::now() < limit {
                    thread::yield_now();
                }
                assert!(Instant::now() < limit, "never seen: {told}");
                round.kill(death);
            }
        }
        self.assert_whole(&told, ends, false);
        // What can only be seen may be over by the time of the kill.
        if let At::Gate(_) = at {
            let label = format!("round{}", self.rounds);
            let mut attempts = self.host.attempts();
            attempts.retain(|attempt| attempt["subject"] == label.as_str());
            let statuses: Vec<_> = attempts.iter().map(|attempt| &attempt["status"]).collect();
            assert_eq!(statuses, ends, "{told}");
        }
    }

    fn kill_after(&mut self, delay: Duration, death: Death) {
        let round = self.begin(false);
        thread::sleep(delay);
        round.kill(death);
        self.assert_whole(
            &format!("killed after {delay:?}, {death:?}"),
            &["done"],
            false,
        );
    }

    fn cut_power_after(&mut self, delay: Duration) {
        let round = self.begin(false);
        thread::sleep(delay);
        round.host.cut_power();
        round.host.boot();
        self.assert_whole(&format!("power cut after {delay:?}"), &["done"], true);
    }

    /// What has to be true once the machine has come to rest, and the attempts of the commit have ended so.
    /// `powerless`: a switch may have died, and is run again then.
    #[track_caller]
    fn assert_whole(&mut self, case: &str, ends: &[&str], powerless: bool) {
        let status = *ends.last().unwrap();
        let ill = status == "rolled_back";
        let host = &self.host;
        tell(&format!("round {}: {case}", self.rounds));
        let label = format!("round{}", self.rounds);
        let mut latest = Value::Null;
        await_that(case, || {
            latest = host.attempts().pop().unwrap_or_default();
            latest["subject"] == label.as_str() && latest["status"] == status
        });
        host.await_idle();

        let runs = if ill {
            self.label.clone()
        } else {
            label.clone()
        };
        assert_eq!(host.systems(), (runs.clone(), runs.clone()), "{case}");
        let boots = host.read("/boot/loader-default");
        assert_eq!(host.label(boots.trim()), runs, "{case}");
        let attempts = host.attempts();
        assert!(attempts.iter().all(|a| a["status"] != "running"), "{case}");
        let ids: Vec<_> = attempts.iter().map(|a| a["id"].as_u64()).collect();
        assert!(ids.windows(2).all(|ids| ids[0] < ids[1]), "{ids:?}");
        let lists = host.try_run("find /run/nixos -name *-list").out;
        assert_eq!(lists, "", "{case}: a switch is unfinished");

        let mut switches = vec![format!("switch {label}")];
        if ill {
            switches.push(format!("switch {}", self.label));
        }
        let mut seen = host.switches().split_off(self.before(&label));
        if powerless {
            seen.dedup();
            // The boot itself may have activated it.
            assert!(seen.is_empty() || seen == switches, "{case}: {seen:?}");
        } else {
            assert_eq!(seen, switches, "{case}");
        }

        await_that("the end of what comin has started", || {
            host.units(&format!("--all comin-dead-man* {ACTIVATION}*"))
                .is_empty()
        });
        let mut failed = host.units("--failed");
        failed.retain(|unit| unit != "comin.service");
        assert_eq!(failed, [""; 0], "{case}");
        let files =
            host.run("find /var/lib/comin /run/comin -ignore_readdir_race -maxdepth 2 -not -path */repository/*");
        assert!(files.lines().count() < 40, "{case}: {files}");

        let running = fs::read_link(host.path("/run/current-system")).unwrap();
        let running = running.display().to_string();
        if self.rounds.is_multiple_of(5) {
            host.run("nix-collect-garbage --quiet");
        }
        let roots = host.run("nix-store --gc --print-roots");
        let rooted = |root: &str| is_rooted(&roots, root, &running);
        assert!(rooted("/var/lib/comin/gcroots/"), "{case}: {roots}");
        assert!(rooted("/nix/var/nix/profiles/system-"), "{case}: {roots}");
        assert!(host.path(&format!("{running}/activate")).exists(), "{case}");
        self.label = runs;
    }

    /// How many switches there were before that of a label.
    fn before(&self, label: &str) -> usize {
        let switches = self.host.switches();
        let first = switches
            .iter()
            .position(|s| *s == format!("switch {label}"));
        first.unwrap_or(switches.len())
    }
}

/// Held up in a switch, never in a boot.
fn activation(label: &str) -> String {
    format!("[ -z \"${{NIXOS_ACTION:-}}\" ] || /usr/local/bin/gate activation-{label}")
}

#[test]
fn whatever_dies_and_whenever_the_machine_reaches_the_right_system() {
    need_host!();
    let mut sweep = Sweep::new();
    let mut dice = Dice::new("sweep");
    let round = sweep.begin(false);
    let begin = Instant::now();
    round.host.await_deployed(&round.commit);
    round.host.await_idle();
    let longest = begin.elapsed();
    sweep.assert_whole("undisturbed", &["done"], false);
    tell(&format!("undisturbed: {longest:?}"));

    let deaths = if is_full() { 0..3 } else { 0..1 };
    for death in deaths {
        let all = BOUNDARIES.iter().map(|boundary| (boundary, false));
        let all = all.chain(BOUNDARIES_BACK.iter().map(|boundary| (boundary, true)));
        for (n, (boundary, ill)) in all.enumerate() {
            sweep.kill_at(boundary, Death::of(n + death), ill);
        }
    }
    for n in 0..times("COMIN_SWEEP_KILLS", 10, 200) {
        sweep.kill_after(dice.delay(longest), Death::of(n as usize));
    }
    for _ in 0..times("COMIN_SWEEP_CUTS", 2, 20) {
        sweep.cut_power_after(dice.delay(longest));
    }
}

#[test]
fn a_disk_that_is_filled_by_an_activation_does_not_keep_it_from_being_rolled_back() {
    need_host!();
    let first = Configuration::new("first").with("first", |c| {
        c["settings"]["rollback"] = json!({"timeout": 15});
    });
    let host = Host::installed_with(&first, |host| {
        host.run("mkdir -p /var/lib/comin");
        host.run("mount -t tmpfs -o size=4M,mode=755 comin-test /var/lib/comin");
    });
    let filling = first.with("filling", |c| {
        c["system"]["activation"] =
            json!("cat /dev/zero >/var/lib/comin/filler || :; sleep infinity");
    });
    host.commit(&filling);
    await_that("the rollback", || {
        host.switches() == ["switch first", "switch filling", "switch first"]
            && host.systems() == ("first".into(), "first".into())
    });
    // Else nothing would ever be deployed again.
    await_that("the path unit", || {
        host.show("comin.path", "ActiveState") == "active"
    });
    host.run("rm /var/lib/comin/filler");
    let commit = host.commit(&first.named("fixed"));
    host.await_done(&commit);
    host.await_idle();
    assert_eq!(host.systems(), ("fixed".into(), "fixed".into()));
}
