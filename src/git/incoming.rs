//! What a fetch brings, until it has been looked at: a repository of its own that may borrow from the mirror. Whatever goes
//! wrong, and however a fetch is killed, nothing else has to be removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{bail, Context, Result};
use git2::{ObjectType, Odb, Oid, Repository};
use tempfile::TempDir;

use super::commits::without_hashing;
use super::heads::{followed, tracking, Heads};
use super::mirror::{init, Mirror};
use crate::config::Remote;

/// More bytes than any commit, folder or tag has that somebody makes. What is larger compresses well, and fills the
/// memory of whoever reads it.
pub(super) const LARGEST: usize = 16 * 1024 * 1024;

/// What helps if commits are missing.
pub(super) const LACKS_HISTORY: &str =
    "the repository lacks a part of its history: if it is a shallow clone, run git fetch --unshallow there";

/// What a fetch brings.
#[derive(Debug, Clone, Copy)]
pub enum Extent {
    /// What the mirror does not have.
    News,
    /// Everything, because the mirror may have a commit, and not all of its history.
    Everything,
}

/// The repository.
pub(super) struct Incoming<'a> {
    mirror: &'a Mirror,
    folder: TempDir,
}

impl<'a> Incoming<'a> {
    /// Makes it. What killed fetches of this remote have left goes, though a git of theirs may still write to it.
    pub(super) fn of(remote: &Remote, mirror: &'a Mirror, extent: Extent) -> Result<Self> {
        let all = mirror.path.join("incoming").join(remote.name.to_string());
        let make = || -> Result<Self> {
            if let Err(error) = fs::remove_dir_all(&all) {
                log::debug!("Failed to remove {}: {error}", all.display());
            }
            fs::create_dir_all(&all)?;
            let folder = tempfile::tempdir_in(&all)?;
            init(folder.path())?;
            if let Extent::News = extent {
                let objects = format!("{}\n", mirror.path.join("objects").display());
                fs::write(folder.path().join("objects/info/alternates"), objects)?;
            }
            Ok(Self { mirror, folder })
        };
        make().with_context(|| format!("Failed to write into {}", all.display()))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Looks at all that has come: nothing but files is large, the heads are commits, and their history is there. Git has
    /// looked whether every file is.
    pub(super) fn check(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        let odb = Odb::new()?;
        let objects = self.path().join("objects");
        odb.add_disk_alternate(&objects.to_string_lossy())?;
        check_sizes(&odb)?;
        let repository = Repository::open_bare(self.path())?;
        let mut walk = repository.revwalk()?;
        for (name, head) in followed(remote, heads) {
            let head = Oid::from_str(head.as_str())?;
            let read = || -> Result<()> { Ok(repository.find_commit(head)?.tree().map(drop)?) };
            read().with_context(|| format!("{name} is incomplete"))?;
            walk.push(head)?;
            // One that cannot be read is about to be replaced.
            if let Ok(Some(known)) = self.mirror.head(&tracking(&remote.name, &name)) {
                let _ = walk.hide(Oid::from_str(known.as_str())?);
            }
        }
        without_hashing(|| walk.try_for_each(|commit| commit.map(drop))).context(LACKS_HISTORY)
    }

    /// Moves it into the mirror. A pack counts once its index is there.
    pub(super) fn accept(self) -> Result<()> {
        let (from, to) = (
            self.path().join("objects/pack"),
            self.mirror.path.join("objects/pack"),
        );
        let accept = || -> std::io::Result<()> {
            let files = fs::read_dir(&from)?.map(|file| Ok(file?.path()));
            let mut files = files.collect::<std::io::Result<Vec<_>>>()?;
            files.sort_by_key(|file| file.extension() == Some(OsStr::new("idx")));
            for file in files {
                fs::rename(&file, to.join(file.file_name().unwrap_or_default()))?;
            }
            File::open(&to)?.sync_all()
        };
        accept().with_context(|| format!("Failed to write into {}", to.display()))
    }
}

/// Whether no object but files is large.
pub(super) fn check_sizes(odb: &Odb) -> Result<()> {
    let check = |id: &Oid| -> Result<()> {
        let (size, kind) = odb.read_header(*id)?;
        if size > LARGEST && kind != ObjectType::Blob {
            bail!("its {kind} {id} has {size} bytes, and the limit is {LARGEST}");
        }
        Ok(())
    };
    let mut checked = Ok(());
    let stopped = odb.foreach(|id| {
        checked = check(id);
        checked.is_ok()
    });
    checked?;
    Ok(stopped?)
}
