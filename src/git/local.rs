//! A repository on this machine, served by git-upload-pack(1).
//!
//! libgit2's own local transport copies every branch of the source, again and again. Git's server
//! side sends what is asked for, and is made to read repositories of people who are not trusted.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{Error, Remote};

/// The scheme under which libgit2 knows this transport; what follows it is the path as it is.
pub const SCHEME: &str = "comin-local";

/// What git would take for its own repository, where comin is run by a hook of another one.
const FOREIGN: [&str; 5] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
];

/// Makes the transport of libgit2 for a remote.
pub fn transport(remote: &Remote<'_>) -> Result<Transport, Error> {
    Transport::smart(remote, false, UploadPack)
}

struct UploadPack;

impl SmartSubtransport for UploadPack {
    /// One process serves both the list of references and the pack: libgit2 asks once.
    fn action(
        &self,
        url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            Service::UploadPackLs | Service::UploadPack => {}
            Service::ReceivePackLs | Service::ReceivePack => {
                return Err(Error::from_str("comin never pushes"));
            }
        }
        let path = url
            .strip_prefix(SCHEME)
            .and_then(|url| url.strip_prefix("://"));
        let path = path.ok_or_else(|| Error::from_str("not a local repository"))?;
        let mut git = Command::new("git");
        for name in FOREIGN {
            git.env_remove(name);
        }
        let child = git
            // The repository may be of a user's, and its objects must be there, not elsewhere.
            .args(["-c", "safe.directory=*", "upload-pack"])
            .arg(path)
            .env("GIT_NO_LAZY_FETCH", "1")
            .env_remove("GIT_PROTOCOL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::from_str(&format!("git cannot be started: {error}")))?;
        Ok(Box::new(Conversation::with(child)))
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Conversation {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
}

impl Conversation {
    fn with(mut child: Child) -> Self {
        Self {
            input: child.stdin.take(),
            output: child.stdout.take(),
            child,
        }
    }

    /// The end of the output: an error if git says that it is one.
    fn end(&mut self) -> io::Result<usize> {
        let mut words = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut words)?;
        }
        self.input = None;
        if self.child.wait()?.success() {
            return Ok(0);
        }
        Err(io::Error::other(format!(
            "git upload-pack: {}",
            words.trim()
        )))
    }
}

impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self
            .output
            .as_mut()
            .map_or(Ok(0), |output| output.read(buffer))?
        {
            0 if !buffer.is_empty() => self.end(),
            read => Ok(read),
        }
    }
}

impl Write for Conversation {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.input {
            Some(input) => input.write(buffer),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
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
        if let Err(error) = self.child.wait() {
            log::debug!("Failed to await git: {error}");
        }
    }
}
