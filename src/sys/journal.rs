//! What is said while comin works: to the journal with severities, to a person without.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;

use jiff::tz::TimeZone;
use jiff::Timestamp;
use log::Level;
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::sys::journald::Entries;
use crate::sys::progress;

/// The target of lines that a child process printed; they are info where our own are notices.
pub const CHILD: &str = "child";

/// Starts the logger. Where the journal reads standard error, each line gets the severity of
/// sd-daemon(3). Our own `info` is a *notice* there: `LogLevelMax=notice` silences systemd's lines
/// about an idle poll, and must not silence ours.
///
/// The lines of whoever may deploy have fields there as well. All of them, and no others: between the two
/// ways the order is lost. A fetch has no attempt to tell of, and may have no socket.
pub fn start(debug: bool, may_deploy: bool) {
    let journal = reads_us();
    let entries = (journal && may_deploy).then(Entries::open);
    let entries = entries.and_then(Result::ok);
    let level = if debug {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Info
    };
    env_logger::Builder::new()
        .filter_module("comin", level)
        .filter_module(CHILD, level)
        .format(move |out, record| {
            let severity = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info if record.target() == CHILD => 6,
                Level::Info => 5,
                Level::Debug | Level::Trace => 7,
            };
            let text = record.args().to_string();
            let text = printable(&text);
            let tell = |entries: &Entries| entries.tell(severity, &text).is_ok();
            if entries.as_ref().is_some_and(tell) {
                Ok(())
            } else if journal {
                writeln!(out, "<{severity}>{text}")
            } else if record.target() == CHILD {
                // As it has aligned it.
                out.write_all(progress::above(&text).as_bytes())
            } else {
                out.write_all(progress::above(&fitted(&text, width())).as_bytes())
            }
        })
        .init();
}

/// Whether the journal reads our standard error, and not a person. systemd tells in
/// `JOURNAL_STREAM` which file that is; somebody may have redirected it since.
pub fn reads_us() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Whether a person reads our standard error on a terminal.
pub fn is_on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// How many columns a person has who reads our standard error on a terminal.
fn width() -> Option<usize> {
    let stderr = std::io::stderr();
    let (terminal_size::Width(width), _) = terminal_size::terminal_size_of(&stderr)?;
    (is_on_terminal() && width > 0).then_some(usize::from(width))
}

/// A sentence in lines of that width, each but the first a little indented. A path or URL that is longer
/// stays in one piece, to be copied.
fn fitted(text: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width else {
        return Cow::Borrowed(text);
    };
    let options = Options::new(width)
        .subsequent_indent("  ")
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    Cow::Owned(textwrap::fill(text, options))
}

/// A local time, to be read whenever, as in `2026-01-02 14:08:00 CET`: the journal's own times are local, too.
pub fn at(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The text in one line, without anything that moves a cursor, changes a terminal or reorders
/// letters: what comes from a repository or a server may hold all of these.
pub fn printable(text: &str) -> Cow<'_, str> {
    let text = text.trim_end();
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let replace = |c| match c {
        '\n' | '\t' => ' ',
        c if is_unprintable(c) => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(replace).collect())
}

/// The beginning of a text that may be longer than anybody reads, or than the state is to grow.
pub fn shortened(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// JSON that means the same and is as [`printable`], but for its line ends: what is not can only be
/// a part of a string, where it has an escape.
pub fn printable_json(json: &str) -> String {
    let printable = |c| match c {
        '\n' => c.to_string(),
        // All of them are below U+10000.
        c if is_unprintable(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    json.chars().map(printable).collect()
}

/// Control characters, and the format characters of Unicode that reorder or hide.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_as_wide_as_a_terminal_and_no_word_is_torn() {
        let text = "There is no configuration /etc/comin/config.json: name one with --config FILE";
        assert_eq!(fitted(text, None), text);
        assert_eq!(
            fitted(text, Some(30)),
            "There is no configuration\n  /etc/comin/config.json: name\n  one with --config FILE"
        );
        assert_eq!(
            fitted("at /nix/store/0123", Some(9)),
            "at\n  /nix/store/0123"
        );
    }

    #[test]
    fn nothing_reaches_a_terminal_that_is_not_text() {
        assert_eq!(printable("Grüße, 世界\n"), "Grüße, 世界");
        assert_eq!(printable("a\x1b[2Jb\nc\td"), "a\u{fffd}[2Jb c d");
        assert_eq!(
            printable("\u{9b}31m\u{202e}x\u{2066}\u{200b}\r"),
            "\u{fffd}31m\u{fffd}x\u{fffd}\u{fffd}"
        );
        let others = ["\u{ad}", "\u{61c}", "\u{180e}", "\u{feff}", "\u{fffa}"].concat();
        assert_eq!(printable(&others), "\u{fffd}".repeat(5));
        assert_eq!(shortened("größer", 3), "grö…");
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(
            printable_json("[\n\"ü\u{9b}31m\u{202e}\"\n]"),
            "[\n\"ü\\u009b31m\\u202e\"\n]"
        );
    }
}
