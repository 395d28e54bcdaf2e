//! A repository behind a child process that speaks Git's protocol on its standard streams:
//! git-upload-pack(1) itself, on this machine, or ssh(1), which runs it on another one.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};
use git2::Error;

use super::advertisement::Advertisement;
use super::errors::{failure, given_up};
use super::git_command;
use crate::config::url::Ssh;
use crate::git::ssh;
use crate::sys::command::{self, TimeLimit};

/// Where the process gets the repository from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder on this machine.
    Local(PathBuf),
    /// An SSH server.
    Ssh(Ssh),
}

impl Source {
    fn command(&self) -> Command {
        match self {
            Self::Local(path) => git_command::upload_pack(path),
            Self::Ssh(ssh) => ssh::upload_pack(ssh),
        }
    }

    /// What went wrong, from the last words of the process.
    fn sentence(&self, status: ExitStatus, words: &str) -> String {
        match self {
            Self::Local(path) => {
                // It quotes files, and by a link whose those are is up to whoever has the repository. What we say,
                // everybody may read.
                log::debug!("git upload-pack: {words}");
                let (how, path) = (command::sentence(status), path.display());
                format!("git upload-pack {how}: git fsck in {path} may tell why, and so does comin --debug fetch")
            }
            Self::Ssh(ssh) => ssh::sentence(ssh, status, words),
        }
    }
}

/// A repository, and how long a fetch of it may take.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub source: Source,
    /// From the start of the process to its end; `None` is as long as it likes.
    pub timeout: Option<Duration>,
}

impl SmartSubtransport for Server {
    /// One process serves both the list of references and the pack: libgit2 asks once.
    fn action(
        &self,
        _url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            Service::UploadPackLs | Service::UploadPack => {}
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(Error::from_str("comin never pushes"));
            }
        }
        let conversation = Conversation::begin(self).map_err(|error| {
            let text = format!("{error:#}");
            Error::from_str(&text)
        })?;
        Ok(Box::new(conversation))
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Conversation {
    server: Server,
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Advertisement<ChildStdout>>,
    /// `None` once they have been heard.
    words: Option<JoinHandle<String>>,
    limit: Option<TimeLimit>,
    /// How it ended, once it has been heard.
    ended: Option<Result<(), String>>,
}

impl Conversation {
    /// How long a process may take to end that nobody listens to any more.
    const GRACE: Duration = Duration::from_secs(1);

    fn begin(server: &Server) -> anyhow::Result<Self> {
        let mut command = server.source.command();
        log::debug!("Running {command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let program = command.get_program().display();
                anyhow::anyhow!("{program} cannot be started ({error}): is it installed?")
            })?;
        let words = child.stderr.take();
        Ok(Self {
            limit: match server.timeout {
                Some(time) => Some(TimeLimit::on(&child, time)?),
                None => None,
            },
            server: server.clone(),
            input: child.stdin.take(),
            output: child.stdout.take().map(|out| Advertisement::of(out, 1)),
            words: words.map(|stderr| thread::spawn(move || last_words(stderr))),
            ended: None,
            child,
        })
    }

    /// The end of the output: an error if the process says that it is one. libgit2 may ask more than once.
    fn end(&mut self) -> io::Result<()> {
        if self.ended.is_none() {
            self.ended = Some(self.hear()?);
        }
        match &self.ended {
            Some(Err(fault)) => Err(failure(fault)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Awaits the end of the process, and hears what it says has gone wrong.
    fn hear(&mut self) -> io::Result<Result<(), String>> {
        self.input = None;
        let status = self.child.wait()?;
        let words = self.words.take().map(JoinHandle::join);
        let words = words.and_then(Result::ok).unwrap_or_default();
        if self.limit.take().is_some_and(TimeLimit::struck) {
            return Ok(Err(given_up(self.server.timeout)));
        }
        Ok(if status.success() {
            Ok(())
        } else {
            Err(self.server.source.sentence(status, words.trim()))
        })
    }
}

impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self
            .output
            .as_mut()
            .map_or(Ok(0), |output| output.read(buffer))?
        {
            0 if !buffer.is_empty() => self.end().map(|()| 0),
            read => Ok(read),
        }
    }
}

impl Write for Conversation {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = match &mut self.input {
            Some(input) => input.write(buffer),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        // What has died before it was asked has more to say than that.
        written.or_else(|error| self.end().and(Err(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Closed on both sides, it ends.
        self.input = None;
        self.output = None;
        if let Err(error) = command::end(&mut self.child, Self::GRACE) {
            log::debug!("Failed to await the end of a fetch: {error:#}");
        }
    }
}

/// The end of what a process says, which may be more than anybody reads.
fn last_words(mut stderr: ChildStderr) -> String {
    const KEPT: usize = 8 * 1024;
    let mut words = Vec::new();
    let mut more = [0; KEPT];
    while let Ok(read @ 1..) = stderr.read(&mut more) {
        words.extend_from_slice(&more[..read]);
        words.drain(..words.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&words).into_owned()
}
