//! What Nix reports while it works: its lines of JSON (`--log-format internal-json`), understood without a process.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use anyhow::Error;
use derive_more::Display;
use jiff::{Timestamp, Unit};
use serde::Deserialize;
use serde_json::Value;

use crate::model::{store_path, Commit};
use crate::sys::progress::{self, JobProgress};
use crate::sys::text::{printable, shortened};
use crate::sys::{command::Listener, diagnosis::Cause};

/// More derivations than anybody builds at a time.
const MAX_BUILDS: usize = 64;
/// How many lines of the log of a derivation are kept.
const LOG_LINES: usize = 25;
/// How much of a line is kept, and how much of an error is a sentence, in characters.
const LINE_CHARS: usize = 300;
const ERROR_CHARS: usize = 2000;
/// How many bytes of lines a failure keeps.
const FAILURE_BYTES: usize = 4096;

/// The levels of messages: errors, and what Nix says without being asked for more.
const ERROR: u64 = 0;
const INFO: u64 = 3;

/// The numbers of activities.
const COPY_PATHS: u64 = 103;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
/// The numbers of results.
const BUILD_LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;
const POST_BUILD_LOG_LINE: u64 = 107;

/// A line. Whatever else there is in it is ignored, and so is what a later Nix adds.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
enum LogLine {
    Msg {
        level: u64,
        msg: String,
        /// The error alone, without what Nix did when it came to it.
        raw_msg: Option<String>,
        file: Option<String>,
        line: Option<u64>,
        column: Option<u64>,
    },
    Start {
        id: u64,
        level: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        text: String,
        #[serde(default)]
        fields: Vec<Value>,
    },
    Result {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<Value>,
    },
    Stop {
        id: u64,
    },
    #[serde(other)]
    Other,
}

/// A derivation that is built, or was.
#[derive(Debug)]
struct Build {
    derivation: String,
    since: Timestamp,
    log: VecDeque<String>,
}

/// Listens to a Nix, and knows how far it is and why it failed.
#[derive(Debug, Default)]
pub struct NixLog {
    steps: JobProgress,
    /// The activities that count builds and downloads.
    counters: BTreeMap<u64, u64>,
    running: BTreeMap<u64, Build>,
    ended: VecDeque<Build>,
    error: Option<NixError>,
    /// The last line that is no JSON: Nix may fail before it writes JSON.
    last_line: String,
    /// The builds that end from now on were stopped.
    is_stopped: bool,
}

#[derive(Debug)]
struct NixError {
    /// The error itself, without the frames.
    text: String,
    /// Where in the configuration the error arose.
    frames: Vec<String>,
}

/// Why Nix failed.
#[derive(Debug, Clone, Display)]
#[display("{sentence}")]
pub struct Failure {
    sentence: String,
    /// The derivation that could not be built.
    pub derivation: Option<String>,
    /// The lines that matter: where in the configuration, or the end of the build's log.
    pub lines: Vec<String>,
}

impl std::error::Error for Failure {}

/// An error, and if it is a failure of Nix, with the paths of the repository as they are in there. `is_ours` is asked of
/// a path that may be one.
pub fn in_repository(error: Error, commit: &Commit, is_ours: impl Fn(&str) -> bool) -> Error {
    let shorten = |text: &String| without_source(text, commit.as_str(), &is_ours);
    changed(error, |failure| {
        failure.sentence = shorten(&failure.sentence);
        failure.lines = failure.lines.iter().map(shorten).collect();
    })
}

/// An error, and if it is a failure of Nix, with a sentence about what may help.
pub fn with_hint(error: Error, hint: &str) -> Error {
    changed(error, |failure| failure.sentence.extend(["\n", hint]))
}

fn changed(mut error: Error, change: impl FnOnce(&mut Failure)) -> Error {
    error.downcast_mut().map(change);
    error
}

impl Listener for NixLog {
    const IS_PATIENT: bool = true;

    fn hear(&mut self, line: &str) -> Vec<String> {
        let before = self.steps.clone();
        let told = self.understand(line);
        if self.steps != before {
            progress::report(&self.steps);
        }
        told
    }

    fn error(mut self, ended: String) -> Error {
        let error = self.error.take();
        let text = error.as_ref().map_or(&self.last_line, |error| &error.text);
        let derivation = text
            .split(['\'', '"'])
            .find(|word| is_derivation(word))
            .map(str::to_string);
        let mut builds = self.running.values().chain(&self.ended);
        let build = builds.find(|build| Some(&build.derivation) == derivation.as_ref());
        let log: Vec<String> =
            build.map_or(Vec::new(), |build| build.log.iter().cloned().collect());
        let said = [text, &ended].into_iter();
        let cause = said
            .chain(log.iter().rev().take(5))
            .find_map(|line| Cause::of(line))
            .map(|cause| cause.to_string());
        let text = Some(shortened(text, ERROR_CHARS)).filter(|text| !text.is_empty());
        let parts = [Some(&*ended), cause.as_deref(), text.as_deref()];
        let mut sentence = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
        if let Some(last) = log.last().filter(|last| !sentence.contains(*last)) {
            sentence.push_str("\n> ");
            sentence.push_str(last);
        }
        let lines = match error {
            Some(error) if log.is_empty() => error.frames,
            Some(_) | None => log,
        };
        Error::new(Failure {
            sentence,
            derivation,
            lines: end_of(lines),
        })
    }

