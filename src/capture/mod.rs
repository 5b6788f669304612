//! A running capture: programs that are loaded and attached, and their mapped rings.
//!
//! In goes what the user asked for; out come parts of records, one at a time, and
//! the programs' counters. Three modules implement the four methods:
//! `ring` (one program, one ring for all CPUs), `chain` XX and `perf` (no program at all: whole
//! events come out). `start` decides which of them is used; from then on all are a
//! [`Capture`], and nobody asks which. What several of them share is here.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::base::error::{Context, Result};
use crate::base::structs::bytes_of;
use crate::capture::counters::{Drops, KernelCounters};
use crate::capture::perf::buffer::{MappedPerfRing, PerfRing};
use crate::capture::record::abi::{self, RawCounters, RawFold, RawFoldKey};
use crate::config::{CaptureConfig, Method};
use crate::crash::event::{Event, FaultSite, Lost};
use crate::loader::object::Object;
use crate::loader::{packed, KernelTypes, Loaded};
use crate::sys::bpf;
use crate::sys::mmap::page_bytes;

pub mod chain;
pub mod counters;
mod perf;
pub mod record;
mod ring;
mod ring_memory;
mod share;

/// Kernel stacks are as large as a page where pages are larger than this.
const THREAD_BYTES: u64 = 16384;

/// Handled faults of one site that were only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    pub count: u64,
    /// `CLOCK_BOOTTIME` of the last.
    pub last_boot_ns: u64,
}

/// The map in which a program counts what it dropped, by user, and its size.
const DROPS_MAP: &str = "segfault_drops";
const MAX_DROPPED_USERS: usize = 256;
/// The map in which the programs count them.
const FOLDS_MAP: &str = "segfault_folds";

/// The beginning of a thread's name that no other thread has.
pub type Mark = [u8; 8];

/// The object of the method `ring`, to see which fields it reads.
pub fn ring_object() -> Result<Object> {
    packed::object(ring::OBJECT)
}

/// Makes the programs see only threads with this mark, or clears their counters, so that
/// they see all: see bpf/proof.h. The counters come first in the map's one value.
fn set_books(books: BorrowedFd<'_>, only: Option<Mark>) -> Result<()> {
    let mut value = vec![0; bpf::map_info(books)?.value_size as usize];
    let mark = only.unwrap_or_default();
    if let Some(place) = value.get_mut(..size_of::<RawCounters>()) {
        let begins = place.len() - mark.len();
        place[begins..].copy_from_slice(&mark);
    }
    bpf::map_update_elem(books, &[0; 4], &value, 0)
        .context(|| "the counters of the capture program")
}

/// The result of a read of the rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A part was handed over.
    Part,
    /// A whole event, from a method without BPF programs.
    Event(Box<Event>),
    /// Parts of this CPU found no room here.
    Lost {
        cpu: u32,
    },
    Nothing,
}

/// A capture method at work, attached until [`Capture::stop`].
///
/// A method that is started with a [`Mark`] captures only threads whose names begin with
/// it, past all filters, until [`Capture::let_filters_hold`].
pub trait Capture {
    /// From here on every wanted crash is in the rings, and nothing was counted before.
    fn let_filters_hold(&mut self) -> Result<()>;

    /// Each is readable when something has come.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;

    /// Hands the next part of a record to `take`, if there is one, or gives the next
    /// event. If there are several rings, one is emptied after the other.
    fn next_part(&mut self, take: &mut dyn FnMut(&[u8])) -> Next;

    /// Detaches: no crash after this is seen. What is in the rings stays there.
    fn stop(&mut self);

    /// The counters as they stand.
    fn counters(&self) -> KernelCounters;

    /// The dropped deliveries by user, if the method knows users.
    fn drops(&self) -> Drops {
        Drops::default()
    }

    /// Faults of a site that were counted and are in no record; it is then as if
    /// there had been none.
    fn take_folded(&mut self, site: &FaultSite) -> Option<Folded>;

    /// What the rings hold.
    fn ring_bytes(&self) -> u64;

    /// What was attached, for `-v`: labels and values.
    fn describe(&self) -> Vec<String>;

