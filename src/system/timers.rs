//! What systemd says of the units that fetch and deploy: whether they are active, and when each remote is fetched next.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::{paths::Paths, Remote};
use crate::model::RemoteName;
use crate::sys::{command, fs, json};
use crate::system::systemd;

/// How long systemd may take: a person waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// The unit that starts a deploy when one is requested.
pub const DEPLOYS: &str = "comin.path";
/// The unit without which no unit of a remote fetches.
const LETS_FETCH: &str = "comin-fetcher.service";

/// How often a remote is fetched at least, if nobody says how often.
const PERIOD: SignedDuration = SignedDuration::from_hours(8);
/// A shorter period is not missed sooner than this one.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

/// When a remote is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchSchedule {
    /// The next time; `None` if no timer is active, or it is being fetched.
    pub next: Option<Timestamp>,
    /// How long the timer waits between two fetches, if it has started one.
    pub period: Option<SignedDuration>,
    /// Whether its timer is active.
    pub is_timed: bool,
    /// Whether it is also fetched when there is a commit.
    pub watched: bool,
}

impl FetchSchedule {
    /// Whether the latest fetch is so long ago that others should have followed. While systemd fetches the remote, it says
    /// no period; if systemd does not fetch it at all, the configuration does.
    pub fn is_overdue(&self, age: SignedDuration, remote: &Remote) -> bool {
        let period = match (self.period, self.is_timed) {
            (Some(period), _) => period,
            (None, true) => return false,
            (None, false) => remote.period.unwrap_or(PERIOD),
        };
        age > period.max(SHORTEST).saturating_mul(3)
    }
}

/// What was asked of systemd. It is answered while something else is done.
pub struct PendingTimers(Option<[JoinHandle<Result<Vec<u8>>>; 2]>);

/// What systemd says of the units that fetch and deploy; nothing if it does not rule the machine, or does not answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Timers {
    timers: Vec<Timer>,
    units: Vec<Unit>,
}

/// A timer, as systemctl prints it. Times are microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Timer {
    unit: String,
    next: Option<i64>,
    last: Option<i64>,
}

/// A unit of comin that the machine has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unit {
    name: String,
    is_active: bool,
}

/// Asks systemd, if it rules the machine: once for all remotes, for most of what that costs is the start
/// of systemctl.
pub fn ask(remotes: &[Remote], paths: &Paths) -> PendingTimers {
    if !systemd::is_here(paths) {
        return PendingTimers(None);
    }
    let units = |kind| remotes.iter().map(move |remote| unit(&remote.name, kind));
    let mut timers = Command::new("systemctl");
    timers.args(["list-timers", "--output=json"]);
    timers.args(units("timer"));
    let mut states = Command::new("systemctl");
    states.args(["show", "--property=Id,LoadState,ActiveState"]);
    states.args([DEPLOYS, LETS_FETCH]);
    states.args(units("timer").chain(units("path")));
    PendingTimers(Some([timers, states].map(|mut systemctl| {
        thread::spawn(move || command::query(&mut systemctl, "systemctl", PATIENCE))
    })))
}

/// Asks for a process that must not ask by itself.
pub fn record(remotes: &[Remote], paths: &Paths) -> Result<()> {
    // An old answer would say that all is well if there is no new one.
    fs::remove_optional(&paths.timers())?;
    json::write(&paths.timers(), &ask(remotes, paths).answer())
}

/// What was recorded last; nothing if nothing was.
pub fn recorded(paths: &Paths) -> Result<Timers> {
    Ok(json::read_lossy(&paths.timers())?.unwrap_or_default())
}

fn unit(remote: &RemoteName, kind: &str) -> String {
    format!("comin-{remote}.{kind}")
}

impl PendingTimers {
    /// What it said; nothing if it said nothing: a status does not depend on it.
    pub fn answer(self) -> Timers {
        let Some(answers) = self.0 else {
            return Timers::default();
        };
        let [timers, units] = answers.map(|answer| {
            let said = answer.join().unwrap_or_else(|_| Ok(Vec::new()));
            said.unwrap_or_else(|error| {
                log::debug!("systemd does not say when remotes are fetched: {error:#}");
                Vec::new()
            })
        });
        Timers::parse(&timers, &units)
    }
}

impl Timers {
    fn parse(timers: &[u8], units: &[u8]) -> Self {
        let units = String::from_utf8_lossy(units);
        Self {
            timers: serde_json::from_slice(timers).unwrap_or_default(),
            units: systemd::properties(&units)
                .filter_map(|it| Unit::of(&it))
                .collect(),
        }
    }

