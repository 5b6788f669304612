//! The figures of the statistics, from all who count.

use super::{Monitor, BASE_BYTES};
use crate::capture::counters::KernelCounters;
use crate::monitor::statistics::{Sizes, Statistics, UserCounters};
use crate::sys::messages::say;

impl Monitor {
    pub fn print_statistics(&self) {
        let page = self.collect(self.capture.counters()).page();
        say(page.trim_end_matches('\n'));
        say("");
    }

    fn collect(&self, kernel: KernelCounters) -> Statistics {
        let analyzer = self.analyzer.figures();
        let unwanted = self.followed.unwanted();
        let kernel = match self.config.fatal_only {
            true => kernel.without_handled(unwanted),
            false => kernel,
        };
        Statistics {
            runtime: self.started.elapsed(),
            kernel,
            user: UserCounters {
                reports_held: self.repeats.held(),
                reports_not_written: self.counters.reports_not_written
                    + self.outbox.len() as u64
                    + self.sink.reports_not_written(),
                output_errors: self.sink.errors(),
                symbol_cache_hits: analyzer.symbol_hits,
                symbol_cache_misses: analyzer.symbol_misses,
                evicted: analyzer.evicted + self.capture.evicted(),
                lookups_given_up: analyzer.lookups_given_up,
                stray_parts: self.assembler.strays(),
                cores: self.cores.as_ref().map(|store| {
                    let figures = store.figures();
                    (figures.written, figures.lost)
                }),
                processed: self.counters.processed.saturating_sub(unwanted),
                ..self.counters
            },
            sizes: Sizes {
                symbol_cache_entries: analyzer.symbol_entries,
                memory_bytes: self.capture.ring_bytes()
                    + self.capture.held_bytes()
                    + BASE_BYTES
                    + self.queue_bytes
                    + self.sink.queued_bytes() as u64
                    + analyzer.bytes,
                memory_limit_bytes: self.config.memory_limit_bytes,
                ring_bytes: self.capture.ring_bytes(),
            },
        }
    }
}
