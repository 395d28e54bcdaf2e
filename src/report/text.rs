//! Text for a terminal: times as people say them, and lines that are no wider than it.

use std::io::IsTerminal;

use jiff::tz::TimeZone;
use jiff::Timestamp;
use textwrap::{Options, WordSplitter};

/// As in "4 min ago", or the time of day, or the date, the farther away it is.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        ..0 | 3600.. => at(time, now),
    }
}

/// The local time of day, with the date where that is not today.
pub fn at(time: Timestamp, now: Timestamp) -> String {
    let zone = TimeZone::system();
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone));
    let format = if time.date() == now.date() {
        "%H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    time.strftime(format).to_string()
}

/// How long something takes: as in "75 s", "12 min", "3 h".
pub fn length(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200.. => format!("{} h", seconds / 3600),
    }
}

/// A line `  label  text`, wrapped where a terminal is too narrow for it.
pub fn entry(label: &str, text: &str) -> String {
    wrapped(&format!("  {label:<8}  "), 12, text)
}

/// A text with what comes before it, wrapped and indented where a terminal is too narrow for it.
pub fn wrapped(first: &str, indent: usize, text: &str) -> String {
    let indent = " ".repeat(indent);
    let mut wrapped = String::new();
    for (n, line) in text.lines().enumerate() {
        let first = if n == 0 { first } else { &indent };
        if let Some(width) = width() {
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
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        let before = |seconds| now - SignedDuration::from_secs(seconds);
        assert_eq!(ago(before(0), now), "0 s ago");
        assert_eq!(ago(before(59), now), "59 s ago");
        assert_eq!(ago(before(61), now), "1 min ago");
        assert!(ago(before(7200), now).contains(':'));
        assert!(ago(before(3 * 86400), now).starts_with("20"));
        assert!(
            ago(before(-60), now).contains(':'),
            "a clock that was ahead"
        );
        assert_eq!(length(75), "75 s");
        assert_eq!(length(600), "10 min");
        assert_eq!(length(100_000), "27 h");
    }
}
