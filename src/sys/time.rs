//! Clocks, and how far the user's time zone is ahead.

use std::mem::MaybeUninit;

/// Nanoseconds of one of the kernel's clocks, negative before its epoch.
fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of our own; a clock that the kernel
    // lacks leaves it as it is.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' width differs between targets"
    )]
    (now.tv_sec as i64)
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec as i64)
}

/// Wall-clock time since the Unix epoch.
#[must_use]
pub fn realtime_ns() -> i64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// Time since boot, suspended time included.
#[must_use]
pub fn boottime_ns() -> i64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// Atomic time: wall-clock time without leap seconds.
#[must_use]
pub fn tai_ns() -> i64 {
    clock_ns(libc::CLOCK_TAI)
}

/// Seconds that local time is ahead of UTC at a moment: by TZ, else by
/// /etc/localtime, else none.
#[must_use]
pub fn utc_offset_s(unix_s: i64) -> i32 {
    let mut broken = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of our own; an all-zero tm is a valid
    // one, so a failure leaves one too.
    unsafe { libc::localtime_r(&raw const unix_s, broken.as_mut_ptr()) };
    // SAFETY: initialized by `zeroed`, and perhaps overwritten with a valid tm.
    let broken = unsafe { broken.assume_init() };
    i32::try_from(broken.tm_gmtoff).unwrap_or(0)
}
