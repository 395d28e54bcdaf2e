//! Where systemd has put a file that a unit may not read.

use std::path::{Path, PathBuf};

/// Where a file that the configuration names is to be read: where systemd has put a copy of it for this
/// unit alone (`LoadCredential=`), or else where it is. An empty copy stands for a file that is missing.
pub fn credential_path(file: &Path) -> PathBuf {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return file.to_path_buf();
    };
    let copy = Path::new(&folder).join(name(file));
    match std::fs::metadata(&copy) {
        Err(_) => file.to_path_buf(),
        // The user of a fetch may not even be able to see that the file itself is missing.
        Ok(found) if found.len() <= 1 => copy.with_file_name("missing"),
        Ok(_) => copy,
    }
}

/// The name that the module's units give to the copy, which is to be one of a file.
pub fn name(file: &Path) -> String {
    let path = file.display().to_string();
    path.replace('%', "%25")
        .replace('/', "%2F")
        .replace(':', "%3A")
}
