//! The repository into which a fetch brings objects, until they have been checked. It may borrow from the mirror. However a
//! fetch fails or is killed, nothing else has to be removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use git2::{ObjectType, Odb, Oid, Repository};
use tempfile::TempDir;

use super::heads::{followed, Heads};
use super::mirror::{init, Mirror};
use crate::config::Remote;
use crate::model::Commit;
use crate::sys::fs::{list, remove_all};

/// More bytes than an honest commit, folder or tag has. A larger one may be small in a pack, and fill the memory of its
/// reader.
pub(super) const LARGEST: usize = 16 * 1024 * 1024;

/// The file in which git notes which commands it runs (`GIT_TRACE2_EVENT`).
pub(super) const TRACE: &str = "trace";

/// What a fetch brings.
#[derive(Debug, Clone, Copy)]
pub enum Extent {
    /// What the mirror does not have.
    News,
    /// Everything: the mirror has no commit of the remote, or may have one without all of its history.
    Everything,
}

/// The repository.
pub(super) struct Incoming<'a> {
    mirror: &'a Mirror,
    folder: TempDir,
}

impl<'a> Incoming<'a> {
    /// Makes it, and removes those of killed fetches of this remote, although their git may still write to them. It borrows
    /// the mirror's commits. The server learns only of the `known` ones, because those of other remotes may be private.
    pub(super) fn of(
        remote: &Remote,
        mirror: &'a Mirror,
        extent: Extent,
        known: &[Commit],
    ) -> Result<Self> {
        let all = mirror.path.join("incoming").join(remote.name.to_string());
        let make = || -> Result<Self> {
            if let Err(error) = remove_all(&all) {
                log::debug!("Failed to remove {}: {error}", all.display());
            }
            fs::create_dir_all(&all)?;
            let folder = tempfile::tempdir_in(&all)?;
            init(folder.path())?;
            let empty = folder.path().join("empty");
            let lender = match extent {
                Extent::News => {
                    let refs = known.iter().zip(0..);
                    let refs = refs.map(|(commit, n)| format!("{commit} refs/known/{n}\n"));
                    fs::write(folder.path().join("packed-refs"), refs.collect::<String>())?;
                    &mirror.path
                }
                Extent::Everything => {
                    init(&empty)?;
                    &empty
                }
            };
            let objects = format!("{}\n", lender.join("objects").display());
            fs::write(folder.path().join("objects/info/alternates"), objects)?;
            Ok(Self { mirror, folder })
        };
        make().with_context(|| format!("Failed to write into {}", all.display()))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Checks that of what has come, no object but a file is large, and that the heads are commits. Git has checked that all
    /// objects are there to which the heads lead.
    pub(super) fn check(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        // Git checks only what comes in a pack that a server makes, and not what a server offers as mere files.
        let trace = fs::read_to_string(self.path().join(TRACE)).unwrap_or_default();
        ensure!(
            trace.contains("\"--strict") || self.is_empty()?,
            "the server does not speak Git's smart HTTP protocol: serve the repository by git http-backend"
        );
        // What is borrowed was checked when it came.
        fs::remove_file(self.path().join("objects/info/alternates"))?;
        let repository = Repository::open_bare(self.path())?;
        check_sizes(&repository.odb()?)?;
        for (name, head) in followed(remote, heads) {
            let id = Oid::from_str(head.as_str())?;
            if repository.find_commit(id).is_err() {
                let known = self.mirror.commit(head);
                known.with_context(|| format!("{name} is no commit"))?;
            }
        }
        Ok(())
    }

    /// Whether nothing has come.
    fn is_empty(&self) -> Result<bool> {
        let objects = self.path().join("objects");
        let folders = [objects.join("info"), objects.join("pack")];
        let is_loose = |path: &PathBuf| !folders.contains(path);
        Ok(list(&folders[1])?.is_empty() && !list(&objects)?.iter().any(is_loose))
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
