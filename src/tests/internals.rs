//! Keeps `module/docs/internals.md` true: its pictures and tables are made from the code.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use expect_test::expect_file;
use jiff::{SignedDuration, Timestamp};

use super::layers::{imports, layer, layers, sources};
use crate::model::{
    outcome::words, Attempt, Backoff, FaultOrigin, NextTry, Operation, Outcome, Residue, Stage,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/module/docs/internals.md");

#[test]
fn page_about_the_internals_says_what_the_code_does() {
    let Ok(mut page) = fs::read_to_string(PAGE) else {
        // The build of the package has the sources alone.
        let line = "skipped: the page about the internals, which is not here\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    for (name, text) in [
        ("layers", picture_of_layers()),
        ("states", picture_of_states(&page)),
        ("files", table_of_files()),
        ("outcomes", table_of_outcomes()),
        (
            "switches",
            verbatim(include_str!("../model/after_switch/switches.txt")),
        ),
        (
            "interruptions",
            verbatim(include_str!("../model/after_switch/interruptions.txt")),
        ),
    ] {
        page = with_generated(&page, name, &text);
    }
    // UPDATE_EXPECT=1 writes it.
    expect_file![PAGE].assert_eq(&page);
}

/// A page with this text as its generated part of that name.
pub fn with_generated(page: &str, name: &str, text: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&begin).expect(name);
    let (_, after) = rest.split_once("<!-- end -->").expect(name);
    format!("{before}{begin}{text}<!-- end -->{after}")
}

/// Whoever reads of a function finds it.
#[test]
fn functions_that_the_page_names_are_in_the_files_that_it_names() {
    let page = fs::read_to_string(PAGE).unwrap_or_default();
    for line in page.lines() {
        let links = line.split("](../../src/").skip(1);
        let files = links.map(|link| link.split(')').next().unwrap());
        let sources: String = files
            .map(|file| {
                fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file))
                    .expect(file)
            })
            .collect();
        let names = line.split('`').filter_map(|word| word.strip_suffix("()"));
        for name in names {
            assert!(
                ["(", "<"].map(|next| sources.contains(&format!("fn {name}{next}"))) != [false; 2],
                "{name} is not there: {line}"
            );
        }
    }
}

fn verbatim(text: &str) -> String {
    format!("```text\n{text}```\n")
}

/// The folders from the top down: what each is for, and what it imports.
fn picture_of_layers() -> String {
    let sources = sources();
    let imports = imports(&sources);
    let mut picture = String::new();
    for together in layers() {
        if !picture.is_empty() {
            picture += "   ↓\n";
        }
        for name in together {
            let file = if name == "main" {
                "main.rs".to_string()
            } else {
                format!("{name}/mod.rs")
            };
            let purpose = sources[&file]
                .lines()
                .next()
                .unwrap()
                .trim_start_matches("//! ");
            let imports = imports.iter().filter(|import| layer(import.file) == name);
            let below: BTreeSet<&str> = imports.map(|import| layer(import.target)).collect();
            let names = layers()
                .concat()
                .into_iter()
                .filter(|other| *other != name && below.contains(other));
            let names: Vec<&str> = names.collect();
            let from = if names.is_empty() {
                "imports no other".to_string()
            } else {
                format!("imports {}", names.join(", "))
            };
            writeln!(picture, "{name:10} {purpose}\n{:10} {from}", "").unwrap();
        }
    }
    verbatim(&picture)
}

/// The transitions that the page has in a table, as GitHub draws them.
fn picture_of_states(page: &str) -> String {
    let mut picture = "```mermaid\nstateDiagram-v2\n".to_string();
    for line in page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("../src/"))
    {
        let cells: Vec<&str> = line
            .split('|')
            .map(|cell| cell.trim_matches([' ', '`']))
            .collect();
        let (from, to, why) = (cells[1], cells[2], cells[3]);
        for state in [from, to].into_iter().filter(|state| *state != "[*]") {
            let known = concat!(
                include_str!("../model/stage.rs"),
                include_str!("../model/outcome.rs")
            );
            let is_known =
                ["Self", "Outcome"].map(|kind| known.contains(&format!("{kind}::{state}")));
            assert!(
                is_known.contains(&true),
                "{state} is neither a stage nor an outcome"
            );
        }
        writeln!(picture, "    {from} --> {to}: {why}").unwrap();
    }
    picture + "```\n"
}

