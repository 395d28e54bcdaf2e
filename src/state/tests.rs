//! What an older comin makes of the state: a rollback brings that comin back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use super::format::encode;
use crate::model::{
    Attempt, Commit, ConfirmStep, FaultOrigin, Operation, Outcome, PreviousSystem, Quarantine,
    Stage, State, UnitChanges,
};

/// How the comin before systems from CI reads the file: what it needs, and which words it knows. Never edited as long as
/// a machine may go back to that comin.
#[derive(Deserialize)]
#[allow(dead_code)] // Read by serde alone.
struct Older {
    version: u32,
    accepted_main: Option<String>,
    #[serde(default)]
    quarantine: Vec<OlderQuarantine>,
    #[serde(default)]
    lapsed: Option<u64>,
    attempts: Vec<OlderAttempt>,
}

#[derive(Deserialize)]
#[allow(dead_code)] // Read by serde alone.
struct OlderQuarantine {
    commit: String,
    operation: OlderOperation,
    reason: String,
    since: Timestamp,
    heads: Vec<String>,
}

#[derive(Deserialize)]
#[allow(dead_code)] // Read by serde alone.
struct OlderAttempt {
    id: u64,
    commit: String,
    subject: String,
    remote: String,
    branch: String,
    testing: bool,
    #[serde(default)]
    signer: Option<String>,
    operation: OlderOperation,
    main: String,
    started_at: Timestamp,
    #[serde(default)]
    boot: Option<String>,
    tries: u32,
    derivation: Option<String>,
    out: Option<PathBuf>,
    #[serde(default)]
    inhibitors: Vec<String>,
    generation_before: Option<u64>,
    #[serde(default)]
    before: OlderBefore,
    #[serde(default)]
    units: Option<OlderUnits>,
    #[serde(default)]
    fault: Option<String>,
    #[serde(default)]
    stages: Vec<OlderEntered>,
    #[serde(default)]
    waits: Vec<OlderWait>,
    #[serde(default)]
    confirmed: BTreeSet<OlderStep>,
    #[serde(default)]
    awaiting: Option<OlderStep>,
    stage: Option<OlderStage>,
    status: OlderStatus,
    ended_at: Option<Timestamp>,
    generation: Option<u64>,
    error: Option<String>,
    #[serde(default)]
    waiting_for: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[allow(dead_code)] // Read by serde alone.
struct OlderBefore {
    system: Option<PathBuf>,
    boots: Option<PathBuf>,
    profile: PathBuf,
    newest: Option<u64>,
    reachable: Vec<String>,
    failed_units: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[allow(dead_code)] // Read by serde alone.
struct OlderUnits {
    restarted: Vec<String>,
    started: Vec<String>,
    stopped: Vec<String>,
    failed: Vec<String>,
    left_out: usize,
}

#[derive(Deserialize)]
#[allow(dead_code)] // Read by serde alone.
struct OlderEntered {
    stage: OlderStage,
    at: Timestamp,
}

#[derive(Deserialize)]
#[allow(dead_code)] // Read by serde alone.
struct OlderWait {
    index: usize,
    at: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OlderOperation {
    Switch,
    Boot,
    Test,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
enum OlderStep {
    Build,
    Deploy,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum OlderStage {
    Evaluating,
    Building,
    Activating,
    Checking,
    RollingBack,
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
enum OlderStatus {
    Running,
    Done,
    Failed,
    Interrupted,
    Skipped,
    Postponed,
    Preempted,
    RolledBack,
    Waiting,
    #[serde(other)]
    Unknown,
}

/// An attempt to deploy a system that CI has built, which has come to a stage.
fn prebuilt(stages: &[Stage]) -> Attempt {
    let mut attempt = Attempt::for_tests(1, Operation::Switch);
    attempt.out = Some("/nix/store/a-nixos-system-m".into());
    for stage in stages {
        attempt.enter(*stage, Timestamp::now());
    }
    attempt
}

/// One that has come to an end after a switch.
fn ended(outcome: Outcome) -> Attempt {
    let mut attempt = prebuilt(&[Stage::Building, Stage::Activating, Stage::Checking]);
    attempt.before = PreviousSystem {
        system: Some("/nix/store/b-nixos-system-m".into()),
        generation: Some(1),
        newest: Some(1),
        ..PreviousSystem::default()
    };
    attempt.units = Some(UnitChanges::default());
    attempt.end(outcome, Timestamp::now());
    attempt
}

#[test]
fn older_comin_reads_the_attempts_of_systems_that_ci_has_built() {
    use OlderStage as In;
    use OlderStatus as Is;
    let running = [
        (Stage::Building, In::Building),
        (Stage::Activating, In::Activating),
        (Stage::Checking, In::Checking),
        (Stage::RollingBack, In::RollingBack),
    ];
    let running = running.map(|(stage, read)| (prebuilt(&[stage]), Is::Running, Some(read)));
    let waiting = [
        (Stage::WaitingForConfirmation, ConfirmStep::Build),
        (Stage::WaitingForConfirmation, ConfirmStep::Deploy),
        (Stage::WaitingAtGate, ConfirmStep::Build),
    ];
    let waiting = waiting.map(|(stage, step)| {
        let mut attempt = prebuilt(&[Stage::Building]);
        attempt.wait(stage, step, Timestamp::now());
        (attempt, Is::Waiting, None)
    });
    let words = || "words".to_string();
    let building = Stage::Building;
    let outage = vec![Attempt::for_tests(1, Operation::Switch).target.remote];
    let (error, blame) = (words(), FaultOrigin::Outage(outage));
    let over = [
        (Outcome::Done { generation: None }, Is::Done, None),
        (
            Outcome::Failed {
                stage: building,
                error: words(),
            },
            Is::Failed,
            Some(In::Building),
        ),
        (
            Outcome::Interrupted { stage: building },
            Is::Interrupted,
            Some(In::Building),
        ),
        (Outcome::Skipped { reason: words() }, Is::Skipped, None),
        (Outcome::Postponed { error: words() }, Is::Postponed, None),
        (
            Outcome::Preempted {
                stage: Stage::WaitingAtGate,
            },
            Is::Preempted,
            None,
        ),
        (Outcome::RolledBack { error, blame }, Is::RolledBack, None),
    ];
    let over = over.map(|(outcome, status, stage)| (ended(outcome), status, stage));
    let cases = running.into_iter().chain(waiting).chain(over);
    let (mut attempts, mut expected) = (Vec::new(), Vec::new());
    for (id, (attempt, status, stage)) in (1..).zip(cases) {
        let system = attempt.out.clone();
        expected.push((status, stage, system));
        attempts.push(Attempt { id, ..attempt });
    }
    let held = &attempts[0];
    let state = State {
        accepted_main: Some(held.target.main.clone()),
        quarantine: vec![Quarantine::of(&held.target, &[], words(), Timestamp::now())],
        attempts,
        ..State::default()
    };
    let older: Older = serde_json::from_slice(&encode(&state).unwrap()).unwrap();
    // It reads its own version, and the next one.
    assert!((1..=2).contains(&older.version));
    let main = state.accepted_main.as_ref().map(Commit::as_str);
    assert_eq!(older.accepted_main.as_deref(), main);
    let read = older.attempts.into_iter();
    let read: Vec<_> = read.map(|it| (it.status, it.stage, it.out)).collect();
    assert_eq!(read, expected);
}
