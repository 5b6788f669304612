//! From a captured event to a report: the calls walked, the addresses named.
//!
//! A detail that cannot be had is left out and named in the report's `lost`;
//! nothing here fails. What was learnt of files and functions is kept for the
//! next crash, inside the memory that the user allows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::address::{FileAddress, ProcessAddress};
use crate::cli::Config;
use crate::clock::Clock;
use crate::deaths::RecentDeaths;
use crate::event::{Disposition, EarlierFault, Event, Lost, Mapping};
use crate::fault;
use crate::located::{Located, Namer};
use crate::modules::{Limits, Missing, Modules, Opened};
use crate::nearby;
use crate::registers::Arch;
use crate::report::{FirstFault, Report, StackTrace, Symbol};
use crate::space::Captured;
use crate::symbols::budget::MemoryBudget;
use crate::symbols::demangle::demangle;
use crate::symbols::elf::DebugDirs;
#[cfg(feature = "lines")]
use crate::symbols::lines::Refused;
use crate::unwind::{self, Caches, CodeAddress, Frame, Stop, Trust, Walk};

/// Rules of call-frame information kept; each takes some hundred bytes.
const MAX_RULES: usize = 4096;

/// What turns events into reports, and remembers.
#[derive(Debug)]
pub struct Analyzer {
    stack_trace: bool,
    registers: bool,
    no_memory: bool,
    maps: bool,
    memory: bool,
    max_stack_depth: usize,
    /// Of a stack's first window.
    window_bytes: u32,
    clock: Clock,
    deaths: RecentDeaths,
    budget: Rc<MemoryBudget>,
    modules: Modules,
    namer: Namer,
    caches: Caches,
}

/// What the statistics want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Figures {
    pub symbol_hits: u64,
    pub symbol_misses: u64,
    pub symbol_entries: u64,
    /// Names and files that left the caches for want of room.
    pub evicted: u64,
    /// Passes over symbol tables that would have taken too long.
    pub lookups_given_up: u64,
    /// Of all caches.
    pub bytes: u64,
}

impl Analyzer {
    /// With `cache_bytes` for everything that it remembers.
    #[must_use]
    pub fn new(config: &Config, cache_bytes: u64) -> Self {
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let rule_bytes = (cache_bytes / 4).min(4 << 20);
        let budget = Rc::new(MemoryBudget::new(cache_bytes - rule_bytes));
        let limits = Limits {
            block_bytes: (cache_bytes / 2).min(4 << 20),
            debug_dirs: DebugDirs::new(config.debug_dirs.clone(), &|name| std::env::var_os(name)),
            ..Limits::default()
        };
        Analyzer {
            stack_trace: config.stack_trace,
            registers: config.registers,
            no_memory: config.no_memory,
            maps: config.maps,
            memory: config.memory,
            max_stack_depth: config.max_stack_depth,
            window_bytes: config.stack_snapshot_bytes,
            clock: Clock::new(),
            deaths: RecentDeaths::default(),
            modules: Modules::new(limits, budget.clone()),
            namer: Namer::new(config.symbol_cache_limit, &budget),
            budget,
            caches: Caches::new(MAX_RULES, rule_bytes),
        }
    }

    /// Times of kernels that do not tell the time themselves are reckoned anew.
    pub fn clock_was_set(&mut self) {
        self.clock.set_again();
    }

    /// Closes files that no crash needed for so long; when to call again.
    pub fn close_unused(&mut self, age: Duration) -> Option<Duration> {
        self.modules.close_unused(age)
    }

    #[must_use]
    pub fn figures(&self) -> Figures {
        let symbols = self.namer.stats();
        let modules = self.modules.stats();
        Figures {
            symbol_hits: symbols.hits,
            symbol_misses: symbols.misses,
            symbol_entries: symbols.entries as u64,
            evicted: symbols.evictions + modules.evictions,
            lookups_given_up: symbols.timeouts,
            bytes: (self.budget.used() + self.caches.bytes()) as u64,
        }
    }

