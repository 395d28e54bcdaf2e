//! The state as it stands in its file. A file of the next version is read too, for a rollback brings
//! the older comin back: versions only add keys, and unknown ones are passed over. What is called comin 0.1 is the oldest
//! comin whose file is read, as in `tests/states/0.1.json`: it knows no stage in which an attempt waits.

use anyhow::{anyhow, ensure, Result};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{
    Attempt, ConfirmStep, FaultOrigin, Operation, Outcome, Progress, RemoteName, Stage, StageStart,
    State,
};

/// The version that this comin writes.
const VERSION: u32 = 1;

/// What helps when a file cannot be read.
const CURE: &str =
    "restore it from a backup, or move it away, which loses the history and the held commits";

/// Reads a file.
///
/// # Errors
/// It is none of ours, of a version that is too new, or damaged; the sentence has the cure.
pub fn decode(content: &[u8]) -> Result<State> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = parse(content)?;
    ensure!(version >= VERSION, "it has version {version}: {CURE}");
    ensure!(
        version <= VERSION + 1,
        "a newer comin wrote it (version {version}, and this one knows version {VERSION}): use that one, or {CURE}"
    );
    let file = parse::<V1>(content)?;
    file.check()
        .map_err(|damage| anyhow!("it is damaged: {damage}: {CURE}"))?;
    Ok(State::from(file))
}

fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(|error| anyhow!("{error}: {CURE}"))
}

/// Writes a file.
pub fn encode(state: &State) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(&V1::from(state))?)
}

/// The file, version 1.
#[derive(Serialize, Deserialize)]
struct V1 {
    version: u32,
    #[serde(flatten)]
    state: State,
    attempts: Vec<AttemptV1>,
}

/// An attempt, with how far it is in keys that every comin knows.
#[derive(Serialize, Deserialize)]
struct AttemptV1 {
    #[serde(flatten)]
    attempt: Attempt,
    /// What the branch asks for, if the attempt activates a system again by another operation: a comin that does not know
    /// `reactivation` finds that one under `operation`, and keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch_operation: Option<Operation>,
    generation_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stages: Vec<EnteredV1>,
    /// When it began to wait for a confirmation or at a gate. As a stage, comin 0.1 would not read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waits: Vec<WaitV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaiting: Option<ConfirmStep>,
    stage: Option<String>,
    status: Status,
    ended_at: Option<Timestamp>,
    generation: Option<u64>,
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<RemoteName>,
}

/// The beginning of a stage that is no wait.
#[derive(Serialize, Deserialize)]
struct EnteredV1 {
    stage: String,
    at: Timestamp,
}

