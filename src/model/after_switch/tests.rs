//! The cases of `switches.txt` and `interruptions.txt`.

use super::*;

const SWITCHES: &str = include_str!("switches.txt");
const INTERRUPTIONS: &str = include_str!("interruptions.txt");

/// The cells of each case; the first line of a table names its columns.
fn cases<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    let lines = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.skip(1).map(|line| {
        let cells = line.split('|').map(str::trim).collect::<Vec<_>>();
        cells
            .try_into()
            .unwrap_or_else(|_| panic!("{line}: not {N} cells"))
    })
}

/// Whether it is the last try, and the rest of the cell.
fn last_try(text: &str) -> (bool, &str) {
    match text.strip_prefix("last ") {
        Some(text) => (true, text),
        None => (false, text),
    }
}

fn exit(text: &str) -> SwitchExit {
    match text.strip_prefix("signal ") {
        Some(signal) => SwitchExit::Signal(signal.parse().unwrap()),
        None if text == "lost" => SwitchExit::Lost,
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
fn outcome_of_each_switch() {
    for case in cases(SWITCHES) {
        let [tried, asked, machine, found, wanted] = case;
        let (retries_exhausted, code) = last_try(tried);
        let switched = Switched {
            exit: exit(code),
            operation: operation(asked),
            is_unchanged: matches!(machine, "as before" | "both"),
            runs_new: matches!(machine, "new" | "both"),
            retries_exhausted,
        };
        let mut is_checked = false;
        let next = of_activation(&switched, || {
            is_checked = true;
            Ok(checks(found).unwrap_or_else(|| panic!("{case:?}: nobody is to look")))
        });
        let next = word(&next.unwrap());
        let (kind, words) = wanted.split_once(": ").unwrap_or((wanted, ""));
        assert_eq!(next.split(": ").next(), Some(kind), "{case:?}: {next}");
        let says = words.split(' ').try_fold(&next[..], |rest, word| {
            rest.find(word).map(|at| &rest[at + word.len()..])
        });
        assert!(says.is_some(), "{case:?}: {next}");
        assert_eq!(is_checked, found != "-", "{case:?}");
    }
}

#[test]
fn checks_that_cannot_be_made_are_an_error() {
    let switched = Switched {
        exit: exit("0"),
        operation: Operation::Switch,
        is_unchanged: false,
        runs_new: true,
        retries_exhausted: false,
    };
    assert!(of_activation(&switched, || anyhow::bail!("the disk is full")).is_err());
}

#[test]
fn outcome_of_each_interruption() {
    for case in cases(INTERRUPTIONS) {
        let [tried, fault, ended, machine, wanted] = case;
        let (retries_exhausted, stage) = last_try(tried);
        let stages = [Stage::Activating, Stage::Checking, Stage::RollingBack];
        let recovery = of_interrupted(Interrupted {
            stage: stages
                .into_iter()
                .find(|known| known.to_string() == stage)
                .unwrap(),
            fault: (fault != "-").then(|| fault.to_string()),
            exit: (ended != "-").then(|| exit(ended)),
            has_booted_it: machine == "booted",
            retries_exhausted,
        });
        let found = match recovery {
            Recovery::Repeat => "repeat".to_string(),
            Recovery::Conclude(SwitchExit::Status(code) | SwitchExit::Signal(code)) => {
                format!("conclude {code}")
            }
            Recovery::Conclude(SwitchExit::Lost) => "conclude lost".to_string(),
            Recovery::RollBack(fault) => {
                format!(
                    "roll back: {}",
                    fault.error.replace("it was interrupted ", "")
                )
            }
        };
        assert_eq!(found, wanted, "{case:?}");
    }
}
