//! What keeps the mirror from growing: what killed fetches have left goes, and small packs become a large one.

use anyhow::Result;

use crate::config::Remote;
use crate::deploy::context::Context;
use crate::git::mirror::Mirror;
use crate::sys::fs::{self, Lock};

/// Removes what killed fetches have left, as long as no other remote than this one is being fetched: whose
/// they are cannot be seen, and a machine that kills each fetch for its size would soon be full of them.
pub fn remove_stale_files(ctx: &Context, mirror: &Mirror, remote: &Remote) -> Result<()> {
    if mirror.leftovers()?.is_empty() {
        return Ok(());
    }
    let Some(_at_rest) = others_rest(ctx, Some(remote))? else {
        return Ok(());
    };
    for leftover in mirror.leftovers()? {
        fs::remove_optional(&leftover)?;
    }
    Ok(())
}

/// Puts the packs of many fetches together, as long as nothing is being fetched. Else the next deploy does.
pub fn repack(ctx: &Context, mirror: &Mirror) {
    let gather = || -> Result<()> {
        if !mirror.is_scattered()? {
            return Ok(());
        }
        // Named, or the locks would be free again before it begins.
        let Some(_at_rest) = others_rest(ctx, None)? else {
            return Ok(());
        };
        mirror.gather()
    };
    if let Err(error) = gather() {
        // Git has said something already.
        log::warn!("The packs of the mirror could not be put together: {error:#}");
    }
}

/// What keeps all remotes but this one from being fetched, if none of them is at the moment.
fn others_rest(ctx: &Context, but: Option<&Remote>) -> Result<Option<Vec<Lock>>> {
    let others = ctx.config.remotes.iter();
    let others = others.filter(|other| but.is_none_or(|but| other.name != but.name));
    others
        .map(|other| Lock::take_if_free(&ctx.paths.remote_lock(&other.name)))
        .collect()
}
