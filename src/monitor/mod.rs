//! The main loop: waits for crashes and for every other event.
//!
//! One thread waits for everything. The rings are emptied into a bounded queue of events
//! (`inflow`), before each report and while one is made, and reports are written one by
//! one from there, fairly (`queue`): a burst fills our memory before it fills the ring. If
//! the reader of the reports has stopped, the loop waits for it too. While nothing crashes
//! nothing runs.
//!
//! The end has a deadline: what was not analyzed by then is counted and not reported.

mod children;
mod cores;
mod figures;
mod follow;
mod inflow;
mod queue;
pub mod statistics;
mod trials;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::analyze::Analyzer;
use crate::base::error::{Error, Kind, Result};
use crate::capture::Started;
use crate::config::{Format, MonitorConfig};
use crate::corefile::store::Store;
use crate::crash::event::{Disposition, Event};
use crate::monitor::inflow::Inflow;
use crate::monitor::statistics::{Drops, UserCounters};
use crate::report::output::{self, outputs::Outputs};
use crate::report::repeats::{Outgoing, Repeats};
use crate::report::Exit;
use crate::sys::events::{ClockSet, Poller, Request, Signals, Timer};
use crate::sys::hotplug::Announcements;
use crate::sys::messages::say;
use crate::sys::process::{self, Watch};
use crate::sys::time::utc_offset_s;
use children::Command;
use follow::{Followed, Item};

/// How long a record may wait for its end before the ring is read again, and after how
/// many such reads it is reported without an end.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;
/// Files of crashed programs are closed when they were not needed for so long.
const CLOSE_FILES_AFTER: Duration = Duration::from_secs(30);
/// At the end, for the events that are left, and for a reader of our output that has stopped.
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
    ProcessGone,
}

/// This host, for reports.
fn host() -> output::Host {
    let [name, kernel, machine] = process::host_names();
    output::Host {
        name,
        boot_id: process::boot_id(),
        kernel,
        machine,
    }
}

/// A running capture, and what becomes of its records.
#[derive(Debug)]
pub struct Monitor {
    config: MonitorConfig,
    /// Shared with the analyzer, which has it filled while it makes a report.
    inflow: Rc<RefCell<Inflow>>,
    sink: Outputs,
    cores: Option<Store>,
    signals: Signals,
    poller: Poller<Woken>,
    /// Whether the poller watches the output, because a report waits for its reader.
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
    /// To be printed, but for a reader who takes nothing.
    outbox: VecDeque<Outgoing>,
    /// Reports that the sink has got.
    reported: u64,
    /// Not analyzed when the time was over, by user.
    unread: Drops,
    analyzer: Analyzer,
    options: output::Options,
    counters: UserCounters,
    started: Instant,
    /// Those of `-p` that have not ended.
    watched: Vec<Watch>,
    command: Option<Command>,
    stopping: bool,
}

impl Monitor {
    pub fn new(
        config: MonitorConfig,
        capture_started: Started,
        mut sink: Outputs,
        cores: Option<Store>,
        signals: Signals,
        started: Instant,
    ) -> Result<Self> {
        let capture = &capture_started.capture;
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
        let mut watched: Vec<Watch> = config.pids.iter().map(|pid| Watch::open(*pid)).collect();
        watched.retain(|watch| watch.fd().is_some());
        for fd in watched.iter().filter_map(Watch::fd) {
            poller.watch(fd, Woken::ProcessGone)?;
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
        let inflow = Rc::new(RefCell::new(Inflow::new(
            capture_started,
            &config,
            queue_max_bytes,
        )));
        let analyzer = Analyzer::new(&config.analysis, free / 3);
        let shared = inflow.clone();
        analyzer.meanwhile(Box::new(move || {
            if let Ok(mut inflow) = shared.try_borrow_mut() {
                inflow.fill_meanwhile();
            }
        }));
        Ok(Monitor {
            inflow,
            analyzer,
            options: output::Options {
                registers: config.output.registers,
                stack_trace: config.output.stack_trace,
                utc_offset_s: 0,
                cpp_names: config.output.cpp_names,
                host: Some(host()),
                is_short: config.output.is_short,
            },
            sink,
            cores,
            signals,
            poller,
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
            outbox: VecDeque::new(),
            reported: 0,
            unread: Drops::default(),
            counters: UserCounters::default(),
            started,
            watched,
            command: None,
            stopping: false,
            config,
        })
    }

    /// For a moment: never while a report is made.
    fn inflow(&self) -> RefMut<'_, Inflow> {
        self.inflow.borrow_mut()
    }

    /// Reports crashes until something ends it.
    pub fn watch(&mut self) -> Result<()> {
        while !self.stopping {
            self.empty_ring()?;
            if self.inflow().is_empty() && !self.sink.is_blocked() {
                self.follow_ends()?;
            }
            let is_idle = self.sink.is_blocked() || self.inflow().is_empty();
            if is_idle {
                self.watch_reader()?;
            }
            for woken in self.poller.wait(is_idle)? {
                self.woken_by(woken)?;
            }
            if self.stopping || self.sink.is_blocked() {
                continue;
            }
            self.report_next()?;
        }
        Ok(())
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
                self.inflow().give_up_after(LOOKS);
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
                self.print_due(now)?;
            }
            Woken::Followed => {
                self.followed_due.acknowledge();
                if !self.sink.is_blocked() {
                    let due = self.followed.due(self.started.elapsed());
                    self.release(due)?;
                }
            }
            Woken::ProcessGone => self.forget_ended(),
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
            match self.inflow.borrow_mut().capture.cpu_up(cpu) {
                Ok(rings) => {
                    for ring in rings {
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
                Request::Reopen { .. } if self.sink.is_named() => {
                    if std::mem::take(&mut self.watches_reader) {
                        self.poller.forget(self.sink.fd());
                    }
                    self.sink.reopen();
                    self.go_on()?;
                }
                Request::ChildEnded => {
                    // Until it is reaped, a child shows whose parent it was.
                    self.empty_ring()?;
                    self.reap();
                }
                Request::Statistics => {
                    self.empty_ring()?;
                    self.print_statistics();
                }
                Request::Reopen { signal, by_process } | Request::Stop { signal, by_process } => {
                    self.stop(signal, by_process);
                }
            }
        }
        Ok(())
    }

