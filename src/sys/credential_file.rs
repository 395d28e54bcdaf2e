//! Where systemd has put a file that a unit may not read.

use std::path::{Path, PathBuf};

/// The variable that names the folder with the copies.
pub const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Where a file that the configuration names is to be read: where systemd has put a copy of it for this
/// unit alone (`LoadCredential=`), or else where it is. An empty copy stands for a file that is missing.
pub fn credential_path(file: &Path) -> PathBuf {
    let folder = std::env::var_os(FOLDER);
    folder.map_or_else(|| file.to_path_buf(), |it| copy_in(Path::new(&it), file))
}

/// [`credential_path`] of a process that is handed this folder.
pub fn copy_in(folder: &Path, file: &Path) -> PathBuf {
    let copy = folder.join(name(file));
    match std::fs::metadata(&copy) {
        Err(_) => file.to_path_buf(),
        // The user of a fetch may not even be able to see that the file itself is missing.
        Ok(found) if found.len() <= 1 => copy.with_file_name("missing"),
        Ok(_) => copy,
    }
}

/// The copies of these files, by name. An empty copy stands for a file that is missing.
pub fn copies<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<(String, Vec<u8>)> {
    let copy = |file: &Path| (name(file), std::fs::read(file).unwrap_or_default());
    files.into_iter().map(copy).collect()
}

/// The name that the module's units give to the copy, which is to be one of a file.
fn name(file: &Path) -> String {
    let path = file.display().to_string();
    path.replace('%', "%25")
        .replace('/', "%2F")
        .replace(':', "%3A")
}
