//! The fields that lines of the journal have beside their text: which attempt is being worked at.

use std::fmt;

use crate::report::words;
use crate::state::Attempt;
use crate::sys::mutex::Shared;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// As in `COMIN_COMMIT`.
    pub name: &'static str,
    /// Any text.
    pub value: String,
}

impl Field {
    /// Whether systemd reads it as it is written, without quotes, escapes and specifiers.
    pub fn is_plain(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        self.value.chars().all(plain)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// What is being worked at. It is one thing at a time, whichever thread has to say something about it.
static NOW: Shared<Vec<Field>> = Shared::new(Vec::new());

/// From now on, lines are about an attempt, as far as it is.
pub fn are_of(attempt: &Attempt) {
    *NOW.lock() = of(attempt);
}

/// From now on, lines are about nothing in particular.
pub fn are_none() {
    NOW.lock().clear();
}

/// What a line is about now.
pub fn now() -> Vec<Field> {
    NOW.lock().clone()
}

fn of(attempt: &Attempt) -> Vec<Field> {
    let target = &attempt.target;
    let stage = attempt.stages.last().map(|entered| entered.stage.name());
    let outcome = attempt.ended().map(|(_, outcome)| words(outcome).0.name());
    [
        ("COMIN_ATTEMPT", Some(attempt.id.to_string())),
        ("COMIN_COMMIT", Some(target.commit.to_string())),
        ("COMIN_REMOTE", Some(target.remote.to_string())),
        ("COMIN_BRANCH", Some(target.branch.clone())),
        ("COMIN_OPERATION", Some(attempt.operation().to_string())),
        ("COMIN_STAGE", stage.map(str::to_string)),
        ("COMIN_OUTCOME", outcome.map(str::to_string)),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        Some(Field {
            name,
            value: value?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Operation;
    use crate::state::{Outcome, Stage};

    #[test]
    fn they_tell_how_far_an_attempt_is_and_how_it_ended() {
        let told = |attempt: &Attempt| -> Vec<String> {
            of(attempt).iter().map(ToString::to_string).collect()
        };
        let mut attempt = Attempt::for_tests(7, Operation::Switch);
        attempt.enter(Stage::Building);
        let mut expected = vec![
            "COMIN_ATTEMPT=7".to_string(),
            format!("COMIN_COMMIT={:040x}", 7),
            "COMIN_REMOTE=origin".to_string(),
            "COMIN_BRANCH=main".to_string(),
            "COMIN_OPERATION=switch".to_string(),
            "COMIN_STAGE=building".to_string(),
        ];
        assert_eq!(told(&attempt), expected);
        attempt.end(Outcome::Skipped {
            reason: "another machine".to_string(),
        });
        expected.push("COMIN_OUTCOME=skipped".to_string());
        assert_eq!(told(&attempt), expected);
    }

    #[test]
    fn systemd_would_read_something_else_where_a_value_is_not_plain() {
        let is_plain = |value: &str| {
            let value = value.to_string();
            let name = "COMIN_BRANCH";
            Field { name, value }.is_plain()
        };
        assert!(is_plain("testing-m/3f2a_9.c"));
        for value in ["a b", "a\"b", "it's", "100%h", "a\\n", "ü"] {
            assert!(!is_plain(value), "{value}");
        }
    }
}
