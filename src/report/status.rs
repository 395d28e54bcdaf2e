//! What the machine runs, what it should run, and what is in between.

use anyhow::Result;
use serde::Serialize;

use super::attempt::{Attempt, AttemptStatus};
use super::remote::{self, RemoteStatus};
use super::running::Running;
use super::standing::Standing;
use super::text::Page;
use super::{by_name, Chosen, Report};
use crate::accepted;
use crate::commit::Commit;
use crate::cycle::Machine;
use crate::decided::Decided;
use crate::git::Mirror;
use crate::history::Commits;
use crate::journal::printable;
use crate::judgement::Judgement;
use crate::select::{decide, Action, Decision, Facts};
use crate::signature::Signers;
use crate::state::State;

/// What the machine runs, what it should run, and what is in between.
#[derive(Debug, Serialize)]
pub struct Status {
    hostname: String,
    #[serde(flatten)]
    standing: Standing,
    running: Option<Running>,
    #[serde(serialize_with = "by_name")]
    action: Action,
    hindrance: Option<String>,
    accepted_main: Option<Commit>,
    selected: Option<Chosen>,
    remotes: Vec<RemoteStatus>,
    #[serde(skip)]
    suspension: Option<String>,
}

impl Status {
    /// Looks at the machine.
    ///
    /// # Errors
    /// The state or the records in `/run` cannot be read.
    pub fn of(machine: &Machine) -> Result<Self> {
        let mirror = Mirror::open(&machine.paths);
        let mut state = State::read(&machine.paths)?;
        state.accepted_main = accepted::presumed(&state, mirror.as_ref().ok(), &machine.paths);
        let facts = machine.facts(machine.observe()?, &state)?;
        let decision = match Judgement::recall(&machine.paths, &facts, &machine.config)? {
            Some(decision) => decision,
            None => decide_anew(machine, &mirror, &facts),
        };
        let decided = Decided::read(&machine.paths)?;
        Ok(Self {
            hostname: machine.config.hostname.clone(),
            standing: Standing::of(machine, &state, decided.as_ref())?,
            running: Running::of(machine, &state)?,
            hindrance: decision.action.hindrance(),
            accepted_main: state.accepted_main.clone(),
            selected: decision.selected.as_ref().map(Chosen::from),
            remotes: remote::all(machine, &decision)?,
            action: decision.action,
            suspension: facts.suspended.map(|suspension| suspension.to_string()),
        })
    }

    /// The verdict, in a line.
    fn headline(&self, page: &Page) -> String {
        if let Some(under_way) = &self.standing.under_way {
            return under_way.sentence(page);
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
        match &self.action {
            Action::Deploy => format!("{selected} is about to be deployed"),
            Action::Nothing => "up to date".to_string(),
            Action::Retry(_)
            | Action::AwaitRemotes(_)
            | Action::Quarantined(_)
            | Action::Suspended(_)
            | Action::GivenUp => format!("{selected} is not deployed"),
        }
    }
}

impl Report for Status {
    fn text(&self, page: &Page) -> String {
        let mut text = page.wrapped(&format!("{}: ", self.hostname), 2, &self.headline(page));
        if let Some(running) = &self.running {
            text += &page.entry("running", &running.sentence(page));
        }
        if let Some(attempt) = &self.standing.deployed {
            let is_running = self.running.as_ref().and_then(|r| r.commit.as_ref())
                == Some(&attempt.target.commit);
            if !is_running || attempt.status != AttemptStatus::Done {
                text += &page.entry("latest", &about(attempt, page));
            }
            if let Some(signer) = &attempt.target.signer {
                text += &page.entry("", &format!("signed by {}", printable(signer)));
            }
        }
        if let (Some(selected), Some(why)) = (&self.selected, &self.hindrance) {
            text += &page.entry("next", &format!("{selected}: {}", printable(why)));
        }
        if let Some(booted) = &self.standing.booted_instead {
            let sentence =
                format!("{booted}, and not what was deployed last; comin retry deploys that again");
            text += &page.entry("booted", &sentence);
        }
        if self.standing.need_to_reboot {
            let why = self.standing.reboot_reasons.join(", ");
            text += &page.entry(
                "reboot",
                &format!("a reboot is needed: {}", printable(&why)),
            );
        }
        for remote in &self.remotes {
            text += &remote.text(page);
        }
        text
    }
}

fn decide_anew(machine: &Machine, mirror: &Result<Mirror>, facts: &Facts) -> Decision {
    let signers = Signers::load(&machine.config);
    decide(facts, &Commits::of_any(mirror, &signers))
}

fn about(attempt: &Attempt, page: &Page) -> String {
    let when = attempt
        .ended_at
        .map_or(String::new(), |end| format!(", {}", page.ago(end)));
    let mut text = format!(
        "{} by {}: {}{when}\n{}",
        attempt.target,
        attempt.target.operation,
        attempt.status,
        printable(&attempt.subject)
    );
    if let Some(error) = &attempt.error {
        text.push('\n');
        text.push_str(&printable(error));
    }
    text
}
