//! How a machine is said to be in every situation, wherever a person or a program asks: the headline, the short line,
//! the JSON, the exit code, the metrics, and the alerts that come of them within eight days.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use expect_test::expect_file;
use serde_json::Value;

use super::*;
use crate::model::{Reactivation, RemoteName};
use crate::report::{metrics::Metrics, verdict::states};
use crate::tests::internals::with_generated;

/// A situation, and the alerts that it raises if it lasts.
struct Situation {
    name: &'static str,
    alerts: &'static [&'static str],
    scene: Scene,
}

fn situation(name: &'static str, alerts: &'static [&'static str], scene: Scene) -> Situation {
    Situation {
        name,
        alerts,
        scene,
    }
}

/// Up to date, with this change.
fn but(change: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::of("A", "A", "origin:A/-");
    change(&mut scene);
    scene
}

/// `B` is to be deployed, and this became of it.
fn tried(outcome: Outcome) -> Scene {
    Scene::of("A-B", "A", "origin:B/-").then(attempt("B", "Update nixpkgs", 40, outcome))
}

/// `B` is deployed, with this change.
fn deployed(change: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = tried(done(13));
    scene.running = Some("B");
    change(&mut scene);
    scene
}

/// `B` is in this stage; the comin that did that is at work or dead.
fn at(stage: Stage, is_at_work: bool) -> Scene {
    let stages = [(Stage::Evaluating, 90), (stage, 30)];
    let mut scene =
        Scene::of("A-B", "A", "origin:B/-").then(under_way("B", "Update nixpkgs", &stages));
    scene.is_at_work = is_at_work;
    if matches!(stage, Stage::Checking | Stage::RollingBack) {
        scene.running = Some("B");
    }
    scene
}

/// `B` came to this twice, and then comin died.
fn three_tries(before: &Outcome) -> Scene {
    let stage = Stage::Building;
    let last = Outcome::Interrupted { stage };
    let ends = [before, before, &last].into_iter().cloned();
    let mut scene = Scene::of("A-B", "A", "origin:B/-");
    for (outcome, before) in ends.zip(0..) {
        let mut attempt = attempt("B", "Update nixpkgs", 40, outcome);
        attempt.id += u64::from(before);
        attempt.interruptions = before;
        attempt.before.system = Some(out("A"));
        attempt.before.boots = Some(out("A"));
        scene.attempts.push(attempt);
    }
    scene
}

fn origin() -> RemoteName {
    serde_json::from_value(json!("origin")).unwrap()
}

fn rolled_back(blame: FaultOrigin) -> Outcome {
    let error = "the health check failed".to_string();
    Outcome::RolledBack { error, blame }
}

const OTHER: &str = "/nix/store/00000000000000000000000000000000-nixos-system-m-26.05";

#[allow(clippy::too_many_lines)] // A table.
fn situations() -> Vec<Situation> {
    let lookup = |patience: Option<i64>, problem: Option<&str>| {
        Some(Lookup {
            commit: commit("B"),
            since: ago(60),
            patience: patience.map(|wait| Delay::new(ago(60), SignedDuration::from_secs(wait))),
            system: None,
            problem: problem.map(str::to_string),
        })
    };
    let suspended = |until: Option<i64>| {
        let until = until.map(|in_seconds| ago(-in_seconds));
        Some(Suspension {
            since: ago(90),
            until,
            reason: None,
        })
    };
    let gate = |again| {
        Some(ClosedGate {
            gate: "ci".to_string(),
            reason: "3 tests failed".to_string(),
            again,
        })
    };
    let boot = |mut attempt: Attempt| {
        attempt.target.operation = Operation::Boot;
        attempt
    };
    let with_confirmation = |step, began| {
        let stages = [(Stage::Evaluating, 90)];
        let mut attempt = under_way("B", "Update nixpkgs", &stages);
        attempt.wait(Stage::WaitingForConfirmation, step, ago(began));
        Scene::of("A-B", "A", "origin:B/-").then(attempt)
    };
    let test = || testing(attempt("B", "Try", 90, done(0)), "A");
    vec![
        situation("up to date", &[], but(|_| {})),
        situation("a test runs", &[], {
            let mut scene = Scene::of("A-B", "A", "origin:A/- local:A/B").then(test());
            scene.running = Some("B");
            scene
        }),
        situation(
            "nothing was fetched since the boot",
            &["CominNotPolling"],
            Scene::of("A", "A", "origin?:A/-"),
        ),
        situation("no remote can be fetched", &["CominFetchFailing"], {
            Scene::of("A", "A", "origin!:A/-")
        }),
        situation("the disk is full", &["CominFetchFailing"], {
            let mut scene = Scene::of("A", "A", "origin!:A/- local!:A/-");
            scene.fetch_error =
                "git fetch exited with status 128: error: write: No space left on device";
            scene
        }),
        situation(
            "one of two remotes cannot be fetched",
            &["CominFetchFailing"],
            Scene::of("A", "A", "origin:A/- local!:A/-"),
        ),
        situation("main was rewound", &["CominUndecided"], {
            Scene::of("0-A", "A", "origin:0/-")
        }),
        situation("there is no main", &["CominUndecided"], {
            Scene::of("A", "-", "origin:-/-")
        }),
        situation("a testing branch is not on main", &[], {
            Scene::of("0-A 0-C", "A", "origin:A/C")
        }),
        situation("pushed just now", &["CominNotDeploying"], {
            Scene::of("A-B", "A", "origin:B/-")
        }),
        situation("pushed, and comin.path is dead", &["CominNotDeploying"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.inactive_units = &["comin.path"];
            scene
        }),
        situation("comin.path is dead", &["CominNotDeploying"], {
            but(|scene| scene.inactive_units = &["comin.path"])
        }),
        situation(
            "the build failed, and comin.path is dead",
            &["CominNotDeploying"],
            {
                let mut scene = tried(failed(Stage::Building, "out of paper"));
                scene.inactive_units = &["comin.path"];
                scene
            },
        ),
        situation("suspended, and comin.path is dead", &["CominSuspended"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.suspended = suspended(None);
            scene.inactive_units = &["comin.path"];
            scene
        }),
        situation("a timer was stopped", &[], {
            but(|scene| scene.inactive_units = &["comin-origin.timer"])
        }),
        situation("a timer is dead", &["CominNotPolling"], {
            but(|scene| {
                scene.inactive_units = &["comin-origin.timer"];
                scene.fetched = 4 * 86400;
            })
        }),
        situation("the last fetch was four days ago", &["CominNotPolling"], {
            but(|scene| scene.fetched = 4 * 86400)
        }),
        situation(
            "evaluating",
            &["CominNotDeploying"],
            at(Stage::Evaluating, true),
        ),
        situation(
            "building",
            &["CominNotDeploying"],
            at(Stage::Building, true),
        ),
        situation(
            "activating",
            &["CominNotDeploying"],
            at(Stage::Activating, true),
        ),
        situation(
            "checking",
            &["CominNotDeploying"],
            at(Stage::Checking, true),
        ),
        situation(
            "building, and switched by hand",
            &["CominNotDeploying", "CominDrifted"],
            {
                let mut scene = at(Stage::Building, true);
                scene.running = Some(OTHER);
                scene
            },
        ),
        situation("rolling back", &["CominNotDeploying"], {
            let mut scene = at(Stage::RollingBack, true);
            scene.attempts[1].fault = Some("the health check failed".to_string());
            scene
        }),
        situation("killed while building", &["CominNotDeploying"], {
            at(Stage::Building, false)
        }),
        situation("killed while activating", &["CominNotDeploying"], {
            let mut scene = at(Stage::Activating, false);
            scene.running = Some("B");
            scene
        }),
        situation("killed three times", &["CominFailing"], {
            three_tries(&Outcome::Interrupted {
                stage: Stage::Building,
            })
        }),
        situation("killed after two outages", &["CominFailing"], {
            three_tries(&rolled_back(FaultOrigin::Outage(vec![origin()])))
        }),
        situation("waits for a confirmation", &["CominNotDeploying"], {
            with_confirmation(ConfirmStep::Build, 60)
        }),
        situation("waits for time", &["CominNotDeploying"], {
            with_confirmation(ConfirmStep::Deploy, 60)
        }),
        situation("waits at a gate", &["CominWaitsAtGate"], {
            let mut scene = with_confirmation(ConfirmStep::Deploy, 60);
            scene.attempts[1].confirmed.insert(ConfirmStep::Deploy);
            scene.gate = gate(Some(Delay::new(ago(0), SignedDuration::from_mins(1))));
            scene
        }),
        situation("waits for the deploy window", &["CominWaitsAtGate"], {
            let mut scene = with_confirmation(ConfirmStep::Deploy, 60);
            scene.attempts[1].confirmed.insert(ConfirmStep::Deploy);
            scene.gate = Some(ClosedGate {
                gate: "deploy_window".to_string(),
                reason: "it opens at 2026-01-02 22:00:00 UTC".to_string(),
                again: Some(Delay::until(ago(0), ago(-36000))),
            });
            scene
        }),
        situation("waits for free space", &["CominWaitsAtGate"], {
            let mut scene = with_confirmation(ConfirmStep::Build, 60);
            scene.attempts[1].confirmed.insert(ConfirmStep::Build);
            scene.gate = Some(ClosedGate {
                gate: "min_free".to_string(),
                reason: "90 MiB are free for /nix/store, and 5000 MiB are needed".to_string(),
                again: Some(Delay::until(ago(0), ago(-60))),
            });
            scene
        }),
        situation("held by a gate", &["CominGivenUp"], {
            let reason = "the gate ci refused it (3 tests failed)".to_string();
            let mut scene = tried(Outcome::Skipped { reason });
            scene.gate = gate(None);
            scene
        }),
        situation("the evaluation failed", &["CominFailing"], {
            tried(failed(Stage::Evaluating, "undefined variable"))
        }),
        situation("the build failed", &["CominFailing"], {
            tried(failed(Stage::Building, "out of paper"))
        }),
        situation("the build filled the disk", &["CominFailing"], {
            let error = "nix build exited with status 1: the disk is full: error: writing to file: No space left on device";
            tried(failed(Stage::Building, error))
        }),
        situation("the switch could not begin", &["CominFailing"], {
            let error = "another switch-to-configuration is running".to_string();
            tried(Outcome::Postponed { error })
        }),
        situation("the activation failed", &["CominGivenUp"], {
            tried(failed(Stage::Activating, "the boot loader failed"))
        }),
        situation(
            "units failed, and the new system stays",
            &["CominGivenUp"],
            {
                let mut scene = tried(failed(Stage::Activating, "units failed"));
                scene.attempts[1].stages[0].stage = Stage::Activating;
                scene.attempts[1].units = Some(UnitChanges {
                    failed: vec!["web.service".to_string()],
                    ..UnitChanges::default()
                });
                scene.running = Some("B");
                scene
            },
        ),
        situation(
            "the check failed, and the new system stays",
            &["CominGivenUp"],
            {
                let mut scene = tried(failed(Stage::Checking, "the health check failed"));
                scene.attempts[1].stages[0].stage = Stage::Checking;
                scene.running = Some("B");
                scene
            },
        ),
        situation("rolled back by comin", &["CominGivenUp"], {
            let mut scene = tried(rolled_back(FaultOrigin::Commit));
            scene.quarantined = true;
            scene
        }),
        situation("rolled back in an outage", &["CominFetchFailing"], {
            let mut scene = Scene::of("A-B", "A", "origin!:B/- local:B/-");
            scene = scene.then(attempt(
                "B",
                "Update",
                40,
                rolled_back(FaultOrigin::Outage(vec![origin()])),
            ));
            scene
        }),
        situation("rolled back by hand", &["CominHeldByHand"], {
            deployed(|scene| {
                scene.running = Some("A");
                scene.quarantined = true;
                scene.rolled_back_by_hand = true;
            })
        }),
        situation("for another machine", &["CominUndecided"], {
            let reason =
                "services.comin.machineId is \"6\", and this machine's id is \"7\"".to_string();
            tried(Outcome::Skipped { reason })
        }),
        situation("CI has not built it yet", &["CominWaitsForCI"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.prebuilt = lookup(None, None);
            scene
        }),
        situation("CI names something else", &["CominWaitsForCI"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.prebuilt = lookup(
                Some(600),
                Some(
                    "the note of the commit cannot be used: /etc is not the store path of a system",
                ),
            );
            scene
        }),
        situation("suspended", &["CominSuspended"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.suspended = suspended(None);
            scene
        }),
        situation("suspended for two hours", &["CominSuspended"], {
            let mut scene = Scene::of("A-B", "A", "origin:B/-");
            scene.suspended = suspended(Some(7200));
            scene
        }),
        situation("suspended, and switched by hand", &["CominSuspended"], {
            but(|scene| {
                scene.suspended = suspended(None);
                scene.running = Some(OTHER);
            })
        }),
        situation("suspended after a failed build", &["CominSuspended"], {
            let mut scene = tried(failed(Stage::Building, "out of paper"));
            scene.suspended = suspended(Some(7200));
            scene
        }),
        situation(
            "suspended, with many problems",
            &["CominFetchFailing", "CominSuspended"],
            {
                let mut scene = Scene::of("0-A 0-C", "A", "origin:A/C local!:A/-");
                scene.suspended = suspended(None);
                scene.running = Some(OTHER);
                scene.inactive_units = &["comin-local.timer"];
                scene.reboot_reasons = &["the kernel"];
                scene
            },
        ),
        situation("switched by hand", &["CominDrifted"], {
            but(|scene| scene.running = Some(OTHER))
        }),
        situation("switched by hand, and healed soon", &[], {
            but(|scene| {
                scene.running = Some(OTHER);
                scene.heals = true;
            })
        }),
        situation("healed", &[], {
            let mut scene = deployed(|_| {});
            let mut healed = attempt("C", "Update nixpkgs", 20, done(13));
            let deployed = scene.attempts[1].clone();
            (healed.target, healed.out) = (deployed.target, deployed.out);
            healed.reactivation = Some(Reactivation {
                operation: Operation::Switch,
                kept_by: None,
            });
            scene = scene.then(healed);
            scene
        }),
        situation(
            "an earlier system was activated by hand",
            &["CominDrifted"],
            deployed(|scene| scene.running = Some("A")),
        ),
        situation("an old generation was booted", &["CominDrifted"], {
            deployed(|scene| {
                scene.heals = true;
                scene.running = Some("A");
                scene.booted = Some("A");
                scene.boots_next = Some("B");
                scene.boot = "2";
                scene.reboot_reasons = &["another system boots next"];
            })
        }),
        situation("a test ended with a reboot", &[], {
            let mut scene = Scene::of("A-B", "A", "origin:A/- local:A/B").then(test());
            scene.booted = Some("A");
            scene.boots_next = Some("A");
            scene.boot = "2";
            scene
        }),
        situation(
            "a test could not be made, and the machine has booted since",
            &["CominUndecided"],
            {
                let reason =
                    "only a reboot changes dbus, so it cannot be tested while this system runs";
                let skipped = Outcome::Skipped {
                    reason: reason.to_string(),
                };
                let test = testing(attempt("B", "Try", 90, skipped), "A");
                let mut scene = Scene::of("A-B", "A", "origin:A/- local:A/B").then(test);
                scene.can_test_again = true;
                scene
            },
        ),
        situation("nixos-rebuild boot by hand", &["CominDrifted"], {
            but(|scene| {
                scene.boots_next = Some(OTHER);
                scene.reboot_reasons = &["another system boots next"];
            })
        }),
        situation(
            "the build failed, and switched by hand",
            &["CominDrifted", "CominFailing"],
            {
                let mut scene = tried(failed(Stage::Building, "out of paper"));
                scene.running = Some(OTHER);
                scene
            },
        ),
        situation("deployed for the next boot", &["CominNeedsReboot"], {
            let mut scene = Scene::of("A-B", "B", "origin:B/-").then(boot(attempt(
                "B",
                "Update",
                600,
                done(13),
            )));
            scene.boots_main = true;
            scene.boots_next = Some("B");
            scene.reboot_reasons = &["another system boots next"];
            scene
        }),
        situation("the clock was set back", &[], {
            but(|scene| scene.attempts[0] = attempt("A", "Enable the printer", -7200, done(12)))
        }),
        situation("a reboot is needed", &["CominNeedsReboot"], {
            but(|scene| scene.reboot_reasons = &["the kernel"])
        }),
    ]
}

impl Situation {
    fn metrics(&self) -> Metrics {
        let Scene { fetched, .. } = self.scene;
        let names = self.scene.names().zip(self.scene.config().remotes);
        let remotes = names.map(|((_, mark), remote)| {
            let record = json!({
                "version": 1, "url": "", "attempted_at": ago(fetched), "succeeded_at": ago(fetched),
                "error": mark.map(|_| "Connection refused"), "successes": 1,
            });
            let record = serde_json::from_value(record).unwrap();
            (remote.name, Some(record).filter(|_| mark != Some('?')))
        });
        Metrics {
            status: self.scene.status(),
            is_decided: true,
            decided_at: Some(ago(12)),
            committed_at: Some(ago(9000)),
            state: self.scene.state(),
            remotes: remotes.collect(),
        }
    }

    /// What is told of it: the top of the status, the short line, exit code and state, the metrics, and the alerts.
    fn told(&self) -> String {
        let page = page(80);
        let status = self.scene.status();
        let json: Value = serde_json::to_value(&status).unwrap();
        let metrics = self.metrics().to_string();
        let told = metrics.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let name = name.strip_prefix("comin_")?;
            let is_told = ["state{", "is_", "drift{", "need_", "last_deployment_failed"]
                .iter()
                .any(|told| name.starts_with(told));
            let name = name.replace("{kind=", "=").replace("{state=", "=");
            let name = name.trim_end_matches('}').replace('"', "");
            (is_told && value == "1").then_some(name)
        });
        let text = status.text(&page);
        let is_of_top = |line: &&str| {
            let is_entry = line.starts_with("  ") && line[2..].starts_with(char::is_alphabetic);
            let is_first = ["  running ", "  also "]
                .iter()
                .any(|it| line.starts_with(it));
            !is_entry || line.get(11..13) != Some("  ") || is_first
        };
        // The first line, what is below it without a label of its own, and what runs.
        let top: Vec<_> = text.lines().take_while(is_of_top).collect();
        format!(
            "== {}\n{}\n\n  {}\n  {} {}{}\n  {}\n  {}\n\n",
            self.name,
            top.join("\n"),
            status.oneline(&page),
            status.exit_code(&page),
            json["state"].as_str().unwrap(),
            json["drift"]["kind"]
                .as_str()
                .map_or(String::new(), |kind| format!(", drift {kind}")),
            told.collect::<Vec<_>>().join(" "),
            self.alerts.join(" "),
        )
    }

    /// The metrics for eight days.
    fn series(&self, text: &mut String) {
        let name = self.name;
        let labels = format!(r#"job="comin", instance="{name}""#);
        let mut series = |metric: &str, values: &str| {
            let _ = writeln!(
                text,
                "      - series: '{metric}'\n        values: '{values}'"
            );
        };
        series(&format!("up{{{labels}}}"), "1x400");
        for line in self.metrics().to_string().lines() {
            let Some((metric, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))
            else {
                continue;
            };
            let metric = match metric.strip_suffix('}') {
                Some(metric) => format!("{metric}, {labels}}}"),
                None => format!("{metric}{{{labels}}}"),
            };
            // promtool's time begins with 1970.
            if !metric.contains("_timestamp_") {
                series(&metric, &format!("{value}x400"));
            } else if self.scene.fetched > 3600 {
                series(&metric, &format!("-{}x400", self.scene.fetched));
            } else {
                series(&metric, "0+1800x400");
            }
        }
    }
}

