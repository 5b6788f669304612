//! The capture program at work: loaded, attached, and its ring and books mapped.
//!
//! In goes what the user asked for, as settings that the program sees as
//! constants; out come bytes of the ring, one part of a record at a time, and
//! the program's counters, read from shared memory without a system call.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::{self, RawCounters};
use crate::cli::Config;
use crate::error::{Context, Error, Result};
use crate::loader::{self, attach, object::Object, KernelTypes};
use crate::ringbuf::{MappedRing, Ring};
use crate::stats::KernelCounters;
use crate::sys::mmap::{page_bytes, SharedMemory};
use crate::sys::{bpf, process};

/// `bpf/capture.bpf.c`, compiled.
pub const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture.bpf.o"));

const PROGRAM: &str = "segfault_probe";
const TRACEPOINT: &str = "signal_deliver";
const RING_MAP: &str = "segfault_ring";
const BOOKS_MAP: &str = "segfault_bss";

/// Kernel stacks are as large as a page where pages are larger than this.
const THREAD_BYTES: u64 = 16384;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    loaded: loader::Loaded,
    /// Detaches when closed.
    link: Option<OwnedFd>,
    ring: Ring<MappedRing>,
    books: SharedMemory,
    /// Where the kernel's types came from.
    types: String,
}

impl Capture {
    /// Loads and attaches; from then on every wanted crash is in the ring.
    pub fn start(config: &Config, types: &KernelTypes) -> Result<Capture> {
        let object = Object::parse(OBJECT).context(|| "the embedded capture program")?;
        let settings = Constants::of(config, types.thread_bytes());
        let rodata = settings.list();
        let loaded = loader::load(
            &object,
            types,
            &loader::Settings {
                rodata: &rodata,
                max_entries: &[(RING_MAP, config.ring_bytes)],
                verbose: config.verbose,
                programs: &[PROGRAM],
            },
        )?;
        let missing = |what| move || Error::failed(format!("the capture program has no {what}"));
        let ring_fd = loaded.map(RING_MAP).ok_or_else(missing(RING_MAP))?;
        let ring = Ring::map(ring_fd, config.ring_bytes).context(|| "map the ring")?;
        let books_fd = loaded.map(BOOKS_MAP).ok_or_else(missing(BOOKS_MAP))?;
        let books =
            SharedMemory::map(books_fd, 0, page_bytes(), false).context(|| "map the counters")?;
        let program = loaded.program(PROGRAM).ok_or_else(missing(PROGRAM))?;
        let link = attach::raw_tracepoint(program, TRACEPOINT)?;
        Ok(Capture {
            loaded,
            link: Some(link),
            ring,
            books,
            types: types.to_string(),
        })
    }

    /// Readable when a record is complete.
    pub fn ring_fd(&self) -> Result<BorrowedFd<'_>> {
        self.loaded
            .map(RING_MAP)
            .ok_or_else(|| Error::failed("no ring"))
    }

    /// Hands the next part of a record to `take`; false when there is none.
    pub fn next_part(&mut self, take: impl FnOnce(&[u8])) -> bool {
        self.ring.next(take)
    }

    /// Detaches: no crash after this is seen. What is in the ring stays there.
    pub fn stop(&mut self) {
        self.link = None;
    }

    /// The program's books as they stand. Deliveries that the kernel itself kept
    /// from the program count as detected and dropped.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        let mut bytes = [0; size_of::<RawCounters>()];
        self.books.copy_to(0, &mut bytes);
        let Ok(raw) = abi::decode_counters(&bytes) else {
            return KernelCounters::default();
        };
        let missed = self.missed();
        KernelCounters {
            detected: raw.detected + missed,
            filtered: raw.filtered,
            captured: raw.captured,
            submitted: raw.submitted,
            dropped: raw.dropped + missed,
            dropped_busy: raw.dropped_busy + missed,
            dropped_ring: raw.dropped_ring,
            fault_info_captured: raw.fault_info_captured,
            fault_info_missed: raw.fault_info_missed,
            register_failures: raw.register_failures,
            stack_failures: raw.stack_failures,
            parts_lost: raw.parts_lost,
        }
    }

    fn missed(&self) -> u64 {
        let program = self.loaded.program(PROGRAM);
        program
            .and_then(|fd| bpf::program_info(fd.as_fd()).ok())
            .map_or(0, |i| i.recursion_misses)
    }

    /// What was attached, for `-v`.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let verified = self
            .loaded
            .program_info(PROGRAM)
            .map_or(0, |info| info.verified_insns);
        vec![
            format!("Kernel types: {}", self.types),
            format!("Program: {PROGRAM}, {verified} instructions verified"),
            format!("Attached: raw tracepoint {TRACEPOINT}"),
            format!("Ring: {} KB", self.ring.bytes() / 1024),
        ]
    }
}

