//! Folders that are not to stay, also when a signal ends comin while it awaits a command.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::shared::Shared;

/// Those that there are.
static FOLDERS: Shared<Vec<PathBuf>> = Shared::new(Vec::new());

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
        FOLDERS.lock().push(folder.path().to_path_buf());
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
        FOLDERS.lock().retain(|folder| folder != self.0.path());
    }
}

/// Removes all of them, before comin ends without coming back to whoever has them.
pub fn remove_all() {
    for folder in FOLDERS.lock().drain(..) {
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            log::debug!("Failed to remove {}: {error}", folder.display());
        }
    }
}
