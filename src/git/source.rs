//! A remote as git knows it: asked for its heads, and fetched from.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Error, Result};

use super::environment::{self, Variables};
use super::git_command::{git, FETCH};
use super::heads::{followed, local_heads, refs, Heads};
use super::incoming::{Extent, TRACE};
use super::{ask, credentials, ssh};
use crate::config::{url::Url, Remote};
use crate::model::Commit;
use crate::sys::command::{self, Answer};

/// How many of git's last lines are told.
const LINES: usize = 3;
/// How many characters of them.
const CHARS: usize = 500;
/// What git says after every failure of ssh's.
const PLATITUDES: [&str; 3] = [
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// What helps if commits are missing.
const LACKS_HISTORY: &str =
    "the repository lacks a part of its history: if it is a shallow clone, run git fetch --unshallow there";

/// A remote, from which everything is to come within its timeout.
pub struct Source<'a> {
    remote: &'a Remote,
    timeout: Option<Duration>,
    started: Instant,
    variables: Variables,
    /// Why git is going to fail, if that is known from a plain request.
    cure: Option<String>,
}

impl<'a> Source<'a> {
    /// A remote; the time begins, and the credentials are looked at.
    pub fn new(remote: &'a Remote) -> Result<Self> {
        match &remote.url {
            Url::Local(_) => {}
            Url::Ssh(ssh) => ssh::check_key(ssh)?,
            Url::Http(http) => http
                .token
                .as_ref()
                .map_or(Ok(()), |token| credentials::read(token).map(drop))?,
        }
        Ok(Self {
            remote,
            timeout: remote.timeout,
            started: Instant::now(),
            variables: environment::for_fetch(remote)?,
            cure: None,
        })
    }

    /// The heads of the remote's branches, found out without git; `None` if only git can tell. Those of a server are good
    /// for a comparison alone.
    pub fn ask(&mut self) -> Result<Option<Heads>> {
        let heads = match &self.remote.url {
            Url::Local(path) => local_heads(path, self.remote)?,
            Url::Http(http) => match ask::heads(http, self.remote, self.time_left()?) {
                Ok(heads) => Some(heads),
                Err(error) => {
                    log::debug!("No answer to a plain request: {error:#}");
                    self.cure = ask::cure(&error);
                    None
                }
            },
            Url::Ssh(_) => None,
        };
        heads.map(checked).transpose()
    }

    /// The heads of the remote's branches, by git.
    pub fn list(&self) -> Result<Heads> {
        let mut git = git(None);
        // In no repository.
        git.env("GIT_DIR", "/dev/null").arg("ls-remote");
        if self.remote.notes.is_none() {
            // A server need not list the others, which may be many.
            git.arg("--heads");
        }
        self.add_upload_pack(&mut git);
        git.arg(self.address());
        git.args(refs(self.remote).into_iter().flatten());
        let answer = self.run(&mut git, "git ls-remote")?;
        let list = String::from_utf8_lossy(&answer.output);
        checked(Heads::find(self.remote, |name| {
            let mut lines = list.lines().filter_map(|line| line.split_once('\t'));
            let head = lines.find(|(_, other)| *other == name);
            let head = head.map(|(id, _)| id.parse::<Commit>());
            head.transpose().map_err(Error::msg)
        })?)
    }

    /// Whether the remote has an answer within a time.
    pub fn reach(remote: &Remote, time: Duration) -> Result<()> {
        let mut source = Source::new(remote)?;
        source.timeout = Some(time);
        match source.ask()? {
            Some(_) => Ok(()),
            None => source.list().map(drop),
        }
    }

    /// Fetches the refs that have heads, each to the same name in a bare repository that borrows objects.
    pub fn fetch_into(&self, repository: &Path, heads: &Heads, extent: Extent) -> Result<Heads> {
        let names = || followed(self.remote, heads).map(|(name, _)| name);
        if names().next().is_none() {
            return Ok(Heads::default());
        }
        let mut git = git(None);
        git.arg("--git-dir").arg(repository);
        // Git takes the commits that this command prints for complete, and walks through no history of theirs. In a fetch of
        // everything it need not: `fetch.fsckObjects` has checked that each object has what it refers to.
        let complete: Vec<String> = match extent {
            Extent::News => Vec::new(),
            Extent::Everything => followed(self.remote, heads)
                .map(|(_, head)| format!("echo {head}; "))
                .collect(),
        };
        let complete = complete.concat();
        git.args(["-c", &format!("core.alternateRefsCommand={complete}:")]);
        git.args(FETCH).args(["--no-progress", "--update-shallow"]);
        self.add_upload_pack(&mut git);
        git.arg(self.address());
        git.args(names().map(|name| format!("{name}:{name}")));
        git.env("GIT_TRACE2_EVENT", repository.join(TRACE));
        self.run(&mut git, "git fetch")?;
        // Here, git notes which of the commits that it has fetched have no parents at the remote, and ought to.
        ensure!(!repository.join("shallow").exists(), LACKS_HISTORY);
        Ok(local_heads(repository, self.remote)?.unwrap_or_default())
    }

