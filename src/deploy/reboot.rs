//! Reboots: whether the machine needs one, and whether, when and for what it does one by itself.
//!
//! A reboot is announced, waits, and is decided on once more before it is ordered. A shutdown that is
//! scheduled with logind would not do: it heeds no lock that was taken meanwhile, and it can hit an
//! activation.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use log::Level;
use serde::Deserialize;

use crate::deploy::{context::Context, gates, observe};
use crate::model::{
    reboot::decide, Before, Delay, Reboot, RebootDecision, RebootFacts, RebootStage, Suspension,
};
use crate::state::{deploy_record::DeployRecord, gate_record::GateRecord, store::Store};
use crate::sys::{command, text::printable};
use crate::system::{reboot_reasons::reasons, switch, systemd};

/// The pause before comin looks at a shutdown lock again.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What is to be done about a reboot when nothing else is left to do.
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

/// Decides on a reboot, announces one, and says what it waits for.
pub fn plan_reboot(
    ctx: &Context,
    store: &mut Store,
    suspended: Option<&Suspension>,
    record: &mut DeployRecord,
) -> Result<NextStep> {
    let attempt = store.state().last_activation().cloned();
    let reasons = reasons(&ctx.config, &ctx.paths, attempt.as_ref());
    let why = printable(&reasons.join(", ")).into_owned();
    let systems = observe::systems(ctx)?;
    let needing = attempt.as_ref().filter(|_| !reasons.is_empty());
    let waiting = needing.and_then(|attempt| {
        let system = systems.awaiting_reboot(store.state(), attempt)?;
        Some((attempt.id, system.to_path_buf()))
    });
    let locks = match &waiting {
        Some(_) if ctx.config.reboot.allow => shutdown_blockers(ctx),
        Some(_) | None => Vec::new(),
    };
    let now = ctx.local_time();
    let latest = store.state().reboot.clone();
    let decision = decide(&RebootFacts {
        policy: &ctx.config.reboot,
        waiting: waiting.as_ref().map(|(id, system)| (*id, system.as_path())),
        latest: latest.as_ref(),
        boot: systems.boot.as_deref(),
        suspended,
        locks: &locks,
        now: &now,
    });
    let is_hindered = !matches!(
        decision,
        RebootDecision::Announce(_, _) | RebootDecision::Now(_)
    );
    let closed = if let Some(attempt) = attempt.as_ref().filter(|_| !is_hindered) {
        gates::closed(ctx, store.state(), attempt, Before::Reboot)?
    } else {
        // No gate is what the reboot waits for.
        GateRecord::forget(&ctx.paths, Before::Reboot)?;
        None
    };
    let decision = closed.map_or(decision, RebootDecision::AtGate);
    let id = attempt.as_ref().map(|attempt| attempt.id);
    let is_over = |latest: &Reboot| decision.ends(latest, !reasons.is_empty(), id);
    if latest.as_ref().is_some_and(is_over) {
        store.change(|state| state.reboot = None)?;
    }
    Ok(match decision {
        RebootDecision::No | RebootDecision::Ordered => NextStep::None,
        RebootDecision::Ineffective => {
            let notice = format!("The machine still needs a reboot after the reboot for this deployment: {why}; comin does not reboot again");
            record.log_once(Level::Warn, notice);
            NextStep::None
        }
        RebootDecision::Suspended(wait) => wait.map_or(NextStep::None, NextStep::Later),
        RebootDecision::Closed(opens) => {
            let notice = format!("A reboot is needed: {why}; it waits until {opens:.0}");
            record.log_once(Level::Info, notice);
            NextStep::Later(Delay::until(now.timestamp(), opens))
        }
        RebootDecision::Locked => {
            let locks = locks.join(", ");
            let notice = format!("A reboot is needed: {why}; it waits for {locks}");
            record.log_once(Level::Info, notice);
            NextStep::Later(Delay::new(now.timestamp(), PAUSE))
        }
        RebootDecision::AtGate(closed) => {
            let notice = format!("A reboot is needed: {why}; {closed}");
            let subject = format!("reboot at the gate {}", closed.gate);
            record.log_once_about(subject, Level::Info, &notice);
            closed.again.map_or(NextStep::None, NextStep::Later)
        }
        RebootDecision::Announce(id, system) => {
            let reboot = Reboot {
                attempt: id,
                system,
                boot: systems.boot,
                announced_at: now.timestamp(),
                stage: RebootStage::Announced,
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
        RebootDecision::Announced(wait) => NextStep::Later(wait),
        RebootDecision::Now(reboot) => NextStep::Due(reboot),
    })
}

/// Orders a reboot. The reboot is recorded first: if the machine still needs one afterwards, comin does not reboot it again
/// by itself.
pub fn reboot(ctx: &Context, store: &mut Store, reboot: Reboot) -> Result<()> {
    log::info!("Rebooting");
    let stage = RebootStage::Ordered;
    store.change(|state| state.reboot = Some(Reboot { stage, ..reboot }))?;
    if !systemd::is_here(&ctx.paths) {
        log::warn!("There is no systemd that could reboot the machine");
        return Ok(());
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("reboot");
    let Err(error) = command::run(&mut systemctl, "systemctl reboot", Some(command::PATIENCE))
    else {
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
    if let Err(error) = command::ask(wall.arg(text), "wall", Stdio::null(), command::PATIENCE) {
        log::debug!("{error:#}");
    }
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
    let answer = command::query(&mut busctl, "busctl", command::PATIENCE)?;
    let answer: Answer =
        serde_json::from_slice(&answer).context("busctl answered something unexpected")?;
    let (inhibitors,) = answer.data;
    let forbids = |(what, _, _, mode, _, _): &Inhibitor| {
        matches!(mode.as_str(), "block" | "block-weak") && what.split(':').any(|w| w == "shutdown")
    };
    let words = |(_, who, why, _, _, _): Inhibitor| format!("a lock of {who} ({why})");
    Ok(inhibitors.into_iter().filter(forbids).map(words).collect())
}
