//! The tables: which outcome follows from which exit code, running system, lists, units, checks and try.

use super::*;

fn exit(text: &str) -> SwitchExit {
    match text.strip_prefix("signal ") {
        Some(signal) => SwitchExit::Signal(signal.parse().unwrap()),
        None => SwitchExit::Status(text.parse().unwrap()),
    }
}

fn operation(text: &str) -> Operation {
    match text {
        "switch" => Operation::Switch,
        "boot" => Operation::Boot,
        "test" => Operation::Test,
        _ => panic!("{text}"),
    }
}

/// What is found after the switch: `None` if nobody is to look.
fn checks(text: &str) -> Option<Checks> {
    let (new_failures, fault) = match text {
        "-" => return None,
        "well" => (Some(vec![]), None),
        "no systemd" => (None, None),
        "web failed" => (Some(vec!["web.service".to_string()]), None),
        "ill" => (Some(vec![]), Some(Fault::local("it is ill".to_string()))),
        "ill, web failed" => (
            Some(vec!["web.service".to_string()]),
            Some(Fault::local("it is ill".to_string())),
        ),
        _ => panic!("{text}"),
    };
    Some(Checks {
        new_failures,
        fault,
    })
}

fn word(next: &Next) -> String {
    match next {
        Next::Done => "done".to_string(),
        Next::Postpone(error) => format!("postpone: {error}"),
        Next::Skip(reason) => format!("skip: {reason}"),
        Next::Repeat => "repeat".to_string(),
        Next::Restore(error) => format!("restore: {error}"),
        Next::Keep(error) => format!("keep: {error}"),
        Next::RollBack(fault) => format!("roll back: {}", fault.error),
    }
}

#[test]
#[allow(clippy::too_many_lines)] // A table.
fn outcome_of_each_switch() {
    // `as before`: the running system is the one of before and no list of units is new; `new`: the new system runs;
    // `both`: it ran before already; `half`: neither. The words of `next` have to be in this order.
    let table = [
        // The switch did what it had to do.
        ("0", "switch", "new", "well", "done"),
        ("0", "test", "new", "well", "done"),
        ("0", "switch", "both", "well", "done"),
        ("0", "boot", "as before", "-", "done"),
        ("0", "switch", "new", "no systemd", "done"),
        ("0", "switch", "new", "ill", "roll back: it is ill"),
        ("0", "test", "new", "ill", "roll back: it is ill"),
        (
            "0",
            "switch",
            "new",
            "web failed",
            "keep: units failed: web.service",
        ),
        // Units failed: only those that had not failed before count.
        ("4", "switch", "new", "well", "done"),
        (
            "4",
            "switch",
            "new",
            "web failed",
            "keep: status 4 units failed: web.service",
        ),
        (
            "4",
            "switch",
            "new",
            "ill, web failed",
            "roll back: it is ill",
        ),
        (
            "4",
            "switch",
            "new",
            "no systemd",
            "keep: status 4 units failed",
        ),
        // A reboot is needed: nothing was activated, as `switch` it boots next.
        ("100", "switch", "as before", "well", "done"),
        ("100", "switch", "as before", "ill", "roll back: it is ill"),
        ("100", "test", "as before", "-", "skip: only a reboot"),
        // Nothing was activated.
        (
            "1",
            "switch",
            "as before",
            "-",
            "restore: status 1 nothing was activated",
        ),
        (
            "1",
            "switch",
            "both",
            "-",
            "restore: status 1 nothing was activated",
        ),
        (
            "1",
            "test",
            "as before",
            "-",
            "restore: status 1 nothing was activated",
        ),
        (
            "1",
            "boot",
            "as before",
            "-",
            "restore: status 1 nothing was activated",
        ),
        (
            "1",
            "boot",
            "half",
            "-",
            "restore: status 1 nothing was activated",
        ),
        (
            "2",
            "switch",
            "as before",
            "-",
            "restore: status 2 nothing was activated",
        ),
        (
            "28",
            "switch",
            "as before",
            "-",
            "restore: status 28 nothing was activated",
        ),
        (
            "3",
            "boot",
            "as before",
            "-",
            "restore: status 3 nothing was activated",
        ),
        ("11", "switch", "as before", "-", "postpone: another"),
        ("11", "boot", "as before", "-", "postpone: another"),
        // The same codes, and the new system runs.
        ("1", "switch", "new", "well", "keep: status 1 stays active"),
        (
            "1",
            "switch",
            "new",
            "web failed",
            "keep: status 1 stays active",
        ),
        ("1", "switch", "new", "ill", "roll back: it is ill"),
        ("1", "test", "new", "ill", "roll back: it is ill"),
        (
            "2",
            "switch",
            "new",
            "well",
            "keep: activation script failed stays active",
        ),
        ("2", "switch", "new", "ill", "roll back: it is ill"),
        (
            "11",
            "switch",
            "new",
            "well",
            "keep: status 11 stays active",
        ),
        ("11", "switch", "new", "ill", "roll back: it is ill"),
        ("28", "test", "new", "well", "keep: status 28 stays active"),
        // Half-way.
        ("1", "switch", "half", "-", "roll back: status 1 half-way"),
        ("2", "test", "half", "-", "roll back: status 2 half-way"),
        ("11", "switch", "half", "-", "roll back: status 11 half-way"),
        // It died: wherever that was, the next run recovers, but not for ever.
        ("101", "switch", "half", "-", "repeat"),
        ("101", "switch", "new", "-", "repeat"),
        ("101", "boot", "as before", "-", "repeat"),
        ("signal 9", "switch", "as before", "-", "repeat"),
        ("signal 9", "test", "new", "-", "repeat"),
        ("last 101", "switch", "new", "-", "roll back: status 101"),
        (
            "last 101",
            "boot",
            "as before",
            "-",
            "roll back: status 101",
        ),
        ("last signal 9", "test", "half", "-", "roll back: signal 9"),
        // The last try of anything else is as good as the first one.
        ("last 0", "switch", "new", "well", "done"),
        ("last 1", "switch", "as before", "-", "restore: status 1"),
        ("last 11", "switch", "as before", "-", "postpone: another"),
    ];
    for row in table {
        let (code, asked, machine, found, wanted) = row;
        let last = code.strip_prefix("last ");
        let switched = Switched {
            exit: exit(last.unwrap_or(code)),
            operation: operation(asked),
            is_unchanged: matches!(machine, "as before" | "both"),
            runs_new: matches!(machine, "new" | "both"),
            is_last_try: last.is_some(),
        };
        let mut is_checked = false;
        let next = of_activation(&switched, || {
            is_checked = true;
            Ok(checks(found).unwrap_or_else(|| panic!("{row:?}: nobody is to look")))
        });
        let next = word(&next.unwrap());
        let (kind, words) = wanted.split_once(": ").unwrap_or((wanted, ""));
        assert_eq!(next.split(": ").next(), Some(kind), "{row:?}: {next}");
        let says = words.split(' ').try_fold(&next[..], |rest, word| {
            rest.find(word).map(|at| &rest[at + word.len()..])
        });
        assert!(says.is_some(), "{row:?}: {next}");
        assert_eq!(is_checked, found != "-", "{row:?}");
    }
}

