//! The story: fetch, then observe → decide → evaluate → build → activate → check → record.

pub mod accept;
pub mod accepted_main;
pub mod activate;
pub mod announce;
pub mod boot_check;
pub mod build;
pub mod commits;
pub mod confirm;
pub mod context;
pub mod deployment;
pub mod evaluation;
pub mod fetch;
pub mod finish;
pub mod gates;
pub mod healing;
pub mod health;
pub mod keep;
pub mod lookup;
pub mod maintenance;
pub mod manual_rollback;
pub mod observe;
pub mod operator;
pub mod order;
pub mod post_deployment;
pub mod prebuilt;
pub mod preemption;
pub mod preview;
pub mod previous_system;
pub mod reactivation;
pub mod reboot;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod rollback;
pub mod rollback_timeout;
pub mod steps;

use std::path::Path;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use log::Level;

use crate::config::Remote;
use crate::deploy::context::{Completion, Context};
use crate::deploy::{commits::Commits, healing::Healed, observe::Snapshot, reboot::NextStep};
use crate::git::mirror::Mirror;
use crate::model::{select::decide, Decision, Delay, Facts};
use crate::state::{deploy_record::DeployRecord, requests, store::Store};

/// The wait before a deploy looks again at what may have changed by then: an error, or something that only time changes.
const RECHECK: SignedDuration = SignedDuration::from_mins(1);

/// Fetches, then deploys: both halves in one process.
pub fn run(ctx: &Context, remotes: &[&Remote]) -> Result<Completion> {
    let fetched = fetch::fetch_all(ctx, remotes)?;
    let deployed = deploy(ctx)?;
    Ok(fetched.and(deployed))
}

/// Deploys what has been fetched.
///
/// # Errors
/// The state cannot be read or written. A deployment that fails is no error: it is recorded.
pub fn deploy(ctx: &Context) -> Result<Completion> {
    deploy_until_settled(ctx).inspect_err(|_| schedule_recheck(ctx))
}

/// Schedules the next deploy after one that failed, for example because of a full disk, a broken state or a missing key.
/// Otherwise each poll would request a deploy.
pub fn schedule_recheck(ctx: &Context) {
    let schedule = || -> Result<()> {
        let before = DeployRecord::read(&ctx.paths)?;
        // Only the deploy that is at work writes its record.
        if before.is_some_and(|it| it.is_of_another()) {
            return Ok(());
        }
        let record = announce::begin(ctx, observe::remotes(ctx))?;
        record.finish(Some(recheck()), &ctx.paths).write(&ctx.paths)
    };
    if let Err(error) = schedule() {
        log::debug!("Failed to schedule the next deploy: {error:#}");
    }
}

/// Deploys until there is nothing left to do: a deployment moves the accepted main, and with it
/// what comes next.
fn deploy_until_settled(ctx: &Context) -> Result<Completion> {
    let (mut store, record, recovered) = recovery::take_over(ctx)?;
    requests::take_deploy_request(&ctx.paths)?;
    announce::drift(ctx, store.state(), record)?;
    // How the latest attempt ended: a success makes up for a failure before it.
    let mut latest = boot_check::judge(ctx, &mut store)?.unwrap_or(recovered);
    loop {
        operator::apply_requests(ctx, &mut store)?;
        // The heads are read first: if the mirror is damaged, a new one without any heads takes its place.
        let snapshot = Snapshot::take(ctx)?;
        let mirror = Mirror::open_or_create(&ctx.paths, &ctx.config.remotes)?;
        mirror.forget_all_but(&ctx.config.remotes)?;
        let notice = accepted_main::reconcile(&mut store, &mirror, &ctx.paths)?;
        let mut facts = snapshot.facts(&ctx.config, store.state());
        let decision = decide(&facts, &Commits::of(ctx, Ok(&mirror)));
        let decision = lookup::look(ctx, &mirror, &mut facts, decision);
        store.forget_quarantine(&decision.candidates)?;
        let mut record = announce::announce(ctx, &facts, &decision)?;
        if let Some(notice) = notice {
            record.log_once(Level::Warn, notice);
        }
        confirm::cancel_superseded(ctx, &mut store, &facts, &decision)?;
        let Some(target) = decision.to_deploy() else {
            let has_failed = |target| store.state().has_failed(target);
            let failed = decision.selected.as_ref().is_some_and(has_failed);
            if latest == Completion::Success {
                announce::hindrance(&decision, &mut record, failed);
            }
            announce::doubts(store.state(), &facts, &decision, &mut record);
            let healing = match healing::heal(ctx, &mut store, &facts, &decision, &mut record)? {
                Healed::Attempted(ended) => {
                    latest = ended;
                    continue;
                }
                Healed::NotNow(again) => again,
            };
            schedule_or_reboot(ctx, &mut store, &facts, &decision, healing, record)?;
            maintenance::tidy(ctx, &mirror);
            return Ok(latest.and(Completion::failed_if(failed)));
        };
        let prebuilt = facts.prebuilt.as_ref().and_then(|it| it.system_of(target));
        let (prebuilt, target) = (prebuilt.map(Path::to_path_buf), target.clone());
        latest = steps::run(ctx, &mut store, mirror, target, prebuilt)?;
    }
}

/// Records when the next deploy is due although nobody pushes, and reboots if that is due now.
fn schedule_or_reboot(
    ctx: &Context,
    store: &mut Store,
    facts: &Facts,
    decision: &Decision,
    healing: Option<Delay>,
    mut record: DeployRecord,
) -> Result<()> {
    let reboot = reboot::plan_reboot(ctx, store, facts.suspended.as_ref(), &mut record)?;
    let again = decision.action.again();
    let waits = [
        again.map(|until| Delay::until(facts.now, until)),
        decision
            .may_change(ctx.config.prebuilt.as_ref())
            .then(recheck),
        healing,
        reboot.wait(),
    ];
    let first = waits.into_iter().flatten().min_by_key(|wait| wait.until);
    record.finish(first, &ctx.paths).write(&ctx.paths)?;
    match reboot {
        NextStep::Due(reboot) => reboot::reboot(ctx, store, reboot),
        NextStep::None | NextStep::Later(_) => Ok(()),
    }
}

fn recheck() -> Delay {
    Delay::new(Timestamp::now(), RECHECK)
}
