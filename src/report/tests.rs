//! What a person reads in one situation after the other, at 80 columns: `UPDATE_EXPECT=1` writes it anew.

// As expect-test writes them.
#![allow(clippy::needless_raw_string_hashes)]

use std::path::{Path, PathBuf};

use expect_test::{expect, Expect};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::host_state::{HealingView, HostState, Seen};
use super::preview::{Build, Previewed};
use super::target::{Report, TargetView};
use super::{
    attempt_details::Details, history::HistoryView, page::Page, plan::Plan, remote::RemoteStatus,
    status::Status,
};
use crate::config::Config;
use crate::model::drift::{Since, Systems};
use crate::model::select::{
    decide,
    tests::{commit, facts, Diagram},
};
use crate::model::{
    healing, Action, Attempt, ClosedGate, ConfirmStep, Decision, Delay, Drift, Facts, FaultOrigin,
    Lookup, ManualRollback, Operation, Outcome, Progress, Quarantine, Stage, StageStart, State,
    Suspension, UnitChanges,
};
use crate::nix::closure_diff::{Change, ClosureDiff};
use crate::system::{dry_activate::DryActivation, timers::FetchSchedule};

mod situations;

const NOW: &str = "2026-01-02T12:00:00Z";
const ORIGIN: &str = "https://git.example.org/machines.git";

/// A machine `m` that follows `origin`, and is in some situation. Commits are letters, as in the tests of
/// the selection.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools)]
struct Scene {
    history: &'static str,
    accepted: &'static str,
    /// As in `origin:B/- local!:A/-`; those with `!` cannot be fetched.
    remotes: &'static str,
    urls: &'static [&'static str],
    polls: Vec<FetchSchedule>,
    /// The latest last.
    attempts: Vec<Attempt>,
    /// What the commit that is selected says of itself.
    subject: &'static str,
    /// Whether the latest one is under way.
    is_at_work: bool,
    /// The commit whose system runs, or a system.
    running: Option<&'static str>,
    quarantined: bool,
    /// The gate that is closed; it holds the latest attempt if it is not asked again.
    gate: Option<ClosedGate>,
    rolled_back_by_hand: bool,
    suspended: Option<Suspension>,
    prebuilt: Option<Lookup>,
    reboot_reasons: &'static [&'static str],
    booted_instead: Option<&'static str>,
    /// The systems that booted and that boot next, as `running`.
    booted: Option<&'static str>,
    boots_next: Option<&'static str>,
    boot: &'static str,
    /// Whether main is deployed for the next boot.
    boots_main: bool,
    /// Whether what was skipped can be tested since the machine has booted.
    can_test_again: bool,
    /// Whether a drift is healed after an hour.
    heals: bool,
    /// When the remotes were last fetched.
    fetched: i64,
    /// Why those that cannot be fetched cannot.
    fetch_error: &'static str,
    inactive_units: &'static [&'static str],
}

/// The time that it was so many seconds ago.
fn ago(seconds: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() - SignedDuration::from_secs(seconds)
}

fn out(letter: &str) -> PathBuf {
    let hash = letter.to_lowercase().repeat(32);
    format!("/nix/store/{hash}-nixos-system-m-26.05").into()
}

/// That of a commit, or a path.
fn system(name: &str) -> PathBuf {
    if name.len() == 1 {
        out(name)
    } else {
        name.into()
    }
}

fn page(width: usize) -> Page {
    Page {
        now: ago(0),
        zone: TimeZone::UTC,
        width: Some(width),
        colour: false,
    }
}

/// An attempt at a commit that began so many seconds ago, and how it ended some seconds later.
fn attempt(letter: &str, subject: &str, began: i64, ends: Outcome) -> Attempt {
    let mut attempt = Attempt::for_tests(u64::from(letter.as_bytes()[0] % 16), Operation::Switch);
    attempt.target.commit = commit(letter);
    attempt.target.main = commit(letter);
    attempt.subject = subject.to_string();
    attempt.boot = Some("1".to_string());
    attempt.started_at = ago(began);
    attempt.out = Some(out(letter));
    attempt.stages = vec![StageStart {
        stage: Stage::Evaluating,
        at: ago(began),
    }];
    attempt.progress = Progress::Ended(ago(began - 14), ends);
    attempt
}

/// One that is in the last of these stages, each of which began so many seconds ago.
fn under_way(letter: &str, subject: &str, stages: &[(Stage, i64)]) -> Attempt {
    let mut attempt = attempt(letter, subject, stages[0].1, done(0));
    let entered = stages.iter().map(|(stage, began)| StageStart {
        stage: *stage,
        at: ago(*began),
    });
    attempt.stages = entered.collect();
    attempt.progress = Progress::Running(stages[stages.len() - 1].0);
    attempt
}

fn testing(attempt: Attempt, main: &str) -> Attempt {
    let mut attempt = attempt;
    attempt.target.testing = true;
    attempt.target.branch = "testing".to_string();
    attempt.target.remote = serde_json::from_value(json!("local")).unwrap();
    attempt.target.operation = Operation::Test;
    attempt.target.main = commit(main);
    attempt
}

fn done(generation: u64) -> Outcome {
    Outcome::Done {
        generation: Some(generation).filter(|generation| *generation > 0),
    }
}

fn failed(stage: Stage, error: &str) -> Outcome {
    let error = error.to_string();
    Outcome::Failed { stage, error }
}

impl Scene {
    /// Up to date with `A` of `origin`.
    fn of(history: &'static str, accepted: &'static str, remotes: &'static str) -> Self {
        Self {
            history,
            accepted,
            remotes,
            urls: &[ORIGIN, "/home/me/machines"],
            polls: vec![
                FetchSchedule {
                    next: Some(ago(-48)),
                    period: Some(SignedDuration::from_mins(1)),
                    is_timed: true,
                    watched: false,
                },
                FetchSchedule {
                    next: Some(ago(-1)),
                    period: Some(SignedDuration::from_secs(1)),
                    is_timed: true,
                    watched: true,
                },
            ],
            attempts: vec![attempt("A", "Enable the printer", 7500, done(12))],
            subject: "Update nixpkgs",
            is_at_work: false,
            running: Some("A"),
            quarantined: false,
            gate: None,
            rolled_back_by_hand: false,
            suspended: None,
            prebuilt: None,
            reboot_reasons: &[],
            booted_instead: None,
            booted: None,
            boots_next: None,
            boot: "1",
            boots_main: false,
            can_test_again: false,
            heals: false,
            fetched: 12,
            fetch_error: "failed to connect to git.example.org: Connection refused",
            inactive_units: &[],
        }
    }

    fn then(mut self, mut attempt: Attempt) -> Self {
        let before = self.attempts.last().and_then(|it| it.out.clone());
        attempt.before.system.clone_from(&before);
        attempt.before.boots = before;
        self.attempts.push(attempt);
        self
    }

