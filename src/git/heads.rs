//! The heads of the branches that are followed.

use std::path::Path;

use anyhow::{anyhow, Result};

use crate::config::paths::Paths;
use crate::config::Remote;
use crate::git::refs::{Ref, Refs};
use crate::model::commit::Commit;
use crate::model::names::{Branch, RemoteName};

/// The heads of a remote's followed branches; by default, of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the main branch.
    pub main: Option<Commit>,
    /// Of the testing branch.
    pub testing: Option<Commit>,
}

impl Heads {
    /// Finds the heads of a remote's branches with `find`, which is given branch names.
    pub fn find<E>(
        remote: &Remote,
        find: impl Fn(&str) -> Result<Option<Commit>, E>,
    ) -> Result<Self, E> {
        let find = |branch: &Option<Branch>| match branch {
            Some(branch) => find(&branch.name),
            None => Ok(None),
        };
        Ok(Self {
            main: find(&remote.main)?,
            testing: find(&remote.testing)?,
        })
    }
}

/// The ref of the mirror that follows a branch.
pub(super) fn tracking(remote: &RemoteName, branch: &str) -> String {
    format!("refs/remotes/{remote}/{branch}")
}

/// The branches of a remote that have a head.
pub(super) fn followed<'a>(
    remote: &'a Remote,
    heads: &'a Heads,
) -> impl Iterator<Item = (&'a str, &'a Commit)> {
    let branches = [
        (&remote.main, &heads.main),
        (&remote.testing, &heads.testing),
    ];
    branches
        .into_iter()
        .filter_map(|(branch, head)| Some((&*branch.as_ref()?.name, head.as_ref()?)))
}

/// The heads of a remote's branches in the mirror, read without libgit2.
pub fn known_heads(paths: &Paths, remote: &Remote) -> Result<Heads> {
    let refs = Refs::of_bare(&paths.repository());
    Heads::find(remote, |branch| {
        let name = tracking(&remote.name, branch);
        match refs.read(&name)? {
            Ref::Commit(commit) => Ok(Some(commit)),
            Ref::Missing => Ok(None),
            Ref::Unclear => Err(anyhow!("{name} is damaged")),
        }
    })
}

/// The heads of a repository on this machine, read without libgit2; `None` where only libgit2 can tell.
pub fn local_heads(path: &Path, remote: &Remote) -> Result<Option<Heads>> {
    let refs = Refs::of_repository(path)?;
    let heads = Heads::find(remote, |branch| {
        match refs.read(&format!("refs/heads/{branch}")) {
            Ok(Ref::Commit(commit)) => Ok(Some(commit)),
            Ok(Ref::Missing) => Ok(None),
            Ok(Ref::Unclear) => Err(None),
            Err(error) => Err(Some(error)),
        }
    });
    match heads {
        Ok(heads) => Ok(Some(heads)),
        Err(None) => Ok(None),
        Err(Some(error)) => Err(error),
    }
}
