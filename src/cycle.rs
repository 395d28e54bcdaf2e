//! The cycle: fetch, then observe → decide → evaluate → build → activate → record.

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::activation::Ended;
use crate::config::{Config, Remote, Url};
use crate::decided::{self, Decided};
use crate::fetched::Fetched;
use crate::fs::{self, Lock};
use crate::git::{self, Heads, Mirror};
use crate::journal;
use crate::nix;
use crate::paths::Paths;
use crate::select::{
    decide, Action, Candidate, Decision, Facts, Head, Refusal, RemoteFacts, Target, Verdict,
};
use crate::state::{Attempt, Outcome, Progress, Stage, State, Store};
use crate::system;

/// A machine: its configuration and where its files are.
#[derive(Debug)]
pub struct Machine {
    /// What it follows.
    pub config: Config,
    /// Where everything lies.
    pub paths: Paths,
}

/// How a command ended whose failures have been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Done, or there was nothing to do.
    Done,
    /// Something failed, and has been said.
    Failed,
}

impl Machine {
    /// Fetches, then deploys: both halves in one process.
    ///
    /// # Errors
    /// As [`Machine::deploy`].
    pub fn run(&self, remotes: &[&Remote]) -> Result<Ending> {
        let fetched = self.fetch_all(remotes)?;
        let deployed = self.deploy()?;
        Ok(match (fetched, deployed) {
            (Ending::Done, Ending::Done) => Ending::Done,
            (Ending::Failed, _) | (_, Ending::Failed) => Ending::Failed,
        })
    }

    /// Fetches, and asks for a deploy if there is something to decide.
    ///
    /// # Errors
    /// The files in `/run` or the mirror cannot be written.
    pub fn fetch(&self, remotes: &[&Remote]) -> Result<Ending> {
        let ending = self.fetch_all(remotes)?;
        let decided = Decided::read(&self.paths)?;
        let seen = self.observe()?;
        if decided.is_none_or(|decided| decided.is_stale(&seen, Timestamp::now())) {
            decided::request(&self.paths)?;
        }
        Ok(ending)
    }

    /// Deploys until there is nothing left to do: a deployment moves the accepted main, and with it
    /// what comes next.
    ///
    /// # Errors
    /// The state cannot be read or written. A deployment that fails is no error: it is recorded.
    pub fn deploy(&self) -> Result<Ending> {
        let mut store = Store::open(&self.paths)?;
        self.settle_interrupted(&mut store)?;
        let mut ending = Ending::Done;
        loop {
            let remotes = self.observe()?;
            let mirror = Mirror::ready(&self.paths, &self.config.remotes)?;
            reconcile_accepted(&mut store, &mirror)?;
            let decision = decide(&facts(remotes.clone(), store.state()), |base, head| {
                mirror.relation(base, head)
            });
            let decided = self.announce(remotes, &decision)?;
            match (decision.action, decision.selected) {
                (Action::Deploy, Some(target)) => {
                    ending = self.attempt(&mut store, mirror, target)?;
                }
                (Action::Retry(at), Some(target)) => {
                    log::info!(
                        "{} failed before and is tried again at {at:.0}",
                        name(&target)
                    );
                    decided.settled(Some(at)).write(&self.paths)?;
                    return Ok(ending);
                }
                (Action::Nothing | Action::Deploy | Action::Retry(_), _) => {
                    decided.settled(None).write(&self.paths)?;
                    return Ok(ending);
                }
            }
        }
    }

    /// What is known of the remotes now.
    ///
    /// # Errors
    /// The records in `/run` cannot be read.
    pub fn observe(&self) -> Result<Vec<RemoteFacts>> {
        let observe = |remote: &Remote| {
            let record = Fetched::read(&self.paths, remote)?;
            // A head that cannot be read is none, and the next fetch brings it anew.
            let heads = git::known_heads(&self.paths, remote).unwrap_or(Heads {
                main: None,
                testing: None,
            });
            Ok(RemoteFacts {
                name: remote.name.clone(),
                reach: Fetched::reach(record.as_ref()),
                main: Head {
                    branch: remote.main.clone(),
                    commit: heads.main,
                },
                testing: remote.testing.as_ref().map(|testing| Head {
                    branch: testing.clone(),
                    commit: heads.testing,
                }),
            })
        };
        self.config.remotes.iter().map(observe).collect()
    }

    fn fetch_all(&self, remotes: &[&Remote]) -> Result<Ending> {
        let mut ending = Ending::Failed;
        for remote in remotes {
            if self.fetch_one(remote)? == Ending::Done {
                ending = Ending::Done;
            }
        }
        Ok(ending)
    }

    /// Fetches one remote and says what changed: its heads, or whether it can be reached.
    fn fetch_one(&self, remote: &Remote) -> Result<Ending> {
        let _alone = Lock::wait(&self.paths.remote_lock(&remote.name))?;
        let before = Fetched::read(&self.paths, remote)?;
        let was_down = before.as_ref().is_some_and(|before| before.error.is_some());
        let error = match self.bring_heads(remote) {
            Ok(()) => None,
            Err(error) => Some(journal::printable(&format!("{error:#}")).into_owned()),
        };
        match &error {
            Some(error) if !was_down || !journal::reads_us() => log::warn!(
                "Failed to fetch {} from {}, whose branches do not count until it is back: {error}",
                remote.name,
                remote.url
            ),
            None if was_down => log::info!("{} can be fetched again", remote.name),
            Some(_) | None => {}
        }
        let ending = match error {
            None => Ending::Done,
            Some(_) => Ending::Failed,
        };
        Fetched::now(remote, before.as_ref(), error).write(&self.paths, remote)?;
        Ok(ending)
    }

