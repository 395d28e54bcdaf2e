//! How the closures of two systems differ, in lines.

use super::page::{Page, Tone};
use crate::nix::closure_diff::ClosureDiff;
use crate::sys::text::printable;

/// The entry for the packages that differ, or why nobody can tell.
pub(super) fn entry(diff: &ClosureDiff, page: &Page) -> String {
    let text = match (&diff.changes, &diff.unavailable) {
        (Some(changes), _) if changes.is_empty() => "none has changed".to_string(),
        (Some(changes), _) => {
            let lines = changes.iter().map(ToString::to_string);
            let lines = lines.map(|line| printable(&line).into_owned());
            lines.collect::<Vec<_>>().join("\n")
        }
        (None, why) => {
            let why = printable(why.as_deref().unwrap_or_default());
            page.paint(Tone::Notable, &format!("cannot be compared: {why}"))
        }
    };
    page.entry("packages", &text)
}
