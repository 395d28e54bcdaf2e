//! What comin remembers between two runs: the accepted main and the attempts.
//!
//! The file is not the domain: [`V1`] is what stands in it, [`State`] what the program uses. A file
//! of the next version is read too, for a rollback brings the older comin back: versions only add
//! keys, and unknown ones are passed over.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::activation::Activation;
use crate::commit::Commit;
use crate::config::{Operation, RemoteName};
use crate::fs::{self, Lock};
use crate::paths::Paths;
use crate::select::{Last, Target, MAX_BACKOFF};

/// The version of the file that this comin writes.
const VERSION: u32 = 1;
/// How many attempts are remembered.
const ATTEMPTS: usize = 100;
/// How long the first retry waits; each further one waits twice as long.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_mins(1);
/// How often an interrupted attempt is repeated at once; after that, something about it interrupts.
const INTERRUPTIONS: u32 = 3;

/// The state of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The chosen main of the latest deployment that reached activation.
    pub accepted_main: Option<Commit>,
    /// The latest last.
    pub attempts: Vec<Attempt>,
}

/// One try to deploy a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts up; never used twice as long as the state lives.
    pub id: u64,
    /// What is deployed.
    pub target: Target,
    /// The first line of the commit's message, as the author wrote it.
    pub subject: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The how-manieth try of the same target in a row, from 1.
    pub tries: u32,
    /// The derivation, once evaluated.
    pub derivation: Option<String>,
    /// The system, once evaluated.
    pub out: Option<PathBuf>,
    /// The profile's generation before the activation: where a switch that changed nothing goes back.
    pub generation_before: Option<u64>,
    /// How far it is, or how it ended.
    pub progress: Progress,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Under way.
    Running(Stage),
    /// Over.
    Ended(Timestamp, Outcome),
}

/// The part of a deployment that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nix evaluates the configuration.
    Evaluating,
    /// Nix builds the system.
    Building,
    /// `switch-to-configuration` runs.
    Activating,
}

impl Stage {
    /// As in `evaluating`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Evaluating => "evaluating",
            Self::Building => "building",
            Self::Activating => "activating",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The system runs, or boots next; with a profile, its generation.
    Done {
        /// The generation of the profile.
        generation: Option<u64>,
    },
    /// It went wrong.
    Failed {
        /// Where.
        stage: Stage,
        /// What, as a sentence.
        error: String,
    },
    /// comin died.
    Interrupted {
        /// Where.
        stage: Stage,
    },
    /// It is not for this machine.
    Skipped {
        /// Why, as a sentence.
        reason: String,
    },
}

impl Attempt {
    /// Goes on to a stage.
    pub fn enter(&mut self, stage: Stage) {
        self.progress = Progress::Running(stage);
    }

    /// The outcome, when something goes wrong where it is now.
    #[must_use]
    pub fn failed(&self, error: &anyhow::Error) -> Outcome {
        let stage = match &self.progress {
            Progress::Running(stage) => *stage,
            Progress::Ended(_, _) => Stage::Activating,
        };
        let error = format!("{error:#}");
        Outcome::Failed { stage, error }
    }

    /// The name of its GC root.
    #[must_use]
    pub fn root(&self) -> String {
        format!("attempt-{}", self.id)
    }

    /// Its activation of a system.
    #[must_use]
    pub fn activation(&self, toplevel: PathBuf) -> Activation {
        Activation {
            attempt: self.id,
            toplevel,
            operation: self.target.operation,
        }
    }

    /// How it ended and when, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<(Timestamp, &Outcome)> {
        match &self.progress {
            Progress::Running(_) => None,
            Progress::Ended(at, outcome) => Some((*at, outcome)),
        }
    }

    /// When the same target may be tried again; `None` where only another one helps.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        let (at, outcome) = self.ended()?;
        match outcome {
            Outcome::Done { .. } | Outcome::Skipped { .. } => None,
            Outcome::Failed { stage, .. } => match stage {
                Stage::Evaluating | Stage::Building => Some(at + backoff(self.tries)),
                Stage::Activating => None,
            },
            Outcome::Interrupted { .. } if self.tries < INTERRUPTIONS => Some(at),
            Outcome::Interrupted { stage } => match stage {
                Stage::Evaluating | Stage::Building => Some(at + backoff(self.tries)),
                Stage::Activating => None,
            },
        }
    }

    /// Whether its activation began: its main is the accepted one from then on.
    #[must_use]
    pub fn reached_activation(&self) -> bool {
        match &self.progress {
            Progress::Running(stage)
            | Progress::Ended(_, Outcome::Failed { stage, .. } | Outcome::Interrupted { stage }) => {
                *stage == Stage::Activating
            }
            Progress::Ended(_, Outcome::Done { .. }) => true,
            Progress::Ended(_, Outcome::Skipped { .. }) => false,
        }
    }
}

