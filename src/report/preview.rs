//! The plan, and what what is selected would bring.

use std::path::PathBuf;

use serde::Serialize;

use super::closure::Difference;
use super::page::{Page, Tone};
use super::plan::{Outlook, Plan};
use super::target::Report;
use crate::sys::text::printable;
use crate::system::dry_activate::DryRun;

/// The plan, and what the system of what is selected would bring.
#[derive(Debug, Serialize)]
pub struct Previewed {
    #[serde(flatten)]
    pub plan: Plan,
    pub build: Option<Build>,
}

/// What it would bring.
#[derive(Debug, Default, Serialize)]
pub struct Build {
    pub skipped: Option<String>,
    pub derivation: Option<String>,
    pub out: Option<PathBuf>,
    pub runs_already: bool,
    pub inhibitors: Vec<String>,
    pub before: Option<PathBuf>,
    pub closure: Option<Difference>,
    pub dry_activation: Option<DryActivation>,
}

/// What its switch says that it would do.
#[derive(Debug, Serialize)]
pub struct DryActivation {
    pub lines: Option<Vec<String>>,
    pub left_out: Option<String>,
    pub error: Option<String>,
}

impl Previewed {
    /// Why the switch could not tell what it would do, if it could not.
    pub fn error(&self) -> Option<&str> {
        let dry_activation = self.build.as_ref()?.dry_activation.as_ref()?;
        dry_activation.error.as_deref()
    }
}

impl DryActivation {
    /// Tells what the switch said.
    pub fn of(dry_run: DryRun) -> Self {
        let (lines, left_out, error) = match dry_run {
            DryRun::Output(lines) => (Some(lines), None, None),
            DryRun::Skipped(why) => (None, Some(why), None),
            DryRun::Failed(error) => (None, None, Some(error)),
        };
        Self {
            lines,
            left_out,
            error,
        }
    }

    fn text(&self, page: &Page) -> String {
        match (&self.lines, &self.left_out, &self.error) {
            (Some(lines), _, _) => lines.join("\n"),
            (None, Some(why), _) => format!("what would be restarted is left out: {why}"),
            (None, None, error) => page.paint(Tone::Bad, error.as_deref().unwrap_or_default()),
        }
    }
}

impl Report for Previewed {
    fn text(&self, page: &Page) -> String {
        let Some(build) = &self.build else {
            return self.plan.text(page);
        };
        let outlook = match build.skipped {
            Some(_) => Outlook::Skipped,
            None => Outlook::Inhibited(&build.inhibitors),
        };
        self.plan.with_outlook(outlook, page) + &build.text(page)
    }
}

impl Build {
    fn text(&self, page: &Page) -> String {
        if let Some(reason) = &self.skipped {
            return page.entry("skipped", &page.paint(Tone::Notable, &printable(reason)));
        }
        let mut text = String::new();
        if let Some(out) = &self.out {
            let runs = if self.runs_already {
                ", which is deployed"
            } else {
                ""
            };
            text += &page.entry("system", &format!("{}{runs}", out.display()));
        }
        text += &match &self.closure {
            Some(closure) => closure.entry(page),
            None => page.entry("packages", "there is no running system to compare it with"),
        };
        // What is deployed is left alone.
        if let Some(dry_activation) = self.dry_activation.as_ref().filter(|_| !self.runs_already) {
            text += &page.entry("units", &dry_activation.text(page));
        }
        text
    }
}
