//! Git's commands, in no repository but the one that they are told.

use std::process::Command;

use crate::sys::owner::{keep_environment_from, Owner};

/// A fetch of just what it is told, which leaves no work to others.
pub const FETCH: [&str; 5] = [
    "fetch",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
];

/// Git, in no repository and with nobody's settings, such as those of a person who runs comin, or of a hook. If what it
/// works on has another owner, git has that owner's rights.
pub fn git(owner: Option<Owner>) -> Command {
    let git = || Command::new("git");
    let mut git = owner.map_or_else(git, |owner| owner.command("git", false));
    keep_environment_from(&mut git);
    git.env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    git
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