/// The program's `const volatile` settings, as bytes.
struct Constants {
    values: Vec<(&'static str, Vec<u8>)>,
}

impl Constants {
    fn of(config: &Config, thread_bytes: Option<u64>) -> Self {
        let u32s = |value: u32| value.to_ne_bytes().to_vec();
        let u64s = |value: u64| value.to_ne_bytes().to_vec();
        let name = config.name.as_deref().unwrap_or_default();
        let stack_bytes = if config.stack_trace {
            config.stack_snapshot_bytes
        } else {
            0
        };
        let values = vec![
            ("own_pid", u32s(process::pid())),
            ("own_pid_ns", u32s(process::pid_namespace())),
            ("own_mnt_ns", u32s(process::mount_namespace().unwrap_or(0))),
            ("only_pid", u32s(config.pid.unwrap_or(0))),
            ("fatal_only", u32s(u32::from(config.fatal_only))),
            ("name_bytes", u32s(name.len() as u32)),
            ("name_masks", name_masks(name)),
            ("stack_bytes", u32s(stack_bytes)),
            ("all_mappings", u32s(u32::from(config.registers))),
            ("ring_bytes", u64s(u64::from(config.ring_bytes))),
            (
                "ring_reserve",
                u64s(ring_reserve(config.ring_bytes, process::cpus())),
            ),
            (
                "thread_size",
                u64s(thread_bytes.unwrap_or(THREAD_BYTES.max(page_bytes() as u64))),
            ),
        ];
        Constants { values }
    }

    fn list(&self) -> Vec<(&str, &[u8])> {
        self.values
            .iter()
            .map(|(name, bytes)| (*name, bytes.as_slice()))
            .collect()
    }
}

/// What must stay free for headers and ends: one of each for every CPU, but
/// never more than a quarter of the ring.
fn ring_reserve(ring_bytes: u32, cpus: usize) -> u64 {
    let wanted = (abi::HEADER_IN_RING + abi::END_IN_RING) * (cpus + 1);
    (wanted as u64).min(u64::from(ring_bytes) / 4)
}

/// For each byte value, the places in the name where it stands: what the
/// program's Shift-And search goes by.
fn name_masks(name: &[u8]) -> Vec<u8> {
    let mut masks = [0u64; 256];
    for (place, &byte) in name.iter().enumerate().take(64) {
        masks[usize::from(byte)] |= 1 << place;
    }
    masks.iter().flat_map(|mask| mask.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_of_the_name_has_its_place() {
        let bytes = name_masks(b"abba");
        let mask = |byte: u8| {
            let at = usize::from(byte) * 8;
            u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        assert_eq!((mask(b'a'), mask(b'b'), mask(b'c')), (0b1001, 0b0110, 0));
        assert_eq!(
            name_masks(&[b'x'; 64])[usize::from(b'x') * 8..][..8],
            [0xff; 8]
        );
    }

    #[test]
    fn the_reserve_leaves_most_of_a_small_ring() {
        assert_eq!(ring_reserve(64 << 10, 512), 16 << 10);
        assert!(ring_reserve(4 << 20, 4) < 8 << 10);
    }
}
