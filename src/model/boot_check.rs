//! The boot check: whether the system that has booted is to be judged, and whether a fallback needs a reboot. Pure
//! functions from the state and from what the machine runs.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::model::attempt::{Attempt, PreviousSystem, Progress};
use crate::model::drift::{Since, Systems};
use crate::model::reboot::{self, Reboot};
use crate::model::{outcome::Fault, stage::Stage, state::State};

/// The first boot since the system of an attempt was made the one to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstBoot<'a> {
    pub attempt: &'a Attempt,
    /// The system that was to boot.
    pub out: &'a Path,
    /// The system that came up. If it is another one, the boot loader has fallen back.
    pub booted: &'a Path,
    /// Whether a remote has to be within reach. If the system was found good before, an outage is more likely.
    pub connectivity: bool,
}

/// The first boot that is to be judged, unless comin is suspended. `None` if the operator chose the system, it is judged
/// already, or an attempt is under way.
pub fn due<'a>(state: &'a State, systems: &'a Systems) -> Option<FirstBoot<'a>> {
    if matches!(state.latest()?.progress, Progress::Running(_)) {
        return None;
    }
    let moved_profile = |it: &&Attempt| it.reached_activation() && it.operation().moves_profile();
    let latest = state.attempts.iter().rfind(moved_profile);
    let attempt = latest.filter(|it| !it.target.testing && it.boot_checked.is_none())?;
    let out = attempt.boot_system()?;
    let booted = system(systems.booted.as_ref())?;
    let has_booted = systems.boot.as_ref()? != attempt.boot.as_ref()?;
    // Else somebody has chosen another system since.
    let is_untouched = system(systems.running.as_ref()) == Some(booted)
        && system(systems.boots_next.as_ref()) == Some(out);
    // Somebody may have chosen the other system at the boot loader, but not if comin rebooted by itself.
    let is_for_it = |it: &Reboot| it.system == out && has_rebooted(it, systems);
    let is_ours = booted == out || state.reboot.as_ref().is_some_and(is_for_it);
    let is_good = |it: &Attempt| it.out.as_deref() == Some(out) && it.boot_checked.is_some();
    (has_booted && is_untouched && is_ours).then(|| FirstBoot {
        attempt,
        out,
        booted,
        connectivity: !state.attempts.iter().any(is_good),
    })
}

/// What the latest activation of a system found, by which the system is judged after a boot.
pub fn before<'a>(state: &'a State, out: &Path) -> Option<&'a PreviousSystem> {
    let mut attempts = state.attempts.iter().rev();
    // Nothing is looked for if the machine had the system already.
    let found = |it: &&Attempt| it.out.as_deref() == Some(out) && it.before.boots.is_some();
    attempts.find(found).map(|it| &it.before)
}

/// A new attempt that goes back from the system that `of` has brought.
pub fn fallback(
    state: &State,
    of: &Attempt,
    before: PreviousSystem,
    boot: Option<String>,
    fault: Fault,
    now: Timestamp,
) -> Attempt {
    let mut back = Attempt {
        before,
        // A comin without boot checks goes back because of this field alone.
        fault: Some(fault.error.clone()),
        boot_fault: Some(fault),
        ..state.attempt_again(of, boot, now)
    };
    back.try_again(of);
    back.enter(Stage::RollingBack, now);
    back
}

/// Whether a fallback needs a reboot. If one has not brought the system before, another one would not, either.
pub fn needs_reboot(attempt: &Attempt, systems: &Systems, reboot: Option<&Reboot>) -> bool {
    let back = attempt.before.system.as_deref();
    let is_tried = |it: &Reboot| it.attempt == attempt.id && has_rebooted(it, systems);
    back.is_some() && system(systems.running.as_ref()) != back && !reboot.is_some_and(is_tried)
}

fn has_rebooted(reboot: &Reboot, systems: &Systems) -> bool {
    reboot.stage == reboot::RebootStage::Ordered && reboot.boot != systems.boot
}

fn system(known: Option<&Since>) -> Option<&Path> {
    known.map(|known| known.system.as_path())
}