/// The beginning of a wait.
#[derive(Serialize, Deserialize)]
struct WaitV1 {
    /// Where among all beginnings it is.
    index: usize,
    at: Timestamp,
    /// Whether a gate is waited for, and not a confirmation, as every wait once was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gate: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Running,
    Done,
    Failed,
    Interrupted,
    Skipped,
    Postponed,
    Preempted,
    RolledBack,
    /// A comin before it takes it for one of a later version: for a failure, which it tries again.
    Waiting,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

impl V1 {
    /// Refuses what no comin has ever written. Times prove nothing: a clock may be set back.
    fn check(&self) -> Result<()> {
        let mut newest = 0;
        for Attempt { id, tries, .. } in self.attempts.iter().map(|it| &it.attempt) {
            ensure!(*id > newest, "attempt {id} follows attempt {newest}");
            ensure!(*tries > 0, "attempt {id} is try number 0");
            newest = *id;
        }
        ensure!(newest < u64::MAX, "no number is left for an attempt");
        let State {
            reboot,
            ignored_up_to,
            ..
        } = &self.state;
        let rebooted_for = reboot.as_ref().map(|reboot| reboot.attempt);
        for (key, id) in [("lapsed", *ignored_up_to), ("reboot", rebooted_for)] {
            let id = id.unwrap_or_default();
            ensure!(
                id <= newest,
                "{key} names attempt {id}, and the newest is {newest}"
            );
        }
        Ok(())
    }
}

impl From<V1> for State {
    fn from(file: V1) -> Self {
        Self {
            attempts: file.attempts.into_iter().map(Attempt::from).collect(),
            ..file.state
        }
    }
}

impl From<AttemptV1> for Attempt {
    fn from(file: AttemptV1) -> Self {
        let stages = together(file.stages, file.waits);
        let last = stages.last().map(|entered| entered.stage);
        let stage = match file.stage {
            Some(stage) => known(stage).or(last),
            None => last.filter(|last| last.is_wait()),
        };
        let stage = stage.unwrap_or(Stage::Evaluating);
        let text = file.error.unwrap_or_default();
        let ended_at = file.ended_at.unwrap_or(file.attempt.started_at);
        let ended = |outcome| Progress::Ended(ended_at, outcome);
        let progress = match file.status {
            Status::Running => Progress::Running(stage),
            Status::Waiting => Progress::Awaiting(file.awaiting.unwrap_or(ConfirmStep::Build)),
            Status::Done => ended(Outcome::Done {
                generation: file.generation,
            }),
            Status::Failed | Status::Unknown => ended(Outcome::Failed { stage, error: text }),
            Status::Interrupted => ended(Outcome::Interrupted { stage }),
            Status::Skipped => ended(Outcome::Skipped { reason: text }),
            Status::Postponed => ended(Outcome::Postponed { error: text }),
            Status::Preempted => ended(Outcome::Preempted { stage }),
            Status::RolledBack => ended(Outcome::RolledBack {
                error: text,
                blame: match &file.waiting_for[..] {
                    [] => FaultOrigin::Commit,
                    remotes => FaultOrigin::Outage(remotes.to_vec()),
                },
            }),
        };
        let mut attempt = Self {
            stages,
            progress,
            ..file.attempt
        };
        attempt.before.generation = file.generation_before;
        if let Some(operation) = file.branch_operation {
            attempt.target.operation = operation;
        }
        attempt
    }
}

/// `None` for a wait, which comin 0.1 would not read. Where an attempt that waited has ended, the last of its waits tells.
fn name(stage: Stage) -> Option<String> {
    (!stage.is_wait()).then(|| stage.to_string())
}

/// `None` for a stage of a later version, which counts as a part of the one before it.
fn known(name: String) -> Option<Stage> {
    let stage = serde_json::from_value(name.into()).ok();
    stage.filter(|stage: &Stage| !stage.is_wait())
}

/// The stages without the waits, and the waits.
fn apart(all: Vec<StageStart>) -> (Vec<EnteredV1>, Vec<WaitV1>) {
    let (mut stages, mut waits) = (Vec::new(), Vec::new());
    for (index, StageStart { stage, at }) in all.into_iter().enumerate() {
        let gate = stage == Stage::WaitingAtGate;
        match name(stage) {
            Some(stage) => stages.push(EnteredV1 { stage, at }),
            None => waits.push(WaitV1 { index, at, gate }),
        }
    }
    (stages, waits)
}

/// The stages that are known, with the waits among them.
fn together(stages: Vec<EnteredV1>, waits: Vec<WaitV1>) -> Vec<StageStart> {
    let stages = stages.into_iter();
    let mut all: Vec<_> = stages.map(|it| (known(it.stage), it.at)).collect();
    for WaitV1 { index, at, gate } in waits {
        let stage = if gate {
            Stage::WaitingAtGate
        } else {
            Stage::WaitingForConfirmation
        };
        all.insert(index.min(all.len()), (Some(stage), at));
    }
    all.into_iter()
        .filter_map(|(stage, at)| Some(StageStart { stage: stage?, at }))
        .collect()
}

impl From<&State> for V1 {
    fn from(state: &State) -> Self {
        Self {
            version: VERSION,
            state: state.clone(),
            attempts: state.attempts.iter().map(AttemptV1::from).collect(),
        }
    }
}

impl From<&Attempt> for AttemptV1 {
    fn from(attempt: &Attempt) -> Self {
        let mut attempt = attempt.clone();
        let (stages, waits) = apart(std::mem::take(&mut attempt.stages));
        let (mut awaiting, mut waiting_for) = (None, Vec::new());
        let (status, stage, error) = match &attempt.progress {
            Progress::Running(stage) => (Status::Running, Some(*stage), None),
            Progress::Awaiting(step) => {
                awaiting = Some(*step);
                (Status::Waiting, None, Some("it waits"))
            }
            Progress::Ended(_, outcome) => match outcome {
                Outcome::Done { .. } => (Status::Done, None, None),
                Outcome::Failed { stage, error } => (Status::Failed, Some(*stage), Some(&**error)),
                Outcome::Interrupted { stage } => (Status::Interrupted, Some(*stage), None),
                Outcome::Skipped { reason } => (Status::Skipped, None, Some(&**reason)),
                Outcome::Postponed { error } => (Status::Postponed, None, Some(&**error)),
                Outcome::Preempted { stage } => (Status::Preempted, Some(*stage), None),
                Outcome::RolledBack { error, blame } => {
                    if let FaultOrigin::Outage(remotes) = blame {
                        waiting_for.clone_from(remotes);
                    }
                    (Status::RolledBack, None, Some(&**error))
                }
            },
        };
        let asked = attempt.asked();
        let of_branch = std::mem::replace(&mut attempt.target.operation, asked);
        Self {
            branch_operation: Some(of_branch).filter(|it| *it != asked),
            generation_before: attempt.before.generation.take(),
            stages,
            waits,
            awaiting,
            stage: stage.and_then(name),
            status,
            ended_at: attempt.ended().map(|(at, _)| at),
            generation: attempt.generation(),
            error: error.map(str::to_string),
            waiting_for,
            attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::drift::tests::{state as attempts, systems};
    use crate::model::{Drift, Quarantine, Reactivation, UnitChanges};

    /// Written by comin 0.1. Never edited: later versions must go on reading it.
    const OF_0_1: &[u8] = include_bytes!("../../tests/states/0.1.json");

    #[test]
    fn what_waited_is_kept_and_a_comin_that_knows_no_waits_reads_it_too() {
        let mut attempt = Attempt::for_tests(1, Operation::Switch);
        attempt.enter(Stage::Evaluating, Timestamp::now());
        attempt.wait(
            Stage::WaitingForConfirmation,
            ConfirmStep::Build,
            Timestamp::now(),
        );
        let mut waits = attempt.clone();
        waits.confirmed.insert(ConfirmStep::Build);
        attempt.enter(Stage::Building, Timestamp::now());
        attempt.wait(
            Stage::WaitingForConfirmation,
            ConfirmStep::Deploy,
            Timestamp::now(),
        );
        let mut stopped = attempt.clone();
        stopped.end(
            Outcome::Preempted {
                stage: Stage::WaitingForConfirmation,
            },
            Timestamp::now(),
        );
        let mut at_gate = attempt.clone();
        at_gate.wait(Stage::WaitingAtGate, ConfirmStep::Deploy, Timestamp::now());
        (stopped.id, attempt.id, at_gate.id) = (2, 3, 4);
        let mut stopped_at_gate = at_gate.clone();
        stopped_at_gate.id = 5;
        stopped_at_gate.end(
            Outcome::Preempted {
                stage: Stage::WaitingAtGate,
            },
            Timestamp::now(),
        );
        let held = Quarantine::of(&attempt.target, &[], String::new(), Timestamp::now());
        let state = State {
            past_gates: Some(attempt.target.commit.clone()),
            quarantine: vec![held.by_gate()],
            attempts: vec![waits, stopped, attempt, at_gate, stopped_at_gate],
            ..State::default()
        };
        let text = encode(&state).unwrap();
        assert_eq!(decode(&text).unwrap(), state);

        // Its stages have names from before, and so have the keys that it needs.
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let names = |attempt: usize| {
            let stages = json["attempts"][attempt]["stages"].as_array().unwrap();
            let names = stages.iter().map(|entered| entered["stage"].as_str());
            names.collect::<Option<Vec<_>>>().unwrap()
        };
        assert_eq!(names(0), ["evaluating"]);
        assert_eq!(names(2), ["evaluating", "building"]);
        assert_eq!(json["attempts"][1]["status"], "preempted");
        assert!(json["attempts"][1]["stage"].is_null());
        assert_eq!(json["attempts"][2]["status"], "waiting");
        assert_eq!(names(3), ["evaluating", "building"]);
        assert_eq!(json["attempts"][3]["status"], "waiting");
    }

    #[test]
    fn a_state_of_every_released_version_is_read_and_nothing_of_it_is_lost() {
        let state = decode(OF_0_1).unwrap();
        assert_eq!(state.accepted_main.as_ref().unwrap().short(), "bbbbbbbb");
        let outcomes: Vec<_> = state.attempts.iter().map(|a| a.progress.clone()).collect();
        let at: Timestamp = "2026-01-02T03:04:06Z".parse().unwrap();
        let ended = |outcome| Progress::Ended(at, outcome);
        assert_eq!(
            outcomes,
            [
                ended(Outcome::Done {
                    generation: Some(7)
                }),
                ended(Outcome::Failed {
                    stage: Stage::Building,
                    error: "no space".to_string()
                }),
                ended(Outcome::Interrupted {
                    stage: Stage::Activating
                }),
                ended(Outcome::Skipped {
                    reason: "another machine".to_string()
                }),
                Progress::Running(Stage::Evaluating),
            ]
        );
        let again = encode(&state).unwrap();
        let (before, after): (serde_json::Value, serde_json::Value) = (
            serde_json::from_slice(OF_0_1).unwrap(),
            serde_json::from_slice(&again).unwrap(),
        );
        assert_eq!(before, after);
    }

    #[test]
    fn kept_test_is_no_drift_after_a_comin_that_does_not_know_keep() {
        // A test is kept: its system boots next.
        let mut state = attempts("sa1 tb1 tb1");
        state.attempts[2].reactivation = Some(Reactivation {
            operation: Operation::Boot,
            kept_by: Some("me".to_string()),
        });
        let text = encode(&state).unwrap();
        assert_eq!(decode(&text).unwrap(), state);
        // It passes over what it does not know, and writes the file without that.
        let mut older: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for attempt in older["attempts"].as_array_mut().unwrap() {
            attempt.as_object_mut().unwrap().remove("reactivation");
            attempt.as_object_mut().unwrap().remove("branch_operation");
        }
        let back = decode(older.to_string().as_bytes()).unwrap();
        for state in [&state, &back] {
            assert_eq!(Drift::of(state, &systems("bab1")), None);
            assert_eq!(Drift::of(state, &systems("bbb2")), None);
            assert!(Drift::of(state, &systems("baa1")).is_some());
        }
    }

    #[test]
    fn a_stage_of_a_later_version_counts_as_the_one_before_it() {
        let mut attempt = Attempt::for_tests(1, Operation::Switch);
        attempt.enter(Stage::Evaluating, Timestamp::now());
        attempt.wait(
            Stage::WaitingForConfirmation,
            ConfirmStep::Build,
            Timestamp::now(),
        );
        attempt.enter(Stage::Building, Timestamp::now());
        let state = State {
            attempts: vec![attempt],
            ..State::default()
        };
        let mut later: serde_json::Value =
            serde_json::from_slice(&encode(&state).unwrap()).unwrap();
        let attempt = &mut later["attempts"][0];
        attempt["stage"] = "signing".into();
        let entered = |stage| serde_json::json!({"stage": stage, "at": "2026-01-02T03:04:05Z"});
        let stages = attempt["stages"].as_array_mut().unwrap();
        stages.insert(0, entered("preparing"));
        stages.push(entered("signing"));
        attempt["waits"][0]["index"] = 2.into();
        assert_eq!(decode(later.to_string().as_bytes()).unwrap(), state);

        later["attempts"][0]["stages"] = serde_json::json!([]);
        later["attempts"][0]["waits"] = serde_json::json!([]);
        let state = decode(later.to_string().as_bytes()).unwrap();
        assert_eq!(
            state.attempts[0].progress,
            Progress::Running(Stage::Evaluating)
        );
    }

    #[test]
    fn a_reboot_at_a_stage_of_a_later_version_is_not_ordered_again() {
        let mut json: serde_json::Value = serde_json::from_slice(OF_0_1).unwrap();
        json["reboot"] = serde_json::json!({"attempt": 1, "system": "/s", "boot": "b",
            "announced_at": "2026-01-02T03:04:05Z", "stage": "postponed"});
        let reboot = decode(json.to_string().as_bytes()).unwrap().reboot.unwrap();
        assert_eq!(reboot.stage, crate::model::RebootStage::Ordered);
    }

    #[test]
    fn what_became_of_units_is_remembered_and_a_later_kind_of_it_passed_over() {
        let mut attempt = Attempt::for_tests(1, Operation::Switch);
        attempt.units = Some(UnitChanges {
            restarted: vec!["web.service".to_string()],
            left_out: 3,
            ..UnitChanges::default()
        });
        let state = State {
            attempts: vec![attempt],
            ..State::default()
        };
        let text = encode(&state).unwrap();
        assert_eq!(decode(&text).unwrap(), state);
        let mut later: serde_json::Value = serde_json::from_slice(&text).unwrap();
        later["attempts"][0]["units"]["reloaded"] = serde_json::json!(["a.service"]);
        assert_eq!(decode(later.to_string().as_bytes()).unwrap(), state);
    }

    #[test]
    fn state_that_no_comin_can_have_written_is_refused() {
        let decode_with = |key: &str, value: serde_json::Value| {
            let mut json: serde_json::Value = serde_json::from_slice(OF_0_1).unwrap();
            // An older comin has removed attempts in between.
            json["attempts"].as_array_mut().unwrap().remove(1);
            json["lapsed"] = 5.into();
            *json.pointer_mut(key).unwrap() = value;
            decode(json.to_string().as_bytes())
        };
        decode_with("/lapsed", 5.into()).unwrap();
        decode_with("/attempts/0/ended_at", "2020-01-01T00:00:00Z".into()).unwrap();
        for (key, value) in [
            ("/lapsed", 6_u64),
            ("/lapsed", 1 << 32),
            ("/attempts/0/id", 0),
            ("/attempts/1/id", 1),
            ("/attempts/1/id", 4),
            ("/attempts/3/id", 2),
            ("/attempts/3/id", u64::MAX),
            ("/attempts/2/tries", 0),
        ] {
            let error = decode_with(key, value.into()).unwrap_err().to_string();
            assert!(
                error.starts_with("it is damaged: ") && error.ends_with(CURE),
                "{key}: {error}"
            );
        }
        let reboot = serde_json::json!({"attempt": 6, "system": "/s", "boot": "b",
            "announced_at": "2026-01-02T03:04:05Z", "stage": "ordered"});
        let mut json: serde_json::Value = serde_json::from_slice(OF_0_1).unwrap();
        json["reboot"] = reboot;
        decode(json.to_string().as_bytes()).unwrap_err();
    }
}
