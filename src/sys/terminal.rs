//! The whole terminal, for something that is looked at for a while.

use std::io::{self, IsTerminal, Stdout, Write};

use anstyle::{AnsiColor, Style};

/// Something is under way.
pub const BUSY: Style = AnsiColor::Cyan.on_default();
/// Something went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// There is something to know.
pub const NOTABLE: Style = AnsiColor::Yellow.on_default();
/// What a tool says.
pub const ASIDE: Style = Style::new().dimmed();

/// The text in a style, if a person who wants colours reads our standard error on a terminal. Each line for itself.
pub fn paint(style: Style, text: &str) -> String {
    if has_colours(&io::stderr()) {
        coloured(style, text)
    } else {
        text.to_string()
    }
}

/// Whether a person who wants colours reads this on a terminal.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && anstyle_query::term_supports_color() && !anstyle_query::no_color()
}

/// The text in a style, each line for itself: lines are indented and wrapped.
pub fn coloured(style: Style, text: &str) -> String {
    let lines = text.lines().map(|line| format!("{style}{line}{style:#}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a person reads our standard error on a terminal.
pub fn is_on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// How many columns a person has who reads our standard error on a terminal.
pub fn width() -> Option<usize> {
    let stderr = std::io::stderr();
    let (terminal_size::Width(width), _) = terminal_size::terminal_size_of(&stderr)?;
    (is_on_terminal() && width > 0).then_some(usize::from(width))
}

/// The alternate screen of the terminal, without a cursor and without wrapped lines. Dropping it brings the other screen
/// back.
pub struct Screen(Stdout);

impl Screen {
    /// Switches to it.
    pub fn enter() -> io::Result<Self> {
        let screen = Self(io::stdout());
        screen.write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }

    /// Shows a text from the top, as much as there is room for, in place of what was shown.
    pub fn show(&self, text: &str) -> io::Result<()> {
        let size = terminal_size::terminal_size();
        self.write(&frame(text, size.map(|(_, height)| height.0)))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut terminal = self.0.lock();
        terminal.write_all(text.as_bytes())?;
        terminal.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell that the terminal is gone.
        let _ = self.write("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

/// Each line erases what was there before, so that nothing flickers. It does so first: after one that is as
/// wide as the terminal the cursor is still on its last letter.
fn frame(text: &str, height: Option<u16>) -> String {
    let count = text.lines().count();
    let height = height.map_or(count, usize::from);
    let mut lines: Vec<String> = text.lines().take(height).map(str::to_string).collect();
    if let Some(last) = lines.last_mut().filter(|_| count > height) {
        *last = format!("… and {} more lines", count - height + 1);
    }
    let last = lines.pop().unwrap_or_default();
    let lines = lines.iter().map(|line| format!("\x1b[K{line}\r\n"));
    format!("\x1b[H{}\x1b[J{last}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted() {
        let frame = |height| frame("a\nb\nc", Some(height)).replace("\x1b[K", "");
        assert_eq!(frame(3), "\x1b[Ha\r\nb\r\n\x1b[Jc");
        assert_eq!(frame(2), "\x1b[Ha\r\n\x1b[J… and 2 more lines");
    }

    #[test]
    fn nothing_is_erased_after_a_line_that_may_be_as_wide_as_the_terminal() {
        assert_eq!(frame("a\nb", None), "\x1b[H\x1b[Ka\r\n\x1b[Jb");
        assert_eq!(frame("", None), "\x1b[H\x1b[J");
    }
}
