//! When systemd fetches each remote next: what its timers and watches say.

use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use crate::config::paths::Paths;
use crate::config::Remote;
use crate::model::names::RemoteName;
use crate::sys::command;
use crate::system::systemd;

/// How long systemd may take: a person waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where the units of a machine are. That one is there is seen sooner than systemd would say it.
const UNITS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];

/// When a remote is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchSchedule {
    /// The next time; `None` where there is no timer, or it is being fetched.
    pub next: Option<Timestamp>,
    /// Whether it is also fetched when there is a commit.
    pub watched: bool,
}

/// What was asked of systemd. It is answered while something else is done.
pub struct PendingTimers(Option<JoinHandle<Result<Timers>>>);

/// What systemd says of the timers; `None` where it rules nothing.
#[derive(Debug, Default)]
pub struct Timers(Option<Vec<Timer>>);

/// A timer, as systemctl prints it.
#[derive(Debug, Deserialize)]
struct Timer {
    unit: String,
    /// Microseconds since 1970.
    next: Option<i64>,
}

/// Asks systemd, where it rules the machine: once for all remotes, for most of what that costs is the start
/// of systemctl.
pub fn ask(remotes: &[Remote], paths: &Paths) -> PendingTimers {
    if !systemd::is_here(paths) {
        return PendingTimers(None);
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["list-timers", "--output=json"]);
    systemctl.args(remotes.iter().map(|remote| unit(&remote.name, "timer")));
    PendingTimers(Some(thread::spawn(move || {
        let timers = command::query(&mut systemctl, "systemctl list-timers", PATIENCE)?;
        Timers::parse(&timers)
    })))
}

fn unit(remote: &RemoteName, kind: &str) -> String {
    format!("comin-{remote}.{kind}")
}

impl PendingTimers {
    /// What it said; nothing where it said nothing: a status does not depend on it.
    pub fn answer(self) -> Timers {
        match self.0.map(JoinHandle::join) {
            Some(Ok(Ok(polls))) => polls,
            Some(Ok(Err(error))) => {
                log::debug!("systemd does not say when remotes are fetched: {error:#}");
                Timers(Some(Vec::new()))
            }
            Some(Err(_)) | None => Timers(None),
        }
    }
}

impl Timers {
    fn parse(json: &[u8]) -> Result<Self> {
        let timers = serde_json::from_slice(json).context("That is no list of timers")?;
        Ok(Self(Some(timers)))
    }

    /// When a remote is fetched.
    pub fn of(&self, remote: &RemoteName) -> FetchSchedule {
        let Some(timers) = &self.0 else {
            return FetchSchedule::default();
        };
        let timer = unit(remote, "timer");
        let next = timers.iter().find(|it| it.unit == timer);
        let next = next.and_then(|timer| timer.next).filter(|next| *next > 0);
        let path = unit(remote, "path");
        FetchSchedule {
            next: next.and_then(|next| Timestamp::from_microsecond(next).ok()),
            watched: UNITS
                .iter()
                .any(|folder| Path::new(folder).join(&path).exists()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_read_as_systemctl_prints_them() {
        let json = br#"[
            {"next":1767323045678901,"left":12,"last":1767322985000000,"passed":1,"unit":"comin-o.timer","activates":"comin-o.service"},
            {"next":null,"left":null,"last":null,"passed":null,"unit":"comin-p.timer","activates":"comin-p.service"},
            {"next":0,"left":0,"last":0,"passed":0,"unit":"comin-q.timer","activates":"comin-q.service"}
        ]"#;
        let polls = Timers::parse(json).unwrap();
        let next = |remote: &str| {
            polls
                .of(&serde_json::from_value(remote.into()).unwrap())
                .next
        };
        assert_eq!(next("o").unwrap().as_second(), 1_767_323_045);
        for none in ["p", "q", "r"] {
            assert_eq!(next(none), None, "{none}");
        }
        assert!(Timers::parse(b"Unknown option").is_err());
    }
}
