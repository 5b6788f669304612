//! Capture by a chain of programs and one perf ring a CPU: kernels from 4.15 on.
//!
//! One map holds the settings for the programs, another their counters. Up to 5.0 the
//! kernel does not report to a program that a ring was full: if all rings are empty and
//! the header of a record has not come, that record was dropped.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::base::error::{Context, Error, Result};
use crate::base::structs::bytes_of;
use crate::capture::counters::KernelCounters;
use crate::capture::perf::buffer::{MappedPerfRing, PerfRecord, PerfRing};
use crate::capture::record::abi::{self, RawChainConfig, RawCounters};
use crate::capture::share::Share;
use crate::capture::{Capture, Folded, Mark, Next, FOLDS_MAP};
use crate::config::CaptureConfig;
use crate::crash::event::{FaultSite, Lost};
use crate::loader::{self, attach, object::Object, packed, KernelTypes};
use crate::sys::{bpf, perf, process, time};

/// `bpf/capture_chain.bpf.c`, compiled and packed.
pub(super) const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/capture_chain.bpf.o"));

const TRACEPOINT: &str = "signal_deliver";
const FIRST_RAW: &str = "segfault_first_raw";
const FIRST: &str = "segfault_event";
const EXIT: &str = "segfault_exit";
const BEGIN: &str = "segfault_begin";
const CONTEXT: &str = "segfault_context";
const LIST: &str = "segfault_list";
const TREE: &str = "segfault_tree";
const STACK: &str = "segfault_stack";
/// Programs for stacks other than the one of the crash.
const INTERRUPTED: &str = "segfault_interrupted";
const SWITCHED: &str = "segfault_switched";
/// Code in no file.
const COMPILED: &str = "segfault_compiled";
const NAMES: &str = "segfault_names";
/// The programs that go on with a record for which one pass has too few tail calls; attached
/// in this order, after the first program.
const MORE: [&str; 6] = [
    "segfault_more_1",
    "segfault_more_2",
    "segfault_more_3",
    "segfault_more_4",
    "segfault_more_5",
    "segfault_more_6",
];
/// Only with `--memory`, and with `--threads`.
const MEMORY: &str = "segfault_memory";
const THREADS: &str = "segfault_threads";
/// `enum step` of bpf/chain.h: the slots that the programs call, in order, and the program in
/// each. The walk is `LIST` on kernels before 6.1.
pub const STEPS: [(&str, &str); 10] = [
    ("STEP_BEGIN", BEGIN),
    ("STEP_CONTEXT", CONTEXT),
    ("STEP_WALK", TREE),
    ("STEP_STACK", STACK),
    ("STEP_INTERRUPTED", INTERRUPTED),
    ("STEP_SWITCHED", SWITCHED),
    ("STEP_COMPILED", COMPILED),
    ("STEP_NAMES", NAMES),
    ("STEP_MEMORY", MEMORY),
    ("STEP_THREADS", THREADS),
];
const STEPS_MAP: &str = "segfault_steps";
const EVENTS_MAP: &str = "segfault_events";
const CONFIG_MAP: &str = "segfault_config";
const BOOKS_MAP: &str = "segfault_books";

/// Debian's and Android's kernels have a level that lets no other user's event through.
const PARANOID_HINT: &str =
    "the sysctl kernel.perf_event_paranoid is above 2, so CAP_SYS_ADMIN is needed";

/// A ring that a record without a stack fits into.
const LEAST_RING_BYTES: u64 = 32 << 10;
/// Of a thread, without its stack: its registers, and the heads of its parts.
const THREAD_BYTES: u64 = 1 << 10;

/// `bpf/capture_chain.bpf.c` at work.
#[derive(Debug)]
pub struct ChainCapture {
    loaded: loader::Loaded,
    /// Of crashes, and of ends of processes.
    links: Vec<OwnedFd>,
    exit_link: Option<OwnedFd>,
    /// The program that is attached first.
    first: &'static str,
    rings: Vec<CpuRing>,
    /// The ring that is being emptied.
    current: usize,
    headers: u64,
    lost: u64,
    share: Share,
    types: String,
}

#[derive(Debug)]
struct CpuRing {
    cpu: u32,
    event: OwnedFd,
    ring: PerfRing<MappedPerfRing>,
}

