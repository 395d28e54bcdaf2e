//! What a comin that died, or an attempt that failed, has left behind.

use anyhow::Result;

use crate::deploy::boot;
use crate::deploy::cycle::{Ending, Machine};
use crate::deploy::journal_fields;
use crate::deploy::rollback_timeout;
use crate::model::attempt::{Attempt, Before, Outcome, Progress, Stage};
use crate::model::outcome::{self, Interrupted, Recovery};
use crate::state::store::Store;
use crate::sys::fs;
use crate::system;
use crate::system::switch::Activation;

impl Machine {
    /// Settles an attempt whose comin died: the switch may have gone on without it, or the machine
    /// may have booted since.
    pub fn settle_interrupted(&self, store: &mut Store) -> Result<Ending> {
        let Some(mut attempt) = store.state().latest().cloned() else {
            return Ok(Ending::Done);
        };
        let Progress::Running(stage) = attempt.progress else {
            // Its comin may have died when all was recorded, and before it had disarmed it.
            rollback_timeout::disarm(&self.paths);
            return Ok(Ending::Done);
        };
        journal_fields::set(&attempt);
        let outcome = self.settle(store, &mut attempt, stage);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => attempt.failed(error)?,
        };
        self.end(store, attempt, outcome)
    }

    fn settle(&self, store: &mut Store, attempt: &mut Attempt, stage: Stage) -> Result<Outcome> {
        let operation = attempt.operation();
        let Some(out) = attempt.out.clone().filter(|_| stage.changes_the_machine()) else {
            return Ok(Outcome::Interrupted { stage });
        };
        let profile = &attempt.before.profile;
        // That the profile has it does not tell that the boot loader does.
        let booted = fs::read_link_optional(&self.paths.booted_system())?;
        let is_up = operation.activates() || booted.as_ref() == Some(&out);
        let is_there = is_up && system::has(profile, &self.paths, &out, operation)?;
        let exit = match attempt.fault {
            // By now the latest switch may be the one that leads back.
            Some(_) => None,
            None => Activation::of(attempt, out.clone(), operation).outcome(&self.paths)?,
        };
        let recovery = outcome::of_interrupted(Interrupted {
            stage,
            fault: attempt.fault.clone(),
            exit,
            has_booted_it: is_there && attempt.boot != boot::id(&self.paths)?,
            is_last_try: attempt.is_last_try(),
        });
        match recovery {
            Recovery::Repeat => Ok(Outcome::Interrupted { stage }),
            Recovery::Conclude(exit) => {
                self.arm(attempt)?;
                self.conclude(store, attempt, &out, exit)
            }
            Recovery::RollBack(fault) => self.roll_back(store, attempt, &fault),
        }
    }
}

/// What the latest attempt that changed the machine has left of it.
#[derive(PartialEq, Eq)]
pub enum Left {
    /// A system that is whole.
    Nothing,
    /// A system whose activation failed.
    Faulty,
    /// A switch or a way back half done, and what had been found: that is what there was before.
    Unfinished(Box<Before>),
}

impl Left {
    /// What this attempt has left.
    pub fn by(attempt: &Attempt) -> Self {
        let unfinished = || Self::Unfinished(Box::new(attempt.before.clone()));
        match attempt.ended() {
            Some((_, Outcome::Interrupted { stage })) if stage.changes_the_machine() => {
                unfinished()
            }
            Some((
                _,
                Outcome::Failed {
                    stage: Stage::RollingBack,
                    ..
                },
            )) => unfinished(),
            Some((_, Outcome::Failed { stage, .. })) if stage.changes_the_machine() => Self::Faulty,
            None
            | Some((
                _,
                Outcome::Done { .. }
                | Outcome::Failed { .. }
                | Outcome::Interrupted { .. }
                | Outcome::Postponed { .. }
                | Outcome::Preempted { .. }
                | Outcome::RolledBack { .. }
                | Outcome::Skipped { .. },
            )) => Self::Nothing,
        }
    }
}
