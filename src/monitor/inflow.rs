//! What comes in: from the rings, record by record, into the queue.
//!
//! The rings are emptied before each report and while one is made, so that a report that
//! takes long does not fill them. What is read at a time is bounded: whoever crashes faster
//! than we read must not keep us from reporting.

use std::time::{Duration, Instant};

use crate::analyze::recover_mappings;
use crate::capture::record::assemble::{Assembler, Ended};
use crate::capture::{Capture, Next, Started};
use crate::config::MonitorConfig;
use crate::crash::event::{Event, Lost};
use crate::monitor::queue::{Queue, Who};
use crate::monitor::statistics::{Drops, UserCounters};
use crate::sys::mmap::page_bytes;
use crate::sys::process;
use crate::sys::time::{boot_ahead_ns, boottime_ns, realtime_ns};

/// Between two looks at the rings while a report is made.
const LOOK_MEANWHILE: Duration = Duration::from_millis(2);
/// A queue that is fuller than this, in percent, is not filled further while a report is made:
/// the ring drops what is too much at less cost.
const FULL_PERCENT: u64 = 75;

/// A running capture, and the events that wait for their reports.
#[derive(Debug)]
pub(super) struct Inflow {
    pub(super) capture: Box<dyn Capture>,
    /// Details that no record of it has.
    lost: Vec<Lost>,
    assembler: Assembler,
    queue: Queue,
    /// How long the kernel took for records.
    times: UserCounters,
    looked: Instant,
    /// Only these processes, if there are any, and only descendants of the tool.
    pids: Vec<u32>,
    only_below: bool,
    filtered: u64,
}

impl Inflow {
    #[must_use]
    pub(super) fn new(started: Started, config: &MonitorConfig, queue_bytes: u64) -> Self {
        let Started { capture, lost, .. } = started;
        Inflow {
            pids: config.pids.clone(),
            only_below: config.only_below && !capture.knows_descendants(),
            filtered: 0,
            capture,
            lost,
            assembler: Assembler::new(page_bytes() as u64, queue_bytes),
            queue: Queue::new(queue_bytes),
            times: UserCounters::default(),
            looked: Instant::now(),
        }
    }

    /// Moves events from the rings into the queue, at most about as many bytes as it holds,
    /// in the order of time.
    pub(super) fn fill(&mut self) {
        let mut events: Vec<Event> = Vec::new();
        let mut left = self.queue.max_bytes();
        self.assembler.set_boot_ahead_ns(boot_ahead_ns());
        while left > 0 {
            let mut whole = None;
            // Its parts, or the event itself.
            let assembler = &mut self.assembler;
            // A part that makes no sense is counted by the assembler.
            match self
                .capture
                .next_part(&mut |part| whole = assembler.feed(part).ok().flatten())
            {
                Next::Part => {}
                Next::Event(event) => whole = Some(*event),
                Next::Lost { cpu } => self.assembler.parts_lost(cpu),
                Next::Nothing => break,
            }
            if let Some(event) = whole {
                left = left.saturating_sub(event.memory_bytes());
                // Nearly in order already: only rings of several CPUs mix.
                let earlier = |known: &Event| known.boot_ns <= event.boot_ns;
                let place = events.iter().rposition(earlier).map_or(0, |last| last + 1);
                events.insert(place, event);
            }
        }
        for event in events {
            self.enqueue(event);
        }
        self.looked = Instant::now();
    }

    /// The same while a report is made.
    pub(super) fn fill_meanwhile(&mut self) {
        let is_full = self.queue.bytes() * 100 > self.queue.max_bytes() * FULL_PERCENT;
        if !is_full && self.looked.elapsed() >= LOOK_MEANWHILE {
            self.fill();
        }
    }

    fn enqueue(&mut self, mut event: Event) {
        if !self.wants(&event) {
            self.filtered += 1;
            return;
        }
        event.lost.extend_from_slice(&self.lost);
        if self.lost.iter().any(|lost| lost.detail == "mappings") {
            // At once, before its memory is gone.
            recover_mappings(&mut event);
        }
        let booted_unix_ns = realtime_ns().saturating_sub(boottime_ns());
        event.crashed_at(booted_unix_ns.saturating_add_unsigned(event.boot_ns));
        if event.capture_ns > 0 {
            self.times.timed += 1;
            self.times.capture_ns += event.capture_ns;
            self.times.capture_max_ns = self.times.capture_max_ns.max(event.capture_ns);
        }
        self.queue.push(event);
    }

    /// What the capture does not leave out by itself.
    fn wants(&self, event: &Event) -> bool {
        let is_named = |pid| self.pids.contains(&pid);
        let is_wanted = self.pids.is_empty() || event.pid.is_some_and(is_named);
        is_wanted && (!self.only_below || process::is_below(event.ppid.unwrap_or(0)))
    }

    /// Counts an event of which a closer look shows that it is not wanted.
    pub(super) fn leave_out(&mut self) {
        self.filtered += 1;
    }

    /// Events that were left out here.
    #[must_use]
    pub(super) fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Whether a record waits for its end.
    #[must_use]
    pub(super) fn is_waiting(&self) -> bool {
        self.assembler.is_waiting()
    }

    /// Looks at records that wait for their ends; after so many looks they wait no more.
    pub(super) fn give_up_after(&mut self, looks: u32) {
        for event in self.assembler.overdue(looks) {
            self.enqueue(event);
        }
    }

    /// The next event, and whom to charge for its report.
    pub(super) fn next(&mut self) -> Option<(Event, Who)> {
        self.queue.pop()
    }

    /// A report took so long.
    pub(super) fn charge(&mut self, who: Who, took: Duration) {
        self.queue.charge(who, took.as_nanos() as u64);
    }

    /// Whether no event waits for its report.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Processes whose ends were reported since this was asked for.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        self.assembler.take_ended()
    }

    /// Events that found no room in the queue.
    #[must_use]
    pub(super) fn drops(&self) -> &Drops {
        self.queue.drops()
    }

    /// The counters that are counted here.
    #[must_use]
    pub(super) fn counters(&self) -> UserCounters {
        UserCounters {
            stray_parts: self.assembler.strays(),
            ..self.times
        }
    }

    /// What the events take that wait.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.queue.bytes()
    }
}