/// One minute after the first failure, then twice as long each time, up to an hour.
fn backoff(tries: u32) -> SignedDuration {
    let factor = 1 << tries.saturating_sub(1).min(10);
    (FIRST_BACKOFF * factor).min(MAX_BACKOFF)
}

impl State {
    /// Reads the state; the state of a first run where there is no file.
    ///
    /// # Errors
    /// The file cannot be understood; the sentence has the cure. It is never taken for a first run,
    /// for then an older commit could be deployed.
    pub fn read(paths: &Paths) -> Result<Self> {
        let path = paths.state();
        match fs::read_optional(&path)? {
            Some(content) => decode(&content).with_context(|| cure(&path)),
            None => Ok(Self::default()),
        }
    }

    /// The latest attempt.
    #[must_use]
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The latest attempt that has ended.
    #[must_use]
    pub fn latest_ended(&self) -> Option<&Attempt> {
        self.attempts
            .iter()
            .rfind(|attempt| attempt.ended().is_some())
    }

    /// The latest attempt that ended, as far as a decision needs it.
    #[must_use]
    pub fn last(&self) -> Option<Last> {
        let attempt = self.latest_ended()?;
        Some(Last {
            commit: attempt.target.commit.clone(),
            operation: attempt.target.operation,
            retry_at: attempt.retry_at(),
        })
    }
}

fn cure(path: &Path) -> String {
    format!(
        "The state {} cannot be read; restore it from a backup, or move it away to begin anew with the main branch of the first remote",
        path.display()
    )
}

/// The state, to be changed: whoever has it holds the lock, so there is one writer.
#[derive(Debug)]
pub struct Store {
    state: State,
    path: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Waits until no other process deploys, and reads the state.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn open(paths: &Paths) -> Result<Self> {
        let lock = Lock::take_if_free(&paths.deploy_lock())?;
        let lock = if let Some(lock) = lock {
            lock
        } else {
            log::info!("Another comin deploys; waiting for it");
            Lock::wait(&paths.deploy_lock())?
        };
        Ok(Self {
            state: State::read(paths)?,
            path: paths.state(),
            _lock: lock,
        })
    }

    /// The state as it is on the disk.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records the accepted main.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed then.
    pub fn accept(&mut self, main: Commit) -> Result<()> {
        if self.state.accepted_main.as_ref() == Some(&main) {
            return Ok(());
        }
        self.change(|state| state.accepted_main = Some(main))
    }

    /// Records the beginning of an attempt.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed then.
    pub fn begin(&mut self, target: Target, subject: String) -> Result<Attempt> {
        let before = self.state.latest();
        let again = before.filter(|before| before.target == target);
        let attempt = Attempt {
            id: before.map_or(0, |before| before.id) + 1,
            tries: again.map_or(0, |again| again.tries) + 1,
            target,
            subject,
            started_at: Timestamp::now(),
            derivation: None,
            out: None,
            generation_before: None,
            progress: Progress::Running(Stage::Evaluating),
        };
        let recorded = attempt.clone();
        self.change(|state| {
            let surplus = (state.attempts.len() + 1).saturating_sub(ATTEMPTS);
            state.attempts.drain(..surplus);
            state.attempts.push(recorded);
        })?;
        Ok(attempt)
    }

