//! A repository on this machine, served by git-upload-pack(1).
//!
//! libgit2's own local transport copies every branch of the source, again and again. Git's server
//! side sends what is asked for, and is made to read repositories of people who are not trusted.

use std::path::Path;
use std::process::Command;

/// What git would take for its own repository, where comin is run by a hook of another one.
const FOREIGN: [&str; 5] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
];

/// Git, in no repository.
pub fn git() -> Command {
    let mut git = Command::new("git");
    for name in FOREIGN {
        git.env_remove(name);
    }
    git
}

/// The server of a repository.
pub fn upload_pack(path: &Path) -> Command {
    let mut git = git();
    // The repository may be of a user's, and its objects must be there, not elsewhere.
    git.args(["-c", "safe.directory=*", "upload-pack"])
        .arg(path)
        .env("GIT_NO_LAZY_FETCH", "1")
        .env_remove("GIT_PROTOCOL");
    git
}
