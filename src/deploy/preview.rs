//! What a deployment would bring, found out without deploying: evaluates and builds, and changes nothing
//! of the machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::config::paths::Paths;
use crate::deploy::{build, context::Context, evaluation::NixSource, prebuilt};
use crate::git::mirror::Mirror;
use crate::model::Target;
use crate::nix::{self, events::in_repository, Evaluation};
use crate::sys::{progress, temp_dir::TempDir};
use crate::system;

/// What a deployment would bring.
pub enum Preview {
    /// Nothing: it is not for this machine.
    Skipped(String),
    /// A system.
    System(Built),
}

/// A system that was built.
pub struct Built {
    /// Its derivation, if CI has not built it.
    pub derivation: Option<String>,
    /// Where it is.
    pub out: PathBuf,
    /// Keeps it from being collected.
    _root: TempDir,
}

/// A temporary root of the person who asks: only root can write to the mirror.
fn scratch_root() -> io::Result<TempDir> {
    let folder = TempDir::new("comin-plan-")?;
    // The user who evaluates reads the repository in there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    let paths = Paths::outside_state(folder.path());
    fs::create_dir_all(paths.gcroots())?;
    // A deploy would have made this directory before it evaluates.
    fs::create_dir_all(paths.run())?;
    Ok(folder)
}

/// Finds out what the deployment of a target would bring, by the system that CI has built, if it has.
pub fn preview(ctx: &Context, target: &Target, prebuilt: Option<&Path>) -> Result<Preview> {
    let root = scratch_root().context("Failed to create a temporary directory")?;
    let aside = Paths::outside_state(root.path());
    let (derivation, out) = if let Some(out) = prebuilt {
        build_aside(ctx, target, out, out, &aside)?;
        if let Some(reason) = prebuilt::check(ctx, target, out)? {
            return Ok(Preview::Skipped(reason));
        }
        (None, out.to_path_buf())
    } else {
        let evaluation = evaluate_aside(ctx, target, &aside)?;
        if let Some(reason) = build::machine_id_mismatch(ctx, evaluation.machine_id.as_deref())? {
            return Ok(Preview::Skipped(reason));
        }
        let derivation = evaluation.derivation;
        build_aside(ctx, target, Path::new(&derivation), &evaluation.out, &aside)?;
        (Some(derivation), evaluation.out)
    };
    Ok(Preview::System(Built {
        derivation,
        out,
        _root: root,
    }))
}

fn evaluate_aside(ctx: &Context, target: &Target, aside: &Paths) -> Result<Evaluation> {
    let mirror = Mirror::open(&ctx.paths)?;
    let source = NixSource::of(ctx, &mirror, target, Some(aside))?;
    let evaluate = || source.evaluate(None);
    let evaluated = progress::during_told(&format!("Evaluating {target}"), evaluate);
    let is_ours = |path: &str| mirror.has_file(&target.commit, path);
    let evaluated = evaluated.map_err(|error| in_repository(error, &target.commit, is_ours));
    let evaluated = evaluated.and_then(|evaluated| evaluated.context("it was stopped"));
    evaluated.with_context(|| format!("Failed to evaluate {target}"))
}

fn build_aside(
    ctx: &Context,
    target: &Target,
    from: &Path,
    out: &Path,
    aside: &Paths,
) -> Result<()> {
    let root = aside.gcroots().join("preview");
    let build = || {
        nix::build(from, &root, ctx.config.build_timeout, None)?;
        system::check_is_nixos(out)
    };
    progress::during_told(&format!("Building {target}"), build)
        .with_context(|| format!("Failed to build {target}"))
}
