//! The capture programs at work: loaded, attached, and their rings mapped.
//!
//! In goes what the user asked for; out come parts of records, one at a time, and
//! the programs' counters. There are three ways to that, by what the kernel has:
//! `ring` (one program, one ring for all CPUs), `old` (a chain of programs for
//! kernels from 4.15 on, a ring for each CPU) and `perf` (no program at all: whole
//! events come out). Which of them it is `start` decides. What is the same for several
//! is here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::base::error::{Context, Result};
use crate::base::structs::bytes_of;
use crate::capture::counters::KernelCounters;
use crate::capture::perf::buffer::{MappedPerfRing, PerfRing};
use crate::capture::record::abi::{self, RawCounters, RawFold, RawFoldKey};
use crate::config::{Config, Method};
use crate::crash::event::{Event, FaultSite, Lost};
use crate::loader::object::Object;
use crate::loader::{packed, KernelTypes, Loaded};
use crate::sys::bpf;
use crate::sys::mmap::page_bytes;

pub mod chain;
pub mod counters;
pub mod perf;
pub mod record;
pub mod ring;
mod share;

/// Kernel stacks are as large as a page where pages are larger than this.
const THREAD_BYTES: u64 = 16384;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    way: Way,
    /// Which way it is and why, for `-v`.
    choice: String,
    warnings: Vec<String>,
    /// Details that no record has, because the kernel's types do not suffice.
    lost: Vec<Lost>,
}

#[derive(Debug)]
enum Way {
    Ring(Box<ring::RingCapture>),
    Chain(Box<chain::ChainCapture>),
    Perf(Box<perf::PerfCapture>),
}

/// Handled faults of one site that were only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    pub count: u64,
    /// `CLOCK_BOOTTIME` of the last.
    pub last_boot_ns: u64,
}

/// The map in which the programs count them.
const FOLDS_MAP: &str = "segfault_folds";

/// What the name of a thread begins with that no other thread's does.
pub type Mark = [u8; 8];

/// The program of the first way, for a look at what it asks of a kernel.
pub fn ring_object() -> Result<Object> {
    packed::object(ring::OBJECT)
}

/// Has the programs see threads with this mark alone, or clears their books, by which
/// everybody is seen: see bpf/proof.h. The books are the first of the map's one value.
fn set_books(books: BorrowedFd<'_>, only: Option<Mark>) -> Result<()> {
    let mut value = vec![0; bpf::map_info(books)?.value_size as usize];
    let mark = only.unwrap_or_default();
    if let Some(place) = value.get_mut(..size_of::<RawCounters>()) {
        let begins = place.len() - mark.len();
        place[begins..].copy_from_slice(&mark);
    }
    bpf::map_update_elem(books, &[0; 4], &value, 0).context(|| "the books of the capture program")
}

/// What a look into the rings gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A part was handed over.
    Part,
    /// A whole event, where no program takes it apart.
    Event(Box<Event>),
    /// Parts of this CPU found no room here.
    Lost {
        cpu: u32,
    },
    Nothing,
}

impl Capture {
    /// Loads and attaches in one way. With a mark, only threads whose names begin with it
    /// are captured, past all filters, until [`Capture::let_filters_hold`]; without, every
    /// wanted crash is in the rings from here on. Perf events alone need no types.
    pub fn start(
        method: Method,
        config: &Config,
        types: &KernelTypes,
        only: Option<Mark>,
    ) -> Result<Capture> {
        let way = match method {
            Method::Ring => Way::Ring(Box::new(ring::RingCapture::start(config, types, only)?)),
            Method::Chain | Method::Tracepoint => {
                let is_raw = method == Method::Chain;
                let old = chain::ChainCapture::start(config, types, is_raw, only)?;
                Way::Chain(Box::new(old))
            }
            Method::Perf => Way::Perf(Box::new(perf::PerfCapture::start(config, only)?)),
        };
        Ok(Capture {
            way,
            choice: String::new(),
            warnings: Vec::new(),
            lost: match method {
                Method::Perf => Vec::new(),
                _ => lost(types),
            },
        })
    }

    /// From here on every wanted crash is in the rings, and nothing was counted before.
    pub fn let_filters_hold(&mut self, config: &Config) -> Result<()> {
        match &mut self.way {
            Way::Ring(ring) => ring.let_filters_hold(),
            Way::Chain(old) => old.let_filters_hold(),
            Way::Perf(perf) => {
                perf.let_filters_hold(config);
                Ok(())
            }
        }
    }

