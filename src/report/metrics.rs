//! The metrics, in the text format of Prometheus, version 0.0.4. Those that the Go comin has are named as there.
//!
//! All of it is what earlier runs have recorded: nothing is decided for a scrape, so no history is
//! walked and no signature verified.

use std::fmt::{self, Display, Write};

use jiff::Timestamp;

use crate::model::attempt::Attempt;
use crate::model::decision::Action;
use crate::model::drift::Kind;
use crate::model::names::RemoteName;
use crate::model::state::State;
use crate::model::target::Target;
use crate::model::{outcome::Outcome, stage::Stage};
use crate::report::headline::STATES;
use crate::report::remote::RemoteStatus;
use crate::report::status::Status;
use crate::state::fetch_record::FetchRecord;
use crate::sys::text::printable;

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
    /// The attempt whose system the machine has got.
    fn deployed(&self) -> Option<&Attempt> {
        self.state
            .attempts
            .iter()
            .rfind(|attempt| attempt.is_done())
    }

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
        let Status {
            state,
            host,
            suspension,
            remotes,
            ..
        } = &self.status;
        let is_idle = host.in_progress.is_none() && suspension.is_none();
        let is_due = !self.is_decided && is_idle && remotes.iter().any(RemoteStatus::is_reached);
        if is_due {
            "due"
        } else {
            state
        }
    }

    /// Whether what was to be deployed is held because the operator rolled back.
    fn is_held_by_hand(&self) -> bool {
        let latest = self.state.latest().map_or(0, |latest| latest.id);
        let rollback = self.state.rollbacks.last();
        matches!(self.status.action, Action::Quarantined(_))
            && rollback.is_some_and(|rollback| rollback.after >= latest)
    }

    fn about_comin(&self, text: &mut Text) {
        let host = &self.status.host;
        text.gauge("comin_build_info", "Build info for comin.")
            .of(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
        text.gauge(
            "comin_host_info",
            "The configuration that is this machine's.",
        )
        .of(&[("hostname", &self.status.hostname)], 1);
        let mut states = text.gauge(
            "comin_state",
            "How the machine is: 1 for the word of comin status --oneline, 0 for the others.",
        );
        for state in STATES {
            states.of(&[("state", &state)], state == self.state());
        }
        text.gauge(
            "comin_phase",
            "What comin is doing: 1 for the phase that it is in.",
        )
        .of(&[("phase", &host.phase)], 1);
        text.gauge(
            "comin_is_suspended",
            "Whether the host is suspended (1) or not (0).",
        )
        .value(host.suspended);
        if let Some(until) = self.status.suspension.as_ref().and_then(|it| it.until) {
            text.gauge(
                "comin_suspended_until_timestamp_seconds",
                "When the suspension ends by itself.",
            )
            .value(Seconds(until));
        }
        text.gauge(
            "comin_need_to_reboot",
            "Whether the host needs to reboot (1) or not (0).",
        )
        .value(host.need_to_reboot);
    }

    fn about_running(&self, text: &mut Text) {
        if let Some(running) = &self.status.running {
            if let (Some(commit), Some(remote), Some(branch), Some(operation)) = (
                &running.commit,
                &running.remote,
                &running.branch,
                &running.operation,
            ) {
                text.gauge("comin_running_info", "The commit of the running system.")
                    .of(
                        &[
                            ("commit_id", commit),
                            ("remote_name", remote),
                            ("branch", branch),
                            ("operation", operation),
                        ],
                        1,
                    );
            }
        }
        if let Some(at) = self.committed_at {
            text.gauge(
                "comin_running_commit_timestamp_seconds",
                "When the commit of the running system was made.",
            )
            .value(Seconds(at));
        }
        let mut drift = text.gauge(
            "comin_drift",
            "Whether something else was activated, was booted or boots next than comin last activated (1) or not (0).",
        );
        for kind in Kind::ALL {
            let is_it = self.status.host.drift.as_ref().map(|it| it.kind) == Some(kind);
            drift.of(&[("kind", &kind)], is_it);
        }
    }

    fn about_heads(&self, text: &mut Text) {
        let heads = || {
            let remotes = self.status.remotes.iter();
            remotes.flat_map(|remote| remote.branches().map(move |branch| (&remote.name, branch)))
        };
        let mut info = text.gauge("comin_head_info", "The head of a branch that is followed.");
        for (remote, branch) in heads() {
            if let Some(commit) = &branch.commit {
                info.of(
                    &[
                        ("remote_name", remote),
                        ("branch", &branch.name),
                        ("commit_id", commit),
                    ],
                    1,
                );
            }
        }
        let mut refused = text.gauge("comin_head_refused", "Why a branch is not deployed.");
        for (remote, branch) in heads() {
            if let Some(reason) = branch.reason {
                refused.of(
                    &[
                        ("remote_name", remote),
                        ("branch", &branch.name),
                        ("reason", &reason),
                    ],
                    1,
                );
            }
        }
        if let Some(at) = self.decided_at {
            text.gauge(
                "comin_last_decision_timestamp_seconds",
                "When a deploy last decided what is to be deployed.",
            )
            .value(Seconds(at));
        }
        if let (Action::Retry(_, _), Some(at)) = (&self.status.action, self.status.action.again()) {
            text.gauge(
                "comin_next_retry_timestamp_seconds",
                "When what came to nothing is tried again.",
            )
            .value(Seconds(at));
        }
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
                "Number of fetches per status since the machine booted.",
            );
            for (remote, record) in &self.remotes {
                let (successes, failures) = match record {
                    Some(record) => (record.successes, record.failures),
                    None => (0, 0),
                };
                for (status, count) in [("succeeded", successes), ("failed", failures)] {
                    counts.of(&[("remote_name", remote), ("status", &status)], count);
                }
            }
        }
        let mut failed = text.gauge(
            "comin_last_fetch_failed",
            "Whether the last fetch of a remote failed (1) or not (0).",
        );
        for (name, record) in known() {
            failed.of(&[("remote_name", name)], record.error.is_some());
        }
        let mut attempted = text.gauge(
            "comin_last_fetch_timestamp_seconds",
            "When a remote was last fetched, successfully or not.",
        );
        for (name, record) in known() {
            attempted.of(&[("remote_name", name)], Seconds(record.attempted_at));
        }
        let mut succeeded = text.gauge(
            "comin_last_fetch_success_timestamp_seconds",
            "When a remote was last fetched successfully.",
        );
        for (name, record) in known() {
            if let Some(at) = record.succeeded_at {
                succeeded.of(&[("remote_name", name)], Seconds(at));
            }
        }
    }

    fn about_deployments(&self, text: &mut Text) {
        let ended = self.state.latest_ended().and_then(Attempt::ended);
        let failed = ended.is_some_and(|(_, outcome)| {
            !matches!(outcome, Outcome::Done { .. } | Outcome::Skipped { .. })
        });
        text.gauge(
            "comin_last_eval_failed",
            "Whether the last evaluation failed (1) or not (0).",
        )
        .value(self.failed_at(Stage::Evaluating, |_| true));
        text.gauge(
            "comin_last_build_failed",
            "Whether the last build failed (1) or not (0).",
        )
        .value(self.failed_at(Stage::Building, |attempt| attempt.out.is_some()));
        text.gauge(
            "comin_last_deployment_failed",
            "Whether the last deployment, evaluation and build included, failed (1) or not (0).",
        )
        .value(failed);

        let last = self.status.host.deployed.as_ref();
        if let Some((last, (begin, end))) = last.and_then(|last| Some((last, last.times()?))) {
            let (commit, status) = last.result();
            text.gauge("comin_deployment_info", "Info of the last deployment.")
                .of(&[("commit_id", commit), ("status", &status)], 1);
            text.gauge(
                "comin_last_deployment_timestamp_seconds",
                "When the last deployment ended, successfully or not.",
            )
            .value(Seconds(end));
            text.gauge(
                "comin_last_deployment_duration_seconds",
                "How long the last deployment took.",
            )
            .value(end.duration_since(begin).as_secs_f64());
        }
        let deployed = self.deployed();
        if let Some(attempt) = deployed {
            text.gauge(
                "comin_deployed_info",
                "The commit of the last successful deployment.",
            )
            .target(&attempt.target);
            if let Some((at, _)) = attempt.ended() {
                text.gauge(
                    "comin_last_deployment_success_timestamp_seconds",
                    "When the last successful deployment ended.",
                )
                .value(Seconds(at));
            }
        }
        if let Some(selected) = &self.status.selected {
            let labels: [(&str, &dyn Display); 4] = [
                ("commit_id", &selected.commit),
                ("remote_name", &selected.remote),
                ("branch", &selected.branch),
                ("operation", &selected.operation),
            ];
            text.gauge("comin_selected_info", "The commit that is to be deployed.")
                .of(&labels, 1);
            text.gauge(
                "comin_is_given_up",
                "Whether that is not tried again until someone pushes or orders it (1) or not (0).",
            )
            .value(matches!(
                self.status.action,
                Action::Quarantined(_) | Action::GivenUp(_)
            ));
            text.gauge(
                "comin_waits_at_gate",
                "Whether that waits at a gate, for a deploy window or for free space (1) or not (0).",
            )
            .value(matches!(self.status.action, Action::AwaitGate(_)));
            text.gauge(
                "comin_is_held_by_hand",
                "Whether that is because somebody used comin rollback (1) or not (0).",
            )
            .value(self.is_held_by_hand());
            text.gauge(
                "comin_is_behind",
                "Whether another commit is to be deployed than the one that runs (1) or not (0).",
            )
            .value(!self.is_decided || !self.status.runs(selected));
        }
    }
}