    /// A repository on this machine may be anybody's, and its objects have to be there, not elsewhere.
    fn add_upload_pack(&self, git: &mut Command) {
        if let Url::Local(_) = self.remote.url {
            git.arg(
                "--upload-pack=git -c 'safe.directory=*' -c core.bigFileThreshold=16m upload-pack",
            );
        }
    }

    fn address(&self) -> String {
        match &self.remote.url {
            Url::Local(path) => path.display().to_string(),
            Url::Http(http) => http.url.clone(),
            Url::Ssh(ssh) => ssh::address(ssh),
        }
    }

    /// What is left of the timeout; `None` is as long as it takes.
    fn time_left(&self) -> Result<Option<Duration>> {
        let Some(timeout) = self.timeout else {
            return Ok(None);
        };
        match timeout.checked_sub(self.started.elapsed()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            Some(_) | None => bail!(
                "the fetch timed out after {} seconds, the timeout of the remote",
                timeout.as_secs()
            ),
        }
    }

    fn run(&self, git: &mut Command, what: &str) -> Result<Answer> {
        let variables = self.variables.iter();
        git.envs(variables.map(|(name, value)| (name, value)));
        let answer = command::ask(git, what, Stdio::null(), self.time_left()?);
        let answer = answer.or_else(|error| self.time_left().and(Err(error)))?;
        if answer.code != 0 {
            let ended = format!("{what} exited with status {}", answer.code);
            bail!(self.sentence(&ended, &answer));
        }
        Ok(answer)
    }

    /// What went wrong, from git's last words, and what helps, if that is known.
    fn sentence(&self, ended: &str, answer: &Answer) -> String {
        let words: Vec<&str> = answer.stderr_lines().collect();
        let words = words.join("\n");
        let has = |text: &str| words.contains(text);
        let said = spoken(&words);
        if has("No space left on device") {
            return "No space left on device".to_string();
        }
        // A bad object is a head that has moved since the remote was asked: the next fetch finds the new one.
        if has("did not send all necessary objects") && !has("bad object") {
            return LACKS_HISTORY.to_string();
        }
        match &self.remote.url {
            // Git quotes files, and by a link whose those are is up to whoever has the repository. What we say, everybody
            // may read.
            Url::Local(path) => {
                let path = path.display();
                format!("{ended}: git fsck in {path} may tell why, and so does comin --debug fetch")
            }
            Url::Ssh(ssh) => ssh::cure(ssh, &words, &said),
            Url::Http(_) => match &self.cure {
                Some(cure) => format!("{cure} ({said})"),
                None => said,
            },
        }
    }
}

/// The last lines of what was said, in one, without the frame that ssh draws around warnings.
fn spoken(words: &str) -> String {
    let lines = words.lines().map(str::trim);
    let is_told = |line: &&str| !line.starts_with('@') && !PLATITUDES.contains(line);
    let lines: Vec<&str> = lines.filter(is_told).collect();
    match lines.as_slice() {
        [] => "it ended without a message".to_string(),
        lines => {
            let last = lines[lines.len().saturating_sub(LINES)..].join(" ");
            last.chars().take(CHARS).collect()
        }
    }
}

/// Heads that can be followed: libgit2 knows no others, and neither does the mirror.
fn checked(heads: Heads) -> Result<Heads> {
    let all = [&heads.main, &heads.testing, &heads.notes];
    let is_long = |head: &Commit| head.as_str().len() > 40;
    ensure!(
        !all.into_iter().flatten().any(is_long),
        "a repository with SHA-256 objects cannot be followed: use one with SHA-1 objects, as git init --object-format=sha1 makes it"
    );
    Ok(heads)
}
