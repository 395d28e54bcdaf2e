//! The cycle: fetch, then observe → decide → evaluate → build → activate → record.

use std::path::PathBuf;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use log::Level;

use crate::config::paths::Paths;
use crate::config::{Config, Remote};
use crate::deploy::accepted_main;
use crate::deploy::commits::Commits;
use crate::deploy::reboot::Prospect;
use crate::git::{self, Heads, Mirror};
use crate::model::names::Branch;
use crate::model::schedule::Wait;
use crate::model::select::{decide, Candidate, Decision, Facts, Head, Reach, Refusal, RemoteFacts};
use crate::model::state::State;
use crate::signature::Signers;
use crate::state::deploy_record::Decided;
use crate::state::fetch_record::Fetched;
use crate::state::requests;
use crate::state::requests::Rewrite;
use crate::state::store::Store;
use crate::state::verdicts::Judgement;
use crate::sys::fs;
use crate::sys::journal;

/// How long a deploy that could not do its work waits before it is due again.
const POSTPONED: SignedDuration = SignedDuration::from_mins(1);

/// A machine: its configuration and where its files are.
#[derive(Debug)]
pub struct Machine {
    /// What it follows.
    pub config: Config,
    /// The file that says so. A system that is activated may bring another one.
    pub config_file: PathBuf,
    /// The file that said so when this comin began, such as `/nix/store/…-comin-config.json`.
    pub own_config_file: PathBuf,
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
    pub fn run(&self, remotes: &[&Remote], signers: Option<&Signers>) -> Result<Ending> {
        let fetched = self.fetch_all(remotes)?;
        let deployed = self.deploy(signers)?;
        Ok(match (fetched, deployed) {
            (Ending::Done, Ending::Done) => Ending::Done,
            (Ending::Failed, _) | (_, Ending::Failed) => Ending::Failed,
        })
    }

    /// Fetches, and asks for a deploy if there is something to decide.
    pub fn fetch(&self, remotes: &[&Remote]) -> Result<Ending> {
        let ending = self.fetch_all(remotes)?;
        let decided = Decided::read(&self.paths)?;
        let seen = self.observe()?;
        if decided.is_none_or(|decided| {
            decided.is_stale(&self.config, &self.paths, &seen, Timestamp::now())
        }) {
            requests::request(&self.paths)?;
        }
        Ok(ending)
    }

    /// Deploys what has been fetched, and where there are signers, only what they have signed.
    ///
    /// # Errors
    /// The state cannot be read or written. A deployment that fails is no error: it is recorded.
    pub fn deploy(&self, signers: Option<&Signers>) -> Result<Ending> {
        self.deploy_all(signers).inspect_err(|_| self.postpone())
    }

    /// Lets the next deploy wait: a full disk, a broken state or a missing key is met again in a while,
    /// not at the next poll.
    pub fn postpone(&self) {
        let postpone = || -> Result<()> {
            let (refused, notices) = self.said_before()?;
            let decided = Decided::deciding(&self.config, self.observe()?, refused, notices)?;
            decided
                .settled(Some(postponed()), &self.paths)
                .write(&self.paths)
        };
        if let Err(error) = postpone() {
            log::debug!("Failed to postpone the next deploy: {error:#}");
        }
    }

    /// Deploys until there is nothing left to do: a deployment moves the accepted main, and with it
    /// what comes next.
    fn deploy_all(&self, signers: Option<&Signers>) -> Result<Ending> {
        let mut store = Store::open(&self.paths)?;
        requests::take_request(&self.paths)?;
        self.claim(&store)?;
        let mut ending = self.settle_interrupted(&mut store)?;
        loop {
            let remotes = self.observe()?;
            let mirror = Mirror::ready(&self.paths, &self.config.remotes)?;
            self.take_orders(&mut store)?;
            let notice = accepted_main::reconcile(&mut store, &mirror, &self.paths)?;
            let facts = self.facts(remotes, store.state())?;
            let decision = decide(&facts, &Commits::of(&mirror, signers));
            store.forget_quarantine(&decision.candidates)?;
            let mut decided = self.announce(&facts, &decision)?;
            if let Some(notice) = notice {
                decided.notice(Level::Warn, notice);
            }
            self.withdraw(&mut store, &facts, &decision)?;
            let Some(target) = decision.to_deploy() else {
                self.rest(&mut store, &facts, &decision, decided, ending)?;
                self.gather_packs(&mirror);
                return Ok(ending);
            };
            // Of what goes on after it has waited, it has been said.
            if facts.accepted.is_none() && store.state().awaiting().is_none() {
                log::info!("No main was accepted before: this one is taken as it is");
            }
            ending = self.attempt(&mut store, mirror, signers, target.clone())?;
        }
    }

    /// Ends a deploy that has nothing left to do, and says until when, and why if that is not obvious.
    fn rest(
        &self,
        store: &mut Store,
        facts: &Facts,
        decision: &Decision,
        mut decided: Decided,
        ending: Ending,
    ) -> Result<()> {
        if let Some((target, why)) = decision.hindered() {
            if ending == Ending::Done {
                decided.notice(Level::Info, format!("{target} is not deployed: {why}"));
            }
        }
        if let Some(missing) = decision.missing() {
            decided.notice(Level::Warn, format!("Nothing to deploy: {missing}"));
        }
        let again = decision.action.again();
        let mut waits = Vec::from_iter(again.map(|until| Wait::until(facts.now, until)));
        waits.extend(may_pass(&decision.candidates).then(postponed));
        let reboot = self.consider_reboot(store, facts.suspended.as_ref(), &mut decided)?;
        if let Prospect::Later(wait) = &reboot {
            waits.push(*wait);
        }
        decided
            .settled(Wait::sooner(waits), &self.paths)
            .write(&self.paths)?;
        if let Prospect::Due(reboot) = reboot {
            self.reboot(store, reboot)?;
        }
        Ok(())
    }

