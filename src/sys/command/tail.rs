//! What a child said last on its standard error: the sentence of its failure. Most of them are Nix, which says the
//! same more than once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead, Read};
use std::sync::mpsc::Sender;

use crate::sys::journal::CHILD;
use crate::sys::mutex::Shared;
use crate::sys::text::{printable, shortened};

/// More of a line than anybody reads.
const MAX_LINE: u64 = 64 * 1024;

/// The last lines that a child said, less those by which Nix repeats that it has failed.
#[derive(Debug, Default)]
pub(super) struct StderrTail {
    lines: VecDeque<String>,
    /// Whether what is said is about something that has been said.
    repeats: bool,
}

impl StderrTail {
    /// What Nix says of one failure has 25 lines of a log.
    const LINES: usize = 40;
    const CHARS: usize = 2000;

    /// Reads a pipe to its end; then `_listening` goes away.
    pub(super) fn stream(
        mut from: impl BufRead,
        level: log::Level,
        tail: &Shared<Self>,
        _listening: &Sender<Infallible>,
    ) {
        let mut line = Vec::new();
        while matches!(from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = printable(&String::from_utf8_lossy(&line)).into_owned();
            line.clear();
            if text.trim().is_empty() {
                continue;
            }
            log::log!(target: CHILD, level, "{text}");
            tail.lock().push(text);
        }
    }

    /// The lines, the oldest first.
    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn push(&mut self, line: String) {
        let errors = self.lines.iter().filter(|line| is_error(line)).count();
        if is_error(&line) {
            self.repeats = errors > 0 && is_consequence(&line);
        } else if is_reason_of_consequence(&line) && errors > 1 {
            self.lines.pop_back();
            self.repeats = true;
        }
        if self.repeats {
            return;
        }
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// From the last line that says `error:` on, as Nix explains below it; without one, the last line.
    pub(super) fn sentence(&self) -> String {
        let error = self.lines.iter().rposition(|line| is_error(line));
        let from = error.unwrap_or(self.lines.len().saturating_sub(1));
        let lines = self.lines.iter().skip(from).map(|line| line.trim());
        let lines = lines.filter(|line| error.is_none() || !is_excerpt(line) && !is_aside(line));
        let mut lines: Vec<&str> = lines.collect();
        // Of a log, the end.
        let last = lines.iter().rposition(|line| line.starts_with("> "));
        let mut number = 0..;
        lines.retain(|line| number.next() == last || !line.starts_with("> "));
        let text = lines.join("\n");
        let text = text.trim_end_matches(':');
        if text.is_empty() {
            return String::new();
        }
        format!(": {}", shortened(text, Self::CHARS))
    }
}

/// Whether Nix shows a line of a source file, as `  5|   label = second;`: in a sentence it is noise.
fn is_excerpt(line: &str) -> bool {
    line.trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with('|')
}

/// Whether Nix shows what was said before, or where more of it is: in a sentence that is noise, too.
fn is_aside(line: &str) -> bool {
    let lines = line.strip_prefix("last ").or(line.strip_prefix("Last "));
    lines.is_some_and(|rest| rest.ends_with("log lines:"))
        || line.starts_with("For full logs")
        || line.starts_with("nix log ")
        || line.starts_with("nix-store -l ")
        || line == "Output paths:"
        || line.starts_with('(') && line.contains("use '--show-trace' to show ")
        || line.starts_with("/nix/store/")
}

fn is_error(line: &str) -> bool {
    line.trim_start().starts_with("error:")
}

/// Whether Nix says only that something that was needed has failed, which it has named before.
fn is_consequence(line: &str) -> bool {
    is_error(line)
        && (line.contains("dependencies of derivation") && line.ends_with("failed to build")
            || line.ends_with("Build failed due to failed dependency"))
}

/// The same, in the second line of it.
fn is_reason_of_consequence(line: &str) -> bool {
    let reason = line.trim_start().strip_prefix("Reason: ");
    reason.is_some_and(|text| text.contains(" dependenc") && text.ends_with(" failed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_what_has_failed_and_not_by_what_needed_it() {
        let told = |said: &str| {
            let mut tail = StderrTail::default();
            said.lines().for_each(|line| tail.push(line.to_string()));
            tail.sentence()
        };
        let log = "       > compiling\n".repeat(24);
        assert_eq!(
            told(&format!(
                "error: builder for '/nix/store/a.drv' failed with exit code 1;
       last 25 log lines:
{log}       > no such file
       For full logs, run 'nix log /nix/store/a.drv'.
error: 1 dependencies of derivation '/nix/store/b.drv' failed to build
error: 2 dependencies of derivation '/nix/store/c.drv' failed to build"
            )),
            ": error: builder for '/nix/store/a.drv' failed with exit code 1;\n> no such file"
        );
        // Since 2.30.
        let consequence = "error: Cannot build '/nix/store/b.drv'.
       Reason: 1 dependency failed.
       Output paths:
         /nix/store/b\n";
        assert_eq!(
            told(&format!(
                "error: Cannot build '/nix/store/a.drv'.
       Reason: builder failed with exit code 1.
       Output paths:
         /nix/store/a
       Last 25 log lines:
{log}       > no such file
       For full logs, run:
         nix log /nix/store/a.drv
{}error: Build failed due to failed dependency",
                consequence.repeat(20)
            )),
            ": error: Cannot build '/nix/store/a.drv'.\nReason: builder failed with exit code 1.\n> no such file"
        );
        assert_eq!(
            told(
                "error: out of paper
(use '--show-trace' to show detailed location information)
(stack trace truncated; use '--show-trace' to show the full, detailed trace)"
            ),
            ": error: out of paper"
        );
        let alone = "error: 1 dependencies of derivation '/nix/store/b.drv' failed to build";
        assert_eq!(told(alone), format!(": {alone}"));
        assert_eq!(
            told(consequence),
            ": error: Cannot build '/nix/store/b.drv'.\nReason: 1 dependency failed."
        );
    }
}