/// The files that `config/paths.rs` names with their writer.
fn table_of_files() -> String {
    let mut table = "| file | holds | written by |\n|---|---|---|\n".to_string();
    for entry in include_str!("../config/paths.rs").split("\n\n") {
        let lines = entry.lines().map(str::trim);
        let words: Vec<&str> = lines.filter_map(|line| line.strip_prefix("/// ")).collect();
        let words = words.join(" ");
        let Some((holds, writer)) = words.split_once(" Writer: ") else {
            continue;
        };
        let name = entry.split('"').nth(1).unwrap();
        let folder = if entry.contains(": in_state(") {
            "/var/lib/comin"
        } else {
            ""
        };
        writeln!(table, "| `{folder}/{name}` | {holds} | {writer} |").unwrap();
    }
    table
}

/// What each end of an attempt means for what comes next.
fn table_of_outcomes() -> String {
    let error = String::new;
    let remotes = vec![serde_json::from_str("\"origin\"").unwrap()];
    let failed = |stage| Outcome::Failed {
        stage,
        error: error(),
    };
    let interrupted = |stage| Outcome::Interrupted { stage };
    let preempted = |stage| Outcome::Preempted { stage };
    let rolled_back = |blame| Outcome::RolledBack {
        error: error(),
        blame,
    };
    let mut table = "| end | status | tried again | main is accepted | the machine is |\n|---|---|---|---|---|\n".to_string();
    for (name, outcome) in [
        ("`Done`", Outcome::Done { generation: None }),
        ("`Skipped`", Outcome::Skipped { reason: error() }),
        ("`Preempted` while building", preempted(Stage::Building)),
        ("`Postponed`", Outcome::Postponed { error: error() }),
        ("`Failed` while evaluating", failed(Stage::Evaluating)),
        ("`Failed` while building", failed(Stage::Building)),
        ("`Failed` while activating", failed(Stage::Activating)),
        ("`Failed` while rolling back", failed(Stage::RollingBack)),
        ("`Interrupted` while building", interrupted(Stage::Building)),
        (
            "`Interrupted` while activating",
            interrupted(Stage::Activating),
        ),
        (
            "`RolledBack`, the commit's fault",
            rolled_back(FaultOrigin::Commit),
        ),
        (
            "`RolledBack`, an outage",
            rolled_back(FaultOrigin::Outage(remotes)),
        ),
    ] {
        let mut attempt = Attempt::for_tests(1, Operation::Switch);
        attempt.end(outcome.clone(), Timestamp::UNIX_EPOCH);
        let first = again(&attempt);
        while !attempt.retries_exhausted() {
            attempt.interruptions += 1;
        }
        let last = again(&attempt);
        let again = if first == last {
            first.to_string()
        } else {
            format!(
                "{first}; after {} in a row: {last}",
                attempt.interruptions + 1
            )
        };
        let accepted = if attempt.reached_activation() {
            "yes"
        } else {
            "no"
        };
        let left = match Residue::by(&attempt) {
            Residue::Clean => "whole",
            Residue::FailedActivation => "activated, with a fault",
            Residue::Unfinished(_) => "half changed",
        };
        writeln!(
            table,
            "| {name} | {} | {again} | {accepted} | {left} |",
            words(&outcome).0.words()
        )
        .unwrap();
    }
    table
}

fn again(attempt: &Attempt) -> &'static str {
    let hour = SignedDuration::from_hours(1);
    let backoff = Backoff {
        first: hour,
        most: hour,
    };
    match attempt.again(backoff) {
        NextTry::None => "not needed",
        NextTry::OnNewCommit => "after a push or `comin retry`",
        NextTry::At(wait) if wait.until == Timestamp::UNIX_EPOCH => "at once",
        NextTry::At(_) => "after a wait",
        NextTry::WhenReachable(_) => "when the remote is back",
    }
}
