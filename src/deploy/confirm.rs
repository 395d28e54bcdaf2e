//! What a person confirms before it is built or deployed: asked for by the configuration, given by `comin confirm`
//! or by time, taken up by the next deploy.

use anyhow::{bail, ensure, Result};
use clap::Args;

use crate::deploy::{
    context::Context, deployment::Deployment, finish, gates, observe, order::order_deploy, record,
};
use crate::git::mirror::Mirror;
use crate::model::{Attempt, ConfirmStep, Cure, Decision, Facts, Operation, Outcome, Stage};
use crate::state::requests::Confirmation;
use crate::state::store::{self, Store};
use crate::sys::json;

/// Confirms what waits for it, if that is what is expected, and asks for a deploy.
///
/// # Errors
/// Nothing waits, or something else; another target has been selected meanwhile; the order cannot be
/// written.
pub fn confirm(ctx: &Context, expected: &ConfirmRequest) -> Result<()> {
    if expected.past_gates {
        return gates::order_past(ctx, expected.commit.as_deref());
    }
    let state = store::read(&ctx.paths)?;
    let Some((waiting, step)) = state.awaiting() else {
        bail!("Nothing waits for a confirmation: comin status says what comin does");
    };
    let target = &waiting.target;
    ensure!(
        waiting.stage() != Stage::WaitingAtGate || ctx.config.asks(waiting, step),
        "{target} waits at a gate, and not for a confirmation: comin status says at which one\n{}",
        Cure::past_gates()
    );
    if let Some(asked) = expected.step.filter(|asked| *asked != step) {
        bail!(
            "{target} does not wait to be {}, but to be {}: comin confirm {step}",
            asked.participle(),
            step.participle()
        );
    }
    if let Some(commit) = &expected.commit {
        ensure!(
            target.commit.is_meant_by(commit),
            "{target} waits, not {commit:?}; comin status shows its id"
        );
    }
    if let Some(operation) = expected.operation {
        ensure!(
            operation == target.operation,
            "{target} will be deployed by {}, not by {operation}",
            target.operation
        );
    }
    let mirror = Mirror::open(&ctx.paths)?;
    let (_, decision) = observe::decide_now(ctx, &state, Ok(&mirror))?;
    match &decision.selected {
        Some(selected) if selected.same_as(&target.commit, target.operation) => {}
        Some(selected) => bail!(
            "{target} is not confirmed: {selected} has been selected meanwhile, to be deployed by {}; comin plan says why",
            selected.operation
        ),
        None => bail!(
            "{target} is not confirmed: no branch qualifies any more; comin plan says why"
        ),
    }
    let order = Confirmation::of(waiting, step);
    json::write_durably(&ctx.paths.confirmation(), &order)?;
    order_deploy(
        ctx,
        &format!("{target} is confirmed, and {} next", step.participle()),
    );
    Ok(())
}

/// Takes up a confirmation. That it was given is in the state before the order is gone.
pub fn apply_confirmation(ctx: &Context, store: &mut Store) -> Result<()> {
    Confirmation::take(&ctx.paths, |order| match store.state().awaiting() {
        Some((waiting, step)) if order.is_of(waiting, step) => {
            let mut attempt = waiting.clone();
            let is_new = attempt.confirmed.insert(step);
            record::record(store, &attempt)?;
            if is_new {
                let name = &attempt.target;
                log::info!("{name} is confirmed, and {} next", step.participle());
            }
            Ok(())
        }
        Some(_) | None => {
            log::warn!(
                "The confirmation to {} {} came too late: it does not wait for that any more",
                order.step,
                order.commit.short()
            );
            Ok(())
        }
    })
}

/// Ends an attempt that waits for a confirmation where something else is to be deployed by now.
pub fn cancel_superseded(
    ctx: &Context,
    store: &mut Store,
    facts: &Facts,
    decision: &Decision,
) -> Result<()> {
    let waiting = store.state().awaiting().map(|(waiting, _)| waiting);
    match waiting
        .filter(|it| decision.supersedes(&it.target, facts))
        .cloned()
    {
        Some(waiting) => cancel_waiting(ctx, store, waiting),
        None => Ok(()),
    }
}

/// Ends an attempt that waits for a confirmation. What was given to it is void: whoever has taken its commit
/// back does not expect it to be deployed without a question when it comes again.
pub fn cancel_waiting(ctx: &Context, store: &mut Store, mut waiting: Attempt) -> Result<()> {
    waiting.confirmed.clear();
    let stage = waiting.stage();
    let deployment = Deployment::resume(ctx, store, waiting);
    finish::finish(deployment, Ok(Outcome::Preempted { stage })).map(|_| ())
}

// What an operator confirms; whatever waits where nothing is named. No doc comment: clap would say it of the command.
#[derive(Debug, Default, Args)]
pub struct ConfirmRequest {
    /// The step that you expect to wait; by default any
    pub step: Option<ConfirmStep>,
    /// The commit that you expect to wait: its id, or at least the first 7 digits; by default any
    #[arg(long, value_name = "COMMIT")]
    pub commit: Option<String>,
    /// The operation that you expect; by default any
    #[arg(long, value_name = "OPERATION")]
    pub operation: Option<Operation>,
    /// Let the selected commit pass every gate, and every window, in place of a confirmation
    #[arg(long, conflicts_with_all = ["step", "operation"])]
    pub past_gates: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operation;

    #[test]
    fn a_confirmation_is_of_one_step_of_one_attempt_of_one_commit() {
        let attempt = Attempt::for_tests(1, Operation::Switch);
        let order = Confirmation::of(&attempt, ConfirmStep::Build);
        assert!(order.is_of(&attempt, ConfirmStep::Build));
        assert!(!order.is_of(&attempt, ConfirmStep::Deploy));
        let mut of_another_state = attempt.clone();
        of_another_state.target.commit = "f".repeat(40).parse().unwrap();
        assert!(!order.is_of(&of_another_state, ConfirmStep::Build));
        let mut again = attempt.clone();
        again.id = 2;
        assert!(!order.is_of(&again, ConfirmStep::Build));
    }
}
