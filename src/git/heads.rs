//! The heads of the branches that are followed, and of the notes.

use std::path::Path;

use anyhow::{anyhow, Result};

use crate::config::{paths::Paths, Remote};
use crate::git::refs::{Ref, Refs};
use crate::model::{Branch, Commit, RemoteName};
use crate::sys::owner::AsOwner;

/// The heads of a remote's followed branches; by default, of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the main branch.
    pub main: Option<Commit>,
    /// Of the testing branch.
    pub testing: Option<Commit>,
    /// Of the notes in which CI names the systems that it has built.
    pub notes: Option<Commit>,
}

impl Heads {
    /// Finds the heads of a remote's branches and notes with `find`, which is given names of refs.
    pub fn find<E>(
        remote: &Remote,
        find: impl Fn(&str) -> Result<Option<Commit>, E>,
    ) -> Result<Self, E> {
        let [main, testing, notes] =
            refs(remote).map(|name| name.map_or(Ok(None), |name| find(&name)));
        Ok(Self {
            main: main?,
            testing: testing?,
            notes: notes?,
        })
    }

    /// Whether the same refs have heads.
    pub fn has_refs_of(&self, other: &Self) -> bool {
        let refs = |it: &Self| [&it.main, &it.testing, &it.notes].map(Option::is_some);
        refs(self) == refs(other)
    }
}

/// The refs of a remote that are followed: main, testing and the notes.
pub(super) fn refs(remote: &Remote) -> [Option<String>; 3] {
    let branch = |branch: &Option<Branch>| {
        let name = &branch.as_ref()?.name;
        Some(format!("refs/heads/{name}"))
    };
    let notes = remote.notes.as_ref();
    [
        branch(&remote.main),
        branch(&remote.testing),
        notes.map(|notes| format!("refs/notes/{notes}")),
    ]
}

/// The ref of the mirror that follows a ref of a remote.
pub(super) fn tracking(remote: &RemoteName, name: &str) -> String {
    match name.strip_prefix("refs/notes/") {
        Some(notes) => format!("refs/notes/remotes/{remote}/{notes}"),
        None => format!(
            "refs/remotes/{remote}/{}",
            name.strip_prefix("refs/heads/").unwrap_or(name)
        ),
    }
}

/// The refs of a remote that have a head.
pub(super) fn followed<'a>(
    remote: &'a Remote,
    heads: &'a Heads,
) -> impl Iterator<Item = (String, &'a Commit)> {
    let heads = [&heads.main, &heads.testing, &heads.notes];
    let refs = refs(remote).into_iter().zip(heads);
    refs.filter_map(|(name, head)| Some((name?, head.as_ref()?)))
}

/// The heads of a remote's branches in the mirror, read from its files.
pub fn known_heads(paths: &Paths, remote: &Remote) -> Result<Heads> {
    let mirror = paths.repository();
    let _owner = AsOwner::of(&mirror)?;
    let refs = Refs::of_bare(&mirror);
    Heads::find(remote, |name| {
        let name = tracking(&remote.name, name);
        match refs.read(&name)? {
            Ref::Commit(commit) => Ok(Some(commit)),
            Ref::Missing => Ok(None),
            Ref::Unclear => Err(anyhow!("{name} is damaged")),
        }
    })
}

/// The heads of a repository on this machine, read from its files; `None` if only git can tell.
pub fn local_heads(path: &Path, remote: &Remote) -> Result<Option<Heads>> {
    let refs = Refs::of_repository(path)?;
    let heads = Heads::find(remote, |name| match refs.read(name) {
        Ok(Ref::Commit(commit)) => Ok(Some(commit)),
        Ok(Ref::Missing) => Ok(None),
        Ok(Ref::Unclear) => Err(None),
        Err(error) => Err(Some(error)),
    });
    match heads {
        Ok(heads) => Ok(Some(heads)),
        Err(None) => Ok(None),
        Err(Some(error)) => Err(error),
    }
}
