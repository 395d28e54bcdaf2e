//! An SSH server: a real sshd(8) on loopback, which lets in the person who runs the tests.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use super::has;

/// What the tests need; sshd wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

/// Whether there is all that [`Sshd`] needs.
pub fn is_there() -> bool {
    has("ssh") && has("ssh-keygen") && (Path::new(SSHD).exists() || has("sshd")) && has_shell()
}

/// Whether whoever runs the tests may log in: sshd runs a command by the shell of the account, and the one in which
/// Nix builds has none.
fn has_shell() -> bool {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = format!("{}:", user());
    let Some(account) = accounts.lines().find(|line| line.starts_with(&account)) else {
        return true;
    };
    let shell = account.rsplit(':').next().filter(|shell| !shell.is_empty());
    let ran = Command::new(shell.unwrap_or("/bin/sh"))
        .args(["-c", "exit 0"])
        .output();
    ran.is_ok_and(|ran| ran.status.success())
}

fn user() -> String {
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(user).unwrap().trim().to_string()
}

/// A running server.
pub struct Sshd {
    /// Who may log in.
    pub user: String,
    pub port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Starts a server with a host key of its own, until the test ends. Its files, and `key`, which it
    /// lets in, and `known_hosts`, which knows it, are in `folder`.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        // Where a server that root runs wants to have an empty folder.
        let _ = fs::create_dir_all("/run/sshd");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            user: user(),
            port: listener.local_addr().unwrap().port(),
            folder: folder.to_path_buf(),
        };
        let path = folder.display().to_string();
        let escaped = path.replace('%', "%%");
        let config = format!(
            "HostKey \"{path}/host\"\nAuthorizedKeysFile \"{escaped}/key.pub\"\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        );
        fs::write(folder.join("sshd_config"), config).unwrap();
        key(&folder.join("host"), "");
        key(&folder.join("key"), "");
        server.know();
        let log = folder.join("log");
        let config = folder.join("sshd_config");
        let sshd = if Path::new(SSHD).exists() {
            SSHD
        } else {
            "sshd"
        };
        let sshd = which(sshd);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = OwnedFd::from(connection.unwrap());
                let log = File::options()
                    .append(true)
                    .create(true)
                    .open(&log)
                    .unwrap();
                let child = Command::new(&sshd)
                    // As inetd starts it: nobody has to wait until it listens.
                    .args(["-i", "-e", "-f"])
                    .arg(&config)
                    .stdin(connection.try_clone().unwrap())
                    .stdout(connection)
                    .stderr(log)
                    .spawn();
                thread::spawn(move || child.unwrap().wait());
            }
        });
        server
    }

    /// A file of the server's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The URL of a path on the server.
    pub fn url(&self, path: &str) -> String {
        format!("ssh://{}@127.0.0.1:{}{path}", self.user, self.port)
    }

    /// Writes the server's present host key into `known_hosts`.
    pub fn know(&self) {
        let host = fs::read_to_string(self.path("host.pub")).unwrap();
        let line = format!("[127.0.0.1]:{} {host}", self.port);
        fs::write(self.path("known_hosts"), line).unwrap();
    }
}

/// Makes a key, in place of one that is there.
pub fn key(path: &Path, passphrase: &str) {
    let _ = fs::remove_file(path);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// The whole path of a program.
fn which(program: &str) -> PathBuf {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap().trim().into()
}
