//! How far an attempt is, recorded in the state before anything is done, and told by the fields of the journal.

use anyhow::Result;
use jiff::Timestamp;

use crate::model::{outcome::words, Attempt, Stage};
use crate::state::store::Store;
use crate::sys::journald::{self, Field};

/// Records how far an attempt is. From now on, lines of the journal are about the attempt.
pub fn record(store: &mut Store, attempt: &Attempt) -> Result<()> {
    set_journal_fields(attempt);
    store.record(attempt)
}

/// Records that a stage begins, before anything of the stage is done.
pub fn enter(store: &mut Store, attempt: &mut Attempt, stage: Stage) -> Result<()> {
    attempt.enter(stage, Timestamp::now());
    record(store, attempt)
}

/// From now on, lines of the journal are about an attempt.
pub fn set_journal_fields(attempt: &Attempt) {
    journald::set_context(journal_fields(attempt));
}

fn journal_fields(attempt: &Attempt) -> Vec<Field> {
    let target = &attempt.target;
    let stage = attempt
        .stages
        .last()
        .map(|entered| entered.stage.to_string());
    let outcome = attempt
        .ended()
        .map(|(_, outcome)| words(outcome).0.to_string());
    [
        ("COMIN_ATTEMPT", Some(attempt.id.to_string())),
        ("COMIN_COMMIT", Some(target.commit.to_string())),
        ("COMIN_REMOTE", Some(target.remote.to_string())),
        ("COMIN_BRANCH", Some(target.branch.clone())),
        ("COMIN_OPERATION", Some(attempt.operation().to_string())),
        ("COMIN_STAGE", stage),
        ("COMIN_OUTCOME", outcome),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Operation, Outcome};

    #[test]
    fn journal_fields_tell_how_far_an_attempt_is_and_how_it_ended() {
        let told = |attempt: &Attempt| -> Vec<String> {
            journal_fields(attempt)
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        let mut attempt = Attempt::for_tests(7, Operation::Switch);
        attempt.enter(Stage::Building, Timestamp::now());
        let mut expected = vec![
            "COMIN_ATTEMPT=7".to_string(),
            format!("COMIN_COMMIT={:040x}", 7),
            "COMIN_REMOTE=origin".to_string(),
            "COMIN_BRANCH=main".to_string(),
            "COMIN_OPERATION=switch".to_string(),
            "COMIN_STAGE=building".to_string(),
        ];
        assert_eq!(told(&attempt), expected);
        attempt.end(
            Outcome::Skipped {
                reason: "another machine".to_string(),
            },
            Timestamp::now(),
        );
        expected.push("COMIN_OUTCOME=skipped".to_string());
        assert_eq!(told(&attempt), expected);
    }
}
