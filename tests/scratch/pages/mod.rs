//! Tests of the README and the pages: short sentences, working links, valid commands, and the output that comin
//! really prints.

mod messages;
mod pictures;
mod printed;
mod recipes;
mod typed;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use serde_json::Value;

use crate::support::Said;
use crate::world::World;

/// The maximum number of words in a sentence.
const WORDS: usize = 30;

/// The page with the help texts.
const COMMANDS: &str = "module/docs/commands.md";

/// A page.
struct Page {
    path: PathBuf,
    text: String,
}

/// The README, the changelog, and all pages.
fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_folder = |folder: &str| {
        let files = fs::read_dir(root.join(folder)).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let mut paths = in_folder("module");
    paths.extend(in_folder("module/docs"));
    paths.retain(|path| path.extension().is_some_and(|it| it == "md"));
    paths.extend(["README.md", "CHANGELOG.md", "tests/README.md"].map(|file| root.join(file)));
    paths.sort();
    paths
        .into_iter()
        .map(|path| Page {
            text: fs::read_to_string(&path).unwrap(),
            path,
        })
        .collect()
}

impl Page {
    fn name(&self) -> String {
        let root = env!("CARGO_MANIFEST_DIR");
        self.path.strip_prefix(root).unwrap().display().to_string()
    }

    /// The part below a heading, up to the next one.
    fn section(&self, heading: &str) -> Self {
        let mut lines = self.text.lines();
        let is_it =
            |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
        assert!(lines.any(is_it), "{} has no {heading:?}", self.name());
        let mut inside = false;
        let section: Vec<&str> = lines
            .take_while(|line| {
                inside ^= line.starts_with("```");
                inside || !line.starts_with('#')
            })
            .collect();
        Self {
            path: self.path.clone(),
            text: section.join("\n"),
        }
    }

    /// The lines outside of blocks of code.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut inside = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            inside ^= is_fence;
            !inside && !is_fence
        })
    }

    /// The lines of all blocks of code in a language.
    fn blocks(&self, wanted: &str) -> String {
        let mut lines = String::new();
        let mut block = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), block) {
                (Some(language), None) => block = Some(language),
                (Some(_), Some(_)) => {
                    block = None;
                    lines.push('\n');
                }
                (None, Some(language)) if language == wanted => {
                    lines += line.trim_start();
                    lines.push('\n');
                }
                (None, _) => {}
            }
        }
        lines
    }

    /// The code in sentences and tables.
    fn code(&self) -> Vec<&str> {
        self.prose()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect()
    }
}

/// The paragraphs in these lines, each in one line; a list has one for each item, and tables have none. A colon before a
/// block of code or a table does not end a sentence.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in lines.map(str::trim) {
        let is_one_of = |marks: &[&str]| marks.iter().any(|mark| line.starts_with(mark));
        let is_numbered = line
            .split_once(". ")
            .is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        let goes_on = paragraphs.last().is_some_and(|it| it.ends_with(": "));
        if line.is_empty() && !goes_on
            || is_numbered
            || is_one_of(&["#", "|", "<!--", "![", "* ", "-"])
        {
            paragraphs.push(String::new());
        }
        if let Some(paragraph) = paragraphs
            .last_mut()
            .filter(|_| !is_one_of(&["#", "|", "<!--", "!["]))
        {
            *paragraph += line;
            paragraph.push(' ');
        }
    }
    paragraphs
}

/// The comments in lines of code, each in one line.
fn comments(code: &str) -> Vec<String> {
    let comments = code.lines().filter_map(|line| line.split_once("# "));
    comments.map(|(_, comment)| comment.to_string()).collect()
}

/// The sentences of a paragraph, each as its words. Code is one word.
fn sentences(paragraph: &str) -> Vec<Vec<String>> {
    let mut sentences = Vec::new();
    let parts = paragraph.split('`').enumerate();
    let plain: String = parts
        .map(|(n, part)| if n % 2 == 1 { "code" } else { part })
        .collect();
    let mut sentence = Vec::new();
    for word in plain
        .split_whitespace()
        .filter(|word| word.contains(char::is_alphanumeric))
    {
        sentence.push(word.to_string());
        let end = word.trim_end_matches(|c: char| "*_)\"".contains(c));
        if end.ends_with(['.', '!', '?']) && end != "e.g." {
            sentences.push(std::mem::take(&mut sentence));
        }
    }
    sentences.push(sentence);
    sentences
}

#[test]
fn sentences_are_short() {
    let mut long = Vec::new();
    for page in pages() {
        let mut all = paragraphs(page.prose());
        if page.name() == COMMANDS {
            all.extend(paragraphs(page.blocks("text").lines()));
        }
        all.extend(
            ["sh", "nix", "yaml"]
                .map(|it| comments(&page.blocks(it)))
                .concat(),
        );
        for sentence in all.iter().flat_map(|it| sentences(it)) {
            if sentence.len() > WORDS {
                let words = sentence.len();
                long.push(format!("{} ({words}): {}", page.name(), sentence.join(" ")));
            }
        }
    }
    assert!(
        long.is_empty(),
        "{} long sentences:\n{}",
        long.len(),
        long.join("\n")
    );
}

