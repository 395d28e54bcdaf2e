//! The metrics, in the text format of Prometheus, version 0.0.4. Those that the Go comin has are named as there.
//!
//! All of it is what earlier runs have recorded: nothing is decided for a scrape, so no history is
//! walked and no signature verified.

use std::fmt::{self, Display};

use jiff::Timestamp;

use super::exposition::{seconds, Text};
use super::remote::{BranchStatus, RemoteStatus};
use super::{status::Status, target::TargetView, verdict::states};
use crate::model::{drift::DriftKind, Action, Attempt, Outcome, RemoteName, Stage, State};
use crate::state::fetch_record::FetchRecord;

/// What is known of a machine without walking any history.
pub struct Metrics {
    /// By what the latest deploy decided.
    pub status: Status,
    /// Whether nothing has changed since that was decided.
    pub is_decided: bool,
    /// When it was.
    pub decided_at: Option<Timestamp>,
    /// When the commit that runs was made.
    pub committed_at: Option<Timestamp>,
    pub state: State,
    pub remotes: Vec<(RemoteName, Option<FetchRecord>)>,
}

impl Metrics {
    /// Whether the latest attempt that came as far as this failed there.
    fn failed_at(&self, stage: Stage, came_so_far: fn(&Attempt) -> bool) -> bool {
        let attempts = self.state.attempts.iter();
        let latest = attempts
            .rev()
            .filter(|attempt| came_so_far(attempt))
            .find_map(Attempt::ended);
        match latest {
            Some((_, Outcome::Failed { stage: failed, .. })) => *failed == stage,
            Some(_) | None => false,
        }
    }

    /// The word for how the machine is. A commit that no deploy has looked at yet is due.
    fn state(&self) -> &str {
        let status = &self.status;
        let is_idle = status.host.in_progress.is_none() && status.suspension.is_none();
        let would_deploy = is_idle && status.is_any_reached() && !status.is_deploy_stopped();
        if would_deploy && !self.is_decided {
            "due"
        } else {
            &status.state
        }
    }

