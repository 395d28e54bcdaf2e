//! A repository that borrows what it has from the mirror: for those who may read the mirror, and not
//! write to it, and for whom Nix would not read it, because it is not theirs.

use std::fs;

use anyhow::{Context, Result};
use git2::Repository;

use super::mirror::Mirror;
use crate::config::paths::Paths;
use crate::model::commit::Commit;

impl Mirror {
    /// Makes a mirror below other paths that has one commit, as the target, and copies nothing for that.
    /// It is good for as long as this mirror is.
    pub fn lend(&self, commit: &Commit, to: &Paths) -> Result<()> {
        let path = to.repository();
        let lend = || -> Result<()> {
            Repository::init_bare(&path)?;
            let objects = format!("{}\n", self.path.join("objects").display());
            fs::write(path.join("objects/info/alternates"), objects)?;
            let borrower = Self::open(to)?;
            borrower.link()?;
            borrower.keep_target(commit)
        };
        lend().with_context(|| format!("Failed to make {}", path.display()))
    }
}
