//! What the latest attempt that changed the machine has left of it.

use crate::model::attempt::{Attempt, PreviousSystem};
use crate::model::{outcome::Outcome, stage::Stage};

/// What the latest attempt that changed the machine has left of it.
#[derive(PartialEq, Eq)]
pub enum Residue {
    /// A system that is whole.
    Clean,
    /// A system whose activation failed.
    FailedActivation,
    /// A switch or a way back half done, and what had been found: that is what there was before.
    Unfinished(Box<PreviousSystem>),
}

impl Residue {
    /// What this attempt has left.
    pub fn by(attempt: &Attempt) -> Self {
        let unfinished = || Self::Unfinished(Box::new(attempt.before.clone()));
        match attempt.ended().map(|(_, outcome)| outcome) {
            Some(Outcome::Interrupted { stage }) if stage.changes_the_machine() => unfinished(),
            Some(Outcome::Failed { stage, .. }) if *stage == Stage::RollingBack => unfinished(),
            Some(Outcome::Failed { stage, .. }) if stage.changes_the_machine() => {
                Self::FailedActivation
            }
            Some(_) | None => Self::Clean,
        }
    }
}
