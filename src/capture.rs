//! The capture programs at work: loaded, attached, and their rings mapped.
//!
//! In goes what the user asked for; out come parts of records, one at a time, and
//! the programs' counters. There are three ways to that, by what the kernel has:
//! `ring` (one program, one ring for all CPUs), `old` (a chain of programs for
//! kernels from 4.15 on, a ring for each CPU) and `perf` (no program at all: whole
//! events come out). What is the same for several is here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::{self, RawCounters, RawFold, RawFoldKey};
use crate::cli::{Config, Rung};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, FaultSite, Lost};
use crate::loader::probe::{self, Features};
use crate::loader::{KernelTypes, Loaded};
use crate::perfring::{MappedPerfRing, PerfRing};
use crate::stats::KernelCounters;
use crate::sys::bpf;
use crate::sys::mmap::page_bytes;

pub mod old;
mod perf;
mod ring;
mod share;

/// Kernel stacks are as large as a page where pages are larger than this.
const THREAD_BYTES: u64 = 16384;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    way: Way,
    /// Which way it is and why, for `-v`.
    choice: String,
    warning: Option<String>,
    /// Details that no record has, because the kernel's types do not suffice.
    lost: Vec<Lost>,
}

#[derive(Debug)]
enum Way {
    Ring(Box<ring::RingCapture>),
    Old(Box<old::OldCapture>),
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
    /// Loads and attaches; from then on every wanted crash is in the rings.
    pub fn start(config: &Config, types: &KernelTypes) -> Result<Capture> {
        if let Some(rung) = config.force_rung {
            return Self::start_at(rung, "as --force-rung says", config, types);
        }
        let (rung, why) = rung()?;
        match Self::start_at(rung, why, config, types) {
            // Types that were measured may lack what the one program cannot do without, and
            // kernels without a JIT refuse the callbacks of bpf_loop.
            Err(refused) if rung == Rung::Ring && refused.kind() != Kind::NotPermitted => {
                let why = "this kernel refuses the program of the ring rung";
                let old = Self::start_at(Rung::Old, why, config, types);
                old.map_err(|error| better_told(error, refused))
            }
            other => other,
        }
    }

    fn start_at(rung: Rung, why: &str, config: &Config, types: &KernelTypes) -> Result<Capture> {
        let way = match rung {
            Rung::Ring => Way::Ring(Box::new(ring::RingCapture::start(config, types)?)),
            Rung::Old | Rung::Tracepoint => {
                let is_raw = rung == Rung::Old;
                Way::Old(Box::new(old::OldCapture::start(config, types, is_raw)?))
            }
            Rung::Perf => return Self::start_perf(why, config),
        };
        Ok(Capture {
            way,
            choice: format!("Rung: {}, {why}", rung.name()),
            warning: None,
            lost: lost(types),
        })
    }

    /// Perf events alone, for which no types of the kernel are needed.
    pub fn start_perf(why: &str, config: &Config) -> Result<Capture> {
        let perf = perf::PerfCapture::start(config)?;
        Ok(Capture {
            way: Way::Perf(Box::new(perf)),
            choice: format!("Rung: {}, {why}", Rung::Perf.name()),
            warning: None,
            lost: Vec::new(),
        })
    }

    /// Perf events, where BPF cannot be had; else the reason for that.
    pub fn start_without_bpf(refused: Error, config: &Config) -> Result<Capture> {
        let why = refused.to_string();
        match Self::start_perf(&why, config) {
            Ok(mut capture) => {
                let hint = refused.hint().unwrap_or_default();
                let said = match refused.kind() {
                    Kind::NotPermitted => "BPF is not permitted",
                    _ => &why,
                };
                capture.warning = Some(format!(
                    "{said}; perf events have to do, and reports will lack details; {hint}"
                ));
                Ok(capture)
            }
            Err(too) if refused.kind() == Kind::Unsupported => {
                let hint = refused.hint().unwrap_or_default();
                let hint = format!("{hint}; without BPF: {too}");
                // With more rights it would work.
                let refused = match too.kind() {
                    Kind::NotPermitted => refused.with_kind(Kind::NotPermitted),
                    _ => refused,
                };
                Err(refused.with_hint(hint))
            }
            Err(error) => Err(better_told(error, refused)),
        }
    }

