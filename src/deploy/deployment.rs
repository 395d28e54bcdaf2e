//! One attempt to deploy a commit: evaluate → build → activate → check → record.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;

use crate::deploy::boot;
use crate::deploy::build::{Made, Source};
use crate::deploy::cycle::{Ending, Machine};
use crate::deploy::journal_fields;
use crate::deploy::reboot;
use crate::deploy::recovery::Left;
use crate::deploy::rollback::restore_boot;
use crate::deploy::rollback_timeout;
use crate::git::Mirror;
use crate::model::attempt::{Attempt, Before, Outcome, Stage};
use crate::model::confirmation::Step;
use crate::model::names::Operation;
use crate::model::outcome::{self, Next, SwitchExit};
use crate::model::select::Target;
use crate::model::state::State;
use crate::nix;
use crate::signature::Signers;
use crate::state::requests;
use crate::state::store::Store;
use crate::sys::fs;
use crate::sys::journald;
use crate::system;
use crate::system::switch;
use crate::system::switch::Activation;
use crate::system::systemd;
use crate::system::unit_changes;

impl Machine {
    /// Tries to deploy a target, or goes on with the attempt that waited for that, and records and reports how
    /// that ends, or that it waits.
    pub fn attempt(
        &self,
        store: &mut Store,
        mirror: Mirror,
        signers: Option<&Signers>,
        target: Target,
    ) -> Result<Ending> {
        let changed_by = store.state().changed_by();
        let left = changed_by.map_or(Left::Nothing, Left::by);
        let mut attempt = self.begin(store, &mirror, target)?;
        let source = Source {
            mirror: &mirror,
            signers,
        };
        let course = self.carry_out(store, &source, &mut attempt, left);
        let outcome = match course {
            Ok(Course::Ended(outcome)) => outcome,
            Ok(Course::Waits(step)) => {
                attempt.wait_for(step, Timestamp::now());
                journal_fields::record(store, &attempt)?;
                return Ok(Ending::Done);
            }
            Err(error) => attempt.failed(error)?,
        };
        if let Outcome::Failed {
            stage: Stage::Evaluating,
            ..
        } = outcome
        {
            if let Some(damage) = mirror.damage(&attempt.target.commit) {
                log::warn!("The mirror is damaged and is made anew from the remotes: {damage}");
                mirror.discard()?;
            }
        }
        self.end(store, attempt, outcome)
    }

    /// A new attempt, or the one that has waited, with what is known of its target now.
    fn begin(&self, store: &mut Store, mirror: &Mirror, target: Target) -> Result<Attempt> {
        let boot = boot::id(&self.paths)?;
        match store.state().awaiting() {
            Some((waiting, step))
                if target.is(&waiting.target.commit, waiting.target.operation) =>
            {
                let mut attempt = Attempt {
                    target,
                    boot,
                    ..waiting.clone()
                };
                journal_fields::set(&attempt);
                if attempt.confirmed.insert(step) {
                    let name = &attempt.target;
                    log::info!("{name} is {} without a confirmation now", step.participle());
                }
                Ok(attempt)
            }
            Some(_) | None => {
                let subject = mirror.subject(&target.commit)?;
                let attempt = store.begin(target, subject, boot)?;
                journal_fields::set(&attempt);
                let (target, subject) = (&attempt.target, &attempt.subject);
                log::info!("Deploying {target} by {}: {subject}", target.operation);
                Ok(attempt)
            }
        }
    }

