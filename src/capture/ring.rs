//! Capture by one program and a ring buffer: kernels from 5.17 on.
//!
//! The settings are constants in the program. Its counters are read from shared memory
//! without a system call.

mod buffer;

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::base::error::{Context, Error, Result};
use crate::base::structs::bytes_of;
use crate::capture::counters::{Drops, KernelCounters};
use crate::capture::record::abi::{self, RawCounters};
use crate::capture::ring::buffer::{MappedRing, Ring};
use crate::capture::{Capture, Folded, Mark, Next, DROPS_MAP, FOLDS_MAP};
use crate::config::CaptureConfig;
use crate::crash::event::FaultSite;
use crate::loader::{self, attach, packed, KernelTypes};
use crate::sys::mmap::{page_bytes, SharedMemory};
use crate::sys::process;

/// `bpf/capture.bpf.c`, compiled and packed.
pub(super) const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture.bpf.o"));

const PROGRAM: &str = "segfault_probe";
const EXIT: &str = "segfault_exit";
const TRACEPOINT: &str = "signal_deliver";
const RING_MAP: &str = "segfault_ring";
const BOOKS_MAP: &str = "segfault_bss";

/// A running capture.
#[derive(Debug)]
pub(super) struct RingCapture {
    loaded: loader::Loaded,
    /// Detach when closed: of crashes, and of ends.
    link: Option<OwnedFd>,
    exit_link: Option<OwnedFd>,
    ring: Ring<MappedRing>,
    books: SharedMemory,
    /// Where the kernel's types came from.
    types: String,
}

impl RingCapture {
    pub(super) fn start(
        config: &CaptureConfig,
        types: &KernelTypes,
        only: Option<Mark>,
    ) -> Result<RingCapture> {
        let object = packed::object(OBJECT)?;
        let settings = Constants::of(config, types);
        let rodata = settings.list();
        let mut loaded = loader::load(
            &object,
            types,
            &loader::Settings {
                rodata: &rodata,
                max_entries: &[(RING_MAP, config.ring_bytes)],
                verbose: config.verbose,
                programs: &[PROGRAM, EXIT],
                ..loader::Settings::default()
            },
        )?;
        let missing = |what| move || Error::failed(format!("the capture program has no {what}"));
        let ring_fd = loaded.map(RING_MAP).ok_or_else(missing(RING_MAP))?;
        let ring = Ring::map(ring_fd, config.ring_bytes).context(|| "map the ring")?;
        let books_fd = loaded.map(BOOKS_MAP).ok_or_else(missing(BOOKS_MAP))?;
        let books =
            SharedMemory::map(books_fd, 0, page_bytes(), false).context(|| "map the counters")?;
        if only.is_some() {
            super::set_books(books_fd, only)?;
        }
        let program = loaded.program(PROGRAM).ok_or_else(missing(PROGRAM))?;
        // Ends before crashes, so that none is missed.
        let exit = loaded.program(EXIT).ok_or_else(missing(EXIT))?;
        let exit_link = attach::process_exit(exit, true).ok();
        let link = attach::raw_tracepoint(program, TRACEPOINT)?;
        loaded.keep_maps(&[RING_MAP, BOOKS_MAP, FOLDS_MAP, DROPS_MAP]);
        Ok(RingCapture {
            loaded,
            link: Some(link),
            exit_link,
            ring,
            books,
            types: types.to_string(),
        })
    }
}

impl Capture for RingCapture {
    fn let_filters_hold(&mut self) -> Result<()> {
        let books = self.loaded.map(BOOKS_MAP);
        books.map_or(Ok(()), |books| super::set_books(books, None))
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.loaded.map(RING_MAP).into_iter().collect()
    }

    fn next_part(&mut self, take: &mut dyn FnMut(&[u8])) -> Next {
        match self.ring.next(take) {
            true => Next::Part,
            false => Next::Nothing,
        }
    }

    fn drops(&self) -> Drops {
        super::drops(self.loaded.map(DROPS_MAP))
    }

    fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        super::take_folded(self.loaded.map(FOLDS_MAP), site)
    }

    fn knows_descendants(&self) -> bool {
        true
    }

    fn reports_ends(&self) -> bool {
        self.exit_link.is_some()
    }

    fn ring_bytes(&self) -> u64 {
        self.ring.bytes()
    }

    fn stop(&mut self) {
        self.link = None;
        self.exit_link = None;
    }

    fn counters(&self) -> KernelCounters {
        let mut bytes = [0; size_of::<RawCounters>()];
        self.books.copy_to(0, &mut bytes);
        let Ok(raw) = abi::decode_counters(&bytes) else {
            return KernelCounters::default();
        };
        super::kernel_counters(&raw, super::missed(&self.loaded, PROGRAM))
    }

    fn describe(&self) -> Vec<String> {
        let verified = self
            .loaded
            .program_info(PROGRAM)
            .map_or(0, |info| info.verified_insns);
        vec![
            format!("Kernel types: {}", self.types),
            match verified {
                0 => format!("Program: {PROGRAM}"),
                _ => format!("Program: {PROGRAM}, {verified} instructions verified"),
            },
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
    fn of(config: &CaptureConfig, types: &KernelTypes) -> Self {
        let u32s = |value: u32| value.to_ne_bytes().to_vec();
        let u64s = |value: u64| value.to_ne_bytes().to_vec();
        let name = config.name.as_deref().unwrap_or_default();
        let stack_bytes = config.stack_bytes;
        let values = vec![
            ("own_pid", u32s(process::pid())),
            ("own_pid_ns", u32s(process::pid_namespace())),
            ("own_mnt_ns", u32s(process::mount_namespace().unwrap_or(0))),
            ("only_pid", u32s(config.pid.unwrap_or(0))),
            ("only_below", u32s(u32::from(config.only_below))),
            ("name_bytes", u32s(name.len() as u32)),
            ("name_masks", bytes_of(&super::name_masks(name))),
            ("stack_bytes", u32s(stack_bytes)),
            ("all_mappings", u32s(u32::from(config.all_mappings))),
            ("watched_signals", u64s(config.signals)),
            ("wants_memory", u32s(u32::from(config.memory))),
            ("max_threads", u32s(config.threads)),
            ("thread_stack_bytes", u32s(config.thread_stack_bytes)),
            ("fold_ns", u64s(super::fold_ns(config))),
            ("ring_bytes", u64s(u64::from(config.ring_bytes))),
            (
                "ring_reserve",
                u64s(ring_reserve(config.ring_bytes, process::cpus())),
            ),
            ("thread_size", u64s(super::thread_bytes(types))),
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

/// The space that must stay free for headers and ends: one of each for every CPU, but
/// never more than a quarter of the ring.
fn ring_reserve(ring_bytes: u32, cpus: usize) -> u64 {
    let wanted = (abi::HEADER_IN_RING + abi::END_IN_RING) * (cpus + 1);
    (wanted as u64).min(u64::from(ring_bytes) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_leaves_most_of_a_small_ring() {
        assert_eq!(ring_reserve(64 << 10, 512), 16 << 10);
        assert!(ring_reserve(4 << 20, 4) < 8 << 10);
    }
}
