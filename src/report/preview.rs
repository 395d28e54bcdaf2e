//! The plan, and what what is selected would bring.

use std::path::PathBuf;

use serde::Serialize;

use super::page::{Page, Tone};
use super::plan::{Outlook, Plan};
use super::{closure, target::Report};
use crate::nix::closure_diff::ClosureDiff;
use crate::sys::text::printable;
use crate::system::dry_activate::DryActivation;

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
    pub closure: Option<ClosureDiff>,
    pub dry_activation: Option<DryActivation>,
}

impl Previewed {
    /// Why the switch could not tell what it would do, if it could not.
    pub fn error(&self) -> Option<&str> {
        let dry_activation = self.build.as_ref()?.dry_activation.as_ref()?;
        dry_activation.error.as_deref()
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
            Some(diff) => closure::entry(diff, page),
            None => page.entry("packages", "there is no running system to compare it with"),
        };
        // What is deployed is left alone.
        if let Some(dry_activation) = self.dry_activation.as_ref().filter(|_| !self.runs_already) {
            text += &page.entry("units", &units(dry_activation, page));
        }
        text
    }
}

fn units(dry_activation: &DryActivation, page: &Page) -> String {
    match (&dry_activation.lines, &dry_activation.left_out) {
        (Some(lines), _) => lines.join("\n"),
        (None, Some(why)) => format!("what would be restarted is left out: {why}"),
        (None, None) => {
            let error = dry_activation.error.as_deref();
            page.paint(Tone::Bad, error.unwrap_or_default())
        }
    }
}
