//! Capture without any BPF program: perf events alone, for kernels that run none.
//!
//! On each CPU one event reports deliveries at the tracepoint `signal_deliver`, with
//! registers and stack, and another one reports what processes do: fork, exec, names,
//! mappings. This module combines the two in the order of time, so that the state of a
//! process at its death is known (`processes::Processes`):
//!
//! ```text
//! horizon = now
//! empty every ring of deliveries, then every ring of changes
//! take in what came up to the horizon, sorted by time; keep the rest
//! ```
//!
//! The rings of deliveries are read first, because the changes before a delivery were
//! written before it. Records after the horizon must wait: an earlier delivery may have
//! been incomplete when its ring was read.
//!
//! Only the signal's number is filtered in the kernel; all other filters work here.

pub(super) mod buffer;
mod change;
mod delivery;
mod event;
mod handled;
mod living;
mod order;
mod processes;
mod rings;
mod stack;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use crate::base::error::Result;
use crate::capture::counters::KernelCounters;
use crate::capture::{Capture, Folded, Mark, Next};
use crate::config::CaptureConfig;
use crate::crash::event::{Disposition, Event, FaultSite, Lost};
use crate::crash::fault::has_address;
use crate::sys::{process, time};
use change::Change;
use delivery::Delivery;
use handled::Handled;
use processes::{Gap, Process, Processes};
use rings::{Extent, Pending, Rings, What, TRACEPOINT};

/// SIGBUS and SIGSEGV: see bpf/proof.h.
const SIGNALS_OF_PROOF: u64 = 1 << 7 | 1 << 11;

/// Between two looks at all processes because changes were lost.
const LOOK_INTERVAL_NS: u64 = 1_000_000_000;

/// Perf events at work.
#[derive(Debug)]
pub(super) struct PerfCapture {
    rings: Rings,
    wanted: Wanted,
    /// During the proof at start: what is wanted afterwards.
    wanted_later: Option<Wanted>,
    processes: Processes,
    handled: Handled,
    /// Sorted by time.
    pending: VecDeque<Pending>,
    /// Deliveries among them.
    waiting: usize,
    /// Everything that happened up to this time was read.
    horizon_ns: u64,
    /// How far `CLOCK_BOOTTIME` is ahead of the clock of records.
    ahead_ns: u64,
    /// Rings were not read to their ends.
    is_behind: bool,
    /// Changes were lost that a look at /proc could make good, and when that was.
    wants_look: bool,
    looked_ns: u64,
    counters: KernelCounters,
    /// Events so far.
    events: u64,
}

/// What the user asked for.
#[derive(Clone, Debug)]
struct Wanted {
    signals: u64,
    own_pid: u32,
    pid: Option<u32>,
    name: Option<Vec<u8>>,
    fold_ns: u64,
    stack: bool,
    memory: bool,
    threads: bool,
}

impl PerfCapture {
    pub(super) fn start(config: &CaptureConfig, only: Option<Mark>) -> Result<PerfCapture> {
        let proof = only.map_or(0, |_| SIGNALS_OF_PROOF);
        let rings = Rings::open(config, config.signals | proof)?;
        let asked = Wanted::of(config, &rings);
        let (wanted, wanted_later) = match only {
            Some(mark) => (asked.clone().only(mark), Some(asked)),
            None => (asked, None),
        };
        let mut capture = PerfCapture {
            rings,
            wanted,
            wanted_later,
            processes: Processes::new(table_bytes(config)),
            handled: Handled::default(),
            pending: VecDeque::new(),
            waiting: 0,
            horizon_ns: 0,
            ahead_ns: 0,
            is_behind: false,
            wants_look: false,
            looked_ns: 0,
            counters: KernelCounters::default(),
            events: 0,
        };
        // With changes enabled already, so that no process begins unseen; deliveries only
        // then, so that none dies unknown.
        capture.look_at_processes();
        capture.rings.watch_deliveries()?;
        Ok(capture)
    }

    fn settled(&mut self) -> Option<Pending> {
        let is_settled = self.pending.front()?.time_ns <= self.horizon_ns;
        is_settled.then(|| self.pending.pop_front())?
    }

    /// One round through all rings.
    fn read_rings(&mut self) {
        // It grows in suspension alone, and where we were interrupted as we asked it
        // looks too small.
        self.ahead_ns = self.ahead_ns.max(time::boot_ahead_ns());
        let now_ns = time::monotonic_ns().saturating_add(self.ahead_ns);
        let mut read = Vec::new();
        let Extent {
            until_ns,
            may_lack_changes,
        } = self.rings.read(self.ahead_ns, &mut read);
        if may_lack_changes {
            // Before any delivery is handed out that came after the loss.
            let now_ns = time::boottime_ns().unsigned_abs();
            self.apply(now_ns, Change::Lost(0));
        }
        self.is_behind = until_ns.is_some();
        self.horizon_ns = until_ns.map_or(now_ns, |until_ns| until_ns.min(now_ns));
        let is_change = |pending: &&Pending| matches!(pending.what, What::Change(_));
        self.waiting += read.len() - read.iter().filter(is_change).count();
        self.pending.extend(read);
        order::sort(&mut self.pending);
    }

