//! The mirror: a bare repository with the followed branches of every remote, by libgit2.

mod advertisement;
mod ancestry;
mod child;
mod http;
mod loan;
mod local;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Result};
use git2::transport::Transport;
use git2::{
    AutotagOption, ConfigLevel, Direction, ErrorClass, ErrorCode, FetchOptions, ObjectType, Oid,
    RemoteConnection, Repository, Sort,
};

use crate::commit::Commit;
use crate::config::{Remote, RemoteName};
use crate::fs::Lock;
use crate::journal::{printable, shortened};
use crate::paths::Paths;
use crate::refs::{Ref, Refs};
use crate::select::Relation;
use crate::shared::Shared;
use crate::ssh;
use crate::url::Url;

/// Keeps the accepted main, also when the state file is lost.
const ACCEPTED: &str = "refs/comin/main";
/// Keeps the commit under evaluation: the remote's own branch may move meanwhile.
pub const TARGET: &str = "refs/comin/target";

/// How many packs are open at a time: a walk through a history may need one after the other.
const OPEN_PACKS: usize = 128;

/// More bytes than any commit has that somebody makes. What is larger compresses well, and fills the memory.
const COMMIT: usize = 16 * 1024 * 1024;

/// How many characters of a subject are kept.
const SUBJECT: usize = 200;

/// The scheme under which libgit2 knows our transports; the name of the remote follows it.
const SCHEME: &str = "comin";

/// What the fetch under way talks to. libgit2 keeps one factory of transports for the process, and
/// comin fetches one remote at a time.
static SERVER: Shared<Option<Server>> = Shared::new(None);

/// What a fetch talks to.
#[derive(Clone)]
enum Server {
    Child(child::Server),
    Http(http::Server),
}

impl Server {
    fn of(remote: &Remote) -> Result<Self> {
        let timeout = remote.timeout;
        let child = |source| Self::Child(child::Server { source, timeout });
        Ok(match &remote.url {
            Url::Local(path) => child(child::Source::Local(path.clone())),
            Url::Ssh(ssh) => {
                ssh::check_key(ssh)?;
                child(child::Source::Ssh(ssh.clone()))
            }
            Url::Http(http) => Self::Http(http::Server::new(http, timeout)?),
        })
    }

    fn install(self) {
        *SERVER.lock() = Some(self);
    }
}

/// The sentence about a fetch that took longer than it may.
fn given_up(timeout: Option<Duration>) -> String {
    let seconds = timeout.unwrap_or_default().as_secs();
    format!("it was given up after {seconds} seconds, the remote's timeout")
}

/// What went wrong with a server, as libgit2 takes it: git2 panics at a zero byte, and the words may be the server's.
fn failure(text: &str) -> io::Error {
    io::Error::other(printable(text).into_owned())
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

/// The heads of a remote's followed branches; by default, of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the main branch.
    pub main: Option<Commit>,
    /// Of the testing branch.
    pub testing: Option<Commit>,
}

impl Heads {
    /// Finds the heads of a remote's branches with `find`, which is given branch names.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn find<E>(
        remote: &Remote,
        find: impl Fn(&str) -> Result<Option<Commit>, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            main: find(&remote.main.name)?,
            testing: match &remote.testing {
                Some(testing) => find(&testing.name)?,
                None => None,
            },
        })
    }
}

/// Asks a remote for its branches within a time, and leaves the mirror alone.
///
/// # Errors
/// It does not answer.
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
fn connect<'c, 'r>(git: &'c mut git2::Remote<'r>) -> Result<RemoteConnection<'r, 'c, 'c>> {
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

/// The ref of the mirror that follows a branch.
#[must_use]
pub fn tracking(remote: &RemoteName, branch: &str) -> String {
    format!("refs/remotes/{remote}/{branch}")
}

/// The bare repository in the state folder.
pub struct Mirror {
    repository: Repository,
    path: PathBuf,
    /// Held by whoever makes it.
    lock: PathBuf,
}

