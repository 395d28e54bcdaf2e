//! Git's commands, in no repository but the one that they are told.

use std::process::Command;

use crate::sys::owner::Owner;

/// What git would take for its own repository, where comin is run by a hook of another one, and what a person who
/// runs comin may have told git for other repositories.
const FOREIGN: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_SHALLOW_FILE",
    "GIT_CONFIG_PARAMETERS",
    "GIT_PROTOCOL",
];

/// A fetch of just what it is told, which leaves no work to others.
pub const FETCH: [&str; 5] = [
    "fetch",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
];

/// Git, in no repository and with nobody's settings.
pub fn git() -> Command {
    git_of(None)
}

/// [`git`], with the rights of the owner of what it works on.
pub fn git_of(owner: Option<Owner>) -> Command {
    let git = || Command::new("git");
    let mut git = owner.map_or_else(git, |owner| owner.command("git", false));
    for name in FOREIGN {
        git.env_remove(name);
    }
    git.env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    git
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
