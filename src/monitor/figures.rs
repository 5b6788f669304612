//! The figures of the statistics, from all who count.

use super::{Monitor, BASE_BYTES};
use crate::monitor::statistics::{Sizes, Statistics, UserCounters};
use crate::sys::messages::say;

impl Monitor {
    pub fn print_statistics(&self) {
        let page = self.collect().page();
        say(page.trim_end_matches('\n'));
        say("");
    }

    fn collect(&self) -> Statistics {
        let inflow = self.inflow();
        let capture = &inflow.capture;
        let analyzer = self.analyzer.figures();
        let unwanted = self.followed.unwanted();
        let mut kernel = capture.counters();
        if self.config.fatal_only {
            kernel = kernel.without_handled(unwanted);
        }
        kernel = kernel.filtered_later(inflow.filtered());
        let dropped_queue = inflow.drops().all();
        let dropped_end = self.unread.all();
        let mut drops = inflow.drops().clone();
        drops.join(&self.unread);
        drops.join(&capture.drops());
        let counted = inflow.counters();
        Statistics {
            runtime: self.started.elapsed(),
            kernel: kernel.dropped_later(dropped_queue + dropped_end),
            user: UserCounters {
                reports_held: self.repeats.held(),
                reports_not_written: self.counters.reports_not_written
                    + self.outbox.len() as u64
                    + self.sink.reports_not_written(),
                output_errors: self.sink.errors(),
                symbol_cache_hits: analyzer.symbol_hits,
                symbol_cache_misses: analyzer.symbol_misses,
                evicted: analyzer.evicted + capture.evicted(),
                lookups_given_up: analyzer.lookups_given_up,
                processed: self.counters.processed.saturating_sub(unwanted),
                cores: self.cores.as_ref().map(|store| {
                    let figures = store.figures();
                    (figures.written, figures.lost)
                }),
                dropped_queue,
                dropped_end,
                ..counted
            },
            drops,
            sizes: Sizes {
                symbol_cache_entries: analyzer.symbol_entries,
                memory_bytes: capture.ring_bytes()
                    + capture.held_bytes()
                    + BASE_BYTES
                    + inflow.bytes()
                    + self.sink.queued_bytes() as u64
                    + analyzer.bytes,
                memory_limit_bytes: self.config.memory_limit_bytes,
                ring_bytes: capture.ring_bytes(),
            },
        }
    }
}
