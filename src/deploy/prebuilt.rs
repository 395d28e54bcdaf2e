//! A system that CI has built takes the place of evaluation and build: it is fetched and checked.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure, Context as _, Result};

use crate::deploy::build::{machine_id_mismatch, preempted, realise};
use crate::deploy::deployment::{Deployment, Stop};
use crate::deploy::{context::Context, preemption::Preemption};
use crate::model::{prebuilt::Identity, ConfirmStep, Outcome, Stage, Target};
use crate::nix::signatures::is_signed;
use crate::sys::fs;
use crate::system;

/// How many bytes of a `comin.json` are read.
const LARGEST: u64 = 64 * 1024;

/// Fetches a system that CI has built.
pub fn fetch(
    deployment: &mut Deployment,
    preemption: &Preemption,
    out: PathBuf,
) -> Result<PathBuf, Stop> {
    if !deployment.is_active()? {
        deployment.require_consent(ConfirmStep::Build)?;
    }
    if deployment.attempt.stage() != Stage::Building {
        deployment.enter(Stage::Building)?;
    }
    log::info!("Fetching {}, which CI has built", out.display());
    let fetched = realise(deployment, preemption, "Fetching", &out);
    let is_there = fetched.map_err(|error| {
        let out = out.display();
        anyhow!("{error:#}; a cache of nix.settings.substituters must have {out}, signed by a key of nix.settings.trusted-public-keys")
    })?;
    if !is_there {
        return preempted(Stage::Building);
    }
    match check(deployment.ctx, &deployment.attempt.target, &out)? {
        Some(reason) => Err(Stop::Ended(Outcome::Skipped { reason })),
        None => Ok(out),
    }
}

/// Whether a system that was fetched may be activated. Returns the reason, if the system is meant for another machine.
///
/// # Errors
/// It is no system, nobody who is trusted signed it, or it is that of another host or commit, or does not tell.
pub fn check(ctx: &Context, target: &Target, out: &Path) -> Result<Option<String>> {
    system::check_is_nixos(out)?;
    // Nix checks the signature only of what it fetches, and a note can name any path that is in the store: every user of
    // the machine can build one, with a `comin.json` to his liking. What the system refers to is part of what is signed.
    let runs = fs::read_link_optional(&ctx.paths.current_system())?;
    ensure!(
        runs.as_deref() == Some(out) || is_signed(out)?,
        "no key of nix.settings.trusted-public-keys signed {}, which is in the store already",
        out.display()
    );
    let file = fs::read_small_optional(&out.join("comin.json"), LARGEST)?;
    let file = file.context("the system does not tell its host: it has no comin.json, which the NixOS module of comin writes")?;
    let identity: Identity = serde_json::from_slice(&file)
        .context("the comin.json of the system cannot be understood")?;
    let prebuilt = ctx.config.prebuilt.as_ref();
    let is_by_url = prebuilt.is_some_and(|prebuilt| prebuilt.url.is_some());
    let needs_revision = is_by_url || target.signer.is_some();
    if let Some(error) = identity.mismatch(&ctx.config.hostname, &target.commit, needs_revision) {
        bail!(error);
    }
    machine_id_mismatch(ctx, identity.machine_id.as_deref())
}
