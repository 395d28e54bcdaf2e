//! What a scrape gets: what earlier runs have recorded.

use anyhow::Result;
use jiff::Timestamp;

use super::status::view;
use crate::deploy::{context::Context, observe::Snapshot};
use crate::git::mirror::Mirror;
use crate::model::Decision;
use crate::report::metrics::Metrics;
use crate::state::{decision_cache::DecisionCache, store};
use crate::sys::fs;
use crate::system::timers;

/// Looks at the machine; a process that is confined must not ask systemd.
pub fn metrics(machine: &Context, is_confined: bool) -> Result<Metrics> {
    let Context { config, paths, .. } = machine;
    let asked = (!is_confined).then(|| timers::ask(&config.remotes, paths));
    let state = store::read(paths)?;
    let cached = DecisionCache::read(paths)?;
    let snapshot = Snapshot::take(machine)?;
    let facts = snapshot.facts(config, &state);
    let is_decided = cached.as_ref().is_some_and(|it| it.holds(&facts, config));
    let (selected, candidates) = cached.map_or((None, Vec::new()), |cached| {
        (cached.selected, cached.candidates)
    });
    let decision = Decision::new(selected, candidates, &facts);
    let mirror = Mirror::open(paths);
    let names = config.remotes.iter();
    let names = names.map(|remote| remote.name.clone());
    let remotes = names.zip(snapshot.fetches.clone()).collect();
    let timers = match asked {
        Some(asked) => asked.answer(),
        None => timers::recorded(paths)?,
    };
    let status = view(machine, &state, snapshot, facts, &mirror, decision, &timers)?;
    let committed_at = |mirror: &Mirror| mirror.committed_at(status.host.running_commit()?).ok();
    Ok(Metrics {
        committed_at: mirror.as_ref().ok().and_then(committed_at),
        decided_at: fs::modified_optional(&paths.judgement())?
            .and_then(|time| Timestamp::try_from(time).ok()),
        status,
        is_decided,
        state,
        remotes,
    })
}
