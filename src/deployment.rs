//! One attempt to deploy a commit: evaluate → build → activate → check → record.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;

use crate::activation::Ended;
use crate::boot;
use crate::config::Operation;
use crate::cycle::{Ending, Machine};
use crate::dead_man;
use crate::decided::Requests;
use crate::fields;
use crate::fs;
use crate::git::{self, Mirror};
use crate::health::{self, Fault};
use crate::history::Commits;
use crate::journal::shortened;
use crate::leftover::Left;
use crate::nix;
use crate::process::Interrupt;
use crate::reboot;
use crate::select::Target;
use crate::signature::Signers;
use crate::state::{Attempt, Before, Outcome, Stage, State, Store};
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
        let mut attempt = store.begin(target, subject, boot::id(&self.paths)?)?;
        let target = &attempt.target;
        let (operation, subject) = (target.operation, &attempt.subject);
        log::info!("Deploying {target} by {operation}: {subject}");
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
        let out = match self.make(store, mirror, signers, attempt)? {
            Made::System(out) => out,
            Made::Nothing(outcome) => return Ok(outcome),
        };
        let profile = self.paths.profile(&self.config.profile);
        let operation = attempt.target.operation;
        if left == Left::Nothing && system::has(&profile, &self.paths, &out, operation)? {
            log::info!("{} runs already", out.display());
            let generation = system::generation(&profile)?;
            return Ok(Outcome::Done { generation });
        }
        if let Some(outcome) = self.held_back(attempt, &out)? {
            return Ok(outcome);
        }
        attempt.before = match left {
            Left::Unfinished(before) => *before,
            Left::Nothing | Left::Faulty => self.look_around()?,
        };
        attempt.enter(Stage::Activating);
        store.record(attempt)?;
        match self.activate(mirror, attempt, &profile, out) {
            Ok(ended) => self.conclude(store, attempt, &ended),
            Err(error) => {
                take_profile_back(attempt)?;
                let error = format!("{error:#}");
                Ok(Outcome::Postponed { error })
            }
        }
    }

    /// Evaluates and builds, as long as nothing else is to be deployed.
    fn make(
        &self,
        store: &mut Store,
        mirror: &Mirror,
        signers: Option<&Signers>,
        attempt: &mut Attempt,
    ) -> Result<Made> {
        let Self { config, paths, .. } = self;
        let target = attempt.target.clone();
        let requests = Requests::watch(paths)?;
        let state = store.state().clone();
        let superseded = || self.is_superseded(&requests, mirror, signers, &state, &target);
        let interrupt = Interrupt {
            signal: requests.as_fd(),
            ends: &superseded,
        };
        let preempted = |stage| Ok(Made::Nothing(Outcome::Preempted { stage }));

        // A request may have come before they were watched.
        if superseded()? {
            return preempted(Stage::Evaluating);
        }
        mirror.keep_target(&target.commit)?;
        let evaluation = nix::evaluate(config, paths, git::TARGET, &target, &interrupt)?;
        let Some(evaluation) = evaluation else {
            return preempted(Stage::Evaluating);
        };
        if let Some(reason) = self.of_another_machine(evaluation.machine_id.as_deref())? {
            return Ok(Made::Nothing(Outcome::Skipped { reason }));
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
        Ok(Made::System(evaluation.out))
    }

    /// What keeps a system from being activated now, if something does. What keeps a switch from being
    /// one only puts it off until the next boot.
    fn held_back(&self, attempt: &mut Attempt, out: &Path) -> Result<Option<Outcome>> {
        if Suspension::read(&self.paths, Timestamp::now())?.is_some() {
            let stage = Stage::Building;
            return Ok(Some(Outcome::Preempted { stage }));
        }
        attempt.inhibitors = system::switch_inhibitors(&self.paths, out);
        if attempt.inhibitors.is_empty() {
            return Ok(None);
        }
        let why = system::inhibited_by(&attempt.inhibitors);
        Ok(match attempt.target.operation {
            Operation::Switch => {
                log::warn!("{} is put off until the next boot: {why}", attempt.target);
                None
            }
            Operation::Boot => None,
            Operation::Test => {
                let reason = format!("{why}, so it cannot be tested while this system runs");
                Some(Outcome::Skipped { reason })
            }
        })
    }

    /// Runs `switch-to-configuration`, with a way back and somebody who takes it. An error means that
    /// nothing was activated.
    fn activate(
        &self,
        mirror: &Mirror,
        attempt: &Attempt,
        profile: &Path,
        out: PathBuf,
    ) -> Result<Ended> {
        let operation = attempt.operation();
        mirror.keep_accepted(&attempt.target.main)?;
        self.arm(attempt)?;
        if operation.moves_profile() {
            system::set_profile(profile, &out)?;
        }
        log::info!("Activating {}", out.display());
        attempt.activation(out, operation).run(&self.paths)
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
        let (facts, decision) = self.consider(state, &Commits::of(mirror, signers))?;
        self.announce(&facts, &decision)?;
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
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn conclude(
        &self,
        store: &mut Store,
        attempt: &mut Attempt,
        ended: &Ended,
    ) -> Result<Outcome> {
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
        fields::are_none();
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

/// What evaluation and build came to.
enum Made {
    /// A system.
    System(PathBuf),
    /// Nothing, and that is the end of it.
    Nothing(Outcome),
}
