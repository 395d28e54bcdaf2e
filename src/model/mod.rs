//! Plain data and pure functions: no clock, no disk, no log.

pub mod commit;
pub mod names;
pub mod outcome;
pub mod policy;
pub mod quarantine;
pub mod reboot;
pub mod reboot_window;
pub mod schedule;
pub mod select;
pub mod suspension;
