//! What the sources keep to, and the page about them.

mod internals;
mod layers;