impl ChainCapture {
    /// Attaches to the raw tracepoint, or to the ordinary one.
    pub fn start(
        config: &CaptureConfig,
        types: &KernelTypes,
        is_raw: bool,
        only: Option<Mark>,
    ) -> Result<ChainCapture> {
        let object = packed::object(OBJECT)?;
        let (loaded, chain) = load(&object, types, config, is_raw)?;
        for (step, program) in chain {
            loaded.set_tail_call(STEPS_MAP, step, program)?;
        }
        let share = Share::of(config);
        let rings = rings(map(&loaded, EVENTS_MAP)?, config)?;
        let ring_bytes = rings.first().map_or(0, |ring| ring.ring.bytes());
        let settings = settings(config, types, ring_bytes);
        bpf::map_update_elem(map(&loaded, CONFIG_MAP)?, &[0; 4], &settings, 0)
            .context(|| "settings of the capture program")?;
        if only.is_some() {
            super::set_books(map(&loaded, BOOKS_MAP)?, only)?;
        }
        let first = if is_raw { FIRST_RAW } else { FIRST };
        // Ends before crashes, so that none is missed.
        let exit = loaded.program(EXIT);
        let exit_link = exit.and_then(|exit| attach::process_exit(exit, is_raw).ok());
        let mut links = Vec::new();
        for name in std::iter::once(first).chain(MORE) {
            let program = loaded
                .program(name)
                .ok_or_else(|| Error::failed("the capture program has no entry"))?;
            links.push(attach::signal_deliver(program, is_raw)?);
        }
        Ok(ChainCapture {
            loaded,
            links,
            exit_link,
            first,
            rings,
            current: 0,
            headers: 0,
            lost: 0,
            share,
            types: types.to_string(),
        })
    }

    /// A program's name, with how many instructions that meant for the verifier.
    fn verified(&self, program: &str) -> String {
        // Kernels before 5.16 do not tell.
        match self.loaded.program_info(program) {
            Ok(info) if info.verified_insns > 0 => format!("{program} ({})", info.verified_insns),
            _ => program.to_string(),
        }
    }
}

impl Capture for ChainCapture {
    fn let_filters_hold(&mut self) -> Result<()> {
        (self.headers, self.lost) = (0, 0);
        super::set_books(map(&self.loaded, BOOKS_MAP)?, None)
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.rings.iter().map(|ring| ring.event.as_fd()).collect()
    }

    fn next_part(&mut self, take: &mut dyn FnMut(&[u8])) -> Next {
        let mut next = Next::Nothing;
        // Each ring once, from where the last one was found.
        for _ in 0..self.rings.len() {
            let CpuRing { cpu, ring, .. } = &mut self.rings[self.current];
            let (headers, lost) = (&mut self.headers, &mut self.lost);
            let found = ring.next(|record| match record {
                PerfRecord::Output(bytes) => {
                    let part = abi::trimmed(bytes);
                    *headers += u64::from(abi::is_header(part));
                    next = Next::Part;
                    take(part);
                }
                PerfRecord::Lost(count) => {
                    *lost += count;
                    next = Next::Lost { cpu: *cpu };
                }
            });
            if found {
                break;
            }
            self.current = (self.current + 1) % self.rings.len();
        }
        next
    }

    fn take_folded(&mut self, site: &FaultSite) -> Option<Folded> {
        let mut folded = super::take_folded(self.loaded.map(FOLDS_MAP), site)?;
        // The programs know CLOCK_MONOTONIC alone.
        folded.last_boot_ns += time::boot_ahead_ns();
        Some(folded)
    }

    fn reports_ends(&self) -> bool {
        self.exit_link.is_some()
    }

    fn has_ring_for_each_cpu(&self) -> bool {
        true
    }

