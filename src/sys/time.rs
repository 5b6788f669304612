//! Clocks, and how far the user's time zone is ahead.

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::time::Duration;

use super::file::RegularFile;
use crate::base::allowance::Clocks;

/// A file of a thousand transitions is smaller.
const ZONE_FILE_MAX: usize = 64 << 10;

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

/// Time since boot, suspended time left out: the clock of perf records.
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unsigned_abs()
}

/// For the limits of a report.
pub const CLOCKS: Clocks = Clocks {
    cpu_ns: thread_cpu_ns,
    wall_ns: monotonic_ns,
};

/// Time that this thread has spent on a processor.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).unsigned_abs()
}

/// A limit in time on a processor that is common on servers, for this one: on a board, or
/// in an emulator, the same work takes longer. How long a computation and page faults take
/// is measured, and the limit grows by at most `MOST_SLOW` times `COLD`.
#[must_use]
pub fn limit_here_ns(limit: Duration) -> u64 {
    let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    // An emulator translates the code at first, and an interrupt may come.
    let best_ns = |sample: fn()| (0..3).map(|_| taken_ns(sample)).min().unwrap_or(0);
    scaled(limit_ns, best_ns(compute), best_ns(touch_pages))
}

const MOST_SLOW: u64 = 32;
/// Code that runs once is slower there still: caches are small, an emulator translates it.
const COLD: u64 = 4;
/// What [`compute`] takes on an x86_64 server of 2023.
const COMPUTE_NS: u64 = 40_000;
/// What [`touch_pages`] takes there, in a virtual machine.
const PAGES_NS: u64 = 140_000;
/// By how much a processor is slower whose clock only counts the ticks of a timer.
const COARSE_CLOCK: u64 = 8;

/// Up to half as much again is no other processor.
fn scaled(limit_ns: u64, compute_ns: u64, pages_ns: u64) -> u64 {
    if compute_ns == 0 || pages_ns == 0 {
        return limit_ns.saturating_mul(COARSE_CLOCK * COLD);
    }
    let percent = (compute_ns.saturating_mul(100) / COMPUTE_NS)
        .max(pages_ns.saturating_mul(100) / PAGES_NS)
        .min(MOST_SLOW * 100);
    match percent > 150 {
        true => limit_ns.saturating_mul(percent * COLD) / 100,
        false => limit_ns,
    }
}

/// Time on the processor; 0 where the clock is too coarse.
fn taken_ns(sample: fn()) -> u64 {
    let began_ns = thread_cpu_ns();
    sample();
    thread_cpu_ns().saturating_sub(began_ns)
}

fn compute() {
    const ROUNDS: u64 = 20_000;
    let mut state = 1_u64;
    for _ in 0..ROUNDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::hint::black_box(state);
    }
}

/// So much that the allocator takes it from the kernel, and gives it back.
fn touch_pages() {
    const PAGES: usize = 34;
    const PAGE_BYTES: usize = 4096;
    let mut bytes = vec![0_u8; PAGES * PAGE_BYTES];
    for page in bytes.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    std::hint::black_box(&bytes);
}

/// How far the clock since boot is ahead of the monotonic one: suspended time.
#[must_use]
pub fn boot_ahead_ns() -> u64 {
    let ahead_ns = boottime_ns() - clock_ns(libc::CLOCK_MONOTONIC);
    u64::try_from(ahead_ns).unwrap_or(0)
}

/// Atomic time: wall-clock time without leap seconds.
#[must_use]
pub fn tai_ns() -> i64 {
    clock_ns(libc::CLOCK_TAI)
}

