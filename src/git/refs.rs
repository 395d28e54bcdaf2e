//! References read straight from a repository's files. An idle poll does this, because a process of git costs far more.
//!
//! Only the plain cases of gitrepository-layout(5) are read here. In all other cases, the answer is [`Ref::Unclear`], and
//! the caller asks git.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::model::Commit;
use crate::sys::fs;

/// More than a path or an id has. What is read may be anybody's.
const SMALL: u64 = 8 * 1024;

/// The references of a repository on this machine.
pub struct Refs {
    /// The folder with `refs` and `packed-refs`, for all work trees.
    common: PathBuf,
}

/// What a reference holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Ref {
    /// A commit.
    Commit(Commit),
    /// There is no such reference.
    Missing,
    /// Symbolic, damaged, or not kept in files.
    Unclear,
}

impl Refs {
    /// The references of the work tree, linked work tree or bare repository at `path`.
    pub fn of_repository(path: &Path) -> Result<Self> {
        let dot_git = path.join(".git");
        let git_dir = if dot_git.is_dir() {
            dot_git
        } else if let Some(content) = fs::read_small_optional(&dot_git, SMALL)? {
            let content = String::from_utf8_lossy(&content);
            let target = content.trim_end().strip_prefix("gitdir: ");
            let target =
                target.with_context(|| format!("{} names no gitdir", dot_git.display()))?;
            path.join(target)
        } else {
            path.to_path_buf()
        };
        let common = match fs::read_small_optional(&git_dir.join("commondir"), SMALL)? {
            Some(content) => git_dir.join(String::from_utf8_lossy(&content).trim_end()),
            None => git_dir,
        };
        let refs = Self { common };
        if !refs.exist() {
            bail!("{} is not a Git repository", path.display());
        }
        Ok(refs)
    }

    /// The references of a bare repository that need not be there yet.
    pub fn of_bare(path: &Path) -> Self {
        Self {
            common: path.to_path_buf(),
        }
    }

    fn exist(&self) -> bool {
        self.common.join("objects").is_dir() && self.common.join("HEAD").is_file()
    }

    /// What the reference `name`, such as `refs/heads/main`, holds.
    pub fn read(&self, name: &str) -> Result<Ref> {
        if self.common.join("reftable").exists() {
            return Ok(Ref::Unclear);
        }
        let loose = self.common.join(name);
        if loose.is_dir() {
            return self.read_packed(name);
        }
        match fs::read_small_optional(&loose, SMALL)? {
            Some(content) => Ok(as_commit(&content)),
            None => self.read_packed(name),
        }
    }

    fn read_packed(&self, name: &str) -> Result<Ref> {
        let path = self.common.join("packed-refs");
        match fs::open_file(&path) {
            Ok(packed) => find_packed(packed, name),
            Err(error) if fs::is_absent(&error) => Ok(Ref::Missing),
            Err(error) => Err(error),
        }
        .with_context(|| format!("Failed to read {}", path.display()))
    }
}

fn as_commit(content: &[u8]) -> Ref {
    std::str::from_utf8(content)
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .map_or(Ref::Unclear, Ref::Commit)
}

/// How much of a `packed-refs` file is read at a time.
const BLOCK: u64 = 4096;
/// How much of one that is not sorted is searched: some million references.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Finds a line `<id> <name>` of a `packed-refs` file. Git sorts the file and says so in its first
/// line; then only a few blocks of it are read, however many branches there are.
fn find_packed(mut packed: impl Read + Seek, name: &str) -> io::Result<Ref> {
    let mut range = 0..packed.seek(SeekFrom::End(0))?;
    let head = read_range(&mut packed, 0..range.end.min(BLOCK))?;
    let header = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let sorted = header.starts_with(b"#") && header.split(|&b| b == b' ').any(|w| w == b"sorted");
    while sorted && range.end - range.start > BLOCK {
        let middle = range.start + (range.end - range.start) / 2;
        let block = read_range(&mut packed, middle..range.end.min(middle + BLOCK))?;
        // A line too long for the block, or the last one, ends the search: the rest is read whole.
        let Some((start, found)) = first_named(&block) else {
            break;
        };
        let at = middle + start;
        if found <= name.as_bytes() {
            range.start = at;
        } else {
            range.end = at;
        }
    }
    if range.end - range.start > LARGEST {
        return Ok(Ref::Unclear);
    }
    let rest = read_range(&mut packed, range)?;
    let line = rest
        .split(|&b| b == b'\n')
        .find(|line| name_of(line) == Some(name.as_bytes()));
    Ok(line.map_or(Ref::Missing, |line| {
        as_commit(line.split(|&b| b == b' ').next().unwrap_or_default())
    }))
}

