//! Hands files to a process of another user, as systemd hands credentials to a unit.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::sys::{owner::Owner, temp_dir::TempDir};

/// Makes a folder in `folder` that belongs to the user, with files by name and content that nobody else can read. It is
/// removed with the value. If comin is killed, the next call removes it. `files` is given its path.
pub fn hand_over(
    user: Owner,
    folder: &Path,
    files: impl FnOnce(&Path) -> Vec<(String, Vec<u8>)>,
) -> io::Result<TempDir> {
    fs::create_dir_all(folder)?;
    // No user can list this folder. So nobody can let Nix copy it to the store, with the files of others.
    fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    for left in fs::read_dir(folder)? {
        let left = left?;
        let name = left.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        if Path::new("/proc").join(process).exists() {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(left.path()) {
            log::debug!("Failed to remove {}: {error}", left.path().display());
        }
    }
    let made = TempDir::new_in(folder, &format!("{}-", std::process::id()))?;
    for (name, content) in files(made.path()) {
        let file = made.path().join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, Permissions::from_mode(0o400))?;
        user.give(&file)?;
    }
    // Last: from here on, the user may put links into it.
    user.give(made.path())?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_handed_over_until_they_are_dropped_and_what_a_killed_comin_left_is_removed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let all = folder.path().join("all");
        // No process has that number.
        let left = all.join("4194305-left");
        fs::create_dir_all(&left).unwrap();
        let passwd = folder.path().join("passwd");
        fs::write(&passwd, "nobody:x:65534:65534::/:/bin/sh\n").unwrap();
        let nobody = Owner::named("nobody", &passwd).unwrap().unwrap();
        let files = |_: &Path| vec![("token".to_string(), b"secret".to_vec())];
        let handed = hand_over(nobody, &all, files).unwrap();
        assert!(!left.exists());
        let read = |path: &Path| {
            let mut cat = nobody.command("cat", false);
            cat.arg(path).output().unwrap().stdout
        };
        assert_eq!(read(&handed.path().join("token")), b"secret");
        let mut list = nobody.command("ls", false);
        assert!(!list.arg(&all).output().unwrap().status.success());
        drop(handed);
        assert_eq!(fs::read_dir(&all).unwrap().count(), 0);
    }
}
