//! A value that threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One thread uses the value at a time. If a thread panics with the lock, the others go on with the value: no thread
/// leaves it half changed.
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
