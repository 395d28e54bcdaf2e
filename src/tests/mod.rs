//! What the sources keep to, and the page about them.

pub mod internals;
mod layers;