    fn stopping(&mut self) {
        self.is_stopped = true;
    }

    fn at_work(&self) -> Option<String> {
        self.steps.item.clone()
    }
}

impl NixLog {
    /// Takes a line, and returns those that a person reads.
    fn understand(&mut self, line: &str) -> Vec<String> {
        let Some(json) = line.trim_start().strip_prefix("@nix ") else {
            let said = lines(line);
            if let Some(last) = said.last() {
                self.last_line.clone_from(last);
            }
            return said;
        };
        let Ok(event) = serde_json::from_str(json) else {
            return Vec::new();
        };
        match event {
            LogLine::Msg { level, .. } if level > INFO => {}
            LogLine::Msg {
                level,
                msg,
                raw_msg,
                file,
                line,
                column,
            } => {
                let Some(text) = raw_msg.filter(|_| level == ERROR) else {
                    // Nix gives this advice to those who call it themselves.
                    let is_advice = msg.contains("--show-trace");
                    return if is_advice { Vec::new() } else { lines(&msg) };
                };
                // Our own doing.
                if text == "interrupted by the user" {
                    return Vec::new();
                }
                let mut text = lines(&text).join("\n");
                let is_consequence = self.error.is_some() && is_consequence(&text);
                let frames = frames(&msg);
                if !is_consequence {
                    text = essence(&text);
                    if let (Some(file), Some(line), Some(column)) = (file, line, column) {
                        let place = format!(":{line}:{column}");
                        let file = file.strip_suffix(&place).unwrap_or(&file);
                        if line > 0 && !is_own(file) {
                            text = format!("{text}\nat {}{place}", printable(file));
                        }
                    }
                    let text = format!("error: {text}");
                    let frames = frames.clone();
                    self.error = Some(NixError { text, frames });
                }
                return frames;
            }
            LogLine::Start {
                id,
                level,
                kind,
                text,
                fields,
            } => {
                match kind {
                    COPY_PATHS | BUILDS if self.counters.len() < MAX_BUILDS => {
                        self.counters.insert(id, kind);
                    }
                    BUILD if self.running.len() < MAX_BUILDS => {
                        self.begin(id, &fields);
                    }
                    _ => {}
                }
                if level <= INFO && !text.is_empty() {
                    return vec![format!("{}...", printable(&text))];
                }
            }
            LogLine::Result { id, kind, fields } => return self.result(id, kind, &fields),
            LogLine::Stop { .. } if self.is_stopped => {}
            LogLine::Stop { id } => {
                self.counters.remove(&id);
                if let Some(build) = self.running.remove(&id) {
                    self.ended.truncate(MAX_BUILDS - 1);
                    self.ended.push_front(build);
                    self.show_oldest();
                }
            }
            LogLine::Other => {}
        }
        Vec::new()
    }

    fn begin(&mut self, id: u64, fields: &[Value]) {
        if let Some(derivation) = fields.first().and_then(Value::as_str) {
            let build = Build {
                derivation: shortened(&printable(derivation), LINE_CHARS).into_owned(),
                since: Timestamp::now().round(Unit::Second).unwrap_or_default(),
                log: VecDeque::new(),
            };
            self.running.insert(id, build);
            self.show_oldest();
        }
    }

    /// The build that has taken the longest is the one that is waited for.
    fn show_oldest(&mut self) {
        let oldest = self.running.values().min_by_key(|build| build.since);
        self.steps.item = oldest.map(|build| name(&build.derivation).to_string());
        self.steps.since = oldest.map(|build| build.since);
    }