fn read_range(file: &mut (impl Read + Seek), range: Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where in a block that begins anywhere the first whole line with a name starts, and the name.
fn first_named(block: &[u8]) -> Option<(u64, &[u8])> {
    let mut start = 0;
    loop {
        start += block[start..].iter().position(|&b| b == b'\n')? + 1;
        let line = &block[start..];
        let line = &line[..line.iter().position(|&b| b == b'\n')?];
        if let Some(name) = name_of(line) {
            return Some((u64::try_from(start).ok()?, name));
        }
    }
}

/// The name in the first line of `text`, if that is a line `<id> <name>`.
fn name_of(text: &[u8]) -> Option<&[u8]> {
    let line = text.split(|&b| b == b'\n').next()?;
    if line.starts_with(b"#") || line.starts_with(b"^") {
        return None;
    }
    let space = line.iter().position(|&b| b == b' ')?;
    Some(&line[space + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn find_packed(packed: &[u8], name: &str) -> Ref {
        super::find_packed(io::Cursor::new(packed), name).unwrap()
    }

    fn id(n: usize) -> Commit {
        format!("{n:040x}").parse().unwrap()
    }

    fn packed(header: &str, names: &[String]) -> String {
        let mut text = format!("{header}\n");
        for (n, name) in names.iter().enumerate() {
            writeln!(text, "{} {name}", id(n)).unwrap();
            if n % 3 == 0 {
                writeln!(text, "^{}", id(n + 1_000_000)).unwrap();
            }
        }
        text
    }

    #[test]
    fn every_packed_reference_is_found_sorted_or_not() {
        let names: Vec<String> = (0..1000).map(|n| format!("refs/heads/b{n:04}")).collect();
        for header in [
            "# pack-refs with: peeled fully-peeled sorted ",
            "# pack-refs with: peeled ",
        ] {
            let text = packed(header, &names);
            for (n, name) in names.iter().enumerate() {
                assert_eq!(
                    find_packed(text.as_bytes(), name),
                    Ref::Commit(id(n)),
                    "{name}"
                );
            }
            for absent in [
                "refs/heads/a",
                "refs/heads/b0500x",
                "refs/heads/z",
                "refs/heads/b",
            ] {
                assert_eq!(
                    find_packed(text.as_bytes(), absent),
                    Ref::Missing,
                    "{absent}"
                );
            }
        }
    }

    #[test]
    fn garbage_is_unclear_or_missing_and_never_a_panic() {
        assert_eq!(find_packed(b"", "refs/heads/main"), Ref::Missing);
        assert_eq!(
            find_packed(b"\n\n^\n# x\n", "refs/heads/main"),
            Ref::Missing
        );
        assert_eq!(
            find_packed(b"xyz refs/heads/main", "refs/heads/main"),
            Ref::Unclear
        );
        let long = [b"# sorted\n".to_vec(), vec![b'^'; 10_000]].concat();
        assert_eq!(find_packed(&long, "refs/heads/main"), Ref::Missing);
        assert_eq!(as_commit(b"ref: refs/heads/other\n"), Ref::Unclear);
        assert_eq!(as_commit(b""), Ref::Unclear);
    }
}
