//! What somebody who watches the status waits for: that files change, that time goes by, and that the
//! person has seen enough.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::config::paths::Paths;
use crate::sys::poll::{poll, readable};
use crate::sys::{inotify::Folders, signal::DeferExit};

/// How long a change may go on: who replaces a file makes another one first.
const SETTLE: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEvent {
    /// A file that the status depends on may have changed.
    Changed,
    /// The time is over, or the window has another size.
    Tick,
    /// The person wants to do something else for a while (Ctrl-Z).
    Stop,
    /// Nobody reads any more, or the person has seen enough (Ctrl-C).
    End,
}

/// Looks out for all of it.
pub struct Changes {
    folders: Vec<PathBuf>,
    files: Folders,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    deferral: DeferExit,
}

impl Changes {
    /// Looks out from now on.
    pub fn of(paths: &Paths) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let signals = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH];
        let signals = SignalDelivery::with_pipe(ours, theirs, SignalOnly, signals)?;
        let changes = Self {
            folders: paths.watched_dirs(),
            files: Folders::watch(&[])?,
            signals,
            deferral: DeferExit::begin()?,
        };
        changes.watch()?;
        Ok(changes)
    }

    /// Whether the person has seen enough, maybe in the middle of a look.
    pub fn are_over(&self) -> bool {
        self.deferral.is_called_for()
    }

    fn watch(&self) -> Result<()> {
        let mut folders = self.folders.iter();
        folders.try_for_each(|folder| self.files.watch_nearest(folder))
    }

    /// Waits for what happens next, but no longer than this.
    pub fn next(&mut self, patience: Duration) -> Result<WatchEvent> {
        let stdout = io::stdout();
        let [is_changed, is_signalled, is_unread] = {
            let signals = self.signals.get_read();
            let mut awaited = [
                readable(&self.files),
                readable(signals),
                // Of a pipe that nobody reads, an error is told without being asked for.
                PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()),
            ];
            poll(&mut awaited, Some(patience)).context("Failed to wait")?;
            awaited.map(|fd| !fd.revents().is_empty())
        };
        if is_unread {
            return Ok(WatchEvent::End);
        }
        if is_signalled {
            let signals: Vec<i32> = self.signals.pending().collect();
            let has = |wanted: &[i32]| signals.iter().any(|signal| wanted.contains(signal));
            if has(&[SIGINT, SIGTERM, SIGHUP]) {
                return Ok(WatchEvent::End);
            }
            return Ok(if has(&[SIGTSTP]) {
                WatchEvent::Stop
            } else {
                WatchEvent::Tick
            });
        }
        if !is_changed {
            return Ok(WatchEvent::Tick);
        }
        thread::sleep(SETTLE);
        self.files.drain();
        self.watch()?;
        Ok(WatchEvent::Changed)
    }
}
