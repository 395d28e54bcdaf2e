//! The fields that lines of the journal have beside their text: which attempt is being worked at.

use anyhow::Result;
use jiff::Timestamp;

use crate::model::attempt::Attempt;
use crate::model::{outcome::words, stage::Stage};
use crate::state::store::Store;
use crate::sys::journald::{self, Field};

/// From now on, lines are about an attempt, as far as it is.
pub fn set(attempt: &Attempt) {
    journald::set_context(of(attempt));
}

/// Records how far an attempt is. From now on, lines are about it.
pub fn record(store: &mut Store, attempt: &Attempt) -> Result<()> {
    set(attempt);
    store.record(attempt)
}

/// Goes on to a stage, and records that.
pub fn enter(store: &mut Store, attempt: &mut Attempt, stage: Stage) -> Result<()> {
    attempt.enter(stage, Timestamp::now());
    record(store, attempt)
}

fn of(attempt: &Attempt) -> Vec<Field> {
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
    use crate::model::names::Operation;
    use crate::model::outcome::Outcome;

    #[test]
    fn they_tell_how_far_an_attempt_is_and_how_it_ended() {
        let told = |attempt: &Attempt| -> Vec<String> {
            of(attempt)
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
