//! The packs of the mirror. Each fetch makes one, and every reader looks through all of them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{git_command::git, mirror::Mirror};
use crate::sys::{command, fs, owner::Owner};

/// How many there may be; as many as git lets be by default (`gc.autoPackLimit`).
const MOST: usize = 50;
/// How long a repack may take. A fetch waits meanwhile, and systemd limits the time of a fetch.
const PATIENCE: Duration = Duration::from_secs(120);

impl Mirror {
    /// Whether there are more packs than anybody should look through.
    pub fn needs_repack(&self) -> Result<bool> {
        let files = fs::list(&self.path.join("objects/pack"))?.into_iter();
        let packs = files.filter(|file| file.extension().is_some_and(|it| it == "pack"));
        Ok(packs.count() > MOST)
    }

    /// The files of fetches and repacks that were killed or are still at work.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>> {
        let mut unfinished = fs::list(&self.path.join("objects/pack"))?;
        unfinished.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with("pack-") || name.ends_with(".lock")
        });
        for remote in fs::list(&self.path.join("incoming"))? {
            unfinished.extend(fs::list(&remote)?);
        }
        Ok(unfinished)
    }

    /// Puts small packs together. Packs that are large beside the others stay. Others may read meanwhile, but not fetch.
    pub fn repack(&self) -> Result<()> {
        let mut git = git(Owner::other_than_root(&self.path)?);
        git.arg("--git-dir")
            .arg(&self.path)
            .args(["repack", "--quiet", "-d", "--geometric=2"]);
        command::run(&mut git, "git repack", Some(PATIENCE)).map(drop)
    }
}
