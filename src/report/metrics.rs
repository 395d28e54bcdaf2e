//! The metrics, in the text format of Prometheus, version 0.0.4. Those that the Go comin has are named as there.
//!
//! All of it is what earlier runs have recorded: nothing is decided for a scrape, so no history is
//! walked and no signature verified.

use std::fmt::{self, Display, Write};

use jiff::Timestamp;

use crate::model::attempt::{Attempt, Outcome, Stage};
use crate::model::names::RemoteName;
use crate::model::state::State;
use crate::model::target::Target;
use crate::report::host_state::Standing;
use crate::state::fetch_record::FetchRecord;
use crate::sys::text::printable;

/// What is known of a machine without looking at any commit.
pub struct Metrics {
    pub hostname: String,
    pub standing: Standing,
    pub state: State,
    /// By the latest deploy; `None` before the first one since the machine booted, too.
    pub selected: Option<Target>,
    /// Whether that is not tried again by itself.
    pub given_up: bool,
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

    fn about_comin(&self, text: &mut Text) {
        text.gauge("comin_build_info", "Build info for comin.")
            .of(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
        text.gauge(
            "comin_host_info",
            "The configuration that is this machine's.",
        )
        .of(&[("hostname", &self.hostname)], 1);
        text.gauge(
            "comin_phase",
            "What comin is doing: 1 for the phase that it is in.",
        )
        .of(&[("phase", &self.standing.phase)], 1);
        text.gauge(
            "comin_is_suspended",
            "Whether the host is suspended (1) or not (0).",
        )
        .value(self.standing.suspended);
        text.gauge(
            "comin_need_to_reboot",
            "Whether the host needs to reboot (1) or not (0).",
        )
        .value(self.standing.need_to_reboot);
    }

    fn about_fetches(&self, text: &mut Text) {
        let known = || {
            let known = self.remotes.iter();
            known.filter_map(|(name, record)| Some((name, record.as_ref()?)))
        };
        let mut counts = text.counter(
            "comin_fetch_count",
            "Number of fetches per status since the machine booted.",
        );
        for (name, record) in &self.remotes {
            let (successes, failures) = match record {
                Some(record) => (record.successes, record.failures),
                None => (0, 0),
            };
            counts.of(
                &[("remote_name", name), ("status", &"succeeded")],
                successes,
            );
            counts.of(&[("remote_name", name), ("status", &"failed")], failures);
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
        .value(self.failed_at(Stage::Building, |attempt| attempt.derivation.is_some()));
        text.gauge(
            "comin_last_deployment_failed",
            "Whether the last deployment, evaluation and build included, failed (1) or not (0).",
        )
        .value(failed);

        let last = self.standing.deployed.as_ref();
        if let Some((last, (begin, end))) = last.and_then(|last| Some((last, last.times()?))) {
            let (commit, status) = last.result();
            text.gauge("comin_deployment_info", "Info of the last deployment.")
                .of(&[("commit_id", commit), ("status", &status.name())], 1);
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
        if let Some(target) = &self.selected {
            text.gauge("comin_selected_info", "The commit that is to be deployed.")
                .target(target);
            text.gauge(
                "comin_is_given_up",
                "Whether that is not tried again before a head moves or somebody orders it (1) or not (0).",
            )
            .value(self.given_up);
            let is_it = |there: &Target| target.is(&there.commit, there.operation);
            text.gauge(
                "comin_is_behind",
                "Whether another commit is to be deployed than the one that is (1) or not (0).",
            )
            .value(!deployed.is_some_and(|attempt| is_it(&attempt.target)));
        }
    }
}

impl Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text(String::new());
        self.about_comin(&mut text);
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
