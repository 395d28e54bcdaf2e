//! What a scrape gets: what earlier runs have recorded.

use anyhow::Result;

use super::status::standing;
use crate::deploy::{context::Context, observe::Snapshot};
use crate::model::decision::{due, Action};
use crate::report::metrics::Metrics;
use crate::state::{store, verdicts::VerdictCache};

/// Looks at the machine.
pub fn metrics(machine: &Context) -> Result<Metrics> {
    let state = store::read(&machine.paths)?;
    let judgement = VerdictCache::read(&machine.paths)?;
    let snapshot = Snapshot::take(machine)?;
    let is_given_up = |cache: &VerdictCache| {
        let mut facts = snapshot.facts(&machine.config, &state);
        facts.remotes.clone_from(&cache.remotes);
        let selected = cache.selected.as_ref();
        let action = selected.map(|target| due(target, &cache.candidates, &facts));
        matches!(action, Some(Action::Quarantined(_) | Action::GivenUp))
    };
    let names = machine.config.remotes.iter();
    let names = names.map(|remote| remote.name.clone());
    Ok(Metrics {
        hostname: machine.config.hostname.clone(),
        standing: standing(machine, &snapshot, &state)?,
        given_up: judgement.as_ref().is_some_and(is_given_up),
        state,
        selected: judgement.and_then(|judgement| judgement.selected),
        remotes: names.zip(snapshot.fetches).collect(),
    })
}
