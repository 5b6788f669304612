//! The main loop: waits for crashes and for every other event.
//!
//! One thread waits for everything. The ring is emptied first, into a bounded
//! queue of events, and reports are written one by one from there: a burst
//! fills our memory before it fills the ring, and a full ring is counted in the
//! kernel. If the reader of the reports has stopped, the loop waits for it too. While
//! nothing crashes nothing runs.

mod cores;
mod figures;
mod follow;
pub mod statistics;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::analyze::{recover_mappings, Analyzer};
use crate::base::error::{Error, Kind, Result};
use crate::capture::record::assemble::Assembler;
use crate::capture::{Capture, Next, Started};
use crate::config::{Format, MonitorConfig};
use crate::corefile::store::Store;
use crate::crash::event::{Disposition, Event, Lost};
use crate::monitor::statistics::UserCounters;
use crate::report::output::{self, sink::Sink};
use crate::report::repeats::{Outgoing, Repeats};
use crate::report::Exit;
use crate::sys::events::{ClockSet, Poller, Request, Signals, Timer};
use crate::sys::hotplug::Announcements;
use crate::sys::messages::say;
use crate::sys::mmap::page_bytes;
use crate::sys::time::{boot_ahead_ns, utc_offset_s};
use follow::{Followed, Item};

/// How long a record may wait for its end before the ring is read again, and after how
/// many such reads it is reported without an end.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;
/// Files of crashed programs are closed when they were not needed for so long.
const CLOSE_FILES_AFTER: Duration = Duration::from_secs(30);
/// For a reader of our output that has stopped, at the end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory for code, stack, the allocator and the libraries.
const BASE_BYTES: u64 = 1536 << 10;
/// The queue never needs more, whatever the limit, and always gets at least the minimum.
const QUEUE_MAX_BYTES: u64 = 32 << 20;
const QUEUE_MIN_BYTES: u64 = 256 << 10;

/// What woke us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Ring,
    Signals,
    Duration,
    Statistics,
    LookAgain,
    Clock,
    ReaderGone,
    CloseFiles,
    Repeats,
    Devices,
    Reader,
    Followed,
}

/// A running capture, and what becomes of its records.
#[derive(Debug)]
pub struct Monitor {
    config: MonitorConfig,
    capture: Box<dyn Capture>,
    /// Details that no record of it has.
    lost: Vec<Lost>,
    sink: Sink,
    cores: Option<Store>,
    signals: Signals,
    poller: Poller<Woken>,
    /// Among what the poller watches: the rings, as long as there is room for what
    /// they hold; the output, while a report waits for its reader.
    watches_rings: bool,
    watches_reader: bool,
    /// Kept for its descriptor, which the poller watches.
    _duration: Timer,
    statistics: Timer,
    look_again: Timer,
    looking_again: bool,
    close_files: Timer,
    closing_files: bool,
    followed: Followed,
    followed_due: Timer,
    repeats: Repeats,
    repeats_due: Timer,
    /// Announces CPUs that come up, if each has a ring.
    announcements: Option<Announcements>,
    clock_set: Option<ClockSet>,
    assembler: Assembler,
    /// To be printed, but for a reader who takes nothing.
    outbox: VecDeque<Outgoing>,
    /// Whole, and not yet reported.
    queue: VecDeque<Event>,
    queue_bytes: u64,
    queue_max_bytes: u64,
    analyzer: Analyzer,
    options: output::Options,
    counters: UserCounters,
    started: Instant,
    stopping: bool,
}

