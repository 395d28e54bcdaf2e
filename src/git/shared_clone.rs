//! Repositories that borrow what they have from the mirror: for what a fetch brings, and for those who may read the
//! mirror, and not write to it, and for whom Nix would not read it, because it is not theirs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::mirror::{init, Mirror};
use crate::config::paths::Paths;
use crate::model::Commit;

/// Makes a repository that has all that the mirror has, and copies nothing for that.
pub(super) fn borrow_objects(mirror: &Path, path: &Path) -> Result<()> {
    init(path)?;
    let objects = format!("{}\n", mirror.join("objects").display());
    Ok(fs::write(path.join("objects/info/alternates"), objects)?)
}

impl Mirror {
    /// Makes a mirror below other paths that has one commit, as the target. It is good for as long as this mirror is.
    pub fn lend(&self, commit: &Commit, to: &Paths) -> Result<()> {
        let path = to.repository();
        let lend = || -> Result<()> {
            borrow_objects(&self.path, &path)?;
            let borrower = Self::open_own(to)?;
            borrower.link()?;
            borrower.keep_target(commit)
        };
        lend().with_context(|| format!("Failed to make {}", path.display()))
    }
}
