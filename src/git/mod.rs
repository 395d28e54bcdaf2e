//! The mirror: a bare repository with the followed branches of every remote, by libgit2.

mod advertisement;
mod ancestry;
mod child;
mod commits;
pub mod credentials;
mod damage;
mod heads;
mod http;
mod loan;
mod local;
mod packs;
pub mod refs;
pub mod relative_submodules;
mod server;
mod settings;
pub mod ssh;

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{anyhow, Context, Result};
use git2::{AutotagOption, ErrorClass, ErrorCode, FetchOptions, Oid, Repository};

use crate::config::paths::Paths;
use crate::config::Remote;
use crate::model::commit::Commit;
use crate::sys::fs::Lock;
use commits::commit;
use damage::empty;
use heads::{followed, tracking};
pub use heads::{known_heads, local_heads, Heads};
pub use server::reach;
use server::{connect, start_libgit2, Server, SCHEME};
pub use settings::set;

/// Keeps the accepted main, also when the state file is lost.
const ACCEPTED: &str = "refs/comin/main";
/// Keeps the commit under evaluation: the remote's own branch may move meanwhile.
pub const TARGET: &str = "refs/comin/target";

/// The bare repository in the state folder.
pub struct Mirror {
    repository: Repository,
    path: PathBuf,
    /// Held by whoever makes it.
    lock: PathBuf,
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

    /// Opens the mirror to write to it. Where there is none a new one is made; a damaged one is
    /// emptied first: everything in it comes from the remotes, and the accepted main is also in
    /// the state.
    pub fn ready(paths: &Paths, remotes: &[Remote]) -> Result<Self> {
        let open = || Self::open(paths).and_then(|mirror| mirror.sound(remotes));
        if let Ok(mirror) = open() {
            mirror.link()?;
            mirror.forget_all_but(remotes)?;
            return Ok(mirror);
        }
        let path = paths.repository();
        // Another process may be at the same: the one that comes second finds it done.
        let _lock = Lock::wait(&paths.repository_lock())?;
        if let Err(damage) = open() {
            if path.join("HEAD").exists() || path.join("objects").exists() {
                log::warn!("The mirror is damaged and is made anew from the remotes: {damage:#}");
            }
            empty(&path).with_context(|| format!("Failed to empty {}", path.display()))?;
            Repository::init_bare(&path)
                .with_context(|| format!("Failed to make the mirror {}", path.display()))?;
        }
        let mirror = Self::open(paths)?;
        mirror.link()?;
        Ok(mirror)
    }

    /// Lets the mirror look like a repository with files: Nix uses that as it is, but of a bare one it
    /// makes a copy, and forgets where relative submodules are.
    fn link(&self) -> Result<()> {
        match std::os::unix::fs::symlink(".", self.path.join(".git")) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.with_context(|| format!("Failed to write into {}", self.path.display())),
        }
    }

    /// Brings the heads of a remote's branches into the mirror, and removes what is no longer
    /// followed there. Nothing is written where nothing has moved.
    ///
    /// # Errors
    /// The remote cannot be reached or sends something unusable; the refs are as before then.
    pub fn fetch(&self, remote: &Remote) -> Result<Heads> {
        Server::of(remote)?.install();
        let url = format!("{SCHEME}://{}", remote.name);
        let mut git = self.repository.remote_anonymous(&url)?;
        let mut connection = connect(&mut git)?;
        let advertised = connection.list()?;
        let advertised = Heads::find(remote, |branch| {
            let name = format!("refs/heads/{branch}");
            let head = advertised.iter().find(|head| head.name() == name);
            head.map(|head| commit(head.oid())).transpose()
        })?;
        if self.heads(remote).is_ok_and(|heads| heads == advertised) {
            return Ok(advertised);
        }
        let wanted: Vec<String> = followed(remote, &advertised)
            .map(|(branch, _)| format!("refs/heads/{branch}"))
            .collect();
        if !wanted.is_empty() {
            let mut options = FetchOptions::new();
            options.download_tags(AutotagOption::None);
            connection.remote().download(&wanted, Some(&mut options))?;
        }
        // Before anybody takes them for heads: whoever looks at the mirror and finds one that is none makes it anew.
        self.complete(remote, &advertised)?;
        self.prune(remote, &advertised)?;
        followed(remote, &advertised)
            .try_for_each(|(branch, head)| self.point(&tracking(&remote.name, branch), head))?;
        Ok(advertised)
    }

    /// Whether these heads are commits that can be read. They may be anything that the remote has.
    fn complete(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        followed(remote, heads).try_for_each(|(branch, head)| {
            let id = Oid::from_str(head.as_str())?;
            self.weigh(id)
                .with_context(|| format!("{branch} is not taken"))?;
            let read = || self.repository.find_commit(id)?.tree().map(drop);
            read()
                .map_err(|error| {
                    // It is as the remote has it: nothing in the mirror is to blame.
                    if error.class() == ErrorClass::Invalid {
                        anyhow!("{error}")
                    } else {
                        error.into()
                    }
                })
                .with_context(|| format!("{branch} came incompletely"))
        })
    }

    /// Removes the refs of this remote that follow no branch of it.
    fn prune(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        let keep: Vec<String> = followed(remote, heads)
            .map(|(branch, _)| tracking(&remote.name, branch))
            .collect();
        let stale = |name: &str| !keep.iter().any(|keep| keep == name);
        self.delete(&tracking(&remote.name, "*"), stale).map(drop)
    }

    /// Removes the refs of remotes that are not followed any more, or have another name now.
    fn forget_all_but(&self, remotes: &[Remote]) -> Result<()> {
        let kept: Vec<String> = remotes.iter().map(|r| tracking(&r.name, "")).collect();
        let stale = |name: &str| !kept.iter().any(|kept| name.starts_with(kept));
        self.delete("refs/remotes/*", stale).map(drop)
    }

    fn delete(&self, pattern: &str, stale: impl Fn(&str) -> bool) -> Result<bool> {
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
    fn unlock(&self, reference: &str) -> Result<()> {
        crate::sys::fs::remove_optional(&self.path.join(format!("{reference}.lock"))).map(|_| ())
    }

    /// The heads of a remote as the mirror has them.
    pub fn heads(&self, remote: &Remote) -> Result<Heads> {
        Heads::find(remote, |branch| self.head(&tracking(&remote.name, branch)))
    }

    fn head(&self, reference: &str) -> Result<Option<Commit>> {
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

    fn point(&self, reference: &str, commit: &Commit) -> Result<()> {
        if self.head(reference)?.as_ref() != Some(commit) {
            let oid = Oid::from_str(commit.as_str())?;
            self.unlock(reference)?;
            self.repository
                .reference(reference, oid, true, "comin")
                .with_context(|| format!("Failed to set {reference} in the mirror"))?;
        }
        Ok(())
    }
}
