//! What of a deployment is worth a notification: a pure function from the state to a topic.

use serde::{Deserialize, Serialize};

use crate::model::{
    Approval, Attempt, Commit, ConfirmStep, Operation, Outcome, Progress, Stage, State,
};

/// What there is to tell of the latest attempt. Two that are equal are told once: what fails again each time it
/// is tried is no news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    commit: Commit,
    operation: Operation,
    /// What has become of it.
    pub event: Milestone,
}

/// What has become of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// It has begun.
    Begun,
    /// It waits until this is confirmed.
    Waits(ConfirmStep),
    /// It has been, or need not be any more.
    GoesOn,
    /// Its system runs, or boots next.
    Done,
    /// It was stopped while it waited.
    Stopped,
    /// It has failed.
    Failed,
    /// It was undone.
    RolledBack,
    /// It is not for this machine.
    Skipped,
}

impl Topic {
    /// What there is to tell, if there is something. `at_work` is whether a comin deploys, and `consent` whether what
    /// waits may go on.
    pub fn of(state: &State, at_work: bool, consent: Option<Approval>) -> Option<Self> {
        let latest = state.latest()?;
        Some(Self {
            commit: latest.target.commit.clone(),
            operation: latest.target.operation,
            event: event(latest, at_work, consent)?,
        })
    }

    /// Whether it is worth telling who has been told `before`, or nothing yet since the session began.
    pub fn is_notable(&self, before: Option<&Self>) -> bool {
        match before {
            Some(before) => before != self && (self.event != Milestone::Stopped || before.asks()),
            // What has long been over, nobody wants to hear at each login.
            None => matches!(
                self.event,
                Milestone::Begun | Milestone::Waits(_) | Milestone::GoesOn
            ),
        }
    }

    /// Whether it is a question.
    pub fn asks(&self) -> bool {
        matches!(self.event, Milestone::Waits(_))
    }
}

fn event(attempt: &Attempt, at_work: bool, consent: Option<Approval>) -> Option<Milestone> {
    let has_waited = || {
        attempt
            .stages
            .iter()
            .any(|s| s.stage == Stage::WaitingForConfirmation)
    };
    match &attempt.progress {
        // Its comin is dead: what comes of it is another attempt.
        Progress::Running(_) if !at_work => None,
        Progress::Running(_) if has_waited() => Some(Milestone::GoesOn),
        Progress::Running(_) => (attempt.tries == 1).then_some(Milestone::Begun),
        Progress::Awaiting(step) => match consent {
            Some(Approval::Missing | Approval::At(_)) => Some(Milestone::Waits(*step)),
            // A gate asks nobody.
            Some(Approval::Given) | None if attempt.stage() == Stage::WaitingAtGate => None,
            Some(Approval::Given) | None => Some(Milestone::GoesOn),
        },
        Progress::Ended(_, outcome) => match outcome {
            Outcome::Done { .. } => Some(Milestone::Done),
            Outcome::Failed { .. } | Outcome::Postponed { .. } => Some(Milestone::Failed),
            Outcome::RolledBack { .. } => Some(Milestone::RolledBack),
            Outcome::Skipped { .. } => Some(Milestone::Skipped),
            Outcome::Preempted { .. } => Some(Milestone::Stopped),
            // It goes on by itself.
            Outcome::Interrupted { .. } => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn topic(attempt: &Attempt, at_work: bool, consent: Option<Approval>) -> Option<Milestone> {
        let state = State {
            attempts: vec![attempt.clone()],
            ..State::default()
        };
        Topic::of(&state, at_work, consent).map(|topic| topic.event)
    }

    fn told(event: Milestone) -> Topic {
        Topic {
            commit: "a".repeat(40).parse().unwrap(),
            operation: Operation::Switch,
            event,
        }
    }

    #[test]
    fn a_deployment_is_told_step_by_step() {
        let mut attempt = Attempt::for_tests(1, Operation::Switch);
        attempt.enter(Stage::Evaluating, Timestamp::now());
        assert_eq!(topic(&attempt, true, None), Some(Milestone::Begun));
        assert_eq!(topic(&attempt, false, None), None);
        let mut again = attempt.clone();
        again.tries = 2;
        assert_eq!(topic(&again, true, None), None);

        attempt.wait(
            Stage::WaitingForConfirmation,
            ConfirmStep::Build,
            Timestamp::now(),
        );
        let asks = Some(Milestone::Waits(ConfirmStep::Build));
        for (consent, event) in [
            (Approval::Missing, asks),
            (Approval::At(Timestamp::UNIX_EPOCH), asks),
            (Approval::Given, Some(Milestone::GoesOn)),
        ] {
            assert_eq!(topic(&attempt, false, Some(consent)), event, "{consent:?}");
        }
        let mut at_gate = attempt.clone();
        at_gate.wait(Stage::WaitingAtGate, ConfirmStep::Build, Timestamp::now());
        assert_eq!(topic(&at_gate, false, Some(Approval::Given)), None);
        attempt.enter(Stage::Building, Timestamp::now());
        assert_eq!(topic(&attempt, true, None), Some(Milestone::GoesOn));
        attempt.end(Outcome::Done { generation: None }, Timestamp::now());
        assert_eq!(topic(&attempt, false, None), Some(Milestone::Done));
        attempt.end(
            Outcome::Interrupted {
                stage: Stage::Building,
            },
            Timestamp::now(),
        );
        assert_eq!(topic(&attempt, false, None), None);
    }

    #[test]
    fn nothing_is_told_twice_nor_what_is_over_when_a_session_begins() {
        let failed = told(Milestone::Failed);
        assert!(!failed.is_notable(Some(&failed)));
        assert!(failed.is_notable(Some(&told(Milestone::Begun))));
        let of_another = Topic {
            commit: "b".repeat(40).parse().unwrap(),
            ..failed.clone()
        };
        assert!(failed.is_notable(Some(&of_another)));
        assert!(!failed.is_notable(None));
        assert!(told(Milestone::Waits(ConfirmStep::Deploy)).is_notable(None));
        // That a question is void is said to whom it was put.
        let stopped = told(Milestone::Stopped);
        assert!(stopped.is_notable(Some(&told(Milestone::Waits(ConfirmStep::Build)))));
        assert!(!stopped.is_notable(Some(&told(Milestone::Begun))));
    }
}
