//! The names of comin's own GC roots, apart from those of attempts.

/// The GC root of what waits to be built.
pub const DERIVATION: &str = "derivation";

/// The GC root of the system that ran before the latest activation.
pub const BEFORE: &str = "before";
