//! Plain data and pure functions: no clock, no disk, no log.

pub mod commit;
pub mod outcome;
pub mod quarantine;
pub mod schedule;
pub mod select;
pub mod suspension;
