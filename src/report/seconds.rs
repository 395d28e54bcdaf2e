//! Times in JSON: RFC 3339 in whole seconds, as every reader of dates takes them.

use jiff::Timestamp;
use serde::Serializer;

/// A time.
pub fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.0}"))
}

/// A time that may not be known.
#[allow(clippy::ref_option)] // As serde calls it.
pub fn optional<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(known) => self::time(known, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_of_a_second_is_left_out() {
        let late: Timestamp = "2026-01-02T03:04:05.999999999Z".parse().unwrap();
        let text = |time: &Timestamp| {
            let mut json = Vec::new();
            super::time(time, &mut serde_json::Serializer::new(&mut json)).unwrap();
            String::from_utf8(json).unwrap()
        };
        assert_eq!(text(&late), "\"2026-01-02T03:04:05Z\"");
    }
}
