//! The way back: the system that ran before an activation runs again, and boots again.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::config::paths::Paths;
use crate::deploy::commits::Commits;
use crate::deploy::cycle::{Ending, Machine};
use crate::deploy::health;
use crate::deploy::journal_fields;
use crate::git::Mirror;
use crate::model::attempt::{Attempt, Before, Blame, Outcome, Stage};
use crate::model::names::Operation;
use crate::model::outcome::{self, Checks, Fault, Next};
use crate::model::quarantine::Quarantine;
use crate::model::select::RemoteFacts;
use crate::signature::Signers;
use crate::state::fetch_record::Fetched;
use crate::state::store::Store;
use crate::sys::fs::{self, Lock};
use crate::system;
use crate::system::switch::{self, Activation};
use jiff::Timestamp;

impl Machine {
    /// Rolls an activation back where the owner wants that, and finds out whose fault it was.
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
        // The way back has its own time.
        if let Err(error) = self.arm(attempt) {
            log::warn!("{error:#}");
        }
        let remotes = self.observe()?;
        let is_last_try = attempt.is_last_try();
        go_back(&self.paths, store, attempt, error, &remotes, || {
            self.blame(fault, is_last_try)
        })
    }

    /// Goes back to a generation of the profile, and keeps what was deployed last, and what would be
    /// deployed now, from coming back by itself. By default it is the generation before the current one;
    /// where something else runs, such as a test, the current one.
    pub fn roll_back_by_hand(
        &self,
        to: Option<u64>,
        signers: &Result<Option<Signers>>,
    ) -> Result<Ending> {
        let mut store = Store::open(&self.paths)?;
        self.settle_interrupted(&mut store)?;
        let profile = self.paths.profile(&self.config.profile);
        let (to, system) = self.generation_to_go_back_to(&profile, to)?;
        system::check(&system)?;
        let held = self.held(&store, to, signers)?;

        switch::await_other_switch(&self.paths)?;
        let found = self.look_around(store.state(), &system)?;
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
        // Recorded first: whatever becomes of the switch, no poll undoes what the operator wants.
        let state = store.state().clone();
        store.go_back(held)?;
        log::info!("Activating generation {to}, {}", system.display());
        match self.switch_by_hand(&found, to, &system, operation) {
            Ok(Next::Done) => {}
            Ok(Next::Restore(error) | Next::Skip(error)) => {
                restore_boot(&self.paths, 0, &found)?;
                store.restore(state)?;
                bail!("{error}");
            }
            Ok(Next::Postpone(error)) => {
                system::take_profile_back(&found)?;
                store.restore(state)?;
                bail!("{error}");
            }
            Err(error) => {
                system::take_profile_back(&found)?;
                store.restore(state)?;
                return Err(error);
            }
            Ok(Next::Keep(error)) => {
                bail!("Rolled back to generation {to}, and comin stays there, but {error}")
            }
            Ok(Next::RollBack(Fault { error, .. })) => {
                bail!("The rollback to generation {to} is unfinished: {error}; try it again")
            }
            Ok(Next::Repeat) => {
                bail!("The rollback to generation {to} was interrupted: try it again")
            }
        }
        if let Some((waiting, _)) = store.state().awaiting() {
            let waiting = waiting.clone();
            self.stop_waiting(&mut store, waiting)?;
        }
        let when = if operation.activates() {
            ""
        } else {
            " for the next boot"
        };
        log::info!(
            "Rolled back to generation {to}{when}; comin stays there until a head moves, or comin retry"
        );
        Ok(Ending::Done)
    }

    /// Activates a generation of the profile.
    fn switch_by_hand(
        &self,
        found: &Before,
        to: u64,
        system: &Path,
        operation: Operation,
    ) -> Result<Next> {
        let wanted = Before {
            generation: Some(to),
            ..found.clone()
        };
        system::take_profile_back(&wanted)?;
        let activation = Activation {
            attempt: 0,
            toplevel: system.to_path_buf(),
            operation,
        };
        let exit = activation.run(&self.paths)?;
        let switched = system::after_switch(&self.paths, found, system, exit, operation, true)?;
        outcome::of_activation(&switched, || {
            Ok(Checks {
                new_failures: health::new_failures(&self.paths, &found.failed_units)?,
                fault: None,
            })
        })
    }

    fn generation_to_go_back_to(&self, profile: &Path, to: Option<u64>) -> Result<(u64, PathBuf)> {
        let current = system::generation(profile)?
            .with_context(|| format!("{} has no generation to go back from", profile.display()))?;
        let generations = system::generations(profile)?;
        let is_current = system::of_profile(profile) == self.running()?;
        let is_candidate = |g: &&u64| **g < current || (**g == current && !is_current);
        let to = to
            .or_else(|| generations.iter().rfind(is_candidate).copied())
            .context("there is no generation before this one")?;
        let there_are = || {
            let numbers: Vec<_> = generations.iter().map(u64::to_string).collect();
            numbers.join(", ")
        };
        ensure!(
            generations.contains(&to),
            "{} has no generation {to}: it has {}",
            profile.display(),
            there_are()
        );
        let link = system::generation_link(profile, to);
        let system = std::fs::canonicalize(&link)
            .with_context(|| format!("{} leads nowhere", link.display()))?;
        Ok((to, system))
    }

    fn running(&self) -> Result<Option<PathBuf>> {
        fs::read_link_optional(&self.paths.current_system())
    }

    /// What must not come back after a rollback by hand.
    fn held(
        &self,
        store: &Store,
        to: u64,
        signers: &Result<Option<Signers>>,
    ) -> Result<Vec<Quarantine>> {
        let mirror = Mirror::open(&self.paths);
        let commits = Commits::of_any(&mirror, signers);
        let (facts, decision) = self.consider(store.state(), &commits)?;
        let latest = store.state().latest().map(|latest| latest.target.clone());
        let reason = format!("rolled back to generation {to} by hand");
        let targets = decision.selected.into_iter().chain(latest);
        Ok(targets
            .map(|target| Quarantine::of(&target, &facts.remotes, reason.clone(), Timestamp::now()))
            .collect())
    }

    /// A remote that cannot be reached from the system before either is not the commit's fault, unless
    /// that is so each time: what a commit breaks may outlast it.
    fn blame(&self, fault: &Fault, is_last_try: bool) -> Result<Blame> {
        let remotes = &fault.unreachable;
        if remotes.is_empty() || is_last_try || self.can_reach_one_of(remotes) {
            return Ok(Blame::Commit);
        }
        // Recorded here, or the fetches of before would let it be tried again at once.
        for name in remotes {
            let remote = self.config.remote(name.as_str())?;
            let _alone = Lock::wait(&self.paths.remote_lock(&remote.name))?;
            let before = Fetched::read(&self.paths, remote)?;
            let error = Some("it cannot be reached".to_string());
            Fetched::now(remote, before.as_ref(), error).write(&self.paths, remote)?;
        }
        Ok(Blame::Outage(remotes.clone()))
    }
}

