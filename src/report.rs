//! What a person reads: status and plan, as text and as JSON.

use std::fmt::{self, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use crate::again::Again;
use crate::commit::Commit;
use crate::config::{Backoff, Operation};
use crate::cycle::Machine;
use crate::decided::Decided;
use crate::fetched::Fetched;
use crate::git::Mirror;
use crate::history::Commits;
use crate::journal::printable;
use crate::reboot;
use crate::select::{decide, Candidate, Decision, Target, Verdict};
use crate::signature::Signers;
use crate::state::{Attempt, Outcome, Progress, State};
use crate::suspension::Suspension;

/// What the machine runs, what it should run, and what is in between.
#[derive(Debug, Serialize)]
pub struct Status {
    hostname: String,
    #[serde(flatten)]
    standing: Standing,
    hindrance: Option<String>,
    accepted_main: Option<Commit>,
    selected: Option<Selected>,
    remotes: Vec<RemoteStatus>,
}

/// What of the status needs no decision, and so neither the history of a commit nor its signature.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// Whether nothing is deployed until somebody wants it again.
    pub suspended: bool,
    /// Whether a part of what is deployed is only taken up by a reboot.
    pub need_to_reboot: bool,
    /// Why, in words.
    pub reboot_reasons: Vec<String>,
    /// The system that booted in place of the one that was deployed to boot.
    pub booted_instead: Option<String>,
    /// The stage of the deployment that is under way, or `idle`.
    pub phase: &'static str,
    /// The latest attempt that ended.
    pub deployed: Option<Deployed>,
}

#[derive(Debug, Serialize)]
struct Selected {
    commit: Commit,
    remote: String,
    branch: String,
    testing: bool,
    signer: Option<String>,
}

