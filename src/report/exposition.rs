//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use jiff::Timestamp;

use super::target::TargetView;
use crate::sys::text::printable;

/// A text in Prometheus' format.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn gauge<'a>(&'a mut self, name: &'static str, help: &str) -> Metric<'a> {
        self.metric(name, "gauge", help)
    }

    pub(super) fn counter<'a>(&'a mut self, name: &'static str, help: &str) -> Metric<'a> {
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
pub(super) struct Metric<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Metric<'_> {
    /// Its only sample.
    pub(super) fn value(&mut self, value: impl Into<Value>) {
        self.of(&[], value);
    }

    /// Its only sample, which says what is or was to be deployed.
    pub(super) fn target(&mut self, target: &TargetView) {
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
    pub(super) fn of(&mut self, labels: &[(&str, &dyn Display)], value: impl Into<Value>) {
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
pub(super) struct Value(String);

/// A time, since 1970.
pub(super) struct Seconds(pub(super) Timestamp);

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
        let mut text = Text::default();
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
