//! A rewrite of main that the operator accepts: asked for by `comin accept`, taken up by the next deploy.

use anyhow::{bail, ensure, Result};

use crate::deploy::{commits::Commits, context::Context, observe, order::order_deploy};
use crate::git::mirror::Mirror;
use crate::model::{Branch, Commit, History, Reach, RemoteFacts, RemoteName, Signature};
use crate::state::requests::Rewrite;
use crate::state::store;
use crate::sys::{fs, json};

/// Orders that a main be accepted although it does not contain the accepted one, and asks for a
/// deploy. `wanted` is the beginning of its id.
///
/// # Errors
/// No remote has such a main now, it is not signed where that is required, or the order cannot be
/// written.
pub fn accept(ctx: &Context, wanted: &str) -> Result<()> {
    let mains = observe::remotes(ctx);
    let (remote, branch, commit) = find(&mains, wanted)?;
    let mirror = Mirror::open(&ctx.paths)?;
    if let Signature::Refused(unverified) = Commits::of(ctx, Ok(&mirror)).signature(commit) {
        bail!("{} cannot be accepted: {unverified}", commit.short());
    }
    if store::read(&ctx.paths)?.accepted_main.as_ref() == Some(commit) {
        // The latest order counts, and not one before it that no deploy has taken up yet.
        fs::remove_optional(&ctx.paths.rewrite())?;
        log::info!("{commit} is the accepted main already");
        return Ok(());
    }
    let rewrite = Rewrite {
        commit: commit.clone(),
        remote: remote.clone(),
        branch: branch.name.clone(),
    };
    json::write_durably(&ctx.paths.rewrite(), &rewrite)?;
    order_deploy(
        ctx,
        &format!("{rewrite} is accepted as main, and deployed next"),
    );
    Ok(())
}

/// The one main whose id begins so, of a remote that can be fetched.
fn find<'a>(
    remotes: &'a [RemoteFacts],
    wanted: &str,
) -> Result<(&'a RemoteName, &'a Branch, &'a Commit)> {
    ensure!(
        wanted.len() >= Commit::LEAST,
        "{wanted:?} is too short for a commit: give at least {} digits of its id",
        Commit::LEAST
    );
    let mains: Vec<(&RemoteName, &Branch, &Commit)> = remotes
        .iter()
        .filter(|remote| remote.reach == Reach::Fetched)
        .filter_map(|remote| {
            let main = remote.main.as_ref()?;
            Some((&remote.name, &main.branch, main.commit.as_ref()?))
        })
        .collect();
    let mut found = mains
        .iter()
        .filter(|(_, _, commit)| commit.as_str().starts_with(wanted));
    let Some(&first) = found.next() else {
        let heads: Vec<String> = mains
            .iter()
            .map(|(remote, branch, commit)| format!("{remote}/{} is at {commit}", branch.name))
            .collect();
        if heads.is_empty() {
            bail!("No remote could be fetched: look at comin status");
        }
        bail!("No main is at {wanted:?}: {}", heads.join(", "));
    };
    ensure!(
        found.all(|(_, _, commit)| *commit == first.2),
        "{wanted} begins the ids of several mains: give more digits"
    );
    Ok(first)
}
