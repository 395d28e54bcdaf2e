//! The tests of drift, and small machines for other tests.

use super::*;
use crate::model::{outcome::FaultOrigin, stage::Stage};

/// Attempts, the latest last. `s`witch, `t`est or `b`oot; the system; the boot in which that was; then `!` if the
/// attempt was rolled back, `?` if its activation failed, `x` if its build failed, `~` if it has not ended. `r` is a
/// rollback by hand to that system.
pub fn state(attempts: &str) -> State {
    let mut state = State::default();
    for (word, id) in attempts.split_whitespace().zip(1..) {
        let [kind, system, boot] = [0, 1, 2].map(|n| word[n..=n].to_string());
        if kind == "r" {
            state.rollbacks.push(ManualRollback {
                after: id - 1,
                at: Timestamp::UNIX_EPOCH,
                generation: 1,
                system: system.into(),
                operation: Operation::Switch,
                boot: Some(boot),
                by: "root".to_string(),
            });
            continue;
        }
        let operation = match &*kind {
            "s" => Operation::Switch,
            "t" => Operation::Test,
            "b" => Operation::Boot,
            _ => panic!("{kind}"),
        };
        let mut attempt = Attempt::for_tests(id, operation);
        attempt.out = Some(system.into());
        attempt.boot = Some(boot);
        let before = state.attempts.last().and_then(|it| it.out.clone());
        attempt.before.system.clone_from(&before);
        attempt.before.boots = before;
        attempt.enter(Stage::Activating, Timestamp::UNIX_EPOCH);
        let error = String::new();
        let outcome = match word.get(3..) {
            Some("!") => Some(Outcome::RolledBack {
                error,
                blame: FaultOrigin::Commit,
            }),
            Some("?") => Some(Outcome::Failed {
                stage: Stage::Activating,
                error,
            }),
            Some("x") => Some(Outcome::Failed {
                stage: Stage::Building,
                error,
            }),
            Some("~") => None,
            _ => Some(Outcome::Done { generation: None }),
        };
        if let Some(outcome) = outcome {
            attempt.end(outcome, Timestamp::UNIX_EPOCH);
        }
        state.attempts.push(attempt);
    }
    state
}

/// The system that runs, that booted and that boots next, and the boot; `-` is not known.
pub fn systems(text: &str) -> Systems {
    let known = |n: usize| Some(text[n..=n].to_string()).filter(|it| it != "-");
    let since = |n| {
        let system = known(n)?.into();
        let since = None;
        Some(Since { system, since })
    };
    Systems {
        running: since(0),
        booted: since(1),
        boots_next: since(2),
        boot: known(3),
    }
}

#[test]
fn machine_has_drifted_if_it_has_another_system_than_comin_activated() {
    for (attempts, machine, wanted) in [
        // Nothing was activated yet, or nothing is known of the machine.
        ("", "aaa1", None),
        ("sb1x", "aaa1", None),
        ("sb1", "----", None),
        // As comin left it.
        ("sb1", "bab1", None),
        ("sb1", "bbb2", None),
        ("sb1 tc1", "cab1", None),
        ("sb1 bc1", "bac1", None),
        ("sb1 bc1", "ccc2", None),
        ("sb1 sc1!", "bab1", None),
        ("sb1 sc1?", "bab1", None),
        ("sb1 sc1?", "cac1", None),
        ("sb1 sc1x", "bab1", None),
        ("sb1 sc1 rb1", "bab1", None),
        ("sb1 sc1 rb1", "bbb2", None),
        ("sb1 sc1 rb1 sd2", "dbd2", None),
        // Below a root nothing boots.
        ("sb- ", "b-b-", None),
        // By hand: `nixos-rebuild switch`, `test` and `boot`.
        ("sb1", "zaz1", Some("activated z")),
        ("sb1", "zab1", Some("activated z")),
        ("sb1", "baz1", Some("boots_next z")),
        ("sb1", "zbb2", Some("activated z")),
        ("tb1", "zaa1", Some("activated z")),
        ("sb1 sc1 rb1", "cac1", Some("activated c")),
        ("sb1 sc1x", "zab1", Some("activated z")),
        ("sb1 sc1?", "zab1", Some("activated z")),
        ("sb1 sc1!", "cac1", Some("activated c")),
        ("sb- ", "z-b-", Some("activated z")),
        // Another one was chosen in the boot menu, or the boot fell back, or what was built by hand booted.
        ("sb1", "aab2", Some("booted a")),
        ("sb1", "zzz2", Some("booted z")),
        ("bb1", "aab2", Some("booted a")),
        ("sb1 sc1 rb1", "ccb2", Some("booted c")),
        // Somebody went back to the right one.
        ("sb1", "bab2", None),
        // A reboot ends a test.
        ("sb1 tc1", "bbb2", None),
        ("tc1", "aaa2", None),
        ("sb1 tc1", "cbb2", None),
        ("sb1 tc1 bd1", "ddd2", None),
        ("sb1 tc1", "aab2", Some("booted a")),
        // In the middle of an activation nobody knows.
        ("sb1 sc1~", "zac1", None),
    ] {
        let drift = Drift::of(&state(attempts), &systems(machine));
        let drift = drift.map(|drift| format!("{} {}", drift.kind, drift.out.display()));
        assert_eq!(drift.as_deref(), wanted, "{attempts}: {machine}");
    }
}

#[test]
fn another_system_booted_than_was_deployed() {
    for (attempts, machine, is_another) in [
        ("sb1", "aab2", true),
        ("sb1 tc1", "aab2", true),
        // Not booted since, or nobody knows.
        ("sb1", "aab1", false),
        ("sb1", "aab-", false),
        // As it should be.
        ("sb1", "bbb2", false),
        // Rolled back by hand, or rebuilt.
        ("sb1", "aaa2", false),
        ("sb1", "aa-2", false),
        // Nothing deployed, nothing booted.
        ("", "aab2", false),
        ("tb1", "aab2", false),
        ("sb1", "a-b2", false),
    ] {
        let systems = systems(machine);
        let booted = systems.booted_instead(&state(attempts));
        let wanted = is_another.then_some(Path::new("a"));
        assert_eq!(booted, wanted, "{attempts}: {machine}");
    }
}