/// An attempt that ended.
#[derive(Debug, Serialize)]
pub struct Deployed {
    /// What was to be deployed.
    pub commit: Commit,
    subject: String,
    signer: Option<String>,
    remote: String,
    branch: String,
    operation: Operation,
    out: Option<String>,
    generation: Option<u64>,
    /// `done`, `failed` or `skipped`.
    pub status: &'static str,
    error: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    retry_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct RemoteStatus {
    name: String,
    url: String,
    fetched_at: Option<Timestamp>,
    error: Option<String>,
    main: BranchStatus,
    testing: Option<BranchStatus>,
}

#[derive(Debug, Serialize)]
struct BranchStatus {
    name: String,
    commit: Option<Commit>,
    refused: Option<String>,
}

/// What a deploy would do now, and what it thinks of every branch.
#[derive(Debug, Serialize)]
pub struct Plan {
    action: &'static str,
    hindrance: Option<String>,
    target: Option<PlannedTarget>,
    retry_at: Option<Timestamp>,
    candidates: Vec<PlannedCandidate>,
}

#[derive(Debug, Serialize)]
struct PlannedTarget {
    commit: Commit,
    remote: String,
    branch: String,
    testing: bool,
    signer: Option<String>,
    operation: Operation,
}

#[derive(Debug, Serialize)]
struct PlannedCandidate {
    remote: String,
    branch: String,
    testing: bool,
    commit: Option<Commit>,
    verdict: &'static str,
    refused: Option<String>,
}

/// Decides without doing anything; reads only what everybody may read.
fn consider(
    machine: &Machine,
    state: &State,
    signers: &Result<Option<Signers>>,
) -> Result<Decision> {
    let mirror = Mirror::open(&machine.paths);
    let commits = Commits::of_any(&mirror, signers);
    Ok(decide(&machine.facts(machine.observe()?, state)?, &commits))
}

impl Status {
    /// Looks at the machine.
    ///
    /// # Errors
    /// The state or the records in `/run` cannot be read.
    pub fn of(machine: &Machine, signers: &Result<Option<Signers>>) -> Result<Self> {
        let remembered = State::read(&machine.paths)?;
        let decision = consider(machine, &remembered, signers)?;
        let decided = Decided::read(&machine.paths)?;
        Ok(Self {
            hostname: machine.config.hostname.clone(),
            standing: Standing::of(machine, &remembered, decided.as_ref())?,
            hindrance: decision.action.hindrance(),
            accepted_main: remembered.accepted_main.clone(),
            selected: decision.selected.as_ref().map(Selected::from),
            remotes: remotes(machine, &decision)?,
        })
    }
}

impl Standing {
    /// How a machine stands with this state and this record of the latest deploy.
    ///
    /// # Errors
    /// The order to suspend cannot be read.
    pub fn of(machine: &Machine, remembered: &State, decided: Option<&Decided>) -> Result<Self> {
        let at_work = decided.is_some_and(Decided::at_work);
        let phase = match remembered.latest().map(|attempt| &attempt.progress) {
            Some(Progress::Running(stage)) if at_work => stage.name(),
            Some(_) | None => "idle",
        };
        let reboot_reasons = reboot::reasons(&machine.config, &machine.paths);
        let booted_instead = machine.booted_instead(remembered)?;
        Ok(Self {
            suspended: Suspension::read(&machine.paths, Timestamp::now())?.is_some(),
            need_to_reboot: !reboot_reasons.is_empty(),
            reboot_reasons,
            booted_instead: booted_instead.map(|system| system.display().to_string()),
            phase,
            deployed: remembered
                .latest_ended()
                .and_then(|attempt| Deployed::of(attempt, machine.config.retry)),
        })
    }
}

/// The attempts, the latest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct History(Vec<PastAttempt>);

#[derive(Debug, Serialize)]
struct PastAttempt {
    id: u64,
    commit: Commit,
    subject: String,
    signer: Option<String>,
    remote: String,
    branch: String,
    testing: bool,
    operation: Operation,
    out: Option<String>,
    generation: Option<u64>,
    status: &'static str,
    error: Option<String>,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    stages: Vec<PastStage>,
}

#[derive(Debug, Serialize)]
struct PastStage {
    stage: &'static str,
    started_at: Timestamp,
}

impl History {
    /// Reads what the state remembers.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn of(machine: &Machine) -> Result<Self> {
        let state = State::read(&machine.paths)?;
        Ok(Self(
            state.attempts.iter().rev().map(PastAttempt::of).collect(),
        ))
    }
}

impl PastAttempt {
    fn of(attempt: &Attempt) -> Self {
        let ended = attempt.ended();
        let (status, error, generation) = ended.map_or(("running", None, None), |(_, o)| words(o));
        Self {
            id: attempt.id,
            commit: attempt.target.commit.clone(),
            subject: attempt.subject.clone(),
            signer: attempt.target.signer.clone(),
            remote: attempt.target.remote.to_string(),
            branch: attempt.target.branch.clone(),
            testing: attempt.target.testing,
            operation: attempt.operation(),
            out: attempt.out.as_ref().map(|out| out.display().to_string()),
            generation,
            status,
            error,
            started_at: attempt.started_at,
            ended_at: ended.map(|(at, _)| at),
            stages: attempt
                .stages
                .iter()
                .map(|entered| PastStage {
                    stage: entered.stage.name(),
                    started_at: entered.at,
                })
                .collect(),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("Nothing has been deployed yet");
        }
        let mut text = String::new();
        for attempt in &self.0 {
            let took = attempt.ended_at.map_or(String::new(), |end| {
                format!(", {} s", end.duration_since(attempt.started_at).as_secs())
            });
            writeln!(
                text,
                "{:>4}  {:.0}  {:<11}  {} ({}/{}) by {}{took}",
                attempt.id,
                attempt.started_at,
                attempt.status,
                attempt.commit.short(),
                attempt.remote,
                attempt.branch,
                attempt.operation,
            )?;
            writeln!(text, "      {}", printable(&attempt.subject))?;
            if let Some(error) = &attempt.error {
                writeln!(text, "      {}", printable(error))?;
            }
        }
        f.write_str(text.trim_end())
    }
}

