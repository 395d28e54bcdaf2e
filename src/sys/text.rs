//! Text that may be shown: no control characters, of a bounded length.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use jiff::Timestamp;

/// A local time, to be read whenever, as in `2026-01-02 14:08:00 CET`: the journal's own times are local, too.
pub fn at(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// An error's text without the numbers and classes that libraries add to it: they say nothing to a person.
pub fn without_codes(text: &str) -> Cow<'_, str> {
    let begins = [" (os error ", "; class=", "; code="];
    let found = begins.iter().filter_map(|begin| text.find(begin));
    let Some(begin) = found.min() else {
        return Cow::Borrowed(text);
    };
    let rest = &text[begin..];
    let end = rest.find(')').map_or(rest.len(), |end| end + 1);
    Cow::Owned(format!("{}{}", &text[..begin], without_codes(&rest[end..])))
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

/// As in `it waits (on battery)`; one of the two may be missing.
pub fn in_brackets(text: &str, reason: Option<&str>) -> String {
    match reason {
        None => text.to_string(),
        Some(reason) if text.is_empty() => reason.to_string(),
        Some(reason) => format!("{text} ({reason})"),
    }
}

/// The fact and the advice in a sentence such as `it is behind main; rebase it`.
pub fn fact_and_advice(text: &str) -> (&str, Option<&str>) {
    text.split_once("; ")
        .map_or((text, None), |(fact, advice)| (fact, Some(advice)))
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
    fn numbers_and_classes_of_libraries_are_left_out() {
        for (text, wanted) in [
            ("a (b)", "a (b)"),
            (
                "Failed to read /x: Permission denied (os error 13): try again",
                "Failed to read /x: Permission denied: try again",
            ),
            (
                "invalid packet line; class=Net (12); code=NotFound (-3)",
                "invalid packet line",
            ),
            ("cut off; class=Net", "cut off"),
        ] {
            assert_eq!(without_codes(text), wanted);
        }
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