impl Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text(String::new());
        self.about_comin(&mut text);
        self.about_running(&mut text);
        self.about_heads(&mut text);
        self.about_fetches(&mut text);
        self.about_deployments(&mut text);
        f.write_str(&text.0)
    }
}

/// A text in Prometheus' format.
struct Text(String);

impl Text {
    fn gauge<'a>(&'a mut self, name: &'static str, help: &str) -> Metric<'a> {
        self.metric(name, "gauge", help)
    }

    fn counter<'a>(&'a mut self, name: &'static str, help: &str) -> Metric<'a> {
        self.metric(name, "counter", help)
    }

    fn metric<'a>(&'a mut self, name: &'static str, kind: &str, help: &str) -> Metric<'a> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric {
            name,
            text: &mut self.0,
        }
    }
}

/// A metric whose samples are being written.
struct Metric<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Metric<'_> {
    /// Its only sample.
    fn value(&mut self, value: impl Into<Value>) {
        self.of(&[], value);
    }

    /// Its only sample, which says what is or was to be deployed.
    fn target(&mut self, target: &Target) {
        self.of(
            &[
                ("commit_id", &target.commit),
                ("remote_name", &target.remote),
                ("branch", &target.branch),
                ("operation", &target.operation),
            ],
            1,
        );
    }

    /// One of its samples.
    fn of(&mut self, labels: &[(&str, &dyn Display)], value: impl Into<Value>) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(&value.to_string())))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let Value(value) = value.into();
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// A label's value: what a state file holds may have been chosen by somebody else.
fn escaped(value: &str) -> String {
    printable(value)
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

/// A sample's value, as it is written.
struct Value(String);

/// A time, since 1970.
struct Seconds(Timestamp);

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(u8::from(value).to_string())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self(value.to_string())
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self(value.to_string())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(value.to_string())
    }
}

impl From<Seconds> for Value {
    fn from(Seconds(at): Seconds) -> Self {
        Self(format!("{}.{:03}", at.as_second(), at.subsec_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stays_one_whatever_is_in_it() {
        let mut text = Text(String::new());
        let hostile = "a\\\"} 1\nb\u{1b}[2J\u{202e}é";
        text.gauge("m", "Help.").of(&[("l", &hostile)], 1);
        let last = text.0.lines().last().unwrap();
        assert_eq!(
            last, "m{l=\"a\\\\\\\"} 1 b\u{fffd}[2J\u{fffd}é\"} 1",
            "{}",
            text.0
        );
        assert_eq!(text.0.lines().count(), 3);
    }

    #[test]
    fn a_time_is_written_in_seconds() {
        let at: Timestamp = "2026-01-02T03:04:05.6789Z".parse().unwrap();
        assert_eq!(Value::from(Seconds(at)).0, "1767323045.678");
    }
}
