//! What `comin history` shows.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::deploy::context::Context;
use crate::model::{Attempt, State};
use crate::nix::closure_diff::ClosureDiff;
use crate::report::attempt_details::{there_are, whole_log, Details};
use crate::report::history::HistoryView;
use crate::state::{deploy_record::DeployRecord, store};
use crate::sys::progress;

/// Reads what the state remembers.
pub fn history(machine: &Context) -> Result<HistoryView> {
    let state = store::read(&machine.paths)?;
    let at_work = DeployRecord::is_any_running(&machine.paths)?;
    Ok(HistoryView::new(&state, machine.config.retry, at_work))
}

/// Becomes the command that shows the whole log of the attempt with this number.
pub fn show_log(machine: &Context, number: u64) -> Result<Infallible> {
    let state = store::read(&machine.paths)?;
    let command = whole_log(attempt(&state, number)?).swap_remove(0);
    let (program, arguments) = command.split_first().context("there is no command")?;
    let failure = Command::new(program).args(arguments).exec();
    Err(failure).with_context(|| format!("Failed to start {}", command.join(" ")))
}

fn attempt(state: &State, number: u64) -> Result<&Attempt> {
    let mut attempts = state.attempts.iter();
    let attempt = attempts.find(|attempt| attempt.id == number);
    attempt.with_context(|| format!("There is no attempt {number}: {}", there_are(state)))
}

/// Looks up the attempt with this number, and compares its system with the one before.
pub fn details(machine: &Context, number: u64) -> Result<Details> {
    let state = store::read(&machine.paths)?;
    let attempt = attempt(&state, number)?;
    let systems = attempt.before.system.as_ref().zip(attempt.out.as_ref());
    let compared = systems.map(|(before, after)| {
        let compare = || ClosureDiff::between(before, after);
        progress::during("Comparing the systems", compare)
    });
    let at_work = DeployRecord::is_any_running(&machine.paths)?;
    let retry = machine.config.retry;
    Ok(Details::new(&state, attempt, retry, compared, at_work))
}
