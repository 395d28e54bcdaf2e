//! Causes that every tool reports in words of its own, named by the words that a person looks for.

use derive_more::Display;

use crate::sys::text::{fact_and_advice, printable, shortened};

/// How long a short line is.
const CHARS: usize = 120;

/// A cause that nobody would look for in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Cause {
    #[display("the disk is full")]
    DiskFull,
    #[display("out of memory")]
    OutOfMemory,
    #[display("the clock of this machine may be wrong")]
    WrongClock,
    #[display("with signatures or confirmers, a configuration may read no files of the machine but those of its repository")]
    Restricted,
}

/// A message, with its cause before it if it is a known one.
pub fn explained(message: &str) -> String {
    match Cause::of(message) {
        Some(cause) => format!("{cause}: {message}"),
        None => message.to_string(),
    }
}

/// Why something failed, in one short line that can be shown: its cause, or what matters of its first line.
pub fn in_short(message: &str) -> String {
    if let Some(cause) = Cause::of(message) {
        return cause.to_string();
    }
    let line = message.lines().next().unwrap_or_default();
    // Without which command of Nix said it.
    let line = line.split_once(": error: ").map_or(line, |(_, why)| why);
    let (fact, _) = fact_and_advice(line);
    printable(&shortened(fact, CHARS)).into_owned()
}

impl Cause {
    /// The cause that a message stands for, if it is a known one.
    pub fn of(message: &str) -> Option<Self> {
        const WORDS: [(Cause, &[&str]); 4] = [
            (
                Cause::DiskFull,
                &["No space left on device", "database or disk is full"],
            ),
            (
                Cause::OutOfMemory,
                &[
                    "out of memory",
                    "Out of memory",
                    "Cannot allocate memory",
                    "std::bad_alloc",
                    "failed due to signal 9",
                    "exit code 137",
                    "was killed by signal 9",
                ],
            ),
            (
                Cause::WrongClock,
                &["not yet valid", "not valid yet", "NotValidYet"],
            ),
            (Cause::Restricted, &["is forbidden in restricted mode"]),
        ];
        let is_it = |words: &[&str]| words.iter().any(|words| message.contains(words));
        let found = WORDS.into_iter().find(|(_, words)| is_it(words));
        found.map(|(cause, _)| cause)
    }

    /// Whether it lies in this machine, and not in a commit.
    pub fn is_local(self) -> bool {
        self != Self::Restricted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_whatever_the_tool_calls_it() {
        for (message, cause) in [
            (
                "writing x: No space left on device (os error 28)",
                "the disk is full",
            ),
            (
                "builder for x failed due to signal 9 (Killed)",
                "out of memory",
            ),
            (
                "SSL certificate problem: certificate is not yet valid",
                "the clock of this machine may be wrong",
            ),
        ] {
            assert_eq!(explained(message), format!("{cause}: {message}"));
        }
        assert_eq!(explained("error: x"), "error: x");
    }
}