/// The anchors that GitHub gives to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let page = Page {
        path: PathBuf::new(),
        text: text.to_string(),
    };
    for line in page.prose().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let is_kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let anchor: String = heading.chars().filter(is_kept).collect();
        let anchor = anchor.replace(' ', "-");
        let mut name = anchor.clone();
        let mut n = 0;
        while !anchors.insert(name) {
            n += 1;
            name = format!("{anchor}-{n}");
        }
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        for line in page.prose() {
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap();
                if link.contains("://") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let path = if file.is_empty() {
                    page.path.clone()
                } else {
                    page.path.parent().unwrap().join(file)
                };
                let is_there = path.exists()
                    && (anchor.is_empty()
                        || anchors(&fs::read_to_string(&path).unwrap()).contains(anchor));
                if !is_there {
                    broken.push(format!("{}: {link}", page.name()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The command lines of comin in lines of code.
fn commands<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    lines
        .map(|line| line.trim_start_matches("sudo "))
        .filter(|line| line.starts_with("comin "))
        // The rest belongs to the shell.
        .map(|line| {
            line.split([';', '|', '&', '>', '#', ')'])
                .next()
                .unwrap()
                .trim()
                .to_string()
        })
        .collect()
}

/// The words of a command line; quotes keep words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split(['"', '\'']).enumerate() {
        if n % 2 == 1 {
            words.push(part.to_string());
        } else {
            words.extend(part.split_whitespace().map(str::to_string));
        }
    }
    words
}

#[test]
fn commands_of_the_pages_are_understood() {
    let mut world = World::empty();
    world.follow("origin", "/none");
    let config = world.path("config.json");
    fs::copy(&config, world.path("home/config.json")).unwrap();
    let mut refused = Vec::new();
    for page in pages() {
        // This page shows commands of the Go comin.
        if page.name().ends_with("from-go-comin.md") {
            continue;
        }
        let shown = page.blocks("console");
        let shown = shown.lines().filter_map(|line| line.strip_prefix("$ "));
        let whole = commands(page.blocks("sh").lines().chain(shown));
        // A sentence may name a command without its arguments.
        let named = commands(page.code().into_iter().filter(|code| !code.contains('[')));
        let named = named.iter().map(|line| format!("{line} --help"));
        for line in whole.iter().cloned().chain(named) {
            let mut arguments: Vec<String> = words(&line).split_off(1);
            for argument in &mut arguments {
                *argument = match argument.as_str() {
                    "COMMIT" => "3f2a9c1e".to_string(),
                    "N" | "NUMBER" => "3".to_string(),
                    "FILE" => config.display().to_string(),
                    "REMOTE" => "origin".to_string(),
                    "TIME" => "8h".to_string(),
                    other => other.to_string(),
                };
            }
            // These commands do not end by themselves.
            if arguments
                .iter()
                .any(|it| ["watch", "--watch", "desktop"].contains(&it.as_str()))
            {
                arguments.push("--help".to_string());
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = world
                .command(&arguments)
                .current_dir(world.path("home"))
                .output();
            let said = Said::of(&output.unwrap());
            // 2 is wrong usage or a wrong configuration, and this configuration is right.
            if said.code == Some(2) {
                refused.push(format!("{}: {line}: {}", page.name(), said.err));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn readme_and_getting_started_have_the_same_flake() {
    let all = pages();
    let flake = |name: &str| {
        let page = all.iter().find(|it| it.name() == name).unwrap();
        let code = page.blocks("nix");
        code.trim_start().split("\n\n").next().unwrap().to_string()
    };
    let readme = flake("README.md");
    assert!(readme.contains("outputs = "), "{readme}");
    assert_eq!(readme, flake("module/docs/getting-started.md"));
}

#[test]
fn page_of_the_commands_has_their_help() {
    let world = World::empty();
    let help = |arguments: &[&str]| world.comin(arguments, 0).out;
    let all = help(&["--help"]);
    let listed = all.split("Options:").next().unwrap().lines();
    let mut text = String::new();
    for line in listed {
        let Some(command) = line.strip_prefix("  ") else {
            if let Some(group) = line.strip_suffix(':') {
                write!(text, "**{group}.**\n\n").unwrap();
            }
            continue;
        };
        let name = command.split(' ').next().unwrap();
        let help = help(&[name, "--help"]);
        // The rest is the same for every command.
        let own = help.split("  -h, --help").next().unwrap().trim_end();
        let own = own.trim_end_matches("Options:").trim_end();
        let own: Vec<&str> = own.lines().map(str::trim_end).collect();
        let own = own.join("\n");
        write!(text, "### `comin {name}`\n\n```text\n{own}\n```\n\n").unwrap();
    }
    assert_generated(COMMANDS, "commands", &text);
}

/// Compares the part of a page between two comments. `UPDATE_EXPECT=1` writes it.
fn assert_generated(page: &str, name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let page = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let page = format!("{before}{begin}{text}<!-- end -->{after}");
    expect_file![path].assert_eq(&page);
}

#[test]
fn page_of_the_metrics_has_the_panels_of_the_dashboard() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("module/grafana.json");
    let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut table = "| panel | shows |\n|---|---|\n".to_string();
    for panel in dashboard["panels"].as_array().unwrap() {
        let text = |key: &str| panel[key].as_str().unwrap();
        writeln!(table, "| {} | {} |", text("title"), text("description")).unwrap();
    }
    assert_generated("module/docs/metrics.md", "panels", &table);
}

#[test]
fn page_of_the_metrics_has_all_metrics_and_alerts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let (page, metrics, alerts) = (
        read("module/docs/metrics.md"),
        read("src/report/metrics.rs"),
        read("module/alerts.yml"),
    );
    let metrics = metrics.split('"').filter(|it| it.starts_with("comin_"));
    let alerts = alerts
        .lines()
        .filter_map(|line| line.split("alert: ").nth(1));
    for name in metrics.chain(alerts) {
        let has = |end: &str| page.contains(&format!("`{name}{end}"));
        assert!(has("`") || has("{"), "{name} is not there");
    }
}