    /// Evaluates, builds, activates and checks; the attempt tells how far it came.
    fn carry_out(
        &self,
        store: &mut Store,
        source: &Source,
        attempt: &mut Attempt,
        left: Left,
    ) -> Result<Course> {
        let out = match self.make(store, source, attempt, &left)? {
            Made::System(out) => out,
            Made::Waits(step) => return Ok(Course::Waits(step)),
            Made::Nothing(outcome) => return Ok(Course::Ended(outcome)),
        };
        let profile = self.paths.profile(&self.config.profile);
        if self.has(attempt, &left)? {
            log::info!("{} runs already", out.display());
            let generation = system::generation(&profile)?;
            return Ok(Course::Ended(Outcome::Done { generation }));
        }
        if let Some(outcome) = self.held_back(attempt, &out)? {
            return Ok(Course::Ended(outcome));
        }
        if self.config.asks(attempt, Step::Deploy) {
            return Ok(Course::Waits(Step::Deploy));
        }
        if let Err(error) = switch::await_other_switch(&self.paths) {
            let error = format!("{error:#}");
            return Ok(Course::Ended(Outcome::Postponed { error }));
        }
        attempt.before = match left {
            Left::Unfinished(before) => *before,
            Left::Nothing | Left::Faulty => self.look_around(store.state(), &out)?,
        };
        attempt.enter(Stage::Activating, Timestamp::now());
        journal_fields::record(store, attempt)?;
        let outcome = match self.activate(attempt, &profile, out.clone()) {
            Ok(exit) => self.conclude(store, attempt, &out, exit)?,
            Err(error) => {
                take_profile_back(attempt)?;
                let error = format!("{error:#}");
                Outcome::Postponed { error }
            }
        };
        Ok(Course::Ended(outcome))
    }

    /// What keeps a system from being activated now, if something does. What keeps a switch from being
    /// one only puts it off until the next boot.
    fn held_back(&self, attempt: &mut Attempt, out: &Path) -> Result<Option<Outcome>> {
        if requests::read_suspension(&self.paths, Timestamp::now())?.is_some() {
            let stage = Stage::Building;
            return Ok(Some(Outcome::Preempted { stage }));
        }
        attempt.inhibitors = system::switch_inhibitors(&self.paths, out);
        if attempt.inhibitors.is_empty() {
            return Ok(None);
        }
        Ok(match attempt.target.operation {
            Operation::Switch => {
                let why = system::inhibited_by(&attempt.inhibitors);
                log::warn!("{} is put off until the next boot: {why}", attempt.target);
                None
            }
            Operation::Boot => None,
            Operation::Test => {
                let reason = system::untestable_by(&attempt.inhibitors);
                Some(Outcome::Skipped { reason })
            }
        })
    }

    /// Runs `switch-to-configuration`, with a way back and somebody who takes it. An error means that
    /// nothing was activated.
    fn activate(&self, attempt: &Attempt, profile: &Path, out: PathBuf) -> Result<SwitchExit> {
        let operation = attempt.operation();
        self.arm(attempt)?;
        if operation.moves_profile() {
            system::set_profile(profile, &out)?;
        }
        log::info!("Activating {}", out.display());
        if operation.activates() {
            unit_changes::remember(&self.paths, attempt.id);
        }
        Activation::of(attempt, out, operation).run(&self.paths)
    }

    /// What there is before an activation. What the very system that is activated broke when it was activated before
    /// has not failed before it.
    pub fn look_around(&self, state: &State, out: &Path) -> Result<Before> {
        let profile = self.paths.profile(&self.config.profile);
        let mut failed_units = systemd::failed_units(&self.paths)?;
        if let Some(first) = state.latest_activation_of(out) {
            failed_units.retain(|unit| first.before.failed_units.contains(unit));
        }
        let mut system = fs::read_link_optional(&self.paths.current_system())?;
        if let Some(runs) = system.as_deref().filter(|s| s.starts_with("/nix/store")) {
            // Where a rollback leads must not be collected before it is known to be needless.
            if let Err(error) = nix::keep(runs, &self.paths.gcroots().join(BEFORE)) {
                log::warn!("There is no way back to {}: {error:#}", runs.display());
                system = None;
            }
        }
        Ok(Before {
            system,
            boots: system::of_profile(&profile),
            generation: system::generation(&profile)?,
            newest: Some(system::newest_generation(&profile)?),
            profile,
            reachable: self.within_reach()?,
            failed_units,
            unit_lists: system::unit_lists(&self.paths)?,
        })
    }

