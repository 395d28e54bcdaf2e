//! Notifications on a desktop, by libnotify's `notify-send`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys::command::{self, Interrupt, LastLines};
use crate::sys::text::{printable, shortened};

/// How long a notification server may take to show something.
const PATIENCE: Duration = Duration::from_secs(30);
/// More of a line than anybody reads in a notification.
const MAX_LINE: usize = 300;
/// The name of the only action.
const CONFIRM: &str = "confirm";

/// A notification.
pub struct Notification<'a> {
    /// Its title.
    pub title: &'a str,
    /// Whether it is to be seen even where somebody wants to be left alone.
    pub is_urgent: bool,
    /// Its text, of anybody's.
    pub text: &'a str,
}

/// The number that the server has given to a notification.
pub type Id = u32;

impl Notification<'_> {
    /// Shows it, in place of an older one.
    pub fn show(&self, instead_of: Option<Id>) -> Result<Id> {
        let mut notify = self.command(instead_of);
        notify.arg("--print-id");
        self.end(&mut notify);
        let id = command::run(&mut notify, "notify-send", Some(PATIENCE))?;
        id.trim()
            .parse()
            .context("notify-send answered something unexpected")
    }

    /// Shows it in place of one that is shown, with a button, and waits for its end: whether somebody has confirmed it.
    pub fn ask(&self, id: Id, button: &str, interrupt: &Interrupt) -> Result<bool> {
        let mut notify = self.command(Some(id));
        // It stays as long as it is a question.
        notify
            .arg("--expire-time=0")
            .arg(format!("--action={CONFIRM}={button}"));
        self.end(&mut notify);
        let answer = command::run_interruptible::<LastLines>(
            &mut notify,
            "notify-send",
            None,
            Some(interrupt),
        )?;
        Ok(answer.is_some_and(|answer| answer.trim() == CONFIRM))
    }

    fn command(&self, instead_of: Option<Id>) -> Command {
        let mut notify = Command::new("notify-send");
        let urgency = if self.is_urgent { "critical" } else { "normal" };
        notify
            .arg("--app-name=comin")
            .arg(format!("--urgency={urgency}"));
        if let Some(id) = instead_of {
            notify.arg(format!("--replace-id={id}"));
        }
        notify
    }

    /// What a title or a text begins with is never an option.
    fn end(&self, notify: &mut Command) {
        notify.arg("--").arg(self.title).arg(body(self.text));
    }
}

/// A text as `notify-send` takes it: servers read markup, and itself reads escapes with backslashes.
fn body(text: &str) -> String {
    let lines = text.lines().map(|line| {
        shortened(&printable(line), MAX_LINE)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\\', r"\\")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_neither_markup_nor_escapes() {
        assert_eq!(
            body("<b>a</b> & \\n\x1b[2J\nü\u{202e}"),
            "&lt;b&gt;a&lt;/b&gt; &amp; \\\\n\u{fffd}[2J\nü\u{fffd}"
        );
        assert_eq!(body(&"<".repeat(301)), "&lt;".repeat(300) + "…");
    }
}
