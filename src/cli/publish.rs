//! What CI does for machines that deploy prebuilt systems: it builds the hosts of the flake here, copies them to a
//! cache, and names them in the note of the commit.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::args::Publication;
use super::{hosts, output::print};
use crate::deploy::context::Completion;
use crate::git::notes::LARGEST;
use crate::nix;
use crate::sys::{command, progress, temp_dir::TempDir};

/// How often the note is written anew because somebody else has pushed meanwhile.
const TRIES: u32 = 10;
/// How long git may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Builds, copies and names the hosts. One that fails does not keep the others from being published.
pub fn publish(publication: &Publication) -> Result<Completion> {
    let Publication {
        to, notes, remote, ..
    } = publication;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    ensure!(
        changes.is_empty(),
        "The work tree has changes that are in no commit: commit them, because a system is published for a commit"
    );
    let commit = git(&["rev-parse", "HEAD"])?;
    let folder =
        TempDir::new("comin-publish-").context("Failed to create a temporary directory")?;
    let link = |name: &str| folder.path().join(name);
    let built = match &publication.hosts[..] {
        [] => vec![hosts::systems(".", None, Some(&link("all")))?],
        names => names
            .iter()
            .zip(0..)
            .map(|(name, n)| hosts::systems(".", Some(name), Some(&link(&n.to_string()))))
            .collect::<Result<_>>()?,
    };
    let systems: Vec<(&str, &Path)> = built.iter().flat_map(hosts::Systems::built).collect();
    for (host, _) in &systems {
        let is_word = !host.contains(|c: char| c.is_whitespace() || c.is_control());
        ensure!(is_word, "{host:?} cannot be named in a note");
    }
    if !systems.is_empty() {
        if let Some(cache) = to {
            let paths: Vec<&Path> = systems.iter().map(|(_, out)| *out).collect();
            progress::during_told(&format!("Copying to {cache}"), || nix::copy(cache, &paths))?;
        }
        let lines = systems
            .iter()
            .map(|(host, out)| format!("{host} {}", out.display()));
        let lines: Vec<String> = lines.collect();
        append(notes, remote, &commit, &lines.join("\n"))?;
        print(&lines.join("\n"))?;
    }
    let is_failure = |systems: &hosts::Systems| systems.ending() == Completion::Failure;
    Ok(Completion::failed_if(built.iter().any(is_failure)))
}

/// Appends lines to the note of a commit on the remote, to which others may push at the same time.
fn append(notes: &str, remote: &str, commit: &str, lines: &str) -> Result<()> {
    let name = format!("refs/notes/{notes}");
    // With a star, it is no error if the remote has no notes yet.
    let refspec = format!("+{name}*:{name}*");
    let mut tries = 1;
    loop {
        git(&["fetch", "--quiet", "--no-tags", remote, &refspec])?;
        git(&["notes", "--ref", notes, "append", "-m", lines, commit])?;
        let size = git(&["notes", "--ref", notes, "show", commit])?.len();
        ensure!(
            size <= LARGEST,
            "The note of {commit} would have {size} bytes, and machines read at most {LARGEST}: publish groups of hosts, each with its own --notes"
        );
        match git(&["push", "--quiet", remote, &name]) {
            Err(error) if tries < TRIES => log::debug!("Trying again: {error:#}"),
            pushed => return pushed.map(drop),
        }
        tries += 1;
    }
}

/// What git answers here, with the settings of whoever runs this.
fn git(arguments: &[&str]) -> Result<String> {
    let mut git = Command::new("git");
    git.args(arguments);
    for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
        // CI often has no name.
        let (name, email) = (format!("{name}_NAME"), format!("{name}_EMAIL"));
        if std::env::var_os(&name).is_none() {
            git.env(name, "comin").env(email, "comin@localhost");
        }
    }
    let what = format!("git {}", arguments[0]);
    let answer = command::ask(&mut git, &what, Stdio::null(), PATIENCE)?;
    ensure!(answer.code == 0, "{what} failed: {}", answer.stderr_words());
    let output = String::from_utf8(answer.output);
    Ok(output
        .with_context(|| format!("{what} answered no text"))?
        .trim()
        .to_string())
}
