//! What a person reads, as text and as JSON.

pub mod attempt;
pub mod details;
pub mod difference;
pub mod headline;
pub mod hindrance;
pub mod history;
pub mod metrics;
pub mod oneline;
pub mod phase;
pub mod plan;
pub mod preview;
pub mod remote;
pub mod running;
pub mod standing;
pub mod status;
pub mod status_page;
pub mod target;
#[cfg(test)]
mod tests;
pub mod text;
