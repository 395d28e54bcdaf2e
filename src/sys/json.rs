//! Records in JSON files.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::sys::fs;

/// Reads a record, `None` if there is none. `cure` ends the sentence about a record that cannot be understood.
pub fn read<T: DeserializeOwned>(path: &Path, cure: &str) -> Result<Option<T>> {
    let Some(content) = fs::read_optional(path)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&content);
    record.map(Some).with_context(|| {
        let path = path.display();
        format!("Failed to understand {path}{cure}")
    })
}

/// [`read`], of a record that the next one replaces: one that cannot be understood counts as absent.
pub fn read_lossy<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let content = fs::read_optional(path)?;
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}

/// Writes a record, as [`fs::replace`].
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    fs::replace(path, &serde_json::to_vec(record)?)
}

/// Writes a record, as [`fs::replace_durably`].
pub fn write_durably(path: &Path, record: &impl Serialize) -> Result<()> {
    fs::replace_durably(path, &serde_json::to_vec(record)?)
}
