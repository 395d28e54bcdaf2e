//! Logs and records what was decided. Nothing is logged twice.

use anyhow::Result;
use log::Level;

use crate::deploy::{context::Context, observe};
use crate::model::{Action, Candidate, Cure, Decision, Drift, Facts, Refusal, RemoteFacts, State};
use crate::state::{decision_cache::DecisionCache, deploy_record::DeployRecord};
use crate::sys::{terminal, text};

/// The record of who is at work. Until a deploy has come to its end, another one is due.
pub fn begin(ctx: &Context, remotes: Vec<RemoteFacts>) -> Result<DeployRecord> {
    DeployRecord::begin(&ctx.config, &ctx.paths, remotes)
}

/// Says if the machine has booted or runs something else than comin activated.
pub fn drift(ctx: &Context, state: &State, mut record: DeployRecord) -> Result<()> {
    if terminal::is_on_terminal() {
        // A person at a terminal has not seen what the journal has.
        record.refused.clear();
        record.notices.clear();
    }
    let stays = "comin leaves it there until the next deployment, or comin retry";
    let systems = observe::systems(ctx)?;
    if let Some(booted) = systems.booted_instead(state) {
        let booted = booted.display();
        let notice =
            format!("The machine booted {booted} instead of what was deployed last; {stays}");
        record.log_once(Level::Warn, notice);
    } else if let Some(drift) = Drift::of(state, &systems) {
        let (what, out) = (drift.kind.clause(), drift.out.display());
        let stays = if ctx.config.drift.heal {
            String::new()
        } else {
            format!("; {stays}")
        };
        let notice = format!("{}{what}: {out}{stays}", Drift::NOTICE);
        record.log_once(Level::Warn, notice);
    }
    record.write(&ctx.paths)
}

/// Says what was refused, once for each head, and records what is being decided on.
pub fn announce(ctx: &Context, facts: &Facts, decision: &Decision) -> Result<DeployRecord> {
    DecisionCache::of(facts, decision, &ctx.config).write(&ctx.paths)?;
    let mut record = begin(ctx, facts.remotes.clone())?;
    record.prebuilt.clone_from(&facts.prebuilt);
    let refused_before = std::mem::take(&mut record.refused);
    for candidate in &decision.candidates {
        let refusal = candidate.refusal().filter(Refusal::is_notable);
        let Some((refusal, commit)) = refusal.zip(candidate.head.commit.as_ref()) else {
            // What is ordinary only shows in the status.
            continue;
        };
        let Candidate { remote, head, .. } = candidate;
        let name = format!("{} ({remote}/{})", commit.short(), head.branch.name);
        if !refused_before.contains(&name) {
            log::warn!("Refused {name}: {refusal}");
            if let Some(cure) = refusal.cure() {
                log::warn!("{cure}");
            }
        }
        record.refused.push(name);
    }
    record.write(&ctx.paths)?;
    Ok(record)
}

/// Says why what was selected is not deployed now, and the commands that help, once. A deploy that has
/// `failed` because of that says it each time.
pub fn hindrance(decision: &Decision, record: &mut DeployRecord, failed: bool) {
    let Some((target, why)) = decision.selected.as_ref().zip(decision.hindrance()) else {
        return;
    };
    let text = format!("{target} is not deployed: {why}");
    // A gate may give another reason each time that it is asked.
    let subject = match &decision.action {
        Action::AwaitGate(closed) => format!("{target} at the gate {}", closed.gate),
        _ => text.clone(),
    };
    if failed {
        record.notices.retain(|it| *it != subject);
    }
    let is_news = record.log_once_about(subject, Level::Info, &text);
    if is_news {
        for cure in Cure::in_order(decision.action.cures()) {
            log::info!("{cure}");
        }
    }
}

/// Says what is wrong with the clock and with the branches, once.
pub fn doubts(state: &State, facts: &Facts, decision: &Decision, record: &mut DeployRecord) {
    if let Some((id, began)) = state.clock_doubt(facts.now) {
        let began = text::at(began);
        record.log_once(Level::Warn, format!("The clock of this machine is or was wrong: attempt {id} was under way at {began}, which is in the future"));
    }
    if let Some(missing) = decision.missing_mains() {
        record.log_once(Level::Warn, format!("Nothing to deploy: {missing}"));
    }
}