impl Mirror {
    /// Opens the mirror to read it.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(paths: &Paths) -> Result<Self> {
        start_libgit2();
        let path = paths.repository();
        let repository = Repository::open_bare(&path)
            .with_context(|| format!("Failed to open the mirror {}", path.display()))?;
        Ok(Self {
            repository,
            path,
            lock: paths.repository_lock(),
        })
    }

    /// Opens the mirror to write to it. Where there is none a new one is made; a damaged one is
    /// emptied first: everything in it comes from the remotes, and the accepted main is also in
    /// the state.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn ready(paths: &Paths, remotes: &[Remote]) -> Result<Self> {
        let open = || Self::open(paths).and_then(|mirror| mirror.sound(remotes));
        if let Ok(mirror) = open() {
            mirror.link()?;
            mirror.forget_all_but(remotes)?;
            return Ok(mirror);
        }
        let path = paths.repository();
        // Another process may be at the same: the one that comes second finds it done.
        let _lock = Lock::wait(&paths.repository_lock())?;
        if let Err(damage) = open() {
            if path.join("HEAD").exists() || path.join("objects").exists() {
                log::warn!("The mirror is damaged and is made anew from the remotes: {damage:#}");
            }
            empty(&path).with_context(|| format!("Failed to empty {}", path.display()))?;
            Repository::init_bare(&path)
                .with_context(|| format!("Failed to make the mirror {}", path.display()))?;
        }
        let mirror = Self::open(paths)?;
        mirror.link()?;
        Ok(mirror)
    }

    /// Lets the mirror look like a repository with files: Nix uses that as it is, but of a bare one it
    /// makes a copy, and forgets where relative submodules are.
    fn link(&self) -> Result<()> {
        match std::os::unix::fs::symlink(".", self.path.join(".git")) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made.with_context(|| format!("Failed to write into {}", self.path.display())),
        }
    }

    /// Whether every ref leads to a commit and its tree. What lies deeper shows when it is used.
    fn sound(self, remotes: &[Remote]) -> Result<Self> {
        self.repository.find_reference("HEAD")?;
        // libgit2 reads zeros as nothing; the git that Nix runs fails on them, each time.
        ensure!(
            self.repository.config()?.get_bool("core.bare")?,
            "its config says that it is none"
        );
        // Root's git, which Nix runs, would go by other settings than those that no fetch can write.
        let link = crate::fs::read_link_optional(&self.path.join(".git"))?;
        ensure!(
            link.is_none_or(|link| link == Path::new(".")),
            "its .git leads elsewhere"
        );
        let elsewhere = self.path.join("commondir");
        ensure!(
            fs::symlink_metadata(elsewhere).is_err(),
            "its commondir leads elsewhere"
        );
        // Beside the walk below, for that passes over a file which holds no reference.
        for remote in remotes {
            self.heads(remote)?;
        }
        for reference in [ACCEPTED, TARGET] {
            self.head(reference)?;
        }
        for reference in self.repository.references()? {
            let reference = reference?;
            let name = String::from_utf8_lossy(reference.name_bytes());
            reference
                .peel_to_commit()
                .and_then(|commit| commit.tree())
                .with_context(|| format!("{name} cannot be read"))?;
        }
        Ok(self)
    }

    /// Brings the heads of a remote's branches into the mirror, and removes what is no longer
    /// followed there. Nothing is written where nothing has moved.
    ///
    /// # Errors
    /// The remote cannot be reached or sends something unusable; the refs are as before then.
    pub fn fetch(&self, remote: &Remote) -> Result<Heads> {
        Server::of(remote)?.install();
        let url = format!("{SCHEME}://{}", remote.name);
        let mut git = self.repository.remote_anonymous(&url)?;
        let mut connection = connect(&mut git)?;
        let advertised = connection.list()?;
        let advertised = Heads::find(remote, |branch| {
            let name = format!("refs/heads/{branch}");
            let head = advertised.iter().find(|head| head.name() == name);
            head.map(|head| commit(head.oid())).transpose()
        })?;
        let before = self.heads(remote);
        if before.as_ref().is_ok_and(|heads| *heads == advertised) {
            return Ok(advertised);
        }
        let before = before.unwrap_or_default();
        self.prune(remote, &advertised)?;
        let refspecs: Vec<String> = followed(remote, &advertised)
            .map(|(branch, _)| format!("+refs/heads/{branch}:{}", tracking(&remote.name, branch)))
            .collect();
        for (branch, _) in followed(remote, &advertised) {
            self.unlock(&tracking(&remote.name, branch))?;
        }
        if !refspecs.is_empty() {
            let mut options = FetchOptions::new();
            options
                .download_tags(AutotagOption::None)
                .update_fetchhead(false);
            connection
                .remote()
                .fetch(&refspecs, Some(&mut options), None)?;
        }
        let heads = self.heads(remote)?;
        if let Err(error) = self.complete(remote, &heads) {
            // Else the next look at the mirror would find it damaged, which costs the other remotes theirs.
            self.put_back(remote, &before)?;
            return Err(error);
        }
        Ok(heads)
    }

    /// Whether these heads are commits that can be read. They may be anything that the remote has.
    fn complete(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        followed(remote, heads).try_for_each(|(branch, head)| {
            let id = Oid::from_str(head.as_str())?;
            self.weigh(id)
                .with_context(|| format!("{branch} is not taken"))?;
            let read = || self.repository.find_commit(id)?.tree().map(drop);
            read()
                .map_err(|error| {
                    // It is as the remote has it: nothing in the mirror is to blame.
                    if error.class() == ErrorClass::Invalid {
                        anyhow!("{error}")
                    } else {
                        error.into()
                    }
                })
                .with_context(|| format!("{branch} came incompletely"))
        })
    }

    /// Whether a commit is as small as commits are.
    fn weigh(&self, id: Oid) -> Result<()> {
        let size = self
            .repository
            .odb()?
            .read_header(id)
            .map_or(0, |(size, _)| size);
        ensure!(
            size <= COMMIT,
            "its commit alone has {size} bytes, and {COMMIT} are the most"
        );
        Ok(())
    }

    /// Lets a remote's branches be where they were.
    fn put_back(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        self.prune(remote, heads)?;
        followed(remote, heads)
            .try_for_each(|(branch, head)| self.point(&tracking(&remote.name, branch), head))
    }

    /// Removes the refs of this remote that follow no branch of it.
    fn prune(&self, remote: &Remote, heads: &Heads) -> Result<()> {
        let keep: Vec<String> = followed(remote, heads)
            .map(|(branch, _)| tracking(&remote.name, branch))
            .collect();
        let stale = |name: &str| !keep.iter().any(|keep| keep == name);
        self.delete(&tracking(&remote.name, "*"), stale).map(drop)
    }

    /// Removes the refs of remotes that are not followed any more, or have another name now.
    fn forget_all_but(&self, remotes: &[Remote]) -> Result<()> {
        let kept: Vec<String> = remotes.iter().map(|r| tracking(&r.name, "")).collect();
        let stale = |name: &str| !kept.iter().any(|kept| name.starts_with(kept));
        self.delete("refs/remotes/*", stale).map(drop)
    }

    /// Removes the branches whose history cannot be read, if it may be their fault that a fetch failed: libgit2 tells
    /// each server of all of them. Says whether there were any.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn forget_unreadable(&self, error: &anyhow::Error) -> Result<bool> {
        if !is_about_objects(error) {
            return Ok(false);
        }
        let read = |name: &str| -> Result<(), git2::Error> {
            let mut walk = self.repository.revwalk()?;
            walk.push_ref(name)?;
            walk.try_for_each(|commit| commit.map(drop))
        };
        self.delete("refs/remotes/*", |name| match read(name) {
            Ok(()) => false,
            Err(error) => {
                log::warn!("Nothing else could be fetched: {name} is given up until it is fetched again, for its history cannot be read: {error}");
                true
            }
        })
    }

    fn delete(&self, pattern: &str, stale: impl Fn(&str) -> bool) -> Result<bool> {
        let mut deleted = false;
        for reference in self.repository.references_glob(pattern)? {
            let mut reference = reference?;
            let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
            if stale(&name) {
                self.unlock(&name)?;
                reference.delete()?;
                deleted = true;
            }
        }
        Ok(deleted)
    }

    /// Removes the lock on a reference that a process left which was killed: who may write the reference
    /// now holds a lock of comin's own, so nobody else is at it. No fetch would ever work again.
    fn unlock(&self, reference: &str) -> Result<()> {
        crate::fs::remove_optional(&self.path.join(format!("{reference}.lock"))).map(|_| ())
    }

    /// What fetches that were killed have left: packs that came in part, as large as they may be, and locks
    /// that no reference has. Those of fetches under way are among them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let folder = self.path.join("objects/pack");
        let list = || -> io::Result<Vec<PathBuf>> {
            let shallow = self.path.join("shallow.lock");
            let mut leftovers: Vec<PathBuf> =
                shallow.exists().then_some(shallow).into_iter().collect();
            for entry in fs::read_dir(&folder)? {
                let name = entry?.file_name();
                let text = name.to_string_lossy();
                if text.starts_with("pack_git2_") || text.ends_with(".lock") {
                    leftovers.push(folder.join(&name));
                }
            }
            Ok(leftovers)
        };
        list().with_context(|| format!("Failed to read {}", folder.display()))
    }

    /// The heads of a remote as the mirror has them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn heads(&self, remote: &Remote) -> Result<Heads> {
        Heads::find(remote, |branch| self.head(&tracking(&remote.name, branch)))
    }

    fn head(&self, reference: &str) -> Result<Option<Commit>> {
        match self.repository.refname_to_id(reference) {
            Ok(oid) => Ok(Some(commit(oid)?)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("Failed to read {reference}")),
        }
    }

    fn commit(&self, commit: &Commit) -> Result<git2::Commit<'_>> {
        Ok(self
            .repository
            .find_commit(Oid::from_str(commit.as_str())?)?)
    }

    /// The first line of a commit's message, as far as a person reads it.
    ///
    /// # Errors
    /// The commit cannot be read.
    pub fn subject(&self, commit: &Commit) -> Result<String> {
        let commit = self.commit(commit)?;
        let subject = commit.summary_bytes().unwrap_or_default();
        let subject = String::from_utf8_lossy(subject);
        Ok(shortened(&subject, SUBJECT).into_owned())
    }

    /// A commit's message, as the author wrote it.
    ///
    /// # Errors
    /// The commit cannot be read.
    pub fn message(&self, commit: &Commit) -> Result<String> {
        let commit = self.commit(commit)?;
        Ok(String::from_utf8_lossy(commit.message_bytes()).into_owned())
    }

    /// The bytes of a commit object. They are those that the id stands for: libgit2 hashes what it
    /// reads and compares (`GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION`, on by default, and a test of
    /// ours), by the SHA-1 that detects collisions. It is built without SHA-256 repositories.
    ///
    /// # Errors
    /// The mirror has no such commit, or it is damaged.
    pub fn raw_commit(&self, commit: &Commit) -> Result<Vec<u8>> {
        let read = || -> Result<Vec<u8>> {
            let id = Oid::from_str(commit.as_str())?;
            self.weigh(id)?;
            let odb = self.repository.odb()?;
            let object = odb.read(id)?;
            ensure!(object.kind() == ObjectType::Commit, "it is no commit");
            Ok(object.data().to_vec())
        };
        read().with_context(|| format!("Failed to read {commit}"))
    }

    /// Where `head` stands relative to another commit, `base`.
    #[must_use]
    pub fn relation(&self, base: &Commit, head: &Commit) -> Relation {
        let compare = || -> Result<Relation> {
            let base = Oid::from_str(base.as_str())?;
            let head = Oid::from_str(head.as_str())?;
            // The mirror has the whole history of every head: what it lacks is in none of them.
            if self
                .repository
                .find_commit(base)
                .is_err_and(|e| e.code() == ErrorCode::NotFound)
            {
                return Ok(Relation::Diverged);
            }
            ancestry::relation(&self.repository.odb()?, base, head)
        };
        without_hashing(compare).unwrap_or_else(|error| {
            Relation::Unreadable(format!(
                "{error:#}; if the remote is complete, remove {}, and the next fetch makes it anew",
                self.path.display()
            ))
        })
    }

    /// The newest ancestors of `head` that are not in the history of `base`, then `base`; at most `most`.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn ancestors(
        &self,
        base: Option<&Commit>,
        head: &Commit,
        most: usize,
    ) -> Result<Vec<Commit>> {
        let head = Oid::from_str(head.as_str())?;
        let mut walk = self.repository.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(head)?;
        if let Some(base) = base {
            walk.hide(Oid::from_str(base.as_str())?)?;
        }
        walk.filter(|oid| oid.as_ref().map_or(true, |oid| *oid != head))
            .take(most)
            .map(|oid| commit(oid?))
            .chain(base.cloned().map(Ok))
            .collect()
    }

    /// What is missing of a commit's files, if anything is. A folder is looked at once, however often the commit
    /// has it: a few that hold each other many times are more files than anybody can count.
    #[must_use]
    pub fn damage(&self, commit: &Commit) -> Option<String> {
        let check = || -> Result<()> {
            let odb = self.repository.odb()?;
            let top = self.commit(commit)?.tree_id();
            let (mut seen, mut left) = (HashSet::from([top]), vec![top]);
            while let Some(folder) = left.pop() {
                let Ok(tree) = self.repository.find_tree(folder) else {
                    // What is whole, and can be read by nobody all the same, somebody has made so.
                    odb.read(folder)?;
                    continue;
                };
                for entry in &tree {
                    let id = entry.id();
                    match entry.kind() {
                        Some(ObjectType::Tree) if seen.insert(id) => left.push(id),
                        Some(ObjectType::Blob) => {
                            odb.read_header(id)
                                .map_err(|_| anyhow!("{id} is missing"))?;
                        }
                        // The commit of a submodule is in another repository.
                        Some(_) | None => {}
                    }
                }
            }
            Ok(())
        };
        check().err().map(|error| format!("{error:#}"))
    }

    /// What is wrong with the mirror, if it may be its fault that a fetch failed: the whole of it is read.
    /// A remote that sends too little fails alike, and must not cost the mirror.
    #[must_use]
    pub fn rot(&self, error: &anyhow::Error) -> Option<anyhow::Error> {
        if !is_about_objects(error) {
            return None;
        }
        let check = || -> Result<()> {
            let mut walk = self.repository.revwalk()?;
            walk.push_glob("refs/*")?;
            for oid in walk {
                self.repository.find_commit(oid?)?.tree()?;
            }
            let odb = self.repository.odb()?;
            let mut rotten = None;
            odb.foreach(|oid| {
                rotten = odb.read(*oid).err();
                rotten.is_none()
            })
            .map_err(|error| rotten.take().unwrap_or(error).into())
        };
        check().err()
    }

    /// Gives up the mirror: the fetches that follow fill a new one.
    ///
    /// # Errors
    /// Its folder cannot be written.
    pub fn discard(self) -> Result<()> {
        let _lock = Lock::wait(&self.lock)?;
        empty(&self.path).with_context(|| format!("Failed to empty {}", self.path.display()))
    }

    /// The accepted main, as the mirror keeps it.
    ///
    /// # Errors
    /// The ref cannot be read.
    pub fn accepted(&self) -> Result<Option<Commit>> {
        self.head(ACCEPTED)
    }

    /// Keeps the accepted main.
    ///
    /// # Errors
    /// The ref cannot be written, or the mirror has no such commit.
    pub fn keep_accepted(&self, commit: &Commit) -> Result<()> {
        self.point(ACCEPTED, commit)
    }

    /// Keeps the commit that is going to be evaluated, as [`TARGET`].
    ///
    /// # Errors
    /// The ref cannot be written, or the mirror has no such commit.
    pub fn keep_target(&self, commit: &Commit) -> Result<()> {
        self.point(TARGET, commit)
    }

    fn point(&self, reference: &str, commit: &Commit) -> Result<()> {
        if self.head(reference)?.as_ref() != Some(commit) {
            let oid = Oid::from_str(commit.as_str())?;
            self.unlock(reference)?;
            self.repository
                .reference(reference, oid, true, "comin")
                .with_context(|| format!("Failed to set {reference} in the mirror"))?;
        }
        Ok(())
    }
}

