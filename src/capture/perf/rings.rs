//! The perf events, two on each CPU, and their rings: one of deliveries, one of what
//! processes do.
//!
//! [`Rings::read`] returns their records, each with its time. Deliveries are read before
//! changes, because the changes that led to a delivery were written before it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::change::{self, Change};
use super::delivery::{self, Delivery};
use crate::base::error::{Context, Error, Result};
use crate::capture::perf::buffer::{self, MappedPerfRing, PerfRing};
use crate::capture::share::Share;
use crate::config::CaptureConfig;
use crate::crash::registers::Arch;
use crate::sys::{perf, process, tracefs};

const GROUP: &str = "signal";
pub(super) const TRACEPOINT: &str = "signal_deliver";
/// A sample has less than 64 KB, of which this is left to the stack.
const MAX_STACK_BYTES: u32 = 60 << 10;
const LEAST_RING_BYTES: u64 = 16 << 10;
/// For rings of deliveries, if the user has not set the size. Each delivery comes with all
/// of its stack, so that a burst of crashes fills a ring that is large enough for the BPF
/// programs.
const MOST_RING_BYTES: u64 = 16 << 20;
/// The least size of a ring of changes, even if the user allows less: without changes no
/// report has any names.
const LEAST_CHANGES_BYTES: u64 = 256 << 10;
/// The same where many CPUs would take half of all memory for that.
const FEWEST_CHANGES_BYTES: u64 = 64 << 10;
/// How many bytes of changes may stay unread while nothing else happens: as many as a dozen
/// new processes write. Reading them takes a fraction of a millisecond.
const MOST_UNREAD_BYTES: u32 = 32 << 10;
/// The largest one reports a mapping whose file has a path of 4,096 bytes.
const MOST_CHANGE_BYTES: u64 = 4096 + 256;
/// Read at once, beyond one record.
const MAX_READ_BYTES: usize = 1 << 20;

/// A record that was read and waits for its turn.
#[derive(Debug)]
pub(super) struct Pending {
    /// `CLOCK_BOOTTIME`
    pub time_ns: u64,
    /// Which of the rings it comes from.
    pub ring: u32,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Change(Change),
    Delivery {
        cpu: u32,
        delivery: Box<Delivery>,
    },
    /// A sample such as no kernel writes.
    Nonsense,
}

/// The result of a read of the rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Up to which time, where that is not all.
    pub until_ns: Option<u64>,
    /// A ring was almost full. The kernel reports losses only with the next change that finds
    /// room.
    pub may_lack_changes: bool,
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Rings {
    plan: Plan,
    cpus: Vec<Cpu>,
    /// Deliveries lost on CPUs that went down.
    lost_before: u64,
    has_stopped: bool,
}

/// What is opened on each CPU.
#[derive(Debug)]
struct Plan {
    tracepoint: u64,
    filter: CString,
    stack_bytes: u32,
    /// Of the ring of deliveries, at least and if locked memory allows; and of the one
    /// of changes.
    least_ring_bytes: u64,
    ring_bytes: u64,
    changes_bytes: u64,
    share: Share,
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

impl Rings {
    /// Opens the events; those of changes tell from here on.
    pub(super) fn open(config: &CaptureConfig, signals: u64) -> Result<Rings> {
        let tracepoint = tracefs::event_number(GROUP, TRACEPOINT)
            .context(|| format!("perf events at {GROUP}/{TRACEPOINT}"))?;
        process::allow_open_files();
        let online = changes_of_all_cpus()?;
        let cpus = online.len() as u64;
        let (least_ring_bytes, changes_bytes) = ring_bytes(config, cpus);
        let plan = Plan {
            tracepoint,
            filter: filter(signals),
            stack_bytes: stack_bytes(config, least_ring_bytes),
            least_ring_bytes,
            ring_bytes: larger_ring_bytes(config, least_ring_bytes, changes_bytes, cpus),
            changes_bytes,
            share: Share::of(config),
        };
        plan.check(online.len())?;
        let mut cpus = Vec::new();
        for (cpu, changes) in online {
            cpus.push(plan.on_cpu(cpu, changes)?);
        }
        Ok(Rings {
            plan,
            cpus,
            lost_before: 0,
            has_stopped: false,
        })
    }

    /// Enables deliveries.
    pub(super) fn watch_deliveries(&self) -> Result<()> {
        let mut cpus = self.cpus.iter();
        cpus.try_for_each(|cpu| perf::enable(cpu.deliveries.event.as_fd()))
    }

    /// Each is readable when something has come.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.cpus.iter().flat_map(Cpu::fds).collect()
    }

