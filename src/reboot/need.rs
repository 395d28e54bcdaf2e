//! Why a reboot is needed: what booted differs from what runs, or from what boots next.

use std::fs;
use std::path::{Path, PathBuf};

use crate::components::{self, Components};
use crate::config::Config;
use crate::paths::Paths;
use crate::system;

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
            triggers: components::read(&system.join("reboot-triggers")),
        }
    }
}

/// What is known of the machine's systems.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// `None` where nothing has booted, as below a root.
    booted: Option<Bootable>,
    current: Bootable,
    runs: Option<PathBuf>,
    boots: Option<PathBuf>,
}

/// Why this machine needs a reboot, in words; empty where it needs none.
#[must_use]
pub fn reasons(config: &Config, paths: &Paths) -> Vec<String> {
    let booted = paths.booted_system();
    let facts = Facts {
        booted: booted.exists().then(|| Bootable::of(&booted)),
        current: Bootable::of(&paths.current_system()),
        runs: fs::canonicalize(paths.current_system()).ok(),
        boots: system::of_profile(&paths.profile(&config.profile)),
    };
    facts.reasons()
}

impl Facts {
    fn reasons(&self) -> Vec<String> {
        let Some(booted) = &self.booted else {
            return Vec::new();
        };
        let mut reasons = Vec::new();
        for ((_, words), parts) in PARTS
            .iter()
            .zip(booted.parts.iter().zip(&self.current.parts))
        {
            if parts.0 != parts.1 {
                reasons.push((*words).to_string());
            }
        }
        for trigger in components::changed(&booted.triggers, &self.current.triggers) {
            let part = PARTS.iter().find(|(part, _)| **part == trigger);
            let words = part.map_or(trigger, |(_, words)| (*words).to_string());
            if !reasons.contains(&words) {
                reasons.push(words);
            }
        }
        if self.boots.is_some() && self.boots != self.runs {
            reasons.push(BOOTS_NEXT.to_string());
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
            let facts = Facts {
                booted: Some(same()),
                current,
                runs: next("runs"),
                boots,
            };
            assert_eq!(facts.reasons(), wanted, "{facts:?}");
        }
        let never_booted = Facts {
            boots: next("other"),
            ..Facts::default()
        };
        assert_eq!(never_booted.reasons(), [""; 0]);
    }
}