/// Reads the user's time zone once, so that its file is not read later.
///
/// The C library maps the file into memory and keeps it; if it is truncated then
/// the next report would end us with SIGBUS. Its last line is the zone's rule from
/// the present on (RFC 9636, 3.3), which TZ can hold itself. Call it before there
/// are threads.
pub fn settle_time_zone() {
    let zone = std::env::var("TZ").ok();
    let Some(path) = zone_file(zone.as_deref()) else {
        return;
    };
    let rule = RegularFile::open(&path).ok().and_then(|file| {
        let mut bytes = vec![0; ZONE_FILE_MAX];
        let length = file.read_at(0, &mut bytes);
        zone_rule(&bytes[..length]).map(str::to_owned)
    });
    std::env::set_var("TZ", rule.as_deref().unwrap_or("UTC0"));
}

/// The file that a value of TZ means; `None` if it holds a rule itself.
fn zone_file(zone: Option<&str>) -> Option<PathBuf> {
    let name = match zone {
        None => return Some(PathBuf::from("/etc/localtime")),
        Some(zone) => zone.strip_prefix(':').unwrap_or(zone),
    };
    // A rule begins with an abbreviation, and the distance from UTC follows.
    let after = match name.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>').map_or("", |(_, after)| after),
        None => name.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    if name.is_empty() || after.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c)) {
        return None;
    }
    if name.starts_with('/') {
        return Some(PathBuf::from(name));
    }
    Some(PathBuf::from("/usr/share/zoneinfo").join(name))
}

/// The rule in the last line of a TZif file, version 2 or later.
fn zone_rule(file: &[u8]) -> Option<&str> {
    let body = file.strip_prefix(b"TZif")?.strip_suffix(b"\n")?;
    let start = body.iter().rposition(|&byte| byte == b'\n')? + 1;
    let rule = std::str::from_utf8(&body[start..]).ok()?;
    (!rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_graphic())).then_some(rule)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_processor_gets_more_time_but_not_any() {
        let limit_ns = 100_000_000;
        let most_ns = limit_ns * MOST_SLOW * COLD;
        for (compute_ns, pages_ns, scaled_ns) in [
            (1, 1, limit_ns),
            (COMPUTE_NS * 3 / 2, PAGES_NS * 3 / 2, limit_ns),
            (COMPUTE_NS * 5, PAGES_NS, limit_ns * 5 * COLD),
            (COMPUTE_NS, PAGES_NS * 5, limit_ns * 5 * COLD),
            (u64::MAX, PAGES_NS, most_ns),
            (COMPUTE_NS, u64::MAX, most_ns),
            (0, PAGES_NS, limit_ns * COARSE_CLOCK * COLD),
            (COMPUTE_NS, 0, limit_ns * COARSE_CLOCK * COLD),
        ] {
            assert_eq!(scaled(limit_ns, compute_ns, pages_ns), scaled_ns);
        }
    }

    #[test]
    fn rules_and_files_are_distinguished() {
        assert_eq!(zone_file(None), Some(PathBuf::from("/etc/localtime")));
        assert_eq!(
            zone_file(Some(":/etc/zone")),
            Some(PathBuf::from("/etc/zone"))
        );
        let berlin = PathBuf::from("/usr/share/zoneinfo/Europe/Berlin");
        assert_eq!(zone_file(Some("Europe/Berlin")), Some(berlin));
        assert_eq!(zone_file(Some("CET-1CEST,M3.5.0,M10.5.0/3")), None);
        assert_eq!(zone_file(Some("<+03>-3")), None);
        assert_eq!(zone_file(Some("")), None, "UTC, by POSIX");
    }

    #[test]
    fn the_rule_is_the_last_line() {
        assert_eq!(
            zone_rule(b"TZif2\0\0\nCET-1CEST,M3.5.0,M10.5.0/3\n"),
            Some("CET-1CEST,M3.5.0,M10.5.0/3")
        );
        assert_eq!(zone_rule(b"TZif\0\0"), None, "version 1 has none");
        assert_eq!(zone_rule(b"TZif2\n\n"), None);
        assert_eq!(zone_rule(b"text\nCET-1\n"), None);
        assert_eq!(zone_rule(b"TZif2\n\x1b[31m\n"), None);
    }
}
