//! Every transition of an attempt that a test has seen is in the table of the page about the internals.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/module/docs/internals.md");

/// Checks the attempts of a `state.json`.
pub fn check(state: &[u8]) {
    // Some tests damage it.
    let state: Value = serde_json::from_slice(state).unwrap_or_default();
    let known = known();
    let attempts = state["attempts"].as_array().into_iter().flatten();
    // Some tests make one up, without any stage.
    for attempt in attempts.filter(|it| it["stages"].is_array()) {
        let path = path(attempt);
        for pair in path.windows(2).filter(|pair| pair[0] != pair[1]) {
            let pair = (pair[0].clone(), pair[1].clone());
            assert!(known.contains(&pair), "{pair:?} is not in {PAGE}: {path:?}");
        }
    }
}

/// From which state to which one, as the table has it.
fn known() -> BTreeSet<(String, String)> {
    let page = fs::read_to_string(PAGE).unwrap();
    let lines = page.lines().filter(|line| line.contains("../src/"));
    let rows = lines.filter_map(|line| {
        let (from, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
        let (to, _) = rest.split_once("` | ")?;
        Some((from.to_string(), to.to_string()))
    });
    rows.collect()
}

/// The states that an attempt was in.
fn path(attempt: &Value) -> Vec<String> {
    let list = |key: &str| attempt[key].as_array().cloned().unwrap_or_default();
    let stages = list("stages").into_iter();
    let mut path: Vec<String> = stages.map(|it| camel(&it["stage"])).collect();
    for wait in list("waits") {
        let index = usize::try_from(wait["index"].as_u64().unwrap()).unwrap();
        path.insert(index, "Waiting".to_string());
    }
    path.insert(0, "[*]".to_string());
    let status = &attempt["status"];
    path.extend((status != "running" && status != "waiting").then(|| camel(status)));
    path
}

/// As in `RollingBack`.
fn camel(name: &Value) -> String {
    let words = name.as_str().unwrap_or_default().split('_');
    let words = words.map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect()
}
