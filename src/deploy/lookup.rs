//! The system that CI has built of a commit is looked for: in the notes of the remotes that have the commit, then at an
//! address.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail, Context as _, Result};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::Agent;

use crate::deploy::context::Context;
use crate::git::mirror::Mirror;
use crate::model::{
    prebuilt, Action, Decision, Delay, Facts, Lookup, Prebuilt, RemoteFacts, Target,
};

/// How many bytes of an answer are read.
const LARGEST: u64 = 64 * 1024;
/// How long a server may take for its answer.
const REQUEST: Duration = Duration::from_secs(30);

/// Looks for the system of what was selected, if it would be deployed now or waits for its system, and decides again.
pub fn look(ctx: &Context, mirror: &Mirror, facts: &mut Facts, decision: Decision) -> Decision {
    let (Some(prebuilt), Some(target)) = (&ctx.config.prebuilt, &decision.selected) else {
        return decision;
    };
    let is_due = matches!(
        decision.action,
        Action::Deploy | Action::Retry(_, _) | Action::AwaitPrebuilt(_)
    );
    if !is_due {
        return decision;
    }
    let (system, problem) = match find(ctx, mirror, prebuilt, target, &facts.remotes) {
        Ok(system) => (system, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let before = facts.prebuilt.as_ref();
    let before = before.filter(|before| before.commit == target.commit);
    let since = before.map_or(facts.now, |before| before.since);
    facts.prebuilt = Some(Lookup {
        commit: target.commit.clone(),
        since,
        patience: prebuilt
            .patience
            .map(|patience| Delay::new(since, patience)),
        system,
        problem,
    });
    Decision::new(decision.selected, decision.candidates, facts)
}

/// The system of a target, if CI names one.
fn find(
    ctx: &Context,
    mirror: &Mirror,
    prebuilt: &Prebuilt,
    target: &Target,
    remotes: &[RemoteFacts],
) -> Result<Option<PathBuf>> {
    let hostname = &ctx.config.hostname;
    // CI pushes to one remote, and another one may come first in the configuration.
    let is_own = |it: &&RemoteFacts| it.name == target.remote;
    let mut remotes: Vec<_> = remotes
        .iter()
        .filter(|it| is_own(it) || it.has(target))
        .collect();
    remotes.sort_by_key(|it| !is_own(it));
    let read_note = |remote: &RemoteFacts, notes| {
        let Some(note) = mirror.note(&remote.name, notes, &target.commit)? else {
            return Ok(None);
        };
        let system = prebuilt::in_note(&note, hostname);
        system.map_err(|it| anyhow!("the note of the commit cannot be used: {it}"))
    };
    let notes = prebuilt.notes.iter();
    let from_notes = notes.flat_map(|notes| remotes.iter().map(move |it| read_note(it, notes)));
    let from_url = prebuilt.url.iter().map(|template| {
        let address = prebuilt::address(template, hostname, target);
        ask(&address).with_context(|| format!("the answer of {address} cannot be used"))
    });
    let mut problem = None;
    for system in from_notes.chain(from_url) {
        match system {
            Ok(None) => {}
            Ok(system) => return Ok(system),
            // Somebody else may know better.
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    problem.map_or(Ok(None), Err)
}

/// Asks a server for a system.
fn ask(address: &str) -> Result<Option<PathBuf>> {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    let agent: Agent = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(address.starts_with("https://"))
        .timeout_global(Some(REQUEST))
        .user_agent(concat!("comin/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let request = agent.get(address);
    let answer = match request
        .header("Accept", "application/json, text/plain")
        .call()
    {
        Ok(answer) => answer,
        Err(ureq::Error::StatusCode(404)) => return Ok(None),
        Err(error) => bail!("{error}"),
    };
    let text = answer
        .into_body()
        .into_with_config()
        .limit(LARGEST)
        .read_to_vec()?;
    prebuilt::in_answer(&text)
        .map(Some)
        .map_err(anyhow::Error::msg)
}
