//! Settings in files of git's format.

use std::path::Path;

use anyhow::{Context, Result};

use super::mirror::start_libgit2;
use crate::sys::fs;

/// Makes a setting in a file of git's format, if it is not there yet. It is for whoever deploys: there is one at a
/// time, and so a lock on the file is of one that was killed.
pub fn set(file: &Path, name: &str, value: &str) -> Result<()> {
    start_libgit2();
    let set = || -> Result<()> {
        let mut settings = git2::Config::open(file)?;
        if settings.get_string(name).is_ok_and(|now| now == value) {
            return Ok(());
        }
        let mut lock = file.as_os_str().to_os_string();
        lock.push(".lock");
        fs::remove_optional(Path::new(&lock))?;
        Ok(settings.set_str(name, value)?)
    };
    set().with_context(|| format!("Failed to set {name} in {}", file.display()))
}
