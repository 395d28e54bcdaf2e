//! One attempt to deploy a commit: evaluate → build → activate → check → record.

use std::os::fd::AsFd;

use anyhow::Result;
use jiff::Timestamp;

use crate::activation::Ended;
use crate::boot;
use crate::config::Operation;
use crate::cycle::{Ending, Machine};
use crate::dead_man;
use crate::decided::Requests;
use crate::fs;
use crate::git::{self, Mirror};
use crate::health::{self, Fault};
use crate::history::Commits;
use crate::journal::shortened;
use crate::nix;
use crate::process::Interrupt;
use crate::reboot;
use crate::select::{decide, Target};
use crate::signature::Signers;
use crate::state::{Attempt, Before, Outcome, Progress, Stage, State, Store};
use crate::suspension::Suspension;
use crate::system;
use crate::systemd;

impl Machine {
    /// Tries to deploy a target, and records and reports how that ends.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn attempt(
        &self,
        store: &mut Store,
        mirror: Mirror,
        signers: Option<&Signers>,
        target: Target,
    ) -> Result<Ending> {
        let subject = mirror.subject(&target.commit)?;
        let changed_by = store.state().changed_by();
        let left = changed_by.map_or(Left::Nothing, Left::by);
        log::info!("Deploying {target} by {}: {subject}", target.operation);
        let mut attempt = store.begin(target, subject, boot::id(&self.paths)?)?;
        let outcome = self.carry_out(store, &mirror, signers, &mut attempt, left);
        let outcome = outcome.unwrap_or_else(|error| attempt.failed(&error));
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

    /// Evaluates, builds, activates and checks; the attempt tells how far it came.
    fn carry_out(
        &self,
        store: &mut Store,
        mirror: &Mirror,
        signers: Option<&Signers>,
        attempt: &mut Attempt,
        left: Left,
    ) -> Result<Outcome> {
        let Self { config, paths } = self;
        let target = attempt.target.clone();
        let requests = Requests::watch(paths)?;
        let state = store.state().clone();
        let superseded = || self.is_superseded(&requests, mirror, signers, &state, &target);
        let interrupt = Interrupt {
            signal: requests.as_fd(),
            ends: &superseded,
        };
        let preempted = |stage| Ok(Outcome::Preempted { stage });

        mirror.keep_target(&target.commit)?;
        let evaluation = nix::evaluate(config, paths, git::TARGET, &target, &interrupt)?;
        let Some(evaluation) = evaluation else {
            return preempted(Stage::Evaluating);
        };
        if let Some(reason) = self.of_another_machine(evaluation.machine_id.as_deref())? {
            return Ok(Outcome::Skipped { reason });
        }
        attempt.derivation = Some(evaluation.derivation.clone());
        attempt.out = Some(evaluation.out.clone());

        attempt.enter(Stage::Building);
        store.record(attempt)?;
        log::info!("Building {}", evaluation.out.display());
        let root = paths.gcroots().join(attempt.root());
        std::fs::create_dir_all(paths.gcroots())?;
        let timeout = config.build_timeout;
        if !nix::build(&evaluation.derivation, &root, timeout, Some(&interrupt))? {
            return preempted(Stage::Building);
        }
        system::check(&evaluation.out)?;

        let profile = paths.profile(&config.profile);
        if left == Left::Nothing && system::has(&profile, paths, &evaluation.out, target.operation)?
        {
            log::info!("{} is already there", evaluation.out.display());
            let generation = system::generation(&profile)?;
            return Ok(Outcome::Done { generation });
        }

        attempt.inhibitors = system::switch_inhibitors(paths, &evaluation.out);
        if !attempt.inhibitors.is_empty() {
            let why = system::inhibited_by(&attempt.inhibitors);
            match target.operation {
                Operation::Switch => log::warn!("{target} is put off until the next boot: {why}"),
                Operation::Boot => {}
                Operation::Test => {
                    let reason = format!("{why}, so it cannot be tested while this system runs");
                    return Ok(Outcome::Skipped { reason });
                }
            }
        }
        if Suspension::read(paths, Timestamp::now())?.is_some() {
            return preempted(Stage::Building);
        }
        let operation = attempt.operation();
        attempt.before = match left {
            Left::Unfinished(before) => *before,
            Left::Nothing | Left::Faulty => self.look_around()?,
        };
        attempt.enter(Stage::Activating);
        store.record(attempt)?;
        let activate = || {
            mirror.keep_accepted(&target.main)?;
            self.arm(attempt)?;
            if operation.moves_profile() {
                system::set_profile(&profile, &evaluation.out)?;
            }
            log::info!("Activating {}", evaluation.out.display());
            attempt.activation(evaluation.out, operation).run(paths)
        };
        match activate() {
            Ok(ended) => self.conclude(store, attempt, &ended),
            Err(error) => {
                take_profile_back(attempt)?;
                let error = format!("{error:#}");
                Ok(Outcome::Postponed { error })
            }
        }
    }

    /// Whether what has been fetched meanwhile makes a deployment of this target pointless.
    fn is_superseded(
        &self,
        requests: &Requests,
        mirror: &Mirror,
        signers: Option<&Signers>,
        state: &State,
        target: &Target,
    ) -> Result<bool> {
        if !requests.take(&self.paths)? {
            return Ok(false);
        }
        let remotes = self.observe()?;
        let facts = self.facts(remotes.clone(), state)?;
        let decision = decide(&facts, &Commits::of(mirror, signers));
        self.announce(remotes, &decision)?;
        Ok(facts.suspended.is_some() || decision.supersedes(target, &facts))
    }

    /// What there is before an activation.
    ///
    /// # Errors
    /// A link or a record cannot be read.
    pub fn look_around(&self) -> Result<Before> {
        let profile = self.paths.profile(&self.config.profile);
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
            reachable: self.servers_within_reach()?,
            failed_units: systemd::failed_units(&self.paths)?,
        })
    }

    /// Lets an activation be undone after a while, unless its checks have been passed by then.
    ///
    /// # Errors
    /// systemd cannot be asked for it.
    pub fn arm(&self, attempt: &Attempt) -> Result<()> {
        match self.config.rollback.timeout {
            Some(time) if self.config.rollback.enable && attempt.operation().activates() => {
                dead_man::arm(&self.paths, attempt.id, time)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The outcome of an activation that came to an end: the machine has to be well.
    fn conclude(&self, store: &mut Store, attempt: &mut Attempt, ended: &Ended) -> Result<Outcome> {
        if ended.before_activation() {
            take_profile_back(attempt)?;
            return Ok(Outcome::Failed {
                stage: Stage::Activating,
                error: ended.error(None).unwrap_or_default(),
            });
        }
        if ended.died() && !attempt.is_last_try() {
            let stage = Stage::Activating;
            return Ok(Outcome::Interrupted { stage });
        }
        attempt.enter(Stage::Checking);
        store.record(attempt)?;
        let is_known = systemd::is_here(&self.paths);
        let new_failures = match health::new_failures(&self.paths, &attempt.before.failed_units) {
            Ok(units) => units,
            // A machine that cannot be looked at is not well.
            Err(error) => {
                let fault = Fault::of_machine(format!("{error:#}"));
                return self.roll_back(store, attempt, &fault);
            }
        };
        let error = ended.error(is_known.then_some(&new_failures[..]));
        let fault = match &error {
            Some(error) if ended.died() => Some(Fault::of_machine(error.clone())),
            Some(_) | None if attempt.operation().activates() => {
                self.check_health(attempt, &new_failures)
            }
            Some(_) | None => None,
        };
        if let Some(fault) = fault {
            return self.roll_back(store, attempt, &fault);
        }
        Ok(match error {
            None => Outcome::Done {
                generation: self.generation_of(attempt),
            },
            Some(error) => Outcome::Failed {
                stage: Stage::Activating,
                error,
            },
        })
    }

    fn generation_of(&self, attempt: &Attempt) -> Option<u64> {
        let moves = attempt.operation().moves_profile();
        let profile = self.paths.profile(&self.config.profile);
        moves.then(|| system::generation(&profile).ok().flatten())?
    }

    /// Records and reports the end of an attempt, and lets go of what only older ones needed.
    pub fn end(&self, store: &mut Store, mut attempt: Attempt, outcome: Outcome) -> Result<Ending> {
        attempt.end(outcome);
        store.record(&attempt)?;
        dead_man::disarm(&self.paths);
        let ending = self.report(&attempt);
        self.run_post_deployment_command(&attempt);
        if let Err(error) = self.tidy(store.state()) {
            // That costs space, and the next attempt tries again.
            log::warn!("Failed to remove what is no longer needed: {error:#}");
        }
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
                let reasons = reboot::reasons(&self.config, &self.paths);
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
                log::info!("Stopped {} {name}", stage.words());
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

    /// Settles an attempt whose comin died: the switch may have gone on without it, or the machine
    /// may have booted since.
    ///
    /// # Errors
    /// The state cannot be written, or the result of the switch cannot be read.
    pub fn settle_interrupted(&self, store: &mut Store) -> Result<Ending> {
        let Some(mut attempt) = store.state().latest().cloned() else {
            return Ok(Ending::Done);
        };
        let Progress::Running(stage) = attempt.progress else {
            return Ok(Ending::Done);
        };
        let outcome = self.settle(store, &mut attempt, stage);
        let outcome = outcome.unwrap_or_else(|error| attempt.failed(&error));
        self.end(store, attempt, outcome)
    }

    fn settle(&self, store: &mut Store, attempt: &mut Attempt, stage: Stage) -> Result<Outcome> {
        let operation = attempt.operation();
        let Some(out) = attempt.out.clone().filter(|_| stage.changes_the_machine()) else {
            return Ok(Outcome::Interrupted { stage });
        };
        if let Some(fault) = attempt.fault.clone() {
            return self.roll_back(store, attempt, &Fault::of_machine(fault));
        }
        let profile = &attempt.before.profile;
        // That the profile has it does not tell that the boot loader does.
        let booted = fs::read_link_optional(&self.paths.booted_system())?;
        let is_up = operation.activates() || booted.as_ref() == Some(&out);
        let is_there = is_up && system::has(profile, &self.paths, &out, operation)?;
        let ended = match attempt.activation(out, operation).outcome(&self.paths)? {
            // The machine has booted with it since: whatever came before, it is there now.
            None if is_there && attempt.boot != boot::id(&self.paths)? => Some(Ended::Status(0)),
            ended => ended,
        };
        match ended {
            Some(ended) => {
                self.arm(attempt)?;
                self.conclude(store, attempt, &ended)
            }
            // Not tried again, so it must not stay half done.
            None if attempt.is_last_try() => {
                let error = format!("it was interrupted while {} too often", stage.words());
                self.roll_back(store, attempt, &Fault::of_machine(error))
            }
            None => Ok(Outcome::Interrupted { stage }),
        }
    }

    /// The reason, if an evaluation is meant for another machine.
    fn of_another_machine(&self, wanted: Option<&str>) -> Result<Option<String>> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let own = fs::read_optional(&self.paths.machine_id())?.unwrap_or_default();
        let own = String::from_utf8_lossy(&own);
        let own = own.trim();
        Ok((own != wanted).then(|| {
            let wanted = shortened(wanted, MACHINE_ID);
            format!("services.comin.machineId is {wanted:?}, and this machine's id is {own:?}")
        }))
    }
}

/// Undoes the new generation of an attempt that activated nothing.
fn take_profile_back(attempt: &Attempt) -> Result<()> {
    if attempt.operation().moves_profile() {
        system::take_profile_back(&attempt.before)?;
    }
    Ok(())
}

/// The length of a machine's id.
const MACHINE_ID: usize = 32;

/// The GC root of the system that ran before the latest activation.
pub const BEFORE: &str = "before";

/// What the latest attempt that changed the machine has left of it.
#[derive(PartialEq, Eq)]
enum Left {
    /// A system that is whole.
    Nothing,
    /// A system whose activation failed.
    Faulty,
    /// A switch or a way back half done, and what had been found: that is what there was before.
    Unfinished(Box<Before>),
}

impl Left {
    fn by(attempt: &Attempt) -> Self {
        let unfinished = || Self::Unfinished(Box::new(attempt.before.clone()));
        match attempt.ended() {
            Some((_, Outcome::Interrupted { stage })) if stage.changes_the_machine() => {
                unfinished()
            }
            Some((
                _,
                Outcome::Failed {
                    stage: Stage::RollingBack,
                    ..
                },
            )) => unfinished(),
            Some((_, Outcome::Failed { stage, .. })) if stage.changes_the_machine() => Self::Faulty,
            None
            | Some((
                _,
                Outcome::Done { .. }
                | Outcome::Failed { .. }
                | Outcome::Interrupted { .. }
                | Outcome::Postponed { .. }
                | Outcome::Preempted { .. }
                | Outcome::RolledBack { .. }
                | Outcome::Skipped { .. },
            )) => Self::Nothing,
        }
    }
}