    /// Those of one CPU.
    pub(super) fn fds_of(&self, number: u32) -> Vec<BorrowedFd<'_>> {
        let cpu = self.cpus.iter().filter(|cpu| cpu.number == number);
        cpu.flat_map(Cpu::fds).collect()
    }

    /// Watches a CPU that has come up. What it had before it went down has ended with
    /// that, and is read no more.
    pub(super) fn cpu_up(&mut self, number: u32) -> Result<()> {
        let others = self.cpus.iter().filter(|cpu| cpu.number != number);
        self.plan.check(others.count() + 1)?;
        let changes = perf::process_changes(number, MOST_UNREAD_BYTES)?;
        let new = self.plan.on_cpu(number, changes)?;
        perf::enable(new.deliveries.event.as_fd())?;
        if let Some(place) = self.cpus.iter().position(|cpu| cpu.number == number) {
            self.lost_before += self.cpus.swap_remove(place).lost(true);
        }
        self.cpus.push(new);
        Ok(())
    }

    /// Adds what the rings hold to `read`.
    pub(super) fn read(&mut self, ahead_ns: u64, read: &mut Vec<Pending>) -> Extent {
        let has_stack = self.plan.stack_bytes > 0;
        let mut left = MAX_READ_BYTES;
        let mut until_ns = None;
        for cpu in &mut self.cpus {
            let mut last_ns = 0;
            while let Some(delivered) = cpu.next_delivery(ahead_ns, has_stack, &mut left) {
                last_ns = delivered.time_ns;
                read.push(delivered);
            }
            if left == 0 {
                until_ns = earlier(until_ns, last_ns);
            }
        }
        let mut may_lack_changes = false;
        for cpu in &mut self.cpus {
            let mut left = MAX_READ_BYTES;
            let mut last_ns = 0;
            may_lack_changes |= cpu.changes.ring.has_no_room(MOST_CHANGE_BYTES);
            while let Some(changed) = cpu.next_change(ahead_ns, &mut left) {
                last_ns = changed.time_ns;
                read.push(changed);
            }
            if left == 0 {
                until_ns = earlier(until_ns, last_ns);
            }
        }
        Extent {
            until_ns,
            may_lack_changes,
        }
    }

    /// No event tells anything any more; what is in the rings stays there.
    pub(super) fn stop(&mut self) {
        for fd in self.fds() {
            let _ = perf::disable(fd);
        }
        self.has_stopped = true;
    }

    /// Deliveries that found no room.
    pub(super) fn lost(&self) -> u64 {
        let of_cpus = self.cpus.iter().map(|cpu| cpu.lost(self.has_stopped));
        self.lost_before + of_cpus.sum::<u64>()
    }

    /// What the rings hold.
    pub(super) fn bytes(&self) -> u64 {
        let of_cpu = |cpu: &Cpu| cpu.deliveries.ring.bytes() + cpu.changes.ring.bytes();
        self.cpus.iter().map(of_cpu).sum()
    }

    /// How much of each stack is copied.
    pub(super) fn stack_bytes(&self) -> u32 {
        self.plan.stack_bytes
    }

    /// For `-v`.
    pub(super) fn describe(&self) -> String {
        let deliveries_kb = self.plan.ring_bytes >> 10;
        let changes_kb = self.plan.changes_bytes >> 10;
        let cpus = self.cpus.len();
        format!("Rings: {cpus} of {deliveries_kb} KB, {cpus} of {changes_kb} KB")
    }
}

fn earlier(known: Option<u64>, time_ns: u64) -> Option<u64> {
    Some(known.map_or(time_ns, |known| known.min(time_ns)))
}

impl Plan {
    /// Refuses as many CPUs as there is no room for.
    fn check(&self, cpus: usize) -> Result<()> {
        let all = (self.ring_bytes + self.changes_bytes) * cpus as u64;
        self.share.check(all, cpus)
    }

    /// A CPU's rings; changes are enabled.
    fn on_cpu(&self, cpu: u32, changes: OwnedFd) -> Result<Cpu> {
        let registers = delivery::wanted_registers(Arch::NATIVE);
        let deliveries = perf::deliveries(self.tracepoint, cpu, registers, self.stack_bytes)
            .context(|| format!("the tracepoint on CPU {cpu}"))?;
        perf::set_filter(deliveries.as_fd(), &self.filter)?;
        let cpu = Cpu {
            number: cpu,
            deliveries: Source::map(deliveries, self.ring_bytes, self.least_ring_bytes, cpu)?,
            changes: Source::map(changes, self.changes_bytes, self.changes_bytes, cpu)?,
            samples: 0,
            lost: 0,
        };
        perf::enable(cpu.changes.event.as_fd())?;
        Ok(cpu)
    }
}

