//! The mirror: a bare repository with what comin follows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{anyhow, ensure, Context, Result};
use git2::{ConfigLevel, ErrorCode, Oid, Repository};
use rustix::fs::OFlags;

use crate::config::paths::{Paths, TARGET_REF};
use crate::model::Commit;
use crate::sys::fs::has_content;
use crate::sys::owner::AsOwner;

/// Keeps the accepted main, also when the state file is lost.
pub const ACCEPTED: &str = "refs/comin/main";

/// The settings of the mirror. They never change: what changes is in the included file.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[include]\n\tpath = ../submodules\n";

/// How many packs are open at a time: a walk through a history may need one after the other.
const OPEN_PACKS: usize = 128;

/// More files than the mirror has: most objects are in packs.
const MOST_FILES: u32 = 1_000_000;

/// The files by which git finds settings and objects elsewhere, or another history than the commits have.
const FOREIGN: [&str; 4] = [
    "commondir",
    "objects/info/alternates",
    "info/grafts",
    "shallow",
];

/// The bare repository in the state folder.
pub struct Mirror {
    pub(super) repository: Repository,
    pub(super) path: PathBuf,
    /// Held by whoever makes it, or changes refs of remotes.
    pub(super) lock: PathBuf,
}

impl Mirror {
    /// Opens the mirror to read it.
    pub fn open(paths: &Paths) -> Result<Self> {
        let path = paths.repository();
        let _owner = AsOwner::of(&path)?;
        check_files(&path)
            .with_context(|| format!("The mirror {} cannot be used", path.display()))?;
        start_libgit2();
        let repository = Repository::open_bare(&path)
            .with_context(|| format!("Failed to open the mirror {}", path.display()))?;
        Ok(Self {
            repository,
            path,
            lock: paths.repository_lock(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rights of the user who fetches. That user may have put a link into the mirror, also after a check, so root must
    /// not follow it with root's rights.
    pub fn as_owner(&self) -> Result<Option<AsOwner>> {
        AsOwner::of(&self.path)
    }

    pub(super) fn head(&self, reference: &str) -> Result<Option<Commit>> {
        let _owner = self.as_owner()?;
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
        self.set_ref(ACCEPTED, commit)
    }

    /// Keeps the commit that is going to be evaluated, as [`TARGET_REF`].
    pub fn keep_target(&self, commit: &Commit) -> Result<()> {
        self.set_ref(TARGET_REF, commit)
    }

    pub(super) fn set_ref(&self, reference: &str, commit: &Commit) -> Result<()> {
        if self.head(reference)?.as_ref() != Some(commit) {
            let oid = Oid::from_str(commit.as_str())?;
            let _owner = self.as_owner()?;
            self.unlock(reference)?;
            self.repository
                .reference(reference, oid, true, "comin")
                .with_context(|| format!("Failed to set {reference} in the mirror"))?;
        }
        Ok(())
    }

    pub(super) fn delete(&self, pattern: &str, stale: impl Fn(&str) -> bool) -> Result<()> {
        for reference in self.repository.references_glob(pattern)? {
            let mut reference = reference?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            if stale(&name) {
                self.unlock(&name)?;
                self.unlock("packed-refs")?;
                reference.delete()?;
            }
        }
        Ok(())
    }

    /// Removes the lock on a reference, or on all packed references, that a killed process has left. Otherwise no fetch
    /// would ever work again. The caller holds comin's own lock, so nobody else is writing.
    pub(super) fn unlock(&self, reference: &str) -> Result<()> {
        crate::sys::fs::remove_optional(&self.path.join(format!("{reference}.lock"))).map(|_| ())
    }
}

/// Makes an empty bare repository of a folder. It is one as soon as it has a `HEAD`.
pub(super) fn init(path: &Path) -> io::Result<()> {
    for folder in ["hooks", "objects/info", "objects/pack", "refs"] {
        fs::create_dir_all(path.join(folder))?;
    }
    write_settings(path)?;
    fs::write(path.join("HEAD"), "ref: refs/heads/main\n")
}

pub(super) fn has_our_settings(path: &Path) -> bool {
    has_content(&path.join("config"), CONFIG.as_bytes())
}

/// Writes the settings of the mirror in place, if they are not there.
pub(super) fn write_settings(path: &Path) -> io::Result<()> {
    if has_our_settings(path) {
        return Ok(());
    }
    // Neither through a link, nor into a pipe, which would wait for a reader.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    options.custom_flags(flags.bits().cast_signed());
    let mut file = options.open(path.join("config"))?;
    file.write_all(CONFIG.as_bytes())
}

/// Whether nothing in a repository leads elsewhere, or takes for ever to be read.
pub(super) fn check_files(path: &Path) -> Result<()> {
    for file in FOREIGN {
        ensure!(
            fs::symlink_metadata(path.join(file)).is_err(),
            "it has a file {file}, which comin never makes"
        );
    }
    if fs::symlink_metadata(path)?.uid() == 0 {
        // Nobody else can have left anything in there.
        return Ok(());
    }
    let mut folders = vec![path.to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            seen += 1;
            ensure!(seen <= MOST_FILES, "it has more than {MOST_FILES} files");
            let (entry, is_top) = (entry?, folder == path);
            let kind = entry.file_type()?;
            ensure!(
                kind.is_file() || kind.is_dir() || (is_top && entry.file_name() == ".git"),
                "{} is neither a file nor a folder",
                entry.path().display()
            );
            // What comes is looked at before it is let in.
            if kind.is_dir() && !(is_top && entry.file_name() == "incoming") {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// The id of an object that is taken for a commit.
pub(super) fn commit(oid: Oid) -> Result<Commit> {
    oid.to_string()
        .parse()
        .map_err(|error: String| anyhow!(error))
}

/// The settings of libgit2 that belong to the process.
#[allow(unsafe_code)]
pub(super) fn start_libgit2() {
    static START: Once = Once::new();
    START.call_once(|| {
        // A commit is looked at once; to keep it costs a fifth of a long walk.
        git2::opts::enable_caching(false);
        // SAFETY: all change globals of libgit2 and must not run beside other uses of it. Every
        // use goes through a `Mirror`, whose constructor calls this first, once.
        let started = unsafe {
            // `comin status` reads root's mirror as anybody.
            git2::opts::set_verify_owner_validation(false)
                // And nobody's configuration has a say, nor can be in the way.
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::System, ""))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::Global, ""))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::XDG, ""))
                // Each fetch makes a pack, and a process may have 1024 files by default.
                .and_then(|()| git2::opts::set_mwindow_file_limit(OPEN_PACKS))
        };
        if let Err(error) = started {
            log::error!("Failed to prepare libgit2: {error}");
        }
    });
}
