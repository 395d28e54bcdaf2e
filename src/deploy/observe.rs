//! What is known now, read from the disk.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use jiff::Timestamp;

use crate::config::{paths::Paths, Config, Remote};
use crate::deploy::{commits::Commits, context::Context};
use crate::git::heads::{self, Heads};
use crate::git::mirror::Mirror;
use crate::model::drift::{Since, Systems};
use crate::model::{
    select::decide, Attempt, Before, Branch, ClosedGate, Decision, Drift, Facts, Head, Healing,
    Lookup, Reach, RemoteFacts, State, Suspension,
};
use crate::state::deploy_record::{self, DeployRecord};
use crate::state::{fetch_record::FetchRecord, gate_record::GateRecord, requests};
use crate::sys::{fs, progress::JobProgress};
use crate::system;

/// What is known now: each file read once, at one time.
pub struct Snapshot {
    /// The time.
    pub now: Timestamp,
    /// In the order of the configuration.
    pub remotes: Vec<RemoteFacts>,
    /// How the latest fetch of each remote ended.
    pub fetches: Vec<Option<FetchRecord>>,
    /// Whether the operator wants nothing deployed.
    pub suspension: Option<Suspension>,
    /// What the latest deploy found of the system that CI builds.
    pub prebuilt: Option<Lookup>,
    /// The gates that were closed.
    gates: Vec<GateRecord>,
    /// Whether a deploy is at work.
    pub is_deploying: bool,
    /// What the latest deploy has recorded.
    decided: Option<DeployRecord>,
    /// How far its evaluation or build is.
    pub progress: Option<JobProgress>,
}

impl Snapshot {
    /// Looks at everything.
    pub fn take(ctx: &Context) -> Result<Self> {
        let Context { config, paths, .. } = ctx;
        let now = Timestamp::now();
        let fetches = config.remotes.iter();
        let fetches = fetches.map(|remote| FetchRecord::read(paths, remote));
        let fetches: Vec<_> = fetches.collect();
        let remotes = config.remotes.iter().zip(&fetches);
        let gates = Before::ALL.map(|before| GateRecord::read(paths, before));
        let gates = gates.into_iter().filter_map(Result::transpose);
        let decided = DeployRecord::read(paths)?;
        let is_deploying = decided.as_ref().is_some_and(DeployRecord::is_running);
        // One that was killed has left its own.
        let progress = is_deploying.then(|| deploy_record::progress(paths));
        Ok(Self {
            now,
            remotes: remotes
                .map(|(remote, record)| facts_of(remote, record.as_ref(), paths))
                .collect(),
            fetches,
            suspension: requests::read_suspension(paths, now)?,
            gates: gates.collect::<Result<_>>()?,
            is_deploying,
            prebuilt: decided.as_ref().and_then(|it| it.prebuilt.clone()),
            decided,
            progress: progress.transpose()?.flatten(),
        })
    }

    /// When a drift was first seen: now if no deploy has seen it.
    pub fn drift_seen(&self, drift: &Drift) -> Timestamp {
        let decided = self.decided.as_ref();
        let seen = decided.and_then(|decided| decided.drift_seen(drift));
        seen.unwrap_or(self.now)
    }

    /// The gate at which an attempt waits.
    fn closed_gate(&self, config: &Config, state: &State) -> Option<ClosedGate> {
        let (attempt, step) = state.awaiting()?;
        self.closed(config, state, attempt, step.into())
    }

    /// The gate at which the reboot waits that completes the latest activation, if one is needed.
    pub fn reboot_gate(&self, config: &Config, state: &State) -> Option<ClosedGate> {
        self.closed(config, state, state.last_activation()?, Before::Reboot)
    }

    /// The gate that is closed to a healing.
    pub fn healing_gate(
        &self,
        config: &Config,
        state: &State,
        healing: &Healing,
    ) -> Option<ClosedGate> {
        match healing {
            Healing::At(_, attempt, _) => self.closed(config, state, attempt, Before::Deploy),
            Healing::Not(_) => None,
        }
    }

    /// Whether something waits at a gate.
    pub fn is_at_gate(&self, config: &Config, state: &State) -> bool {
        let gate = self.closed_gate(config, state);
        gate.or_else(|| self.reboot_gate(config, state)).is_some()
    }

