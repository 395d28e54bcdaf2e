//! Whether, and when, something is tried again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::names::RemoteName;
use crate::sys::text;

/// Whether, and when, a target may be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextTry {
    /// It is deployed, or not for this machine.
    None,
    /// It would only fail again.
    OnNewCommit,
    /// After a wait.
    At(Delay),
    /// When one of these remotes can be fetched again.
    WhenReachable(Vec<RemoteName>),
}

impl NextTry {
    /// As in "tried again at …".
    pub fn sentence(&self) -> String {
        match self {
            Self::None => "nothing is left to do".to_string(),
            Self::OnNewCommit => "held until someone pushes, or comin retry".to_string(),
            Self::At(wait) => format!("tried again at {}", text::at(wait.until)),
            Self::WhenReachable(remotes) => {
                format!("tried again when the remote {} is back", join_or(remotes))
            }
        }
    }
}

/// As in "a or b".
pub fn join_or(remotes: &[RemoteName]) -> String {
    let names: Vec<&str> = remotes.iter().map(RemoteName::as_str).collect();
    names.join(" or ")
}

/// From a moment that was seen until another one. A clock that is set back makes it twice as long at
/// most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    from: Timestamp,
    /// When it is over.
    pub until: Timestamp,
}

impl Delay {
    /// A wait of a certain length.
    pub fn new(from: Timestamp, length: SignedDuration) -> Self {
        let until = from.checked_add(length).unwrap_or(Timestamp::MAX);
        Self { from, until }
    }

    /// A wait from now on.
    pub fn until(now: Timestamp, until: Timestamp) -> Self {
        Self { from: now, until }
    }

    /// Whether it is over. One whose beginning is farther ahead than it is long was written by a clock
    /// that has been set back since, and does not count; one that is nearer holds, for a clock may be
    /// set back by a second at any time.
    pub fn has_elapsed(self, now: Timestamp) -> bool {
        let length = self.until.duration_since(self.from);
        let earliest = self.from.checked_sub(length).unwrap_or(Timestamp::MIN);
        self.until <= now || now < earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_at_its_end_and_when_the_clock_is_far_before_its_beginning() {
        let second = SignedDuration::from_secs(1);
        let begin = Timestamp::UNIX_EPOCH;
        let wait = Delay::new(begin, second * 10);
        assert!(!wait.has_elapsed(begin));
        assert!(!wait.has_elapsed(begin + second * 9));
        assert!(wait.has_elapsed(begin + second * 10));
        assert!(!wait.has_elapsed(begin - second));
        assert!(wait.has_elapsed(begin - second * 11));
        let for_ever = Delay::new(begin, SignedDuration::MAX);
        assert!(!for_ever.has_elapsed(begin + second * 1_000_000));
    }
}