    fn apply(&mut self, time_ns: u64, change: Change) {
        if let Change::Lost(count) = change {
            self.counters.parts_lost += count;
            self.wants_look = true;
        }
        // The clock at that time: it may have been set since boot, but hardly since then.
        let unix_ns = time::realtime_ns() - time::boottime_ns();
        let unix_ns = unix_ns.saturating_add_unsigned(time_ns);
        self.processes.apply(time_ns, unix_ns, change);
    }

    /// Looks at the processes that run, unless that was done just now.
    fn look_at_processes(&mut self) {
        let now_ns = time::boottime_ns().unsigned_abs();
        if self.looked_ns == 0 || now_ns - self.looked_ns > LOOK_INTERVAL_NS {
            self.looked_ns = now_ns;
            self.wants_look = false;
            living::read_all(&mut self.processes);
        }
    }

    /// Does what the capture programs do in the kernel with other methods. Returns the event, if
    /// one must be reported.
    fn deliver(&mut self, boot_ns: u64, cpu: u32, delivery: Delivery) -> Option<Event> {
        let pid = delivery.pid;
        self.counters.detected += 1;
        self.fill_gap(pid, boot_ns);
        let known = self.processes.get(pid);
        let gap = known.map_or(Some(Gap::Unseen), |known| self.processes.gap(known));
        let certain = event::certain_fault(&delivery);
        let counters = &mut self.counters;
        if certain.is_some() {
            counters.fault_info_captured += 1;
        } else {
            counters.fault_info_missed += 1;
        }
        let is_handled = event::disposition(delivery.handler) == Disposition::Handled;
        if is_handled && has_address(delivery.code) {
            if let Some(fault) = event::earlier_fault(&delivery, boot_ns, certain) {
                self.handled.remember(delivery.tid, fault);
            }
        }
        let may_be_renamed = known.is_some_and(|known| self.processes.may_be_renamed(known));
        match self.wanted.passes(&delivery, known, may_be_renamed) {
            Some(true) => {}
            Some(false) => {
                counters.filtered += 1;
                return None;
            }
            None => {
                counters.dropped += 1;
                return None;
            }
        }
        let window_ns = if is_handled { self.wanted.fold_ns } else { 0 };
        let site = site(&delivery);
        let Some(repeats) = self.handled.fold(site, boot_ns, window_ns) else {
            counters.folded += 1;
            return None;
        };
        let wants_stack = self.wanted.stack;
        counters.captured += 1;
        counters.submitted += 1;
        counters.register_failures += u64::from(delivery.registers.is_none());
        counters.stack_failures += u64::from(wants_stack && delivery.stack.is_empty());
        let (image_ns, started_ns) =
            known.map_or((0, 0), |known| (known.image_ns, known.started_ns));
        let first_fault = match is_handled {
            true => None,
            false => self.handled.recall(delivery.tid, image_ns),
        };
        self.events += 1;
        let around = event::Circumstances {
            id: u64::from(cpu) << 48 | self.events,
            boot_ns,
            process: known,
            parent: known.and_then(|known| self.processes.parent(known)),
            gap,
            may_be_renamed,
            first_fault,
            look: living::look_at(pid, started_ns, boot_ns),
            repeats,
            wants_stack,
            wants_memory: self.wanted.memory,
            wants_threads: self.wanted.threads && delivery.handler == 0,
        };
        Some(event::event(delivery, around))
    }

    /// Completes the state of a process from /proc, as far as the process still exists.
    fn fill_gap(&mut self, pid: u32, boot_ns: u64) {
        let known = self.processes.get(pid);
        if pid == 0 || known.is_some_and(|known| self.processes.gap(known).is_none()) {
            return;
        }
        let found = living::read_one(pid, &mut self.processes);
        if let Some(found) = found.filter(|found| found.started_ns <= boot_ns) {
            self.processes.found_ending(pid, found);
        }
    }
}

impl Capture for PerfCapture {
    fn let_filters_hold(&mut self) -> Result<()> {
        if let Some(wanted) = self.wanted_later.take() {
            self.wanted = wanted;
        }
        self.counters = KernelCounters::default();
        Ok(())
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.rings.fds()
    }