    /// What somebody with more rights could make better.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
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
            Way::Old(old) => old.fds(),
            Way::Perf(perf) => perf.fds(),
        }
    }

    /// Whether a CPU that comes up has to be told of by [`Capture::cpu_up`].
    #[must_use]
    pub fn has_ring_for_each_cpu(&self) -> bool {
        matches!(self.way, Way::Old(_) | Way::Perf(_))
    }

    /// A CPU has come up: what to watch from now on, as of [`Capture::fds`].
    pub fn cpu_up(&mut self, cpu: u32) -> Result<Vec<BorrowedFd<'_>>> {
        match &mut self.way {
            Way::Ring(_) => Ok(Vec::new()),
            Way::Old(old) => Ok(old.cpu_up(cpu)?.into_iter().collect()),
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
            Way::Old(old) => old.next_part(take),
            Way::Perf(perf) => perf.next(),
        }
    }

    /// Detaches: no crash after this is seen. What is in the rings stays there.
    pub fn stop(&mut self) {
        match &mut self.way {
            Way::Ring(ring) => ring.stop(),
            Way::Old(old) => old.stop(),
            Way::Perf(perf) => perf.stop(),
        }
    }

    /// The programs' books as they stand.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        match &self.way {
            Way::Ring(ring) => ring.counters(),
            Way::Old(old) => old.counters(),
            Way::Perf(perf) => perf.counters(),
        }
    }

    /// Faults of a site that were counted and are in no record; it is then as if
    /// there had been none.
    pub fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        match &mut self.way {
            Way::Ring(ring) => ring.take_folded(site),
            Way::Old(old) => old.take_folded(site),
            Way::Perf(perf) => perf.take_folded(site),
        }
    }

    /// What the rings hold.
    #[must_use]
    pub fn ring_bytes(&self) -> u64 {
        match &self.way {
            Way::Ring(ring) => ring.bytes(),
            Way::Old(old) => old.bytes(),
            Way::Perf(perf) => perf.bytes(),
        }
    }

    /// What is held of processes besides, in case that they crash.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        match &self.way {
            Way::Perf(perf) => perf.table_bytes(),
            Way::Ring(_) | Way::Old(_) => 0,
        }
    }

    /// How often that was given up for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        match &self.way {
            Way::Perf(perf) => perf.evicted(),
            Way::Ring(_) | Way::Old(_) => 0,
        }
    }

    /// What reports will lack for want of a better kernel.
    #[must_use]
    pub fn lacks(&self) -> Vec<Lost> {
        let mut lacks = match &self.way {
            Way::Ring(_) => Vec::new(),
            Way::Old(old) => old.lacks(),
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
            Way::Old(old) => old.describe(),
            Way::Perf(perf) => perf.describe(),
        });
        lines
    }
}

/// What a second way failed for, if the user can change that by an option; else why it
/// was not the first.
fn better_told(error: Error, refused: Error) -> Error {
    match error.kind() {
        Kind::Usage => error,
        _ => refused,
    }
}

fn lost(types: &KernelTypes) -> Vec<Lost> {
    let mut lost = Vec::new();
    for detail in types.lost() {
        let reason = match *detail {
            // No value in it would be one that nobody else has.
            "cgroup" => "not looked for in a kernel without type information",
            _ => "not found in this kernel, which has no type information",
        };
        lost.push(Lost { detail, reason });
    }
    lost
}

/// Which way this kernel takes, and why.
fn rung() -> Result<(Rung, &'static str)> {
    let features = Features::new();
    // Most kernels take one question: with bpf_loop they have all else.
    Ok(if features.callbacks().unwrap_or(false) {
        (Rung::Ring, "this kernel has bpf_loop")
    } else if features.raw_tracepoints()? {
        (Rung::Old, "this kernel has no bpf_loop (5.17)")
    } else if features.tracepoints()? {
        let why = "this kernel has no raw tracepoints (4.17)";
        (Rung::Tracepoint, why)
    } else {
        return Err(probe::no_tracepoints());
    })
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
    let is_there = bpf::map_take_elem(folds?, &key.bytes(), &mut bytes);
    let fold = is_there
        .is_ok_and(|is_there| is_there)
        .then(|| abi::decode_fold(&bytes).ok())??;
    let count = fold.count.saturating_sub(fold.told);
    (count > 0).then_some(Folded {
        count,
        last_boot_ns: fold.last_ns,
    })
}

/// How long the programs only count handled faults of one site; 0 for never.
fn fold_ns(config: &Config) -> u64 {
    config
        .fold_handled
        .map_or(0, |window| window.as_nanos() as u64)
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
    use crate::loader::packed;

    #[test]
    fn embedded_objects_are_those_in_prebuilt() {
        let ring: (&[u8], &[u8]) = (ring::OBJECT, include_bytes!("../prebuilt/capture.bpf.o"));
        let old: (&[u8], &[u8]) = (old::OBJECT, include_bytes!("../prebuilt/capture_old.bpf.o"));
        for (packed, object) in [ring, old] {
            assert!(packed::unpack(packed).is_some_and(|bytes| bytes == object));
        }
    }

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
}