    fn result(&mut self, id: u64, kind: u64, fields: &[Value]) -> Vec<String> {
        match kind {
            BUILD_LOG_LINE | POST_BUILD_LOG_LINE => {
                let line = fields.first().and_then(Value::as_str).unwrap_or_default();
                let line = plain(line);
                let line = printable(&line);
                let Some(build) = self.running.get_mut(&id) else {
                    return vec![line.into_owned()];
                };
                if line.is_empty() {
                    return Vec::new();
                }
                if build.log.len() == LOG_LINES {
                    build.log.pop_front();
                }
                build
                    .log
                    .push_back(shortened(&line, LINE_CHARS).into_owned());
                vec![format!("{}> {line}", name(&build.derivation))]
            }
            PROGRESS => {
                let number = |n: usize| fields.get(n).and_then(Value::as_u64).unwrap_or_default();
                let steps = &mut self.steps;
                match self.counters.get(&id) {
                    Some(&BUILDS) => (steps.built, steps.to_build) = (number(0), number(1)),
                    Some(&COPY_PATHS) => {
                        (steps.downloaded, steps.to_download) = (number(0), number(1));
                    }
                    Some(_) | None => {}
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

fn is_derivation(word: &str) -> bool {
    let path = Path::new(word);
    path.starts_with(store_path::STORE) && store_path::is_derivation(path)
}

/// As in `hello-2.12` for `/nix/store/<hash>-hello-2.12.drv`.
fn name(derivation: &str) -> &str {
    let name = derivation.strip_suffix(".drv").unwrap_or(derivation);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split_once('-').map_or(name, |(_, name)| name)
}

/// The lines of a text in which Nix may have used colours, printable.
fn lines(text: &str) -> Vec<String> {
    let text = plain(text);
    let lines = text.lines().map(|line| printable(line).into_owned());
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// A text without colours.
pub(super) fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        plain.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    plain
}

/// What Nix did when it came to an error, without the part that it did for our own expressions.
fn frames(msg: &str) -> Vec<String> {
    let mut blocks: Vec<Vec<String>> = vec![Vec::new()];
    for line in lines(msg) {
        let begins = line.trim_start();
        if begins.starts_with('…') || begins.starts_with("error:") {
            blocks.push(Vec::new());
        }
        let is_noise =
            begins.starts_with('(') && begins.contains("--show-trace") || line == "error:";
        if let Some(block) = blocks.last_mut().filter(|_| !is_noise) {
            block.push(line);
        }
    }
    blocks.retain(|block| {
        !block
            .iter()
            .any(|line| is_own(line.trim_start().trim_start_matches("at ")))
    });
    blocks.concat()
}

/// Whether a place in Nix code is in an expression of ours.
fn is_own(place: &str) -> bool {
    place.starts_with("«string»") || place.starts_with("(string)") || place.starts_with("«none»")
}

/// An error without what Nix adds for those who look at it in a terminal of their own.
fn essence(text: &str) -> String {
    let kept = text
        .lines()
        .map(str::trim)
        .take_while(|line| *line != "Output paths:");
    let kept = kept.filter(|line| {
        let lines = line.strip_prefix("last ").or(line.strip_prefix("Last "));
        !lines.is_some_and(|rest| rest.ends_with("log lines:"))
            && !line.starts_with("For full logs")
            && !line.starts_with("> ")
    });
    let kept: Vec<&str> = kept.collect();
    kept.join("\n").trim_end_matches([';', ':']).to_string()
}

/// Whether Nix says only that something that was needed has failed, which it has named before.
fn is_consequence(error: &str) -> bool {
    let last = error.lines().next_back().unwrap_or_default();
    error.contains("dependencies of derivation") && last.ends_with("failed to build")
        || last.ends_with("Build failed due to failed dependency")
        || error.lines().any(|line| {
            let reason = line.trim_start().strip_prefix("Reason: ");
            reason.is_some_and(|text| text.contains(" dependenc") && text.ends_with(" failed."))
        })
}

/// The last of the lines, as many as are kept.
fn end_of(lines: Vec<String>) -> Vec<String> {
    let shorten = |line: String| shortened(&line, LINE_CHARS).into_owned();
    let mut lines: Vec<String> = lines.into_iter().map(shorten).collect();
    let mut bytes = 0;
    let fits = |line: &&String| {
        bytes += line.len() + 1;
        bytes <= FAILURE_BYTES
    };
    let count = lines.iter().rev().take_while(fits).count();
    lines.split_off(lines.len() - count)
}

/// A text in which what leads to the files of a repository in the store, or of a commit in the mirror, is left out. The
/// flake of the commit is `.`, as for a person in the repository.
fn without_source(text: &str, commit: &str, is_ours: impl Fn(&str) -> bool) -> String {
    const STORE: &str = "/nix/store/";
    const SOURCE: &str = "-source/";
    let mut rest = text;
    let mut kept = String::new();
    let is_this = |url: &str| url.contains(commit) && !url.contains(char::is_whitespace);
    while let Some(at) = rest.find(['«', '/', '\'']) {
        let (before, place) = rest.split_at(at);
        kept.push_str(before);
        let flake = place.strip_prefix("'git+");
        let flake = flake.and_then(|place| place.split_once('\''));
        if let Some((_, after)) = flake.filter(|(url, _)| is_this(url)) {
            kept.push_str("'.'");
            rest = after;
            continue;
        }
        let file = place.strip_prefix('«');
        let file = file.and_then(|place| place.split_once("»/"));
        let inside = file.and_then(|(url, inside)| is_this(url).then_some(inside));
        let inside = inside.or_else(|| {
            let (hash, inside) = place.strip_prefix(STORE)?.split_once(SOURCE)?;
            let end = inside.find(|c: char| c.is_whitespace() || "'\":,;)»".contains(c));
            let path = &inside[..end.unwrap_or(inside.len())];
            let is_hash = hash.chars().all(|c| c.is_ascii_alphanumeric());
            (is_hash && is_ours(path)).then_some(inside)
        });
        rest = inside.unwrap_or_else(|| {
            let mut chars = place.chars();
            kept.extend(chars.next());
            chars.as_str()
        });
    }
    kept + rest
}

#[cfg(test)]
mod tests;