    /// Everything that can be said of this crash.
    pub fn report(&mut self, event: &Event) -> Report {
        let arch = event
            .registers
            .map_or(Arch::NATIVE, |registers| registers.arch());
        let mut lost = event.lost.clone();
        let walk = self.walk(event);
        let located = self.locate(event, &walk, &mut lost);
        let instruction = located
            .first()
            .map(|located| located.location.clone())
            .unwrap_or_default();
        let stack = (self.stack_trace && event.registers.is_some()).then(|| StackTrace {
            frames: walk
                .frames
                .iter()
                .zip(located)
                .flat_map(|(frame, located)| located.into_frames(frame))
                .collect(),
            gaps: gaps(event, &walk),
            stop: walk.stop,
        });
        if event.registers.is_none() {
            lost.push(Lost {
                detail: "registers",
                reason: "not readable in the kernel",
            });
        }
        if let (Arch::Arm, Some(stack)) = (arch, &stack) {
            if !stack.complete() {
                lost.push(Lost {
                    detail: "stack",
                    reason: ".ARM.exidx is not read",
                });
            }
        }
        if self.no_memory {
            lost.retain(|lost| lost.detail != "cmdline");
            lost.push(Lost {
                detail: "cmdline",
                reason: "left out, as --no-memory says",
            });
        }
        lost.sort_unstable();
        lost.dedup();
        let maps = self.maps.then(|| {
            let space = Captured::new(event, &mut self.modules, self.window_bytes);
            nearby::mappings(event, |mapping| module_name(event, &space, mapping))
        });
        let pid = event.pid.unwrap_or(event.host_pid);
        Report {
            time: self.clock.of(event),
            pid,
            tid: event.tid.unwrap_or(event.host_tid),
            host_pid: (event.host_pid != pid).then_some(event.host_pid),
            comm: event.comm.clone(),
            thread: event.thread.clone(),
            signal: event.signal,
            code: event.code,
            fault_address: fault::address(event.code, event.siginfo),
            access: fault::access(arch, event.code, event.siginfo, &event.trap),
            disposition: event.disposition,
            first_fault: event
                .first_fault
                .filter(|_| !fault::is_sent_by_another(event))
                .map(|first| first_fault(&first, arch, event.boot_ns)),
            same_death: event.disposition == Disposition::Fatal
                && self.deaths.is_repeated(event.host_pid, event.start_ns),
            sender: fault::sender(event.code, event.siginfo).filter(|_| event.knows_sender),
            instruction_pointer: event.registers.map(|registers| registers.pc()),
            instruction,
            registers: event.registers.filter(|_| self.registers || self.memory),
            stack,
            ppid: event.ppid,
            uid: event.uid,
            exe: exe(event),
            cmdline: event.cmdline.clone().filter(|_| !self.no_memory),
            ns_pid: (event.ns_pid != pid).then_some(event.ns_pid),
            cgroup: event.cgroup.clone(),
            maps,
            memory: self.memory.then(|| event.memory.clone()),
            repeats: None,
            lost,
        }
    }

    /// The calls; without `-t` the crash's own frame alone.
    fn walk(&mut self, event: &Event) -> Walk {
        let Some(registers) = event.registers else {
            return Walk {
                frames: Vec::new(),
                stop: Stop::NoCaller(ProcessAddress(0)),
            };
        };
        if !self.stack_trace {
            let frame = Frame {
                code: CodeAddress::Exact(registers.pc()),
                trust: Trust::Context,
            };
            return Walk {
                frames: vec![frame],
                stop: Stop::Depth,
            };
        }
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        unwind::walk(&registers, &space, self.max_stack_depth, &mut self.caches)
    }

    /// Names what each frame's address lies in, by one pass over each file's symbols.
    fn locate(&mut self, event: &Event, walk: &Walk, lost: &mut Vec<Lost>) -> Vec<Located> {
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        let mut located = vec![Located::default(); walk.frames.len()];
        let mut compiled = Vec::new();
        let mut by_module: BTreeMap<ProcessAddress, InModule> = BTreeMap::new();
        for (index, frame) in walk.frames.iter().enumerate() {
            let address = frame.code.lookup();
            let Some(mapping) = space.mapping(address) else {
                continue;
            };
            let location = &mut located[index].location;
            location.module = Some(module_name(event, &space, mapping));
            let Some(opened) = space.opened(address) else {
                if is_compiled(mapping) && !space.is_vdso(mapping) {
                    compiled.push(index);
                }
                let address = frame.code.address();
                let linked = is_where_linked(event, mapping);
                location.module_offset = linked.then_some(FileAddress(address.0));
                if !linked {
                    location.file_offset = mapping.file_offset(address);
                }
                continue;
            };
            let placed = opened.placed();
            location.module_offset = Some(placed.file_address(frame.code.address()));
            location.build_id = opened.module.build_id().map(<[u8]>::to_vec);
            let in_module = by_module.entry(mapping.start).or_insert_with(|| InModule {
                opened,
                mapping,
                indexes: Vec::new(),
            });
            in_module.indexes.push(index);
        }
        for in_module in by_module.values() {
            let InModule {
                opened, indexes, ..
            } = in_module;
            let placed = opened.placed();
            let lookup = |&index: &usize| {
                let address = walk.frames[index].code.lookup();
                (index, placed.file_address(address))
            };
            let which: Vec<(usize, FileAddress)> = indexes.iter().map(lookup).collect();
            let file = opened.module.as_ref();
            self.namer.add_names(file, &mut located, &which);
            #[cfg(feature = "lines")]
            if self.stack_trace {
                match self.namer.add_lines(file, &mut located, &which) {
                    Err(refused) if is_told(event, in_module, refused) => lost.push(Lost {
                        detail: "lines",
                        reason: refused.as_str(),
                    }),
                    _ => {}
                }
            }
        }
        let mut missing = space.missing();
        missing.extend(self.name_compiled(event, walk, &compiled, &mut located));
        lost.extend(missing.iter().map(|missing| Lost {
            detail: "symbols",
            reason: missing.reason,
        }));
        located
    }

