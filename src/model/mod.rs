//! Plain data and pure functions: no clock, no disk, no log.

pub mod after_switch;
pub mod attempt;
pub mod boot_check;
pub mod candidate;
pub mod commit;
pub mod confirmation;
pub mod cure;
pub mod decision;
pub mod drift;
pub mod facts;
pub mod fault;
pub mod gate;
pub mod healing;
pub mod history;
pub mod keep;
pub mod manual_rollback;
pub mod names;
pub mod outcome;
pub mod policy;
pub mod prebuilt;
pub mod quarantine;
pub mod reboot;
pub mod refusal;
pub mod remote;
pub mod residue;
pub mod schedule;
pub mod select;
pub mod signature;
pub mod stage;
pub mod state;
pub mod store_path;
pub mod suspension;
pub mod target;
#[cfg(test)]
mod tests;
pub mod unit_changes;
pub mod window;
