//! Why a reboot is needed: what booted differs from what runs, or from what boots next.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{paths::Paths, Config};
use crate::model::{Attempt, Operation};
use crate::system;
use crate::system::inhibitors::{self, Components};

/// The parts of a system that only a boot takes up: links in it, and words for them.
const PARTS: [(&str, &str); 3] = [
    ("kernel", "the kernel"),
    ("initrd", "the initrd"),
    ("kernel-modules", "the kernel modules"),
];
const BOOTS_NEXT: &str = "another system boots next";

/// What a boot takes up of a system.
#[derive(Debug, Clone, Default)]
struct Bootable {
    parts: [Option<PathBuf>; PARTS.len()],
    triggers: Components,
}

impl Bootable {
    fn of(system: &Path) -> Self {
        Self {
            parts: PARTS.map(|(part, _)| fs::canonicalize(system.join(part)).ok()),
            triggers: inhibitors::read(&system.join("reboot-triggers")),
        }
    }
}

/// What is known of the machine's systems.
#[derive(Debug, Clone, Default)]
struct BootFacts {
    /// `None` where nothing has booted, as below a root.
    booted: Option<Bootable>,
    current: Bootable,
    runs: Option<PathBuf>,
    boots: Option<PathBuf>,
    /// The system that was last deployed to run until the next boot, where one was.
    tested: Option<PathBuf>,
}

/// Why this machine needs a reboot, in words; empty where it needs none. `latest` is the attempt that
/// changed it last.
pub fn reasons(config: &Config, paths: &Paths, latest: Option<&Attempt>) -> Vec<String> {
    let booted = paths.booted_system();
    let is_test = |attempt: &&Attempt| attempt.operation() == Operation::Test;
    // During a switch, the profile is ahead of the running system.
    let is_over = latest.is_none_or(|attempt| attempt.ended().is_some());
    let profile = paths.profile(&config.profile);
    let facts = BootFacts {
        booted: booted.exists().then(|| Bootable::of(&booted)),
        current: Bootable::of(&paths.current_system()),
        runs: fs::canonicalize(paths.current_system()).ok(),
        boots: system::of_profile(&profile).filter(|_| is_over),
        tested: latest.filter(is_test).and_then(|test| test.out.clone()),
    };
    facts.reasons()
}

impl BootFacts {
    fn reasons(&self) -> Vec<String> {
        let booted = self.booted.as_ref();
        let mut reasons = booted.map_or_else(Vec::new, |booted| self.taken_up_since(booted));
        // A reboot ends a test, and nobody needs that.
        let is_tested = self.runs.is_some() && self.runs == self.tested;
        if self.boots.is_some() && self.boots != self.runs && !is_tested {
            reasons.push(BOOTS_NEXT.to_string());
        }
        reasons
    }

    /// What differs from the system that booted.
    fn taken_up_since(&self, booted: &Bootable) -> Vec<String> {
        let mut reasons = Vec::new();
        for ((_, words), parts) in PARTS
            .iter()
            .zip(booted.parts.iter().zip(&self.current.parts))
        {
            if parts.0 != parts.1 {
                reasons.push((*words).to_string());
            }
        }
        for trigger in inhibitors::changed(&booted.triggers, &self.current.triggers) {
            let part = PARTS.iter().find(|(part, _)| **part == trigger);
            let words = part.map_or(trigger, |(_, words)| (*words).to_string());
            if !reasons.contains(&words) {
                reasons.push(words);
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootable(parts: [&str; 3], triggers: &[(&str, &str)]) -> Bootable {
        let triggers = triggers.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Bootable {
            parts: parts.map(|part| Some(part.into()).filter(|_| !part.is_empty())),
            triggers: triggers.collect(),
        }
    }

    #[test]
    fn reasons_are_what_only_a_boot_takes_up() {
        let same = || bootable(["k1", "i1", "m1"], &[("kernel", "k1"), ("params", "quiet")]);
        let next = |boots: &str| Some(PathBuf::from(boots));
        for (current, boots, wanted) in [
            (same(), next("runs"), &[][..]),
            (same(), None, &[]),
            (same(), next("other"), &[BOOTS_NEXT]),
            (
                bootable(["k2", "i1", "m2"], &[]),
                next("runs"),
                &["the kernel", "the kernel modules"],
            ),
            (
                bootable(["k1", "", "m1"], &[]),
                next("runs"),
                &["the initrd"],
            ),
            (
                bootable(["k1", "i1", "m1"], &[("params", "debug"), ("new", "x")]),
                next("runs"),
                &["params"],
            ),
            // nixpkgs has the kernel among the triggers as well.
            (
                bootable(["k2", "i1", "m1"], &[("kernel", "k2")]),
                next("other"),
                &["the kernel", BOOTS_NEXT],
            ),
        ] {
            let facts = BootFacts {
                booted: Some(same()),
                current,
                runs: next("runs"),
                boots,
                tested: None,
            };
            assert_eq!(facts.reasons(), wanted, "{facts:?}");
        }
        let boots_another = |tested: Option<&str>| BootFacts {
            runs: next("runs"),
            boots: next("other"),
            tested: tested.map(PathBuf::from),
            ..BootFacts::default()
        };
        for (tested, wanted) in [
            (None, &[BOOTS_NEXT][..]),
            (Some("runs"), &[]),
            (Some("before"), &[BOOTS_NEXT]),
        ] {
            assert_eq!(boots_another(tested).reasons(), wanted, "{tested:?}");
        }
        assert_eq!(BootFacts::default().reasons(), [""; 0]);
    }
}
