//! Text for a terminal: times as people say them, and lines that are no wider than it.

use std::io::IsTerminal;

use jiff::tz::TimeZone;
use jiff::Timestamp;
use textwrap::{Options, WordSplitter};

/// What a text is written on, and when.
#[derive(Debug, Clone)]
pub struct Page {
    /// The time.
    pub now: Timestamp,
    /// Where the reader is.
    pub zone: TimeZone,
    /// How many columns there are; `None` is as many as a line needs.
    pub width: Option<usize>,
}

impl Page {
    /// Standard output, now.
    #[must_use]
    pub fn here() -> Self {
        Self {
            now: Timestamp::now(),
            zone: TimeZone::system(),
            width: width(),
        }
    }

    /// As in "4 min ago", or the time of day, or the date, the farther away it is.
    #[must_use]
    pub fn ago(&self, time: Timestamp) -> String {
        let seconds = self.now.duration_since(time).as_secs();
        match seconds {
            0..60 => format!("{seconds} s ago"),
            60..3600 => format!("{} min ago", seconds / 60),
            ..0 | 3600.. => self.at(time),
        }
    }

    /// The local time of day, with the date where that is not today.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> String {
        let [time, now] = [time, self.now].map(|time| time.to_zoned(self.zone.clone()));
        let format = if time.date() == now.date() {
            "%H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        time.strftime(format).to_string()
    }

    /// A line `  label  text`, wrapped where a terminal is too narrow for it.
    #[must_use]
    pub fn entry(&self, label: &str, text: &str) -> String {
        self.wrapped(&format!("  {label:<8}  "), 12, text)
    }

    /// A text with what comes before it, wrapped and indented where a terminal is too narrow for it.
    #[must_use]
    pub fn wrapped(&self, first: &str, indent: usize, text: &str) -> String {
        let indent = " ".repeat(indent);
        let mut wrapped = String::new();
        for (n, line) in text.lines().enumerate() {
            let first = if n == 0 { first } else { &indent };
            if let Some(width) = self.width {
                let options = Options::new(width)
                    .initial_indent(first)
                    .subsequent_indent(&indent)
                    .word_splitter(WordSplitter::NoHyphenation);
                wrapped.push_str(&textwrap::fill(line, options));
            } else {
                wrapped.push_str(first);
                wrapped.push_str(line);
            }
            wrapped.push('\n');
        }
        wrapped
    }
}

/// How long something takes: as in "75 s", "12 min", "3 h".
pub fn length(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200.. => format!("{} h", seconds / 3600),
    }
}

/// Of the terminal, if it is one that reads us. No narrower than anybody can read.
fn width() -> Option<usize> {
    let (terminal_size::Width(width), _) = terminal_size::terminal_size()?;
    std::io::stdout()
        .is_terminal()
        .then_some(usize::from(width).max(40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn times_as_people_say_them() {
        let page = Page {
            now: "2026-01-02T12:00:00Z".parse().unwrap(),
            zone: TimeZone::UTC,
            width: None,
        };
        let before = |seconds| page.ago(page.now - SignedDuration::from_secs(seconds));
        assert_eq!(before(0), "0 s ago");
        assert_eq!(before(59), "59 s ago");
        assert_eq!(before(61), "1 min ago");
        assert_eq!(before(7200), "10:00");
        assert_eq!(before(3 * 86400), "2025-12-30 12:00");
        assert_eq!(before(-60), "12:01", "a clock that was ahead");
        assert_eq!(length(75), "75 s");
        assert_eq!(length(600), "10 min");
        assert_eq!(length(100_000), "27 h");
    }
}
