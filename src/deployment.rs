//! One attempt to deploy a commit: evaluate → build → activate → record.

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::activation::Ended;
use crate::cycle::{Ending, Machine};
use crate::fs;
use crate::git::{self, Mirror};
use crate::nix;
use crate::select::Target;
use crate::state::{Attempt, Outcome, Progress, Stage, State, Store};
use crate::system;

impl Machine {
    /// Tries to deploy a target, and records and reports how that ends.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn attempt(&self, store: &mut Store, mirror: Mirror, target: Target) -> Result<Ending> {
        let subject = mirror.subject(&target.commit)?;
        let half_switched = store.state().latest().is_some_and(left_half_switched);
        log::info!("Deploying {target} by {}: {subject}", target.operation);
        let mut attempt = store.begin(target, subject)?;
        let outcome = self.carry_out(store, &mirror, &mut attempt, half_switched);
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

    /// Evaluates, builds and activates; the attempt tells how far it came.
    fn carry_out(
        &self,
        store: &mut Store,
        mirror: &Mirror,
        attempt: &mut Attempt,
        half_switched: bool,
    ) -> Result<Outcome> {
        let Self { config, paths } = self;
        let target = attempt.target.clone();

        mirror.keep_target(&target.commit)?;
        let evaluation = nix::evaluate(config, paths, git::TARGET, &target)?;
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
        nix::build(&evaluation.derivation, &root, config.build_timeout)?;
        system::check(&evaluation.out)?;

        let profile = paths.profile(&config.profile);
        if !half_switched && system::has(config, paths, &evaluation.out, target.operation)? {
            log::info!("{} is already there", evaluation.out.display());
            let generation = system::generation(&profile)?;
            return Ok(Outcome::Done { generation });
        }

        attempt.enter(Stage::Activating);
        attempt.generation_before = system::generation(&profile)?;
        store.record(attempt)?;
        mirror.keep_accepted(&target.main)?;
        if target.operation.moves_profile() {
            system::set_profile(config, paths, &evaluation.out)?;
        }
        log::info!("Activating {}", evaluation.out.display());
        match attempt.activation(evaluation.out).run(paths) {
            Ok(ended) => self.conclude(attempt, &ended),
            Err(error) => {
                self.take_profile_back(attempt)?;
                Err(error)
            }
        }
    }

    /// The outcome of an activation that came to an end.
    fn conclude(&self, attempt: &Attempt, ended: &Ended) -> Result<Outcome> {
        if ended.died() {
            let stage = Stage::Activating;
            return Ok(Outcome::Interrupted { stage });
        }
        if ended.before_activation() {
            self.take_profile_back(attempt)?;
        }
        ended.check()?;
        let generation = if attempt.target.operation.moves_profile() {
            system::generation(&self.paths.profile(&self.config.profile))?
        } else {
            None
        };
        Ok(Outcome::Done { generation })
    }

    /// Undoes the new generation of an attempt that activated nothing.
    fn take_profile_back(&self, attempt: &Attempt) -> Result<()> {
        let profile = self.paths.profile(&self.config.profile);
        match attempt.generation_before {
            Some(generation) if attempt.target.operation.moves_profile() => {
                nix::switch_generation(&profile, generation)
                    .context("Failed to take the profile back")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Records and reports the end of an attempt, and lets go of what only older ones needed.
    fn end(&self, store: &mut Store, mut attempt: Attempt, outcome: Outcome) -> Result<Ending> {
        attempt.progress = Progress::Ended(Timestamp::now(), outcome);
        store.record(&attempt)?;
        let name = attempt.target.to_string();
        let ending = match attempt.ended() {
            None | Some((_, Outcome::Done { .. })) => {
                log::info!("Deployed {name} by {}", attempt.target.operation);
                Ending::Done
            }
            Some((_, Outcome::Skipped { reason })) => {
                log::warn!("Skipped {name}: {reason}");
                Ending::Done
            }
            Some((_, Outcome::Failed { error, .. })) => {
                let next = match attempt.retry_at() {
                    Some(at) => format!("; tried again at {at:.0}"),
                    None => "; not tried again before another commit comes".to_string(),
                };
                log::error!("Failed to deploy {name}: {error}{next}");
                Ending::Failed
            }
            Some((_, Outcome::Interrupted { stage })) => {
                log::warn!(
                    "The deployment of {name} was interrupted while {}",
                    stage.name()
                );
                Ending::Failed
            }
        };
        self.release_roots(store.state())?;
        Ok(ending)
    }

    /// Settles an attempt whose comin died: the switch may have gone on without it.
    ///
    /// # Errors
    /// The state cannot be written, or the result of the switch cannot be read.
    pub fn settle_interrupted(&self, store: &mut Store) -> Result<()> {
        let Some(attempt) = store.state().latest().cloned() else {
            return Ok(());
        };
        let Progress::Running(stage) = attempt.progress else {
            return Ok(());
        };
        let out = attempt.out.clone().filter(|_| stage == Stage::Activating);
        let ended = match out {
            Some(out) => attempt.activation(out).outcome(&self.paths)?,
            None => None,
        };
        let outcome = match ended {
            Some(ended) => self
                .conclude(&attempt, &ended)
                .unwrap_or_else(|error| attempt.failed(&error)),
            None => Outcome::Interrupted { stage },
        };
        self.end(store, attempt, outcome).map(|_| ())
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
            format!("services.comin.machineId is {wanted:?}, and this machine's id is {own:?}")
        }))
    }

    /// Removes the GC roots of attempts other than the latest and the latest deployed one. Only
    /// names that an attempt of the state has are touched.
    fn release_roots(&self, state: &State) -> Result<()> {
        let deployed = |a: &&Attempt| matches!(a.ended(), Some((_, Outcome::Done { .. })));
        let deployed = state.attempts.iter().rfind(deployed);
        let needed = [state.latest(), deployed];
        for attempt in &state.attempts {
            if !needed.contains(&Some(attempt)) {
                fs::remove_optional(&self.paths.gcroots().join(attempt.root()))?;
            }
        }
        Ok(())
    }
}

/// Whether an attempt may have left a switch half done.
fn left_half_switched(attempt: &Attempt) -> bool {
    match attempt.ended() {
        None | Some((_, Outcome::Done { .. } | Outcome::Skipped { .. })) => false,
        Some((_, Outcome::Failed { stage, .. } | Outcome::Interrupted { stage })) => {
            *stage == Stage::Activating
        }
    }
}
