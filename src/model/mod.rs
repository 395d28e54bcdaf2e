//! Plain data and pure functions: no clock, no disk, no log.

pub mod attempt;
pub mod candidate;
pub mod commit;
pub mod confirmation;
pub mod decision;
pub mod drift;
pub mod facts;
pub mod history;
pub mod manual_rollback;
pub mod names;
pub mod outcome;
pub mod policy;
pub mod quarantine;
pub mod reboot;
pub mod reboot_window;
pub mod refusal;
pub mod remote;
pub mod residue;
pub mod schedule;
pub mod select;
pub mod signature;
pub mod state;
pub mod suspension;
pub mod target;
pub mod unit_changes;