    /// What reports will lack because of the method.
    fn lacks(&self) -> Vec<Lost> {
        Vec::new()
    }

    /// Whether it has BPF programs, whose maps are read.
    fn has_programs(&self) -> bool {
        true
    }

    /// Whether [`Capture::cpu_up`] must be called for a CPU that comes up.
    fn has_ring_for_each_cpu(&self) -> bool {
        false
    }

    /// A CPU has come up: what to watch from now on, as of [`Capture::fds`].
    fn cpu_up(&mut self, _cpu: u32) -> Result<Vec<BorrowedFd<'_>>> {
        Ok(Vec::new())
    }

    /// Whether it leaves out all but the tool's descendants, if that is wanted.
    fn knows_descendants(&self) -> bool {
        false
    }

    /// Whether parts say how a process ended that had survived a fault.
    fn reports_ends(&self) -> bool {
        false
    }

    /// What is held of processes besides, in case that they crash.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// How often that was given up for want of room.
    fn evicted(&self) -> u64 {
        0
    }
}

/// Without its fields: as a supertrait, Debug would put all that the methods are made of
/// into the binary, which never prints it.
impl fmt::Debug for dyn Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Capture")
    }
}

/// A capture, and what its start has shown.
#[derive(Debug)]
pub struct Started {
    pub capture: Box<dyn Capture>,
    /// Which method it is and why, for `-v`.
    pub choice: String,
    /// What somebody with more rights, or a better kernel, could make better.
    pub warnings: Vec<String>,
    /// Details that no record has, because the kernel's types do not suffice.
    pub lost: Vec<Lost>,
}

impl Started {
    /// What reports will lack for want of a better kernel.
    #[must_use]
    pub fn lacks(&self) -> Vec<Lost> {
        let mut lacks = self.capture.lacks();
        lacks.extend_from_slice(&self.lost);
        lacks
    }

    /// What was chosen and attached, for `-v`: labels and values.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![self.choice.clone()];
        lines.extend(self.capture.describe());
        lines
    }
}

/// Loads and attaches one method. With a mark,
/// the proof at start is to follow; without, every wanted crash is in the rings from here
/// on. Perf events alone need no types.
pub fn start(
    method: Method,
    config: &CaptureConfig,
    types: &KernelTypes,
    only: Option<Mark>,
) -> Result<Started> {
    let capture: Box<dyn Capture> = match method {
        Method::Ring => Box::new(ring::RingCapture::start(config, types, only)?),
        Method::Chain => Box::new(chain::ChainCapture::start(config, types, true, only)?),
        Method::Tracepoint => Box::new(chain::ChainCapture::start(config, types, false, only)?),
        Method::Perf => Box::new(perf::PerfCapture::start(config, only)?),
    };
    Ok(Started {
        capture,
        choice: String::new(),
        warnings: Vec::new(),
        lost: match method {
            Method::Perf => Vec::new(),
            _ => lost(types),
        },
    })
}

fn lost(types: &KernelTypes) -> Vec<Lost> {
    let mut lost = Vec::new();
    for detail in types.lost() {
        let reason = match *detail {
            // None of its values is unique.
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

/// Removes the count of a site from the programs' map.
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

/// What a program has dropped, by user.
fn drops(map: Option<BorrowedFd<'_>>) -> Drops {
    let mut drops = Drops::default();
    let mut key = None;
    let mut next = [0; 4];
    // No more often than the map has room, even if it changes meanwhile.
    for _ in 0..MAX_DROPPED_USERS {
        let Some(map) = map else { break };
        let known = key.as_ref().map(|key: &[u8; 4]| &key[..]);
        if !bpf::map_next_key(map, known, &mut next).unwrap_or(false) {
            break;
        }
        let mut count = [0; 8];
        if bpf::map_lookup_elem(map, &next, &mut count).unwrap_or(false) {
            drops.add(Some(u32::from_ne_bytes(next)), u64::from_ne_bytes(count));
        }
        key = Some(next);
    }
    drops
}

/// How long the programs only count handled faults of one site; 0 for never.
fn fold_ns(config: &CaptureConfig) -> u64 {
    let window = config.fold_handled;
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

/// For each byte value its places in the name, for the programs' Shift-And search.
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