#[test]
fn what_is_told_of_each_situation() {
    let told: Vec<String> = situations().iter().map(Situation::told).collect();
    let table = told.concat();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/report/tests/situations.txt"
    );
    expect_file![file].assert_eq(&table);
    let states: BTreeSet<String> = situations()
        .iter()
        .map(|it| it.scene.status().state)
        .collect();
    assert_eq!(states, self::states().collect(), "each has a situation");
}

/// Every metric with its labels and its help.
#[test]
fn page_about_the_metrics_has_the_help_of_each() {
    let Some(module) = module() else { return };
    let mut helps = Vec::new();
    let mut labels = BTreeMap::new();
    for situation in situations() {
        for line in situation.metrics().to_string().lines() {
            if let Some((name, help)) = line
                .strip_prefix("# HELP ")
                .and_then(|it| it.split_once(' '))
            {
                let help = (name.to_string(), help.to_string());
                if !helps.contains(&help) {
                    helps.push(help);
                }
            } else if let Some((name, values)) = line.split_once('{') {
                let names = values
                    .split("\",")
                    .map(|label| label.split('=').next().unwrap());
                let names: Vec<_> = names.map(str::to_string).collect();
                labels.insert(name.to_string(), format!("{{{}}}", names.join(",")));
            }
        }
    }
    let row = |(name, help): &(String, String)| {
        let labels = labels.get(name).map_or("", String::as_str);
        format!("| `{name}{labels}` | {help} |\n")
    };
    let rows: String = helps.iter().map(row).collect();
    let table = format!("| metric | value |\n|---|---|\n{rows}");
    let file = module.join("docs/metrics.md");
    let page = std::fs::read_to_string(&file).unwrap();
    expect_file![file].assert_eq(&with_generated(&page, "metrics", &table));
}