    fn state(&self) -> State {
        let latest = self.attempts.last();
        let rollback = ManualRollback {
            after: latest.map_or(0, |latest| latest.id),
            at: ago(300),
            generation: 12,
            system: out("A"),
            operation: Operation::Switch,
            boot: Some("1".to_string()),
            by: "me".to_string(),
        };
        State {
            attempts: self.attempts.clone(),
            rollbacks: Vec::from_iter(self.rolled_back_by_hand.then_some(rollback)),
            ..State::default()
        }
    }

    fn drift(&self, state: &State) -> Option<Drift> {
        let since = |name: &str| Since {
            system: system(name),
            since: Some(ago(300)),
        };
        let systems = Systems {
            running: self.running.map(since),
            booted: self.booted.map(since),
            boots_next: self.boots_next.map(since),
            boot: Some(self.boot.to_string()),
        };
        Drift::of(state, &systems)
    }

    fn config(&self) -> Config {
        let names = self.names().map(|(name, _)| name);
        let remotes = names.zip(self.urls).map(|(name, url)| {
            let auth = json!({"ssh_deploy_key_path": "/run/secrets/deploy-key"});
            let auth = url.contains("ssh:").then_some(auth);
            let branches = json!({"testing": {"name": "testing"}});
            json!({"name": name, "url": url, "branches": branches, "auth": auth})
        });
        let remotes: Vec<_> = remotes.collect();
        let config = json!({
            "hostname": "m", "remotes": remotes, "drift": {"heal": self.heals},
            "build_confirmer": {"mode": "manual"},
            "deploy_confirmer": {"mode": "auto", "autoconfirm_duration": 600},
        });
        Config::for_tests(&config.to_string())
    }

    /// The remotes, and what marks them.
    fn names(&self) -> impl Iterator<Item = (&'static str, Option<char>)> {
        let names = self.remotes.split_whitespace();
        names.map(|remote| {
            let (name, _) = remote.split_once(':').unwrap();
            let mark = name.chars().last().filter(|c| ['!', '?'].contains(c));
            (name.trim_end_matches(['!', '?']), mark)
        })
    }

    fn decide(&self) -> (Facts, Decision) {
        let mut facts = facts(self.accepted, self.remotes);
        let state = State {
            accepted_main: facts.accepted.map(|accepted| accepted.commit),
            ..self.state()
        };
        if self.boots_main {
            let mains = facts.remotes.iter_mut().filter_map(|it| it.main.as_mut());
            mains.for_each(|main| main.branch.operation = Operation::Boot);
        }
        facts.accepted = state.accepted();
        facts.now = ago(0);
        facts.recent = self.state().since_last_activation(self.config().retry);
        facts.suspended.clone_from(&self.suspended);
        facts.prebuilt.clone_from(&self.prebuilt);
        facts.awaited = self.config().awaited(&self.state());
        facts.gate.clone_from(&self.gate);
        if let Some(gate) = self.gate.as_ref().filter(|gate| gate.again.is_none()) {
            let latest = &self.attempts[self.attempts.len() - 1];
            let (target, reason) = (&latest.target, gate.to_string());
            let held = Quarantine::of(target, &facts.remotes, reason, Timestamp::now());
            facts.quarantine = vec![held.by_gate()];
        }
        if self.quarantined {
            let latest = &self.attempts[self.attempts.len() - 1];
            let reason = "rolled back to generation 12 by hand".to_string();
            let held = Quarantine::of(&latest.target, &facts.remotes, reason, Timestamp::now());
            facts.quarantine = vec![if self.rolled_back_by_hand {
                held.by_hand()
            } else {
                held
            }];
        }
        let decision = decide(&facts, &Diagram::of(self.history));
        (facts, decision)
    }

    fn selected(&self) -> Option<TargetView> {
        let (_, decision) = self.decide();
        let target = decision.selected?;
        Some(TargetView::new(&target, Some(self.subject.to_string())))
    }

    fn status(&self) -> Status {
        let (facts, decision) = self.decide();
        let config = self.config();
        let remotes = config.remotes.iter().zip(self.names()).zip(&self.polls);
        let remotes = remotes.map(|((remote, (_, mark)), poll)| {
            let record = json!({
                "version": 1, "url": "", "attempted_at": ago(self.fetched),
                "succeeded_at": ago(if mark.is_some() { 800 } else { self.fetched }),
                "error": mark.map(|_| self.fetch_error),
            });
            let record = serde_json::from_value(record).unwrap();
            let record = Some(record).filter(|_| mark != Some('?'));
            RemoteStatus::of(remote, record, *poll, &decision.candidates, facts.now)
        });
        let remotes = remotes.collect();
        let state = self.state();
        let reasons = self.reboot_reasons.iter().map(ToString::to_string);
        let drift = self.drift(&state);
        let healing = drift.as_ref().and_then(|drift| {
            healing::decide(&healing::HealingFacts {
                policy: config.drift,
                state: &state,
                drift,
                seen: ago(300),
                is_suspended: self.suspended.is_some(),
                is_settled: decision.action == Action::Nothing,
                is_switching: false,
                backoff: config.retry,
                now: ago(0),
            })
        });
        let healing = healing.map(|it| HealingView::of(&it, None));
        let seen = Seen {
            at_work: self.is_at_work,
            suspended: self.suspended.is_some(),
            runs: self.running.map(system),
            reboot_reasons: reasons.collect(),
            booted_instead: self.booted_instead.map(PathBuf::from),
            drift,
            healing,
            clock_doubt: state.clock_doubt(facts.now),
            can_test_again: self.can_test_again,
            ..Seen::default()
        };
        let host = HostState::new(&state, config.retry, seen);
        let selected = self.selected();
        let units = self.inactive_units.iter().map(ToString::to_string);
        Status::new(
            "m",
            host,
            facts,
            decision,
            selected,
            remotes,
            units.collect(),
        )
    }

    fn plan(&self) -> Plan {
        let host = self.status().host;
        let (_, decision) = self.decide();
        Plan::new(decision, None, self.selected(), host)
    }

    /// The status, in a line and in a picture, and the plan.
    #[track_caller]
    fn check(&self, expected: &Expect) {
        let page = page(80);
        let status = self.status();
        let shown = [
            format!("[{}]\n", status.oneline(&page)),
            status.text(&page),
            "--\n".to_string(),
            self.plan().text(&page),
        ];
        expected.assert_eq(&shown.concat());
    }
}

