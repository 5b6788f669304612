//! The limit on the memory of all caches together.
//!
//! A cache asks before it grows, and evicts its own entries first. If a value still does
//! not fit, it is used once and not kept. Nothing fails because a cache is full.

use std::cell::Cell;

/// Bytes, shared among the caches.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: Cell<usize>,
}

impl MemoryBudget {
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        MemoryBudget {
            limit: limit_bytes,
            used: Cell::new(0),
        }
    }

    /// Whether that many bytes more would fit.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        self.used.get().saturating_add(bytes) <= self.limit
    }

    /// Bytes that are not used.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.used.get())
    }

    pub fn take(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_add(bytes));
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }

    #[must_use]
    pub fn used(&self) -> usize {
        self.used.get()
    }
}
