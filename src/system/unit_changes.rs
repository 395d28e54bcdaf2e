//! What an activation did to the units of systemd.
//!
//! It is not taken from what `switch-to-configuration` prints: that goes to the journal by itself, so
//! that nothing stands between the two, and is worded for people. systemd knows: each start of a unit has
//! an invocation of its own. So the units that are up are remembered before, in `/run`, where a comin
//! that takes over from one that died finds them, and compared with those that are up after.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::paths::Paths;
use crate::model::UnitChanges;
use crate::sys::json;
use crate::system::systemd::{self, Unit, UnitState};

/// How many units of a kind are remembered.
const NAMES: usize = 30;

/// The units that were up before an activation.
#[derive(Debug, Serialize, Deserialize)]
struct SavedUnits {
    attempt: u64,
    units: BTreeMap<String, Unit>,
}

/// Remembers the units before the activation of an attempt. It is no reason not to activate if that
/// cannot be done.
pub fn save_units(paths: &Paths, attempt: u64) {
    if !systemd::is_here(paths) {
        return;
    }
    let remember = || -> Result<()> {
        let record = SavedUnits {
            attempt,
            units: systemd::units()?,
        };
        json::write(&paths.units(), &record)
    };
    remember().unwrap_or_else(|error| {
        log::debug!("The units before the activation are not known: {error:#}");
    });
}

/// What became of the units since; `failed` are those that have failed and had not before. `None` where
/// nobody knows: there is no systemd, or the machine has booted since.
pub fn changes_since(paths: &Paths, attempt: u64, failed: &[String]) -> Option<UnitChanges> {
    let compare = || -> Result<Option<UnitChanges>> {
        let before: Option<SavedUnits> = json::read_lossy(&paths.units())?;
        let Some(before) = before.filter(|before| before.attempt == attempt) else {
            return Ok(None);
        };
        let after = systemd::units()?;
        Ok(Some(between(&before.units, &after, failed)))
    };
    if !systemd::is_here(paths) {
        return None;
    }
    compare().unwrap_or_else(|error| {
        log::debug!("What became of the units is not known: {error:#}");
        None
    })
}

fn between(
    before: &BTreeMap<String, Unit>,
    after: &BTreeMap<String, Unit>,
    failed: &[String],
) -> UnitChanges {
    let mut touched = UnitChanges::default();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (was, is) = (before.get(name), after.get(name));
        let state = |unit: Option<&Unit>| unit.map_or(UnitState::Down, |unit| unit.state);
        let is_same = was.map(|unit| &unit.invocation) == is.map(|unit| &unit.invocation);
        let list = match (state(was), state(is)) {
            (UnitState::Up | UnitState::Coming, UnitState::Up | UnitState::Coming) if is_same => continue,
            (UnitState::Up | UnitState::Coming, UnitState::Up | UnitState::Coming) => &mut touched.restarted,
            (UnitState::Down | UnitState::Failed, UnitState::Up | UnitState::Coming) => &mut touched.started,
            (UnitState::Up, UnitState::Down) => &mut touched.stopped,
            // A short job that was at work came to its end.
            (UnitState::Coming | UnitState::Down | UnitState::Failed, UnitState::Down)
            // Whoever failed is known already.
            | (UnitState::Up | UnitState::Coming | UnitState::Down | UnitState::Failed, UnitState::Failed) => continue,
        };
        list.push(name.clone());
    }
    touched.failed = failed.to_vec();
    // The state is not to grow without an end, whatever a system has for units.
    for list in [
        &mut touched.restarted,
        &mut touched.started,
        &mut touched.stopped,
        &mut touched.failed,
    ] {
        touched.left_out += list.len().saturating_sub(NAMES);
        list.truncate(NAMES);
    }
    touched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(units: &[(&str, UnitState, &str)]) -> BTreeMap<String, Unit> {
        let unit = |(name, state, invocation): &(&str, UnitState, &str)| {
            let unit = Unit {
                state: *state,
                invocation: invocation.to_string(),
            };
            (name.to_string(), unit)
        };
        units.iter().map(unit).collect()
    }

    #[test]
    fn an_invocation_tells_a_restart_from_going_on() {
        let before = units(&[
            ("broken.service", UnitState::Up, "1"),
            ("gone.service", UnitState::Up, "1"),
            ("job.service", UnitState::Coming, "1"),
            ("mended.service", UnitState::Failed, "1"),
            ("new-version.service", UnitState::Up, "1"),
            ("same.service", UnitState::Up, "1"),
            ("slow.service", UnitState::Coming, "1"),
            ("stuck.service", UnitState::Up, "1"),
        ]);
        let after = units(&[
            ("broken.service", UnitState::Failed, "2"),
            ("mended.service", UnitState::Up, "2"),
            ("new-version.service", UnitState::Up, "2"),
            ("new.service", UnitState::Up, "2"),
            ("same.service", UnitState::Up, "1"),
            ("slow.service", UnitState::Up, "1"),
            ("stuck.service", UnitState::Coming, "2"),
        ]);
        let failed = ["broken.service".to_string()];
        let touched = between(&before, &after, &failed);
        assert_eq!(touched.restarted, ["new-version.service", "stuck.service"]);
        assert_eq!(touched.started, ["mended.service", "new.service"]);
        assert_eq!(touched.stopped, ["gone.service"]);
        assert_eq!(touched.failed, failed);
        assert_eq!(touched.left_out, 0);
    }

    #[test]
    fn ten_thousand_units_do_not_fill_the_state() {
        let names: Vec<String> = (0..10_000).map(|n| format!("{n:05}.service")).collect();
        let many: Vec<_> = names.iter().map(|n| (&**n, UnitState::Up, "1")).collect();
        let touched = between(&BTreeMap::new(), &units(&many), &names);
        assert_eq!(
            (touched.started.len(), touched.failed.len()),
            (NAMES, NAMES)
        );
        assert_eq!(touched.left_out, 20_000 - 2 * NAMES);
        assert_eq!(touched.started[0], "00000.service");
    }
}