/// An outcome as the reports have it: status, error, generation.
#[must_use]
pub fn words(outcome: &Outcome) -> (&'static str, Option<String>, Option<u64>) {
    match outcome {
        Outcome::Done { generation } => ("done", None, *generation),
        Outcome::Failed { error, .. } | Outcome::Postponed { error } => {
            ("failed", Some(error.clone()), None)
        }
        Outcome::RolledBack { error, .. } => ("rolled_back", Some(error.clone()), None),
        Outcome::Preempted { stage } => (
            "skipped",
            Some(format!("stopped while {}", stage.words())),
            None,
        ),
        Outcome::Interrupted { stage } => (
            "failed",
            Some(format!("interrupted while {}", stage.words())),
            None,
        ),
        Outcome::Skipped { reason } => ("skipped", Some(reason.clone()), None),
    }
}

fn remotes(machine: &Machine, decision: &Decision) -> Result<Vec<RemoteStatus>> {
    let branch = |name: &crate::config::RemoteName, testing: bool| {
        let mut candidates = decision.candidates.iter();
        candidates
            .find(|candidate| candidate.remote == *name && candidate.testing == testing)
            .map(|candidate| BranchStatus {
                name: candidate.head.branch.name.clone(),
                commit: candidate.head.commit.clone(),
                refused: refused(candidate),
            })
    };
    let mut statuses = Vec::new();
    for remote in &machine.config.remotes {
        let record = Fetched::read(&machine.paths, remote)?;
        statuses.extend(branch(&remote.name, false).map(|main| RemoteStatus {
            name: remote.name.to_string(),
            url: remote.url.to_string(),
            fetched_at: record.as_ref().and_then(|record| record.succeeded_at),
            error: record.and_then(|record| record.error),
            main,
            testing: branch(&remote.name, true),
        }));
    }
    Ok(statuses)
}

fn refused(candidate: &Candidate) -> Option<String> {
    candidate.refusal().map(|refusal| refusal.to_string())
}

impl From<&Target> for Selected {
    fn from(target: &Target) -> Self {
        Self {
            commit: target.commit.clone(),
            remote: target.remote.to_string(),
            branch: target.branch.clone(),
            testing: target.testing,
            signer: target.signer.clone(),
        }
    }
}