#[test]
fn checks_that_cannot_be_made_are_an_error() {
    let switched = Switched {
        exit: exit("0"),
        operation: Operation::Switch,
        is_unchanged: false,
        runs_new: true,
        is_last_try: false,
    };
    assert!(of_activation(&switched, || anyhow::bail!("the disk is full")).is_err());
}

#[test]
fn outcome_of_each_interruption() {
    let table = [
        // Stage, fault, exit, the machine has booted it, last try.
        (Stage::Activating, "-", "-", false, false, "repeat"),
        (Stage::Activating, "-", "-", true, false, "conclude 0"),
        (Stage::Activating, "-", "-", true, true, "conclude 0"),
        (
            Stage::Activating,
            "-",
            "-",
            false,
            true,
            "roll back: while activating too often",
        ),
        (Stage::Checking, "-", "-", false, false, "repeat"),
        (
            Stage::Checking,
            "-",
            "-",
            false,
            true,
            "roll back: while checking too often",
        ),
        (Stage::Activating, "-", "1", false, true, "conclude 1"),
        (Stage::Checking, "-", "4", false, false, "conclude 4"),
        (Stage::Checking, "-", "0", true, false, "conclude 0"),
        (
            Stage::Activating,
            "-",
            "signal 9",
            false,
            false,
            "conclude 9",
        ),
        // Once it is being rolled back, nothing else counts.
        (
            Stage::RollingBack,
            "it is ill",
            "-",
            false,
            false,
            "roll back: it is ill",
        ),
        (
            Stage::RollingBack,
            "it is ill",
            "-",
            true,
            true,
            "roll back: it is ill",
        ),
        (
            Stage::RollingBack,
            "it is ill",
            "0",
            true,
            false,
            "roll back: it is ill",
        ),
    ];
    for row in table {
        let (stage, fault, ended, has_booted_it, is_last_try, wanted) = row;
        let recovery = of_interrupted(Interrupted {
            stage,
            fault: (fault != "-").then(|| fault.to_string()),
            exit: (ended != "-").then(|| exit(ended)),
            has_booted_it,
            is_last_try,
        });
        let found = match recovery {
            Recovery::Repeat => "repeat".to_string(),
            Recovery::Conclude(SwitchExit::Status(code) | SwitchExit::Signal(code)) => {
                format!("conclude {code}")
            }
            Recovery::RollBack(fault) => {
                format!(
                    "roll back: {}",
                    fault.error.replace("it was interrupted ", "")
                )
            }
        };
        assert_eq!(found, wanted, "{row:?}");
    }
}
