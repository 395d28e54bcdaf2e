//! Text for a terminal: times as people say them, a little colour, and lines that are no wider than it.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use jiff::Timestamp;
use textwrap::core::display_width;
use textwrap::{Options, WordSplitter};

use crate::sys::terminal;

/// Where the texts of entries begin.
const INDENT: usize = 13;

/// The widest that a column of names becomes.
const WIDEST: usize = 24;

/// What a text is written on, and when.
#[derive(Debug, Clone)]
pub struct Page {
    /// The time.
    pub now: Timestamp,
    /// Where the reader is.
    pub zone: TimeZone,
    /// How many columns there are; `None` is as many as a line needs.
    pub width: Option<usize>,
    /// Whether the reader sees colours. What they say is said in words as well.
    pub colour: bool,
}

/// Seconds; a time that is farther away is told by the clock.
const DAY: i64 = 86400;

/// What a text means to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something is under way.
    Busy,
    /// There is something to know, or to be done by a person.
    Notable,
    /// Something went wrong.
    Bad,
    /// Whom it is about.
    Name,
    /// Nobody needs to read it.
    Aside,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Busy => terminal::BUSY,
            Self::Notable => terminal::NOTABLE,
            Self::Bad => terminal::BAD,
            Self::Name => Style::new().bold(),
            Self::Aside => terminal::ASIDE,
        }
    }
}

impl Page {
    /// Standard output, now.
    pub fn here() -> Self {
        Self {
            now: Timestamp::now(),
            zone: TimeZone::system(),
            width: width(),
            colour: terminal::has_colours(&std::io::stdout()),
        }
    }

    /// For texts that nobody reads on a terminal.
    pub fn plain(now: Timestamp) -> Self {
        Self {
            now,
            zone: TimeZone::UTC,
            width: None,
            colour: false,
        }
    }

    /// The text in its tone, where the reader sees colours; each line for itself, for lines are indented
    /// and wrapped.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour {
            terminal::coloured(tone.style(), text)
        } else {
            text.to_string()
        }
    }

    /// As in "4 min ago" up to a day, else the local time.
    pub fn ago(&self, time: Timestamp) -> String {
        let seconds = self.now.duration_since(time).as_secs();
        match seconds {
            0..60 => format!("{seconds} s ago"),
            60..3600 => format!("{} min ago", seconds / 60),
            3600..DAY => format!("{} h ago", seconds / 3600),
            ..0 | DAY.. => self.at(time),
        }
    }

    /// As in "in 4 min" up to a day, else the local time.
    pub fn until(&self, time: Timestamp) -> String {
        let seconds = time.duration_since(self.now).as_secs();
        match seconds {
            ..1 => "now".to_string(),
            1..60 => format!("in {seconds} s"),
            60..3600 => format!("in {} min", seconds / 60),
            3600..DAY => format!("in {} h", seconds / 3600),
            DAY.. => format!("at {}", self.at(time)),
        }
    }

    /// How long it has been.
    pub fn since(&self, time: Timestamp) -> String {
        took(time, self.now)
    }

    /// The local time of day, with the date where that is not today.
    pub fn at(&self, time: Timestamp) -> String {
        let [time, now] = [time, self.now].map(|time| time.to_zoned(self.zone.clone()));
        let format = if time.date() == now.date() {
            "%H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        time.strftime(format).to_string()
    }

    /// A line `  label  text`, wrapped where a terminal is too narrow for it; nothing where there is no text.
    pub fn entry(&self, label: &str, text: &str) -> String {
        let column = INDENT - 2;
        let first = format!("  {label:<width$}  ", width = column - 2);
        if display_width(label) <= column - 2 || text.is_empty() {
            return self.wrapped(&first, INDENT, text);
        }
        let indent = " ".repeat(INDENT);
        format!("  {label}\n{}", self.wrapped(&indent, INDENT, text))
    }

    /// A line that belongs to the entry above, of a name in a column; where it goes on is seen.
    pub fn below(&self, name: &str, column: usize, text: &str) -> String {
        self.row(INDENT, name, column, INDENT + 2, text)
    }

    /// A name in a column, and a text beside it that goes on at `hang`. A name that is wider has lines of its own.
    pub fn row(&self, indent: usize, name: &str, column: usize, hang: usize, text: &str) -> String {
        let before = " ".repeat(indent);
        let width = display_width(name);
        if width <= column {
            let pad = " ".repeat(column - width);
            return self.wrapped(&format!("{before}{name}{pad}  "), hang, text);
        }
        let first = " ".repeat(indent + column + 2);
        self.wrapped(&before, indent, name) + &self.wrapped(&first, hang, text)
    }

    /// A text with what comes before it, wrapped and indented where a terminal is too narrow for it.
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

/// How wide a column for these names is: no wider than leaves room for what is beside it.
pub fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names
        .map(display_width)
        .max()
        .unwrap_or_default()
        .min(WIDEST)
}

/// How long something takes: as in "75 s", "12 min", "3 h", "4 days".
pub fn length(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / DAY),
    }
}

/// How long something took.
pub fn took(begin: Timestamp, end: Timestamp) -> String {
    length(end.duration_since(begin).as_secs().max(0))
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
            colour: false,
        };
        let before = |seconds| page.ago(page.now - SignedDuration::from_secs(seconds));
        assert_eq!(before(0), "0 s ago");
        assert_eq!(before(59), "59 s ago");
        assert_eq!(before(61), "1 min ago");
        assert_eq!(before(7200), "2 h ago");
        assert_eq!(before(3 * 86400), "2025-12-30 12:00");
        assert_eq!(before(-60), "12:01", "a clock that was ahead");
        let after = |seconds| page.until(page.now + SignedDuration::from_secs(seconds));
        assert_eq!(after(-1), "now");
        assert_eq!(after(59), "in 59 s");
        assert_eq!(after(119), "in 1 min");
        assert_eq!(after(7200), "in 2 h");
        assert_eq!(after(2 * 86400), "at 2026-01-04 12:00");
        assert_eq!(length(75), "75 s");
        assert_eq!(length(600), "10 min");
        assert_eq!(length(100_000), "27 h");
        assert_eq!(length(4 * DAY), "4 days");
    }
}
