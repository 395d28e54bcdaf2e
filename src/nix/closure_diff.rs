//! What differs between the closures of two systems, as Nix tells it: packages that came, went, have
//! another version or another size.

use std::fmt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde::Serialize;

use crate::nix;
use crate::nix::events::plain;

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name, without a version.
    pub package: String,
    /// The versions that only the system before has; an empty one where there is none in the name.
    pub removed: Vec<String>,
    /// The versions that only the new system has.
    pub added: Vec<String>,
    /// How many bytes it takes more, as far as Nix does not round them away.
    pub size: Option<i64>,
}

/// What differs between two systems, by the name of the package, or why there is no telling.
#[derive(Debug, Serialize)]
pub struct ClosureDiff {
    pub changes: Option<Vec<Change>>,
    pub unavailable: Option<String>,
}

impl ClosureDiff {
    /// Compares two systems.
    pub fn between(before: &Path, after: &Path) -> Self {
        let (changes, unavailable) = match compare(before, after) {
            Ok(changes) => (Some(changes), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Self {
            changes,
            unavailable,
        }
    }
}

fn compare(before: &Path, after: &Path) -> Result<Vec<Change>> {
    if before == after {
        return Ok(Vec::new());
    }
    for system in [before, after] {
        // Asked for what is not there, Nix would look for it in the caches.
        ensure!(
            system.exists(),
            "{} was garbage-collected",
            system.display()
        );
    }
    let answer = nix::diff_closures(before, after)?;
    plain(&answer).lines().map(Change::parse).collect()
}

impl Change {
    /// Understands a line: `name: 1.0, 1.1 → 2.0, +39.1 KiB`, without the versions or without the size.
    fn parse(line: &str) -> Result<Self> {
        let change = Self::understand(line);
        change.with_context(|| {
            format!("nix store diff-closures answered something unexpected: {line}")
        })
    }

    fn understand(line: &str) -> Option<Self> {
        let (package, what) = line.trim().split_once(": ")?;
        let (versions, size) = match what.rsplit_once(", ").unwrap_or(("", what)) {
            (versions, last) if bytes(last).is_some() => (versions, bytes(last)),
            (_, _) => (what, None),
        };
        let (removed, added) = match versions.split_once(" → ") {
            Some(both) => both,
            None if versions.is_empty() && size.is_some() => ("", ""),
            None => return None,
        };
        Some(Self {
            package: package.to_string(),
            removed: list(removed),
            added: list(added),
            size,
        })
    }
}

/// The versions of a list; Nix has a sign for an empty list, and one for no version.
fn list(versions: &str) -> Vec<String> {
    let versions = versions.split(", ").filter(|v| !["", "∅"].contains(v));
    versions.map(|version| version.replace('ε', "")).collect()
}

/// As in `+39.1 KiB`; a newer Nix leaves the plus out, and has larger units.
fn bytes(size: &str) -> Option<i64> {
    let (number, unit) = size.trim().split_once(' ')?;
    let exponent = ["B", "KiB", "MiB", "GiB", "TiB"]
        .iter()
        .position(|name| *name == unit.trim())?;
    let number: f64 = number.parse().ok()?;
    let bytes = number * 1024_f64.powi(i32::try_from(exponent).ok()?);
    // Of what Nix can count, nothing is cut off.
    #[allow(clippy::cast_possible_truncation)]
    Some(bytes.round() as i64)
}

/// As in `openssl: 3.0 → 3.1, +39.1 KiB`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (removed, added) = (words(&self.removed), words(&self.added));
        let versions = match (&self.removed[..], &self.added[..]) {
            ([], []) => None,
            ([], _) => Some(format!("{added} added")),
            (_, []) => Some(format!("{removed} removed")),
            (_, _) => Some(format!("{removed} → {added}")),
        };
        let parts: Vec<String> = versions.into_iter().chain(self.size.map(human)).collect();
        write!(f, "{}: {}", self.package, parts.join(", "))
    }
}

fn words(versions: &[String]) -> String {
    let word = |version: &String| match version.as_str() {
        "" => "(no version)".to_string(),
        version => version.to_string(),
    };
    versions.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// As in `+39.1 KiB`.
fn human(bytes: i64) -> String {
    const KIB: f64 = 1024.0;
    #[allow(clippy::cast_precision_loss)]
    let mut size = bytes as f64 / KIB;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB"] {
        if size.abs() < KIB {
            break;
        }
        size /= KIB;
        unit = larger;
    }
    format!("{size:+.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(package: &str, removed: &[&str], added: &[&str], size: Option<i64>) -> Change {
        let list = |versions: &[&str]| versions.iter().map(ToString::to_string).collect();
        Change {
            package: package.to_string(),
            removed: list(removed),
            added: list(added),
            size,
        }
    }

    #[test]
    fn every_line_of_every_nix_is_understood_and_said_in_words() {
        for (line, wanted, said) in [
            (
                "pkg: 1.0 → 1.1, \x1b[31;1m+39.1 KiB\x1b[0m",
                change("pkg", &["1.0"], &["1.1"], Some(40038)),
                "pkg: 1.0 → 1.1, +39.1 KiB",
            ),
            (
                "pkg: 1.0, 1.0-man → 1.1, \x1b[32;1m-2.0 MiB\x1b[0m",
                change("pkg", &["1.0", "1.0-man"], &["1.1"], Some(-2_097_152)),
                "pkg: 1.0, 1.0-man → 1.1, -2.0 MiB",
            ),
            (
                "pkg: \x1b[31;1m   9.5 KiB\x1b[0m",
                change("pkg", &[], &[], Some(9728)),
                "pkg: +9.5 KiB",
            ),
            (
                "pkg: ∅ → 2",
                change("pkg", &[], &["2"], None),
                "pkg: 2 added",
            ),
            (
                "pkg: ∅ → ε",
                change("pkg", &[], &[""], None),
                "pkg: (no version) added",
            ),
            (
                "pkg: ε → ∅, \x1b[32;1m-1.5 GiB\x1b[0m",
                change("pkg", &[""], &[], Some(-1_610_612_736)),
                "pkg: (no version) removed, -1.5 GiB",
            ),
            (
                "pkg: 1, ε → 2",
                change("pkg", &["1", ""], &["2"], None),
                "pkg: 1, (no version) → 2",
            ),
        ] {
            let parsed = Change::parse(&plain(line)).unwrap();
            assert_eq!(parsed, wanted, "{line:?}");
            assert_eq!(parsed.to_string(), said);
        }
        for line in ["pkg", "pkg: ", "pkg: 12", "pkg: 1, 2"] {
            let error = Change::parse(line).unwrap_err().to_string();
            assert!(error.ends_with(&format!("unexpected: {line}")), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_looked_for() {
        let nowhere = Path::new("/nix/store/00000000000000000000000000000000-none");
        let why = compare(nowhere, Path::new("/")).unwrap_err().to_string();
        assert!(why.contains("-none was garbage-collected"), "{why}");
        assert_eq!(compare(nowhere, nowhere).unwrap(), []);
    }
}
