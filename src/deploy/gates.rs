//! The gates of the owner's: asked before a stage, waited at, and passed by order.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Result};
use jiff::Timestamp;

use crate::config::paths::Paths;
use crate::deploy::{context::Context, observe, order::order_deploy, post_deployment};
use crate::git::mirror::Mirror;
use crate::model::{
    gate::first_closed, store_path, Attempt, Before, ClosedGate, Gate, GateAnswer, Outcome,
    Quarantine, State, Target,
};
use crate::state::gate_record::GateRecord;
use crate::state::requests::PastGates;
use crate::state::store::{self, Store};
use crate::sys::{command, fs, json};

/// The gate that is closed to an attempt before a stage, if one is. It is asked at most once a minute.
pub fn closed(
    ctx: &Context,
    state: &State,
    attempt: &Attempt,
    before: Before,
) -> Result<Option<ClosedGate>> {
    if state.is_let_past_gates(&attempt.target.commit) {
        return Ok(None);
    }
    let Context { config, paths, .. } = ctx;
    let now = ctx.local_time();
    let recorded = GateRecord::read(paths, before)?
        .and_then(|record| record.closed(config, attempt, before))
        .filter(|closed| closed.is_closed_at(now.timestamp()));
    if recorded.is_some() {
        return Ok(recorded);
    }
    let free = || fs::free_bytes(Path::new(store_path::STORE));
    let ask = |gate: &Gate| ask(ctx, attempt, gate);
    let testing = attempt.target.testing;
    let closed = first_closed(&config.gates, before, testing, &now, free, ask)?;
    match &closed {
        Some(closed) => GateRecord::write(config, paths, attempt, before, closed.clone())?,
        None => GateRecord::forget(paths, before)?,
    }
    Ok(closed)
}

fn ask(ctx: &Context, attempt: &Attempt, gate: &Gate) -> GateAnswer {
    let mut shell = Command::new("/bin/sh");
    // What it prints last is the reason, wherever it prints that.
    let script = format!("exec >&2\n{}", gate.command);
    shell.args(["-c", &script]);
    shell.envs(post_deployment::environment(ctx, attempt));
    let what = format!("the gate {}", gate.name);
    match command::ask(&mut shell, &what, Stdio::null(), gate.timeout) {
        Ok(answer) => {
            let last = answer.stderr_lines().next_back().unwrap_or_default();
            GateAnswer::of(Some(answer.code), last)
        }
        Err(error) => GateAnswer::of(None, &format!("{error:#}")),
    }
}

/// The outcome of an attempt whose commit a gate has refused: it is held.
pub fn hold(
    ctx: &Context,
    store: &mut Store,
    target: &Target,
    closed: &ClosedGate,
) -> Result<Outcome> {
    let (reason, remotes) = (closed.to_string(), observe::remotes(ctx));
    let held = Quarantine::of(target, &remotes, reason.clone(), Timestamp::now());
    store.quarantine(held.by_gate())?;
    Ok(Outcome::Skipped { reason })
}

/// Orders that the selected commit pass every gate, and asks for a deploy.
///
/// # Errors
/// There are no gates; another commit is selected than the expected one, or none; the order cannot be written.
pub fn order_past(ctx: &Context, expected: Option<&str>) -> Result<()> {
    ensure!(
        !ctx.config.gates.are_none(),
        "There are no gates to pass: the configuration names none"
    );
    let mirror = Mirror::open(&ctx.paths)?;
    let state = store::read(&ctx.paths)?;
    let (_, decision) = observe::decide_now(ctx, &state, Ok(&mirror))?;
    let Some(target) = decision.selected else {
        bail!("No branch qualifies, so there is no commit to let through; comin plan says why");
    };
    if let Some(commit) = expected {
        ensure!(
            target.commit.is_meant_by(commit),
            "{target} is selected, not {commit:?}; comin status shows its id"
        );
    }
    let commit = target.commit.clone();
    json::write_durably(&ctx.paths.past_gates(), &PastGates { commit })?;
    order_deploy(ctx, &format!("{target} passes every gate"));
    Ok(())
}

/// Takes up the order to let a commit pass. The state has it before the order is gone.
pub fn apply_order(paths: &Paths, store: &mut Store) -> Result<()> {
    if let Some(PastGates { commit }) = PastGates::read(paths)? {
        log::warn!("{commit} passes every gate, as requested");
        store.change(|state| state.let_past_gates(commit))?;
        fs::remove_optional(&paths.past_gates())?;
    }
    Ok(())
}
