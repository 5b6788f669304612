//! Capture without any BPF program: perf events alone, for kernels that run none.
//!
//! On each CPU one event tells of deliveries at the tracepoint `signal_deliver`, with
//! registers and stack, and another of what processes do: fork, exec, names,
//! mappings. Who is who when a process dies is put together here, from
//! [`processes::Processes`], in the order of time:
//!
//! ```text
//! horizon = now
//! empty every ring of deliveries, then every ring of changes
//! take in what came up to the horizon, sorted by time; keep the rest
//! ```
//!
//! Deliveries go first because whatever led to one was written before it. What comes
//! after the horizon has to wait: before it there may be a delivery that was still
//! being written when its ring was looked at.
//!
//! Filters work here, not in the kernel, but for the signal's number.

mod change;
mod delivery;
mod handled;
mod living;
mod processes;
mod stack;
mod told;

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::capture::{Folded, Next};
use crate::cli::Config;
use crate::error::{Context, Error, Result};
use crate::event::{Disposition, Event, FaultSite, Lost};
use crate::fault::has_address;
use crate::perfring::{self, MappedPerfRing, PerfRing};
use crate::registers::Arch;
use crate::stats::KernelCounters;
use crate::sys::{perf, process, time, tracefs};
use change::Change;
use delivery::Delivery;
use handled::Handled;
use processes::{Gap, Process, Processes};

const GROUP: &str = "signal";
const TRACEPOINT: &str = "signal_deliver";
/// A sample has less than 64 KB, of which this is left to the stack.
const MAX_STACK_BYTES: u32 = 60 << 10;
const LEAST_RING_BYTES: u64 = 16 << 10;
/// Of changes, beyond the share of what the user allows: without them no report has
/// any names.
const LEAST_CHANGES_BYTES: u64 = 256 << 10;
/// Of changes, that are to be read while nothing else is: what comes with a dozen new
/// processes, and takes a fraction of a millisecond.
const MOST_UNREAD_BYTES: u32 = 32 << 10;
/// What is waiting to be told in its turn, beyond one sample.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// Between two looks at all processes because changes were lost.
const LOOK_INTERVAL_NS: u64 = 1_000_000_000;

/// Perf events at work.
#[derive(Debug)]
pub struct PerfCapture {
    tracepoint: Tracepoint,
    cpus: Vec<Cpu>,
    wanted: Wanted,
    processes: Processes,
    handled: Handled,
    /// Sorted by time.
    pending: VecDeque<Pending>,
    /// Deliveries among them.
    waiting: usize,
    /// Up to where everything that happened was read.
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
    has_stopped: bool,
}

/// What is opened on each CPU.
#[derive(Debug)]
struct Tracepoint {
    number: u64,
    filter: CString,
    stack_bytes: u32,
    /// Of the ring of deliveries.
    ring_bytes: u64,
}

#[derive(Debug)]
struct Cpu {
    number: u32,
    deliveries: Source,
    changes: Source,
    /// Samples read, and samples that found no room.
    samples: u64,
    lost: u64,
}

#[derive(Debug)]
struct Source {
    event: OwnedFd,
    ring: PerfRing<MappedPerfRing>,
}

/// What was read and waits for its turn.
#[derive(Debug)]
struct Pending {
    /// `CLOCK_BOOTTIME`
    time_ns: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Change(Change),
    Delivery { cpu: u32, delivery: Box<Delivery> },
}

/// What the user asked for.
#[derive(Debug)]
struct Wanted {
    own_pid: u32,
    pid: Option<u32>,
    name: Option<Vec<u8>>,
    fatal_only: bool,
    fold_ns: u64,
    stack_bytes: u32,
    memory: bool,
}

