//! Where systemd has put a file that a unit may not read.

use std::path::{Path, PathBuf};

/// Where a file that the configuration names is to be read: where systemd has put a copy of it for this
/// unit alone (`LoadCredential=`), or else where it is. An empty copy stands for a file that is missing.
pub fn credential_path(file: &Path) -> PathBuf {
    let copy = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|folder| Path::new(&folder).join(credential(file)));
    copy.filter(|copy| std::fs::metadata(copy).is_ok_and(|copy| copy.len() > 1))
        .unwrap_or_else(|| file.to_path_buf())
}

/// The name that the module's units give to the copy, which is to be one of a file.
fn credential(file: &Path) -> String {
    let path = file.display().to_string();
    path.replace('%', "%25")
        .replace('/', "%2F")
        .replace(':', "%3A")
}