    /// Notes which way it is and why, for `-v`.
    pub fn note_choice(&mut self, choice: String) {
        self.choice = choice;
    }

    /// Notes something that the user is to be warned of.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What somebody with more rights, or a better kernel, could make better.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Details that no record has, because the kernel's types do not suffice.
    #[must_use]
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Each is readable when something has come.
    #[must_use]
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match &self.way {
            Way::Ring(ring) => ring.fds(),
            Way::Chain(old) => old.fds(),
            Way::Perf(perf) => perf.fds(),
        }
    }

    /// Whether [`Capture::cpu_up`] must be called for a CPU that comes up.
    #[must_use]
    pub fn has_ring_for_each_cpu(&self) -> bool {
        matches!(self.way, Way::Chain(_) | Way::Perf(_))
    }

    /// A CPU has come up: what to watch from now on, as of [`Capture::fds`].
    pub fn cpu_up(&mut self, cpu: u32) -> Result<Vec<BorrowedFd<'_>>> {
        match &mut self.way {
            Way::Ring(_) => Ok(Vec::new()),
            Way::Chain(old) => Ok(old.cpu_up(cpu)?.into_iter().collect()),
            Way::Perf(perf) => perf.cpu_up(cpu),
        }
    }

    /// Hands the next part of a record to `take`, if there is one, or gives the next
    /// event. Where there are several rings, one is emptied after the other.
    pub fn next_part(&mut self, take: impl FnOnce(&[u8])) -> Next {
        match &mut self.way {
            Way::Ring(ring) => match ring.next_part(take) {
                true => Next::Part,
                false => Next::Nothing,
            },
            Way::Chain(old) => old.next_part(take),
            Way::Perf(perf) => perf.next_event(),
        }
    }

    /// Detaches: no crash after this is seen. What is in the rings stays there.
    pub fn stop(&mut self) {
        match &mut self.way {
            Way::Ring(ring) => ring.stop(),
            Way::Chain(old) => old.stop(),
            Way::Perf(perf) => perf.stop(),
        }
    }

    /// The programs' books as they stand.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        match &self.way {
            Way::Ring(ring) => ring.counters(),
            Way::Chain(old) => old.counters(),
            Way::Perf(perf) => perf.counters(),
        }
    }

    /// Faults of a site that were counted and are in no record; it is then as if
    /// there had been none.
    pub fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        match &mut self.way {
            Way::Ring(ring) => ring.take_folded(site),
            Way::Chain(old) => old.take_folded(site),
            Way::Perf(perf) => perf.take_folded(site),
        }
    }

    /// Whether parts tell how a process ended that had overcome a fault.
    #[must_use]
    pub fn tells_ends(&self) -> bool {
        match &self.way {
            Way::Ring(ring) => ring.tells_ends(),
            Way::Chain(old) => old.tells_ends(),
            Way::Perf(_) => false,
        }
    }

    /// What the rings hold.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        match &self.way {
            Way::Ring(ring) => ring.bytes(),
            Way::Chain(old) => old.bytes(),
            Way::Perf(perf) => perf.bytes(),
        }
    }

    /// What is held of processes besides, in case that they crash.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        match &self.way {
            Way::Perf(perf) => perf.table_bytes(),
            Way::Ring(_) | Way::Chain(_) => 0,
        }
    }

    /// How often that was given up for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        match &self.way {
            Way::Perf(perf) => perf.evicted(),
            Way::Ring(_) | Way::Chain(_) => 0,
        }
    }

    /// What reports will lack for want of a better kernel.
    #[must_use]
    pub fn lacks(&self) -> Vec<Lost> {
        let mut lacks = match &self.way {
            Way::Ring(_) => Vec::new(),
            Way::Chain(old) => old.lacks(),
            Way::Perf(perf) => perf.lacks(),
        };
        lacks.extend_from_slice(&self.lost);
        lacks
    }

    /// What was attached, for `-v`: labels and values.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![self.choice.clone()];
        lines.extend(match &self.way {
            Way::Ring(ring) => ring.describe(),
            Way::Chain(old) => old.describe(),
            Way::Perf(perf) => perf.describe(),
        });
        lines
    }
}

fn lost(types: &KernelTypes) -> Vec<Lost> {
    let mut lost = Vec::new();
    for detail in types.lost() {
        let reason = match *detail {
            // No value in it would be one that nobody else has.
            "cgroup" => "not looked for in a kernel without type information",
            _ => "not found in this kernel, which has no BTF",
        };
        lost.push(Lost { detail, reason });
    }
    lost
}