impl Deployed {
    fn of(attempt: &Attempt, backoff: Backoff) -> Option<Self> {
        let (ended_at, outcome) = attempt.ended()?;
        let (status, error, generation) = words(outcome);
        Some(Self {
            commit: attempt.target.commit.clone(),
            subject: attempt.subject.clone(),
            signer: attempt.target.signer.clone(),
            remote: attempt.target.remote.to_string(),
            branch: attempt.target.branch.clone(),
            operation: attempt.operation(),
            out: attempt.out.as_ref().map(|out| out.display().to_string()),
            generation,
            status,
            error,
            started_at: attempt.started_at,
            ended_at,
            retry_at: match attempt.again(backoff) {
                Again::After(wait) => Some(wait.until),
                Again::Never | Again::WhenBack(_) => None,
            },
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}: {}\n", self.hostname, self.standing.phase);
        match &self.standing.deployed {
            None => writeln!(text, "  deployed  nothing yet")?,
            Some(deployed) => {
                writeln!(
                    text,
                    "  deployed  {} ({}/{}) by {}: {}, {:.0}",
                    deployed.commit.short(),
                    deployed.remote,
                    deployed.branch,
                    deployed.operation,
                    deployed.status,
                    deployed.ended_at
                )?;
                writeln!(text, "            {}", printable(&deployed.subject))?;
                if let Some(signer) = &deployed.signer {
                    writeln!(text, "            signed by {}", printable(signer))?;
                }
                if let Some(error) = &deployed.error {
                    writeln!(text, "  error     {}", printable(error))?;
                }
                if let Some(at) = deployed.retry_at {
                    writeln!(text, "  retry     {at:.0}")?;
                }
            }
        }
        match &self.selected {
            None => writeln!(text, "  selected  nothing: no branch qualifies")?,
            Some(selected) => writeln!(
                text,
                "  selected  {} ({}/{})",
                selected.commit.short(),
                selected.remote,
                selected.branch
            )?,
        }
        if let Some(hindrance) = &self.hindrance {
            writeln!(text, "            {}", printable(hindrance))?;
        }
        for remote in &self.remotes {
            let fetched = match remote.fetched_at {
                Some(at) => format!("fetched {at:.0}"),
                None => "not fetched yet".to_string(),
            };
            writeln!(
                text,
                "  {}  {} ({fetched})",
                remote.name,
                printable(&remote.url)
            )?;
            if let Some(error) = &remote.error {
                writeln!(text, "    error  {}", printable(error))?;
            }
            for branch in [Some(&remote.main), remote.testing.as_ref()]
                .into_iter()
                .flatten()
            {
                let commit = branch.commit.as_ref().map_or("-", Commit::short);
                let refused = match &branch.refused {
                    Some(refused) => format!("  {}", printable(refused)),
                    None => String::new(),
                };
                writeln!(text, "    {}  {commit}{refused}", branch.name)?;
            }
        }
        if let Some(booted) = &self.standing.booted_instead {
            writeln!(
                text,
                "  booted    {booted}, and not what was deployed last; comin retry deploys that again"
            )?;
        }
        if self.standing.need_to_reboot {
            let why = self.standing.reboot_reasons.join(", ");
            writeln!(text, "  a reboot is needed: {}", printable(&why))?;
        }
        f.write_str(text.trim_end())
    }
}

impl Plan {
    /// Considers what a deploy would do.
    ///
    /// # Errors
    /// The state or the records in `/run` cannot be read.
    pub fn of(machine: &Machine, signers: &Result<Option<Signers>>) -> Result<Self> {
        let decision = consider(machine, &State::read(&machine.paths)?, signers)?;
        let (action, hindrance) = (decision.action.name(), decision.action.hindrance());
        let retry_at = decision.action.again().map(|wait| wait.until);
        let candidates = decision
            .candidates
            .iter()
            .map(|candidate| PlannedCandidate {
                remote: candidate.remote.to_string(),
                branch: candidate.head.branch.name.clone(),
                testing: candidate.testing,
                commit: candidate.head.commit.clone(),
                verdict: match candidate.verdict {
                    Verdict::Selected(_) => "selected",
                    Verdict::Qualifies(_) => "qualifies",
                    Verdict::Refused(_) => "refused",
                },
                refused: refused(candidate),
            });
        Ok(Self {
            action,
            hindrance,
            retry_at,
            candidates: candidates.collect(),
            target: decision.selected.map(|target| PlannedTarget {
                commit: target.commit,
                remote: target.remote.to_string(),
                branch: target.branch,
                testing: target.testing,
                signer: target.signer,
                operation: target.operation,
            }),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        match &self.target {
            None => writeln!(text, "Nothing to deploy: no branch qualifies")?,
            Some(target) => {
                let name = format!(
                    "{} ({}/{})",
                    target.commit.short(),
                    target.remote,
                    target.branch
                );
                match (self.action, &self.hindrance) {
                    ("deploy", _) => writeln!(text, "Would deploy {name} by {}", target.operation)?,
                    (_, Some(why)) => {
                        writeln!(text, "Would not deploy {name}: {}", printable(why))?;
                    }
                    (_, None) => writeln!(text, "Nothing to do: {name} was the latest deployment")?,
                }
            }
        }
        for candidate in &self.candidates {
            let commit = candidate.commit.as_ref().map_or("-", Commit::short);
            let why = match &candidate.refused {
                Some(refused) => format!(": {}", printable(refused)),
                None => String::new(),
            };
            writeln!(
                text,
                "  {}/{}  {commit}  {}{why}",
                candidate.remote, candidate.branch, candidate.verdict
            )?;
        }
        f.write_str(text.trim_end())
    }
}
