//! The mirror: a bare repository with the followed branches of every remote. Git fetches, libgit2 reads.

pub mod ancestry;
pub mod ask;
pub mod commits;
pub mod credentials;
pub mod environment;
pub mod fetch;
pub mod git_command;
pub mod heads;
pub mod incoming;
pub mod integrity;
pub mod mirror;
pub mod notes;
pub mod packs;
pub mod refs;
pub mod source;
pub mod ssh;
pub mod submodules;
pub mod verified;