/// How large kernel stacks are: as measured, or as usual.
fn thread_bytes(types: &KernelTypes) -> u64 {
    let usual = THREAD_BYTES.max(page_bytes() as u64);
    types.thread_bytes().unwrap_or(usual)
}

/// Whether mappings that hold no code are wanted too: for `-r` and `--maps`.
fn all_mappings(config: &Config) -> bool {
    config.registers || config.maps
}

/// The budget of the main stack window.
fn stack_bytes(config: &Config) -> u32 {
    if config.stack_trace {
        config.stack_snapshot_bytes
    } else {
        0
    }
}

/// Maps a ring; what locked memory is allowed may have to be raised first.
fn map_ring(event: &OwnedFd, bytes: u64) -> Result<PerfRing<MappedPerfRing>> {
    match PerfRing::map(event.as_fd(), bytes) {
        Err(error) if error.errno() == Some(bpf::EPERM) => {
            bpf::raise_memlock_limit()?;
            PerfRing::map(event.as_fd(), bytes)
        }
        other => other,
    }
}

/// How often the kernel left a program out.
fn missed(loaded: &Loaded, program: &str) -> u64 {
    let program = loaded.program(program);
    program
        .and_then(|fd| bpf::program_info(fd.as_fd()).ok())
        .map_or(0, |info| info.recursion_misses)
}

/// Takes what a program has counted at a site out of its map.
fn take_folded(folds: Option<BorrowedFd<'_>>, site: &FaultSite) -> Option<Folded> {
    let key = RawFoldKey {
        pc: site.pc.0,
        pid: site.host_pid,
        signal: site.signal,
        code: site.code,
    };
    let mut bytes = [0; size_of::<RawFold>()];
    let is_there = bpf::map_take_elem(folds?, &bytes_of(&key), &mut bytes);
    let fold = is_there
        .is_ok_and(|is_there| is_there)
        .then(|| abi::decode_fold(&bytes).ok())??;
    let count = fold.count.saturating_sub(fold.reported);
    (count > 0).then_some(Folded {
        count,
        last_boot_ns: fold.last_ns,
    })
}

/// How long the programs only count handled faults of one site; 0 for never.
fn fold_ns(config: &Config) -> u64 {
    // A report is wanted of those alone that a process dies of.
    const FATAL_ONLY: Duration = Duration::from_secs(60);
    let window = config
        .fold_handled
        .or(config.fatal_only.then_some(FATAL_ONLY));
    window.map_or(0, |window| window.as_nanos() as u64)
}

fn kernel_counters(raw: &RawCounters, missed: u64) -> KernelCounters {
    KernelCounters {
        detected: raw.detected,
        filtered: raw.filtered,
        folded: raw.folded,
        captured: raw.captured,
        submitted: raw.submitted,
        dropped: raw.dropped,
        dropped_busy: raw.dropped_busy,
        dropped_ring: raw.dropped_ring,
        fault_info_captured: raw.fault_info_captured,
        fault_info_missed: raw.fault_info_missed,
        register_failures: raw.register_failures,
        stack_failures: raw.stack_failures,
        parts_lost: raw.parts_lost,
        missed,
    }
}

/// For each byte value, the places in the name where it stands: what the
/// programs' Shift-And search goes by.
fn name_masks(name: &[u8]) -> [u64; 256] {
    let mut masks = [0u64; 256];
    for (place, &byte) in name.iter().enumerate().take(64) {
        masks[usize::from(byte)] |= 1 << place;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::packed;

    #[test]
    fn embedded_objects_are_those_in_prebuilt() {
        let ring: (&[u8], &[u8]) = (ring::OBJECT, include_bytes!("../../prebuilt/capture.bpf.o"));
        let old: (&[u8], &[u8]) = (
            chain::OBJECT,
            include_bytes!("../../prebuilt/capture_chain.bpf.o"),
        );
        for (packed, object) in [ring, old] {
            assert!(packed::unpack(packed).is_some_and(|bytes| bytes == object));
        }
    }

    #[test]
    fn each_byte_of_the_name_has_its_place() {
        let masks = name_masks(b"abba");
        let mask = |byte: u8| masks[usize::from(byte)];
        assert_eq!((mask(b'a'), mask(b'b'), mask(b'c')), (0b1001, 0b0110, 0));
        assert_eq!(name_masks(&[b'x'; 64])[usize::from(b'x')], u64::MAX);
    }
}
