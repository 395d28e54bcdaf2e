//! A reboot that a deployment needs, and whether the machine does it by itself.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::model::{gate::ClosedGate, policy::Reboots, schedule::Delay, suspension::Suspension};

/// A reboot for a system, as the state remembers it. By it, there is at most one for each deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    /// The attempt that asked for it.
    pub attempt: u64,
    /// The system that the reboot brings.
    pub system: PathBuf,
    /// The boot that it ends.
    pub boot: Option<String>,
    /// When it was announced.
    pub announced_at: Timestamp,
    /// How far it is.
    pub stage: RebootStage,
}

/// How far a reboot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootStage {
    /// Everybody knows.
    Announced,
    /// systemd knows, too. One of a later version counts as that: no second reboot is ordered then.
    #[serde(other)]
    Ordered,
}

/// Everything that a decision depends on.
#[derive(Debug)]
pub struct RebootFacts<'a> {
    pub policy: &'a Reboots,
    /// The attempt that waits for a reboot, and its system.
    pub waiting: Option<(u64, &'a Path)>,
    /// The latest reboot.
    pub latest: Option<&'a Reboot>,
    /// This boot.
    pub boot: Option<&'a str>,
    pub suspended: Option<&'a Suspension>,
    /// Who does not want the machine to go down.
    pub locks: &'a [String],
    pub now: &'a Zoned,
}

#[derive(Debug, PartialEq, Eq)]
pub enum RebootDecision {
    /// None is needed, or wanted.
    No,
    /// One was ordered in this boot.
    Ordered,
    /// The machine was rebooted for this system, and still needs a reboot.
    Ineffective,
    /// The operator wants nothing deployed.
    Suspended(Option<Delay>),
    /// The window is closed until then.
    Closed(Timestamp),
    /// Somebody does not want the machine to go down.
    Locked,
    /// A gate is closed.
    AtGate(ClosedGate),
    /// Everybody is to be told that the machine reboots for this attempt and its system.
    Announce(u64, PathBuf),
    /// Everybody was told, and has a while to end what they do.
    Announced(Delay),
    /// It is time.
    Now(Reboot),
}

impl RebootDecision {
    /// Whether the latest reboot counts no more. `is_needed` is whether one is needed for the attempt with that id.
    pub fn ends(&self, latest: &Reboot, is_needed: bool, attempt: Option<u64>) -> bool {
        match latest.stage {
            // It may take long until it can be; then it is announced anew.
            RebootStage::Announced => !matches!(
                self,
                Self::Announce(_, _) | Self::Announced(_) | Self::Now(_)
            ),
            // A later deployment needs none: then the same system may need one again.
            RebootStage::Ordered => !is_needed && Some(latest.attempt) != attempt,
        }
    }
}

