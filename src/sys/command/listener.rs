//! Who listens to the standard error of a command.

use std::collections::VecDeque;

use anyhow::{anyhow, Error};

use crate::sys::diagnosis::explained;
use crate::sys::text::{printable, shortened};

/// Understands what a command says on its standard error.
pub trait Listener: Default + Send + 'static {
    /// Whether its commands take so long that a person may want to stop them.
    const IS_PATIENT: bool = false;

    /// Takes a line, and returns the lines that are to be logged.
    fn hear(&mut self, line: &str) -> Vec<String>;

    /// The error of a command that ended in this way, as in "git repack exited with status 1".
    fn error(self, ended: String) -> Error;

    /// The command is going to be stopped.
    fn stopping(&mut self) {}

    /// What the command was busy with when it was stopped, if that is known.
    fn at_work(&self) -> Option<String> {
        None
    }
}

const LINES: usize = 40;
const CHARS: usize = 2000;

/// The last lines that a command said, printable, each with the beginning that anybody reads.
#[derive(Debug, Default)]
pub struct LastLines(VecDeque<String>);

impl LastLines {
    /// The lines, the oldest first.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Listener for LastLines {
    fn hear(&mut self, line: &str) -> Vec<String> {
        let text = printable(line).into_owned();
        if text.trim().is_empty() {
            return Vec::new();
        }
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(shortened(&text, CHARS).into_owned());
        vec![text]
    }

    /// With the last line.
    fn error(self, ended: String) -> Error {
        let Some(last) = self.lines().next_back() else {
            return anyhow!(ended);
        };
        let last = explained(last.trim());
        anyhow!("{ended}: {last}")
    }
}
