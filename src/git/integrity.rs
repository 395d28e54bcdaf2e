//! What may be wrong with the mirror.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Result};
use git2::{ErrorClass, ObjectType};

use super::heads::{refs, tracking};
use super::incoming::{check_sizes, LARGEST};
use super::mirror::{has_our_settings, write_settings, Mirror, ACCEPTED};
use crate::config::{paths::TARGET_REF, Remote};
use crate::model::Commit;
use crate::sys::fs::{self, Lock};
use crate::sys::{command, owner::AsOwner};

/// How long it may take to empty the mirror. A fetch waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

impl Mirror {
    /// Whether it is a mirror, and the refs of these remotes, and comin's own, lead to a commit and its tree. What lies
    /// deeper shows when it is used.
    pub(super) fn check(self, remotes: &[Remote]) -> Result<Self> {
        let _owner = self.as_owner()?;
        self.repository.find_reference("HEAD")?;
        // libgit2 reads zeros as nothing; the git that Nix runs fails on them, each time.
        ensure!(
            self.repository.config()?.get_bool("core.bare")?,
            "its config is not that of a mirror"
        );
        // Root's git, which Nix runs, would go by other settings than those that no fetch can write.
        let link = fs::read_link_optional(&self.path.join(".git"))?;
        ensure!(
            link.is_none_or(|link| link == Path::new(".")),
            "its .git leads elsewhere"
        );
        let mut names = vec![ACCEPTED.to_string(), TARGET_REF.to_string()];
        for remote in remotes {
            let refs = refs(remote).into_iter().flatten();
            names.extend(refs.map(|name| tracking(&remote.name, &name)));
        }
        for name in names {
            if let Some(commit) = self.head(&name)? {
                let read = || -> Result<()> { Ok(self.commit(&commit)?.tree().map(drop)?) };
                read().with_context(|| format!("{name} cannot be read"))?;
            }
        }
        Ok(self)
    }

    /// Gives our settings to the mirror of an older comin, which had no bounds on what it fetched.
    pub(super) fn adopt(&self) -> Result<()> {
        if has_our_settings(&self.path) {
            return Ok(());
        }
        let _owner = self.as_owner()?;
        check_sizes(&self.repository.odb()?)?;
        if let Err(error) = write_settings(&self.path) {
            log::debug!("Failed to write the settings of the mirror: {error}");
        }
        Ok(())
    }

    /// What is missing of a commit's history or files, if anything is. A folder is looked at once, however often the commit
    /// has it: a few that hold each other many times are more files than anybody can count.
    pub fn missing_objects(&self, commit: &Commit) -> Option<String> {
        let check = || -> Result<()> {
            let _owner = self.as_owner()?;
            let odb = self.repository.odb()?;
            let commit = self.commit(commit)?;
            let mut walk = self.repository.revwalk()?;
            walk.push(commit.id())?;
            walk.try_for_each(|id| id.map(drop))?;
            let top = commit.tree_id();
            let (mut seen, mut left) = (HashSet::from([top]), vec![top]);
            while let Some(folder) = left.pop() {
                let Ok(tree) = self.repository.find_tree(folder) else {
                    // An object that is there, and is no folder, was made so: that is no damage.
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

    /// What is wrong with the mirror, if anything is: all of it is read, but for large files.
    pub fn find_corruption(&self) -> Option<anyhow::Error> {
        let check = || -> Result<()> {
            let _owner = self.as_owner()?;
            let odb = self.repository.odb()?;
            let mut corrupt = None;
            let read = |id| match odb.read_header(id)? {
                (size, ObjectType::Blob) if size > LARGEST => Ok(()),
                _ => odb.read(id).map(drop),
            };
            // That it was stopped is no error to git2.
            odb.foreach(|id| {
                corrupt = read(*id).err();
                corrupt.is_none()
            })?;
            corrupt.map_or(Ok(()), Err)?;
            let mut walk = self.repository.revwalk()?;
            walk.push_glob("refs/*")?;
            for id in walk {
                let tree = self.repository.find_commit(id?)?.tree_id();
                ensure!(odb.exists(tree), "{tree} is missing");
            }
            Ok(())
        };
        let is_memory = |error: &anyhow::Error| {
            let class = error.downcast_ref().map(git2::Error::class);
            class == Some(ErrorClass::NoMemory)
        };
        check().err().filter(|error| !is_memory(error))
    }

    /// Gives up the mirror: the fetches that follow fill a new one.
    pub fn discard(self) -> Result<()> {
        let _lock = lock(&self.path, &self.lock)?;
        empty(&self.path).with_context(|| format!("Failed to empty {}", self.path.display()))
    }
}

/// Waits for the lock of a mirror, with the rights of the mirror's owner.
pub(super) fn lock(path: &Path, lock: &Path) -> Result<Lock> {
    let _owner = AsOwner::of(path)?;
    Lock::wait(lock)
}

/// Removes what is in the mirror's folder. The folder itself stays: it may be a mount, and it is not the fetcher's to
/// remove. What makes it a mirror goes first. A fetch can remove nothing that root has written in there; the deploy after
/// it can, as root. Folders may be deeper than Rust can remove them.
pub(super) fn empty(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)?;
    fs::remove_any(&path.join("HEAD"))?;
    if std::fs::read_dir(path)?.next().is_none() {
        return Ok(());
    }
    let mut find = Command::new("find");
    find.arg("-H").arg(path).args(["-mindepth", "1", "-delete"]);
    command::run(&mut find, "find", Some(PATIENCE))?;
    Ok(File::open(path)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_emptied_however_deep_its_folders_are() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("repository");
        fs::make_deep(&mirror.join("refs")).unwrap();
        std::fs::create_dir(mirror.join("HEAD")).unwrap();
        std::os::unix::fs::symlink("/", mirror.join("objects")).unwrap();
        empty(&mirror).unwrap();
        assert_eq!(fs::list(&mirror).unwrap(), [""; 0].map(Path::new));
    }
}
