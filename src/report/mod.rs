//! What a person reads, as text and as JSON.

pub mod attempt;
pub mod attempt_details;
pub mod closure;
mod cures;
pub mod exposition;
pub mod headline;
pub mod history;
pub mod host_state;
pub mod metrics;
pub mod page;
pub mod plan;
pub mod preview;
pub mod remote;
pub mod running;
pub mod seconds;
pub mod status;
pub mod status_page;
pub mod target;
#[cfg(test)]
mod tests;
mod undeployed;
mod verdict;
