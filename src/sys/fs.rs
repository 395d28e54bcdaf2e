//! Files: replaced whole or not at all, read when they are there, locked.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::fs::OFlags;

/// Replaces a file atomically: a reader sees the old content or the new one. For a tmpfs such as
/// `/run`, where nothing outlives a power loss anyway.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    replace_with(path, content, |_| Ok(()))
}

/// [`replace`], and the new content is on the disk when this returns. Only if the folder cannot be synced
/// may a power cut bring the old content back: the file has the new one already, so that is a warning.
pub fn replace_durably(path: &Path, content: &[u8]) -> Result<()> {
    replace_with(path, content, File::sync_all)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        log::warn!(
            "{} is written, but may be lost in a power cut: {error}",
            path.display()
        );
    }
    Ok(())
}

fn replace_with(path: &Path, content: &[u8], sync: fn(&File) -> io::Result<()>) -> Result<()> {
    let new = beside(path);
    let write = || {
        let mut file = create(&new)?;
        file.write_all(content)?;
        sync(&file)?;
        fs::rename(&new, path)
    };
    in_folder(path, write)
        .inspect_err(|_| {
            // Part of it may be what filled the disk; where it cannot be removed, it is overwritten next time.
            let _ = fs::remove_file(&new);
        })
        .with_context(|| format!("Failed to write {}", path.display()))
}

/// Makes a file by this function, and its folder first if there is none.
fn in_folder<T>(path: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            make()
        }
        done => done,
    }
}

/// Makes a folder that only its owner can enter, and the folders above it, if they are not there.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// Makes a file that nobody else has. What lies there is what a crash has left, or a link by which somebody who may
/// write into the folder wants to have another file written.
fn create(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            File::create_new(path)
        }
        created => created,
    }
}

/// Every file has one writer, so one fixed name does, and what a crash leaves is overwritten.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// The content of a file, `None` where there is no such file.
///
/// # Errors
/// Names the file: it cannot be read, or it is none, such as a pipe, which might never end.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    read_small_optional(path, u64::MAX)
}

/// [`read_optional`], of a file that another program wrote: at most so many bytes.
///
/// # Errors
/// Names the file: as those of [`read_optional`], or it is larger.
pub fn read_small_optional(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        open_file(path)?
            .take(most.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(content)
    };
    optional(path, read())
}

/// Whether a file has this content.
pub fn has_content(path: &Path, content: &[u8]) -> bool {
    let found = read_small_optional(path, content.len() as u64);
    found.is_ok_and(|found| found.as_deref() == Some(content))
}

/// Opens a file of somebody else's.
///
/// # Errors
/// It is none: to open a pipe takes until somebody writes into it, and devices do all kinds of things.
pub fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    // It may have become a pipe by now.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// The target of a symbolic link, `None` where there is no such link.
pub fn read_link_optional(path: &Path) -> Result<Option<PathBuf>> {
    optional(path, fs::read_link(path))
}

/// When a file was last changed, `None` if there is no such file.
pub fn modified_optional(path: &Path) -> Result<Option<SystemTime>> {
    optional(path, fs::metadata(path).and_then(|file| file.modified()))
}

/// When a link was made, in whole seconds.
pub fn link_modified(path: &Path) -> Result<Option<Timestamp>> {
    let link = optional(path, fs::symlink_metadata(path))?;
    Ok(link.and_then(|link| Timestamp::from_second(link.mtime()).ok()))
}

/// What is in a folder; nothing if there is no such folder.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |entries: fs::ReadDir| entries.map(|entry| Ok(entry?.path())).collect();
    let paths = optional(folder, fs::read_dir(folder).and_then(list))?;
    Ok(paths.unwrap_or_default())
}

/// Removes a file; says whether there was one.
pub fn remove_optional(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if is_absent(&error) => Ok(false),
        removed => removed
            .map(|()| true)
            .with_context(|| format!("Failed to remove {}", path.display())),
    }
}

/// Removes whatever lies there; says whether there was something. A folder may be somebody else's, and as large and as deep
/// as can be: it only gets another name.
pub fn remove_any(path: &Path) -> Result<bool> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    if !is_folder || fs::remove_dir(path).is_ok() {
        return remove_optional(path).map(|removed| removed || is_folder);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}-{}", Timestamp::now().as_nanosecond()));
    fs::rename(path, aside).with_context(|| format!("Failed to remove {}", path.display()))?;
    Ok(true)
}