    /// The next delivery that is to be reported: there are no parts.
    fn next_part(&mut self, _take: &mut dyn FnMut(&[u8])) -> Next {
        let mut has_looked = false;
        loop {
            while let Some(pending) = self.settled() {
                match pending.what {
                    What::Change(change) => self.apply(pending.time_ns, change),
                    What::Nonsense => {
                        self.waiting -= 1;
                        self.counters.detected += 1;
                        self.counters.dropped += 1;
                    }
                    What::Delivery { cpu, delivery } => {
                        self.waiting -= 1;
                        // Delivered for the proof at start alone: an event's filter is final.
                        if self.wanted.signals >> (delivery.signal & 63) & 1 == 0 {
                            continue;
                        }
                        if let Some(event) = self.deliver(pending.time_ns, cpu, *delivery) {
                            return Next::Event(Box::new(event));
                        }
                    }
                }
            }
            if has_looked && self.waiting == 0 && !self.is_behind {
                return Next::Nothing;
            }
            if self.wants_look {
                self.look_at_processes();
            }
            self.read_rings();
            has_looked = true;
        }
    }

    fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        self.handled.take(site)
    }

    fn has_programs(&self) -> bool {
        false
    }

    fn has_ring_for_each_cpu(&self) -> bool {
        true
    }

    fn cpu_up(&mut self, cpu: u32) -> Result<Vec<BorrowedFd<'_>>> {
        self.rings.cpu_up(cpu)?;
        // No event shows processes that began there before now.
        let now_ns = time::boottime_ns().unsigned_abs();
        self.apply(now_ns, Change::Lost(0));
        Ok(self.rings.fds_of(cpu))
    }

    fn stop(&mut self) {
        self.rings.stop();
    }

    fn counters(&self) -> KernelCounters {
        let lost = self.rings.lost();
        let mut counters = self.counters;
        counters.detected += lost;
        counters.dropped += lost;
        counters.dropped_ring += lost;
        counters
    }

    fn ring_bytes(&self) -> u64 {
        self.rings.bytes()
    }

    /// What is known of processes.
    fn held_bytes(&self) -> u64 {
        self.processes.bytes() as u64
    }

    /// What was given up of that.
    fn evicted(&self) -> u64 {
        self.processes.evicted()
    }

    fn describe(&self) -> Vec<String> {
        let known = self.processes.len();
        let known_kb = self.processes.bytes() >> 10;
        vec![
            format!("Attached: perf events at {TRACEPOINT}"),
            self.rings.describe(),
            format!("Processes: {known} known, {known_kb} KB"),
        ]
    }

    fn lacks(&self) -> Vec<Lost> {
        let lost = |&(detail, reason): &(&'static str, &'static str)| Lost { detail, reason };
        event::USUALLY_MISSING.iter().map(lost).collect()
    }
}

impl Wanted {
    fn of(config: &CaptureConfig, rings: &Rings) -> Wanted {
        Wanted {
            signals: config.signals,
            own_pid: process::pid(),
            pid: config.pid,
            name: config.name.clone(),
            fold_ns: super::fold_ns(config),
            stack: rings.stack_bytes() > 0,
            memory: config.memory,
            threads: config.threads > 0,
        }
    }

    /// Only processes whose name has the mark.
    fn only(self, mark: Mark) -> Wanted {
        Wanted {
            signals: SIGNALS_OF_PROOF,
            pid: None,
            name: Some(mark.to_vec()),
            fold_ns: 0,
            ..self
        }
    }

    /// `-p`, `-n`, and never the tool itself; `None` if the answer is not known: the process is
    /// in no namespace of ours, or its exec may be among the lost changes.
    fn passes(
        &self,
        delivery: &Delivery,
        known: Option<&Process>,
        may_be_renamed: bool,
    ) -> Option<bool> {
        let pid = delivery.pid;
        if pid == self.own_pid || self.pid.is_some_and(|wanted| wanted != pid) {
            return Some(false);
        }
        if pid == 0 {
            return None;
        }
        let Some(wanted) = &self.name else {
            return Some(true);
        };
        let known = known.filter(|known| known.name[0] != 0)?;
        let exe = known.exe.as_ref().map_or(&[][..], |exe| &exe.path);
        let base = exe.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let holds = |text: &[u8]| crate::base::bytes::find(text, wanted).is_some();
        let matches = holds(&known.name) || holds(&known.thread_name(delivery.tid)) || holds(base);
        (matches || !may_be_renamed).then_some(matches)
    }
}

/// The place of the fault; without registers only the process is known.
fn site(delivery: &Delivery) -> FaultSite {
    let pc = delivery.registers.map(|registers| registers.pc());
    FaultSite {
        pc: pc.unwrap_or_default(),
        host_pid: delivery.pid,
        signal: delivery.signal as i16,
        code: delivery.code as i16,
    }
}

/// What is known of processes may take a sixth of what rings leave.
fn table_bytes(config: &CaptureConfig) -> usize {
    let rest = config
        .memory_limit_bytes
        .saturating_sub(u64::from(config.ring_bytes));
    usize::try_from(rest / 6).unwrap_or(usize::MAX)
}
