//! From a captured event to a report: the calls walked, the addresses named.
//!
//! A detail that cannot be had is left out and named in the report's `lost`;
//! nothing here fails. What was learnt of files and functions is kept for the
//! next crash, inside the memory that the user allows.

pub mod cause;
pub mod clock;
pub mod deaths;
mod locate;
pub mod located;
pub mod nearby;
pub mod space;
mod why;

use std::rc::Rc;
use std::time::Duration;

use crate::analyze::clock::Clock;
use crate::analyze::deaths::RecentDeaths;
use crate::analyze::located::Namer;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::base::budget::MemoryBudget;
use crate::config::AnalysisConfig;
use crate::crash::event::{Disposition, EarlierFault, Event, Lost};
use crate::crash::fault;
use crate::crash::frame::{CodeAddress, Frame, Stop, Trust};
use crate::crash::registers::Arch;
use crate::modules::{recover, Limits, Modules};
use crate::report::signature::{self, Signature};
use crate::report::{FirstFault, Report, StackTrace};
use crate::symbols::elf::DebugDirs;
use crate::unwind::{self, Caches, Walk};

use why::interesting;

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
    /// Size of a stack's first window.
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
    /// What all caches hold.
    pub bytes: u64,
}

impl Analyzer {
    /// With `cache_bytes` for everything that it remembers.
    #[must_use]
    pub fn new(config: &AnalysisConfig, cache_bytes: u64) -> Self {
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
    pub fn report(&mut self, event: &mut Event) -> Report {
        if !event.knows_fault {
            self.infer_fault(event);
        }
        let arch = event
            .registers
            .map_or(Arch::NATIVE, |registers| registers.arch());
        let mut lost = event.lost.clone();
        let mut walk = self.walk(event);
        let mut chosen = cause::choose(event, self.stack_trace.then_some(&walk));
        if chosen.earlier.is_some() && !chosen.fault.known {
            self.infer_earlier(event, &mut chosen);
        }
        let shown = event.registers.filter(|_| self.registers);
        let frames = walk.frames.len();
        let codes = interesting(&walk, &chosen, shown.as_ref());
        let mut located = self.locate(event, &codes, frames, &mut lost);
        let places = located.split_off(frames);
        let verdict = self.verdict(event, &chosen, &located, &places);
        // The signature of one frame alone would be a different one.
        let has_callers = cfg!(feature = "dwarf") && self.stack_trace;
        let signature = match has_callers && event.registers.is_some() {
            true => why::signature(event, &chosen, &verdict, &walk, &located),
            false => Signature::default(),
        };
        if has_callers && event.registers.is_some() {
            lost.extend(lost_values(event, &signature));
        }
        if walk.frames.len() > self.max_stack_depth {
            walk.frames.truncate(self.max_stack_depth);
            walk.stop = Stop::Depth;
        }
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
            gaps: walk.uncertain || gaps(event, &walk),
            stop: walk.stop,
        });
        if event.registers.is_none() {
            lost.push(Lost {
                detail: "registers",
                reason: "the kernel could not read them",
            });
        }
        if stack.is_some() && walk.uncertain && walk.stop == Stop::Outermost {
            lost.push(Lost {
                detail: "callers",
                reason: "not proven for each call: some may be missing, or left over",
            });
        }
        if let (Arch::Arm, Some(stack)) = (arch, &stack) {
            if !stack.complete() {
                lost.push(Lost {
                    detail: "stack",
                    reason: "this tool does not read .ARM.exidx",
                });
            }
        }
        if self.no_memory {
            lost.retain(|lost| lost.detail != "cmdline");
            lost.push(Lost {
                detail: "cmdline",
                reason: "left out because of --no-memory",
            });
        }
        lost.sort_unstable();
        lost.dedup();
        let maps = self.maps.then(|| nearby::mappings(event));
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
            fault_address: fault::address_of(event).or(verdict.address),
            access: fault::access(arch, event.code, event.siginfo, &event.trap)
                .filter(|_| event.knows_fault)
                .or(verdict.access),
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
            register_notes: why::notes(event, shown.as_ref(), &places, !self.no_memory),
            instruction_code: shown
                .filter(|_| !self.no_memory)
                .and_then(|registers| why::code(event, &registers, &chosen)),
            registers: event.registers.filter(|_| self.registers || self.memory),
            stack,
            ppid: event.ppid,
            uid: event.uid,
            exe: exe(event),
            cmdline: event.cmdline.clone().filter(|_| !self.no_memory),
            ns_pid: (event.ns_pid != pid).then_some(event.ns_pid),
            cgroup: event.cgroup.clone(),
            cause: verdict.cause,
            cause_text: verdict.text,
            signature: signature.signature,
            group: signature.group,
            maps,
            memory: self.memory.then(|| event.memory.clone()),
            repeats: None,
            deaths: None,
            suppressed: None,
            since_ms: None,
            lost,
            exit: None,
        }
    }

    /// Notes that a process has died of a handled fault; true when its death is known
    /// already.
    pub fn is_repeated_death(&mut self, host_pid: u32, start_ns: u64) -> bool {
        self.deaths.is_repeated(host_pid, start_ns)
    }

    /// The calls; without `-t` the crash's own frame alone.
    fn walk(&mut self, event: &Event) -> Walk {
        let Some(registers) = event.registers else {
            return Walk {
                frames: Vec::new(),
                stop: Stop::NoCaller(ProcessAddress(0)),
                uncertain: false,
                interrupted: None,
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
                uncertain: false,
                interrupted: None,
            };
        }
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        // Signatures and causes are the same whatever depth is shown.
        let depth = self.max_stack_depth.max(signature::FRAMES_WALKED);
        unwind::walk(&registers, &space, depth, &mut self.caches)
    }
}

/// Mappings from /proc, where the capture has none and the process is still there.
pub fn recover_mappings(event: &mut Event) {
    let is_lost = |lost: &&mut Lost| lost.detail == "mappings";
    if event.mappings.is_empty() && recover::mappings(event) {
        for lost in event.lost.iter_mut().filter(is_lost) {
            lost.reason = "not captured on this kernel; taken from /proc after the crash";
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

/// Why a crash with a stack has no signature or no group.
fn lost_values(event: &Event, values: &Signature) -> Option<Lost> {
    let detail = match (values.signature, values.group) {
        (None, _) => "signature",
        (_, None) => "group",
        _ => return None,
    };
    let reason = match event.exe {
        None => "the executable is not known",
        Some(_) => "a frame that it is made of may be missing, with its file or its mapping",
    };
    Some(Lost { detail, reason })
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
        address: fault::address(first.signal, first.code, first.siginfo)
            .filter(|_| first.knows_fault),
        pc: first.pc,
        access: fault::access(arch, first.code, first.siginfo, &first.trap)
            .filter(|_| first.knows_fault),
        age_ms: now_boot_ns.saturating_sub(first.boot_ns) / 1_000_000,
    }
}