/// A status that says more is well with code 0 alone, and every word is in the metrics.
#[test]
fn all_is_well_only_if_the_machine_runs_what_was_pushed() {
    for situation in situations() {
        let Situation { name, scene, .. } = &situation;
        let (status, page) = (scene.status(), page(80));
        let json = serde_json::to_value(&status).unwrap();
        let state = json["state"].as_str().unwrap();
        let is_well = status.exit_code(&page) == 0;
        let runs = json["running"]["commit"] == json["selected"]["commit"];
        assert!(!is_well || (runs && json["drift"].is_null()), "{name}");
        assert!(
            !is_well || ["up_to_date", "testing"].contains(&state),
            "{name}"
        );
        let metrics = situation.metrics().to_string();
        let ones = metrics
            .lines()
            .filter(|line| line.starts_with("comin_state{") && line.ends_with(" 1"));
        assert_eq!(ones.count(), 1, "{name}: {state}");
    }
}

/// The first line of each, and below it what can be done.
#[test]
fn first_sentence_tells_of_another_system_and_names_no_path() {
    for Situation { name, scene, .. } in situations() {
        let (status, page) = (scene.status(), page(80));
        let (first, _) = status.verdicts(&page, &|time| page.until(time));
        assert!(!first.sentence.contains("/nix/store/0"), "{name}");
        let is_told = ["another system ", "outside of comin", "since it was booted"]
            .iter()
            .any(|words| first.sentence.contains(words));
        assert_eq!(status.host.seen.drift.is_some(), is_told, "{name}");
        let keeps = first
            .cures
            .iter()
            .any(|it| it.to_string().contains("comin suspend"));
        let is_replaced = is_told && status.suspension.is_none();
        assert!(
            keeps || !is_replaced,
            "{name}: nothing keeps the other system"
        );
    }
}

