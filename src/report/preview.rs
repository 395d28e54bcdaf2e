//! The plan, and what what is selected would bring.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::difference::Difference;
use super::plan::{Outlook, Plan};
use super::text::{Page, Tone};
use super::Report;
use crate::deploy::cycle::{Ending, Machine};
use crate::deploy::preview::{Built, Preview};
use crate::sys::journal::printable;
use crate::system::dry_activate::Rehearsal;

/// The plan, and what the system of what is selected would bring.
#[derive(Debug, Serialize)]
pub struct Previewed {
    #[serde(flatten)]
    pub(super) plan: Plan,
    pub(super) build: Option<Build>,
}

/// What it would bring.
#[derive(Debug, Default, Serialize)]
pub(super) struct Build {
    pub(super) skipped: Option<String>,
    pub(super) derivation: Option<String>,
    pub(super) out: Option<PathBuf>,
    pub(super) runs_already: bool,
    pub(super) inhibitors: Vec<String>,
    pub(super) before: Option<PathBuf>,
    pub(super) closure: Option<Difference>,
    pub(super) dry_activation: Option<DryActivation>,
}

/// What its switch says that it would do.
#[derive(Debug, Serialize)]
pub(super) struct DryActivation {
    pub(super) lines: Option<Vec<String>>,
    pub(super) left_out: Option<String>,
    pub(super) error: Option<String>,
}

impl Previewed {
    /// Builds what a plan selects.
    pub fn of(machine: &Machine, plan: Plan) -> Result<Self> {
        let preview = plan.selected().map(|target| machine.preview(target));
        let build = preview.transpose()?.map(Build::of);
        Ok(Self { plan, build })
    }

    /// Whether all of it was done.
    pub fn ending(&self) -> Ending {
        let rehearsal = self
            .build
            .as_ref()
            .and_then(|build| build.dry_activation.as_ref());
        match rehearsal.and_then(|rehearsal| rehearsal.error.as_ref()) {
            Some(error) => {
                log::error!("{error}");
                Ending::Failed
            }
            None => Ending::Done,
        }
    }
}

impl Build {
    fn of(preview: Preview) -> Self {
        match preview {
            Preview::Skipped(reason) => Self {
                skipped: Some(reason),
                ..Self::default()
            },
            Preview::System(built) => Self::of_system(built),
        }
    }

    /// Takes the system as a whole: it has to be there while it is compared.
    fn of_system(built: Built) -> Self {
        let before = built.runs.as_ref();
        Self {
            skipped: None,
            closure: before.map(|before| Difference::between(before, &built.out)),
            derivation: Some(built.derivation),
            out: Some(built.out),
            runs_already: built.is_there,
            inhibitors: built.inhibitors,
            before: built.runs,
            dry_activation: Some(DryActivation::of(built.rehearsal)),
        }
    }
}

impl DryActivation {
    fn of(rehearsal: Rehearsal) -> Self {
        let (lines, left_out, error) = match rehearsal {
            Rehearsal::Said(lines) => (Some(lines), None, None),
            Rehearsal::LeftOut(why) => (None, Some(why), None),
            Rehearsal::Failed(error) => (None, None, Some(error)),
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
        self.plan.knowing(outlook, page) + &build.text(page)
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
