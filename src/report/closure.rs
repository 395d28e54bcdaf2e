//! How the closures of two systems differ, as the reports have it.

use serde::Serialize;

use super::page::{Page, Tone};
use crate::nix::closure_diff::{Change, Unavailable};
use crate::sys::text::printable;

/// What differs from the system before, or why there is no telling.
#[derive(Debug, Serialize)]
pub struct Difference {
    changes: Option<Vec<Change>>,
    unavailable: Option<String>,
}

impl Difference {
    /// Tells what was compared.
    pub fn of(compared: Result<Vec<Change>, Unavailable>) -> Self {
        match compared {
            Ok(changes) => Self {
                changes: Some(changes),
                unavailable: None,
            },
            Err(unavailable) => Self {
                changes: None,
                unavailable: Some(unavailable.to_string()),
            },
        }
    }

    /// The lines of it.
    pub(super) fn entry(&self, page: &Page) -> String {
        let text = match (&self.changes, &self.unavailable) {
            (Some(changes), _) if changes.is_empty() => "none has changed".to_string(),
            (Some(changes), _) => {
                let lines = changes.iter().map(ToString::to_string);
                let lines = lines.map(|line| printable(&line).into_owned());
                lines.collect::<Vec<_>>().join("\n")
            }
            (None, why) => {
                let why = why.as_deref().unwrap_or_default();
                page.paint(
                    Tone::Notable,
                    &format!("cannot be compared: {}", printable(why)),
                )
            }
        };
        page.entry("packages", &text)
    }
}