#[test]
fn commit_that_no_deploy_has_looked_at_is_due() {
    let mut metrics = situation("", &[], but(|_| {})).metrics();
    metrics.is_decided = false;
    let metrics = metrics.to_string();
    for line in [r#"comin_state{state="due"} 1"#, "comin_is_behind 1"] {
        assert!(metrics.lines().any(|it| it == line), "{metrics}");
    }
}

/// The folder of the module: the package is built without it.
fn module() -> Option<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("module");
    module.exists().then_some(module)
}

#[test]
fn each_situation_raises_its_alerts_and_no_others() {
    let Some(module) = module() else { return };
    let Ok(version) = Command::new("promtool").arg("--version").output() else {
        assert!(std::env::var_os("CI").is_none(), "promtool is missing");
        return;
    };
    assert!(version.status.success());
    let rules = module.join("alerts.yml");
    let mut test = format!(
        "rule_files: [{}]\nevaluation_interval: 30m\ntests:\n  - interval: 30m\n    input_series:\n",
        rules.display()
    );
    let mut expected = String::new();
    for situation in situations() {
        situation.series(&mut test);
        let mut alerts = situation.alerts.to_vec();
        alerts.sort_unstable();
        for alert in alerts {
            let _ = write!(
                expected,
                "          - labels: '{{alertname=\"{alert}\", instance=\"{}\"}}'\n            value: 1\n",
                situation.name
            );
        }
    }
    let _ = write!(
        test,
        "    promql_expr_test:\n      - expr: max by (alertname, instance) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: 8d\n        exp_samples:\n{expected}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("situations.yml");
    std::fs::write(&file, test).unwrap();
    let said = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    let said = [said.stdout, said.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(said.concat().contains("SUCCESS"), "{}", said.concat());
}

/// What of a value is not as a schema has it. Knows as much of JSON Schema as ours needs.
fn faults(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_kind = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(|it| it == kind),
        one => one == kind,
    };
    let is_listed = schema["enum"]
        .as_array()
        .is_none_or(|all| all.contains(value));
    // Dates and ids have their length, and letters that stand for a class.
    let is_alike = schema["pattern"].as_str().is_none_or(|pattern| {
        value.as_str().is_none_or(|text| {
            if pattern.contains('T') {
                text.len() == 20 && text.parse::<Timestamp>().is_ok()
            } else {
                text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
            }
        })
    });
    if !is_kind || !is_listed || !is_alike {
        found.push(format!("{at}: {value}"));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(item, &schema["items"], &format!("{at}[{n}]"), found);
    }
    let Some(object) = value.as_object() else {
        return;
    };
    for (key, value) in object {
        match schema["properties"].get(key) {
            Some(schema) => faults(value, schema, &format!("{at}.{key}"), found),
            None => found.push(format!("{at}.{key} is not in the schema")),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(key.as_str().unwrap()) {
            found.push(format!("{at}.{key} is missing"));
        }
    }
}

#[test]
fn json_of_each_situation_is_as_the_schema_has_it() {
    let Some(module) = module() else { return };
    let schema = std::fs::read_to_string(module.join("docs/status.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let states = schema["properties"]["state"]["enum"].as_array().unwrap();
    assert!(states.iter().eq(self::states().collect::<Vec<_>>().iter()));
    for Situation { name, scene, .. } in situations() {
        let mut found = Vec::new();
        let json = serde_json::to_value(scene.status()).unwrap();
        faults(&json, &schema, "", &mut found);
        assert_eq!(found, [""; 0], "{name}");
    }
    let mut found = Vec::new();
    let wrong = json!({"state": "fine", "suspended": null, "accepted_main": "3f2a"});
    faults(&wrong, &schema, "", &mut found);
    assert!(found.len() > 10, "{found:?}");
}
