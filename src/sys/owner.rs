//! Another user, with whose rights alone root does some things. In a folder of that user, no link leads root to what the
//! user could not reach anyway.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{geteuid, getgroups, Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::temp_dir;

/// How long root works in another user's folder. That user may let it take for ever, by a pipe in place of a file, or by
/// a lock.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A user, mostly the one who owns a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    pub const ROOT: Self = Self {
        uid: Uid::ROOT,
        gid: Gid::ROOT,
    };

    /// The user of this name in a passwd(5), unless that is root.
    pub fn named(name: &str, passwd: &Path) -> Result<Option<Self>> {
        let users = super::fs::read_optional(passwd)?.unwrap_or_default();
        let owner = |line: &str| -> Option<Self> {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':');
            let uid = Uid::from_raw(fields.nth(1)?.parse().ok()?);
            let gid = Gid::from_raw(fields.next()?.parse().ok()?);
            (!uid.is_root()).then_some(Self { uid, gid })
        };
        Ok(String::from_utf8_lossy(&users).lines().find_map(owner))
    }

    /// The owner of a folder, if this is root and the folder is another user's.
    pub fn other_than_root(folder: &Path) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let found = match folder.symlink_metadata() {
            Err(error) if super::fs::is_absent(&error) => return Ok(None),
            found => found.with_context(|| format!("Failed to read {}", folder.display()))?,
        };
        let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        Ok((!uid.is_root()).then_some(Self { uid, gid }))
    }

    /// Makes a folder, or file, the owner's.
    pub fn give(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// The words that begin a command which has the owner's rights for good, and may besides read every file if
    /// `reads_all`. None of them means anything to a shell.
    pub fn words(self, reads_all: bool) -> Vec<String> {
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        let rights = if reads_all {
            "-all,+dac_read_search"
        } else {
            "-all"
        };
        // Without the securebit, access(2) would not count the right to read every file.
        let words = format!(
            "setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs --securebits=+no_setuid_fixup \
             --inh-caps={rights} --ambient-caps={rights} --bounding-set={rights} --"
        );
        words.split(' ').map(str::to_string).collect()
    }

    /// A program that begins with [`Owner::words`].
    pub fn command(self, program: impl AsRef<OsStr>, reads_all: bool) -> Command {
        let words = self.words(reads_all);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        keep_environment_from(&mut command);
        command
    }
}

/// Keeps our environment from a command, which may become somebody else's. It learns where programs, certificates and
/// proxies are.
pub fn keep_environment_from(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        let is_told = matches!(
            &*upper,
            "PATH" | "TZ" | "LOCALE_ARCHIVE" | "CREDENTIALS_DIRECTORY"
        ) || upper.starts_with("LC_")
            || upper.contains("SSL_C")
            || upper.ends_with("_PROXY");
        if !is_told {
            command.env_remove(name);
        }
    }
}

/// The rights of a folder's owner, in this thread, until this is dropped. If that takes too long, comin ends: nobody can
/// stop a thread that opens a file.
#[must_use]
#[derive(Debug)]
pub struct AsOwner {
    /// The groups that root had.
    groups: Vec<Gid>,
    /// The watch over the time ends with this.
    _watch: Sender<Infallible>,
}

impl AsOwner {
    /// Takes the rights of the folder's owner, if this is root and the folder is another user's.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let owner = Owner::other_than_root(folder)?;
        owner.map(Self::take).transpose()
    }

    /// Takes the rights of another user.
    pub fn take(owner: Owner) -> Result<Self> {
        Self::take_for(owner, PATIENCE)
    }

    fn take_for(Owner { uid, gid }: Owner, limit: Duration) -> Result<Self> {
        let take = || -> io::Result<Self> {
            // From here on, whatever has been taken is given back.
            let taken = Self {
                groups: getgroups()?,
                _watch: watch(uid, limit)?,
            };
            set_thread_groups(&[])?;
            set_thread_res_gid(None, gid, None)?;
            set_thread_res_uid(None, uid, None)?;
            Ok(taken)
        };
        take().with_context(|| format!("Failed to take the rights of user {uid}"))
    }
}