/// Rolls an activation back. Needs no configuration: the system that it made may have none.
pub fn go_back(
    paths: &Paths,
    store: &mut Store,
    attempt: &mut Attempt,
    error: &str,
    remotes: &[RemoteFacts],
    blame: impl FnOnce() -> Result<Blame>,
) -> Result<Outcome> {
    attempt.fault = Some(error.to_string());
    attempt.enter(Stage::RollingBack, Timestamp::now());
    if let Err(error) = journal_fields::record(store, attempt) {
        // What is to be undone may be what has filled the disk.
        log::warn!("{error:#}");
    }
    switch::await_other_switch(paths)?;
    let undone = undo(paths, attempt);
    let blame = match &undone {
        Ok(()) => blame()?,
        Err(_) => Blame::Commit,
    };
    if blame == Blame::Commit {
        store.quarantine(Quarantine::of(
            &attempt.target,
            remotes,
            error.to_string(),
            Timestamp::now(),
        ))?;
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
    let boots = before.boots.clone().unwrap_or_else(|| runs.clone());
    if attempt.operation().moves_profile() {
        take_profile_back(before, &boots);
    }
    let steps = match attempt.operation() {
        Operation::Switch if boots == runs => vec![(runs.clone(), Operation::Switch)],
        // What ran was only tested.
        Operation::Switch => vec![(boots, Operation::Boot), (runs.clone(), Operation::Test)],
        Operation::Boot => vec![(boots, Operation::Boot)],
        Operation::Test => vec![(runs.clone(), Operation::Test)],
    };
    for (system, operation) in steps {
        log::info!("Activating {} again by {operation}", system.display());
        let activation = Activation::of(attempt, system, operation);
        // A comin that died may have got this far already.
        let ended = match activation.outcome(paths)? {
            Some(ended) => ended,
            None => activation.run(paths)?,
        };
        if !ended.is_success() {
            log::warn!("{}", ended.describe());
        }
    }
    ensure!(
        system::has(&before.profile, paths, &runs, Operation::Test)?,
        "{} does not run",
        runs.display()
    );
    Ok(())
}

/// Lets the profile and the boot menu agree with what runs, after a switch that activated nothing: a switch runs the
/// boot loader first.
pub fn restore_boot(paths: &Paths, attempt: u64, before: &Before) -> Result<()> {
    system::take_profile_back(before)?;
    let boots = system::of_profile(&before.profile);
    let Some(boots) = boots.filter(|boots| before.boots.as_ref() == Some(boots)) else {
        return Ok(());
    };
    let activation = Activation {
        attempt,
        toplevel: boots,
        operation: Operation::Boot,
    };
    let exit = activation.run(paths)?;
    if !exit.is_success() {
        log::warn!(
            "The boot menu may still name a system that was not activated: {}",
            exit.describe()
        );
    }
    Ok(())
}

/// Whatever becomes of the profile, what ran has to run again: so nothing of this is an error.
fn take_profile_back(before: &Before, boots: &Path) {
    if let Err(error) = system::take_profile_back(before) {
        log::warn!("{error:#}");
    }
    // There was no generation before, or it has been removed since.
    if system::of_profile(&before.profile).as_deref() != Some(boots) {
        if let Err(error) = system::set_profile(&before.profile, boots) {
            log::warn!("{error:#}");
        }
    }
}
