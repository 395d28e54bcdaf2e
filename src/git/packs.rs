//! The packs of the mirror. Each fetch makes one, and whoever reads looks through all of them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::git_command;
use super::mirror::Mirror;
use crate::sys::command;

/// How many there may be; as many as git lets be by default (`gc.autoPackLimit`).
const MOST: usize = 50;
/// How long it may take to put them together. Who wants to fetch meanwhile waits, and systemd does not wait for long.
const PATIENCE: Duration = Duration::from_secs(120);

impl Mirror {
    /// Whether there are more packs than anybody should look through.
    pub fn is_scattered(&self) -> Result<bool> {
        let folder = self.path.join("objects/pack");
        let packs = fs::read_dir(&folder)
            .with_context(|| format!("Failed to read {}", folder.display()))?
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "pack"));
        Ok(packs.count() > MOST)
    }

    /// Puts them together, but for those that are large beside the others: they stay as they are. Whoever reads
    /// meanwhile finds what it needs; nothing may be fetched.
    pub fn gather(&self) -> Result<()> {
        let mut git = git_command::git();
        git.env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .arg("--git-dir")
            .arg(&self.path)
            .args(["repack", "--quiet", "-d", "--geometric=2"]);
        command::run(&mut git, "git repack", Some(PATIENCE)).map(drop)
    }
}