/// Decides whether the machine reboots, where no gate is closed.
pub fn decide(facts: &RebootFacts) -> RebootDecision {
    let Some((attempt, system)) = facts.waiting.filter(|_| facts.policy.allow) else {
        return RebootDecision::No;
    };
    let is_same = |latest: &&Reboot| latest.attempt == attempt || latest.system == system;
    let latest = facts.latest.filter(is_same);
    let in_this_boot = latest.filter(|latest| latest.boot.as_deref() == facts.boot);
    let announced = match (latest.map(|latest| latest.stage), in_this_boot) {
        (Some(RebootStage::Ordered), Some(_)) => return RebootDecision::Ordered,
        (Some(RebootStage::Ordered), None) => return RebootDecision::Ineffective,
        (Some(RebootStage::Announced) | None, announced) => announced,
    };
    if let Some(suspension) = facts.suspended {
        return RebootDecision::Suspended(suspension.remaining(facts.now.timestamp()));
    }
    let opens = facts.policy.window.map(|window| window.opens(facts.now));
    if let Some(opens) = opens.flatten() {
        return RebootDecision::Closed(opens);
    }
    if !facts.locks.is_empty() {
        return RebootDecision::Locked;
    }
    let Some(announced) = announced else {
        return RebootDecision::Announce(attempt, system.to_path_buf());
    };
    let wait = Delay::new(announced.announced_at, facts.policy.delay);
    if wait.has_elapsed(facts.now.timestamp()) {
        RebootDecision::Now(announced.clone())
    } else {
        RebootDecision::Announced(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::window::Window;
    use jiff::{tz::TimeZone, SignedDuration};

    #[test]
    fn when_a_machine_reboots_by_itself() {
        let now: Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let now = now.to_zoned(TimeZone::UTC);
        let window = |lower, upper| Some(Window::new(lower, upper, &[]).unwrap());
        let policy = |window| Reboots {
            allow: true,
            window,
            delay: SignedDuration::from_secs(60),
        };
        let any_time = policy(None);
        let system = Path::new("/new");
        let facts = || RebootFacts {
            policy: &any_time,
            waiting: Some((7, system)),
            latest: None,
            boot: Some("2"),
            suspended: None,
            locks: &[],
            now: &now,
        };
        let latest = |system: &str, boot: &str, seconds: i64, stage| Reboot {
            attempt: 6,
            system: system.into(),
            boot: Some(boot.into()),
            announced_at: now.timestamp() - SignedDuration::from_secs(seconds),
            stage,
        };
        let decide_after = |latest: Reboot| {
            decide(&RebootFacts {
                latest: Some(&latest),
                ..facts()
            })
        };

        let announce = || RebootDecision::Announce(7, system.to_path_buf());
        assert_eq!(decide(&facts()), announce());
        let forbidden = Reboots {
            allow: false,
            ..any_time.clone()
        };
        for facts in [
            RebootFacts {
                policy: &forbidden,
                ..facts()
            },
            RebootFacts {
                waiting: None,
                ..facts()
            },
        ] {
            assert_eq!(decide(&facts), RebootDecision::No, "{facts:?}");
        }

        // Told, and given time.
        let told = |seconds| decide_after(latest("/new", "2", seconds, RebootStage::Announced));
        let since = now.timestamp() - SignedDuration::from_secs(59);
        let wait = Delay::new(since, any_time.delay);
        assert_eq!(told(59), RebootDecision::Announced(wait));
        let told_before = latest("/new", "2", 60, RebootStage::Announced);
        assert_eq!(told(60), RebootDecision::Now(told_before.clone()));
        // Of another system, or before somebody else rebooted the machine.
        let announced =
            |system, boot| decide_after(latest(system, boot, 60, RebootStage::Announced));
        assert_eq!(announced("/old", "2"), announce());
        assert_eq!(announced("/new", "1"), announce());
        // Once for each system.
        let ordered = |system, boot| decide_after(latest(system, boot, 60, RebootStage::Ordered));
        assert_eq!(ordered("/new", "2"), RebootDecision::Ordered);
        assert_eq!(ordered("/new", "1"), RebootDecision::Ineffective);
        assert_eq!(ordered("/old", "1"), announce());

        // Once for each attempt, too.
        let of_the_same = Reboot {
            attempt: 7,
            ..latest("/old", "1", 60, RebootStage::Ordered)
        };
        assert_eq!(decide_after(of_the_same), RebootDecision::Ineffective);

        // Not now, whoever has been told.
        let facts = || RebootFacts {
            latest: Some(&told_before),
            ..facts()
        };
        let lock = ["a lock".to_string()];
        let locked = RebootFacts {
            locks: &lock,
            ..facts()
        };
        assert_eq!(decide(&locked), RebootDecision::Locked);
        for (lower, upper, opens) in [
            ("02:00", "04:00", None),
            ("22:00", "04:00", None),
            ("04:00", "05:00", Some("2026-01-02T04:00:00Z")),
            ("22:00", "02:00", Some("2026-01-02T22:00:00Z")),
            ("01:00", "03:00", Some("2026-01-03T01:00:00Z")),
        ] {
            let policy = policy(window(lower, upper));
            let facts = RebootFacts {
                policy: &policy,
                ..facts()
            };
            let opens = opens.map(|opens| opens.parse().unwrap());
            let wanted = opens.map_or(
                RebootDecision::Now(told_before.clone()),
                RebootDecision::Closed,
            );
            assert_eq!(decide(&facts), wanted, "{lower}–{upper}");
        }
    }

    #[test]
    fn suspended_machine_does_not_reboot() {
        let facts = RebootFacts {
            policy: &Reboots {
                allow: true,
                window: None,
                delay: SignedDuration::from_secs(60),
            },
            waiting: Some((7, Path::new("/new"))),
            latest: None,
            boot: None,
            suspended: Some(&Suspension {
                since: Timestamp::UNIX_EPOCH,
                until: None,
                reason: None,
            }),
            locks: &[],
            now: &Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
        };
        assert_eq!(decide(&facts), RebootDecision::Suspended(None));
    }
}
