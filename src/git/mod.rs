//! The mirror: a bare repository with the followed branches of every remote, by libgit2.

pub mod advertisement;
pub mod ancestry;
pub mod child;
pub mod commits;
pub mod credentials;
pub mod damage;
pub mod errors;
pub mod fetch;
pub mod heads;
pub mod http;
pub mod loan;
pub mod local;
pub mod mirror;
pub mod packs;
pub mod refs;
pub mod relative_submodules;
pub mod server;
pub mod settings;
pub mod ssh;
