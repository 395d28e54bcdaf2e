//! The mirror: a bare repository with the followed branches of every remote, by libgit2.

pub mod advertisement;
pub mod ancestry;
pub mod commits;
pub mod credentials;
pub mod errors;
pub mod fetch;
pub mod git_command;
pub mod heads;
pub mod http;
pub mod integrity;
pub mod mirror;
pub mod packs;
pub mod process;
pub mod refs;
pub mod server;
pub mod settings;
pub mod shared_clone;
pub mod ssh;
pub mod submodules;