    /// Records how far the latest attempt is; one that reaches activation brings its main along.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed then.
    pub fn record(&mut self, attempt: &Attempt) -> Result<()> {
        let recorded = attempt.clone();
        self.change(|state| {
            if recorded.reached_activation() {
                state.accepted_main = Some(recorded.target.main.clone());
            }
            if let Some(latest) = state.attempts.last_mut() {
                *latest = recorded;
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state.clone();
        change(&mut state);
        let text = serde_json::to_vec_pretty(&V1::from(&state))?;
        fs::replace_durably(&self.path, &text)?;
        self.state = state;
        Ok(())
    }
}

fn decode(content: &[u8]) -> Result<State> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(content)?;
    if !(VERSION..=VERSION + 1).contains(&version) {
        bail!("it has version {version}, and this comin knows version {VERSION}");
    }
    let file: V1 = serde_json::from_slice(content)?;
    Ok(file.into())
}

/// The file, version 1.
#[derive(Serialize, Deserialize)]
struct V1 {
    version: u32,
    accepted_main: Option<Commit>,
    attempts: Vec<AttemptV1>,
}

#[derive(Serialize, Deserialize)]
struct AttemptV1 {
    id: u64,
    commit: Commit,
    subject: String,
    remote: RemoteName,
    branch: String,
    testing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    operation: Operation,
    main: Commit,
    started_at: Timestamp,
    tries: u32,
    derivation: Option<String>,
    out: Option<PathBuf>,
    generation_before: Option<u64>,
    stage: Option<Stage>,
    status: Status,
    ended_at: Option<Timestamp>,
    generation: Option<u64>,
    error: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Running,
    Done,
    Failed,
    Interrupted,
    Skipped,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

impl From<V1> for State {
    fn from(file: V1) -> Self {
        Self {
            accepted_main: file.accepted_main,
            attempts: file.attempts.into_iter().map(Attempt::from).collect(),
        }
    }
}

impl From<AttemptV1> for Attempt {
    fn from(file: AttemptV1) -> Self {
        let stage = file.stage.unwrap_or(Stage::Evaluating);
        let text = file.error.unwrap_or_default();
        let ended = |outcome| Progress::Ended(file.ended_at.unwrap_or(file.started_at), outcome);
        let progress = match file.status {
            Status::Running => Progress::Running(stage),
            Status::Done => ended(Outcome::Done {
                generation: file.generation,
            }),
            Status::Failed | Status::Unknown => ended(Outcome::Failed { stage, error: text }),
            Status::Interrupted => ended(Outcome::Interrupted { stage }),
            Status::Skipped => ended(Outcome::Skipped { reason: text }),
        };
        Self {
            id: file.id,
            target: Target {
                remote: file.remote,
                branch: file.branch,
                testing: file.testing,
                commit: file.commit,
                signer: file.signer,
                operation: file.operation,
                main: file.main,
            },
            subject: file.subject,
            started_at: file.started_at,
            tries: file.tries,
            derivation: file.derivation,
            out: file.out,
            generation_before: file.generation_before,
            progress,
        }
    }
}

impl From<&State> for V1 {
    fn from(state: &State) -> Self {
        Self {
            version: VERSION,
            accepted_main: state.accepted_main.clone(),
            attempts: state.attempts.iter().map(AttemptV1::from).collect(),
        }
    }
}

impl From<&Attempt> for AttemptV1 {
    fn from(attempt: &Attempt) -> Self {
        let Attempt {
            id,
            target,
            subject,
            started_at,
            tries,
            derivation,
            out,
            generation_before,
            progress,
        } = attempt.clone();
        let mut file = Self {
            id,
            commit: target.commit,
            subject,
            remote: target.remote,
            branch: target.branch,
            testing: target.testing,
            signer: target.signer,
            operation: target.operation,
            main: target.main,
            started_at,
            tries,
            derivation,
            out,
            generation_before,
            stage: None,
            status: Status::Running,
            ended_at: None,
            generation: None,
            error: None,
        };
        match progress {
            Progress::Running(stage) => file.stage = Some(stage),
            Progress::Ended(at, outcome) => {
                file.ended_at = Some(at);
                match outcome {
                    Outcome::Done { generation } => {
                        file.status = Status::Done;
                        file.generation = generation;
                    }
                    Outcome::Failed { stage, error } => {
                        file.status = Status::Failed;
                        file.stage = Some(stage);
                        file.error = Some(error);
                    }
                    Outcome::Interrupted { stage } => {
                        file.status = Status::Interrupted;
                        file.stage = Some(stage);
                    }
                    Outcome::Skipped { reason } => {
                        file.status = Status::Skipped;
                        file.error = Some(reason);
                    }
                }
            }
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by comin 0.1. Never edited: later versions must go on reading it.
    const OF_0_1: &[u8] = include_bytes!("../tests/states/0.1.json");

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
        let again = serde_json::to_vec(&V1::from(&state)).unwrap();
        let (before, after): (serde_json::Value, serde_json::Value) = (
            serde_json::from_slice(OF_0_1).unwrap(),
            serde_json::from_slice(&again).unwrap(),
        );
        assert_eq!(before, after);
    }

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let minutes: Vec<i64> = (1..=9).map(|tries| backoff(tries).as_mins()).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX).as_mins(), 60);
    }
}
