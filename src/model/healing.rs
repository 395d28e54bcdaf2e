//! Healing: whether, and when, what comin last activated is activated again after a drift. A pure function from plain
//! facts.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::model::drift::{Drift, DriftKind};
use crate::model::policy::{Backoff, Heals};
use crate::model::schedule::{Delay, NextTry};
use crate::model::{attempt::Attempt, names::Operation, outcome::Outcome, state::State};

/// How often comin heals in a day.
const MOST: usize = 3;
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long another switch is left alone.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct HealingFacts<'a> {
    pub policy: Heals,
    pub state: &'a State,
    pub drift: &'a Drift,
    /// When the drift was first seen in this boot.
    pub seen: Timestamp,
    pub is_suspended: bool,
    /// Whether there is nothing to do about what is selected.
    pub is_settled: bool,
    /// Whether some switch runs, such as that of a rebuild by hand.
    pub is_switching: bool,
    pub backoff: Backoff,
    pub now: Timestamp,
}

/// What is done about a drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healing<'a> {
    /// After a wait, the system of this attempt is activated again by this operation.
    At(Delay, &'a Attempt, Operation),
    /// Nothing, because of this.
    Not(&'static str),
}

/// Decides; `None` if the owner wants no drift to be healed.
pub fn decide<'a>(facts: &HealingFacts<'a>) -> Option<Healing<'a>> {
    facts.policy.heal.then(|| {
        obstacle(facts).map_or_else(
            || match source(facts) {
                Some((attempt, operation)) => Healing::At(wait(facts), attempt, operation),
                None => Healing::Not("comin did not activate the system before"),
            },
            Healing::Not,
        )
    })
}

/// It is healed after that.
pub const SUSPENDED: &str = "comin is suspended";

/// Why it is not healed, however long the drift lasts.
fn obstacle(facts: &HealingFacts) -> Option<&'static str> {
    let (state, drift) = (facts.state, facts.drift);
    let activated = state.last_activation().map_or(0, |it| it.id);
    let rollback = state.rollbacks.last();
    let is_by_hand = rollback.is_some_and(|it| it.after >= activated);
    let healed = state.latest().filter(|it| it.heals());
    let awaits_boot = |healed: &Attempt| {
        let is_put_off = healed.is_done() && !healed.inhibitors.is_empty();
        is_put_off && drift.kind != DriftKind::BootsNext
    };
    let is_passing = |healed: &Attempt| match healed.ended() {
        Some((_, Outcome::Interrupted { stage })) => !stage.changes_the_machine(),
        Some((_, outcome)) => matches!(
            outcome,
            Outcome::Done { .. } | Outcome::Postponed { .. } | Outcome::Preempted { .. }
        ),
        None => true,
    };
    if is_by_hand {
        Some("somebody used comin rollback")
    } else if drift.is_chosen_at_boot {
        Some("somebody chose another system at the boot, or the boot loader fell back")
    } else if healed.is_some_and(|it| !is_passing(it)) {
        Some("the last healing came to nothing")
    } else if healed.is_some_and(awaits_boot) {
        Some("only a reboot completes the last healing")
    } else if !facts.is_settled {
        Some("the selected commit is deployed, waits or is held")
    } else if facts.is_suspended {
        Some(SUSPENDED)
    } else {
        None
    }
}

/// The latest attempt that brought the system which ends the drift.
fn source<'a>(facts: &HealingFacts<'a>) -> Option<(&'a Attempt, Operation)> {
    let (system, operation) = facts.drift.cure.as_ref()?;
    let is_it = |it: &&Attempt| it.is_done() && it.out.as_deref() == Some(Path::new(system));
    let source = facts.state.attempts.iter().rfind(is_it)?;
    Some((source, *operation))
}

