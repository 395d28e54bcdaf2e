//! Folders that are not to stay, also when a signal ends comin while it awaits a command.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::sys::mutex::Shared;

/// Those that there are.
static FOLDERS: Shared<Vec<PathBuf>> = Shared::new(Vec::new());

/// A folder that goes away with this.
#[derive(Debug)]
pub struct TempDir(tempfile::TempDir);

impl TempDir {
    /// A new one whose name begins like this. It is nobody else's: the settings of what we run lie in it.
    pub fn new(prefix: &str) -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), prefix)
    }

    /// [`TempDir::new`] in this folder.
    pub fn new_in(folder: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder)?;
        FOLDERS.lock().push(folder.path().to_path_buf());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        FOLDERS.lock().retain(|folder| folder != self.path());
    }
}

/// Removes all of them, before comin ends without coming back to whoever has them.
pub fn remove_all() {
    for folder in FOLDERS.lock().drain(..) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            log::debug!("Failed to remove {}: {error}", folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_nobody_elses_and_goes_away() {
        let folder = TempDir::new("comin-test-").unwrap();
        let path = folder.path().to_path_buf();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