    /// Gives the CPU a ring. The one that it had before it went down has ended with that;
    /// it stays if it was not emptied.
    fn cpu_up(&mut self, cpu: u32) -> Result<Vec<BorrowedFd<'_>>> {
        let bytes = self.rings.first().map_or(0, |ring| ring.ring.bytes());
        let context = || format!("the ring of CPU {cpu}");
        let Some(event) = event(cpu).context(context)? else {
            return Ok(Vec::new());
        };
        let kept = |ring: &CpuRing| ring.cpu != cpu || !ring.ring.is_empty();
        let all = self.rings.iter().filter(|ring| kept(ring));
        let all_bytes = bytes + all.map(|ring| ring.ring.bytes()).sum::<u64>();
        self.share.check(all_bytes, self.rings.len() + 1)?;
        let events = map(&self.loaded, EVENTS_MAP)?;
        let new = ring(events, cpu, event, bytes).context(context)?;
        self.rings.retain(kept);
        self.rings.push(new);
        self.current = 0;
        let new = self.rings.last().into_iter();
        Ok(new.map(|ring| ring.event.as_fd()).collect())
    }

    fn ring_bytes(&self) -> u64 {
        self.rings.iter().map(|ring| ring.ring.bytes()).sum()
    }

    fn stop(&mut self) {
        // What begins a record before what goes on with it.
        self.links.clear();
        self.exit_link = None;
    }

    fn counters(&self) -> KernelCounters {
        let mut bytes = [0; size_of::<RawCounters>()];
        let books = self.loaded.map(BOOKS_MAP);
        let is_read = books.is_some_and(|books| {
            bpf::map_lookup_elem(books, &[0; 4], &mut bytes).is_ok_and(|there| there)
        });
        let Ok(mut raw) = abi::decode_counters(&bytes) else {
            return KernelCounters::default();
        };
        if is_read {
            raw.submitted = self.headers;
            raw.dropped_ring = raw.captured.saturating_sub(self.headers);
            raw.dropped += raw.dropped_ring;
            raw.parts_lost = raw.parts_lost.max(self.lost);
        }
        super::kernel_counters(&raw, super::missed(&self.loaded, self.first))
    }

    fn lacks(&self) -> Vec<Lost> {
        let sender = Lost {
            detail: "sender",
            reason: "this kernel's tracepoint does not report it (before 4.17)",
        };
        match self.first {
            FIRST_RAW => Vec::new(),
            _ => vec![sender],
        }
    }

    fn describe(&self) -> Vec<String> {
        let programs: Vec<_> = self
            .loaded
            .programs()
            .map(|name| self.verified(name))
            .collect();
        let ring_bytes = self.rings.first().map_or(0, |ring| ring.ring.bytes());
        vec![
            format!("Kernel types: {}", self.types),
            format!("Programs: {}", programs.join(", ")),
            match self.first {
                FIRST_RAW => format!("Attached: raw tracepoint {TRACEPOINT}"),
                _ => format!("Attached: tracepoint {TRACEPOINT}"),
            },
            format!("Rings: {} of {} KB", self.rings.len(), ring_bytes >> 10),
        ]
    }
}

fn map<'a>(loaded: &'a loader::Loaded, name: &str) -> Result<BorrowedFd<'a>> {
    loaded
        .map(name)
        .ok_or_else(|| Error::failed(format!("the capture program has no {name}")))
}

/// Which programs these options ask for, and in which slots of the chain they stand:
/// where no stack is wanted, what follows it takes its slot.
fn chain(config: &CaptureConfig, walk: &'static str) -> Vec<(u32, &'static str)> {
    let has_stack = config.stack_bytes > 0;
    let mut chain = Vec::new();
    for (slot, (_, program)) in (0..).zip(STEPS) {
        let program = match program {
            TREE => walk,
            // Who calls it means what comes next.
            STACK if !has_stack && config.memory => MEMORY,
            STACK if !has_stack => NAMES,
            INTERRUPTED | SWITCHED | COMPILED if !has_stack => continue,
            MEMORY if !config.memory => continue,
            THREADS if config.threads == 0 => continue,
            program => program,
        };
        chain.push((slot, program));
    }
    chain
}

