//! A value that threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// It is used by one thread at a time. None leaves it half changed, so that one has panicked over it is nothing
/// to the others.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// The value at first.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits until nobody else uses it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