fn wait(facts: &HealingFacts) -> Delay {
    let heals = facts.state.attempts.iter().rev().filter(|it| it.heals());
    let today = heals.clone().filter(|it| it.reached_activation());
    let today = today.map(|it| Delay::new(it.started_at, DAY));
    let today = today.filter(|day| !day.has_elapsed(facts.now));
    let again = heals.take(1).map(|it| it.again(facts.backoff));
    let again = again.filter_map(|next| match next {
        NextTry::At(wait) => Some(wait),
        NextTry::None | NextTry::OnNewCommit | NextTry::WhenReachable(_) => None,
    });
    let busy = facts.is_switching.then(|| Delay::new(facts.now, PAUSE));
    let grace = Delay::new(facts.seen, facts.policy.grace);
    let waits = today.skip(MOST - 1).take(1).chain(again).chain(busy);
    let last = waits.max_by_key(|wait| wait.until);
    last.filter(|last| last.until > grace.until)
        .unwrap_or(grace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::drift::tests::{state, systems};
    use crate::model::{attempt::Reactivation, stage::Stage};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    /// What comin does about a drift that was first seen at 100 o'clock. The attempts and the machine are as in the
    /// tests of drift. Marks: `N` the hour, 101 if none is given; `hN` that attempt heals, and has begun N hours before
    /// 101; `kN` it keeps what was tested; `s`uspended, `w`aits, `b`usy, `p`ostponed, `i`nhibited, `f`ailed while fetching the system.
    fn told(attempts: &str, marks: &str, machine: &str) -> String {
        let mut state = state(attempts);
        let (mut now, mut is_suspended, mut is_settled, mut is_switching) =
            (at(101), false, true, false);
        for (mark, ago) in marks.split_whitespace().map(|it| it.split_at(1)) {
            let latest = state.attempts.last_mut();
            match mark {
                "s" => is_suspended = true,
                "w" => is_settled = false,
                "b" => is_switching = true,
                "p" => {
                    let error = String::new();
                    latest.unwrap().end(Outcome::Postponed { error }, at(101));
                }
                "i" => latest.unwrap().inhibitors = vec!["dbus".to_string()],
                "f" => {
                    let error = String::new();
                    let failed = Outcome::Failed {
                        stage: Stage::Building,
                        error,
                    };
                    latest.unwrap().end(failed, at(101));
                }
                "h" | "k" => {
                    for (healing, ago) in state.attempts.iter_mut().rev().zip(ago.split(',')) {
                        healing.started_at = at(101 - ago.parse::<i64>().unwrap());
                        healing.reactivation = Some(Reactivation {
                            operation: healing.target.operation,
                            kept_by: (mark == "k").then(|| "me".to_string()),
                        });
                    }
                }
                hour => now = at(format!("{hour}{ago}").parse().unwrap()),
            }
        }
        let Some(drift) = Drift::of(&state, &systems(machine)) else {
            return "no drift".to_string();
        };
        let decided = decide(&HealingFacts {
            policy: Heals {
                heal: true,
                grace: SignedDuration::from_hours(1),
            },
            state: &state,
            drift: &drift,
            seen: at(100),
            is_suspended,
            is_settled,
            is_switching,
            backoff: Backoff {
                first: SignedDuration::from_hours(2),
                most: SignedDuration::from_hours(2),
            },
            now,
        });
        match decided.unwrap() {
            Healing::At(wait, attempt, operation) => {
                let out = attempt.out.as_ref().unwrap().display();
                let when = if wait.has_elapsed(now) {
                    "now".to_string()
                } else {
                    format!("after {} min", wait.until.duration_since(at(0)).as_mins())
                };
                format!("{operation} {out} {when}")
            }
            Healing::Not(why) => why.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn drift_is_healed_after_the_grace_unless_the_operator_has_decided() {
        for (attempts, marks, machine, wanted) in [
            // What was activated last, in the way that ends the drift: `nixos-rebuild switch`, `test` and `boot`.
            ("sa1 sb1", "", "zaz1", "switch b now"),
            ("sa1 sb1", "", "zab1", "switch b now"),
            ("sa1 sb1", "", "baz1", "boot b now"),
            ("sa1 tb1", "", "zaz1", "test b now"),
            ("sa1 tb1", "", "baz1", "boot a now"),
            ("sa1 bb1", "", "zab1", "test a now"),
            ("tb1", "", "zaa1", "test b now"),
            ("sa1 sb1 sc1x", "", "zab1", "switch b now"),
            // What a rebuild by hand made the next boot was booted.
            ("sa1 sb1", "", "zzz2", "switch b now"),
            ("sa1 tb1", "", "zzz2", "switch a now"),
            // A test has been repeated by hand after a boot.
            ("sa1 tb1", "", "zaa2", "switch a now"),
            // Kept is what boots.
            ("sa1 tb1 bb1", "k0", "zaz1", "switch b now"),
            // Not yet.
            ("sa1 sb1", "100", "zaz1", "switch b after 6060 min"),
            ("sa1 sb1", "b", "zaz1", "switch b after 6060 min"),
            // The clock was set back by months.
            ("sa1 sb1", "2", "zaz1", "switch b now"),
            // Three times a day, and then a day after the first of them.
            ("sa1 sb1 sb1 sb1", "h1,2", "zaz1", "switch b now"),
            (
                "sa1 sb1 sb1 sb1",
                "h1,2,9",
                "zaz1",
                "switch b after 6960 min",
            ),
            ("sa1 sb1 sb1 sb1", "h1,2,24", "zaz1", "switch b now"),
            // The switch could not begin.
            ("sa1 sb1 sb1", "h0 p", "zaz1", "switch b after 6180 min"),
            // A healing that fails is not repeated.
            ("sa1 sb1 sb1!", "h0", "zaz1", "the last healing"),
            ("sa1 sb1 sb1?", "h0", "zaz1", "the last healing"),
            ("sa1 sb1 sb1", "h0 f", "zaz1", "the last healing"),
            ("sa1 sb1 sb1", "h0 i", "zab1", "only a reboot"),
            ("sa1 sb1 sb1", "h0 i", "zaz1", "only a reboot"),
            ("sa1 sb1 bb1", "h0", "zab1", "switch b now"),
            // Somebody has decided.
            ("sa1 sb1", "s", "zaz1", "comin is suspended"),
            ("sa1 sb1 ra1", "", "zaz1", "somebody used comin"),
            ("sa1 sb1 ra1 sb1", "", "zaz1", "switch b now"),
            ("sa1 sb1", "", "aab2", "somebody chose another"),
            ("sa1 sb1", "", "zab2", "somebody chose another"),
            ("sa1 sb1 sc2", "", "zac2", "switch c now"),
            ("sa1 sb1", "w", "zaz1", "the selected commit"),
            // Nobody knows what it was.
            ("sb1!", "", "zaz1", "no drift"),
            ("sa1 sb1 sc1?", "w", "zaz1", "the selected commit"),
            ("sa1 sb1 sc1?", "", "zaz1", "comin did not"),
        ] {
            assert_eq!(
                told(attempts, marks, machine),
                wanted,
                "{attempts} | {marks} | {machine}"
            );
        }
    }
}
