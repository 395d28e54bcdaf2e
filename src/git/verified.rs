//! What is evaluated if signatures or confirmers guard the machine, or if another user than root fetches: a repository of
//! the deploy's own, to which no fetch can write. What is signed is the id of a commit, and git hashes all that comes into
//! a repository. So whatever is in the mirror, nothing else comes under that id: no replacement, no other content under an
//! id, nothing from elsewhere. The mirror is read by a process of its owner's, whose settings lead to nothing of root's.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use derive_more::Display;

use super::environment::LARGEST_ALLOCATION;
use super::git_command::{git, FETCH};
use super::mirror::{init, write_settings, Mirror};
use crate::config::paths::{Paths, TARGET_REF};
use crate::model::Commit;
use crate::sys::{command, owner::Owner};

/// How long it may take to copy a commit with its history. Whoever owns the mirror may let it take for ever.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The mirror does not have the commit.
#[derive(Debug, Display)]
#[display("The mirror has not all of the commit's files as they were committed")]
pub struct NotAsSigned;

impl std::error::Error for NotAsSigned {}

/// Git was killed or stopped, which says nothing of the mirror or of the copy.
#[derive(Debug, Display)]
#[display("Failed to copy the commit for its evaluation")]
struct Unanswered;

impl Mirror {
    /// Brings a commit, as the target, into the repository below other paths. Only what is not there yet is read.
    ///
    /// # Errors
    /// [`NotAsSigned`], and why; or git was killed or stopped.
    pub fn hand_over(&self, commit: &Commit, to: &Paths) -> Result<()> {
        let path = to.repository();
        let brought = self.bring(commit, to).or_else(|error| {
            if error.is::<Unanswered>() {
                return Err(error);
            }
            // All of it comes from here: if that one is damaged, a new one is not.
            log::debug!("{} is made anew: {error:#}", path.display());
            fs::remove_dir_all(&path).map_err(|_| error)?;
            self.bring(commit, to)
        });
        match brought {
            Err(error) if !error.is::<Unanswered>() => Err(error.context(NotAsSigned)),
            brought => brought,
        }
    }

    fn bring(&self, commit: &Commit, to: &Paths) -> Result<()> {
        let path = to.repository();
        let made = if path.exists() {
            write_settings(&path)
        } else {
            init(&path)
        };
        made.with_context(|| format!("Failed to make {}", path.display()))?;
        let mut git = fetch(&self.path, commit, &path)?;
        let answer = command::ask(&mut git, "git fetch", Stdio::null(), PATIENCE);
        let answer = answer.context(Unanswered)?;
        ensure!(answer.code == 0, "git fetch: {}", answer.stderr_words());
        let copy = Self::open(to)?;
        copy.link()?;
        if copy.needs_repack()? {
            copy.repack()?;
        }
        Ok(())
    }
}

/// A fetch of one commit. A repository may be another user's who looks at what would be deployed.
fn fetch(from: &Path, commit: &Commit, to: &Path) -> Result<Command> {
    let owner = Owner::other_than_root(from)?;
    let mut words = owner.map_or_else(Vec::new, |owner| owner.words(false));
    words.push("git -c 'safe.directory=*' upload-pack".to_string());
    let mut git = git(None);
    git.env("GIT_ALLOW_PROTOCOL", "file")
        .env("GIT_ALLOC_LIMIT", LARGEST_ALLOCATION)
        .env("GIT_NO_LAZY_FETCH", "1")
        .args(["-c", "core.hooksPath=/dev/null"])
        .args(["-c", "protocol.version=2"])
        // A pack arrives whole or not at all.
        .args(["-c", "fetch.unpackLimit=1"])
        .arg("--git-dir")
        .arg(to)
        .args(FETCH)
        .arg("--quiet")
        .arg(format!("--upload-pack={}", words.join(" ")))
        .arg(from)
        .arg(format!("+{commit}:{TARGET_REF}"));
    Ok(git)
}