impl Cpu {
    fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [&self.deliveries, &self.changes].map(|source| source.event.as_fd())
    }

    /// Subtracts what it reads from `left`, which may be zero.
    fn next_delivery(
        &mut self,
        ahead_ns: u64,
        has_stack: bool,
        left: &mut usize,
    ) -> Option<Pending> {
        while *left > 0 {
            let (header, body) = self.deliveries.ring.next_record()?;
            *left = left.saturating_sub(body.len());
            if header.kind == buffer::LOST {
                self.lost += buffer::lost(body).unwrap_or(0);
            }
            if header.kind != buffer::SAMPLE {
                continue;
            }
            self.samples += 1;
            let delivery = delivery::parse(Arch::NATIVE, body, has_stack);
            let ring = self.number * 2;
            return Some(match delivery {
                Some(delivery) => Pending {
                    time_ns: delivery.time_ns.saturating_add(ahead_ns),
                    ring,
                    what: What::Delivery {
                        cpu: self.number,
                        delivery: Box::new(delivery),
                    },
                },
                None => Pending {
                    time_ns: 0,
                    ring,
                    what: What::Nonsense,
                },
            });
        }
        None
    }

    fn next_change(&mut self, ahead_ns: u64, left: &mut usize) -> Option<Pending> {
        while *left > 0 {
            let (header, body) = self.changes.ring.next_record()?;
            *left = left.saturating_sub(body.len());
            if let Some((time_ns, change)) = change::parse(header, body) {
                return Some(Pending {
                    time_ns: time_ns.saturating_add(ahead_ns),
                    ring: self.number * 2 + 1,
                    what: What::Change(change),
                });
            }
        }
        None
    }

    /// Samples that found no room. The kernel reports them before the next one that does. If no
    /// more samples come, they are computed from the event's own count.
    fn lost(&self, is_over: bool) -> u64 {
        if !is_over {
            return self.lost;
        }
        let happened = perf::count(self.deliveries.event.as_fd()).unwrap_or(0);
        happened.saturating_sub(self.samples).max(self.lost)
    }
}

impl Source {
    /// With fewer bytes, down to `least`, if more cannot be locked in memory.
    fn map(event: OwnedFd, mut bytes: u64, least: u64, cpu: u32) -> Result<Source> {
        let ring = loop {
            match crate::capture::map_ring(&event, bytes) {
                Err(_) if bytes > least => bytes /= 2,
                ring => break ring,
            }
        };
        let ring = ring.context(|| format!("map a ring of CPU {cpu}"))?;
        Ok(Source { event, ring })
    }
}

/// The events of changes on each online CPU.
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

/// Bytes of each CPU's ring of deliveries: half of its share; and of the one of changes.
fn ring_bytes(config: &CaptureConfig, cpus: u64) -> (u64, u64) {
    let share = Share::of(config);
    let ring = share.ring(cpus, 2, LEAST_RING_BYTES);
    let changes = ring.max(LEAST_CHANGES_BYTES);
    (
        ring,
        share.modest(changes, FEWEST_CHANGES_BYTES, ring, cpus),
    )
}

/// Bytes of each CPU's ring of deliveries, if the user leaves that to us.
fn larger_ring_bytes(config: &CaptureConfig, ring: u64, changes: u64, cpus: u64) -> u64 {
    match config.may_enlarge_rings {
        true => Share::of(config).larger(ring, MOST_RING_BYTES, changes, cpus),
        false => ring,
    }
}

/// How much of each stack is copied: a sample must fit into its ring twice.
fn stack_bytes(config: &CaptureConfig, ring_bytes: u64) -> u32 {
    let most = (ring_bytes / 2 - 1024).min(u64::from(MAX_STACK_BYTES));
    config.stack_bytes.min(most as u32) & !7
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
            let config = CaptureConfig {
                ring_bytes: ring_kb << 10,
                stack_bytes: stack_kb << 10,
                ..CaptureConfig::default()
            };
            let (ring, changes) = ring_bytes(&config, cpus);
            assert!(ring.is_power_of_two() && changes.is_power_of_two());
            assert!(changes >= 2 * u64::from(MOST_UNREAD_BYTES));
            let stack = u64::from(stack_bytes(&config, ring));
            assert!(stack > 4096 && 2 * (stack + 1024) <= ring);
            assert!(stack < 1 << 16 && stack % 8 == 0);
        }
    }

    #[test]
    fn rings_grow_only_where_nobody_says_how_large_they_are() {
        let config = |may_enlarge_rings| CaptureConfig {
            ring_bytes: 4 << 20,
            may_enlarge_rings,
            ..CaptureConfig::default()
        };
        for cpus in [1, 2, 4, 24, 512] {
            let (ring, changes) = ring_bytes(&config(true), cpus);
            let larger = |config: CaptureConfig| larger_ring_bytes(&config, ring, changes, cpus);
            assert_eq!(larger(config(false)), ring);
            let grown = larger(config(true));
            assert!(grown >= ring && grown.is_power_of_two());
            assert!(
                grown == ring || (grown + changes) * cpus <= 50 << 20,
                "{cpus}"
            );
            assert!(cpus > 2 || grown == MOST_RING_BYTES, "{cpus}: {grown}");
        }
    }

    #[test]
    fn many_cpus_fit_into_the_memory_that_is_allowed() {
        for (ring_kb, cpus) in [(256, 2), (256, 24), (4096, 256), (256, 512), (4096, 512)] {
            let config = CaptureConfig {
                ring_bytes: ring_kb << 10,
                ..CaptureConfig::default()
            };
            let (ring, changes) = ring_bytes(&config, cpus);
            let all = (ring + changes) * cpus;
            assert!(all <= config.memory_limit_bytes / 2, "{cpus}: {all}");
            assert!(cpus > 24 || changes >= LEAST_CHANGES_BYTES);
        }
    }
}
