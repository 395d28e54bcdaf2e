//! The fetch of one remote.

use anyhow::{Error, Result};
use jiff::Timestamp;

use crate::config::url::Url;
use crate::config::Remote;
use crate::deploy::context::{Completion, Context};
use crate::deploy::maintenance;
use crate::deploy::observe;
use crate::git::heads::{self, Heads};
use crate::git::mirror::Mirror;
use crate::state::deploy_record::DeployRecord;
use crate::state::fetch_record::FetchRecord;
use crate::state::requests;
use crate::sys::fs::Lock;
use crate::sys::journal;
use crate::sys::text;

/// Fetches one remote and says what changed: its heads, or whether it can be reached.
///
/// # Errors
/// The record of the fetch cannot be written. A fetch that fails is no error: it is recorded.
fn fetch_remote(ctx: &Context, remote: &Remote) -> Result<Completion> {
    let _alone = Lock::wait(&ctx.paths.remote_lock(&remote.name))?;
    let before = FetchRecord::read(&ctx.paths, remote)?;
    let told = before.as_ref().and_then(|before| before.error.as_deref());
    let error = update_mirror(ctx, remote, told).err();
    let error = error.as_ref().map(sentence);
    match &error {
        // The journal is told once, and anybody else may not have heard it.
        Some(error) if told.is_none() || !journal::reads_us() => log::warn!(
            "Failed to fetch {} from {}, whose branches do not count until it is back: {error}",
            remote.name,
            remote.url
        ),
        None if told.is_some() => log::info!("{} can be fetched again", remote.name),
        Some(_) | None => {}
    }
    let ending = match error {
        None => Completion::Success,
        Some(_) => Completion::Failure,
    };
    FetchRecord::now(remote, before.as_ref(), error).write(&ctx.paths, remote)?;
    Ok(ending)
}

/// An idle poll of a local path ends after the comparison: it has read six small files. `told` is how the fetch
/// before has failed, if it has.
fn update_mirror(ctx: &Context, remote: &Remote, told: Option<&str>) -> Result<()> {
    let known = heads::known_heads(&ctx.paths, remote).ok();
    if let Url::Local(path) = &remote.url {
        let heads = heads::local_heads(path, remote)?;
        if heads.is_some() && heads == known {
            return Ok(());
        }
    }
    let mirror = Mirror::ready(&ctx.paths, &ctx.config.remotes)?;
    maintenance::remove_stale_files(ctx, &mirror, remote)?;
    let heads = match mirror.fetch(remote) {
        Ok(heads) => heads,
        // What it comes from was looked for when it came first.
        Err(error) if told.is_some_and(|told| told == sentence(&error)) => return Err(error),
        Err(error) => repair_and_fetch(ctx, mirror, remote, error)?,
    };
    let known = known.unwrap_or_default();
    for (branch, old, new) in [
        (&remote.main, known.main, heads.main),
        (&remote.testing, known.testing, heads.testing),
    ] {
        let Some(branch) = branch else { continue };
        let name = format!("{}/{}", remote.name, branch.name);
        match (old, new) {
            (old, Some(new)) if old.as_ref() != Some(&new) => {
                log::info!("{name} is at {}", new.short());
            }
            (Some(_), None) => log::info!("{name} is gone"),
            (_, _) => {}
        }
    }
    Ok(())
}

/// Fetches once more where what is in the mirror was in the way. To find that out, all of it may be read.
fn repair_and_fetch(
    ctx: &Context,
    mirror: Mirror,
    remote: &Remote,
    mut error: Error,
) -> Result<Heads> {
    if mirror.forget_unreadable(&error)? {
        match mirror.fetch(remote) {
            Ok(heads) => return Ok(heads),
            Err(another) => error = another,
        }
    }
    let Some(damage) = mirror.rot(&error) else {
        return Err(error);
    };
    log::warn!("The mirror is damaged and is made anew from the remotes: {damage:#}");
    mirror.discard()?;
    Mirror::ready(&ctx.paths, &ctx.config.remotes)?.fetch(remote)
}

/// Why a fetch has failed, as it is told and recorded.
fn sentence(error: &Error) -> String {
    text::printable(&format!("{error:#}")).into_owned()
}

/// Fetches, and asks for a deploy if there is something to decide.
pub fn fetch(ctx: &Context, remotes: &[&Remote]) -> Result<Completion> {
    let ending = fetch_all(ctx, remotes)?;
    let decided = DeployRecord::read(&ctx.paths)?;
    let seen = observe::remotes(ctx)?;
    if decided.is_none_or(|decided| {
        decided.needs_deploy(&ctx.config, &ctx.paths, &seen, Timestamp::now())
    }) {
        requests::request_deploy(&ctx.paths)?;
    }
    Ok(ending)
}

pub fn fetch_all(ctx: &Context, remotes: &[&Remote]) -> Result<Completion> {
    let mut ending = Completion::Failure;
    for remote in remotes {
        if fetch_remote(ctx, remote)? == Completion::Success {
            ending = Completion::Success;
        }
    }
    Ok(ending)
}