/// Where a fallback leads: the system that had booted before, or else that was to boot.
pub fn way_back(found: &PreviousSystem, out: &Path) -> Option<PathBuf> {
    let other = |system: &&PathBuf| *system != out;
    let booted = found.booted.as_ref().filter(other);
    booted.or(found.boots.as_ref().filter(other)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::NixFailure;
    use crate::model::drift::tests::{state, systems};

    /// Marks of a state: `+c` was found good after a boot, `c1` comin rebooted for it in boot 1, `c~` the reboot was only
    /// announced, `(a)` had booted before, `t` all is of a testing branch.
    fn marked(attempts: &str, marks: &str) -> State {
        let mut state = state(attempts);
        for mark in marks.split_whitespace() {
            let letter = |n: usize| mark[n..=n].to_string();
            match mark.as_bytes()[0] {
                b'+' => {
                    let mut attempts = state.attempts.iter_mut();
                    let good = attempts.find(|it| it.out == Some(letter(1).into()));
                    good.unwrap().boot_checked = Some(Timestamp::UNIX_EPOCH);
                }
                b'(' => {
                    let attempts = state.attempts.iter_mut();
                    attempts.for_each(|it| it.before.booted = Some(letter(1).into()));
                }
                b't' => state
                    .attempts
                    .iter_mut()
                    .for_each(|it| it.target.testing = true),
                _ => {
                    state.reboot = Some(Reboot {
                        attempt: state.latest().unwrap().id,
                        system: letter(0).into(),
                        boot: Some(letter(1).replace('~', "1")),
                        announced_at: Timestamp::UNIX_EPOCH,
                        stage: match &*letter(1) {
                            "~" => reboot::RebootStage::Announced,
                            _ => reboot::RebootStage::Ordered,
                        },
                    });
                }
            }
        }
        state
    }

    #[test]
    fn first_boot_of_a_system_is_judged_once() {
        for (attempts, marks, machine, wanted) in [
            // The first boot, by a reboot of anybody's.
            ("sa1 sb1", "", "bbb2", "check b, reach, back to a"),
            ("sa1 bb1", "", "bbb2", "check b, reach, back to a"),
            ("sa1 sb1", "b1", "bbb2", "check b, reach, back to a"),
            ("sa1 sb1 sc1x", "", "bbb2", "check b, reach, back to a"),
            ("sa1 sb1 tc1", "", "bbb2", "check b, reach, back to a"),
            ("sa1", "", "aaa2", "check a, reach, no way back"),
            // The way back leads to what had booted: what ran in between never did.
            ("sa1 sb1 sc1", "(a)", "ccc2", "check c, reach, back to a"),
            // Not a boot since, or nobody knows.
            ("sa1 sb1", "", "bab1", "-"),
            ("sa1 sb1", "", "bbb-", "-"),
            ("sa1 sb-", "", "bbb-", "-"),
            ("", "", "aaa2", "-"),
            ("sb1x", "", "aaa2", "-"),
            ("sa1 sb1", "", "---2", "-"),
            // Found good already: the same deployment not again, the same system not for its network.
            ("sa1 sb1", "+b", "bbb3", "-"),
            ("sa1 sb1 sc2 sb2", "+b", "bbb3", "check b, back to c"),
            // A fallback is the end of it, also if somebody chooses the bad one.
            ("sa1 sb1 bb2!", "", "aaa3", "-"),
            ("sa1 sb1 bb2!", "", "bbb3", "-"),
            ("sa1 sb1 bb2~", "", "bbb2", "-"),
            // Of a testing branch, or failed: nothing of it is comin's to judge.
            ("sa1 sb1", "t", "bbb2", "-"),
            ("sa1 tb1", "+a", "bba2", "-"),
            ("sa1 sb1?", "", "bbb2", "-"),
            // Somebody has activated another one since, or lets another one boot next.
            ("sa1 sb1", "", "zbb2", "-"),
            ("sa1 sb1", "", "bbz2", "-"),
            // Another one came up: by comin's own reboot it never came up, else somebody has chosen.
            ("sa1 sb1", "b1", "aab2", "b never came up, back to a"),
            ("sa1 sb1 sc1", "c1", "aac2", "c never came up, back to a"),
            ("sa1 sb1", "b1", "zzb2", "b never came up, back to z"),
            ("sa1 sb1", "", "aab2", "-"),
            ("sa1 sb1", "b~", "aab2", "-"),
            ("sa1 sb1", "b2", "aab2", "-"),
            ("sa1 sb1", "a1", "aab2", "-"),
            ("sa1 sb1", "b1", "aaa2", "-"),
            ("sa1 sb1", "b1", "zab2", "-"),
            ("sa1 sb1", "b1 t", "aab2", "-"),
        ] {
            let (state, systems) = (marked(attempts, marks), systems(machine));
            let told = due(&state, &systems).map_or("-".to_string(), |first| {
                let mut found = before(&state, first.out).cloned().unwrap_or_default();
                let out = first.out.display();
                let what = if first.booted == first.out {
                    let reach = if first.connectivity { ", reach" } else { "" };
                    format!("check {out}{reach}")
                } else {
                    found.booted = Some(first.booted.to_path_buf());
                    format!("{out} never came up")
                };
                match way_back(&found, first.out) {
                    Some(back) => format!("{what}, back to {}", back.display()),
                    None => format!("{what}, no way back"),
                }
            });
            assert_eq!(told, wanted, "{attempts} | {marks} | {machine}");
        }
    }

    #[test]
    fn fallback_has_nothing_of_how_the_attempt_went() {
        let mut state = state("sb1");
        let attempt = state.attempts.last_mut().unwrap();
        attempt.inhibitors = vec!["dbus".to_string()];
        attempt.failure = Some(NixFailure {
            derivation: None,
            lines: Vec::new(),
        });
        let attempt = attempt.clone();
        let (before, fault) = (PreviousSystem::default(), Fault::local(String::new()));
        let boot = Some("2".to_string());
        let back = fallback(&state, &attempt, before, boot, fault, Timestamp::UNIX_EPOCH);
        assert_eq!((back.failure, back.inhibitors), (None, Vec::new()));
        assert_eq!((back.id, back.tries, back.out), (2, 2, attempt.out));
    }

    #[test]
    fn fallback_reboots_once() {
        for (marks, machine, wanted) in [
            // It begins, or goes on before its reboot.
            ("", "bbb2", true),
            ("a2", "bba2", true),
            ("a~", "bba3", true),
            // The power was cut before the boot loader was told.
            ("", "bba3", true),
            ("b1", "bba3", true),
            // It has arrived.
            ("", "aaa3", false),
            ("a2", "aaa3", false),
            // It has rebooted, and the bad one came up again.
            ("a2", "bba3", false),
        ] {
            let mut state = marked("sa1 sb1 bb2~", marks);
            if marks.starts_with('b') {
                state.reboot.as_mut().unwrap().attempt = 2;
            }
            let attempt = state.attempts.last_mut().unwrap();
            attempt.before.system = Some("a".into());
            let needed = needs_reboot(attempt, &systems(machine), state.reboot.as_ref());
            assert_eq!(needed, wanted, "{marks} | {machine}");
        }
    }
}
