//! The attempt that activates again what comin has activated before. A pure function from the state.

use jiff::Timestamp;

use crate::model::attempt::{Attempt, Reactivation};
use crate::model::{stage::Stage, state::State};

/// The attempt that activates the system of another one again. A healing that follows a failed one of the same system is
/// its next try.
pub fn again(
    state: &State,
    of: &Attempt,
    reactivation: Reactivation,
    boot: Option<String>,
    now: Timestamp,
) -> Attempt {
    let mut attempt = Attempt {
        reactivation: Some(reactivation),
        ..state.attempt_again(of, boot, now)
    };
    let is_retry = |it: &&Attempt| it.heals() && it.out == of.out && it.trouble().is_some();
    let failed = state.latest().filter(is_retry);
    if let Some(before) = failed.filter(|_| attempt.heals()) {
        attempt.try_again(before);
    }
    attempt.enter(Stage::Building, now);
    attempt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{drift::tests::state, names::Operation, outcome::Outcome};

    #[test]
    fn healing_that_fails_again_and_again_is_counted() {
        let of = |kept_by: Option<&str>| Reactivation {
            operation: Operation::Switch,
            kept_by: kept_by.map(str::to_string),
        };
        let error = String::new;
        let postponed = || Outcome::Postponed { error: error() };
        let interrupted = || Outcome::Interrupted {
            stage: Stage::Building,
        };
        let done = || Outcome::Done { generation: None };
        let preempted = || Outcome::Preempted {
            stage: Stage::Building,
        };
        // How the healings before this one ended, and the number of this try and of the interruptions before it.
        for (ends, tries, interruptions) in [
            (vec![], 1, 0),
            (vec![postponed()], 2, 0),
            (vec![postponed(), postponed(), postponed()], 4, 0),
            (vec![interrupted()], 2, 1),
            (vec![interrupted(), interrupted(), interrupted()], 4, 3),
            (vec![interrupted(), postponed()], 3, 1),
            // Nothing failed.
            (vec![postponed(), done()], 1, 0),
            (vec![postponed(), preempted()], 1, 0),
        ] {
            let mut state = state("sa1 sb1");
            let source = state.attempts[1].clone();
            for end in ends.clone() {
                let mut healing = again(&state, &source, of(None), None, Timestamp::UNIX_EPOCH);
                healing.end(end, Timestamp::UNIX_EPOCH);
                state.attempts.push(healing);
            }
            let next = again(&state, &source, of(None), None, Timestamp::UNIX_EPOCH);
            assert_eq!(
                (next.tries, next.interruptions),
                (tries, interruptions),
                "{ends:?}"
            );
            // Another system, and an order by hand, begin anew.
            let other = state.attempts[0].clone();
            for (source, kept_by) in [(&other, None), (&source, Some("me"))] {
                let first = again(&state, source, of(kept_by), None, Timestamp::UNIX_EPOCH);
                assert_eq!((first.tries, first.interruptions), (1, 0), "{ends:?}");
            }
        }
    }
}
