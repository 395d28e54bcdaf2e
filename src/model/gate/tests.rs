//! What gates answer, and what becomes of the commit.

use anyhow::bail;
use jiff::tz::TimeZone;

use super::*;
use crate::model::facts::{Facts, PendingConfirmation};
use crate::model::select::tests::{facts, Diagram};
use crate::model::{
    confirmation::Approval, decision::Decision, quarantine::Quarantine, select::decide,
};

/// What each gate answers before each stage, to main and to a testing branch: `go`; `wait`, which is asked again in a
/// minute; `opens`, which is asked again when the window opens; `held`; `fails`, because nobody knows.
const ANSWERS: &str = "
gate             | build         | deploy        | reboot
                 | main  testing | main  testing | main  testing
build: exit 0    | go    go      | go    go      | go    go
build: exit 75   | wait  wait    | go    go      | go    go
build: exit 1    | held  held    | go    go      | go    go
build: exit 137  | held  held    | go    go      | go    go
build: none      | wait  wait    | go    go      | go    go
deploy: exit 0   | go    go      | go    go      | go    go
deploy: exit 75  | go    go      | wait  wait    | go    go
deploy: exit 1   | go    go      | held  held    | go    go
deploy: exit 137 | go    go      | held  held    | go    go
deploy: none     | go    go      | wait  wait    | go    go
reboot: exit 0   | go    go      | go    go      | go    go
reboot: exit 75  | go    go      | go    go      | wait  wait
reboot: exit 1   | go    go      | go    go      | held  held
reboot: exit 137 | go    go      | go    go      | held  held
reboot: none     | go    go      | go    go      | wait  wait
window: open     | go    go      | go    go      | go    go
window: closed   | go    go      | opens go      | go    go
space: enough    | go    go      | go    go      | go    go
space: little    | wait  wait    | go    go      | go    go
space: unknown   | fails fails   | go    go      | go    go
";

/// The gate of a row, which is the only one.
fn only(kind: &str, answer: &str) -> Gates {
    let window = |lower| vec![Window::new(lower, "22:00", &[]).unwrap()];
    let mut gates = Gates {
        commands: Vec::new(),
        windows: Vec::new(),
        min_free: 0,
    };
    match (kind, answer) {
        ("window", "open") => gates.windows = window("11:00"),
        ("window", "closed") => gates.windows = window("13:00"),
        ("space", _) => gates.min_free = 100,
        (stage, answer) => gates.commands.push(Gate {
            name: "it".to_string(),
            before: serde_json::from_str(&format!("{stage:?}")).unwrap(),
            command: answer.trim_start_matches("exit ").to_string(),
            timeout: Duration::ZERO,
        }),
    }
    gates
}

/// What is decided about the commit that has come to a gate before a step.
fn decided(
    step: ConfirmStep,
    testing: bool,
    closed: Option<&ClosedGate>,
    now: Timestamp,
) -> Decision {
    let (remotes, history) = if testing {
        ("o:A/B", "A-B")
    } else {
        ("o:A/-", "A")
    };
    let diagram = Diagram::of(history);
    let facts = Facts {
        now,
        ..facts("A", remotes)
    };
    let target = decide(&facts, &diagram).selected.unwrap();
    assert_eq!(target.testing, testing);
    let held = closed.filter(|it| it.again.is_none());
    let held = held.map(|it| Quarantine::of(&target, &facts.remotes, it.to_string(), now));
    let facts = Facts {
        awaited: Some(PendingConfirmation {
            commit: target.commit,
            operation: target.operation,
            step,
            consent: Approval::Given,
        }),
        gate: closed.filter(|it| it.again.is_some()).cloned(),
        quarantine: held.into_iter().map(Quarantine::by_gate).collect(),
        ..facts
    };
    decide(&facts, &diagram)
}

#[test]
fn every_answer_before_every_stage_of_every_branch() {
    let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
    let zoned = now.to_zoned(TimeZone::UTC);
    for row in ANSWERS.lines().skip(3) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (kind, answer) = cells[0].split_once(": ").unwrap();
        let gates = only(kind, answer);
        for (before, wanted) in Before::ALL.into_iter().zip(&cells[1..]) {
            let wanted: Vec<&str> = wanted.split_whitespace().collect();
            for (testing, wanted) in [false, true].into_iter().zip(wanted) {
                let case = format!("{row} before {before}, testing: {testing}");
                let free = || match answer {
                    "enough" => Ok(100),
                    "little" => Ok(99),
                    _ => bail!("nobody knows"),
                };
                let ask = |gate: &Gate| GateAnswer::of(gate.command.parse().ok(), "why");
                let closed = first_closed(&gates, before, testing, &zoned, free, ask);
                let told = match &closed {
                    Err(_) => "fails",
                    Ok(None) => "go",
                    Ok(Some(ClosedGate { again: None, .. })) => "held",
                    Ok(Some(ClosedGate {
                        again: Some(it), ..
                    })) if it.until == now + PAUSE => "wait",
                    Ok(Some(_)) => "opens",
                };
                assert_eq!(told, wanted, "{case}");
                let step = [ConfirmStep::Build, ConfirmStep::Deploy]
                    .into_iter()
                    .find(|it| Before::from(*it) == before);
                let (Some(step), Ok(closed)) = (step, closed) else {
                    continue;
                };
                let decision = decided(step, testing, closed.as_ref(), now);
                let (action, again) = match wanted {
                    "go" => ("deploy", None),
                    "held" => ("held", None),
                    _ => ("await_gate", closed.and_then(|it| it.again)),
                };
                assert_eq!(decision.action.name(), action, "{case}");
                assert_eq!(decision.action.again(), again.map(|it| it.until), "{case}");
            }
        }
    }
}

