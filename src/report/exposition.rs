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

    /// A gauge that says whether something is so, which begins the help.
    pub(super) fn flag(&mut self, name: &'static str, whether: &str, value: bool) {
        let help = format!("{whether} (1) or not (0).");
        self.gauge(name, &help).of(&[], u8::from(value));
    }

    /// A gauge that says when something was or will be, if that is known.
    pub(super) fn time(&mut self, name: &'static str, help: &str, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.gauge(name, help).of(&[], seconds(at));
        }
    }

    /// A gauge that says what is or was to be deployed, if something is.
    pub(super) fn target(&mut self, name: &'static str, help: &str, target: Option<&TargetView>) {
        if let Some(target) = target {
            self.gauge(name, help).of(
                &[
                    ("commit_id", &target.commit),
                    ("remote_name", &target.remote),
                    ("branch", &target.branch),
                    ("operation", &target.operation),
                ],
                1,
            );
        }
    }
}

/// A metric whose samples are being written.
pub(super) struct Metric<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Metric<'_> {
    /// One of its samples.
    pub(super) fn of(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(&value.to_string())))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// A time as a sample's value: seconds since 1970.
pub(super) fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_second(), at.subsec_millisecond())
}

/// A label's value: what a state file holds may have been chosen by somebody else.
fn escaped(value: &str) -> String {
    printable(value)
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
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
        assert_eq!(seconds(at), "1767323045.678");
    }
}
