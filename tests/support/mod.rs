//! What both test programs use.

#![allow(dead_code)] // Each of them uses another part of it.

pub mod http;
pub mod memory;
pub mod pages;
pub mod prometheus;
pub mod ssh;
pub mod sweep;
pub mod transitions;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Leaves the test where a tool is missing: visibly at home, as a failure in CI.
macro_rules! need {
    ($($tool:literal),+) => {
        $(if !$crate::support::has($tool) {
            $crate::support::skip(concat!($tool, " is missing"));
            return;
        })+
    };
}

/// Says that a test does not run, past the harness that keeps what a passing test says.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    tell(&format!("skipped: {why}"));
}

/// A line for the person who runs the tests, also when they pass.
pub fn tell(line: &str) {
    // The macros of std write to where nobody looks.
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Whether a program is there.
pub fn has(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output();
    found.unwrap().status.success()
}

/// Whether Nix is this new: minor versions of Nix 2.
pub fn is_nix_at_least(minor: u32) -> bool {
    let version = Command::new("nix").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let number = version.trim().rsplit(' ').next().unwrap().to_string();
    let mut numbers = number.split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(2), Some(minor))
}

/// Whether root runs the tests.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// The environment in which Git and Nix depend on nothing of the person who runs the tests.
pub fn isolated(command: &mut Command, home: &Path) {
    command
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .env("LC_ALL", "C.UTF-8")
        // No builder's group, no cache to ask, no namespaces: as root on any Linux.
        .env(
            "NIX_CONFIG",
            "build-users-group =\nsubstitute = false\nsandbox = false\n",
        )
        .env_remove("GIT_SSL_CAINFO")
        .env_remove("JOURNAL_STREAM")
        // For the tests themselves.
        .env_remove("COMIN_IDLE_SECONDS")
        .env_remove("COMIN_SWEEP")
        .stdin(Stdio::null());
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
            code: output.status.code(),
        }
    }
}

/// Whether a link is among the garbage collector's roots that Nix lists, and keeps this path. Both may be
/// beginnings.
pub fn is_rooted(listed: &str, link: &str, path: &str) -> bool {
    let is_it = |(root, kept): (&str, &str)| {
        // Newer versions of Nix put paths in quotes.
        root.trim_matches('"').starts_with(link) && kept.trim_matches('"').starts_with(path)
    };
    let mut roots = listed.lines().filter_map(|line| line.split_once(" -> "));
    roots.any(is_it)
}

/// Waits for what something else brings about. The limit only ends a test that fails: it is long enough for a reboot on
/// a machine that does much else.
#[track_caller]
pub fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(180);
    while !done() {
        assert!(Instant::now() < limit, "waited too long: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