/// Removes a file, or a folder with all that is in it, if it is there.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The bytes that are free on the disk of a file.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(path);
    let disk =
        disk.with_context(|| format!("Failed to see what is free for {}", path.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What was read of a file, `None` if there is no such file.
fn optional<T>(path: &Path, read: io::Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if is_absent(&error) => Ok(None),
        read => read
            .map(Some)
            .with_context(|| format!("Failed to read {}", path.display())),
    }
}

/// Whether an error means that there is no such file. A file in place of one of its folders means that, too.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// An exclusive lock, held until it is dropped or its process ends, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until the lock is ours. The file stays empty and is only root's to open: whoever
    /// can open it can hold it.
    pub fn wait(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        file.lock()
            .with_context(|| format!("Failed to lock {}", path.display()))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if it is free; `None` if somebody has it.
    pub fn take_if_free(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("Failed to lock {}", path.display()))
            }
        }
    }

    fn open(path: &Path) -> Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        // A symbolic link would lock somebody else's file, and opening a pipe waits for a reader.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
        let open = || {
            let file = in_folder(path, || options.open(path))?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            Ok(file)
        };
        open().with_context(|| format!("Failed to open the lock {}", path.display()))
    }
}

/// Makes a folder, and the folders above it. It is deeper than a service may have files open.
#[cfg(test)]
pub fn make_deep(path: &Path) -> io::Result<()> {
    use rustix::fs::{mkdirat, openat, Mode};
    fs::create_dir_all(path)?;
    let mut deep = File::open(path)?;
    for _ in 0..3000 {
        mkdirat(&deep, "d", Mode::RWXU)?;
        deep = openat(&deep, "d", OFlags::DIRECTORY, Mode::empty())?.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{mknodat, FileType, Mode, CWD};

    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.json");
        replace_durably(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_lies_in_the_way_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("record"), folder.path().join("other"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, beside(&path)).unwrap();
        replace(&path, b"one").unwrap();
        fs::hard_link(&other, beside(&path)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"kept");
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_failed_replacement_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old").unwrap();
        fs::create_dir(beside(&path)).unwrap();
        let error = replace(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::wait(&path).unwrap();
        assert!(Lock::take_if_free(&path).unwrap().is_none());
        drop(lock);
        assert!(Lock::take_if_free(&path).unwrap().is_some());
    }

    #[test]
    fn lock_is_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        Lock::wait(&link).unwrap_err();
        assert!(!other.exists(), "the link was followed");
        let pipe = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        Lock::wait(&pipe).unwrap_err();
        // With a reader, it can be opened.
        let mut options = File::options();
        let _reader = options.read(true).write(true).open(&pipe).unwrap();
        let error = format!("{:#}", Lock::wait(&pipe).unwrap_err());
        assert!(error.ends_with("it is not a regular file"), "{error}");
    }

    #[test]
    fn only_a_small_file_is_read_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreign.json");
        fs::write(&path, b"four").unwrap();
        assert_eq!(read_small_optional(&path, 4).unwrap().unwrap(), b"four");
        let error = format!("{:#}", read_small_optional(&path, 3).unwrap_err());
        assert!(
            error.ends_with("foreign.json: it has more than 3 bytes"),
            "{error}"
        );
        let pipe = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let error = format!("{:#}", read_optional(path).unwrap_err());
            assert!(error.ends_with(": it is no file"), "{error}");
        }
    }

    #[test]
    fn name_is_free_whatever_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".wanted");
        assert!(!remove_any(&path).unwrap());
        let fill = |fill: &dyn Fn() -> io::Result<()>| {
            fill().unwrap();
            assert!(remove_any(&path).unwrap());
            assert!(fs::symlink_metadata(&path).is_err());
        };
        fill(&|| fs::write(&path, ""));
        fill(&|| std::os::unix::fs::symlink("/", &path));
        fill(&|| fs::create_dir(&path));
        fill(&|| make_deep(&path));
        let rm = std::process::Command::new("rm")
            .arg("-rf")
            .arg(folder.path())
            .status();
        assert!(rm.unwrap().success());
    }

    #[test]
    fn absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [folder.path().join("absent"), file.join("below")] {
            assert!(read_optional(&path).unwrap().is_none());
            assert!(read_small_optional(&path, 1).unwrap().is_none());
            assert!(read_link_optional(&path).unwrap().is_none());
            assert!(!remove_optional(&path).unwrap());
        }
    }
}
