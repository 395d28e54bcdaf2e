//! The commits in the mirror: what they say, and how they descend from each other.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use git2::{ErrorCode, ObjectType, Oid, Sort};
use jiff::Timestamp;

use super::ancestry;
use super::mirror::{commit, Mirror};
use crate::model::{Commit, Relation};
use crate::sys::text::shortened;

/// More bytes than a file has that says how others are kept.
const MAX_TEXT: usize = 1024 * 1024;

/// How many characters of a subject are kept.
const SUBJECT: usize = 200;

impl Mirror {
    pub(super) fn commit(&self, commit: &Commit) -> Result<git2::Commit<'_>> {
        let _owner = self.as_owner()?;
        Ok(self
            .repository
            .find_commit(Oid::from_str(commit.as_str())?)?)
    }

    /// The first line of a commit's message, as far as a person reads it.
    pub fn subject(&self, commit: &Commit) -> Result<String> {
        let commit = self.commit(commit)?;
        let subject = commit.summary_bytes().unwrap_or_default();
        let subject = String::from_utf8_lossy(subject);
        Ok(shortened(&subject, SUBJECT).into_owned())
    }

    /// When a commit was made, as it says itself.
    pub fn committed_at(&self, commit: &Commit) -> Result<Timestamp> {
        let seconds = self.commit(commit)?.time().seconds();
        Ok(Timestamp::from_second(seconds)?)
    }

    /// A commit's message, as the author wrote it.
    pub fn message(&self, commit: &Commit) -> Result<String> {
        let commit = self.commit(commit)?;
        Ok(String::from_utf8_lossy(commit.message_bytes()).into_owned())
    }

    /// Whether a commit has a file with this path.
    pub fn has_file(&self, commit: &Commit, path: &str) -> bool {
        let _owner = self.as_owner();
        let tree = self.commit(commit).and_then(|commit| Ok(commit.tree()?));
        tree.is_ok_and(|tree| tree.get_path(Path::new(path)).is_ok())
    }

    /// Whether a commit has files in Git LFS, and its flake says nothing of that: what the machine gets are pointers to
    /// these files.
    pub fn has_lfs_pointers(&self, commit: &Commit, flake: &Path) -> bool {
        let says = |path: &Path, words: &str| {
            let read = || -> Result<bool> {
                let _owner = self.as_owner()?;
                let entry = self.commit(commit)?.tree()?.get_path(path)?;
                let odb = self.repository.odb()?;
                let (size, _) = odb.read_header(entry.id())?;
                let text = (size <= MAX_TEXT)
                    .then(|| odb.read(entry.id()))
                    .transpose()?;
                let text = text.map_or(String::new(), |text| {
                    String::from_utf8_lossy(text.data()).into_owned()
                });
                Ok(text.contains(words))
            };
            read().unwrap_or(false)
        };
        says(Path::new(".gitattributes"), "filter=lfs") && !says(flake, "lfs")
    }

    /// The bytes of a commit object. They are those that the id stands for: libgit2 hashes what it
    /// reads and compares (`GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION`, on by default, and a test of
    /// ours), by the SHA-1 that detects collisions. It is built without SHA-256 repositories.
    pub fn raw_commit(&self, commit: &Commit) -> Result<Vec<u8>> {
        let read = || -> Result<Vec<u8>> {
            let _owner = self.as_owner()?;
            let id = Oid::from_str(commit.as_str())?;
            let odb = self.repository.odb()?;
            let object = odb.read(id)?;
            ensure!(object.kind() == ObjectType::Commit, "it is no commit");
            Ok(object.data().to_vec())
        };
        read().with_context(|| format!("Failed to read {commit}"))
    }

    /// Where `head` stands relative to another commit, `base`.
    pub fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        let compare = || -> Result<Relation> {
            let _owner = self.as_owner()?;
            let base = Oid::from_str(base.as_str())?;
            let head = Oid::from_str(head.as_str())?;
            // The mirror has the whole history of every head: what it lacks is in none of them.
            if self
                .repository
                .find_commit(base)
                .is_err_and(|e| e.code() == ErrorCode::NotFound)
            {
                return Ok(Relation::Diverged);
            }
            ancestry::relation(&self.repository.odb()?, base, head)
        };
        without_hashing(compare).unwrap_or_else(|error| {
            Relation::Unreadable(format!(
                "{error:#}; if the remote is complete, remove {}, and the next fetch makes it anew",
                self.path.display()
            ))
        })
    }

    /// The newest ancestors of `head` that are not in the history of `base`; at most `most`.
    pub fn ancestors(
        &self,
        base: Option<&Commit>,
        head: &Commit,
        most: usize,
    ) -> Result<Vec<Commit>> {
        let _owner = self.as_owner()?;
        let head = Oid::from_str(head.as_str())?;
        let mut walk = self.repository.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(head)?;
        if let Some(base) = base {
            walk.hide(Oid::from_str(base.as_str())?)?;
        }
        walk.filter(|oid| oid.as_ref().map_or(true, |oid| *oid != head))
            .take(most)
            .map(|oid| commit(oid?))
            .collect()
    }
}

/// Lets libgit2 read objects without hashing each one again, which is a sixth of a long walk: all were
/// hashed when they came, and what has rotted since does not inflate.
fn without_hashing<T>(read: impl FnOnce() -> T) -> T {
    git2::opts::strict_hash_verification(false);
    let result = read();
    git2::opts::strict_hash_verification(true);
    result
}