impl Monitor {
    pub fn new(
        config: MonitorConfig,
        Started { capture, lost, .. }: Started,
        mut sink: Sink,
        cores: Option<Store>,
        signals: Signals,
        started: Instant,
    ) -> Result<Self> {
        let mut poller = Poller::new()?;
        let duration = Timer::new()?;
        let statistics = Timer::new()?;
        let look_again = Timer::new()?;
        let close_files = Timer::new()?;
        let repeats_due = Timer::new()?;
        let followed_due = Timer::new()?;
        let announcements = capture.has_ring_for_each_cpu().then(Announcements::new);
        // Without networking in the kernel CPUs that come up later are not watched.
        let announcements = announcements.and_then(Result::ok);
        if let Some(announcements) = &announcements {
            poller.watch(announcements.fd(), Woken::Devices)?;
        }
        let clock_set = ClockSet::new().ok();
        for fd in capture.fds() {
            poller.watch(fd, Woken::Ring)?;
        }
        poller.watch(signals.fd(), Woken::Signals)?;
        poller.watch(duration.fd(), Woken::Duration)?;
        poller.watch(statistics.fd(), Woken::Statistics)?;
        poller.watch(look_again.fd(), Woken::LookAgain)?;
        poller.watch(close_files.fd(), Woken::CloseFiles)?;
        poller.watch(repeats_due.fd(), Woken::Repeats)?;
        poller.watch(followed_due.fd(), Woken::Followed)?;
        if let Some(clock_set) = &clock_set {
            poller.watch(clock_set.fd(), Woken::Clock)?;
        }
        if config.output.is_stdout {
            poller.watch_hangup(std::io::stdout().as_fd(), Woken::ReaderGone)?;
        }
        if let Some(after) = config.duration {
            duration.once(
                after
                    .saturating_sub(started.elapsed())
                    .max(Duration::from_nanos(1)),
            )?;
        }
        if let Some(interval) = config.stats_interval {
            statistics.every(interval)?;
        }
        let free = config
            .memory_limit_bytes
            .saturating_sub(capture.ring_bytes())
            .saturating_sub(BASE_BYTES);
        let queue_max_bytes = (free / 3).clamp(QUEUE_MIN_BYTES, QUEUE_MAX_BYTES);
        sink.limit_queue(usize::try_from(free / 6).unwrap_or(usize::MAX));
        Ok(Monitor {
            analyzer: Analyzer::new(&config.analysis, free / 3),
            options: output::Options {
                registers: config.output.registers,
                stack_trace: config.output.stack_trace,
                utc_offset_s: 0,
            },
            capture,
            lost,
            sink,
            cores,
            signals,
            poller,
            watches_rings: true,
            watches_reader: false,
            _duration: duration,
            statistics,
            look_again,
            looking_again: false,
            close_files,
            closing_files: false,
            followed: Followed::new(config.fatal_only),
            followed_due,
            repeats: Repeats::new(&config.repeats),
            repeats_due,
            announcements,
            clock_set,
            assembler: Assembler::new(page_bytes() as u64, queue_max_bytes),
            outbox: VecDeque::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_max_bytes,
            counters: UserCounters::default(),
            started,
            stopping: false,
            config,
        })
    }

