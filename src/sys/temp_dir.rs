//! Folders that are not to stay, also when a signal ends comin while it awaits a command. What one that was
//! killed has left goes with the next.

use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::sys::mutex::Shared;

/// Those that there are.
static FOLDERS: Shared<Vec<PathBuf>> = Shared::new(Vec::new());

/// A folder that goes away with this.
#[derive(Debug)]
pub struct TempDir {
    folder: tempfile::TempDir,
    /// Locked as long as its process lives: nobody else removes it meanwhile.
    _in_use: File,
}

impl TempDir {
    /// A new one whose name begins like this, and like no folder that is to stay. It is nobody else's: the
    /// settings of what we run lie in it.
    pub fn new(prefix: &str) -> io::Result<Self> {
        remove_stale(prefix);
        loop {
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(0o700))
                .tempdir()?;
            if let Some(in_use) = lock_new(folder.path())? {
                FOLDERS.lock().push(folder.path().to_path_buf());
                return Ok(Self {
                    folder,
                    _in_use: in_use,
                });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
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
        remove(&folder);
    }
}

/// Locks a folder that was just made; `None` where another one has taken it for left before that.
fn lock_new(folder: &Path) -> io::Result<Option<File>> {
    let in_use = match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    in_use.lock()?;
    Ok(folder.exists().then_some(in_use))
}

/// Removes those that are nobody's any more: this user's, with such a name, and not locked.
fn remove_stale(prefix: &str) {
    let is_ours = |found: &DirEntry| {
        let name = found.file_name();
        let is_named_so = name.to_str().is_some_and(|name| name.starts_with(prefix));
        is_named_so
            && found
                .metadata()
                .is_ok_and(|it| it.is_dir() && it.uid() == geteuid().as_raw())
    };
    let found = fs::read_dir(std::env::temp_dir());
    for left in found.into_iter().flatten().flatten().filter(is_ours) {
        // Held until it is removed, so that whoever has just made it sees that.
        if let Ok(folder) = File::open(left.path()) {
            if folder.try_lock().is_ok() {
                remove(&left.path());
            }
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        log::debug!("Failed to remove {}: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_make_one_at_a_time_each_get_one() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let folder = TempDir::new("comin-tests-").unwrap();
                        assert!(folder.path().exists());
                    }
                });
            }
        });
    }

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
