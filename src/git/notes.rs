//! The notes of commits, in which CI names the systems that it has built.

use anyhow::{ensure, Context, Result};
use git2::{ObjectType, Oid, Tree};

use super::{heads::tracking, mirror::Mirror};
use crate::model::{Commit, RemoteName};

/// More bytes than the note of a commit needs: a line for each of some 2,500 machines.
pub const LARGEST: usize = 256 * 1024;

impl Mirror {
    /// The note of a commit in `refs/notes/<notes>` of a remote, `None` if there is none.
    pub fn note(
        &self,
        remote: &RemoteName,
        notes: &str,
        commit: &Commit,
    ) -> Result<Option<Vec<u8>>> {
        let read = || -> Result<Option<Vec<u8>>> {
            let _owner = self.as_owner()?;
            let name = tracking(remote, &format!("refs/notes/{notes}"));
            let Some(head) = self.head(&name)? else {
                return Ok(None);
            };
            let Some(note) = self.find_note(self.commit(&head)?.tree()?, commit.as_str())? else {
                return Ok(None);
            };
            let odb = self.repository.odb()?;
            let (size, kind) = odb.read_header(note)?;
            ensure!(kind == ObjectType::Blob, "it is not a text");
            ensure!(
                size <= LARGEST,
                "it has {size} bytes, and the limit is {LARGEST}"
            );
            let note = odb.read(note)?;
            Ok(Some(note.data().to_vec()))
        };
        read().with_context(|| {
            format!(
                "Failed to read the note of {} in refs/notes/{notes} of {remote}",
                commit.short()
            )
        })
    }

    /// Git spreads many notes over folders: the first two letters of a commit, then the next two, and so on.
    fn find_note<'a>(&'a self, mut folder: Tree<'a>, mut commit: &str) -> Result<Option<Oid>> {
        loop {
            if let Some(note) = folder.get_name(commit) {
                return Ok(Some(note.id()));
            }
            let Some((name, rest)) = commit.split_at_checked(2) else {
                return Ok(None);
            };
            let entry = folder
                .get_name(name)
                .map(|entry| (entry.id(), entry.kind()));
            let Some((below, Some(ObjectType::Tree))) = entry else {
                return Ok(None);
            };
            folder = self.repository.find_tree(below)?;
            commit = rest;
        }
    }
}
