//! Reboots: whether the machine needs one, and whether, when and for what it does one by itself.
//!
//! A reboot is announced, waits, and is decided on once more before it is ordered. A shutdown that is
//! scheduled with logind would not do: it heeds no lock that was taken meanwhile, and it can hit an
//! activation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp, Zoned};
use log::Level;
use serde::Deserialize;

use crate::deploy::{boot, context::Context, gates};
use crate::model::gate::{Before, ClosedGate};
use crate::model::reboot::{Reboot, Stage};
use crate::model::{
    attempt::Attempt, names::Operation, policy::Reboots, schedule::Delay, state::State,
    suspension::Suspension,
};
use crate::state::{deploy_record::DeployRecord, store::Store};
use crate::sys::{command, fs, text::printable};
use crate::system::{self, reboot_reasons::reasons, switch, systemd};

/// How long whoever holds a lock is left alone before that is looked at again.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);
/// How long a tool may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is left to do about a reboot when nothing else is.
#[derive(Debug)]
pub enum NextStep {
    /// Nothing.
    None,
    /// To look again after a wait.
    Later(Delay),
    /// To order it.
    Due(Reboot),
}

impl NextStep {
    /// The wait, if there is one.
    pub fn wait(&self) -> Option<Delay> {
        match self {
            Self::Later(wait) => Some(*wait),
            Self::None | Self::Due(_) => None,
        }
    }
}

/// Everything that a decision depends on.
#[derive(Debug)]
struct Facts<'a> {
    policy: &'a Reboots,
    /// The attempt that waits for a reboot, and its system.
    waiting: Option<(u64, &'a Path)>,
    /// The latest reboot.
    latest: Option<&'a Reboot>,
    /// This boot.
    boot: Option<&'a str>,
    suspended: Option<&'a Suspension>,
    /// Who does not want the machine to go down.
    locks: &'a [String],
    now: &'a Zoned,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
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

/// Decides on a reboot, announces one, and says what it waits for.
pub fn plan_reboot(
    ctx: &Context,
    store: &mut Store,
    suspended: Option<&Suspension>,
    decided: &mut DeployRecord,
) -> Result<NextStep> {
    let attempt = store.state().last_activation().cloned();
    let reasons = reasons(&ctx.config, &ctx.paths, attempt.as_ref());
    let why = printable(&reasons.join(", ")).into_owned();
    let boot = boot::id(&ctx.paths)?;
    let waiting = match &attempt {
        Some(attempt) if !reasons.is_empty() => {
            let system = system_awaiting_reboot(ctx, store.state(), attempt)?;
            system.map(|system| (attempt.id, system.to_path_buf()))
        }
        Some(_) | None => None,
    };
    let locks = match &waiting {
        Some(_) if ctx.config.reboot.allow => shutdown_blockers(ctx),
        Some(_) | None => Vec::new(),
    };
    let now = ctx.local_time();
    let latest = store.state().reboot.clone();
    let decision = decide(&Facts {
        policy: &ctx.config.reboot,
        waiting: waiting.as_ref().map(|(id, system)| (*id, system.as_path())),
        latest: latest.as_ref(),
        boot: boot.as_deref(),
        suspended,
        locks: &locks,
        now: &now,
    });
    let closed = match (&decision, &attempt) {
        (Decision::Announce(_, _) | Decision::Now(_), Some(attempt)) => {
            gates::closed(ctx, store.state(), attempt, Before::Reboot)?
        }
        (_, _) => None,
    };
    let decision = closed.map_or(decision, Decision::AtGate);
    let is_over = latest.is_some_and(|latest| match latest.stage {
        // It may take long until it can be; then it is announced anew.
        Stage::Announced => !matches!(
            decision,
            Decision::Announce(_, _) | Decision::Announced(_) | Decision::Now(_)
        ),
        // A later deployment needs none: then the same system may need one again.
        Stage::Ordered => {
            reasons.is_empty() && Some(latest.attempt) != attempt.as_ref().map(|a| a.id)
        }
    });
    if is_over {
        store.change(|state| state.reboot = None)?;
    }
    Ok(match decision {
        Decision::No | Decision::Ordered => NextStep::None,
        Decision::Ineffective => {
            let notice = format!("The machine still needs a reboot after the reboot for this deployment: {why}; comin does not reboot again");
            decided.log_once(Level::Warn, notice);
            NextStep::None
        }
        Decision::Suspended(wait) => wait.map_or(NextStep::None, NextStep::Later),
        Decision::Closed(opens) => {
            let notice = format!("A reboot is needed: {why}; it waits until {opens:.0}");
            decided.log_once(Level::Info, notice);
            NextStep::Later(Delay::until(now.timestamp(), opens))
        }
        Decision::Locked => {
            let locks = locks.join(", ");
            let notice = format!("A reboot is needed: {why}; it waits for {locks}");
            decided.log_once(Level::Info, notice);
            NextStep::Later(Delay::new(now.timestamp(), PAUSE))
        }
        Decision::AtGate(closed) => {
            let notice = format!("A reboot is needed: {why}; {closed}");
            let subject = format!("reboot at the gate {}", closed.gate);
            decided.log_once_about(subject, Level::Info, &notice);
            closed.again.map_or(NextStep::None, NextStep::Later)
        }
        Decision::Announce(id, system) => {
            let reboot = Reboot {
                attempt: id,
                system,
                boot,
                announced_at: now.timestamp(),
                stage: Stage::Announced,
            };
            store.change(|state| state.reboot = Some(reboot.clone()))?;
            let delay = ctx.config.reboot.delay;
            let name = attempt.map_or(String::new(), |attempt| attempt.target.to_string());
            broadcast(
                ctx,
                &format!(
                "This machine reboots in {} seconds for {name}: {why}; comin suspend prevents this",
                delay.as_secs()
            ),
            );
            let wait = Delay::new(reboot.announced_at, delay);
            if wait.has_elapsed(now.timestamp()) {
                NextStep::Due(reboot)
            } else {
                NextStep::Later(wait)
            }
        }
        Decision::Announced(wait) => NextStep::Later(wait),
        Decision::Now(reboot) => NextStep::Due(reboot),
    })
}

/// Orders a reboot. That is remembered before: should the machine need another one afterwards, it
/// does not get it by itself.
pub fn reboot(ctx: &Context, store: &mut Store, reboot: Reboot) -> Result<()> {
    log::info!("Rebooting");
    let stage = Stage::Ordered;
    store.change(|state| state.reboot = Some(Reboot { stage, ..reboot }))?;
    if !systemd::is_here(&ctx.paths) {
        log::warn!("There is no systemd that could reboot the machine");
        return Ok(());
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("reboot");
    let Err(error) = command::run(&mut systemctl, "systemctl reboot", Some(PATIENCE)) else {
        return Ok(());
    };
    if !shutdown_blockers(ctx).is_empty() {
        // Somebody has taken a lock just now: then this one waits as any other does.
        store.change(|state| state.reboot = None)?;
    }
    Err(error.context("Failed to reboot; do it by hand, or let comin try again by comin retry"))
}

/// Tells the journal, and whoever is logged in.
fn broadcast(ctx: &Context, text: &str) {
    log::warn!("{text}");
    if !systemd::is_here(&ctx.paths) {
        return;
    }
    let mut wall = Command::new("wall");
    if let Err(error) = command::ask(wall.arg(text), "wall", Stdio::null(), PATIENCE) {
        log::debug!("{error:#}");
    }
}

/// The system of an attempt that a reboot would complete. What somebody has chosen to run, to boot or
/// to boot next is not comin's to undo.
fn system_awaiting_reboot<'a>(
    ctx: &Context,
    state: &State,
    attempt: &'a Attempt,
) -> Result<Option<&'a Path>> {
    let boots = system::of_profile(&ctx.profile());
    let runs = fs::read_link_optional(&ctx.paths.current_system())?;
    let booted = fs::read_link_optional(&ctx.paths.booted_system())?;
    // With a boot, what runs is still what it found, or an attempt on the same system before it.
    let found = |before: &Attempt| before.out == attempt.out && before.before.system == runs;
    let runs_as_left = runs == attempt.out
        || attempt.operation() == Operation::Boot
            && (runs == booted || state.attempts.iter().any(found));
    let is_untouched = runs_as_left && boot::booted_instead(ctx, state)?.is_none();
    let system = attempt.boot_system().filter(|_| is_untouched);
    Ok(system.filter(|system| boots.as_deref() == Some(*system)))
}

