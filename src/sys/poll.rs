//! Waiting for files to become readable.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// A file that is awaited until it can be read.
pub fn readable(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}

/// Waits until one of these is ready, and says whether one is: the time may be over before.
pub fn poll(awaited: &mut [PollFd], time: Option<Duration>) -> Result<bool> {
    let began = Instant::now();
    loop {
        let left = time.map(|time| time.saturating_sub(began.elapsed()));
        let left = left.map(Timespec::try_from).transpose()?;
        match event::poll(awaited, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
