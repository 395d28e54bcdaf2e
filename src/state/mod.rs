//! What is kept between two runs.

pub mod decision_cache;
pub mod deploy_record;
pub mod fetch_record;
mod format;
pub mod gate_record;
pub mod go_comin;
pub mod requests;
pub mod store;

#[cfg(test)]
mod tests;
