//! The statistics: one definition for each figure, and the page that `--stats` prints.
//!
//! Counters of the capture program and of the tool come in as plain numbers;
//! [`Statistics::page`] prints them in the layout of the manual. Nothing here reads a
//! clock or a map.
pub use crate::capture::counters::Drops;
use crate::capture::counters::KernelCounters;
use std::time::Duration;

/// Users with lines of their own: those with the most drops.
const MAX_USERS: usize = 8;

/// What the tool itself counted since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UserCounters {
    /// Records taken out of the ring that became a report.
    pub processed: u64,
    /// How many of these were held back because an equal report was printed.
    pub reports_held: u64,
    /// How many of these are not in the output: given up, or still waiting.
    pub reports_not_written: u64,
    /// Attempts to write a report that failed.
    pub output_errors: u64,
    /// Addresses named from the cache.
    pub symbol_cache_hits: u64,
    /// Addresses that were looked up in a file.
    pub symbol_cache_misses: u64,
    /// Names and files that left the caches for lack of room.
    pub evicted: u64,
    /// Passes over symbol tables that would have taken too long.
    pub lookups_given_up: u64,
    /// Parts that belonged to no record, or made no sense.
    pub stray_parts: u64,
    /// Events that found no room in the queue, and those that were left at the end.
    pub dropped_queue: u64,
    pub dropped_end: u64,
    /// With `--core`: files written, and cores that could not be.
    pub cores: Option<(u64, u64)>,
    /// Records that came with their end, and the capture program's own figure
    /// of the time it took for each: the kernel's share of a crash.
    pub timed: u64,
    pub capture_ns: u64,
    pub capture_max_ns: u64,
}

/// Sizes at the moment of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Names in the symbol cache.
    pub symbol_cache_entries: u64,
    /// Everything the program holds: caches, queue, buffers, maps.
    pub memory_bytes: u64,
    /// `--memory-limit`.
    pub memory_limit_bytes: u64,
    /// The ring between kernel and tool.
    pub ring_bytes: u64,
}

/// All figures of one page.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Since the capture program was attached.
    pub runtime: Duration,
    pub kernel: KernelCounters,
    pub user: UserCounters,
    /// By user, wherever they were dropped.
    pub drops: Drops,
    pub sizes: Sizes,
}

impl Statistics {
    /// Dropped, in percent of the deliveries that passed the filters.
    fn drop_percent(&self) -> String {
        let passed = self.kernel.submitted.saturating_add(self.kernel.dropped);
        percent(self.kernel.dropped, passed, 2)
    }

    /// Detected with a fault address, of all detected.
    fn fault_info_percent(&self) -> String {
        let captured = self.kernel.fault_info_captured;
        let all = captured.saturating_add(self.kernel.fault_info_missed);
        percent(captured, all, 2)
    }

    /// Processed, by the second of runtime.
    fn events_per_second(&self) -> String {
        let processed = u128::from(self.user.processed) * 1_000_000_000;
        quotient(processed, self.runtime.as_nanos(), 1)
    }

    /// Addresses named from the cache, of all that were asked for.
    fn cache_hit_percent(&self) -> String {
        let hits = self.user.symbol_cache_hits;
        let asked = hits.saturating_add(self.user.symbol_cache_misses);
        percent(hits, asked, 2)
    }

    /// Mean over the timed records.
    fn mean_capture_ns(&self) -> u64 {
        self.user
            .capture_ns
            .checked_div(self.user.timed)
            .unwrap_or(0)
    }

