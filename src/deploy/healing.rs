//! The healing of a drift: what comin last activated is activated again.

use anyhow::Result;
use jiff::Timestamp;
use log::Level;

use crate::deploy::context::{Completion, Context};
use crate::deploy::{gates, observe, reactivation};
use crate::model::healing::{self, decide};
use crate::model::{Action, Before, Decision, Delay, Drift, Facts, Healing, Reactivation, State};
use crate::state::{deploy_record::DeployRecord, requests, store::Store};
use crate::sys::text;
use crate::system::switch;

/// What became of a drift.
pub enum Healed {
    /// A system was activated again, and the attempt ended so.
    Attempted(Completion),
    /// There is no drift, or its healing is not due. After the wait, a deploy looks again.
    NotNow(Option<Delay>),
}

/// Heals a drift if that is due. Else records the drift, says once what comes of it, and returns when to look again.
pub fn heal(
    ctx: &Context,
    store: &mut Store,
    facts: &Facts,
    decision: &Decision,
    record: &mut DeployRecord,
) -> Result<Healed> {
    let state = store.state().clone();
    let drift = observe::drift(ctx, &state)?;
    let seen = record.see(&ctx.config, &ctx.paths, drift.as_ref(), facts.now)?;
    let Some(drift) = drift.filter(|_| ctx.config.drift.heal) else {
        return Ok(Healed::NotNow(None));
    };
    let is_switching = switch::is_busy(&ctx.paths)?;
    let healing = of(
        ctx,
        &state,
        &drift,
        seen,
        is_switching,
        facts,
        &decision.action,
    );
    let mut tell = |subject: &str, text: &str| {
        let subject = format!("{}{subject}", Drift::NOTICE);
        record.log_once_about(subject, Level::Info, text);
    };
    Ok(Healed::NotNow(match healing {
        Some(Healing::At(wait, attempt, operation)) if wait.has_elapsed(facts.now) => {
            let target = &attempt.target;
            let Some(closed) = gates::closed(ctx, &state, attempt, Before::Deploy)? else {
                let (what, out) = (drift.kind.clause(), drift.out.display());
                log::warn!("Activating {target} again by {operation}: {what}: {out}");
                let kept_by = None;
                let reactivation = Reactivation { operation, kept_by };
                // Meanwhile, somebody may have suspended comin, or switched by hand.
                let is_wanted = || {
                    let is_suspended = requests::is_suspended(&ctx.paths)?;
                    let is_same = observe::drift(ctx, &state)?.as_ref() == Some(&drift);
                    Ok(!is_suspended && is_same)
                };
                let healed = reactivation::run(ctx, store, attempt, reactivation, is_wanted)?;
                return Ok(Healed::Attempted(healed));
            };
            let text = format!("{target} is not activated again yet: {closed}");
            tell(closed.gate.as_str(), &text);
            closed.again
        }
        Some(Healing::At(wait, attempt, operation)) => {
            let (target, at) = (&attempt.target, text::at(wait.until));
            let text = format!("{target} is activated again by {operation} at {at}");
            tell("it is healed", &text);
            Some(wait)
        }
        Some(Healing::Not(why)) => {
            tell(why, &format!("The drift is not healed: {why}"));
            None
        }
        None => None,
    }))
}

/// What is done about a drift that was first seen then; `None` if the owner wants none to be healed.
pub fn of<'a>(
    ctx: &Context,
    state: &'a State,
    drift: &'a Drift,
    seen: Timestamp,
    is_switching: bool,
    facts: &Facts,
    action: &Action,
) -> Option<Healing<'a>> {
    decide(&healing::HealingFacts {
        policy: ctx.config.drift,
        state,
        drift,
        seen,
        is_suspended: facts.suspended.is_some(),
        is_settled: *action == Action::Nothing,
        is_switching,
        backoff: ctx.config.retry,
        now: facts.now,
    })
}
