//! What `comin history` shows.

use anyhow::{bail, Result};

use crate::deploy::context::Context;
use crate::nix::closure_diff;
use crate::report::attempt_details::{there_are, Details};
use crate::report::{closure::Difference, history::History};
use crate::state::{deploy_record::DeployRecord, store};
use crate::sys::progress;

/// Reads what the state remembers.
pub fn history(machine: &Context) -> Result<History> {
    let state = store::read(&machine.paths)?;
    let at_work = DeployRecord::is_one_at_work(&machine.paths)?;
    Ok(History::told(&state, machine.config.retry, at_work))
}

/// Looks up the attempt with this number, and compares its system with the one before.
pub fn details(machine: &Context, number: u64) -> Result<Details> {
    let state = store::read(&machine.paths)?;
    let mut attempts = state.attempts.iter();
    let Some(attempt) = attempts.find(|attempt| attempt.id == number) else {
        bail!("There is no attempt {number}: {}", there_are(&state));
    };
    let systems = attempt.before.system.as_ref().zip(attempt.out.as_ref());
    let compared = systems.map(|(before, after)| {
        let compare = || closure_diff::compare(before, after);
        Difference::of(progress::during("Comparing the systems", compare))
    });
    let at_work = DeployRecord::is_one_at_work(&machine.paths)?;
    let details = Details::told(&state, attempt, machine.config.retry, compared);
    Ok(details.knowing(at_work))
}
