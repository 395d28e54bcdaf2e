//! A fetch: the heads of a remote are brought into the mirror.

use std::io::ErrorKind;

use anyhow::{Context, Result};

use super::heads::{followed, refs, tracking, Heads};
use super::incoming::{Extent, Incoming};
use super::integrity::{empty, lock};
use super::mirror::{has_our_settings, init, Mirror, ACCEPTED};
use super::source::Source;
use crate::config::{paths::Paths, Remote};
use crate::model::Commit;
use crate::sys::fs::Lock;
use crate::sys::owner::{AsOwner, Owner};

/// Where a remote has what is followed.
const KINDS: [&str; 2] = ["refs/heads/", "refs/notes/"];

/// The rights of the user who fetches, who owns the mirror. Gives that user the folder for the records of fetches.
pub fn as_fetcher(paths: &Paths) -> Result<Option<AsOwner>> {
    let Some(owner) = Owner::other_than_root(&paths.repository())? else {
        return Ok(None);
    };
    let folder = paths.fetches();
    let give = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        owner.give(&folder)
    };
    give().with_context(|| format!("Failed to make {}", folder.display()))?;
    AsOwner::take(owner).map(Some)
}

impl Mirror {
    /// Opens the mirror to write what these remotes have. Where there is none a new one is made; a damaged one is
    /// emptied first: everything in it comes from the remotes, and the accepted main is also in the state.
    pub fn open_or_create(paths: &Paths, remotes: &[Remote]) -> Result<Self> {
        let path = paths.repository();
        let open = || -> Result<Self> {
            let _owner = as_fetcher(paths)?;
            let mirror = Self::open(paths)?.check(remotes)?;
            mirror.link()?;
            Ok(mirror)
        };
        if has_our_settings(&path) {
            if let Ok(mirror) = open() {
                return Ok(mirror);
            }
        }
        // Another process may be at the same: the one that comes second finds it done.
        let _lock = lock(&path, &paths.repository_lock())?;
        if let Err(damage) = open().and_then(|mirror| mirror.adopt()) {
            if path.join("HEAD").exists() || path.join("objects").exists() {
                log::warn!("The mirror is damaged and is made anew from the remotes: {damage:#}");
            }
            empty(&path).with_context(|| format!("Failed to empty {}", path.display()))?;
            let _owner = as_fetcher(paths)?;
            init(&path).with_context(|| format!("Failed to make the mirror {}", path.display()))?;
        }
        let _owner = as_fetcher(paths)?;
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

    /// Brings these heads of a remote's branches into the mirror, or newer ones, and removes what is no longer
    /// followed there. Says what has come.
    ///
    /// # Errors
    /// The remote cannot be reached or sends something unusable; the mirror is as before then.
    pub fn fetch(
        &self,
        source: &Source,
        remote: &Remote,
        heads: &Heads,
        extent: Extent,
    ) -> Result<Heads> {
        let names = refs(remote).into_iter().flatten();
        let names = names.map(|name| tracking(&remote.name, &name));
        let known = names.chain([ACCEPTED.to_string()]);
        // One that cannot be read is about to be replaced.
        let known = known.filter_map(|name| self.head(&name).ok().flatten());
        let known: Vec<Commit> = known.collect();
        let has_any = || followed(remote, heads).any(|(_, head)| self.commit(head).is_ok());
        let extent = match extent {
            Extent::News if known.is_empty() && !has_any() => Extent::Everything,
            Extent::News | Extent::Everything => extent,
        };
        let incoming = Incoming::of(remote, self, extent, &known)?;
        let heads = source.fetch_into(incoming.path(), heads, extent)?;
        incoming.check(remote, &heads)?;
        incoming.accept()?;
        let _lock = Lock::wait(&self.lock)?;
        let kept: Vec<String> = followed(remote, &heads)
            .map(|(name, _)| tracking(&remote.name, &name))
            .collect();
        for kind in KINDS {
            self.delete(&tracking(&remote.name, &format!("{kind}*")), |name| {
                !kept.iter().any(|kept| kept == name)
            })?;
        }
        followed(remote, &heads)
            .try_for_each(|(name, head)| self.set_ref(&tracking(&remote.name, &name), head))?;
        Ok(heads)
    }

    /// Removes the refs of remotes that are not followed any more, or have another name now.
    pub fn forget_all_but(&self, remotes: &[Remote]) -> Result<()> {
        let _owner = self.as_owner()?;
        let _lock = Lock::wait(&self.lock)?;
        let kept = |kind| remotes.iter().map(move |r| tracking(&r.name, kind));
        let kept: Vec<String> = KINDS.into_iter().flat_map(kept).collect();
        for all in ["refs/remotes/*", "refs/notes/remotes/*"] {
            self.delete(all, |name| !kept.iter().any(|kept| name.starts_with(kept)))?;
        }
        Ok(())
    }
}