impl PerfCapture {
    pub fn start(config: &Config) -> Result<PerfCapture> {
        let number = tracefs::event_number(GROUP, TRACEPOINT)
            .context(|| format!("perf events at {GROUP}/{TRACEPOINT}"))?;
        let online = changes_of_all_cpus()?;
        let ring_bytes = ring_bytes(config, online.len() as u64);
        let wanted = Wanted {
            own_pid: process::pid(),
            pid: config.pid,
            name: config.name.clone(),
            fatal_only: config.fatal_only,
            fold_ns: super::fold_ns(config),
            stack_bytes: stack_bytes(config, ring_bytes),
            memory: config.memory,
        };
        let tracepoint = Tracepoint {
            number,
            filter: filter(config.signals),
            stack_bytes: wanted.stack_bytes,
            ring_bytes,
        };
        let mut cpus = Vec::new();
        for (cpu, changes) in online {
            cpus.push(tracepoint.on_cpu(cpu, changes)?);
        }
        for cpu in &cpus {
            perf::enable(cpu.changes.event.as_fd())?;
        }
        let mut capture = PerfCapture {
            tracepoint,
            cpus,
            wanted,
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
            has_stopped: false,
        };
        // After the one, so that no process begins unseen; before the other, so that
        // none dies unknown.
        capture.look_at_processes();
        for cpu in &capture.cpus {
            perf::enable(cpu.deliveries.event.as_fd())?;
        }
        Ok(capture)
    }

    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.cpus.iter().flat_map(Cpu::fds).collect()
    }

    /// The next delivery that is to be reported.
    pub fn next(&mut self) -> Next {
        let mut has_looked = false;
        loop {
            while let Some(pending) = self.settled() {
                match pending.what {
                    What::Change(change) => self.apply(pending.time_ns, change),
                    What::Delivery { cpu, delivery } => {
                        self.waiting -= 1;
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

    fn settled(&mut self) -> Option<Pending> {
        let is_settled = self.pending.front()?.time_ns <= self.horizon_ns;
        is_settled.then(|| self.pending.pop_front())?
    }

    /// One round through all rings.
    fn read_rings(&mut self) {
        // It grows in suspension alone, and where we were interrupted as we asked it
        // looks too small.
        self.ahead_ns = self.ahead_ns.max(time::boot_ahead_ns());
        let ahead_ns = self.ahead_ns;
        let mut horizon_ns = time::monotonic_ns().saturating_add(ahead_ns);
        let mut read = Vec::new();
        self.is_behind = false;
        let mut bytes = 0;
        for cpu in &mut self.cpus {
            let mut last_ns = 0;
            while bytes < MAX_PENDING_BYTES {
                let Some((header, body)) = cpu.deliveries.ring.next_record() else {
                    last_ns = u64::MAX;
                    break;
                };
                if header.kind == perfring::LOST {
                    cpu.lost += perfring::lost(body).unwrap_or(0);
                }
                if header.kind != perfring::SAMPLE {
                    continue;
                }
                cpu.samples += 1;
                bytes += body.len();
                let has_stack = self.wanted.stack_bytes > 0;
                let Some(delivery) = delivery::parse(Arch::NATIVE, body, has_stack) else {
                    // Such as no kernel writes.
                    self.counters.detected += 1;
                    self.counters.dropped += 1;
                    continue;
                };
                last_ns = delivery.time_ns.saturating_add(ahead_ns);
                self.waiting += 1;
                read.push(Pending {
                    time_ns: last_ns,
                    what: What::Delivery {
                        cpu: cpu.number,
                        delivery: Box::new(delivery),
                    },
                });
            }
            horizon_ns = horizon_ns.min(last_ns);
            self.is_behind |= last_ns != u64::MAX;
        }
        for cpu in &mut self.cpus {
            let mut last_ns = 0;
            let mut bytes = 0;
            while bytes < MAX_PENDING_BYTES {
                let Some((header, body)) = cpu.changes.ring.next_record() else {
                    last_ns = u64::MAX;
                    break;
                };
                bytes += body.len();
                let Some((time_ns, change)) = change::parse(header, body) else {
                    continue;
                };
                last_ns = time_ns.saturating_add(ahead_ns);
                read.push(Pending {
                    time_ns: last_ns,
                    what: What::Change(change),
                });
            }
            horizon_ns = horizon_ns.min(last_ns);
            self.is_behind |= last_ns != u64::MAX;
        }
        self.horizon_ns = horizon_ns;
        self.pending.extend(read);
        // Stable: what one ring tells stays in its order.
        self.pending
            .make_contiguous()
            .sort_by_key(|pending| pending.time_ns);
    }

    fn apply(&mut self, time_ns: u64, change: Change) {
        if let Change::Lost(count) = change {
            self.counters.parts_lost += count;
            self.wants_look = true;
        }
        // What the clock said then: it may have been set since boot, but hardly since.
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

    /// What the capture program does in the kernel, elsewhere: the event, if one is
    /// to be reported.
    fn deliver(&mut self, boot_ns: u64, cpu: u32, delivery: Delivery) -> Option<Event> {
        let pid = delivery.pid;
        self.counters.detected += 1;
        self.fill_gap(pid, boot_ns);
        let known = self.processes.get(pid);
        let gap = known.map_or(Some(Gap::Unseen), |known| self.processes.gap(known));
        let certain = told::certain_fault(&delivery, known, gap);
        let counters = &mut self.counters;
        if certain.is_some() {
            counters.fault_info_captured += 1;
        } else {
            counters.fault_info_missed += 1;
        }
        let is_handled = told::disposition(delivery.handler) == Disposition::Handled;
        if is_handled && has_address(delivery.code) {
            if let Some(fault) = told::earlier_fault(&delivery, boot_ns, certain) {
                self.handled.remember(delivery.tid, fault);
            }
        }
        match self.wanted.passes(&delivery, is_handled, known) {
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
        let wants_stack = self.wanted.stack_bytes > 0;
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
        let around = told::Circumstances {
            id: u64::from(cpu) << 48 | self.events,
            boot_ns,
            process: known,
            parent: known.and_then(|known| self.processes.parent(known)),
            gap,
            first_fault,
            look: living::look_at(pid, started_ns, boot_ns),
            repeats,
            wants_stack,
            wants_memory: self.wanted.memory,
        };
        Some(told::event(delivery, around))
    }

    /// Looks at a process of which not everything is known, as far as it is there.
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

    pub fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        self.handled.take(site)
    }

    /// Watches a CPU that has come up. What it had before it went down has ended with
    /// that, and is read no more.
    pub fn cpu_up(&mut self, number: u32) -> Result<Vec<BorrowedFd<'_>>> {
        let changes = perf::process_changes(number, MOST_UNREAD_BYTES)?;
        let new = self.tracepoint.on_cpu(number, changes)?;
        perf::enable(new.changes.event.as_fd())?;
        perf::enable(new.deliveries.event.as_fd())?;
        if let Some(place) = self.cpus.iter().position(|cpu| cpu.number == number) {
            let old = self.cpus.swap_remove(place);
            add_lost(&mut self.counters, old.lost(true));
        }
        // Whatever began there before now was not told.
        let now_ns = time::boottime_ns().unsigned_abs();
        self.apply(now_ns, Change::Lost(0));
        self.cpus.push(new);
        let new = self.cpus.last().into_iter();
        Ok(new.flat_map(Cpu::fds).collect())
    }

    pub fn stop(&mut self) {
        for cpu in &self.cpus {
            let _ = perf::disable(cpu.deliveries.event.as_fd());
            let _ = perf::disable(cpu.changes.event.as_fd());
        }
        self.has_stopped = true;
    }

    /// The books.
    pub fn counters(&self) -> KernelCounters {
        let mut counters = self.counters;
        for cpu in &self.cpus {
            add_lost(&mut counters, cpu.lost(self.has_stopped));
        }
        counters
    }

    /// What the rings hold.
    pub fn bytes(&self) -> u64 {
        let of_cpu = |cpu: &Cpu| cpu.deliveries.ring.bytes() + cpu.changes.ring.bytes();
        self.cpus.iter().map(of_cpu).sum()
    }

    /// What is known of processes, in bytes.
    pub fn table_bytes(&self) -> u64 {
        self.processes.bytes() as u64
    }

    /// What was given up of that.
    pub fn evicted(&self) -> u64 {
        self.processes.evicted()
    }

    pub fn describe(&self) -> Vec<String> {
        let first = &self.cpus[0];
        vec![
            format!("Attached: perf events at {TRACEPOINT}"),
            format!(
                "Rings: {} of {} KB, {0} of {} KB",
                self.cpus.len(),
                first.deliveries.ring.bytes() >> 10,
                first.changes.ring.bytes() >> 10
            ),
            format!(
                "Processes: {} known, {} KB",
                self.processes.len(),
                self.processes.bytes() >> 10
            ),
        ]
    }

    pub fn lacks(&self) -> Vec<Lost> {
        let lost = |&(detail, reason): &(&'static str, &'static str)| Lost { detail, reason };
        told::RARELY_TOLD.iter().map(lost).collect()
    }
}

impl Tracepoint {
    /// Its rings on a CPU, not yet switched on.
    fn on_cpu(&self, cpu: u32, changes: OwnedFd) -> Result<Cpu> {
        let registers = delivery::wanted_registers(Arch::NATIVE);
        let deliveries = perf::deliveries(self.number, cpu, registers, self.stack_bytes)
            .context(|| format!("the tracepoint on CPU {cpu}"))?;
        perf::set_filter(deliveries.as_fd(), &self.filter)?;
        let changes_bytes = self.ring_bytes.max(LEAST_CHANGES_BYTES);
        Ok(Cpu {
            number: cpu,
            deliveries: Source::map(deliveries, self.ring_bytes, cpu)?,
            changes: Source::map(changes, changes_bytes, cpu)?,
            samples: 0,
            lost: 0,
        })
    }
}

impl Cpu {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [&self.deliveries, &self.changes].map(|source| source.event.as_fd())
    }

    /// Samples that found no room. They are told before the next one that does; when
    /// there comes none any more, by how often the event has happened.
    fn lost(&self, is_over: bool) -> u64 {
        if !is_over {
            return self.lost;
        }
        let happened = perf::count(self.deliveries.event.as_fd()).unwrap_or(0);
        happened.saturating_sub(self.samples).max(self.lost)
    }
}

/// Deliveries that found no room.
fn add_lost(counters: &mut KernelCounters, lost: u64) {
    counters.detected += lost;
    counters.dropped += lost;
    counters.dropped_ring += lost;
}

impl Source {
    fn map(event: OwnedFd, bytes: u64, cpu: u32) -> Result<Source> {
        let ring = super::map_ring(&event, bytes).context(|| format!("map a ring of CPU {cpu}"))?;
        Ok(Source { event, ring })
    }
}

impl Wanted {
    /// `-p`, `-n`, `--fatal-only`, and never ourselves; `None` where that cannot be
    /// told, or where no namespace of ours has the process.
    fn passes(
        &self,
        delivery: &Delivery,
        is_handled: bool,
        known: Option<&Process>,
    ) -> Option<bool> {
        let pid = delivery.pid;
        if pid == self.own_pid || self.pid.is_some_and(|wanted| wanted != pid) {
            return Some(false);
        }
        if self.fatal_only && is_handled {
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
        let holds = |text: &[u8]| crate::bytes::find(text, wanted).is_some();
        Some(holds(&known.name) || holds(&known.thread_name(delivery.tid)) || holds(base))
    }
}

/// Where it happened; without registers the process alone tells.
fn site(delivery: &Delivery) -> FaultSite {
    let pc = delivery.registers.map(|registers| registers.pc());
    FaultSite {
        pc: pc.unwrap_or_default(),
        host_pid: delivery.pid,
        signal: delivery.signal as i16,
        code: delivery.code as i16,
    }
}

/// The events of changes on each CPU that is there.
fn changes_of_all_cpus() -> Result<Vec<(u32, OwnedFd)>> {
    let mut online = Vec::new();
    for cpu in 0.. {
        match perf::process_changes(cpu, MOST_UNREAD_BYTES) {
            Ok(changes) => online.push((cpu, changes)),
            // Not now.
            Err(error) if error.errno() == Some(perf::ENODEV) => {}
            // No kernel has it.
            Err(error) if error.errno() == Some(perf::EINVAL) && cpu > 0 => break,
            Err(error) => return Err(error.context(format!("perf events on CPU {cpu}"))),
        }
    }
    if online.is_empty() {
        return Err(Error::failed("no CPU has perf events"));
    }
    Ok(online)
}

/// The signals as an expression over the tracepoint's fields.
fn filter(signals: u64) -> CString {
    let mut text = String::new();
    for signal in (0..64).filter(|signal| signals >> signal & 1 != 0) {
        if !text.is_empty() {
            text.push_str("||");
        }
        text.push_str("sig==");
        text.push_str(&signal.to_string());
    }
    // Letters, digits and signs: there is no NUL in it.
    CString::new(text).unwrap_or_default()
}

/// Bytes of each CPU's ring of deliveries: half of its share.
fn ring_bytes(config: &Config, cpus: u64) -> u64 {
    let share = u64::from(config.ring_bytes) / cpus.max(1) / 2;
    super::whole_ring(share.max(LEAST_RING_BYTES))
}

/// Of each stack: a sample has to fit into its ring, twice.
fn stack_bytes(config: &Config, ring_bytes: u64) -> u32 {
    let most = (ring_bytes / 2 - 1024).min(u64::from(MAX_STACK_BYTES));
    super::stack_bytes(config).min(most as u32) & !7
}

/// What is known of processes may take a sixth of what rings leave.
fn table_bytes(config: &Config) -> usize {
    let rest = config
        .memory_limit_bytes
        .saturating_sub(u64::from(config.ring_bytes));
    usize::try_from(rest / 6).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_names_each_signal() {
        assert_eq!(filter(1 << 11).to_str(), Ok("sig==11"));
        assert_eq!(filter(1 << 7 | 1 << 11).to_str(), Ok("sig==7||sig==11"));
    }

    #[test]
    fn rings_hold_a_sample_twice() {
        for (ring_kb, cpus, stack_kb) in [(256, 2, 32), (4096, 2, 512), (64, 256, 64)] {
            let config = Config {
                ring_bytes: ring_kb << 10,
                stack_trace: true,
                stack_snapshot_bytes: stack_kb << 10,
                ..Config::default()
            };
            let ring = ring_bytes(&config, cpus);
            assert!(ring.is_power_of_two());
            let stack = u64::from(stack_bytes(&config, ring));
            assert!(stack > 4096 && 2 * (stack + 1024) <= ring);
            assert!(stack < 1 << 16 && stack % 8 == 0);
        }
    }
}