    /// Names the frames, by their numbers, whose code is in no file.
    fn name_compiled(
        &mut self,
        event: &Event,
        walk: &Walk,
        compiled: &[usize],
        located: &mut [Located],
    ) -> Option<Missing> {
        if compiled.is_empty() {
            return None;
        }
        let lookup = |&index: &usize| walk.frames[index].code.lookup();
        let addresses: Vec<ProcessAddress> = compiled.iter().map(lookup).collect();
        match self.modules.compiled(event.into(), &addresses) {
            Ok(functions) => {
                for (&index, function) in compiled.iter().zip(functions) {
                    let at = walk.frames[index].code.address();
                    located[index].location.symbol = function.and_then(|function| {
                        Some(Symbol {
                            name: demangle(&function.name).into_owned(),
                            offset: at.offset_from(function.start)?,
                        })
                    });
                }
                None
            }
            Err(missing) => Some(missing),
        }
    }
}

/// The frames, by their numbers, in one file.
struct InModule<'a> {
    opened: Opened,
    #[cfg_attr(not(feature = "lines"), expect(dead_code, reason = "told of lines"))]
    mapping: &'a Mapping,
    indexes: Vec<usize>,
}

/// Whether lines that could not be had are worth a word. Where it crashed they
/// would have told something. Debug files of libraries are compressed on whole
/// distributions, and only those of the program itself are the user's own.
#[cfg(feature = "lines")]
fn is_told(event: &Event, module: &InModule<'_>, refused: Refused) -> bool {
    match refused {
        Refused::TimedOut => module.indexes.contains(&0),
        Refused::Compressed => {
            let path = module.mapping.file.as_ref().map(|file| &file.path);
            path.is_some() && path == event.exe.as_ref()
        }
    }
}

/// Whether a frame may have been passed over, because its mapping was not captured.
fn gaps(event: &Event, walk: &Walk) -> bool {
    let unknown = event.lost.iter().any(|lost| lost.detail == "mappings");
    unknown
        && walk
            .frames
            .iter()
            .any(|frame| frame.trust <= Trust::ScanDirect)
}

/// As /proc/PID/exe shows it.
fn exe(event: &Event) -> Option<Vec<u8>> {
    let mut exe = event.exe.clone()?;
    if event.exe_deleted {
        exe.extend_from_slice(b" (deleted)");
    }
    Some(exe)
}

fn first_fault(first: &EarlierFault, arch: Arch, now_boot_ns: u64) -> FirstFault {
    FirstFault {
        signal: first.signal,
        code: first.code,
        address: fault::address(first.code, first.siginfo),
        pc: first.pc,
        access: fault::access(arch, first.code, first.siginfo, &first.trap),
        age_ms: now_boot_ns.saturating_sub(first.boot_ns) / 1_000_000,
    }
}

/// Whether code there can have been made while the program ran: in memory of no
/// file, or of one without a name, such as a memfd.
fn is_compiled(mapping: &Mapping) -> bool {
    mapping.flags.executable() && mapping.file.as_ref().is_none_or(|file| file.detached)
}

/// Whether a program without its file is known to lie where its linker put it: one
/// that may lie anywhere is never put so low, nor is its heap. load_elf_binary() in
/// fs/binfmt_elf.c, ELF_ET_DYN_BASE of both architectures.
fn is_where_linked(event: &Event, mapping: &Mapping) -> bool {
    const LOW: u64 = 1 << 32;
    // At most 1 GB behind the program.
    const LOW_HEAP: u64 = 2 * LOW;
    let wide = event.registers.is_some_and(|regs| !regs.is_32_bit());
    let file = mapping.file.as_ref();
    let is_program = file.is_some_and(|file| Some(&file.path) == event.exe.as_ref());
    let low = mapping.end.0 <= LOW && (1..LOW_HEAP).contains(&event.start_brk.0);
    wide && is_program && low
}

/// The path of the file mapped there, or what stands for one without a file.
fn module_name(event: &Event, space: &Captured<'_>, mapping: &Mapping) -> Vec<u8> {
    match &mapping.file {
        Some(file) if file.path.is_empty() => b"[unnamed file]".to_vec(),
        // As /proc/PID/maps has it.
        Some(file) if file.deleted && !file.detached => [&file.path[..], b" (deleted)"].concat(),
        Some(file) => file.path.clone(),
        None if space.is_vdso(mapping) => b"[vdso]".to_vec(),
        None if mapping.contains(event.start_stack) => b"[stack]".to_vec(),
        None if mapping.start < event.brk && event.start_brk < mapping.end => b"[heap]".to_vec(),
        None => b"[anon]".to_vec(),
    }
}
