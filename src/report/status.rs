//! What the machine runs, what it should run, and what is in between.

use std::fmt::{self, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::attempt::Attempt;
use super::text::{ago, entry, length, wrapped};
use super::Chosen;
use crate::accepted;
use crate::commit::Commit;
use crate::cycle::Machine;
use crate::decided::Decided;
use crate::fetched::Fetched;
use crate::fs;
use crate::git::Mirror;
use crate::history::Commits;
use crate::journal::printable;
use crate::reboot;
use crate::select::{Decision, Refusal, Verdict};
use crate::signature::Signers;
use crate::state::{self, Progress, State};
use crate::suspension::Suspension;

/// What the machine runs, what it should run, and what is in between.
#[derive(Debug, Serialize)]
pub struct Status {
    hostname: String,
    #[serde(flatten)]
    standing: Standing,
    running: Option<Running>,
    action: &'static str,
    hindrance: Option<String>,
    accepted_main: Option<Commit>,
    selected: Option<Chosen>,
    remotes: Vec<RemoteStatus>,
    #[serde(skip)]
    suspension: Option<String>,
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
    pub deployed: Option<Attempt>,
    /// The attempt that is under way, and since when it is in its stage.
    #[serde(skip)]
    under_way: Option<(String, Timestamp)>,
}

/// The system that runs.
#[derive(Debug, Serialize)]
struct Running {
    out: String,
    /// The commit that it was deployed from; `None` where that was not comin.
    commit: Option<Commit>,
    subject: Option<String>,
    remote: Option<String>,
    branch: Option<String>,
    generation: Option<u64>,
    since: Option<Timestamp>,
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
    #[serde(skip)]
    is_ordinary: bool,
}

impl Status {
    /// Looks at the machine.
    ///
    /// # Errors
    /// The state or the records in `/run` cannot be read.
    pub fn of(machine: &Machine, signers: &Result<Option<Signers>>) -> Result<Self> {
        let mirror = Mirror::open(&machine.paths);
        let mut state = State::read(&machine.paths)?;
        state.accepted_main = accepted::presumed(&state, mirror.as_ref().ok(), &machine.paths);
        let commits = Commits::of_any(&mirror, signers);
        let (facts, decision) = machine.consider(&state, &commits)?;
        let decided = Decided::read(&machine.paths)?;
        Ok(Self {
            hostname: machine.config.hostname.clone(),
            standing: Standing::of(machine, &state, decided.as_ref())?,
            running: Running::of(machine, &state)?,
            action: decision.action.name(),
            hindrance: decision.action.hindrance(),
            accepted_main: state.accepted_main.clone(),
            selected: decision.selected.as_ref().map(Chosen::from),
            remotes: remotes(machine, &decision)?,
            suspension: facts.suspended.map(|suspension| suspension.to_string()),
        })
    }

    /// The verdict, in a line.
    fn headline(&self, now: Timestamp) -> String {
        if let Some((what, since)) = &self.standing.under_way {
            let seconds = now.duration_since(*since).as_secs();
            return format!("{what}, for {}", length(seconds.max(0)));
        }
        if let Some(suspension) = &self.suspension {
            return suspension.clone();
        }
        let is_reached =
            |remote: &RemoteStatus| remote.error.is_none() && remote.fetched_at.is_some();
        if !self.remotes.iter().any(is_reached) {
            let has_failed = self.remotes.iter().any(|remote| remote.error.is_some());
            let what = if has_failed { "can be" } else { "has been" };
            return format!("no remote {what} fetched");
        }
        let Some(selected) = &self.selected else {
            return "nothing to deploy: no branch qualifies".to_string();
        };
        match self.action {
            "deploy" => format!("{selected} is about to be deployed"),
            "nothing" => "up to date".to_string(),
            _ => format!("{selected} is not deployed"),
        }
    }
}

impl Standing {
    /// How a machine stands with this state and this record of the latest deploy.
    ///
    /// # Errors
    /// The order to suspend cannot be read.
    pub fn of(machine: &Machine, remembered: &State, decided: Option<&Decided>) -> Result<Self> {
        let at_work = decided.is_some_and(Decided::at_work);
        let latest = remembered.latest().filter(|_| at_work);
        let running = latest.and_then(|latest| match latest.progress {
            Progress::Running(stage) => Some((latest, stage)),
            Progress::Ended(_, _) => None,
        });
        let reboot_reasons = reboot::reasons(&machine.config, &machine.paths);
        let booted_instead = machine.booted_instead(remembered)?;
        let under_way = running.map(|(attempt, stage)| {
            let since = attempt.stages.last().map_or(attempt.started_at, |s| s.at);
            (format!("{} {}", stage.words(), attempt.target), since)
        });
        let ended = remembered.latest_ended();
        Ok(Self {
            suspended: Suspension::read(&machine.paths, Timestamp::now())?.is_some(),
            need_to_reboot: !reboot_reasons.is_empty(),
            reboot_reasons,
            booted_instead: booted_instead.map(|system| system.display().to_string()),
            phase: running.map_or("idle", |(_, stage)| stage.name()),
            deployed: ended.map(|attempt| Attempt::of(attempt, machine.config.retry)),
            under_way,
        })
    }
}

impl Running {
    fn of(machine: &Machine, state: &State) -> Result<Option<Self>> {
        let Some(out) = fs::read_link_optional(&machine.paths.current_system())? else {
            return Ok(None);
        };
        let is_it =
            |attempt: &&state::Attempt| attempt.is_done() && attempt.out.as_ref() == Some(&out);
        let by = state.attempts.iter().rfind(is_it);
        Ok(Some(Self {
            out: out.display().to_string(),
            commit: by.map(|by| by.target.commit.clone()),
            subject: by.map(|by| by.subject.clone()),
            remote: by.map(|by| by.target.remote.to_string()),
            branch: by.map(|by| by.target.branch.clone()),
            generation: by.and_then(state::Attempt::generation),
            since: by.and_then(state::Attempt::ended).map(|(at, _)| at),
        }))
    }

    /// What of it there is to say, in a line or two.
    fn sentence(&self, now: Timestamp) -> String {
        let (Some(commit), Some(remote), Some(branch)) = (&self.commit, &self.remote, &self.branch)
        else {
            return format!("{}, which comin has not deployed", self.out);
        };
        let since = self
            .since
            .map_or(String::new(), |at| format!(", deployed {}", ago(at, now)));
        let generation = self.generation.map_or(String::new(), |generation| {
            format!(", generation {generation}")
        });
        let subject = printable(self.subject.as_deref().unwrap_or_default()).into_owned();
        format!(
            "{} ({remote}/{branch}){generation}{since}\n{subject}",
            commit.short()
        )
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
                refused: candidate.refusal().map(|refusal| refusal.to_string()),
                is_ordinary: match &candidate.verdict {
                    Verdict::Refused(Refusal::Missing) => testing,
                    Verdict::Refused(Refusal::NotFetched | Refusal::Unreachable) => true,
                    Verdict::Refused(_) | Verdict::Selected(_) | Verdict::Qualifies(_) => false,
                },
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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = Timestamp::now();
        let mut text = wrapped(&format!("{}: ", self.hostname), 2, &self.headline(now));
        if let Some(running) = &self.running {
            text += &entry("running", &running.sentence(now));
        }
        if let Some(attempt) = &self.standing.deployed {
            let is_running = self.running.as_ref().and_then(|r| r.commit.as_ref())
                == Some(&attempt.target.commit);
            if !is_running || attempt.status != "done" {
                text += &entry("latest", &about(attempt, now));
            }
            if let Some(signer) = &attempt.target.signer {
                text += &entry("", &format!("signed by {}", printable(signer)));
            }
        }
        if let (Some(selected), Some(why)) = (&self.selected, &self.hindrance) {
            text += &entry("next", &format!("{selected}: {}", printable(why)));
        }
        if let Some(booted) = &self.standing.booted_instead {
            let sentence =
                format!("{booted}, and not what was deployed last; comin retry deploys that again");
            text += &entry("booted", &sentence);
        }
        if self.standing.need_to_reboot {
            let why = self.standing.reboot_reasons.join(", ");
            text += &entry(
                "reboot",
                &format!("a reboot is needed: {}", printable(&why)),
            );
        }
        for remote in &self.remotes {
            let fetched = match remote.fetched_at {
                Some(time) => format!("fetched {}", ago(time, now)),
                None => "not fetched yet".to_string(),
            };
            text += &entry(
                &remote.name,
                &format!("{}, {fetched}", printable(&remote.url)),
            );
            if let Some(error) = &remote.error {
                text += &wrapped("    ", 6, &printable(error));
            }
            let branches = [Some(&remote.main), remote.testing.as_ref()];
            for branch in branches.into_iter().flatten() {
                text += &about_branch(branch)?;
            }
        }
        f.write_str(text.trim_end())
    }
}

fn about(attempt: &Attempt, now: Timestamp) -> String {
    let when = attempt
        .ended_at
        .map_or(String::new(), |end| format!(", {}", ago(end, now)));
    let status = match attempt.status {
        "rolled_back" => "rolled back",
        status => status,
    };
    let mut text = format!(
        "{} by {}: {status}{when}\n{}",
        attempt.target,
        attempt.target.operation,
        printable(&attempt.subject)
    );
    if let Some(error) = &attempt.error {
        text.push('\n');
        text.push_str(&printable(error));
    }
    text
}

/// A branch that is not there, or of a remote that has said why it does not count, is not worth a word.
fn about_branch(branch: &BranchStatus) -> Result<String, fmt::Error> {
    if branch.is_ordinary && branch.commit.is_none() {
        return Ok(String::new());
    }
    let mut line = format!(
        "{}  {}",
        branch.name,
        branch.commit.as_ref().map_or("-", Commit::short)
    );
    if let Some(refused) = branch.refused.as_deref().filter(|_| !branch.is_ordinary) {
        write!(line, "  {}", printable(refused))?;
    }
    Ok(wrapped("    ", 6, &line))
}
