//! The story: fetch, observe, decide, build, activate, check, record.

pub mod accept;
pub mod accepted_main;
pub mod boot;
pub mod build;
pub mod commits;
pub mod confirm;
pub mod cycle;
pub mod deployment;
pub mod fetch;
pub mod health;
pub mod journal_fields;
pub mod maintenance;
pub mod operator;
pub mod post_deployment;
pub mod preview;
pub mod reboot;
pub mod recovery;
pub mod retention;
pub mod rollback;
pub mod rollback_timeout;