    /// The page; it ends with an empty line that separates it from the next one.
    #[must_use]
    pub fn page(&self) -> String {
        let Statistics {
            kernel,
            user,
            sizes,
            ..
        } = self;
        let mut page = Page::default();
        page.text.push_str("=== Segfault Analyzer Statistics ===\n");
        let runtime_s = quotient(self.runtime.as_nanos(), 1_000_000_000, 1);
        page.text.push_str(&format!("Runtime: {runtime_s}s\n"));

        page.section("Event Counts");
        page.count("Total segfaults detected", kernel.detected);
        page.count("Segfaults filtered out", kernel.filtered);
        page.count("Events captured", kernel.captured);
        page.count("Events processed", user.processed);
        page.count("Events submitted to userspace", kernel.submitted);
        page.count("Events dropped", kernel.dropped);

        page.section("Performance Metrics");
        page.line("Event drop rate", &self.drop_percent());
        page.line("Fault info capture rate", &self.fault_info_percent());
        page.line("Events per second", &self.events_per_second());

        page.section("Feature Statistics");
        page.count("Register capture failures", kernel.register_failures);
        page.count("Stack trace failures", kernel.stack_failures);
        page.count("Fault info captured", kernel.fault_info_captured);
        page.count("Fault info missed", kernel.fault_info_missed);

        page.section("Symbol Resolution");
        page.count("Symbol cache hits", user.symbol_cache_hits);
        page.count("Symbol cache misses", user.symbol_cache_misses);
        page.line("Symbol cache hit rate", &self.cache_hit_percent());

        let memory_mb = quotient(sizes.memory_bytes.into(), 1 << 20, 2);
        let memory_percent = percent(sizes.memory_bytes, sizes.memory_limit_bytes, 1);
        page.section("Memory Usage");
        page.line("Estimated memory usage", &format!("{memory_mb} MB"));
        page.line("Memory usage (% of limit)", &memory_percent);
        page.line(
            "Ring buffer size (fixed)",
            &format!("{} KB", sizes.ring_bytes >> 10),
        );
        page.count("Symbol cache entries", sizes.symbol_cache_entries);

        page.section("Capture");
        page.line(
            "Mean time in the kernel",
            &microseconds(self.mean_capture_ns()),
        );
        page.line(
            "Longest time in the kernel",
            &microseconds(user.capture_max_ns),
        );

        page.count("Handled faults counted", kernel.folded);
        page.count("Reports folded", user.reports_held);

        page.section("Losses");
        page.count("Dropped, ring full", kernel.dropped_ring);
        page.count("Dropped, capture busy", kernel.dropped_busy);
        page.count("Dropped, queue full", user.dropped_queue);
        page.count("Dropped, at the end", user.dropped_end);
        for (uid, count) in self.drops.of_users(MAX_USERS) {
            page.count(&format!("Dropped, user {uid}"), count);
        }
        page.count("Record parts lost", kernel.parts_lost);
        page.count("Record parts astray", user.stray_parts);
        page.count("Deliveries skipped", kernel.missed);
        page.count("Evicted from caches", user.evicted);
        page.count("Symbol lookups given up", user.lookups_given_up);
        page.count("Reports not written", user.reports_not_written);
        page.count("Failed writes", user.output_errors);
        if let Some((written, lost)) = user.cores {
            page.section("Core Files");
            page.count("Core files written", written);
            page.count("Core files lost", lost);
        }
        page.text.push('\n');
        page.text
    }
}

/// A share in percent; of nothing it is zero.
fn percent(part: u64, whole: u64, digits: u32) -> String {
    let hundredfold = u128::from(part) * 100;
    format!("{}%", quotient(hundredfold, whole.into(), digits))
}

/// A quotient with so many digits after the point, rounded; zero if the divisor is zero.
/// In integers: the formatting of floating-point numbers takes 10 KB of the binary.
fn quotient(dividend: u128, divisor: u128, digits: u32) -> String {
    let scale = 10u128.pow(digits);
    let whole = dividend.saturating_mul(scale).saturating_add(divisor / 2);
    let whole = whole.checked_div(divisor).unwrap_or(0);
    let width = digits as usize;
    format!("{}.{:0width$}", whole / scale, whole % scale)
}

fn microseconds(ns: u64) -> String {
    format!("{}.{} us", ns / 1000, ns % 1000 / 100)
}

/// The page's layout: values in one column, unless a label reaches into it.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn section(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}:\n"));
    }

    fn line(&mut self, label: &str, value: &str) {
        self.text
            .push_str(&format!("  {:<29} {value}\n", format!("{label}:")));
    }

    fn count(&mut self, label: &str, count: u64) {
        self.line(label, &count.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted_divides_by_nothing() {
        let page = Statistics::default().page();
        assert!(
            page.contains("  Event drop rate:              0.00%\n"),
            "{page}"
        );
        assert!(
            page.contains("  Fault info capture rate:      0.00%\n"),
            "{page}"
        );
        assert!(
            page.contains("  Symbol cache hit rate:        0.00%\n"),
            "{page}"
        );
        assert!(
            page.contains("  Memory usage (% of limit):    0.0%\n"),
            "{page}"
        );
        assert!(
            page.contains("  Events per second:            0.0\n"),
            "{page}"
        );
    }

    #[test]
    fn quotients_are_rounded() {
        assert_eq!(percent(2, 3, 2), "66.67%");
        assert_eq!(percent(1, 1000, 1), "0.1%");
        assert_eq!(quotient(1, 20, 1), "0.1");
        assert_eq!(quotient(1049, 100, 1), "10.5");
        assert_eq!(quotient(7, 0, 2), "0.00");
    }

    #[test]
    fn the_largest_counts_neither_overflow_nor_panic() {
        let statistics = Statistics {
            kernel: KernelCounters {
                submitted: u64::MAX,
                dropped: u64::MAX,
                fault_info_captured: u64::MAX,
                fault_info_missed: u64::MAX,
                ..KernelCounters::default()
            },
            ..Statistics::default()
        };
        assert!(statistics.page().contains("100.00%"));
    }
}
