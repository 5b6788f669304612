//! Converts the kernel's clocks to wall-clock time.
//!
//! Kernels from 6.1 on stamp a record with `CLOCK_TAI`, which is set together
//! with the wall clock: the stamp is right whatever happens to the clock
//! afterwards. Older ones stamp it only with `CLOCK_BOOTTIME`. Its distance from the
//! wall clock is measured at the start and again whenever the clock is set: a timer
//! wakes the caller then.

use crate::crash::event::Event;
use crate::report::Timestamp;
use crate::sys::time;

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// The distances between the kernel's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot_to_unix_ns: i64,
}

impl Clock {
    /// The present difference of the clocks.
    #[must_use]
    pub fn new() -> Self {
        Clock {
            boot_to_unix_ns: time::realtime_ns() - time::boottime_ns(),
        }
    }

    /// After the wall clock was set.
    pub fn set_again(&mut self) {
        *self = Clock::new();
    }

    /// When the signal was delivered.
    #[must_use]
    pub fn of(&self, event: &Event) -> Timestamp {
        let boot_ns = event.boot_ns as i64;
        let unix_ns = match event.tai_ns {
            Some(tai_ns) => tai_ns as i64 - tai_to_unix_ns(),
            None => boot_ns.saturating_add(self.boot_to_unix_ns),
        };
        let ms = |ns: i64| u64::try_from(ns / NS_PER_MS).unwrap_or(0);
        Timestamp {
            unix_ms: ms(unix_ns),
            uptime_ms: ms(boot_ns),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

/// Leap seconds, as the kernel knows them: whole seconds, 0 if nobody has set them.
fn tai_to_unix_ns() -> i64 {
    let difference = time::tai_ns() - time::realtime_ns();
    (difference + NS_PER_S / 2).div_euclid(NS_PER_S) * NS_PER_S
}
