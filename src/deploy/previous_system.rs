//! What an activation finds: where a rollback leads, and what was well before.

use std::path::Path;

use anyhow::Result;

use crate::deploy::{context::Context, health};
use crate::model::{store_path, PreviousSystem, State};
use crate::nix;
use crate::sys::fs;
use crate::system::{self, systemd};

/// What there is before an activation. Units that the very system broke when it was last activated have not failed
/// before it.
pub fn find(ctx: &Context, state: &State, out: &Path) -> Result<PreviousSystem> {
    let profile = ctx.profile();
    let mut failed_units = systemd::failed_units(&ctx.paths)?;
    let latest = state.latest_activation_of(out);
    if let Some(units) = latest.and_then(|latest| latest.units.as_ref()) {
        failed_units.retain(|unit| !units.failed.contains(unit));
    }
    let mut system = fs::read_link_optional(&ctx.paths.current_system())?;
    if let Some(runs) = system
        .as_deref()
        .filter(|s| s.starts_with(store_path::STORE))
    {
        // Where a rollback leads must not be collected before it is known to be needless.
        if let Err(error) = nix::add_gc_root(runs, &ctx.paths.before_root()) {
            log::warn!(
                "A rollback to {} is not possible: {error:#}",
                runs.display()
            );
            system = None;
        }
    }
    Ok(PreviousSystem {
        system,
        booted: fs::read_link_optional(&ctx.paths.booted_system())?,
        boots: system::of_profile(&profile),
        generation: system::generation(&profile)?,
        newest: Some(system::generations(&profile)?.pop().unwrap_or(0)),
        profile,
        reachable: health::reachable_remotes(ctx),
        failed_units,
        unit_lists: system::unit_lists(&ctx.paths)?,
    })
}