    /// Reports crashes until something ends it.
    pub fn watch(&mut self) -> Result<()> {
        while !self.stopping {
            self.empty_ring()?;
            if self.queue.is_empty() && !self.sink.is_blocked() {
                self.follow_ends()?;
            }
            if self.is_idle() {
                self.watch_rings()?;
                self.watch_reader()?;
            }
            for woken in self.poller.wait(self.is_idle())? {
                self.woken_by(woken)?;
            }
            if self.stopping || self.sink.is_blocked() {
                continue;
            }
            if let Some(mut event) = self.take_event() {
                self.report(&mut event)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing to do but to wait.
    fn is_idle(&self) -> bool {
        self.sink.is_blocked() || self.queue.is_empty()
    }

    /// Before a wait: rings that cannot be emptied would end it at once.
    fn watch_rings(&mut self) -> Result<()> {
        let has_room = self.queue_bytes < self.queue_max_bytes;
        if has_room == self.watches_rings {
            return Ok(());
        }
        self.watches_rings = has_room;
        if !has_room {
            self.capture
                .fds()
                .into_iter()
                .for_each(|ring| self.poller.forget(ring));
            return Ok(());
        }
        for ring in self.capture.fds() {
            self.poller.watch(ring, Woken::Ring)?;
        }
        // A record from before the rings were watched does not wake the poller: perf events
        // report it once, and adding them to a poller has already asked (perf_poll()).
        self.empty_ring()
    }

    fn watch_reader(&mut self) -> Result<()> {
        let is_blocked = self.sink.is_blocked();
        if is_blocked == self.watches_reader {
            return Ok(());
        }
        self.watches_reader = is_blocked;
        if is_blocked {
            return self.poller.watch_writable(self.sink.fd(), Woken::Reader);
        }
        self.poller.forget(self.sink.fd());
        Ok(())
    }

    fn woken_by(&mut self, woken: Woken) -> Result<()> {
        match woken {
            // The rings are emptied before every wait.
            Woken::Ring => {}
            Woken::Signals => self.obey()?,
            Woken::Duration => self.stopping = true,
            Woken::Statistics => {
                self.statistics.acknowledge();
                // What is still in a ring is not in the counters, neither as read nor as lost.
                self.empty_ring()?;
                self.print_statistics();
            }
            Woken::LookAgain => {
                self.look_again.acknowledge();
                self.looking_again = false;
                for event in self.assembler.overdue(LOOKS) {
                    self.enqueue(event);
                }
            }
            Woken::CloseFiles => {
                self.close_files.acknowledge();
                let next = self.analyzer.close_unused(CLOSE_FILES_AFTER);
                self.closing_files = next.is_some();
                if let Some(next) = next {
                    self.close_files.once(next)?;
                }
            }
            Woken::Reader => self.go_on()?,
            Woken::Repeats => {
                self.repeats_due.acknowledge();
                if self.sink.is_blocked() {
                    // They are due when it is not.
                    return Ok(());
                }
                let now = self.started.elapsed();
                let capture = &mut self.capture;
                let reports = self.repeats.due(now, &mut |site| capture.take_folded(site));
                self.print(reports)?;
            }
            Woken::Followed => {
                self.followed_due.acknowledge();
                if !self.sink.is_blocked() {
                    let due = self.followed.due(self.started.elapsed());
                    self.release(due)?;
                }
            }
            Woken::Devices => self.watch_new_cpus()?,
            Woken::Clock => {
                self.analyzer.clock_was_set();
                if let Some(clock_set) = &self.clock_set {
                    clock_set.rearm()?;
                }
            }
            Woken::ReaderGone => {
                return Err(Error::new(Kind::BrokenPipe, "standard output was closed"));
            }
        }
        Ok(())
    }

    fn watch_new_cpus(&mut self) -> Result<()> {
        let up = self.announcements.as_mut().map(Announcements::cpus_up);
        // The records in the CPU's earlier ring, if it was online before.
        self.empty_ring()?;
        for cpu in up.unwrap_or_default() {
            match self.capture.cpu_up(cpu) {
                Ok(rings) => {
                    for ring in rings.into_iter().filter(|_| self.watches_rings) {
                        self.poller.watch(ring, Woken::Ring)?;
                    }
                }
                Err(error) => say(&format!(
                    "Warning: crashes on CPU {cpu} are not seen: {error}"
                )),
            }
        }
        Ok(())
    }

    fn obey(&mut self) -> Result<()> {
        while let Some(request) = self.signals.read()? {
            match request {
                Request::Reopen if self.sink.is_named() => {
                    if std::mem::take(&mut self.watches_reader) {
                        self.poller.forget(self.sink.fd());
                    }
                    self.sink.reopen();
                    self.go_on()?;
                }
                Request::Reopen | Request::Stop => self.stopping = true,
            }
        }
        Ok(())
    }

    /// Moves events from the rings into the queue, as far as there is room, in the order of
    /// time.
    fn empty_ring(&mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::new();
        let mut room = self.queue_max_bytes.saturating_sub(self.queue_bytes);
        self.assembler.set_boot_ahead_ns(boot_ahead_ns());
        while room > 0 {
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
                room = room.saturating_sub(event.memory_bytes());
                // Nearly in order already: only rings of several CPUs mix.
                let earlier = |known: &Event| known.boot_ns <= event.boot_ns;
                let place = events.iter().rposition(earlier).map_or(0, |last| last + 1);
                events.insert(place, event);
            }
        }
        for event in events {
            self.enqueue(event);
        }
        if self.assembler.is_waiting() && !self.looking_again {
            self.look_again.once(LOOK_AGAIN)?;
            self.looking_again = true;
        }
        Ok(())
    }

    fn enqueue(&mut self, mut event: Event) {
        event.lost.extend_from_slice(&self.lost);
        if self.lost.iter().any(|lost| lost.detail == "mappings") {
            // At once, before its memory is gone.
            recover_mappings(&mut event);
        }
        if event.capture_ns > 0 {
            self.counters.timed += 1;
            self.counters.capture_ns += event.capture_ns;
            self.counters.capture_max_ns = self.counters.capture_max_ns.max(event.capture_ns);
        }
        self.queue_bytes += event.memory_bytes();
        self.queue.push_back(event);
    }

    fn take_event(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        self.queue_bytes -= event.memory_bytes();
        Some(event)
    }

    fn report(&mut self, event: &mut Event) -> Result<()> {
        let report = self.analyzer.report(event);
        self.counters.processed += 1;
        if !self.closing_files {
            self.close_files.once(CLOSE_FILES_AFTER)?;
            self.closing_files = true;
        }
        let is_fatal = event.disposition == Disposition::Fatal;
        let core = match &self.cores {
            Some(_) if is_fatal => self.analyzer.core(event, report.time.unix_ms),
            _ => None,
        };
        let item = Item {
            core,
            report: Box::new(report),
            site: event.site(),
            repeats: event.repeats,
            process: (event.host_pid, event.start_ns),
        };
        let now = self.started.elapsed();
        let reports_ends = self.capture.reports_ends();
        let items = self.followed.admit(item, now, reports_ends);
        self.release(items)
    }

    /// Handles the ends of processes, after everything before them was reported.
    fn follow_ends(&mut self) -> Result<()> {
        for ended in self.assembler.take_ended() {
            let capture = &mut self.capture;
            let take = &mut |site: &_| {
                let folded = capture.take_folded(site)?;
                Some((folded.count, folded.last_boot_ns / 1_000_000))
            };
            let item = self.followed.ended(&ended, take);
            self.release(item.into_iter().collect())?;
        }
        Ok(())
    }

    /// Reports that are followed no more.
    fn release(&mut self, items: Vec<Item>) -> Result<()> {
        let mut reports = Vec::new();
        for mut item in items {
            if item.report.exit.is_some_and(Exit::is_death) {
                let (host_pid, start_ns) = item.process;
                item.report.same_death = self.analyzer.is_repeated_death(host_pid, start_ns);
            }
            let now = self.started.elapsed();
            let capture = &mut self.capture;
            let take = &mut |site: &_| capture.take_folded(site);
            let repeats = &mut self.repeats;
            let mut admitted = repeats.admit(item.report, item.site, item.repeats, now, take);
            if let (Some(core), Some(store)) = (item.core, &mut self.cores) {
                cores::add(store, &core, &mut admitted);
            }
            reports.extend(admitted);
        }
        self.print(reports)
    }

    /// Writes the reports that waited for a reader.
    fn go_on(&mut self) -> Result<()> {
        self.sink.go_on()?;
        self.print(Vec::new())
    }

    /// Writes reports, and sees to it that those held back are not forgotten.
    fn print(&mut self, reports: Vec<Outgoing>) -> Result<()> {
        self.outbox.extend(reports);
        while !self.sink.is_blocked() {
            let Some(Outgoing { report, is_held }) = self.outbox.pop_front() else {
                break;
            };
            self.options.utc_offset_s = utc_offset_s((report.time.unix_ms / 1000) as i64);
            let text = match self.config.output.format {
                Format::Json => output::json(&report, &self.options),
                Format::Text if is_held => output::repeats(&report, &self.options),
                Format::Text => output::text(&report, &self.options),
            };
            self.sink.write(&text)?;
        }
        if let Some(due) = self.repeats.next_due() {
            let wait = due.saturating_sub(self.started.elapsed());
            self.repeats_due.once(wait.max(Duration::from_nanos(1)))?;
        }
        if let Some(due) = self.followed.next_due() {
            let wait = due.saturating_sub(self.started.elapsed());
            self.followed_due.once(wait.max(Duration::from_nanos(1)))?;
        }
        Ok(())
    }

    /// Detaches, and hands on the events that were captured before.
    fn drain(&mut self, mut each: impl FnMut(&mut Self, &mut Event) -> Result<()>) -> Result<()> {
        self.capture.stop();
        for _ in 0..LOOKS {
            self.empty_ring()?;
            while let Some(mut event) = self.take_event() {
                each(self, &mut event)?;
                self.empty_ring()?;
            }
            if !self.assembler.is_waiting() {
                break;
            }
            // A program on another CPU is still at it.
            std::thread::sleep(LOOK_AGAIN);
        }
        let mut rest: Vec<Event> = self.assembler.give_up().collect();
        rest.iter_mut().try_for_each(|event| each(self, event))
    }

    /// Counts captured events that cannot be reported, so that the counts add up.
    pub fn discard(&mut self) {
        let counted = self.drain(|monitor, _| {
            monitor.counters.processed += 1;
            monitor.counters.reports_not_written += 1;
            Ok(())
        });
        if let Err(error) = counted {
            say(&format!("Warning: could not empty the ring: {error}"));
        }
    }

    /// Reports all events that were captured until now, and then stops.
    pub fn finish(&mut self) -> Result<()> {
        self.sink.end(PATIENCE);
        self.drain(Self::report)?;
        self.follow_ends()?;
        let due = self.followed.due(Duration::MAX);
        self.release(due)?;
        let capture = &mut self.capture;
        let reports = self
            .repeats
            .due(Duration::MAX, &mut |site| capture.take_folded(site));
        self.print(reports)?;
        match self.sink.finish()? {
            0 => Ok(()),
            _ => Err(Error::failed("some reports could not be written")),
        }
    }
}
