//! The way back: the system that ran before an activation runs again, and boots again.

use anyhow::{bail, ensure, Context, Result};

use crate::activation::Activation;
use crate::config::Operation;
use crate::cycle::{Ending, Machine};
use crate::fetched::Fetched;
use crate::health::Fault;
use crate::paths::Paths;
use crate::quarantine::Quarantine;
use crate::select::RemoteFacts;
use crate::state::{Attempt, Before, Blame, Outcome, Stage, Store};
use crate::system;

impl Machine {
    /// Rolls an activation back where the owner wants that, and finds out whose fault it was.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn roll_back(
        &self,
        store: &mut Store,
        attempt: &mut Attempt,
        fault: &Fault,
    ) -> Result<Outcome> {
        let error = &fault.error;
        if !self.config.rollback.enable {
            let (stage, error) = (Stage::Checking, error.clone());
            return Ok(Outcome::Failed { stage, error });
        }
        log::warn!("Rolling back {}: {error}", attempt.target);
        let remotes = self.observe()?;
        go_back(&self.paths, store, attempt, error, &remotes, || {
            self.blame(fault)
        })
    }

    /// Goes back to a generation of the profile, by default the one before the current one, and keeps
    /// what was deployed last from coming back by itself.
    ///
    /// # Errors
    /// There is no such generation, or it does not run afterwards.
    pub fn roll_back_by_hand(&self, to: Option<u64>) -> Result<Ending> {
        let mut store = Store::open(&self.paths)?;
        self.settle_interrupted(&mut store)?;
        let profile = self.paths.profile(&self.config.profile);
        let current = system::generation(&profile)?
            .with_context(|| format!("{} has no generation to go back from", profile.display()))?;
        let generations = system::generations(&profile)?;
        let before = || generations.iter().rfind(|g| **g < current).copied();
        let to = to
            .or_else(before)
            .context("there is no generation before this one")?;
        ensure!(
            generations.contains(&to),
            "{} has no generation {to}: it has {generations:?}",
            profile.display()
        );
        let system = std::fs::canonicalize(system::generation_link(&profile, to))?;
        system::check(&system)?;
        if let Some(latest) = store.state().latest() {
            let remotes = self.observe()?;
            let reason = format!("rolled back to generation {to} by hand");
            store.quarantine(Quarantine::of(&latest.target.clone(), &remotes, reason))?;
        }
        let before = Before {
            generation: Some(to),
            profile,
            ..Before::default()
        };
        system::take_profile_back(&before)?;
        let inhibitors = system::switch_inhibitors(&self.paths, &system);
        let operation = if inhibitors.is_empty() {
            Operation::Switch
        } else {
            log::warn!(
                "Generation {to} is put off until the next boot: {}",
                system::inhibited_by(&inhibitors)
            );
            Operation::Boot
        };
        log::info!("Activating generation {to}, {}", system.display());
        let activation = Activation {
            attempt: 0,
            toplevel: system.clone(),
            operation,
        };
        let ended = activation.run(&self.paths)?;
        if let Some(error) = ended.error(None) {
            bail!("{error}");
        }
        log::info!(
            "Rolled back to generation {to}; comin stays there until a head moves, or comin retry"
        );
        Ok(Ending::Done)
    }

    /// A server that cannot be reached from the system before either is not the commit's fault.
    fn blame(&self, fault: &Fault) -> Result<Blame> {
        let servers = &fault.out_of_reach;
        if servers.is_empty() || self.can_reach_one_of(servers) {
            return Ok(Blame::Commit);
        }
        // Recorded here, or the fetches of before would let it be tried again at once.
        for name in servers {
            let remote = self.config.remote(name.as_str())?;
            let before = Fetched::read(&self.paths, remote)?;
            let error = Some("it cannot be reached".to_string());
            Fetched::now(remote, before.as_ref(), error).write(&self.paths, remote)?;
        }
        Ok(Blame::Outage(servers.clone()))
    }
}

/// Rolls an activation back. Needs no configuration: the system that it made may have none.
///
/// # Errors
/// The state cannot be written, or it cannot be found out whom to blame.
pub fn go_back(
    paths: &Paths,
    store: &mut Store,
    attempt: &mut Attempt,
    error: &str,
    remotes: &[RemoteFacts],
    blame: impl FnOnce() -> Result<Blame>,
) -> Result<Outcome> {
    attempt.fault = Some(error.to_string());
    attempt.enter(Stage::RollingBack);
    if let Err(error) = store.record(attempt) {
        // What is to be undone may be what has filled the disk.
        log::warn!("{error:#}");
    }
    let undone = undo(paths, attempt);
    let blame = match &undone {
        Ok(()) => blame()?,
        Err(_) => Blame::Commit,
    };
    if blame == Blame::Commit {
        store.quarantine(Quarantine::of(&attempt.target, remotes, error.to_string()))?;
    }
    Ok(match undone {
        Ok(()) => Outcome::RolledBack {
            error: error.to_string(),
            blame,
        },
        Err(failure) => Outcome::Failed {
            stage: Stage::RollingBack,
            error: format!("{error}; and the rollback failed: {failure:#}"),
        },
    })
}

/// Brings back what an activation found: the generation of the profile, what boots, what runs.
fn undo(paths: &Paths, attempt: &Attempt) -> Result<()> {
    let before = &attempt.before;
    let runs = before
        .system
        .clone()
        .context("it is not known what ran before")?;
    if attempt.operation().moves_profile() {
        system::take_profile_back(before)?;
    }
    let boots = system::of_profile(&before.profile).unwrap_or_else(|| runs.clone());
    let steps = match attempt.operation() {
        Operation::Switch if boots == runs => vec![(runs.clone(), Operation::Switch)],
        // What ran was only tested.
        Operation::Switch => vec![(boots, Operation::Boot), (runs.clone(), Operation::Test)],
        Operation::Boot => vec![(boots, Operation::Boot)],
        Operation::Test => vec![(runs.clone(), Operation::Test)],
    };
    for (system, operation) in steps {
        log::info!("Activating {} again by {operation}", system.display());
        let activation = attempt.activation(system, operation);
        // A comin that died may have got this far already.
        let ended = match activation.outcome(paths)? {
            Some(ended) => ended,
            None => activation.run(paths)?,
        };
        if let Some(error) = ended.error(None) {
            log::warn!("{error}");
        }
    }
    ensure!(
        system::has(&before.profile, paths, &runs, Operation::Test)?,
        "{} does not run",
        runs.display()
    );
    Ok(())
}
