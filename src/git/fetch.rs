//! A fetch: the heads of a remote are brought into the mirror.

use std::io::ErrorKind;

use anyhow::{anyhow, Context, Result};
use git2::{AutotagOption, ErrorClass, FetchOptions, Oid, Repository};

use super::heads::{followed, tracking};
use super::integrity::empty;
use super::mirror::commit;
use super::server::{connect, Server, SCHEME};
use crate::config::paths::Paths;
use crate::config::Remote;
use crate::git::heads::Heads;
use crate::git::mirror::Mirror;
use crate::sys::fs::Lock;

impl Mirror {
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
    pub(super) fn link(&self) -> Result<()> {
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
    pub(super) fn complete(&self, remote: &Remote, heads: &Heads) -> Result<()> {
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
    pub(super) fn prune(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        let keep: Vec<String> = followed(remote, heads)
            .map(|(branch, _)| tracking(&remote.name, branch))
            .collect();
        let stale = |name: &str| !keep.iter().any(|keep| keep == name);
        self.delete(&tracking(&remote.name, "*"), stale).map(drop)
    }

    /// Removes the refs of remotes that are not followed any more, or have another name now.
    pub(super) fn forget_all_but(&self, remotes: &[Remote]) -> Result<()> {
        let kept: Vec<String> = remotes.iter().map(|r| tracking(&r.name, "")).collect();
        let stale = |name: &str| !kept.iter().any(|kept| name.starts_with(kept));
        self.delete("refs/remotes/*", stale).map(drop)
    }

    /// The heads of a remote as the mirror has them.
    pub fn heads(&self, remote: &Remote) -> Result<Heads> {
        Heads::find(remote, |branch| self.head(&tracking(&remote.name, branch)))
    }
}