#[test]
fn nothing_has_been_fetched_yet() {
    let mut scene = Scene::of("A", "-", "origin?:-/-");
    scene.attempts.clear();
    scene.running = Some("/nix/store/00000000000000000000000000000000-nixos-system-m-26.05");
    scene.polls = vec![FetchSchedule::default()];
    scene.check(&expect![[r#"
        [not fetched]
        m: no remote has been fetched since the boot
          → sudo comin run
          running    /nix/store/00000000000000000000000000000000-nixos-system-m-26.05,
                     which comin has not deployed
          origin     https://git.example.org/machines.git
                     not fetched since the boot
        --
        Nothing to deploy: no remote has been fetched since the boot
          origin/main  -         the remote has not been fetched yet
    "#]]);
    scene.running = None;
    scene.check(&expect![[r#"
        [not fetched]
        m: no remote has been fetched since the boot
          → sudo comin run
          origin     https://git.example.org/machines.git
                     not fetched since the boot
        --
        Nothing to deploy: no remote has been fetched since the boot
          origin/main  -         the remote has not been fetched yet
    "#]]);
}

#[test]
fn up_to_date() {
    Scene::of("A", "A", "origin:A/-").check(&expect![[r#"
        [up to date 41414141]
        m: up to date
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     the same: it is the accepted main
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
        --
        Nothing to do: 41414141 (origin/main) is deployed
          origin/main  41414141  selected
    "#]]);
}

#[test]
fn up_to_date_with_another_remote_that_is_behind() {
    Scene::of("0-A", "A", "origin:A/- local:0/0").check(&expect![[r#"
        [up to date 41414141]
        m: up to date
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     the same: it is the accepted main
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     30303030  it is behind the accepted main 41414141
                       (origin/main); push that there
                     testing  30303030  it has nothing that main does not have
        --
        Nothing to do: 41414141 (origin/main) is deployed
          origin/main    41414141  selected
          local/main     30303030  it is behind the accepted main 41414141
                         (origin/main); push that there
          local/testing  30303030  it has nothing that main does not have
    "#]]);
}

#[test]
fn a_testing_branch_runs() {
    let mut scene = Scene::of("A-B", "A", "origin:A/- local:A/B")
        .then(testing(attempt("B", "Try the new shell", 90, done(0)), "A"));
    scene.running = Some("B");
    scene.check(&expect![[r#"
        [testing 42424242]
        m: up to date, testing 42424242 (local/testing)
          running    42424242 (local/testing), deployed 1 min ago
                     Try the new shell
          wanted     the same: a testing branch on top of main 41414141
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     41414141
                     testing  42424242
        --
        Nothing to do: 42424242 (local/testing) is deployed
          origin/main    41414141  qualifies
          local/main     41414141  qualifies
          local/testing  42424242  selected
    "#]]);
}

#[test]
fn a_new_commit_is_about_to_be_deployed() {
    Scene::of("A-B", "A", "origin:B/-").check(&expect![[r#"
        [due 42424242]
        m: 42424242 (origin/main) is about to be deployed
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn what_was_tested_became_main() {
    let mut scene = Scene::of("A-B", "A", "origin:B/- local:A/-")
        .then(testing(attempt("B", "Try the new shell", 90, done(0)), "A"));
    scene.running = Some("B");
    scene.check(&expect![[r#"
        [due 42424242]
        m: 42424242 (origin/main) is about to be deployed
          running    42424242 (local/testing), deployed 1 min ago
                     Try the new shell
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     41414141
        --
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
          local/main   41414141  qualifies
    "#]]);
}

#[test]
fn a_commit_is_evaluated() {
    let it = under_way("B", "Update nixpkgs", &[(Stage::Evaluating, 3)]);
    let mut scene = Scene::of("A-B", "A", "origin:B/-").then(it);
    scene.is_at_work = true;
    scene.check(&expect![[r#"
        [evaluating 42424242]
        m: evaluating 42424242 (origin/main) for 3 s
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Under way: evaluating 42424242 (origin/main) for 3 s
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_commit_waits_for_a_confirmation() {
    let stages = [(Stage::Evaluating, 70), (Stage::WaitingForConfirmation, 60)];
    let mut it = under_way("B", "Update nixpkgs", &stages);
    it.progress = Progress::Awaiting(ConfirmStep::Build);
    Scene::of("A-B", "A", "origin:B/-")
        .then(it.clone())
        .check(&expect![[r#"
            [waits 42424242: for your confirmation to be built]
            m: 42424242 (origin/main) waits for your confirmation to be built
              to build it → sudo comin confirm build
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                         Update nixpkgs
                         evaluated in 10 s, waiting for confirmation for 60 s
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     42424242
            --
            Would not deploy 42424242 (origin/main): it waits for your confirmation to be
              built
              to build it → sudo comin confirm build
              origin/main  42424242  selected
        "#]]);
    it.progress = Progress::Awaiting(ConfirmStep::Deploy);
    Scene::of("A-B", "A", "origin:B/-")
        .then(it)
        .check(&expect![[r#"
            [waits 42424242: for your confirmation, and is deployed without one at 12:09]
            m: 42424242 (origin/main) waits for your confirmation, and is deployed without
              one in 9 min
              to deploy it → sudo comin confirm deploy
              to stop it → sudo comin suspend
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                         Update nixpkgs
                         evaluated in 10 s, waiting for confirmation for 60 s
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     42424242
            --
            Would not deploy 42424242 (origin/main): it waits for your confirmation, and is
              deployed without one in 9 min
              to deploy it → sudo comin confirm deploy
              to stop it → sudo comin suspend
              origin/main  42424242  selected
        "#]]);
}

#[test]
fn a_commit_waits_at_a_gate() {
    let stages = [
        (Stage::Evaluating, 70),
        (Stage::Building, 60),
        (Stage::WaitingAtGate, 30),
    ];
    let mut it = under_way("B", "Update nixpkgs", &stages);
    it.progress = Progress::Awaiting(ConfirmStep::Deploy);
    it.confirmed.insert(ConfirmStep::Deploy);
    let mut scene = Scene::of("A-B", "A", "origin:B/-").then(it);
    scene.gate = Some(ClosedGate {
        gate: "ac".to_string(),
        reason: "on battery".to_string(),
        again: Some(Delay::new(ago(0), SignedDuration::from_mins(1))),
    });
    scene.check(&expect![[r#"
        [waits 42424242: at the gate ac (on battery)]
        m: 42424242 (origin/main) waits at the gate ac (on battery), and is tried again
          in 1 min
          to stop it → sudo comin suspend
          to go on all the same → sudo comin confirm --past-gates
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
                     evaluated in 10 s, built in 30 s, waiting at gate for 30 s
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it waits at the gate ac (on battery)
          to stop it → sudo comin suspend
          to go on all the same → sudo comin confirm --past-gates
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_commit_is_held_by_a_gate() {
    let reason = "the gate ci refused it (3 tests failed)".to_string();
    let skipped = Outcome::Skipped { reason };
    let held = attempt("B", "Update nixpkgs", 600, skipped);
    let mut scene = Scene::of("A-B", "A", "origin:B/-").then(held);
    scene.gate = Some(ClosedGate {
        gate: "ci".to_string(),
        reason: "3 tests failed".to_string(),
        again: None,
    });
    scene.check(&expect![[r#"
        [held 42424242: the gate ci refused it (3 tests failed)]
        m: 42424242 (origin/main) is held until someone pushes: the gate ci refused it
          (3 tests failed)
          to try it again → sudo comin retry
          to go on all the same → sudo comin confirm --past-gates
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
                     skipped 9 min ago: the gate ci refused it (3 tests failed)
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it is held until someone pushes: the
          gate ci refused it (3 tests failed)
          to try it again → sudo comin retry
          to go on all the same → sudo comin confirm --past-gates
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_commit_is_checked() {
    let stages = [
        (Stage::Evaluating, 400),
        (Stage::Building, 390),
        (Stage::Activating, 30),
        (Stage::Checking, 8),
    ];
    let before = attempt(
        "0",
        "Without quotes",
        900,
        failed(Stage::Building, "out of paper"),
    );
    let mut scene = Scene::of("0-A-B", "A", "origin:B/-")
        .then(before)
        .then(under_way("B", "Update nixpkgs", &stages));
    scene.is_at_work = true;
    scene.check(&expect![[r#"
        [checking 42424242]
        m: checking 42424242 (origin/main) for 8 s
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
                     evaluated in 10 s, built in 6 min, activated in 22 s, checking for
                     8 s
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Under way: checking 42424242 (origin/main) for 8 s
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn an_evaluation_failed_and_is_tried_again() {
    let error = "nix eval exited with status 1: error: undefined variable 'second' at /nix/store/a5y0gcxmjcf51lqa1h2lap4fjrli02f2-source/flake.nix:5:15";
    let mut failure = attempt("B", "Without quotes", 40, failed(Stage::Evaluating, error));
    failure.tries = 3;
    Scene::of("A-B", "A", "origin:B/-")
        .then(failure)
        .check(&expect![[r#"
            [failed 42424242: while evaluating (undefined variable 'second' at /nix/store/a5y0gcxmjcf51lqa1h2lap4fjrli02f2-source/flake.nix:5:15), tried again at 12:03]
            m: 42424242 (origin/main) failed while evaluating at 11:59 (undefined variable
              'second' at
              /nix/store/a5y0gcxmjcf51lqa1h2lap4fjrli02f2-source/flake.nix:5:15), and is
              tried again in 3 min
              → comin history 2
              to try it again → sudo comin retry
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                         Without quotes
                         failed 26 s ago: nix eval exited with status 1: error: undefined
                         variable 'second' at
                         /nix/store/a5y0gcxmjcf51lqa1h2lap4fjrli02f2-source/flake.nix:5:15
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     42424242
            --
            Would not deploy 42424242 (origin/main): it failed while evaluating, and is
              tried again in 3 min
              to try it again → sudo comin retry
              origin/main  42424242  selected
        "#]]);
}

#[test]
fn a_failure_was_taken_back() {
    let failure = attempt(
        "B",
        "Without quotes",
        4000,
        failed(Stage::Building, "nix build exited with status 1"),
    );
    Scene::of("A-B", "A", "origin:A/-")
        .then(failure)
        .check(&expect![[r#"
            [up to date 41414141]
            m: up to date
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     the same: it is the accepted main
              latest     42424242 (origin/main) by switch
                         Without quotes
                         failed 1 h ago: nix build exited with status 1
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     41414141
            --
            Nothing to do: 41414141 (origin/main) is deployed
              origin/main  41414141  selected
        "#]]);
}

#[test]
fn an_activation_failed_and_is_not_tried_again() {
    let error = "switch-to-configuration exited with status 4";
    let failure = attempt("B", "Break a unit", 300, failed(Stage::Activating, error));
    Scene::of("A-B", "B", "origin:B/-")
        .then(failure)
        .check(&expect![[r#"
            [failed 42424242: while activating (switch-to-configuration exited with status 4), held until someone pushes]
            m: 42424242 (origin/main) failed while activating at 11:55
              (switch-to-configuration exited with status 4), and is held until someone
              pushes; 41414141 (origin/main) runs
              → comin history 2
              to try it again → sudo comin retry
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     42424242 (origin/main) by switch: it is the accepted main
                         Break a unit
                         failed 4 min ago: switch-to-configuration exited with status 4
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     42424242
            --
            Would not deploy 42424242 (origin/main): it failed while activating, and is held
              until someone pushes
              to try it again → sudo comin retry
              origin/main  42424242  selected
        "#]]);
}

#[test]
fn a_commit_was_rolled_back_and_is_in_quarantine() {
    let error = "curl -f http://localhost exited with status 7; /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05 runs again";
    let rolled_back = Outcome::RolledBack {
        error: error.to_string(),
        blame: FaultOrigin::Commit,
    };
    let mut scene = Scene::of("A-B", "B", "origin:B/-").then(attempt(
        "B",
        "Move the web server",
        600,
        rolled_back,
    ));
    scene.quarantined = true;
    scene.check(&expect![[r#"
        [rolled back 42424242: curl -f http://localhost exited with status 7, held until someone pushes]
        m: 42424242 (origin/main) was rolled back at 11:50 (curl -f http://localhost
          exited with status 7), and is held until someone pushes; 41414141
          (origin/main) runs
          → comin history 2
          to try it again → sudo comin retry
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is the accepted main
                     Move the web server
                     rolled back 9 min ago: curl -f http://localhost exited with status
                     7; /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05
                     runs again
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it is held until someone pushes: rolled
          back to generation 12 by hand
          to try it again → sudo comin retry
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_commit_was_rolled_back_in_an_outage() {
    let rolled_back = Outcome::RolledBack {
        error: "no server can be reached".to_string(),
        blame: FaultOrigin::Outage(serde_json::from_value(json!(["origin"])).unwrap()),
    };
    Scene::of("A-B", "B", "origin!:B/- local:B/-")
        .then(attempt("B", "Update nixpkgs", 600, rolled_back))
        .check(&expect![[r#"
            [rolled back 42424242: no server can be reached, tried again when the remote origin is back (+1 more)]
            m: 42424242 (local/main) was rolled back at 11:50 (no server can be reached),
              and is tried again when the remote origin is back; 41414141 (origin/main) runs
              → comin history 2
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              also       the remote origin cannot be fetched (failed to connect to
                         git.example.org: Connection refused)
                         → sudo comin fetch origin
              wanted     42424242 (local/main) by switch: it is the accepted main
                         Update nixpkgs
                         rolled back 9 min ago: no server can be reached
              origin     https://git.example.org/machines.git
                         cannot be fetched: failed to connect to git.example.org: Connection
                         refused
                         fetched 13 min ago, next in 48 s
                         main     42424242
              local      /home/me/machines
                         fetched 12 s ago, watched
                         main     42424242
            --
            Would not deploy 42424242 (local/main): it was rolled back in an outage, and is
              tried again when the remote origin is back
              origin/main  42424242  the remote cannot be fetched
              local/main   42424242  selected
        "#]]);
}

#[test]
fn the_operator_went_back() {
    let mut scene = Scene::of("A-B", "B", "origin:B/-").then(attempt(
        "B",
        "Move the web server",
        600,
        done(13),
    ));
    scene.quarantined = true;
    scene.rolled_back_by_hand = true;
    scene.check(&expect![[r#"
        [held 42424242: rolled back to generation 12 by hand]
        m: 42424242 (origin/main) is held (rolled back to generation 12 by hand);
          41414141 (origin/main) runs, and the next push is deployed
          to undo the rollback → sudo comin retry
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is the accepted main
                     Move the web server
                     deployed 9 min ago
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it is held until someone pushes: rolled
          back to generation 12 by hand
          to undo the rollback → sudo comin retry
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_main_was_rewound() {
    Scene::of("0-A", "A", "origin:0/-").check(&expect![[r#"
        [no branch qualifies: origin/main is refused (rewound)]
        m: no branch qualifies; origin/main is refused: rewound, or not pushed yet: it
          is behind the accepted main 41414141 (origin/main)
          to go back → sudo comin accept 30303030
          no followed branch contains 41414141 any more: accept 30303030, or push
          41414141, or a git revert on top of 41414141
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     30303030  refused (rewound)
        --
        Nothing to deploy: no branch qualifies
          origin/main  30303030  refused: rewound, or not pushed yet: it is behind the
                       accepted main 41414141 (origin/main); no followed branch contains
                       41414141 any more: accept 30303030, or push 41414141, or a git
                       revert on top of 41414141
                       to go back → sudo comin accept 30303030
    "#]]);
}

#[test]
fn there_is_no_main() {
    let mut scene = Scene::of("A", "-", "origin:-/-");
    scene.attempts.clear();
    scene.running = None;
    scene.check(&expect![[r#"
        [no branch qualifies: there is no origin/main]
        m: no branch qualifies; there is no origin/main
          push it, or name another branch in branches.main.name
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     -  there is no such branch
        --
        Nothing to deploy: there is no origin/main; push it, or name another branch in
          branches.main.name
          origin/main  -         there is no such branch
    "#]]);
    scene.remotes = "origin:-/- local:-/A";
    scene.check(&expect![[r#"
        [no branch qualifies: there is no origin/main and no local/main]
        m: no branch qualifies; there is no origin/main and no local/main
          push one of them, or name another branch in branches.main.name
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     -  there is no such branch
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     -  there is no such branch
                     testing  41414141  there is no main to test on
        --
        Nothing to deploy: there is no origin/main and no local/main; push one of them,
          or name another branch in branches.main.name
          origin/main    -         there is no such branch
          local/main     -         there is no such branch
          local/testing  41414141  there is no main to test on
    "#]]);
}

#[test]
fn a_main_was_amended() {
    let mut scene = Scene::of("0-A 0-B", "A", "origin:0/- local:B/-");
    scene.attempts[0].target.remote = serde_json::from_value(json!("local")).unwrap();
    scene.check(&expect![[r#"
        [no branch qualifies: local/main is refused (diverged)]
        m: no branch qualifies; local/main is refused: diverged: it does not contain the
          accepted main 41414141 (local/main)
          to deploy it all the same → sudo comin accept 42424242
          no followed branch contains 41414141 any more: accept 42424242
          running    41414141 (local/main), generation 12, deployed 2 h ago
                     Enable the printer
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     30303030  rewound, or not pushed yet: it is behind the
                       accepted main 41414141 (local/main); no followed branch contains
                       41414141 any more
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     42424242  refused (diverged)
        --
        Nothing to deploy: no branch qualifies
          origin/main  30303030  rewound, or not pushed yet: it is behind the accepted
                       main 41414141 (local/main); no followed branch contains 41414141
                       any more
          local/main   42424242  refused: diverged: it does not contain the accepted
                       main 41414141 (local/main); no followed branch contains 41414141
                       any more: accept 42424242
                       to deploy it all the same → sudo comin accept 42424242
    "#]]);
}

#[test]
fn a_testing_branch_is_not_on_main() {
    Scene::of("0-A 0-C", "A", "origin:A/C").check(&expect![[r#"
        [up to date 41414141: origin/testing is refused (diverged)]
        m: up to date, but origin/testing is refused: it does not contain main 41414141
          rebase it onto main, or merge main into it
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     the same: it is the accepted main
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
                     testing  43434343  refused (diverged)
        --
        Nothing to do: 41414141 (origin/main) is deployed
          origin/main     41414141  selected
          origin/testing  43434343  refused: it does not contain main 41414141; rebase
                          it onto main, or merge main into it
    "#]]);
}

#[test]
fn no_remote_can_be_fetched() {
    Scene::of("A", "A", "origin!:A/-").check(&expect![[r#"
        [unreachable 41414141: no remote can be fetched]
        m: no remote can be fetched (failed to connect to git.example.org: Connection
          refused)
          → sudo comin fetch
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          origin     https://git.example.org/machines.git
                     cannot be fetched: failed to connect to git.example.org: Connection
                     refused
                     fetched 13 min ago, next in 48 s
                     main     41414141
        --
        Nothing to deploy: no remote can be fetched
          origin/main  41414141  the remote cannot be fetched
    "#]]);
}

#[test]
fn one_of_two_remotes_cannot_be_fetched() {
    Scene::of("A", "A", "origin!:A/- local:A/-").check(&expect![[r#"
        [up to date 41414141: the remote origin cannot be fetched]
        m: up to date, but the remote origin cannot be fetched (failed to connect to
          git.example.org: Connection refused)
          → sudo comin fetch origin
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     the same: it is the accepted main
          origin     https://git.example.org/machines.git
                     cannot be fetched: failed to connect to git.example.org: Connection
                     refused
                     fetched 13 min ago, next in 48 s
                     main     41414141
          local      /home/me/machines
                     fetched 12 s ago, watched
                     main     41414141
        --
        Nothing to do: 41414141 (local/main) is deployed
          origin/main  41414141  the remote cannot be fetched
          local/main   41414141  selected
    "#]]);
}

#[test]
fn suspended() {
    let mut scene = Scene::of("A-B", "A", "origin:B/-");
    let suspension = json!({"version": 1, "since": ago(60), "until": ago(-7200), "reason": "the database moves"});
    scene.suspended = Some(serde_json::from_value(suspension).unwrap());
    scene.check(&expect![[r#"
        [suspended 41414141: until 14:00, 42424242 waits]
        m: suspended until 14:00 (the database moves); 42424242 (origin/main) waits
          to end the suspension → sudo comin resume
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
          suspended  since 1 min ago
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it waits until the suspension ends in 2
          h (the database moves)
          to end the suspension → sudo comin resume
          origin/main  42424242  selected
    "#]]);
    let for_good = json!({"version": 1, "since": ago(200_000), "until": null, "reason": null});
    scene.suspended = Some(serde_json::from_value(for_good).unwrap());
    scene.check(&expect![[r#"
        [suspended 41414141: 42424242 waits]
        m: suspended; 42424242 (origin/main) waits
          to end the suspension → sudo comin resume
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     Update nixpkgs
          suspended  since 2025-12-31 04:26
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it waits until the suspension ends
          to end the suspension → sudo comin resume
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn a_reboot_is_needed() {
    let mut scene = Scene::of("A", "A", "origin:A/-");
    scene.reboot_reasons = &["the kernel", "the kernel modules"];
    scene.check(&expect![[r#"
        [up to date 41414141: a reboot is needed]
        m: up to date, but a reboot is needed (the kernel, the kernel modules)
          to reboot now → sudo reboot
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     the same: it is the accepted main
          reboot     needed: the kernel, the kernel modules
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
        --
        Nothing to do: 41414141 (origin/main) is deployed
          origin/main  41414141  selected
    "#]]);
}

#[test]
fn another_system_boots_next() {
    let mut scene =
        Scene::of("A-B", "B", "origin:B/-").then(attempt("B", "Change D-Bus", 600, done(13)));
    scene.attempts[1].inhibitors = vec!["dbus-implementation".to_string()];
    scene.reboot_reasons = &["another system boots next"];
    scene.check(&expect![[r#"
        [waits for reboot 42424242]
        m: 42424242 (origin/main) is deployed for the next boot; 41414141 (origin/main)
          runs
          to reboot now → sudo reboot
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is the accepted main
                     Change D-Bus
                     deployed 9 min ago
          reboot     needed: another system boots next
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it is deployed for the next boot
          to reboot now → sudo reboot
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn another_system_was_booted() {
    let mut scene =
        Scene::of("A-B", "B", "origin:B/-").then(attempt("B", "Update nixpkgs", 600, done(13)));
    scene.booted_instead = Some("/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05");
    scene.booted = Some("A");
    scene.boot = "2";
    scene.reboot_reasons = &["another system boots next"];
    scene.check(&expect![[r#"
        [not running 42424242: another system was booted]
        m: 41414141 (origin/main) runs since it was booted, in place of 42424242
          (origin/main); the next push or reboot replaces it
          to return to 42424242 → sudo comin retry
          to keep it until the next reboot → sudo comin suspend
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is the accepted main
                     Update nixpkgs
                     deployed 9 min ago
          drift      another system was booted (since 11:55):
                     /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05
          reboot     needed: another system boots next
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it is deployed, but another system was
          booted
          to return to 42424242 → sudo comin retry
          to keep it until the next reboot → sudo comin suspend
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn somebody_activated_another_system() {
    let mut scene = Scene::of("A", "A", "origin:A/-");
    scene.running = Some("/nix/store/00000000000000000000000000000000-nixos-system-m-26.05");
    scene.check(&expect![[r#"
        [not running 41414141: another system was activated]
        m: another system runs, activated outside of comin, in place of 41414141
          (origin/main); the next push replaces it
          to return to 41414141 → sudo comin retry
          to keep the other system → sudo comin suspend
          running    /nix/store/00000000000000000000000000000000-nixos-system-m-26.05,
                     which comin has not deployed
          wanted     41414141 (origin/main) by switch: it is the accepted main
                     Enable the printer
                     deployed 2 h ago
          drift      another system was activated (since 11:55):
                     /nix/store/00000000000000000000000000000000-nixos-system-m-26.05
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     41414141
        --
        Would not deploy 41414141 (origin/main): it is deployed, but another system was
          activated
          to return to 41414141 → sudo comin retry
          to keep the other system → sudo comin suspend
          origin/main  41414141  selected
    "#]]);
}

#[test]
fn a_configuration_for_another_machine_was_skipped() {
    let reason = "its services.comin.machineId is that of another machine".to_string();
    Scene::of("A-B", "A", "origin:B/-")
        .then(attempt(
            "B",
            "Update nixpkgs",
            600,
            Outcome::Skipped { reason },
        ))
        .check(&expect![[r#"
            [skipped 42424242: its services.comin.machineId is that of another machine]
            m: 42424242 (origin/main) was skipped at 11:50 (its services.comin.machineId is
              that of another machine), and stays so until someone pushes
              running    41414141 (origin/main), generation 12, deployed 2 h ago
                         Enable the printer
              wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                         Update nixpkgs
                         skipped 9 min ago: its services.comin.machineId is that of another
                         machine
              origin     https://git.example.org/machines.git
                         fetched 12 s ago, next in 48 s
                         main     42424242
            --
            Nothing to do: 42424242 (origin/main) was skipped at 11:50 (its
              services.comin.machineId is that of another machine), and stays so until
              someone pushes
              origin/main  42424242  selected
        "#]]);
}

#[test]
fn a_head_is_not_signed() {
    let mut scene = Scene::of("A-B*", "A", "origin:B/-");
    scene.attempts[0].target.signer = Some("alice (SSH SHA256:x)".to_string());
    scene.check(&expect![[r#"
        [no branch qualifies: origin/main is refused (unsigned)]
        m: no branch qualifies; origin/main is refused: it is not signed
          sign it, e.g. with git commit -S
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242  refused (unsigned)
        --
        Nothing to deploy: no branch qualifies
          origin/main  42424242  refused: it is not signed; sign it, e.g. with git
                       commit -S
    "#]]);
    // The newest ancestor that is signed may be taken.
    Scene::of("A-B-C*", "A+", "origin:C/-").check(&expect![[r#"
        [due 42424242: origin/main is refused (unsigned)]
        m: 42424242 (origin/main) is about to be deployed
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          also       origin/main is refused: it is not signed
                     sign it, e.g. with git commit -S
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     signed by alice (SSH SHA256:x)
                     Update nixpkgs
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     43434343  refused (unsigned)
        --
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  43434343  refused: it is not signed; sign it, e.g. with git
                       commit -S; an ancestor of it is selected
    "#]]);
}

#[test]
fn subjects_and_branches_are_hostile() {
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}evil\u{9b}31m\nm: up to date";
    let mut attempt = attempt("A", hostile, 100, done(12));
    attempt.target.branch = "ma\u{1b}[31min".to_string();
    attempt.target.signer = Some("ali\u{1b}[31mce".to_string());
    let mut scene = Scene::of("A-B", "A", "origin:B/-");
    scene.attempts = vec![attempt];
    scene.subject = hostile;
    scene.check(&expect![[r#"
        [due 42424242]
        m: 42424242 (origin/main) is about to be deployed
          running    41414141 (origin/ma�[31min), generation 12, deployed 1 min ago
                     �[2J�]0;owned��evil�31m m: up to date
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     �[2J�]0;owned��evil�31m m: up to date
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
    "#]]);
    let failure = super::tests::attempt("B", hostile, 40, failed(Stage::Building, hostile));
    let scene = Scene::of("A-B", "A", "origin:B/-").then(failure);
    scene.check(&expect![[r#"
        [failed 42424242: while building (�[2J�]0;owned��evil�31m), tried again at 12:00]
        m: 42424242 (origin/main) failed while building at 11:59
          (�[2J�]0;owned��evil�31m), and is tried again in 34 s
          → comin history 2
          to try it again → sudo comin retry
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          wanted     42424242 (origin/main) by switch: it is ahead of the accepted main
                     �[2J�]0;owned��evil�31m m: up to date
                     failed 26 s ago: �[2J�]0;owned��evil�31m m: up to date
          origin     https://git.example.org/machines.git
                     fetched 12 s ago, next in 48 s
                     main     42424242
        --
        Would not deploy 42424242 (origin/main): it failed while building, and is tried
          again in 34 s
          to try it again → sudo comin retry
          origin/main  42424242  selected
    "#]]);
}

#[test]
fn many_remotes_with_long_urls() {
    let mut scene = Scene::of(
        "0-A-B 0-C",
        "A",
        "origin:A/- mirror-of-the-second-data-centre:0/C local:A/B nas!:A/-",
    );
    scene.urls = &[
        "ssh://git@git.infrastructure.example.org:2222/organisation/department/team/machines.git",
        "https://mirror-2.data-centre.infrastructure.example.org/organisation/department/machines.git",
        "/home/administrator/Projects/machines",
        "http://nas.local/machines",
    ];
    scene.polls = vec![FetchSchedule::default(); 4];
    scene.check(&expect![[r#"
        [due 42424242: mirror-of-the-second-data-centre/testing is refused (diverged) (+1 more)]
        m: 42424242 (local/testing) is about to be deployed
          running    41414141 (origin/main), generation 12, deployed 2 h ago
                     Enable the printer
          also       mirror-of-the-second-data-centre/testing is refused: it does not
                     contain main 41414141
                     rebase it onto main, or merge main into it
          also       the remote nas cannot be fetched (failed to connect to
                     git.example.org: Connection refused)
                     → sudo comin fetch nas
          wanted     42424242 (local/testing) by test: a testing branch on top of main
                     41414141
                     Update nixpkgs
          origin     ssh://git@git.infrastructure.example.org:2222/organisation/departme
                     nt/team/machines.git
                     fetched 12 s ago
                     main     41414141
          mirror-of-the-second-data-centre
                     https://mirror-2.data-centre.infrastructure.example.org/organisatio
                     n/department/machines.git
                     fetched 12 s ago
                     main     30303030  it is behind the accepted main 41414141
                       (origin/main); push that there
                     testing  43434343  refused (diverged)
          local      /home/administrator/Projects/machines
                     fetched 12 s ago
                     main     41414141
                     testing  42424242
          nas        http://nas.local/machines
                     cannot be fetched: failed to connect to git.example.org: Connection
                     refused
                     fetched 13 min ago
                     main     41414141
        --
        Would deploy 42424242 (local/testing) by test, until a reboot
          origin/main               41414141  qualifies
          mirror-of-the-second-data-centre/main
                                    30303030  it is behind the accepted main 41414141
                                    (origin/main); push that there
          mirror-of-the-second-data-centre/testing
                                    43434343  refused: it does not contain main
                                    41414141; rebase it onto main, or merge main into it
          local/main                41414141  qualifies
          local/testing             42424242  selected
          nas/main                  41414141  the remote cannot be fetched
    "#]]);
}

#[test]
fn a_history() {
    let history = |attempts: &[Attempt]| {
        let backoff = crate::config::for_tests().retry;
        let scene = Scene {
            attempts: attempts.to_vec(),
            rolled_back_by_hand: true,
            ..Scene::of("A", "A", "origin:A/-")
        };
        let history = HistoryView::new(&scene.state(), backoff, true);
        format!("--\n{}", history.text(&page(80)))
    };
    let mut set_back = attempt("A", "While the clock was set back", 60, done(1));
    set_back.started_at = "2026-01-02T13:00:00Z".parse().unwrap();
    let text = history(&[set_back]);
    assert!(text.contains("13:00, 0 s\n"), "{text}");
    expect![[r#"
        --
        Nothing has been deployed yet"#]]
    .assert_eq(&history(&[]));
    let rolled_back = Outcome::RolledBack {
        error: "curl -f http://localhost exited with status 7; the system before runs again"
            .to_string(),
        blame: FaultOrigin::Commit,
    };
    let attempts = [
        attempt("A", "Enable the printer", 200_000, done(12)),
        testing(attempt("B", "Try the new shell", 7500, done(0)), "A"),
        attempt(
            "C",
            "Without quotes",
            4000,
            failed(
                Stage::Evaluating,
                "nix eval exited with status 1: error: undefined variable 'second'",
            ),
        ),
        attempt("D", "Move the web server", 600, rolled_back),
        attempt(
            "E",
            "\u{1b}[2Jevil",
            500,
            Outcome::Preempted {
                stage: Stage::Building,
            },
        ),
        under_way(
            "F",
            "Update nixpkgs",
            &[(Stage::Evaluating, 9), (Stage::Building, 3)],
        ),
    ];
    expect![[r#"
        --
              rolled back to generation 12 by me, 11:55
           6  running      46464646 (origin/main) by switch, 11:59
              Update nixpkgs
           5  skipped      45454545 (origin/main) by switch, 11:51, 14 s
              �[2Jevil
              stopped while building
           4  rolled back  44444444 (origin/main) by switch, 11:50, 14 s
              Move the web server
              curl -f http://localhost exited with status 7; the system before runs
              again
           3  failed       43434343 (origin/main) by switch, 10:53, 14 s
              Without quotes
              nix eval exited with status 1: error: undefined variable 'second'
           2  done         42424242 (local/testing) by test, 09:55, 14 s
              Try the new shell
           1  done         41414141 (origin/main) by switch, generation 12, 2025-12-31
              04:26, 14 s
              Enable the printer
    "#]]
    .assert_eq(&history(&attempts));
}

/// What differs between two systems: an update.
fn update() -> Vec<Change> {
    let change = |package: &str, removed: &[&str], added: &[&str], size| Change {
        package: package.to_string(),
        removed: removed.iter().map(ToString::to_string).collect(),
        added: added.iter().map(ToString::to_string).collect(),
        size,
    };
    vec![
        change("firefox", &["130.0"], &["131.0"], Some(2_400_000)),
        change(
            "linux",
            &["6.6.52", "6.6.52-modules"],
            &["6.6.54", "6.6.54-modules"],
            None,
        ),
        change("nano", &["8.2"], &[], Some(-2_900_000)),
        change("nixos-system-m", &["26.05"], &["26.05b"], None),
        change("source", &[], &[], Some(48_000_000_000)),
    ]
}

fn compared(changes: Option<Vec<Change>>) -> ClosureDiff {
    let why = format!("{} was garbage-collected", out("A").display());
    ClosureDiff {
        unavailable: changes.is_none().then_some(why),
        changes,
    }
}

/// Each attempt in full, when it is the latest.
fn details(attempt: &Attempt, closure: Option<ClosureDiff>) -> String {
    let state = State {
        attempts: vec![attempt.clone()],
        ..State::default()
    };
    let backoff = crate::config::for_tests().retry;
    Details::new(&state, attempt, backoff, closure, true).text(&page(80))
}

#[test]
fn an_attempt_in_full() {
    let mut switched = under_way(
        "B",
        "Update nixpkgs",
        &[
            (Stage::Evaluating, 7500),
            (Stage::Building, 7490),
            (Stage::Activating, 7200),
            (Stage::Checking, 7192),
        ],
    );
    switched.progress = Progress::Ended(ago(7190), done(13));
    switched.before.system = Some(out("A"));
    switched.target.signer = Some("Ada <ada@example.org>".to_string());
    switched.units = Some(UnitChanges {
        restarted: vec!["nginx.service".to_string(), "sshd.service".to_string()],
        started: vec!["backup.timer".to_string()],
        left_out: 3,
        ..UnitChanges::default()
    });
    expect![[r#"
        Attempt 2: 42424242 (origin/main) by switch: done
          subject    Update nixpkgs
          commit     4242424242424242424242424242424242424242
          signed     by Ada <ada@example.org>
          began      09:55, took 5 min
          stages     evaluating 10 s, building 4 min, activating 8.0 s, checking 2.0 s
          system     /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m-26.05,
                     generation 13
          before     /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05
          packages   firefox: 130.0 → 131.0, +2.3 MiB
                     linux: 6.6.52, 6.6.52-modules → 6.6.54, 6.6.54-modules
                     nano: 8.2 removed, -2.8 MiB
                     nixos-system-m: 26.05 → 26.05b
                     source: +44.7 GiB
          units      restarted nginx.service, sshd.service
                     started backup.timer
                     and 3 more
    "#]]
    .assert_eq(&details(&switched, Some(compared(Some(update())))));

    let mut broken = switched.clone();
    broken.target.signer = None;
    broken.tries = 2;
    broken.progress = Progress::Ended(
        ago(7190),
        failed(
            Stage::Activating,
            "switch-to-configuration exited with status 4: the new system runs, but units failed: web.service",
        ),
    );
    broken.units = Some(UnitChanges {
        stopped: vec!["old.service".to_string()],
        failed: vec!["web.service".to_string()],
        ..UnitChanges::default()
    });
    expect![[r#"
        Attempt 2: 42424242 (origin/main) by switch: failed
          subject    Update nixpkgs
          commit     4242424242424242424242424242424242424242
          began      09:55, took 5 min, try 2 in a row
          stages     evaluating 10 s, building 4 min, activating 8.0 s, checking 2.0 s
          error      switch-to-configuration exited with status 4: the new system runs,
                     but units failed: web.service
          next       held until someone pushes, or comin retry
          system     /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m-26.05
          before     /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05
          packages   cannot be compared:
                     /nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m-26.05
                     was garbage-collected
          units      stopped old.service
                     failed web.service
    "#]]
    .assert_eq(&details(&broken, Some(compared(None))));

    let building = under_way(
        "F",
        "Update nixpkgs",
        &[(Stage::Evaluating, 9), (Stage::Building, 3)],
    );
    expect![[r#"
        Attempt 6: 46464646 (origin/main) by switch: running
          subject    Update nixpkgs
          commit     4646464646464646464646464646464646464646
          began      11:59, under way for 9.0 s
          stages     evaluating 6.0 s, building 3.0 s
          system     /nix/store/ffffffffffffffffffffffffffffffff-nixos-system-m-26.05
    "#]]
    .assert_eq(&details(&building, None));

    let unread = failed(Stage::Evaluating, "nix eval exited with status 1: error: x");
    let mut unread = attempt("C", "\u{1b}[2Jevil", 40, unread);
    unread.out = None;
    expect![[r#"
        Attempt 3: 43434343 (origin/main) by switch: failed
          subject    �[2Jevil
          commit     4343434343434343434343434343434343434343
          began      11:59, took 14 s
          stages     evaluating 14 s
          error      nix eval exited with status 1: error: x
          next       tried again in 34 s
    "#]]
    .assert_eq(&details(&unread, None));
}

#[test]
fn an_attempt_that_was_killed() {
    let building = under_way(
        "F",
        "Update nixpkgs",
        &[(Stage::Evaluating, 9), (Stage::Building, 3)],
    );
    let state = State {
        attempts: vec![building.clone()],
        ..State::default()
    };
    let backoff = crate::config::for_tests().retry;
    let left = Details::new(&state, &building, backoff, None, false);
    expect![[r#"
        Attempt 6: 46464646 (origin/main) by switch: interrupted
          subject    Update nixpkgs
          commit     4646464646464646464646464646464646464646
          began      11:59, but its process is gone
          stages     evaluating 6.0 s, building
          next       the next deploy finds out how it stands, and goes on from there
          system     /nix/store/ffffffffffffffffffffffffffffffff-nixos-system-m-26.05
    "#]]
    .assert_eq(&left.text(&page(80)));
    let state = State {
        attempts: vec![building],
        ..State::default()
    };
    let listed = HistoryView::new(&state, backoff, false);
    let listed = listed.text(&page(80));
    assert!(
        listed.starts_with("   6  interrupted  46464646 "),
        "{listed}"
    );
}

#[test]
fn a_plan_that_is_built() {
    let previewed = |build: Option<Build>| {
        let scene = Scene::of("A-B", "A", "origin:B/-");
        let plan = scene.plan();
        Previewed { plan, build }.text(&page(80))
    };
    let built = |dry_activation: DryActivation| Build {
        out: Some(out("B")),
        closure: Some(compared(Some(update()))),
        dry_activation: Some(dry_activation),
        ..Build::default()
    };
    let nothing = DryActivation::default;
    let lines = [
        "would stop the following units: old.service",
        "would activate the configuration...",
        "would restart the following units: nginx.service, sshd.service, systemd-journald.service",
    ];
    let lines = lines.map(str::to_string).to_vec();
    expect![[r#"
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
          system     /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m-26.05
          packages   firefox: 130.0 → 131.0, +2.3 MiB
                     linux: 6.6.52, 6.6.52-modules → 6.6.54, 6.6.54-modules
                     nano: 8.2 removed, -2.8 MiB
                     nixos-system-m: 26.05 → 26.05b
                     source: +44.7 GiB
          units      would stop the following units: old.service
                     would activate the configuration...
                     would restart the following units: nginx.service, sshd.service,
                     systemd-journald.service
    "#]]
    .assert_eq(&previewed(Some(built(DryActivation {
        lines: Some(lines),
        ..nothing()
    }))));
    let why = "this needs root: try again with sudo";
    expect![[r#"
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
          system     /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m-26.05
          packages   none has changed
          units      what would be restarted is left out: this needs root: try again
                     with sudo
    "#]]
    .assert_eq(&previewed(Some(Build {
        closure: Some(compared(Some(Vec::new()))),
        ..built(DryActivation {
            left_out: Some(why.to_string()),
            ..nothing()
        })
    })));
    expect![[r#"
        Would deploy 42424242 (origin/main) by switch, now and at every boot
          origin/main  42424242  selected
          system     /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m-26.05,
                     which is deployed
          packages   none has changed
    "#]]
    .assert_eq(&previewed(Some(Build {
        closure: Some(compared(Some(Vec::new()))),
        runs_already: true,
        ..built(nothing())
    })));
    expect![[r#"
        Would skip 42424242 (origin/main)
          origin/main  42424242  selected
          skipped    services.comin.machineId is "6"
    "#]]
    .assert_eq(&previewed(Some(Build {
        skipped: Some("services.comin.machineId is \"6\"".to_string()),
        ..Build::default()
    })));
}
