//! What `comin plan` shows.

use std::path::Path;

use anyhow::Result;

use super::status::{chosen, host};
use crate::deploy::preview::{self, Preview};
use crate::deploy::{commits::Commits, context::Context, lookup, observe::Snapshot, operator};
use crate::git::mirror::Mirror;
use crate::model::{select::decide, Target};
use crate::nix::closure_diff::ClosureDiff;
use crate::report::plan::Plan;
use crate::report::preview::{Build, Previewed};
use crate::sys::{fs, progress};
use crate::system::{self, dry_activate::DryActivation};

/// Considers what a deploy would do.
pub fn plan(machine: &Context) -> Result<Plan> {
    let mirror = Mirror::open(&machine.paths);
    let commits = Commits::of(machine, mirror.as_ref());
    let state = operator::foreseen(&machine.paths, mirror.as_ref().ok())?;
    let snapshot = Snapshot::take(machine)?;
    let mut facts = snapshot.facts(&machine.config, &state);
    let mut decision = decide(&facts, &commits);
    if let Ok(mirror) = &mirror {
        decision = lookup::look(machine, mirror, &mut facts, decision);
    }
    let target = decision.selected.as_ref();
    let target = target.map(|target| chosen(target, &mirror));
    let host = host(machine, &snapshot, &state, &facts, &decision.action)?;
    Ok(Plan::new(decision, facts.prebuilt, target, host))
}

/// Builds what a plan selects.
pub fn build(machine: &Context, plan: Plan) -> Result<Previewed> {
    let target = plan.selected.as_ref();
    let build = target.map(|target| match plan.unbuilt() {
        Some(reason) => Ok(skipped(reason)),
        None => preview(machine, target, plan.prebuilt.as_deref()),
    });
    let build = build.transpose()?;
    Ok(Previewed { plan, build })
}

fn skipped(reason: String) -> Build {
    Build {
        skipped: Some(reason),
        ..Build::default()
    }
}

/// What a target would bring. Its system has to be there while it is compared.
fn preview(machine: &Context, target: &Target, prebuilt: Option<&Path>) -> Result<Build> {
    let Context { paths, .. } = machine;
    let built = match preview::preview(machine, target, prebuilt)? {
        Preview::Skipped(reason) => return Ok(skipped(reason)),
        Preview::System(built) => built,
    };
    let (out, operation) = (&built.out, target.operation);
    let inhibitors = system::switch_inhibitors(paths, out);
    let before = fs::read_link_optional(&paths.current_system())?;
    let dry_activation = DryActivation::of(paths, out, operation, &inhibitors)?;
    let compare = |before| {
        let compare = || ClosureDiff::between(before, out);
        progress::during("Comparing the systems", compare)
    };
    Ok(Build {
        skipped: None,
        runs_already: system::is_active(&machine.profile(), paths, out, operation)?,
        closure: before.as_ref().map(|before| compare(before)),
        dry_activation: Some(dry_activation),
        inhibitors,
        before,
        derivation: built.derivation.clone(),
        out: Some(out.clone()),
    })
}
