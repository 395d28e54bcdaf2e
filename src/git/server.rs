//! What a fetch talks to, by libgit2 and transports of ours.

use std::sync::Once;
use std::time::Duration;

use anyhow::{anyhow, Result};
use git2::transport::Transport;
use git2::{ConfigLevel, Direction, RemoteConnection};

use super::heads::local_heads;
use super::{http, process};
use crate::config::url::Url;
use crate::config::Remote;
use crate::git::ssh;
use crate::sys::mutex::Shared;

/// How many packs are open at a time: a walk through a history may need one after the other.
const OPEN_PACKS: usize = 128;

/// The scheme under which libgit2 knows our transports; the name of the remote follows it.
pub(super) const SCHEME: &str = "comin";

/// What the fetch under way talks to. libgit2 keeps one factory of transports for the process, and
/// comin fetches one remote at a time.
static SERVER: Shared<Option<Server>> = Shared::new(None);

/// What a fetch talks to.
#[derive(Clone)]
pub(super) enum Server {
    Child(process::Server),
    Http(http::Server),
}

impl Server {
    pub(super) fn of(remote: &Remote) -> Result<Self> {
        let timeout = remote.timeout;
        let child = |source| Self::Child(process::Server { source, timeout });
        Ok(match &remote.url {
            Url::Local(path) => child(process::Source::Local(path.clone())),
            Url::Ssh(ssh) => {
                ssh::check_key(ssh)?;
                child(process::Source::Ssh(ssh.clone()))
            }
            Url::Http(http) => Self::Http(http::Server::new(http, timeout)?),
        })
    }

    pub(super) fn install(self) {
        *SERVER.lock() = Some(self);
    }
}

/// Makes the transport of libgit2 for a remote.
fn transport(remote: &git2::Remote<'_>) -> Result<Transport, git2::Error> {
    let server = SERVER.lock().clone();
    match server {
        Some(Server::Child(server)) => Transport::smart(remote, false, server),
        Some(Server::Http(server)) => Transport::smart(remote, true, server),
        None => Err(git2::Error::from_str("nothing is being fetched")),
    }
}

/// Asks a remote for its branches within a time, and leaves the mirror alone.
pub fn reach(remote: &Remote, time: Duration) -> Result<()> {
    if let Url::Local(path) = &remote.url {
        return local_heads(path, remote).map(drop);
    }
    start_libgit2();
    let hurried = Remote {
        timeout: Some(time),
        ..remote.clone()
    };
    Server::of(&hurried)?.install();
    let mut git = git2::Remote::create_detached(format!("{SCHEME}://{}", remote.name))?;
    connect(&mut git)?.list()?;
    Ok(())
}

/// Begins a fetch: the remote says what it is and has.
pub(super) fn connect<'c, 'r>(
    git: &'c mut git2::Remote<'r>,
) -> Result<RemoteConnection<'r, 'c, 'c>> {
    let connected = git.connect_auth(Direction::Fetch, None, None);
    connected.map_err(|error| {
        // libgit2 knows no other objects, and has no code for that it meets some.
        if error.message().contains("remote object format") {
            anyhow!("a repository with SHA-256 objects cannot be followed: use one with SHA-1 objects, as git init --object-format=sha1 makes it")
        } else {
            error.into()
        }
    })
}

/// The settings of libgit2 that belong to the process.
#[allow(unsafe_code)]
pub(super) fn start_libgit2() {
    static START: Once = Once::new();
    START.call_once(|| {
        // A commit is looked at once; to keep it costs a fifth of a long walk.
        git2::opts::enable_caching(false);
        // SAFETY: all change globals of libgit2 and must not run beside other uses of it. Every
        // use goes through a `Mirror`, whose constructor calls this first, once.
        let started = unsafe {
            // `comin status` reads root's mirror as anybody.
            git2::opts::set_verify_owner_validation(false)
                // And nobody's configuration has a say, nor can be in the way.
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::System, ""))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::Global, ""))
                .and_then(|()| git2::opts::set_search_path(ConfigLevel::XDG, ""))
                // Each fetch makes a pack, and a process may have 1024 files by default.
                .and_then(|()| git2::opts::set_mwindow_file_limit(OPEN_PACKS))
                .and_then(|()| git2::transport::register(SCHEME, transport))
        };
        if let Err(error) = started {
            log::error!("Failed to prepare libgit2: {error}");
        }
    });
}
