//! Keeps the mirror small: unfinished files are removed, and small packs are repacked.

use anyhow::Result;

use crate::deploy::context::Context;
use crate::git::mirror::Mirror;
use crate::sys::fs::{remove_all, Lock};

/// Tidies the mirror, as long as nothing is being fetched. Else the next deploy does.
pub fn tidy(ctx: &Context, mirror: &Mirror) {
    let tidy = || -> Result<()> {
        let owner = mirror.as_owner()?;
        let needs_repack = mirror.needs_repack()?;
        if !needs_repack && mirror.unfinished()?.is_empty() {
            return Ok(());
        }
        let locks = ctx
            .config
            .remotes
            .iter()
            .map(|it| ctx.paths.remote_lock(&it.name));
        let locks = locks.map(|lock| Lock::take_if_free(&lock));
        // Named, or the locks would be free again before it begins.
        let Some(_at_rest) = locks.collect::<Result<Option<Vec<_>>>>()? else {
            return Ok(());
        };
        for path in mirror.unfinished()? {
            remove_all(&path)?;
        }
        drop(owner);
        if needs_repack {
            mirror.repack()?;
        }
        Ok(())
    };
    if let Err(error) = tidy() {
        // Git has said something already.
        log::warn!("Failed to repack the mirror: {error:#}");
    }
}