#[test]
fn the_first_closed_gate_decides() {
    let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
    let zoned = now.to_zoned(TimeZone::UTC);
    // The gates, as `NAME:STAGE:EXIT CODE`, the window, and the free bytes of 100; the stage, whether it is of a
    // testing branch; the gates that are asked, and the one that is closed: `~` is asked again, `!` holds.
    #[rustfmt::skip]
    let table = [
        ("", "build", false, "", ""),
        ("a:build:0 b:build:0", "build", false, "a b", ""),
        ("a:build:75 b:build:0", "build", false, "a", "~a"),
        ("a:build:0 b:build:1", "build", false, "a b", "!b"),
        ("a:build:75 b:build:1", "build", false, "a", "~a"),
        ("a:build:1 b:build:75", "build", true, "a", "!a"),
        // Each stage has its own.
        ("a:build:1 b:deploy:75 c:reboot:1", "deploy", false, "b", "~b"),
        ("a:build:1 b:deploy:75 c:reboot:1", "reboot", false, "c", "!c"),
        ("a:build:1 b:deploy:75 c:reboot:0", "reboot", true, "c", ""),
        // A window is for activations of main.
        ("window a:deploy:0", "deploy", false, "", "~deploy_window"),
        ("window a:deploy:0", "deploy", true, "a", ""),
        ("window a:deploy:1", "deploy", true, "a", "!a"),
        // Space is for builds, of any branch.
        ("free:99 a:build:0", "build", false, "a", ""),
        ("free:100 a:build:0", "build", false, "a", ""),
        ("free:101 a:build:0", "build", false, "", "~min_free"),
        ("window free:101 a:deploy:0", "deploy", false, "", "~deploy_window"),
    ];
    for (written, before, testing, asked, wanted) in table {
        let before: Before = serde_json::from_str(&format!("{before:?}")).unwrap();
        let mut gates = Gates {
            commands: Vec::new(),
            windows: Vec::new(),
            min_free: 0,
        };
        for word in written.split_whitespace() {
            let parts: Vec<&str> = word.split(':').collect();
            match parts[..] {
                ["window"] => {
                    gates.windows = vec![Window::new("22:00", "04:00", &[]).unwrap()];
                }
                ["free", bytes] => gates.min_free = bytes.parse().unwrap(),
                [name, stage, code] => gates.commands.push(Gate {
                    name: name.to_string(),
                    before: serde_json::from_str(&format!("{stage:?}")).unwrap(),
                    command: code.to_string(),
                    timeout: Duration::ZERO,
                }),
                _ => panic!("{word}"),
            }
        }
        let mut names = Vec::new();
        let ask = |gate: &Gate| {
            names.push(gate.name.clone());
            GateAnswer::of(gate.command.parse().ok(), "why\n")
        };
        let closed = first_closed(&gates, before, testing, &zoned, || Ok(100), ask).unwrap();
        let told = closed.as_ref().map_or(String::new(), |closed| {
            let mark = closed.again.map_or('!', |_| '~');
            format!("{mark}{}", closed.gate)
        });
        let case = format!("{written} before {before:?}, testing: {testing}");
        assert_eq!(
            (names.join(" "), &*told),
            (asked.to_string(), wanted),
            "{case}"
        );
        if let Some(again) = closed.and_then(|closed| closed.again) {
            let minutes = if wanted == "~deploy_window" { 600 } else { 1 };
            let until = now + SignedDuration::from_mins(minutes);
            assert_eq!(again.until, until, "{case}");
        }
    }
}

#[test]
fn a_reason_is_one_short_line_that_can_be_shown() {
    let waits = |said: &str| match GateAnswer::of(Some(75), said) {
        GateAnswer::Wait(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(" on battery\n"), "on battery");
    assert_eq!(waits("\x1b[2J\u{202e}x"), "\u{fffd}[2J\u{fffd}x");
    assert_eq!(waits(" \n"), "it gave no reason");
    assert_eq!(waits(&"é".repeat(5000)).chars().count(), MAX_REASON + 1);
}
