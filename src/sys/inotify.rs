//! Folders that are watched: what changes in them is seen at once, and costs nothing until then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::sys::poll::{poll, readable};

/// Becomes readable when a file of one of its folders is made or replaced.
pub struct Folders(OwnedFd);

impl Folders {
    /// Watches folders from now on.
    pub fn watch(folders: &[&Path]) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("Failed to watch anything")?;
        for folder in folders {
            inotify::add_watch(&fd, *folder, WatchFlags::CREATE | WatchFlags::MOVED_TO)
                .with_context(|| format!("Failed to watch {}", folder.display()))?;
        }
        Ok(Self(fd))
    }

    /// Watches a folder as well, also for what is deleted in it; in place of one that is not there, the nearest
    /// one above it.
    pub fn watch_nearest(&self, folder: &Path) -> Result<()> {
        let kinds = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let mut watches = folder
            .ancestors()
            .map(|place| inotify::add_watch(&self.0, place, kinds));
        let watch = watches.find(|watch| *watch != Err(Errno::NOENT));
        let watch = watch.transpose();
        watch.with_context(|| format!("Failed to watch {}", folder.display()))?;
        Ok(())
    }

    /// Forgets what has changed until now.
    pub fn drain(&self) {
        let mut events = [0; 4096];
        while matches!(rustix::io::read(&self.0, &mut events), Ok(read) if read > 0) {}
    }

    /// Waits for a change, but no longer than this.
    pub fn wait(&self, time: Duration) -> Result<()> {
        poll(&mut [readable(&self.0)], Some(time)).map(drop)
    }

    /// Ends the watch. The kernel takes some milliseconds for that, for which nobody has to wait.
    pub fn end(self) {
        let _ = thread::Builder::new().spawn(move || drop(self));
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
