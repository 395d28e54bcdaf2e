//! What a scrape gets: what earlier runs have recorded.

use anyhow::Result;

use super::status::standing;
use crate::deploy::context::Context;
use crate::deploy::observe;
use crate::model::decision::{due, Action};
use crate::report::metrics::Metrics;
use crate::state::fetch_record::FetchRecord;
use crate::state::store;
use crate::state::verdicts::VerdictCache;

/// Looks at the machine.
pub fn metrics(machine: &Context) -> Result<Metrics> {
    let state = store::read(&machine.paths)?;
    let judgement = VerdictCache::read(&machine.paths)?;
    let remotes = machine.config.remotes.iter().map(|remote| {
        let record = FetchRecord::read(&machine.paths, remote)?;
        Ok((remote.name.clone(), record))
    });
    let given_up = match &judgement {
        Some(VerdictCache {
            selected: Some(target),
            candidates,
            remotes,
            ..
        }) => {
            let facts = observe::facts(machine, remotes.clone(), &state)?;
            matches!(
                due(target, candidates, &facts),
                Action::Quarantined(_) | Action::GivenUp
            )
        }
        Some(_) | None => false,
    };
    Ok(Metrics {
        hostname: machine.config.hostname.clone(),
        standing: standing(machine, &state)?,
        given_up,
        state,
        selected: judgement.and_then(|judgement| judgement.selected),
        remotes: remotes.collect::<Result<_>>()?,
    })
}
