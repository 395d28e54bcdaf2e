//! What a remote, a branch and an operation are called.

use std::path::Path;

use anyhow::{ensure, Result};
use clap::ValueEnum;
use derive_more::Display;
use serde::{Deserialize, Serialize};

/// A branch and what is done with its commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// How its commits are activated.
    pub operation: Operation,
}

/// The action of `switch-to-configuration` for a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum, Display)]
#[serde(rename_all = "lowercase")]
#[display(rename_all = "lowercase")]
pub enum Operation {
    /// Activate now and at every boot.
    Switch,
    /// Activate at the next boot.
    Boot,
    /// Activate now; a reboot undoes it.
    Test,
}

impl Operation {
    /// When a system runs that was activated by it.
    pub fn when(self) -> &'static str {
        match self {
            Self::Switch => "now and at every boot",
            Self::Boot => "from the next boot on",
            Self::Test => "until a reboot",
        }
    }

    /// Whether the system profile, and with it the boot loader, gets the system.
    pub fn moves_profile(self) -> bool {
        self != Self::Test
    }

    /// Whether the running system becomes the new one.
    pub fn activates(self) -> bool {
        self != Self::Boot
    }
}

/// A remote's name: safe in a unit name, a ref and a file name. The module asserts the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display)]
#[serde(try_from = "String")]
pub struct RemoteName(String);

impl RemoteName {
    /// The longest name.
    const MAX: usize = 64;
    /// Units `comin-<name>` that are not a remote's; the module asserts the same.
    const RESERVED: [&str; 4] = ["boot-check", "dead-man", "exporter", "fetcher"];

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RemoteName {
    type Error = anyhow::Error;

    fn try_from(name: String) -> Result<Self> {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        ensure!(
            name.len() <= Self::MAX
                && name.chars().all(safe)
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                // As in a ref, a dot has its place.
                && check_branch(&name).is_ok(),
            "{name:?} cannot name units and files: use at most {} letters, digits, -, _ and single dots. Begin with a letter or digit, and do not end in a dot or in .lock",
            Self::MAX
        );
        ensure!(
            !Self::RESERVED.contains(&&*name),
            "{name:?} is kept for comin's own units: use another name"
        );
        Ok(Self(name))
    }
}

/// The rules of git-check-ref-format(1): a branch name is also a path below `refs/heads`.
pub fn check_branch(name: &str) -> Result<()> {
    let part_is_bad = |part: &str| {
        let lock = Path::new(part).extension().is_some_and(|e| e == "lock");
        part.is_empty() || part.starts_with('.') || part.ends_with('.') || lock
    };
    let bad = name.split('/').any(part_is_bad)
        || name.contains("..")
        || name.contains("@{")
        || name.starts_with('-')
        || name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c));
    ensure!(!bad, "{name:?} is not a valid branch name");
    Ok(())
}
