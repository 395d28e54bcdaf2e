//! What is known now, read from the disk.

use anyhow::Result;
use jiff::Timestamp;

use crate::config::Remote;
use crate::deploy::commits::Commits;
use crate::deploy::context::Context;
use crate::git::heads::{self, Heads};
use crate::model::decision::Decision;
use crate::model::facts::Facts;
use crate::model::names::Branch;
use crate::model::remote::{Head, Reach, RemoteFacts};
use crate::model::select::decide;
use crate::model::state::State;
use crate::state::fetch_record::FetchRecord;
use crate::state::requests;

/// What is known of the remotes now.
pub fn remotes(ctx: &Context) -> Result<Vec<RemoteFacts>> {
    let observe = |remote: &Remote| {
        let record = FetchRecord::read(&ctx.paths, remote)?;
        let (reach, heads) = match heads::known_heads(&ctx.paths, remote) {
            Ok(heads) => (FetchRecord::reach(record.as_ref()), heads),
            Err(error) => (Reach::Unreadable(format!("{error:#}")), Heads::default()),
        };
        let head = |branch: &Option<Branch>, commit| {
            let branch = branch.clone()?;
            Some(Head { branch, commit })
        };
        Ok(RemoteFacts {
            name: remote.name.clone(),
            reach,
            main: head(&remote.main, heads.main),
            testing: head(&remote.testing, heads.testing),
        })
    };
    ctx.config.remotes.iter().map(observe).collect()
}

/// Plain facts for a decision.
pub fn facts(ctx: &Context, remotes: Vec<RemoteFacts>, state: &State) -> Result<Facts> {
    let now = Timestamp::now();
    Ok(Facts {
        remotes,
        accepted: state.accepted(),
        signed_ancestors: ctx.config.signed_ancestors,
        tried: state.tried(),
        recent: state.recent(ctx.config.retry),
        awaited: ctx.config.awaited(state),
        quarantine: state.quarantine.clone(),
        suspended: requests::read_suspension(&ctx.paths, now)?,
        now,
    })
}

/// Decides on what is known now, without doing anything.
pub fn decide_now(ctx: &Context, state: &State, commits: &Commits) -> Result<(Facts, Decision)> {
    let facts = facts(ctx, remotes(ctx)?, state)?;
    let decision = decide(&facts, commits);
    Ok((facts, decision))
}
