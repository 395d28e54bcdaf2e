//! What `comin plan` shows.

use anyhow::Result;

use super::status::{chosen, host};
use crate::deploy::preview::{self, Built, Preview};
use crate::deploy::{commits::Commits, context::Context, lookup, observe::Snapshot, operator};
use crate::git::mirror::Mirror;
use crate::model::select::decide;
use crate::nix::closure_diff;
use crate::report::preview::{Build, DryActivation, Previewed};
use crate::report::{closure::Difference, plan::Plan};
use crate::signature::signers::Signers;
use crate::sys::progress;

/// Considers what a deploy would do.
pub fn plan(machine: &Context, signers: &Result<Option<Signers>>) -> Result<Plan> {
    let mirror = Mirror::open(&machine.paths);
    let commits = Commits::of_any(&mirror, signers);
    let state = operator::foreseen(&machine.paths, mirror.as_ref().ok())?;
    let snapshot = Snapshot::take(machine)?;
    let mut facts = snapshot.facts(&machine.config, &state);
    let mut decision = decide(&facts, &commits);
    if let Ok(mirror) = &mirror {
        decision = lookup::look(machine, mirror, &mut facts, decision);
    }
    let target = decision.selected.as_ref();
    let target = target.map(|target| chosen(target, &mirror));
    Ok(Plan::new(
        &state,
        decision,
        facts.prebuilt,
        target,
        host(machine, &snapshot, &state)?,
    ))
}

/// Builds what a plan selects.
pub fn build(machine: &Context, plan: Plan) -> Result<Previewed> {
    let preview = plan.selected.as_ref().map(|target| match plan.unbuilt() {
        Some(reason) => Ok(Preview::Skipped(reason)),
        None => preview::preview(machine, target, plan.prebuilt.as_deref()),
    });
    let build = preview.transpose()?.map(|preview| match preview {
        Preview::Skipped(reason) => Build {
            skipped: Some(reason),
            ..Build::default()
        },
        Preview::System(built) => of_system(built),
    });
    Ok(Previewed { plan, build })
}

/// Takes the system as a whole: it has to be there while it is compared.
fn of_system(built: Built) -> Build {
    let before = built.runs.as_ref();
    let compare = |before| {
        let compare = || closure_diff::compare(before, &built.out);
        Difference::of(progress::during("Comparing the systems", compare))
    };
    Build {
        skipped: None,
        closure: before.map(|before| compare(before)),
        derivation: built.derivation,
        runs_already: built.is_there,
        inhibitors: built.inhibitors,
        dry_activation: Some(DryActivation::of(built.dry_run)),
        before: built.runs,
        out: Some(built.out),
    }
}