    /// What is known of the remotes now.
    pub fn observe(&self) -> Result<Vec<RemoteFacts>> {
        let observe = |remote: &Remote| {
            let record = Fetched::read(&self.paths, remote)?;
            let (reach, heads) = match git::known_heads(&self.paths, remote) {
                Ok(heads) => (Fetched::reach(record.as_ref()), heads),
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
        self.config.remotes.iter().map(observe).collect()
    }

    /// Plain facts for a decision.
    pub fn facts(&self, remotes: Vec<RemoteFacts>, state: &State) -> Result<Facts> {
        let now = Timestamp::now();
        Ok(Facts {
            remotes,
            accepted: state.accepted(),
            signed_ancestors: self.config.signed_ancestors,
            tried: state.tried(),
            recent: state.recent(self.config.retry),
            awaited: self.config.awaited(state),
            quarantine: state.quarantine.clone(),
            suspended: requests::read_suspension(&self.paths, now)?,
            now,
        })
    }

    /// Decides on what is known now, without doing anything.
    pub fn consider(&self, state: &State, commits: &Commits) -> Result<(Facts, Decision)> {
        let facts = self.facts(self.observe()?, state)?;
        let decision = decide(&facts, commits);
        Ok((facts, decision))
    }

    /// Takes up what the operator has ordered: to accept a main, whatever was before it, and to try
    /// again what failed, or to go on with what waits for a confirmation. The file of an order is removed once
    /// the state has the order.
    fn take_orders(&self, store: &mut Store) -> Result<()> {
        let retry = self.paths.retry();
        if fs::read_optional(&retry)?.is_some() {
            store.forgive()?;
            fs::remove_optional(&retry)?;
            log::info!("What failed is tried again, by order");
        }
        if let Some(rewrite) = Rewrite::read(&self.paths)? {
            let before = store.state().accepted_main.clone();
            let before = before.map_or("none".to_string(), |before| before.to_string());
            log::warn!("Main {rewrite} is accepted by order, in place of {before}");
            store.accept(rewrite.commit)?;
            Rewrite::forget(&self.paths)?;
        }
        self.take_confirmation(store)
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

    /// Records who is at work, before anything is decided, and says what of the boot before that was not
    /// as it should be.
    fn claim(&self, store: &Store) -> Result<()> {
        // Who asks at a terminal has not heard what the journal has been told.
        let (refused, notices) = if journal::is_on_terminal() {
            Default::default()
        } else {
            self.said_before()?
        };
        let mut decided = Decided::deciding(&self.config, self.observe()?, refused, notices)?;
        if let Some(booted) = self.booted_instead(store.state())? {
            let notice = format!(
                "The machine booted {} instead of what was deployed last; comin leaves it there until there is another commit to deploy, or comin retry",
                booted.display()
            );
            decided.notice(Level::Warn, notice);
        }
        decided.write(&self.paths)
    }

    /// The heads whose refusal has been said, and what else has been.
    fn said_before(&self) -> Result<(Vec<String>, Vec<String>)> {
        let before = Decided::read(&self.paths)?;
        Ok(before.map_or_else(Default::default, |before| (before.refused, before.notices)))
    }

    /// Says what was refused, once for each head, and records what is being decided on.
    pub fn announce(&self, facts: &Facts, decision: &Decision) -> Result<Decided> {
        Judgement::of(facts, decision, &self.config).write(&self.paths)?;
        let (before, notices) = self.said_before()?;
        let mut refused = Vec::new();
        for (name, refusal) in refusals(decision) {
            if !before.contains(&name) {
                log::warn!("Refused {name}: {refusal}");
                if let Some(command) = refusal.command() {
                    log::warn!("→ {command}");
                }
            }
            refused.push(name);
        }
        let decided = Decided::deciding(&self.config, facts.remotes.clone(), refused, notices)?;
        decided.write(&self.paths)?;
        Ok(decided)
    }
}

/// The wait before a deploy that could not do its work is due again.
fn postponed() -> Wait {
    Wait::new(Timestamp::now(), POSTPONED)
}

/// Whether time alone may change what was found.
fn may_pass(candidates: &[Candidate]) -> bool {
    candidates
        .iter()
        .filter_map(Candidate::refusal)
        .any(|refusal| refusal.may_pass())
}

/// The refusals that a person should hear of, with the heads' names; what is ordinary only shows in
/// the status.
fn refusals(decision: &Decision) -> impl Iterator<Item = (String, Refusal)> + '_ {
    decision.candidates.iter().filter_map(|candidate| {
        let refusal = candidate.refusal()?;
        let Candidate { remote, head, .. } = candidate;
        let name = format!(
            "{} ({remote}/{})",
            head.commit.as_ref()?.short(),
            head.branch.name
        );
        refusal.is_news().then_some((name, refusal))
    })
}
