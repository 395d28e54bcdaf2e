//! The messages of the program: short sentences, and an entry on the page that explains them.

use std::fs;
use std::path::Path;

use super::sentences;

/// The maximum number of words in a sentence of a message.
const WORDS: usize = 25;

/// The code of the program, without comments and tests.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.is_file() && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(path).unwrap();
                let text = text.split("#[cfg(test)]\nmod").next().unwrap();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                let lines: Vec<&str> = text.lines().filter(is_code).collect();
                sources.push(lines.join("\n"));
            }
        }
    }
    sources
}

/// The string literals in code. A placeholder is one word.
fn strings(code: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut rest = code.replace("'\"'", "").replace("\\\"", "'");
    while let Some((_, after)) = rest.split_once('"') {
        let (string, after) = after.split_once('"').unwrap_or((after, ""));
        let mut text = String::new();
        for (n, part) in string.split(['{', '}']).enumerate() {
            text += if n % 2 == 1 { "X" } else { part };
        }
        strings.push(text);
        rest = after.to_string();
    }
    strings
}

#[test]
fn messages_have_short_sentences() {
    let mut long = Vec::new();
    let strings = sources()
        .iter()
        .flat_map(|it| strings(it))
        .collect::<Vec<_>>();
    // The others are code.
    for string in strings.iter().filter(|it| !it.contains("builtins.")) {
        for mut sentence in sentences(string) {
            // Schemes of URLs are a list.
            sentence.retain(|word| !word.ends_with([':', '/']));
            if sentence.len() > WORDS {
                long.push(sentence.join(" "));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Readers search the page for the message that they see.
#[test]
fn headings_of_troubleshooting_are_messages_of_the_program() {
    let sources = sources().concat();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("module/docs/troubleshooting.md")).unwrap();
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    assert!(headings.len() > 9, "{headings:?}");
    for heading in headings {
        let parts = heading.split('…').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            assert!(
                sources.contains(part),
                "no message has {part:?} of {heading:?}"
            );
        }
    }
}
