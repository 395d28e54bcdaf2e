//! How an attempt ended.

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::{names::RemoteName, stage::Stage};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The system runs, or boots next.
    Done {
        /// The generation of the profile, if the profile was moved.
        generation: Option<u64>,
    },
    /// It went wrong.
    Failed {
        /// Where.
        stage: Stage,
        /// What, as a sentence.
        error: String,
    },
    /// The switch could not begin; nothing has changed.
    Postponed {
        /// Why, as a sentence.
        error: String,
    },
    /// Another target came while it was evaluated or built, or waited.
    Preempted {
        /// Where.
        stage: Stage,
    },
    /// The machine was not well with it, and runs the system before again.
    RolledBack {
        /// What was wrong, as a sentence.
        error: String,
        /// Whose fault that was.
        blame: FaultOrigin,
    },
    /// comin died.
    Interrupted {
        /// Where.
        stage: Stage,
    },
    /// It is not for this machine, or cannot be tested on it.
    Skipped {
        /// Why, as a sentence.
        reason: String,
    },
}

/// Whose fault it was that the machine was not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultOrigin {
    /// The commit's: it is in quarantine.
    Commit,
    /// The remotes', which cannot be reached from the system before either. The commit is tried again
    /// when one of them is back.
    Outage(Vec<RemoteName>),
}

/// How an attempt went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Trouble {
    /// It failed in this stage.
    #[display("failed while {}", _0.words())]
    Failed(Stage),
    /// comin died in this stage.
    #[display("was interrupted while {}", _0.words())]
    Interrupted(Stage),
    /// The switch could not begin.
    #[display("could not be activated")]
    Postponed,
    /// The machine was not well with it.
    #[display("was rolled back")]
    RolledBack,
}

impl Trouble {
    /// As in "while building".
    pub fn place(self) -> Option<String> {
        match self {
            Self::Failed(stage) | Self::Interrupted(stage) => {
                Some(format!("while {}", stage.words()))
            }
            Self::Postponed | Self::RolledBack => None,
        }
    }

    /// Whether the machine may run something else after it.
    pub fn may_have_changed(self) -> bool {
        match self {
            Self::Failed(stage) | Self::Interrupted(stage) => stage.changes_the_machine(),
            Self::Postponed => false,
            Self::RolledBack => true,
        }
    }

    /// The word for it in a line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Interrupted(_) => "interrupted",
            Self::Postponed => "postponed",
            Self::RolledBack => "rolled back",
        }
    }
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display)]
#[serde(rename_all = "snake_case")]
#[display(rename_all = "snake_case")]
pub enum AttemptStatus {
    /// It is under way.
    Running,
    /// It waits for a confirmation.
    Waiting,
    /// The machine got its system.
    Done,
    /// It did not.
    Failed,
    /// The machine got its system, and then the previous one again.
    RolledBack,
    /// It was not for this machine, or another commit took its place.
    Skipped,
}

impl AttemptStatus {
    /// As a person says it.
    pub fn words(self) -> String {
        self.to_string().replace('_', " ")
    }
}

/// An outcome as the reports have it: status, error, generation.
pub fn words(outcome: &Outcome) -> (AttemptStatus, Option<String>, Option<u64>) {
    let (status, error) = match outcome {
        Outcome::Done { generation } => return (AttemptStatus::Done, None, *generation),
        Outcome::Failed { error, .. } | Outcome::Postponed { error } => {
            (AttemptStatus::Failed, error.clone())
        }
        Outcome::RolledBack { error, .. } => (AttemptStatus::RolledBack, error.clone()),
        Outcome::Skipped { reason } => (AttemptStatus::Skipped, reason.clone()),
        Outcome::Preempted { stage } => {
            let error = format!("stopped while {}", stage.words());
            (AttemptStatus::Skipped, error)
        }
        Outcome::Interrupted { stage } => {
            let error = format!("interrupted while {}", stage.words());
            (AttemptStatus::Failed, error)
        }
    };
    (status, Some(error), None)
}

/// What is wrong with a machine after an activation or a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As a sentence.
    pub error: String,
    /// The remotes that cannot be reached, if that is the fault.
    #[serde(default)]
    pub unreachable: Vec<RemoteName>,
}

impl Fault {
    /// A fault that has nothing to do with the remotes.
    pub fn local(error: String) -> Self {
        Self {
            error,
            unreachable: Vec::new(),
        }
    }
}
