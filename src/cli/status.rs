//! What `comin status` shows.

use anyhow::Result;

use crate::deploy::{boot, commits::Commits, context::Context, observe::Snapshot, operator};
use crate::git::mirror::Mirror;
use crate::model::{select::decide, state::State, target::Target};
use crate::report::{
    host_state::Standing, remote::RemoteStatus, running::Running, status::Status, target::Chosen,
};
use crate::signature::signers::Signers;
use crate::state::verdicts::VerdictCache;
use crate::sys::fs;
use crate::system::{reboot_reasons, timers};

/// Looks at the machine.
pub fn status(machine: &Context) -> Result<Status> {
    let Context { config, paths, .. } = machine;
    let polls = timers::ask(&config.remotes, paths);
    let mirror = Mirror::open(paths);
    let state = operator::foreseen(paths, mirror.as_ref().ok())?;
    let snapshot = Snapshot::take(machine)?;
    let facts = snapshot.facts(config, &state);
    let decision = match VerdictCache::decision_for(paths, &facts, config)? {
        Some(decision) => decision,
        None => decide(&facts, &Commits::of_any(&mirror, &Signers::load(config))),
    };
    let running = fs::read_link_optional(&paths.current_system())?;
    let polls = polls.answer();
    let standing = standing(machine, &snapshot, &state)?;
    let remotes = config.remotes.iter().zip(snapshot.fetches);
    let remotes = remotes.map(|(remote, record)| {
        let poll = polls.of(&remote.name);
        RemoteStatus::of(remote, record, poll, &decision.candidates)
    });
    let remotes = remotes.collect();
    let selected = decision.selected.as_ref();
    let selected = selected.map(|target| chosen(target, &mirror));
    Ok(Status::told(
        &config.hostname,
        standing,
        running.map(|out| Running::told(&out, &state)),
        facts,
        decision,
        selected,
        remotes,
    ))
}

/// How the machine stands, apart from any decision.
pub fn standing(machine: &Context, snapshot: &Snapshot, state: &State) -> Result<Standing> {
    let Context { config, paths, .. } = machine;
    let standing = Standing::told(
        state,
        config.retry,
        snapshot.is_deploying,
        snapshot.suspension.is_some(),
        reboot_reasons::reasons(config, paths, state.last_activation()),
        boot::booted_instead(machine, state)?.as_deref(),
    );
    Ok(standing.knowing(snapshot.progress.clone()))
}

/// A target with its subject, if the mirror has its commit.
pub fn chosen(target: &Target, mirror: &Result<Mirror>) -> Chosen {
    let subject = |mirror: &Mirror| mirror.subject(&target.commit).ok();
    Chosen::told(target, mirror.as_ref().ok().and_then(subject))
}
