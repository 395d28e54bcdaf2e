//! What libgit2 is told of a server that fails.

use std::io;
use std::time::Duration;

use crate::sys::text::printable;

/// What went wrong with a server, as libgit2 takes it: git2 panics at a zero byte, and the words may be the server's.
pub(super) fn failure(text: &str) -> io::Error {
    io::Error::other(printable(text).into_owned())
}

/// The sentence about a fetch that took longer than it may.
pub(super) fn given_up(timeout: Option<Duration>) -> String {
    let seconds = timeout.unwrap_or_default().as_secs();
    format!("it was given up after {seconds} seconds, the remote's timeout")
}