/// Loads the chain with the walk for this kernel's kind of mappings; the result has its
/// slots.
fn load(
    object: &Object,
    types: &KernelTypes,
    config: &CaptureConfig,
    is_raw: bool,
) -> Result<(loader::Loaded, Vec<(u32, &'static str)>)> {
    let (first, program_type) = match is_raw {
        true => (FIRST_RAW, None),
        // Programs that call each other as tails are of one type.
        false => (FIRST, Some(bpf::PROG_TYPE_TRACEPOINT)),
    };
    // Mappings cannot be found: the step after the walk takes its slot.
    let has_mappings = !types.lost().contains(&"mappings");
    let mut chain = chain(config, TREE);
    if !has_mappings {
        chain[2].1 = chain[3].1;
    }
    let mut programs = MORE.to_vec();
    programs.extend([first, EXIT]);
    if has_mappings {
        programs.push(LIST);
    }
    for (_, program) in &chain {
        if !programs.contains(program) {
            programs.push(program);
        }
    }
    let settings = loader::Settings {
        verbose: config.verbose,
        programs: &programs,
        // Every kernel lacks fields of one of the two.
        either: has_mappings.then_some((LIST, TREE)),
        program_type,
        ..loader::Settings::default()
    };
    let loaded = loader::load(object, types, &settings)?;
    if loaded.program(LIST).is_some() {
        chain[2].1 = LIST;
    }
    Ok((loaded, chain))
}

/// A ring for each online CPU, put into the map that the programs write to.
fn rings(map: BorrowedFd<'_>, config: &CaptureConfig) -> Result<Vec<CpuRing>> {
    process::allow_open_files();
    let slots = bpf::map_info(map)?.max_entries;
    let mut online = Vec::new();
    for cpu in 0..slots {
        let event = event(cpu).context(|| format!("the ring of CPU {cpu}"))?;
        online.extend(event.map(|event| (cpu, event)));
    }
    if online.is_empty() {
        return Err(Error::failed("no CPU has a ring for perf events"));
    }
    let cpus = online.len();
    let share = Share::of(config);
    let bytes = ring_bytes(config, cpus as u64);
    share.check(bytes * cpus as u64, cpus)?;
    let ring =
        |(cpu, event)| ring(map, cpu, event, bytes).context(|| format!("the ring of CPU {cpu}"));
    online.into_iter().map(ring).collect()
}

/// Bytes of each CPU's ring. A record with other threads has to fit into it, with room for
/// another one.
fn ring_bytes(config: &CaptureConfig, cpus: u64) -> u64 {
    let share = Share::of(config);
    let thread = THREAD_BYTES + u64::from(config.thread_stack_bytes);
    let threads = u64::from(config.threads) * thread;
    match config.threads {
        0 => share.ring(cpus, 1, LEAST_RING_BYTES),
        _ => {
            let ring = share.ring(cpus, 1, 2 * LEAST_RING_BYTES);
            let most = match config.may_enlarge_rings {
                true => 2 * threads,
                false => ring,
            };
            share.larger(ring, most, 0, cpus)
        }
    }
}

/// The perf event of one CPU's ring; `None` if the CPU does not exist, or is offline.
fn event(cpu: u32) -> Result<Option<OwnedFd>> {
    match perf::bpf_output(cpu) {
        Ok(event) => Ok(Some(event)),
        Err(error) => match error.errno() {
            Some(perf::ENODEV | perf::EINVAL | perf::ENXIO) => Ok(None),
            Some(bpf::EACCES) => Err(error.with_hint(PARANOID_HINT)),
            _ => Err(error),
        },
    }
}

fn ring(events: BorrowedFd<'_>, cpu: u32, event: OwnedFd, bytes: u64) -> Result<CpuRing> {
    let ring = super::map_ring(&event, bytes).context(|| "map it")?;
    let descriptor = event.as_raw_fd().to_ne_bytes();
    bpf::map_update_elem(events, &cpu.to_ne_bytes(), &descriptor, 0)?;
    perf::enable(event.as_fd())?;
    Ok(CpuRing { cpu, event, ring })
}

/// What the programs read before they decide anything.
fn settings(config: &CaptureConfig, types: &KernelTypes, ring_bytes: u64) -> Vec<u8> {
    let name = config.name.as_deref().unwrap_or_default();
    let name_last = match name.len() {
        0 => 0,
        bytes => 1u64 << (bytes - 1).min(63),
    };
    let settings = RawChainConfig {
        watched_signals: config.signals,
        name_last,
        name_masks: super::name_masks(name),
        thread_size: super::thread_bytes(types),
        // A record has to fit into an empty ring.
        stack_bytes: u64::from(config.stack_bytes).min(ring_bytes / 2),
        fold_ns: super::fold_ns(config),
        thread_stack_bytes: u64::from(config.thread_stack_bytes),
        // As long as a stack.
        thread_bytes: ring_bytes / 2,
        aarch64: u32::from(cfg!(target_arch = "aarch64")),
        own_pid: process::pid(),
        own_pid_ns: process::pid_namespace(),
        own_mnt_ns: process::mount_namespace().unwrap_or(0),
        only_pid: config.pid.unwrap_or(0),
        all_mappings: u32::from(config.all_mappings),
        memory: u32::from(config.memory),
        passes: MORE.len() as u32,
        threads: config.threads,
        thread_passes: u32::from(config.threads > 0),
    };
    bytes_of(&settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_have_room_for_the_threads_if_nobody_says_how_large_they_are() {
        let config = |threads, may_enlarge_rings| CaptureConfig {
            ring_bytes: 4 << 20,
            threads,
            thread_stack_bytes: 8 << 10,
            may_enlarge_rings,
            ..CaptureConfig::default()
        };
        for cpus in [1, 2, 8, 64, 512] {
            let usual = ring_bytes(&config(0, true), cpus);
            let with = |threads| ring_bytes(&config(threads, true), cpus);
            let said = ring_bytes(&config(64, false), cpus);
            assert_eq!(said, usual.max(64 << 10), "{cpus}");
            for threads in [64, 1024] {
                let ring = with(threads);
                assert!(ring >= usual && ring.is_power_of_two());
                let is_enough = ring / 2 >= u64::from(threads) * (9 << 10);
                assert!(is_enough || 2 * ring * cpus > 50 << 20, "{cpus}: {ring}");
                assert!(ring == said || ring * cpus <= 50 << 20, "{cpus}: {ring}");
            }
        }
    }
}
