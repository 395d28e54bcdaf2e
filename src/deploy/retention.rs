//! Removes what is no longer kept of what was deployed: GC roots of systems, and generations of the profile, each of which
//! the boot loader offers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::deploy::context::Context;
use crate::model::retention::{surplus_generations, surplus_roots};
use crate::model::{Attempt, Generations, State};
use crate::nix;
use crate::sys::fs;
use crate::system;

/// Removes what is no longer to be kept.
pub fn prune(ctx: &Context, state: &State) -> Result<()> {
    let profile = ctx.profile();
    let gcroots = ctx.paths.gcroots();
    let mut in_use = Vec::new();
    for link in [
        ctx.paths.current_system(),
        ctx.paths.booted_system(),
        ctx.paths.before_root(),
    ] {
        in_use.extend(fs::read_link_optional(&link)?);
    }
    let mut generations = BTreeMap::new();
    for generation in system::generations(&profile)? {
        let link = system::generation_link(&profile, generation);
        generations.extend(fs::read_link_optional(&link)?.map(|system| (generation, system)));
    }
    let all = Generations {
        attempts: &state.attempts,
        profile: &profile,
        systems: generations,
        current: system::generation(&profile)?,
        in_use,
    };
    let keep = ctx.config.retention;
    let roots = surplus_roots(&state.attempts, &roots(&gcroots)?, keep);
    let generations = surplus_generations(&all, keep.boot_entries);
    // The state of an attempt that has ended: nothing waits to be built.
    fs::remove_optional(&ctx.paths.derivation_root())?;
    for attempt in roots {
        fs::remove_optional(&gcroots.join(Attempt::root_of(attempt)))?;
    }
    if !generations.is_empty() {
        // Nix keeps the current generation even if it is told not to.
        nix::delete_generations(&profile, &generations)?;
        let numbers: Vec<String> = generations.iter().map(u64::to_string).collect();
        log::info!(
            "Removed the old generations {} of {}",
            numbers.join(", "),
            profile.display()
        );
    }
    Ok(())
}

/// The attempts that have a GC root.
fn roots(gcroots: &Path) -> Result<Vec<u64>> {
    let links = fs::list(gcroots)?;
    let names = links.iter().filter_map(|link| link.file_name()?.to_str());
    let mut roots: Vec<u64> = names.filter_map(Attempt::id_of_root).collect();
    roots.sort_unstable();
    Ok(roots)
}
