//! Folders that are not to stay, also when a signal ends comin while it awaits a command.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// Those that there are.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that goes away with this.
#[derive(Debug)]
pub struct Passing(TempDir);

impl Passing {
    /// A new one whose name begins like this.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(prefix: &str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        change(|folders| folders.push(folder.path().to_path_buf()));
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        change(|folders| folders.retain(|folder| folder != self.0.path()));
    }
}

/// Removes all of them, before comin ends without coming back to whoever has them.
pub fn remove_all() {
    change(|folders| {
        for folder in folders.drain(..) {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                log::debug!("Failed to remove {}: {error}", folder.display());
            }
        }
    });
}

fn change(change: impl FnOnce(&mut Vec<PathBuf>)) {
    change(&mut FOLDERS.lock().unwrap_or_else(PoisonError::into_inner));
}
