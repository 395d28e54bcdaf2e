//! The command of Nix.

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::sys::command::{query, PATIENCE};

/// Nix, whose commands may be off in its settings.
pub fn nix() -> Command {
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes"]);
    nix
}

/// What Nix is set to, by the names of its settings.
pub type Settings = HashMap<String, Value>;

/// The settings of Nix.
pub fn settings() -> Result<Settings> {
    #[derive(Deserialize)]
    struct Setting {
        value: Value,
    }
    // The name that every Nix since 2.4 understands.
    let mut nix = nix();
    nix.args(["show-config", "--json"]);
    let answer = query(&mut nix, "nix show-config", PATIENCE)?;
    let settings: HashMap<String, Setting> =
        serde_json::from_slice(&answer).context("nix show-config answered something unexpected")?;
    Ok(settings
        .into_iter()
        .map(|(name, setting)| (name, setting.value))
        .collect())
}
