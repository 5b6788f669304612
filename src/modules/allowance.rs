//! How much time passes over large symbol tables may take.
//!
//! Anybody can write a file with millions of symbols and crash it at ever new
//! addresses. Passes over large tables are paid from an allowance that fills up
//! again with time; while it is used up they are refused, and files of common size
//! are named as ever.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Symbols from which on a table is large: a pass takes about a millisecond.
const LARGE: u64 = 64 * 1024;
const MOST: Duration = Duration::from_secs(2);
/// What comes back in each second: a quarter.
const REFILL: u32 = 4;

#[derive(Debug)]
pub(super) struct Allowance {
    spent: Cell<Duration>,
    as_of: Cell<Instant>,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Allowance {
            spent: Cell::new(Duration::ZERO),
            as_of: Cell::new(Instant::now()),
        }
    }

    /// Runs a pass over tables with that many symbols, if it may.
    pub(super) fn pass<T>(&self, symbols: u64, pass: impl FnOnce() -> Option<T>) -> Option<T> {
        if symbols < LARGE {
            return pass();
        }
        let began = Instant::now();
        if self.left(began) == Duration::ZERO {
            return None;
        }
        let result = pass();
        self.spent.set(self.spent.get() + began.elapsed());
        result
    }

    fn left(&self, now: Instant) -> Duration {
        let refilled = now.saturating_duration_since(self.as_of.get()) / REFILL;
        self.spent.set(self.spent.get().saturating_sub(refilled));
        self.as_of.set(now);
        MOST.saturating_sub(self.spent.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tables_are_refused_until_time_has_passed() {
        let allowance = Allowance::new();
        assert_eq!(allowance.pass(LARGE, || Some(1)), Some(1));
        allowance.spent.set(MOST + Duration::from_secs(5));
        assert_eq!(allowance.pass(LARGE, || Some(2)), None);
        assert_eq!(allowance.pass(LARGE - 1, || Some(3)), Some(3));
        let earlier = Instant::now().checked_sub(Duration::from_secs(21));
        // A machine that has just started has no such time.
        if let Some(earlier) = earlier {
            allowance.as_of.set(earlier);
            assert_eq!(allowance.pass(LARGE, || Some(4)), Some(4));
        }
    }
}
