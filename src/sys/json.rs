//! Records in JSON files.

use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::fs;

/// The version of every record until now. A later one may only add keys, which [`read`] passes over.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

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

/// [`read`], of a record that the next one replaces: one that cannot be understood, or is of another version, counts
/// as absent.
pub fn read_lossy<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(decoded(&fs::read_optional(path)?.unwrap_or_default()))
}

/// [`read_lossy`], of a record that somebody else may have written: at most so many bytes, and whatever is wrong with it,
/// it counts as absent.
pub fn read_foreign<T: DeserializeOwned>(path: &Path, most: u64) -> Option<T> {
    let content = fs::read_small_optional(path, most);
    let content = content.unwrap_or_else(|error| {
        log::debug!("{error:#}");
        None
    });
    decoded(&content.unwrap_or_default())
}

fn decoded<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    let record = serde_json::from_slice::<Versioned<T>>(content).ok();
    record
        .filter(|it| it.version == VERSION)
        .map(|it| it.record)
}

/// Writes a record, as [`fs::replace`].
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    fs::replace(path, &encoded(record)?)
}

/// Writes a record, as [`fs::replace_durably`].
pub fn write_durably(path: &Path, record: &impl Serialize) -> Result<()> {
    fs::replace_durably(path, &encoded(record)?)
}

fn encoded(record: &impl Serialize) -> Result<Vec<u8>> {
    let version = VERSION;
    Ok(serde_json::to_vec(&Versioned { version, record })?)
}