/// Whether an error may be about what is in the mirror, and not about a server.
fn is_about_objects(error: &anyhow::Error) -> bool {
    let class = error.downcast_ref().map(git2::Error::class);
    matches!(
        class,
        Some(
            ErrorClass::Invalid
                | ErrorClass::Odb
                | ErrorClass::Object
                | ErrorClass::Tree
                | ErrorClass::Zlib
                | ErrorClass::Indexer
        )
    )
}

/// The branches of a remote that have a head.
fn followed<'a>(
    remote: &'a Remote,
    heads: &'a Heads,
) -> impl Iterator<Item = (&'a str, &'a Commit)> {
    let main = Some((&*remote.main.name, heads.main.as_ref()));
    let testing = remote.testing.as_ref();
    let testing = testing.map(|testing| (&*testing.name, heads.testing.as_ref()));
    main.into_iter()
        .chain(testing)
        .filter_map(|(branch, head)| Some((branch, head?)))
}

fn commit(oid: Oid) -> Result<Commit> {
    oid.to_string()
        .parse()
        .map_err(|error: String| anyhow!(error))
}

/// Removes what is in the mirror's folder. The folder itself stays: it may be a mount.
fn empty(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// Makes a setting in a file of git's format, if it is not there yet.
///
/// # Errors
/// The file cannot be read or written.
pub fn set(file: &Path, name: &str, value: &str) -> Result<()> {
    start_libgit2();
    let set = || -> Result<(), git2::Error> {
        let mut settings = git2::Config::open(file)?;
        if settings.get_string(name).is_ok_and(|now| now == value) {
            return Ok(());
        }
        settings.set_str(name, value)
    };
    set().with_context(|| format!("Failed to set {name} in {}", file.display()))
}

/// Lets libgit2 read objects without hashing each one again, which is a sixth of a long walk: all were
/// hashed when they came, and what has rotted since does not inflate.
fn without_hashing<T>(read: impl FnOnce() -> T) -> T {
    git2::opts::strict_hash_verification(false);
    let result = read();
    git2::opts::strict_hash_verification(true);
    result
}

/// The settings of libgit2 that belong to the process.
#[allow(unsafe_code)]
fn start_libgit2() {
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

/// The heads of a remote's branches in the mirror, read without libgit2.
///
/// # Errors
/// They are not plain files, or cannot be read.
pub fn known_heads(paths: &Paths, remote: &Remote) -> Result<Heads> {
    let refs = Refs::of_bare(&paths.repository());
    Heads::find(remote, |branch| {
        let name = tracking(&remote.name, branch);
        match refs.read(&name)? {
            Ref::Commit(commit) => Ok(Some(commit)),
            Ref::Missing => Ok(None),
            Ref::Unclear => Err(anyhow!("{name} is damaged")),
        }
    })
}

/// The heads of a repository on this machine, read without libgit2; `None` where only libgit2 can tell.
///
/// # Errors
/// There is no repository.
pub fn local_heads(path: &Path, remote: &Remote) -> Result<Option<Heads>> {
    let refs = Refs::of_repository(path)?;
    let heads = Heads::find(remote, |branch| {
        match refs.read(&format!("refs/heads/{branch}")) {
            Ok(Ref::Commit(commit)) => Ok(Some(commit)),
            Ok(Ref::Missing) => Ok(None),
            Ok(Ref::Unclear) => Err(None),
            Err(error) => Err(Some(error)),
        }
    });
    match heads {
        Ok(heads) => Ok(Some(heads)),
        Err(None) => Ok(None),
        Err(Some(error)) => Err(error),
    }
}
