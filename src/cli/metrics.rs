//! What a scrape gets: what earlier runs have recorded.

use anyhow::Result;

use super::status::standing;
use crate::deploy::{context::Context, observe::Snapshot};
use crate::model::decision::{due, Action};
use crate::model::facts::Facts;
use crate::report::metrics::Metrics;
use crate::state::{store, verdicts::VerdictCache};

/// Looks at the machine.
pub fn metrics(machine: &Context) -> Result<Metrics> {
    let state = store::read(&machine.paths)?;
    let judgement = VerdictCache::read(&machine.paths)?;
    let snapshot = Snapshot::take(machine)?;
    let given_up = match &judgement {
        Some(VerdictCache {
            selected: Some(target),
            candidates,
            remotes,
            ..
        }) => {
            let facts = Facts {
                remotes: remotes.clone(),
                ..snapshot.facts(&machine.config, &state)
            };
            matches!(
                due(target, candidates, &facts),
                Action::Quarantined(_) | Action::GivenUp
            )
        }
        Some(_) | None => false,
    };
    let names = machine.config.remotes.iter();
    let names = names.map(|remote| remote.name.clone());
    Ok(Metrics {
        hostname: machine.config.hostname.clone(),
        standing: standing(machine, &snapshot, &state)?,
        given_up,
        state,
        selected: judgement.and_then(|judgement| judgement.selected),
        remotes: names.zip(snapshot.fetches).collect(),
    })
}
