//! The times at which the machine may deploy or reboot by itself.

use anyhow::{bail, ensure, Context, Result};
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// The days of the week, as the configuration has them.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// From one local time of day to another one; over midnight if the end is before the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    lower: Time,
    upper: Time,
    /// The days on which it opens, from Monday on.
    days: [bool; 7],
}

impl Window {
    /// A window between two times such as `23:30`, on these days; on every day if none is named.
    pub fn new(lower: &str, upper: &str, days: &[String]) -> Result<Self> {
        let time = |key: &str, text: &str| {
            Time::strptime("%H:%M", text).ok().with_context(|| {
                format!("{key}: {text:?} is not a time of day: use one such as 03:00")
            })
        };
        let mut window = Self {
            lower: time("lower", lower)?,
            upper: time("upper", upper)?,
            days: [days.is_empty(); 7],
        };
        for day in days {
            let Some(index) = DAYS.iter().position(|name| name == day) else {
                bail!("days: {day:?} is not a day: use {}", DAYS.join(", "));
            };
            window.days[index] = true;
        }
        // With days, it is all of each day.
        ensure!(
            window.lower != window.upper || !days.is_empty(),
            "upper: a window from {lower} to {upper} is empty: leave the window out to allow any time"
        );
        Ok(window)
    }

    fn opens_on(&self, date: Date) -> bool {
        self.days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())]
    }

    /// When it opens; `None` if it is open.
    pub fn opens(&self, now: &Zoned) -> Option<Timestamp> {
        let (Self { lower, upper, .. }, time, today) = (*self, now.time(), now.date());
        let is_open = if lower < upper {
            lower <= time && time < upper && self.opens_on(today)
        } else {
            let yesterday = today.yesterday();
            lower <= time && self.opens_on(today)
                || time < upper && yesterday.is_ok_and(|day| self.opens_on(day))
        };
        if is_open {
            return None;
        }
        let first = i32::from(lower <= time);
        let mut days = (first..=7).filter_map(|ahead| today.checked_add(ahead.days()).ok());
        let opens = days.find(|day| self.opens_on(*day)).and_then(|day| {
            day.to_datetime(lower)
                .to_zoned(now.time_zone().clone())
                .ok()
        });
        let opens = opens.map_or(Timestamp::MAX, |opens| opens.timestamp());
        // An hour that the clock repeats has begun before.
        let soon = now.timestamp().saturating_add(SignedDuration::from_mins(1));
        Some(opens.max(soon.unwrap_or(Timestamp::MAX)))
    }
}

/// When the first of these windows opens; `None` if one is open, or there is none.
pub fn opens(windows: &[Window], now: &Zoned) -> Option<Timestamp> {
    let opens: Option<Vec<_>> = windows.iter().map(|window| window.opens(now)).collect();
    opens?.into_iter().min()
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
            let window = Window::new(lower, upper, &[]).unwrap();
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
        let opens = Window::new("02:30", "05:00", &[])
            .unwrap()
            .opens(&now)
            .unwrap();
        assert!(opens > now.timestamp());
    }

    #[test]
    fn what_is_no_window_names_its_key() {
        for (lower, upper, wanted) in [
            ("25:00", "05:00", "lower: \"25:00\" is not a time"),
            ("01:00", "5", "upper: \"5\" is not a time"),
            ("01:00", "01:00", "upper: a window from 01:00 to 01:00"),
        ] {
            let error = Window::new(lower, upper, &[]).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn a_window_opens_on_its_days() {
        // Windows, the time in UTC, and when the first of them opens. 2026-01-02 is a Friday.
        for (windows, now, opened) in [
            ("", "2026-01-02T12:00", None),
            ("01:00-05:00/fri", "2026-01-02T02:00", None),
            (
                "01:00-05:00/sat",
                "2026-01-02T02:00",
                Some("2026-01-03T01:00Z"),
            ),
            (
                "01:00-05:00/fri",
                "2026-01-02T05:00",
                Some("2026-01-09T01:00Z"),
            ),
            (
                "01:00-05:00/thu",
                "2026-01-02T02:00",
                Some("2026-01-08T01:00Z"),
            ),
            // Over midnight, of the day on which it opened.
            ("22:00-04:00/thu", "2026-01-02T03:00", None),
            (
                "22:00-04:00/fri",
                "2026-01-02T03:00",
                Some("2026-01-02T22:00Z"),
            ),
            ("22:00-04:00/fri", "2026-01-02T23:00", None),
            (
                "22:00-04:00/thu",
                "2026-01-02T23:00",
                Some("2026-01-08T22:00Z"),
            ),
            // Whole days.
            ("00:00-00:00/sat,sun", "2026-01-04T23:59", None),
            (
                "00:00-00:00/sat,sun",
                "2026-01-05T00:00",
                Some("2026-01-10T00:00Z"),
            ),
            // Several.
            ("01:00-02:00 12:00-13:00/fri", "2026-01-02T12:30", None),
            (
                "12:00-13:00/mon 01:00-02:00",
                "2026-01-02T03:00",
                Some("2026-01-03T01:00Z"),
            ),
        ] {
            let windows_of = |text: &str| -> Vec<Window> {
                let windows = text.split_whitespace().map(|window| {
                    let (times, days) = window.split_once('/').unwrap_or((window, ""));
                    let (lower, upper) = times.split_once('-').unwrap();
                    let days = days.split(',').filter(|day| !day.is_empty());
                    let days: Vec<String> = days.map(str::to_string).collect();
                    Window::new(lower, upper, &days).unwrap()
                });
                windows.collect()
            };
            let opened: Option<Timestamp> = opened.map(|at| at.parse().unwrap());
            let found = opens(&windows_of(windows), &at("UTC0", now));
            assert_eq!(found, opened, "{windows} at {now}");
        }
        let error = Window::new("01:00", "02:00", &["Mon".to_string()]).unwrap_err();
        assert!(
            error.to_string().contains("days: \"Mon\" is not a day"),
            "{error}"
        );
    }
}