    /// When a remote is fetched.
    pub fn of(&self, remote: &RemoteName) -> FetchSchedule {
        let timer = unit(remote, "timer");
        let timer = self.timers.iter().find(|it| it.unit == timer);
        let time = |time: fn(&Timer) -> Option<i64>| {
            let time = timer.and_then(time).filter(|time| *time > 0);
            time.and_then(|time| Timestamp::from_microsecond(time).ok())
        };
        let (last, next) = (time(|timer| timer.last), time(|timer| timer.next));
        let path = unit(remote, "path");
        let is_active = |it: &Unit| it.name == path && it.is_active;
        FetchSchedule {
            next,
            period: last.zip(next).map(|(last, next)| next.duration_since(last)),
            is_timed: timer.is_some(),
            watched: self.units.iter().any(is_active),
        }
    }

    /// The units that should fetch or deploy, and are not active.
    pub fn inactive_units(&self) -> Vec<String> {
        let units = self.units.iter().filter(|unit| !unit.is_active);
        units.map(|unit| unit.name.clone()).collect()
    }
}

impl Unit {
    /// A unit by its properties; `None` if the machine has no such unit.
    fn of(properties: &BTreeMap<&str, &str>) -> Option<Self> {
        let property = |name: &str| properties.get(name).copied();
        if property("LoadState")? == "not-found" {
            return None;
        }
        Some(Self {
            name: property("Id")?.to_string(),
            is_active: !matches!(
                property("ActiveState")?,
                "inactive" | "failed" | "deactivating"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(name: &str) -> RemoteName {
        serde_json::from_value(name.into()).unwrap()
    }

    #[test]
    fn timers_are_read_as_systemctl_prints_them() {
        let json = br#"[
            {"next":1767323045678901,"left":12,"last":1767322985000000,"passed":1,"unit":"comin-o.timer","activates":"comin-o.service"},
            {"next":null,"left":null,"last":null,"passed":null,"unit":"comin-p.timer","activates":"comin-p.service"},
            {"next":0,"left":0,"last":0,"passed":0,"unit":"comin-q.timer","activates":"comin-q.service"}
        ]"#;
        let timers = Timers::parse(json, b"");
        let of_o = timers.of(&remote("o"));
        assert_eq!(of_o.next.unwrap().as_second(), 1_767_323_045);
        assert_eq!(of_o.period.unwrap().as_secs(), 60);
        for none in ["p", "q", "r"] {
            let schedule = timers.of(&remote(none));
            assert_eq!((schedule.next, schedule.period), (None, None), "{none}");
            assert_eq!(schedule.is_timed, none != "r");
        }
        let of_o = Timers::parse(b"Unknown option", b"Unknown option").of(&remote("o"));
        assert_eq!(of_o, FetchSchedule::default());
    }

    #[test]
    fn fetch_is_overdue_after_three_periods() {
        let followed = |period: Option<i64>| {
            let mut config = crate::config::for_tests();
            config.remotes[0].period = period.map(SignedDuration::from_secs);
            config.remotes.remove(0)
        };
        let timer = |period: Option<i64>| FetchSchedule {
            period: period.map(SignedDuration::from_secs),
            is_timed: true,
            ..FetchSchedule::default()
        };
        let none = FetchSchedule::default();
        for (schedule, configured, limit) in [
            (timer(Some(300)), Some(60), 900),
            (timer(Some(86400)), Some(60), 3 * 86400),
            // A period of a second, or a remote that is watched.
            (timer(Some(1)), Some(1), 180),
            // Being fetched.
            (timer(None), Some(60), i64::MAX / 4),
            // Without systemd.
            (none, Some(600), 1800),
            (none, None, 86400),
        ] {
            let remote = followed(configured);
            let after = |age| schedule.is_overdue(SignedDuration::from_secs(age), &remote);
            assert!(
                !after(limit) && (after(limit + 1) || limit > 1 << 40),
                "{schedule:?}"
            );
        }
    }

    #[test]
    fn unit_that_the_machine_has_and_that_is_not_active_is_named() {
        let units = "Id=comin.path\nLoadState=masked\nActiveState=inactive\n\n\
            Id=comin-o.timer\nLoadState=loaded\nActiveState=active\n\n\
            ActiveState=failed\nId=comin-p.timer\nLoadState=loaded\n\n\
            Id=comin-o.path\nLoadState=loaded\nActiveState=activating\n\n\
            Id=comin-p.path\nLoadState=not-found\nActiveState=inactive\n";
        let timers = Timers::parse(b"[]", units.as_bytes());
        assert_eq!(timers.inactive_units(), ["comin.path", "comin-p.timer"]);
        assert!(timers.of(&remote("o")).watched);
        assert!(!timers.of(&remote("p")).watched);
    }
}
