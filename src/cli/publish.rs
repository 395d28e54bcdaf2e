//! What CI does for machines that deploy prebuilt systems: it builds the hosts of the flake here, copies them to a
//! cache, and names them in the note of the commit.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::{args::Publication, hosts, output::print};
use crate::deploy::context::Completion;
use crate::git::notes::LARGEST;
use crate::model::prebuilt::in_note;
use crate::nix;
use crate::sys::command::{ask, Answer};
use crate::sys::{fs, progress, temp_dir::TempDir};

/// How often a push may fail although nobody has moved the notes meanwhile.
const FAILURES: u32 = 3;
/// How long git may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Builds, copies and names the hosts. One that fails does not keep the others from being published.
pub fn publish(publication: &Publication) -> Result<Completion> {
    let changes = CLONE.text(&["status", "--porcelain", "--untracked-files=no"])?;
    ensure!(
        changes.is_empty(),
        "The work tree has changes that are in no commit: commit them, because a system is published for a commit"
    );
    let commit = CLONE.text(&["rev-parse", "HEAD"])?;
    if let Some(cache) = &publication.to {
        let reached = nix::check_cache(cache);
        reached.with_context(|| {
            format!("Nothing was built, because nothing can be copied to {cache}")
        })?;
    }
    let folder =
        TempDir::new("comin-publish-").context("Failed to create a temporary directory")?;
    let hosts: Vec<&str> = publication.hosts.iter().map(String::as_str).collect();
    let built = hosts::systems(".", &hosts, Some(&folder.path().join("system")))?;
    let is_word = |(host, _): &(&str, &Path)| {
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    let (systems, odd): (Vec<_>, Vec<_>) = built.built().partition(is_word);
    for (host, _) in &odd {
        log::error!(
            "{host:?} is not published: a note names no host with a space or a line break in its name"
        );
    }
    if !systems.is_empty() {
        if let Some(cache) = &publication.to {
            let paths: Vec<&Path> = systems.iter().map(|(_, out)| *out).collect();
            progress::during_told(&format!("Copying to {cache}"), || {
                nix::copy_to(cache, &paths)
            })?;
        }
        name(publication, &commit, &systems, folder.path())?;
        print(lines(&systems).trim_end())?;
    }
    Ok(Completion::failed_if(!odd.is_empty()).and(built.ending()))
}

/// As they are in a note.
fn lines(systems: &[(&str, &Path)]) -> String {
    let lines = systems.iter();
    let lines = lines.map(|(host, out)| format!("{host} {}\n", out.display()));
    lines.collect()
}

/// Names systems in the note of a commit on the remote, to which others may push at the same time. The refs of the
/// clone are left alone: those of another repository in `folder` are moved instead.
fn name(
    publication: &Publication,
    commit: &str,
    systems: &[(&str, &Path)],
    folder: &Path,
) -> Result<()> {
    let Publication { notes, remote, .. } = publication;
    let notes = &*format!("refs/notes/{notes}");
    let message = folder.join("message");
    let message_file = format!("--file={}", message.display());
    let objects = CLONE.text(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "objects",
    ])?;
    let aside = folder.join("aside").display().to_string();
    let aside = Git(&[("GIT_DIR", &aside), ("GIT_OBJECT_DIRECTORY", &objects)]);
    aside.text(&["init", "--quiet", "--bare"])?;
    let (mut before, mut failures) = (None, 0);
    loop {
        let heads = CLONE.text(&["ls-remote", remote, notes])?;
        let mut heads = heads.lines().filter_map(|line| line.split_once('\t'));
        let head = heads.find(|(_, name)| *name == notes);
        let head = head.map(|(head, _)| head.to_string());
        if let Some(head) = &head {
            // Into no ref.
            let quietly = ["--quiet", "--no-tags", "--no-write-fetch-head", "--refmap="];
            CLONE.text(&[&["fetch"], &quietly[..], &[remote, notes]].concat())?;
            aside.text(&["update-ref", notes, head])?;
        } else {
            aside.text(&["update-ref", "-d", notes])?;
        }
        let note = aside
            .ask(&["notes", "--ref", notes, "show", commit])?
            .output;
        let is_there = |(host, out): &(&str, &Path)| {
            in_note(&note, host).is_ok_and(|system| system.as_deref() == Some(*out))
        };
        let mut new = systems.to_vec();
        new.retain(|system| !is_there(system));
        let new = lines(&new);
        if new.is_empty() {
            return Ok(());
        }
        // Git puts a line break between them.
        let size = note.len() + 1 + new.len();
        ensure!(
            size <= LARGEST,
            "The note of {commit} would have {size} bytes, the limit is {LARGEST}: publish groups of hosts, each with --notes and prebuilt.notes of its own"
        );
        fs::replace(&message, new.as_bytes())?;
        aside.text(&["notes", "--ref", notes, "append", &message_file, commit])?;
        let named = aside.text(&["rev-parse", notes])?;
        let pushed = CLONE.text(&["push", "--quiet", remote, &format!("{named}:{notes}")]);
        failures = if head == before { failures + 1 } else { 1 };
        before = head;
        match pushed {
            Err(error) if failures < FAILURES => log::debug!("Trying again: {error:#}"),
            pushed => {
                return pushed.map(drop).with_context(|| {
                    format!("No machine knows of these systems, because {notes} cannot be pushed to {remote}")
                })
            }
        }
    }
}

/// Git with these variables, and with the settings of whoever runs this.
struct Git<'a>(&'a [(&'a str, &'a str)]);

/// In the clone that CI has made.
const CLONE: Git = Git(&[]);

impl Git<'_> {
    fn ask(&self, arguments: &[&str]) -> Result<Answer> {
        let mut git = Command::new("git");
        git.args(arguments).envs(self.0.iter().copied());
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            // CI often has no name.
            let (name, email) = (format!("{name}_NAME"), format!("{name}_EMAIL"));
            if std::env::var_os(&name).is_none() {
                git.env(name, "comin").env(email, "comin@localhost");
            }
        }
        ask(
            &mut git,
            &format!("git {}", arguments[0]),
            Stdio::null(),
            PATIENCE,
        )
    }

    /// What it answers if it does not fail.
    fn text(&self, arguments: &[&str]) -> Result<String> {
        let (what, answer) = (arguments[0], self.ask(arguments)?);
        ensure!(
            answer.code == 0,
            "git {what} failed: {}",
            answer.stderr_words()
        );
        let output = String::from_utf8(answer.output);
        let output = output.with_context(|| format!("git {what} answered no text"))?;
        Ok(output.trim().to_string())
    }
}