    /// Lets an activation be undone after a while, unless its checks have been passed by then.
    pub fn arm(&self, attempt: &Attempt) -> Result<()> {
        match self.config.rollback.timeout {
            Some(time) if self.config.rollback.enable && attempt.operation().activates() => {
                rollback_timeout::arm(self, attempt.id, time)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The outcome of a switch that came to an end: the machine has to be well.
    pub fn conclude(
        &self,
        store: &mut Store,
        attempt: &mut Attempt,
        out: &Path,
        exit: SwitchExit,
    ) -> Result<Outcome> {
        let operation = attempt.operation();
        let is_last_try = attempt.is_last_try();
        let before = &attempt.before;
        let switched =
            system::after_switch(&self.paths, before, out, exit, operation, is_last_try)?;
        let next = outcome::of_activation(&switched, || {
            attempt.enter(Stage::Checking, Timestamp::now());
            journal_fields::record(store, attempt)?;
            let checks = self.check(attempt);
            let failed = checks.new_failures.as_deref().unwrap_or_default();
            attempt.units = unit_changes::touched(&self.paths, attempt.id, failed);
            Ok(checks)
        })?;
        let stage = Stage::Activating;
        Ok(match next {
            Next::Done => Outcome::Done {
                generation: self.generation_of(attempt),
            },
            Next::Postpone(error) => {
                take_profile_back(attempt)?;
                Outcome::Postponed { error }
            }
            Next::Skip(reason) => Outcome::Skipped { reason },
            Next::Repeat => Outcome::Interrupted { stage },
            Next::Restore(error) => {
                if attempt.operation().moves_profile() {
                    restore_boot(&self.paths, attempt.id, &attempt.before)?;
                }
                Outcome::Failed { stage, error }
            }
            Next::Keep(error) => Outcome::Failed { stage, error },
            Next::RollBack(fault) => self.roll_back(store, attempt, &fault)?,
        })
    }

    fn generation_of(&self, attempt: &Attempt) -> Option<u64> {
        let moves = attempt.operation().moves_profile();
        let profile = self.paths.profile(&self.config.profile);
        moves.then(|| system::generation(&profile).ok().flatten())?
    }

    /// Records and reports the end of an attempt, and lets go of what only older ones needed.
    pub fn end(&self, store: &mut Store, mut attempt: Attempt, outcome: Outcome) -> Result<Ending> {
        attempt.end(outcome, Timestamp::now());
        journal_fields::record(store, &attempt)?;
        rollback_timeout::disarm(&self.paths);
        let ending = self.report(&attempt);
        self.run_post_deployment_command(&attempt);
        if let Err(error) = self.tidy(store.state()) {
            // That costs space, and the next attempt tries again.
            log::warn!("Failed to remove what is no longer needed: {error:#}");
        }
        journald::clear_context();
        Ok(ending)
    }

    /// Says how an attempt ended.
    fn report(&self, attempt: &Attempt) -> Ending {
        let name = attempt.target.to_string();
        let Some((_, outcome)) = attempt.ended() else {
            return Ending::Done;
        };
        let next = attempt.again(self.config.retry).sentence();
        match outcome {
            Outcome::Done { .. } => {
                let reasons = reboot::reasons(&self.config, &self.paths, Some(attempt));
                let reboot = match &reasons[..] {
                    [] => String::new(),
                    reasons => format!("; a reboot is needed: {}", reasons.join(", ")),
                };
                log::info!("Deployed {name} by {}{reboot}", attempt.operation());
                Ending::Done
            }
            Outcome::Skipped { reason } => {
                log::warn!("Skipped {name}: {reason}");
                Ending::Done
            }
            Outcome::Preempted { stage } => {
                log::info!("Stopped {}: {name}", stage.words());
                Ending::Done
            }
            Outcome::Postponed { error } => {
                log::warn!("Could not begin to activate {name}: {error}; {next}");
                Ending::Failed
            }
            Outcome::Failed { error, .. } => {
                log::error!("Failed to deploy {name}: {error}; {next}");
                Ending::Failed
            }
            Outcome::RolledBack { error, .. } => {
                log::error!("Rolled back {name}: {error}; {next}");
                Ending::Failed
            }
            Outcome::Interrupted { stage } => {
                log::warn!(
                    "The deployment of {name} was interrupted while {}",
                    stage.words()
                );
                Ending::Failed
            }
        }
    }
}

/// Undoes the new generation of an attempt that activated nothing.
fn take_profile_back(attempt: &Attempt) -> Result<()> {
    if attempt.operation().moves_profile() {
        system::take_profile_back(&attempt.before)?;
    }
    Ok(())
}

/// The GC root of the system that ran before the latest activation.
pub const BEFORE: &str = "before";

/// How far an attempt came.
enum Course {
    /// To its end.
    Ended(Outcome),
    /// To a step that somebody has to confirm.
    Waits(Step),
}
