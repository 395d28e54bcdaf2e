//! What `comin status` shows.

use std::path::Path;

use anyhow::Result;

use crate::deploy::observe::{self, Snapshot};
use crate::deploy::{boot_check, commits::Commits, context::Context, healing, operator};
use crate::git::mirror::Mirror;
use crate::model::{select::decide, Action, Decision, Drift, Facts, State, Target};
use crate::nix::evaluator;
use crate::report::{
    host_state::{HealingView, HostState, Seen},
    remote::RemoteStatus,
    status::Status,
    target::TargetView,
};
use crate::state::decision_cache::DecisionCache;
use crate::system::reboot_reasons;
use crate::system::timers::{self, Timers};

/// Looks at the machine.
pub fn status(machine: &Context) -> Result<Status> {
    let Context { config, paths, .. } = machine;
    let polls = timers::ask(&config.remotes, paths);
    let mirror = Mirror::open(paths);
    let state = operator::foreseen(paths, mirror.as_ref().ok())?;
    let snapshot = Snapshot::take(machine)?;
    let facts = snapshot.facts(config, &state);
    let known = DecisionCache::decision_for(paths, &facts, config)?;
    let commits = Commits::of(machine, mirror.as_ref());
    let decision = known.unwrap_or_else(|| decide(&facts, &commits));
    let timers = polls.answer();
    view(machine, &state, snapshot, facts, &mirror, decision, &timers)
}

/// What is shown of a machine for which this was decided.
pub fn view(
    machine: &Context,
    state: &State,
    snapshot: Snapshot,
    facts: Facts,
    mirror: &Result<Mirror>,
    decision: Decision,
    timers: &Timers,
) -> Result<Status> {
    let Context { config, .. } = machine;
    let host = host(machine, &snapshot, state, &facts, &decision.action)?;
    let remotes = config.remotes.iter().zip(snapshot.fetches);
    let remotes = remotes.map(|(remote, record)| {
        let schedule = timers.of(&remote.name);
        RemoteStatus::of(remote, record, schedule, &decision.candidates, facts.now)
    });
    let remotes = remotes.collect();
    let selected = decision.selected.as_ref();
    let selected = selected.map(|target| chosen(target, mirror));
    Ok(Status::new(
        &config.hostname,
        host,
        facts,
        decision,
        selected,
        remotes,
        timers.inactive_units(),
    ))
}

/// How the machine stands, apart from any decision.
pub fn host(
    machine: &Context,
    snapshot: &Snapshot,
    state: &State,
    facts: &Facts,
    action: &Action,
) -> Result<HostState> {
    let Context { config, paths, .. } = machine;
    // The attempt that changes the machine, or else the one that did so last.
    let latest = state.latest();
    let latest = latest.filter(|it| it.ended().is_none() && it.changed_the_machine());
    let systems = observe::systems(machine)?;
    let drift = Drift::of(state, &systems);
    let healing = drift.as_ref().and_then(|drift| {
        let seen = snapshot.drift_seen(drift);
        healing::of(machine, state, drift, seen, false, facts, action)
    });
    let healing = healing.map(|it| HealingView::of(&it, snapshot.healing_gate(config, state, &it)));
    let seen = Seen {
        at_work: snapshot.is_deploying,
        suspended: snapshot.suspension.is_some(),
        runs: systems.running.as_ref().map(|it| it.system.clone()),
        reboot_reasons: reboot_reasons::reasons(config, paths, latest.or(state.last_activation())),
        booted_instead: systems.booted_instead(state).map(Path::to_path_buf),
        drift,
        healing,
        reboot_gate: snapshot.reboot_gate(config, state).map(|it| it.to_string()),
        clock_doubt: state.clock_doubt(facts.now),
        can_test_again: observe::can_test_again(machine, state)?,
        boot_check_due: boot_check::is_due(machine, state)?,
        evaluator: machine.evaluator()?.map(|_| evaluator::USER),
        progress: snapshot.progress.clone(),
    };
    Ok(HostState::new(state, config.retry, seen))
}

/// A target with its subject, if the mirror has its commit.
pub fn chosen(target: &Target, mirror: &Result<Mirror>) -> TargetView {
    let subject = |mirror: &Mirror| mirror.subject(&target.commit).ok();
    TargetView::new(target, mirror.as_ref().ok().and_then(subject))
}
