//! The time of day in which the machine may reboot by itself.

use anyhow::{ensure, Context, Result};
use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// From one time of day to another one, local time; over midnight where the end is before the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    lower: Time,
    upper: Time,
}

impl Window {
    /// A window between two times such as `23:30`.
    pub fn new(lower: &str, upper: &str) -> Result<Self> {
        let time = |key: &str, text: &str| {
            Time::strptime("%H:%M", text)
                .ok()
                .with_context(|| format!("{key}: {text:?} is no time of day: use one like 03:00"))
        };
        let window = Self {
            lower: time("lower", lower)?,
            upper: time("upper", upper)?,
        };
        ensure!(
            window.lower != window.upper,
            "upper: a window from {lower} to {upper} is none: leave the window out to reboot at any time"
        );
        Ok(window)
    }

    /// When it opens; `None` where it is open.
    pub fn opens(self, now: &Zoned) -> Option<Timestamp> {
        let (Self { lower, upper }, time) = (self, now.time());
        let is_open = if lower < upper {
            lower <= time && time < upper
        } else {
            lower <= time || time < upper
        };
        if is_open {
            return None;
        }
        let day = if time < lower {
            Ok(now.date())
        } else {
            now.date().checked_add(1.day())
        };
        let opens = day.and_then(|day| day.to_datetime(lower).to_zoned(now.time_zone().clone()));
        let opens = opens.map_or(Timestamp::MAX, |opens| opens.timestamp());
        // An hour that the clock repeats has begun before.
        let soon = now.timestamp().saturating_add(SignedDuration::from_mins(1));
        Some(opens.max(soon.unwrap_or(Timestamp::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn at(zone: &str, text: &str) -> Zoned {
        let zone = TimeZone::posix(zone).unwrap();
        let time: jiff::civil::DateTime = text.parse().unwrap();
        time.to_zoned(zone).unwrap()
    }

    #[test]
    fn a_window_is_open_or_opens_today_or_tomorrow() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        for (lower, upper, now, opens) in [
            ("01:00", "05:00", "2026-01-02T01:00", None),
            ("01:00", "05:00", "2026-01-02T04:59:59", None),
            (
                "01:00",
                "05:00",
                "2026-01-02T05:00",
                Some("2026-01-03T00:00Z"),
            ),
            (
                "01:00",
                "05:00",
                "2026-01-02T00:59",
                Some("2026-01-02T00:00Z"),
            ),
            // Over midnight.
            ("23:00", "05:00", "2026-01-02T23:00", None),
            ("23:00", "05:00", "2026-01-02T00:00", None),
            ("23:00", "05:00", "2026-01-02T04:59", None),
            (
                "23:00",
                "05:00",
                "2026-01-02T05:00",
                Some("2026-01-02T22:00Z"),
            ),
            (
                "23:00",
                "05:00",
                "2026-12-31T22:59",
                Some("2026-12-31T22:00Z"),
            ),
            (
                "01:00",
                "05:00",
                "2026-12-31T12:00",
                Some("2027-01-01T00:00Z"),
            ),
            // The night in which 02:30 does not come.
            (
                "02:30",
                "05:00",
                "2026-03-29T01:00",
                Some("2026-03-29T01:30Z"),
            ),
        ] {
            let window = Window::new(lower, upper).unwrap();
            let opens: Option<Timestamp> = opens.map(|opens| opens.parse().unwrap());
            assert_eq!(
                window.opens(&at(berlin, now)),
                opens,
                "{lower}–{upper} at {now}"
            );
        }
    }

    #[test]
    fn in_an_hour_that_is_repeated_it_does_not_open_in_the_past() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: Timestamp = "2026-10-25T01:10Z".parse().unwrap();
        let now = now.to_zoned(berlin);
        assert_eq!(now.time().to_string(), "02:10:00");
        let opens = Window::new("02:30", "05:00").unwrap().opens(&now).unwrap();
        assert!(opens > now.timestamp());
    }

    #[test]
    fn what_is_no_window_names_its_key() {
        for (lower, upper, wanted) in [
            ("25:00", "05:00", "lower: \"25:00\" is no time"),
            ("01:00", "5", "upper: \"5\" is no time"),
            ("01:00", "01:00", "upper: a window from 01:00 to 01:00"),
        ] {
            let error = Window::new(lower, upper).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
