//! The mirror: a bare repository with what comin follows.

use std::path::PathBuf;

use anyhow::{anyhow, Context, Result};
use git2::{ErrorCode, Oid, Repository};

use super::server::start_libgit2;
use crate::config::paths::Paths;
use crate::model::commit::Commit;

/// Keeps the accepted main, also when the state file is lost.
pub const ACCEPTED: &str = "refs/comin/main";
/// Keeps the commit under evaluation: the remote's own branch may move meanwhile.
pub const TARGET: &str = "refs/comin/target";

/// The bare repository in the state folder.
pub struct Mirror {
    pub(super) repository: Repository,
    pub(super) path: PathBuf,
    /// Held by whoever makes it.
    pub(super) lock: PathBuf,
}

impl Mirror {
    /// Opens the mirror to read it.
    pub fn open(paths: &Paths) -> Result<Self> {
        start_libgit2();
        let path = paths.repository();
        let repository = Repository::open_bare(&path)
            .with_context(|| format!("Failed to open the mirror {}", path.display()))?;
        Ok(Self {
            repository,
            path,
            lock: paths.repository_lock(),
        })
    }

    pub(super) fn head(&self, reference: &str) -> Result<Option<Commit>> {
        match self.repository.refname_to_id(reference) {
            Ok(oid) => Ok(Some(commit(oid)?)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("Failed to read {reference}")),
        }
    }

    /// The accepted main, as the mirror keeps it.
    pub fn accepted(&self) -> Result<Option<Commit>> {
        self.head(ACCEPTED)
    }

    /// Keeps the accepted main.
    pub fn keep_accepted(&self, commit: &Commit) -> Result<()> {
        self.point(ACCEPTED, commit)
    }

    /// Keeps the commit that is going to be evaluated, as [`TARGET`].
    pub fn keep_target(&self, commit: &Commit) -> Result<()> {
        self.point(TARGET, commit)
    }

    pub(super) fn point(&self, reference: &str, commit: &Commit) -> Result<()> {
        if self.head(reference)?.as_ref() != Some(commit) {
            let oid = Oid::from_str(commit.as_str())?;
            self.unlock(reference)?;
            self.repository
                .reference(reference, oid, true, "comin")
                .with_context(|| format!("Failed to set {reference} in the mirror"))?;
        }
        Ok(())
    }

    pub(super) fn delete(&self, pattern: &str, stale: impl Fn(&str) -> bool) -> Result<bool> {
        let mut deleted = false;
        for reference in self.repository.references_glob(pattern)? {
            let mut reference = reference?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            if stale(&name) {
                self.unlock(&name)?;
                reference.delete()?;
                deleted = true;
            }
        }
        Ok(deleted)
    }

    /// Removes the lock on a reference that a process left which was killed: who may write the reference
    /// now holds a lock of comin's own, so nobody else is at it. No fetch would ever work again.
    pub(super) fn unlock(&self, reference: &str) -> Result<()> {
        crate::sys::fs::remove_optional(&self.path.join(format!("{reference}.lock"))).map(|_| ())
    }
}

/// The id of an object that is taken for a commit.
pub(super) fn commit(oid: Oid) -> Result<Commit> {
    oid.to_string()
        .parse()
        .map_err(|error: String| anyhow!(error))
}