    /// An idle poll of a local path ends after the comparison: it has read six small files.
    fn bring_heads(&self, remote: &Remote) -> Result<()> {
        let known = git::known_heads(&self.paths, remote).ok();
        if let Url::Local(path) = &remote.url {
            let heads = git::local_heads(path, remote)?;
            if heads.is_some() && heads == known {
                return Ok(());
            }
        }
        let heads = Mirror::ready(&self.paths, &self.config.remotes)?.fetch(remote)?;
        let known = known.unwrap_or(Heads {
            main: None,
            testing: None,
        });
        let testing = remote
            .testing
            .as_ref()
            .map(|testing| (testing, known.testing, heads.testing));
        for (branch, old, new) in [Some((&remote.main, known.main, heads.main)), testing]
            .into_iter()
            .flatten()
        {
            let name = format!("{}/{}", remote.name, branch.name);
            match (old, new) {
                (old, Some(new)) if old.as_ref() != Some(&new) => {
                    log::info!("{name} is at {}", new.short());
                }
                (Some(_), None) => log::info!("{name} is gone"),
                (_, _) => {}
            }
        }
        Ok(())
    }

    /// Says what was refused, once for each head, and records what is being decided on.
    fn announce(&self, remotes: Vec<RemoteFacts>, decision: &Decision) -> Result<Decided> {
        let before = Decided::read(&self.paths)?;
        let before = before.map_or(Vec::new(), |before| before.refused);
        let mut refused = Vec::new();
        for (name, refusal) in refusals(decision) {
            if !before.contains(&name) {
                log::warn!("Refused {name}: {refusal}");
            }
            refused.push(name);
        }
        let decided = Decided::deciding(remotes, refused)?;
        decided.write(&self.paths)?;
        Ok(decided)
    }

    fn attempt(&self, store: &mut Store, mirror: Mirror, target: Target) -> Result<Ending> {
        let subject = mirror.subject(&target.commit)?;
        let half_switched = store.state().latest().is_some_and(left_half_switched);
        log::info!(
            "Deploying {} by {}: {subject}",
            name(&target),
            target.operation
        );
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
        let evaluation = nix::evaluate(config, &paths.repository(), git::TARGET, &target.commit)?;
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
        let ended = attempt.activation(evaluation.out).run(paths)?;
        self.conclude(attempt, &ended)
    }

    /// The outcome of an activation that came to an end.
    fn conclude(&self, attempt: &Attempt, ended: &Ended) -> Result<Outcome> {
        if ended.died() {
            let stage = Stage::Activating;
            return Ok(Outcome::Interrupted { stage });
        }
        let profile = self.paths.profile(&self.config.profile);
        let moved = attempt.target.operation.moves_profile();
        if let (true, true, Some(generation)) =
            (moved, ended.before_activation(), attempt.generation_before)
        {
            nix::switch_generation(&profile, generation)
                .context("Failed to take the profile back")?;
        }
        ended.check()?;
        let generation = if moved {
            system::generation(&profile)?
        } else {
            None
        };
        Ok(Outcome::Done { generation })
    }

    /// Records and reports the end of an attempt, and lets go of what only older ones needed.
    fn end(&self, store: &mut Store, mut attempt: Attempt, outcome: Outcome) -> Result<Ending> {
        attempt.progress = Progress::Ended(Timestamp::now(), outcome);
        store.record(&attempt)?;
        let name = name(&attempt.target);
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
    fn settle_interrupted(&self, store: &mut Store) -> Result<()> {
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

/// Plain facts for a decision.
#[must_use]
pub fn facts(remotes: Vec<RemoteFacts>, state: &State) -> Facts {
    Facts {
        remotes,
        accepted: state.accepted_main.clone(),
        last: state.last(),
        now: Timestamp::now(),
    }
}

/// The accepted main is kept twice, and survives the loss of either one.
fn reconcile_accepted(store: &mut Store, mirror: &Mirror) -> Result<()> {
    match (store.state().accepted_main.clone(), mirror.accepted()?) {
        (None, Some(kept)) => {
            log::warn!(
                "The state has no accepted main; the mirror has {}",
                kept.short()
            );
            store.accept(kept)
        }
        (Some(accepted), kept) if kept.as_ref() != Some(&accepted) => {
            // A mirror made anew does not have the commit before its remote has been fetched.
            if let Err(error) = mirror.keep_accepted(&accepted) {
                log::debug!("The mirror cannot keep the accepted main yet: {error:#}");
            }
            Ok(())
        }
        (_, _) => Ok(()),
    }
}

/// The refusals that a person should hear of, with the heads' names; what is ordinary only shows in
/// the status.
fn refusals(decision: &Decision) -> impl Iterator<Item = (String, &Refusal)> {
    let qualifies = |c: &Candidate| !c.testing && !matches!(c.verdict, Verdict::Refused(_));
    let main_qualifies = decision.candidates.iter().any(qualifies);
    decision.candidates.iter().filter_map(move |candidate| {
        let Verdict::Refused(refusal) = &candidate.verdict else {
            return None;
        };
        let Candidate { remote, head, .. } = candidate;
        let name = format!(
            "{} ({remote}/{})",
            head.commit.as_ref()?.short(),
            head.branch.name
        );
        refusal.is_news(main_qualifies).then_some((name, refusal))
    })
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

/// As in `3f2a9c1e (origin/main)`.
fn name(target: &Target) -> String {
    format!(
        "{} ({}/{})",
        target.commit.short(),
        target.remote,
        target.branch
    )
}
