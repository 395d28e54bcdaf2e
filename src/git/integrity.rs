//! What may be wrong with the mirror, and what killed fetches have left in it.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure, Context, Result};
use git2::{ErrorClass, ObjectType};

use super::mirror::{Mirror, ACCEPTED, TARGET};
use crate::config::Remote;
use crate::model::commit::Commit;
use crate::sys::fs::Lock;

impl Mirror {
    /// Whether every ref leads to a commit and its tree. What lies deeper shows when it is used.
    pub(super) fn sound(self, remotes: &[Remote]) -> Result<Self> {
        self.repository.find_reference("HEAD")?;
        // libgit2 reads zeros as nothing; the git that Nix runs fails on them, each time.
        ensure!(
            self.repository.config()?.get_bool("core.bare")?,
            "its config says that it is none"
        );
        // Root's git, which Nix runs, would go by other settings than those that no fetch can write.
        let link = crate::sys::fs::read_link_optional(&self.path.join(".git"))?;
        ensure!(
            link.is_none_or(|link| link == Path::new(".")),
            "its .git leads elsewhere"
        );
        let elsewhere = self.path.join("commondir");
        ensure!(
            fs::symlink_metadata(elsewhere).is_err(),
            "its commondir leads elsewhere"
        );
        // Beside the walk below, for that passes over a file which holds no reference.
        for remote in remotes {
            self.heads(remote)?;
        }
        for reference in [ACCEPTED, TARGET] {
            self.head(reference)?;
        }
        for reference in self.repository.references()? {
            let reference = reference?;
            let name = String::from_utf8_lossy(reference.name_bytes());
            reference
                .peel_to_commit()
                .and_then(|commit| commit.tree())
                .with_context(|| format!("{name} cannot be read"))?;
        }
        Ok(self)
    }

    /// Removes the branches whose history cannot be read, if it may be their fault that a fetch failed: libgit2 tells
    /// each server of all of them. Says whether there were any.
    pub fn forget_unreadable(&self, error: &anyhow::Error) -> Result<bool> {
        if !is_about_objects(error) {
            return Ok(false);
        }
        let read = |name: &str| -> Result<(), git2::Error> {
            let mut walk = self.repository.revwalk()?;
            walk.push_ref(name)?;
            walk.try_for_each(|commit| commit.map(drop))
        };
        self.delete("refs/remotes/*", |name| match read(name) {
            Ok(()) => false,
            Err(error) => {
                log::warn!("Nothing else could be fetched: {name} is given up until it is fetched again, for its history cannot be read: {error}");
                true
            }
        })
    }

    /// What fetches that were killed have left: packs that came in part, as large as they may be, and locks
    /// that no reference has. Those of fetches under way are among them.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let folder = self.path.join("objects/pack");
        let list = || -> io::Result<Vec<PathBuf>> {
            let shallow = self.path.join("shallow.lock");
            let mut leftovers: Vec<PathBuf> =
                shallow.exists().then_some(shallow).into_iter().collect();
            for entry in fs::read_dir(&folder)? {
                let name = entry?.file_name();
                let text = name.to_string_lossy();
                // By libgit2, and by the git that puts packs together.
                let is_part = ["pack_git2_", "tmp_", ".tmp-"]
                    .iter()
                    .any(|part| text.starts_with(part));
                if is_part || text.ends_with(".lock") {
                    leftovers.push(folder.join(&name));
                }
            }
            Ok(leftovers)
        };
        list().with_context(|| format!("Failed to read {}", folder.display()))
    }

    /// What is missing of a commit's files, if anything is. A folder is looked at once, however often the commit
    /// has it: a few that hold each other many times are more files than anybody can count.
    pub fn damage(&self, commit: &Commit) -> Option<String> {
        let check = || -> Result<()> {
            let odb = self.repository.odb()?;
            let top = self.commit(commit)?.tree_id();
            let (mut seen, mut left) = (HashSet::from([top]), vec![top]);
            while let Some(folder) = left.pop() {
                let Ok(tree) = self.repository.find_tree(folder) else {
                    // What is whole, and can be read by nobody all the same, somebody has made so.
                    odb.read(folder)?;
                    continue;
                };
                for entry in &tree {
                    let id = entry.id();
                    match entry.kind() {
                        Some(ObjectType::Tree) if seen.insert(id) => left.push(id),
                        Some(ObjectType::Blob) => {
                            odb.read_header(id)
                                .map_err(|_| anyhow!("{id} is missing"))?;
                        }
                        // The commit of a submodule is in another repository.
                        Some(_) | None => {}
                    }
                }
            }
            Ok(())
        };
        check().err().map(|error| format!("{error:#}"))
    }

    /// What is wrong with the mirror, if it may be its fault that a fetch failed: the whole of it is read.
    /// A remote that sends too little fails alike, and must not cost the mirror.
    pub fn rot(&self, error: &anyhow::Error) -> Option<anyhow::Error> {
        if !is_about_objects(error) {
            return None;
        }
        let check = || -> Result<()> {
            let mut walk = self.repository.revwalk()?;
            walk.push_glob("refs/*")?;
            for oid in walk {
                self.repository.find_commit(oid?)?.tree()?;
            }
            let odb = self.repository.odb()?;
            let mut rotten = None;
            // That it was stopped is no error to git2.
            odb.foreach(|oid| {
                rotten = odb.read(*oid).err();
                rotten.is_none()
            })?;
            rotten.map_or(Ok(()), |error| Err(error.into()))
        };
        check().err()
    }

    /// Gives up the mirror: the fetches that follow fill a new one.
    pub fn discard(self) -> Result<()> {
        let _lock = Lock::wait(&self.lock)?;
        empty(&self.path).with_context(|| format!("Failed to empty {}", self.path.display()))
    }
}

/// Whether an error may be about what is in the mirror, and not about a server.
fn is_about_objects(error: &anyhow::Error) -> bool {
    let class = error.downcast_ref().map(git2::Error::class);
    matches!(
        class,
        Some(
            ErrorClass::Invalid
                | ErrorClass::Odb
                | ErrorClass::Object
                | ErrorClass::Tree
                | ErrorClass::Zlib
                | ErrorClass::Indexer
        )
    )
}

/// Removes what is in the mirror's folder. The folder itself stays: it may be a mount. In it there may be more of
/// them, of which a fetch in its sandbox can remove none; the deploy after it can, and finds no mirror any more, for
/// all else is gone, and what makes it one goes first.
pub(super) fn empty(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|entry| entry.file_name() != "HEAD");
    let remove = |entry: DirEntry| {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        }
    };
    let removed = entries.into_iter().map(remove).fold(Ok(()), Result::and);
    File::open(path)?.sync_all()?;
    removed
}