    fn about_comin(&self, text: &mut Text) {
        let host = &self.status.host;
        text.gauge("comin_build_info", "The version of comin.")
            .of(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
        let help = "The configuration that is this machine's.";
        text.gauge("comin_host_info", help)
            .of(&[("hostname", &self.status.hostname)], 1);
        let help = "How the machine is: 1 for the state of comin status --json, 0 for the others.";
        let mut metric = text.gauge("comin_state", help);
        for name in states() {
            metric.of(&[("state", &name)], u8::from(name == self.state()));
        }
        let help = "What comin is doing: 1 for the phase of comin status --json.";
        text.gauge("comin_phase", help)
            .of(&[("phase", &host.phase)], 1);
        let whether = "Whether the host is suspended";
        text.flag("comin_is_suspended", whether, host.seen.suspended);
        text.time(
            "comin_suspended_until_timestamp_seconds",
            "When the suspension ends by itself; absent if it does not.",
            self.status.suspension.as_ref().and_then(|it| it.until),
        );
        let whether = "Whether the host needs to reboot";
        text.flag("comin_need_to_reboot", whether, host.need_to_reboot);
        let whether = "Whether the first boot of a system has yet to be checked";
        text.flag("comin_boot_check_due", whether, host.seen.boot_check_due);
    }

    fn about_running(&self, text: &mut Text) {
        let running = self.status.host.running.as_ref();
        text.target(
            "comin_running_info",
            "The commit of the running system; absent if comin did not activate it.",
            running.and_then(|running| running.target.as_ref()),
        );
        text.time(
            "comin_running_commit_timestamp_seconds",
            "When the commit of the running system was made.",
            self.committed_at,
        );
        let mut drift = text.gauge(
            "comin_drift",
            "Whether something else was activated, was booted or boots next than comin last activated (1) or not (0).",
        );
        for kind in DriftKind::ALL {
            let is_it = self.status.host.seen.drift.as_ref().map(|it| it.kind) == Some(kind);
            drift.of(&[("kind", &kind)], u8::from(is_it));
        }
    }

    fn about_healing(&self, text: &mut Text) {
        let healing = self.status.host.seen.healing.as_ref();
        text.time(
            "comin_drift_heal_timestamp_seconds",
            "When comin activates again what it last activated; absent if there is no drift, or comin does not heal it.",
            healing.and_then(|healing| healing.at),
        );
        let heals = self.state.attempts.iter().rev().filter(|it| it.heals());
        text.time(
            "comin_last_heal_timestamp_seconds",
            "When comin last healed a drift, successfully or not; absent before that.",
            heals.filter_map(Attempt::ended).map(|(at, _)| at).next(),
        );
    }

    fn about_heads(&self, text: &mut Text) {
        let heads = || {
            let remotes = self.status.remotes.iter();
            remotes.flat_map(|remote| remote.branches().map(move |branch| (remote, branch)))
        };
        let mut info = text.gauge("comin_head_info", "The head of each followed branch.");
        for (remote, branch) in heads() {
            if let Some(commit) = &branch.commit {
                info.of(&branch_labels(remote, branch, ("commit_id", commit)), 1);
            }
        }
        let help = "Why a branch is refused: 1 for the reason of comin status --json.";
        let mut refused = text.gauge("comin_head_refused", help);
        for (remote, branch) in heads() {
            if let Some(reason) = &branch.reason {
                refused.of(&branch_labels(remote, branch, ("reason", reason)), 1);
            }
        }
        text.time(
            "comin_last_decision_timestamp_seconds",
            "When a deploy last decided what is to be deployed.",
            self.decided_at,
        );
        let action = &self.status.action;
        let is_retry = matches!(action, Action::Retry(_, _));
        text.time(
            "comin_next_retry_timestamp_seconds",
            "When a commit that failed is tried again.",
            action.again().filter(|_| is_retry),
        );
    }

    fn about_fetches(&self, text: &mut Text) {
        let known = || {
            let known = self.remotes.iter();
            known.filter_map(|(name, record)| Some((name, record.as_ref()?)))
        };
        // The Go comin's name, and one as Prometheus wants it.
        for name in ["comin_fetch_count", "comin_fetches_total"] {
            let mut counts = text.counter(
                name,
                "Number of fetches since the machine booted, by status: succeeded or failed.",
            );
            for (remote, record) in &self.remotes {
                let record = record.as_ref();
                let (successes, failures) = record.map_or((0, 0), |it| (it.successes, it.failures));
                for (status, count) in [("succeeded", successes), ("failed", failures)] {
                    counts.of(&[("remote_name", remote), ("status", &status)], count);
                }
            }
        }
        let help = "Whether the last fetch of a remote failed (1) or not (0).";
        let mut failed = text.gauge("comin_last_fetch_failed", help);
        for (name, record) in known() {
            let value = u8::from(record.error.is_some());
            failed.of(&[("remote_name", name)], value);
        }
        let mut attempted = text.gauge(
            "comin_last_fetch_timestamp_seconds",
            "When a remote was last fetched, successfully or not; absent before the first fetch since the boot.",
        );
        for (name, record) in known() {
            attempted.of(&[("remote_name", name)], seconds(record.attempted_at));
        }
        let mut succeeded = text.gauge(
            "comin_last_fetch_success_timestamp_seconds",
            "When a remote was last fetched successfully; absent before that since the boot.",
        );
        for (name, record) in known() {
            if let Some(at) = record.succeeded_at {
                succeeded.of(&[("remote_name", name)], seconds(at));
            }
        }
    }

    fn about_deployments(&self, text: &mut Text) {
        let trouble = self.state.latest_ended().and_then(Attempt::trouble);
        text.flag(
            "comin_last_eval_failed",
            "Whether the last evaluation failed",
            self.failed_at(Stage::Evaluating, |_| true),
        );
        text.flag(
            "comin_last_build_failed",
            "Whether the last build failed",
            self.failed_at(Stage::Building, |attempt| attempt.out.is_some()),
        );
        text.flag(
            "comin_last_deployment_failed",
            "Whether the last deployment, evaluation and build included, failed",
            trouble.is_some(),
        );

        let last = self.status.host.deployed.as_ref();
        if let Some((last, end)) = last.and_then(|last| Some((last, last.ended_at?))) {
            let help = "The last deployment, with the status of comin status --json.";
            let commit = &last.target.commit;
            text.gauge("comin_deployment_info", help)
                .of(&[("commit_id", commit), ("status", &last.status)], 1);
            text.time(
                "comin_last_deployment_timestamp_seconds",
                "When the last deployment ended, successfully or not.",
                Some(end),
            );
            let help = "How long the last deployment took.";
            let duration = end.duration_since(last.started_at);
            text.gauge("comin_last_deployment_duration_seconds", help)
                .of(&[], duration.as_secs_f64());
        }
        let deployed = self.state.attempts.iter().rfind(|it| it.is_done());
        text.target(
            "comin_deployed_info",
            "The commit of the last successful deployment.",
            deployed.map(TargetView::of).as_ref(),
        );
        text.time(
            "comin_last_deployment_success_timestamp_seconds",
            "When the last successful deployment ended.",
            deployed.and_then(Attempt::ended).map(|(at, _)| at),
        );
        let Some(selected) = &self.status.selected else {
            return;
        };
        let action = &self.status.action;
        text.target(
            "comin_selected_info",
            "The commit that the latest deploy selected; absent before the first deploy since the boot.",
            Some(selected),
        );
        text.flag(
            "comin_is_given_up",
            "Whether the selected commit is held until someone pushes or uses comin retry",
            matches!(action, Action::Quarantined(_) | Action::GivenUp(_)),
        );
        text.flag(
            "comin_waits_at_gate",
            "Whether the selected commit waits at a gate, for a deploy window or for free space",
            matches!(action, Action::AwaitGate(_)),
        );
        text.flag(
            "comin_is_held_by_hand",
            "Whether the selected commit is held because somebody used comin rollback",
            matches!(&self.status.action, Action::Quarantined(it) if it.by_hand),
        );
        text.flag(
            "comin_is_behind",
            "Whether the selected commit does not run, or a new commit awaits a decision",
            !self.is_decided || !self.status.runs(selected),
        );
    }
}

/// Which branch a sample is about, and what it says of the branch.
fn branch_labels<'a>(
    remote: &'a RemoteStatus,
    branch: &'a BranchStatus,
    what: (&'static str, &'a dyn Display),
) -> [(&'static str, &'a dyn Display); 3] {
    [
        ("remote_name", &remote.name),
        ("branch", &branch.name),
        what,
    ]
}

impl Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::default();
        self.about_comin(&mut text);
        self.about_running(&mut text);
        self.about_healing(&mut text);
        self.about_heads(&mut text);
        self.about_fetches(&mut text);
        self.about_deployments(&mut text);
        f.write_str(&text.0)
    }
}