    /// Moves events from the rings into the queue.
    fn empty_ring(&mut self) -> Result<()> {
        self.inflow().fill();
        if self.inflow().is_waiting() && !self.looking_again {
            self.look_again.once(LOOK_AGAIN)?;
            self.looking_again = true;
        }
        Ok(())
    }

    /// Reports the event whose turn it is; false if there is none.
    fn report_next(&mut self) -> Result<bool> {
        let next = self.inflow().next();
        let Some((event, who)) = next else {
            return Ok(false);
        };
        let began = Instant::now();
        self.report(&event)?;
        self.inflow().charge(who, began.elapsed());
        Ok(true)
    }

    fn report(&mut self, event: &Event) -> Result<()> {
        let report = self.analyzer.report(event);
        if trials::is_trial(&report) {
            self.inflow().leave_out();
            return Ok(());
        }
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
        let reports_ends = self.inflow().capture.reports_ends();
        let items = self.followed.admit(item, now, reports_ends);
        self.release(items)
    }

    /// Handles the ends of processes, after everything before them was reported.
    fn follow_ends(&mut self) -> Result<()> {
        let all = self.inflow().take_ended();
        for ended in all {
            let inflow = self.inflow.clone();
            let take = &mut |site: &_| {
                let folded = inflow.borrow_mut().capture.take_folded(site)?;
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
            let capture = &mut self.inflow.borrow_mut().capture;
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

    /// Writes what was held back and is due.
    fn print_due(&mut self, now: Duration) -> Result<()> {
        let inflow = self.inflow.clone();
        let take = &mut |site: &_| inflow.borrow_mut().capture.take_folded(site);
        let reports = self.repeats.due(now, take);
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
        while !self.sink.is_blocked() && !self.is_done() {
            let Some(Outgoing { report, is_held }) = self.outbox.pop_front() else {
                break;
            };
            // The name may have been set since.
            if let Some(host) = &mut self.options.host {
                [host.name, ..] = process::host_names();
            }
            self.options.utc_offset_s = utc_offset_s((report.time.unix_ms / 1000) as i64);
            self.sink.write(|format| match format {
                Format::Json => output::json(&report, &self.options),
                Format::Text if is_held => output::repeats(&report, &self.options),
                Format::Text => output::text(&report, &self.options),
            })?;
            self.reported += 1;
            self.stopping |= self.is_done();
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

    /// Whether as many reports were written as are wanted.
    fn is_done(&self) -> bool {
        self.config
            .count
            .is_some_and(|count| self.reported >= count)
    }

    /// Detaches, and hands on the events that were captured before, one at a time.
    fn drain(&mut self, mut next: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        self.inflow().capture.stop();
        for _ in 0..LOOKS {
            self.inflow().fill();
            while next(self)? {
                self.inflow().fill();
            }
            if !self.inflow().is_waiting() {
                break;
            }
            // A program on another CPU is still at it.
            std::thread::sleep(LOOK_AGAIN);
        }
        self.inflow().give_up_after(0);
        while next(self)? {}
        Ok(())
    }

    /// Counts captured events that cannot be reported, so that the counts add up.
    pub fn discard(&mut self) {
        let counted = self.drain(|monitor| {
            let next = monitor.inflow().next();
            monitor.counters.processed += u64::from(next.is_some());
            monitor.counters.reports_not_written += u64::from(next.is_some());
            Ok(next.is_some())
        });
        if let Err(error) = counted {
            say(&format!("Warning: could not empty the ring: {error}"));
        }
    }

    /// Reports the events that were captured until now, as far as there is time, and then
    /// stops.
    pub fn finish(&mut self) -> Result<()> {
        self.sink.end(PATIENCE);
        if self.is_done() {
            self.discard();
            return self.end_of_output();
        }
        let deadline = Instant::now() + PATIENCE;
        self.drain(|monitor| {
            if Instant::now() < deadline {
                return monitor.report_next();
            }
            let next = monitor.inflow().next();
            if let Some((event, _)) = &next {
                monitor.unread.add(event.uid, 1);
            }
            Ok(next.is_some())
        })?;
        self.follow_ends()?;
        let due = self.followed.due(Duration::MAX);
        self.release(due)?;
        self.print_due(Duration::MAX)?;
        let unread = self.unread.all();
        if unread > 0 {
            let within_s = PATIENCE.as_secs();
            say(&format!(
                "Warning: {unread} captured crashes are not reported: stopping takes at most {within_s} s"
            ));
        }
        self.end_of_output()
    }

    fn end_of_output(&mut self) -> Result<()> {
        match self.sink.finish()? {
            0 => Ok(()),
            _ => Err(Error::failed("some reports could not be written")),
        }
    }
}