/// Ends comin after a time, unless what this returns is dropped before.
fn watch(uid: Uid, limit: Duration) -> io::Result<Sender<Infallible>> {
    let (watch, dropped) = channel();
    let wait = move || {
        if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "comin has waited {} seconds for files or locks of the user {uid}, and ends. The next start tries again",
                limit.as_secs()
            );
            temp_dir::remove_all();
            std::process::exit(1);
        }
    };
    thread::Builder::new().spawn(wait)?;
    Ok(watch)
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let give_back = || -> io::Result<()> {
            set_thread_res_uid(None, Uid::ROOT, None)?;
            set_thread_res_gid(None, Gid::ROOT, None)?;
            Ok(set_thread_groups(&self.groups)?)
        };
        if let Err(error) = give_back() {
            // Nothing that follows would be done as root.
            log::error!("Failed to be root again: {error}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    #[test]
    fn root_follows_no_link_beyond_what_the_owner_of_the_folder_may() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let (own, roots) = (folder.path().join("own"), folder.path().join("roots"));
        for path in [&own, &roots] {
            fs::create_dir(path).unwrap();
        }
        symlink(&roots, own.join("link")).unwrap();
        assert_eq!(Owner::other_than_root(&own).unwrap(), None);
        let nobody = Owner {
            uid: Uid::from_raw(65534),
            gid: Gid::from_raw(65534),
        };
        nobody.give(&own).unwrap();
        assert_eq!(Owner::other_than_root(&own).unwrap(), Some(nobody));
        {
            let _owner = AsOwner::of(&own).unwrap().unwrap();
            fs::write(own.join("file"), "").unwrap();
            fs::write(own.join("link/file"), "").unwrap_err();
        }
        assert_eq!(fs::metadata(own.join("file")).unwrap().uid(), 65534);
        assert!(!roots.join("file").exists());
        fs::write(roots.join("file"), "").unwrap();

        let mut id = nobody.command("sh", false);
        let id = id
            .args(["-c", "id -u; id -G; cat /etc/shadow"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(id.stdout).unwrap(), "65534\n65534\n");
        let mut env = nobody.command("env", false);
        let env = String::from_utf8(env.output().unwrap().stdout).unwrap();
        assert!(env.contains("PATH=") && !env.contains("HOME="), "{env}");
        let mut reads = nobody.command("sh", true);
        let reads = reads.args(["-c", "cat /etc/shadow && ! touch /etc/comin-test"]);
        assert!(reads.output().unwrap().status.success());
    }

    #[test]
    fn comin_ends_if_the_owner_of_a_folder_lets_root_wait_for_ever() {
        const NAME: &str = "comin_ends_if_the_owner_of_a_folder_lets_root_wait_for_ever";
        const PIPE: &str = "COMIN_TEST_PIPE";
        if !geteuid().is_root() {
            return;
        }
        let nobody = Owner {
            uid: Uid::from_raw(65534),
            gid: Gid::from_raw(65534),
        };
        if let Some(pipe) = std::env::var_os(PIPE) {
            let _owner = AsOwner::take_for(nobody, Duration::from_millis(100)).unwrap();
            fs::File::open(pipe).unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let pipe = folder.path().join("pipe");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        nobody.give(&pipe).unwrap();
        let mut itself = Command::new("timeout");
        itself.arg("60").arg(std::env::current_exe().unwrap());
        let ended = itself.arg(NAME).env(PIPE, &pipe).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    }

    #[test]
    fn user_is_found_by_the_whole_name_and_is_not_root() {
        let folder = tempfile::tempdir().unwrap();
        let passwd = folder.path().join("passwd");
        assert_eq!(Owner::named("a", &passwd).unwrap(), None);
        fs::write(&passwd, "ab:x:1:2::/:\na:x:3:4::/:\nroot:x:0:0::/:\n").unwrap();
        let found = Owner::named("a", &passwd).unwrap().unwrap();
        assert_eq!((found.uid.as_raw(), found.gid.as_raw()), (3, 4));
        assert_eq!(Owner::named("root", &passwd).unwrap(), None);
        assert_eq!(Owner::named("b", &passwd).unwrap(), None);
    }
}