/// Who does not want the machine to go down, in words.
fn shutdown_blockers(ctx: &Context) -> Vec<String> {
    let mut locks = match switch::is_busy(&ctx.paths) {
        Ok(false) => Vec::new(),
        Ok(true) => vec!["a switch that is under way".to_string()],
        Err(error) => vec![format!("a lock that cannot be read: {error:#}")],
    };
    if systemd::is_here(&ctx.paths) {
        match inhibitors() {
            Ok(inhibitors) => locks.extend(inhibitors),
            Err(error) => locks.push(format!("logind: {error:#}")),
        }
    }
    locks
}

fn decide(facts: &Facts) -> Decision {
    let Some((attempt, system)) = facts.waiting.filter(|_| facts.policy.allow) else {
        return Decision::No;
    };
    let is_same = |latest: &&Reboot| latest.attempt == attempt || latest.system == system;
    let latest = facts.latest.filter(is_same);
    let in_this_boot = latest.filter(|latest| latest.boot.as_deref() == facts.boot);
    let announced = match (latest.map(|latest| latest.stage), in_this_boot) {
        (Some(Stage::Ordered), Some(_)) => return Decision::Ordered,
        (Some(Stage::Ordered), None) => return Decision::Ineffective,
        (Some(Stage::Announced) | None, announced) => announced,
    };
    if let Some(suspension) = facts.suspended {
        return Decision::Suspended(suspension.remaining(facts.now.timestamp()));
    }
    let opens = facts.policy.window.map(|window| window.opens(facts.now));
    if let Some(opens) = opens.flatten() {
        return Decision::Closed(opens);
    }
    if !facts.locks.is_empty() {
        return Decision::Locked;
    }
    let Some(announced) = announced else {
        return Decision::Announce(attempt, system.to_path_buf());
    };
    let wait = Delay::new(announced.announced_at, facts.policy.delay);
    if wait.has_elapsed(facts.now.timestamp()) {
        Decision::Now(announced.clone())
    } else {
        Decision::Announced(wait)
    }
}