    fn closed(
        &self,
        config: &Config,
        state: &State,
        attempt: &Attempt,
        before: Before,
    ) -> Option<ClosedGate> {
        let is_passed = state.is_let_past_gates(&attempt.target.commit);
        let closed = |record: &GateRecord| record.closed(config, attempt, before);
        self.gates.iter().find_map(closed).filter(|_| !is_passed)
    }

    /// Plain facts for a decision.
    pub fn facts(&self, config: &Config, state: &State) -> Facts {
        Facts {
            remotes: self.remotes.clone(),
            accepted: state.accepted(),
            signed_ancestors: config.signed_ancestors,
            tried: state.tried(),
            recent: state.since_last_activation(config.retry),
            awaited: config.awaited(state),
            gate: self.closed_gate(config, state),
            quarantine: state.quarantine.clone(),
            prebuilt: self.prebuilt.clone().filter(|_| config.prebuilt.is_some()),
            suspended: self.suspension.clone(),
            now: self.now,
        }
    }
}

/// That the machine runs, booted or boots something else than comin last activated.
pub fn drift(ctx: &Context, state: &State) -> Result<Option<Drift>> {
    Ok(Drift::of(state, &systems(ctx)?))
}

/// What the machine runs, booted and boots next.
pub fn systems(ctx: &Context) -> Result<Systems> {
    let link = |path: &Path, system: Option<PathBuf>| -> Result<Option<Since>> {
        let Some(system) = system else {
            return Ok(None);
        };
        let since = fs::link_modified(path)?;
        Ok(Some(Since { system, since }))
    };
    let [running, booted] = [ctx.paths.current_system(), ctx.paths.booted_system()]
        .map(|path| link(&path, fs::read_link_optional(&path)?));
    let profile = ctx.profile();
    Ok(Systems {
        running: running?,
        booted: booted?,
        boots_next: link(&profile, system::of_profile(&profile))?,
        boot: boot_id(&ctx.paths)?,
    })
}

/// Whether the latest attempt was skipped because only a reboot lets its system be tested, and nothing is in the way of
/// that since the machine has booted.
pub fn can_test_again(ctx: &Context, state: &State) -> Result<bool> {
    let skipped = state.latest_ended().filter(|it| it.is_untestable());
    let Some((skipped, out)) = skipped.and_then(|it| Some((it, it.out.as_ref()?))) else {
        return Ok(false);
    };
    let has_booted = boot_id(&ctx.paths)? != skipped.boot;
    Ok(has_booted && system::switch_inhibitors(&ctx.paths, out).is_empty())
}

/// The kernel's name for this boot, `None` where it has none.
pub fn boot_id(paths: &Paths) -> Result<Option<String>> {
    let id = fs::read_optional(&paths.boot_id())?;
    Ok(id.map(|id| String::from_utf8_lossy(&id).trim().to_string()))
}

/// What is known of the remotes now.
pub fn remotes(ctx: &Context) -> Vec<RemoteFacts> {
    let observe = |remote: &Remote| {
        let record = FetchRecord::read(&ctx.paths, remote);
        facts_of(remote, record.as_ref(), &ctx.paths)
    };
    ctx.config.remotes.iter().map(observe).collect()
}

fn facts_of(remote: &Remote, record: Option<&FetchRecord>, paths: &Paths) -> RemoteFacts {
    let (reach, heads) = match heads::known_heads(paths, remote) {
        Ok(heads) => (FetchRecord::reachability(record), heads),
        Err(error) => (Reach::Unreadable(format!("{error:#}")), Heads::default()),
    };
    let head = |branch: &Option<Branch>, commit| {
        let branch = branch.clone()?;
        Some(Head { branch, commit })
    };
    RemoteFacts {
        name: remote.name.clone(),
        reach,
        main: head(&remote.main, heads.main),
        testing: head(&remote.testing, heads.testing),
        notes: heads.notes,
    }
}

/// Decides on what is known now, without doing anything.
pub fn decide_now(
    ctx: &Context,
    state: &State,
    mirror: Result<&Mirror, &Error>,
) -> Result<(Facts, Decision)> {
    let facts = Snapshot::take(ctx)?.facts(&ctx.config, state);
    let decision = decide(&facts, &Commits::of(ctx, mirror));
    Ok((facts, decision))
}
