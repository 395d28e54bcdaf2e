//! Folders that are watched: what changes in them is seen at once, and costs nothing until then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::sys::poll::{poll, readable};

/// Becomes readable when a file of one of its folders is made or replaced.
pub struct Folders {
    fd: OwnedFd,
    watches: Vec<i32>,
}

impl Folders {
    /// Watches folders from now on.
    pub fn watch(folders: &[&Path]) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("Failed to watch anything")?;
        let watch = |folder: &&Path| {
            inotify::add_watch(&fd, *folder, WatchFlags::CREATE | WatchFlags::MOVED_TO)
                .with_context(|| format!("Failed to watch {}", folder.display()))
        };
        let watches = folders.iter().map(watch).collect::<Result<_>>()?;
        Ok(Self { fd, watches })
    }

    /// Watches a folder as well, also for what is deleted in it; in place of one that is not there, the nearest
    /// one above it.
    pub fn watch_nearest(&self, folder: &Path) -> Result<()> {
        let kinds = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let mut watches = folder
            .ancestors()
            .map(|place| inotify::add_watch(&self.fd, place, kinds));
        let watch = watches.find(|watch| *watch != Err(Errno::NOENT));
        let watch = watch.transpose();
        watch.with_context(|| format!("Failed to watch {}", folder.display()))?;
        Ok(())
    }

    /// Forgets what has changed until now.
    pub fn drain(&self) {
        let mut events = [0; 4096];
        while matches!(rustix::io::read(&self.fd, &mut events), Ok(read) if read > 0) {}
    }

    /// Waits for a change, but no longer than this.
    pub fn wait(&self, time: Duration) -> Result<()> {
        poll(&mut [readable(&self.fd)], Some(time)).map(drop)
    }

    /// Ends the watch of the folders. The kernel takes some milliseconds for that. Whoever closes this meanwhile waits,
    /// and so does a child with a copy of it: drop it later.
    pub fn end(&self) {
        for watch in &self.watches {
            // The watch of a folder that is gone has ended.
            let _ = inotify::remove_watch(&self.fd, *watch);
        }
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn folder_is_watched_until_the_watch_ends() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::watch(&[folder.path()]).unwrap();
        let sees = |name| {
            folders.drain();
            File::create(folder.path().join(name)).unwrap();
            poll(&mut [readable(&folders)], Some(Duration::ZERO)).unwrap()
        };
        assert!(sees("first"));
        folders.end();
        assert!(!sees("second"));
        // Nothing is left to end.
        folders.end();
    }
}