/// The inhibitor locks that forbid a shutdown. That a weak one forbids nothing to root is for somebody who
/// cannot wait.
fn inhibitors() -> Result<Vec<String>> {
    type Inhibitor = (String, String, String, String, u32, u32);
    #[derive(Deserialize)]
    struct Answer {
        data: (Vec<Inhibitor>,),
    }
    let mut busctl = Command::new("busctl");
    busctl
        .args(["--json=short", "call"])
        .args(["org.freedesktop.login1", "/org/freedesktop/login1"])
        .args(["org.freedesktop.login1.Manager", "ListInhibitors"]);
    let answer = command::query(&mut busctl, "busctl", PATIENCE)?;
    let answer: Answer =
        serde_json::from_slice(&answer).context("busctl answered something unexpected")?;
    let (inhibitors,) = answer.data;
    let forbids = |(what, _, _, mode, _, _): &Inhibitor| {
        matches!(mode.as_str(), "block" | "block-weak") && what.split(':').any(|w| w == "shutdown")
    };
    let words = |(_, who, why, _, _, _): Inhibitor| format!("a lock of {who} ({why})");
    Ok(inhibitors.into_iter().filter(forbids).map(words).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::window::Window;
    use jiff::tz::TimeZone;

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
        let facts = || Facts {
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
            decide(&Facts {
                latest: Some(&latest),
                ..facts()
            })
        };

        let announce = || Decision::Announce(7, system.to_path_buf());
        assert_eq!(decide(&facts()), announce());
        let forbidden = Reboots {
            allow: false,
            ..any_time.clone()
        };
        for facts in [
            Facts {
                policy: &forbidden,
                ..facts()
            },
            Facts {
                waiting: None,
                ..facts()
            },
        ] {
            assert_eq!(decide(&facts), Decision::No, "{facts:?}");
        }

        // Told, and given time.
        let told = |seconds| decide_after(latest("/new", "2", seconds, Stage::Announced));
        let since = now.timestamp() - SignedDuration::from_secs(59);
        let wait = Delay::new(since, any_time.delay);
        assert_eq!(told(59), Decision::Announced(wait));
        let told_before = latest("/new", "2", 60, Stage::Announced);
        assert_eq!(told(60), Decision::Now(told_before.clone()));
        // Of another system, or before somebody else rebooted the machine.
        let announced = |system, boot| decide_after(latest(system, boot, 60, Stage::Announced));
        assert_eq!(announced("/old", "2"), announce());
        assert_eq!(announced("/new", "1"), announce());
        // Once for each system.
        let ordered = |system, boot| decide_after(latest(system, boot, 60, Stage::Ordered));
        assert_eq!(ordered("/new", "2"), Decision::Ordered);
        assert_eq!(ordered("/new", "1"), Decision::Ineffective);
        assert_eq!(ordered("/old", "1"), announce());

        // Once for each attempt, too.
        let of_the_same = Reboot {
            attempt: 7,
            ..latest("/old", "1", 60, Stage::Ordered)
        };
        assert_eq!(decide_after(of_the_same), Decision::Ineffective);

        // Not now, whoever has been told.
        let facts = || Facts {
            latest: Some(&told_before),
            ..facts()
        };
        let lock = ["a lock".to_string()];
        let locked = Facts {
            locks: &lock,
            ..facts()
        };
        assert_eq!(decide(&locked), Decision::Locked);
        for (lower, upper, opens) in [
            ("02:00", "04:00", None),
            ("22:00", "04:00", None),
            ("04:00", "05:00", Some("2026-01-02T04:00:00Z")),
            ("22:00", "02:00", Some("2026-01-02T22:00:00Z")),
            ("01:00", "03:00", Some("2026-01-03T01:00:00Z")),
        ] {
            let policy = policy(window(lower, upper));
            let facts = Facts {
                policy: &policy,
                ..facts()
            };
            let opens = opens.map(|opens| opens.parse().unwrap());
            let wanted = opens.map_or(Decision::Now(told_before.clone()), Decision::Closed);
            assert_eq!(decide(&facts), wanted, "{lower}–{upper}");
        }
    }

    #[test]
    fn suspended_machine_does_not_reboot() {
        let facts = Facts {
            policy: &Reboots {
                allow: true,
                window: None,
                delay: SignedDuration::from_secs(60),
            },
            waiting: Some((7, Path::new("/new"))),
            latest: None,
            boot: None,
            suspended: Some(&Suspension {
                since: Timestamp::now(),
                until: None,
                reason: None,
            }),
            locks: &[],
            now: &Zoned::now(),
        };
        assert_eq!(decide(&facts), Decision::Suspended(None));
    }
}
