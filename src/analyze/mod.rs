//! From a captured event to a report, in three stages:
//!
//! ```text
//! Event ──gather──▶ Facts ──judge──▶ Judged
//!                      └───────┬────────┘
//!                           assemble──▶ Report
//! ```
//!
//! `gather` alone reads files: it walks the calls, names the addresses, and infers
//! from the instruction what the capture method did not report. `judge` decides why the process
//! crashed and which crashes are equal. `assemble` puts both into the form of a report.
//!
//! Nothing here fails: a detail that cannot be found is left out and named in the
//! report's `lost`. What was read from files is kept for the next crash, within the
//! memory that the user allows.

mod assemble;
pub mod cause;
pub mod clock;
pub mod deaths;
mod gather;
mod judge;
mod locate;
pub mod located;
mod locks;
pub mod nearby;
mod objects;
pub mod space;
mod threads;

use std::rc::Rc;
use std::time::Duration;

use crate::analyze::clock::Clock;
use crate::analyze::deaths::RecentDeaths;
use crate::analyze::located::Namer;
use crate::base::allowance::{Allowance, Step};
use crate::base::budget::MemoryBudget;
use crate::config::AnalysisConfig;
use crate::crash::event::{Disposition, Event, Lost};
use crate::modules::{recover, Limits, Modules};
use crate::report::Report;
use crate::symbols::elf::DebugDirs;
use crate::sys::file::NO_ANSWER;
use crate::sys::opener;
use crate::sys::time::{limit_here_ns, CLOCKS};
use crate::unwind::Caches;

/// Rules of call-frame information kept; each takes some hundred bytes.
const MAX_RULES: usize = 4096;

/// What the user wants to see in reports.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stack_trace: bool,
    registers: bool,
    no_memory: bool,
    maps: bool,
    memory: bool,
    max_stack_depth: usize,
}

impl Wanted {
    fn of(config: &AnalysisConfig) -> Wanted {
        Wanted {
            stack_trace: config.stack_trace,
            registers: config.registers,
            no_memory: config.no_memory,
            maps: config.maps,
            memory: config.memory,
            max_stack_depth: config.max_stack_depth,
        }
    }
}

/// What turns events into reports, and remembers.
#[derive(Debug)]
pub struct Analyzer {
    wanted: Wanted,
    /// Size of a stack's first window.
    window_bytes: u32,
    clock: Clock,
    deaths: RecentDeaths,
    budget: Rc<MemoryBudget>,
    /// Of the report that is being made.
    allowance: Rc<Allowance>,
    modules: Modules,
    namer: Namer,
    caches: Caches,
}

/// Counters for the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Figures {
    pub symbol_hits: u64,
    pub symbol_misses: u64,
    pub symbol_entries: u64,
    /// Names and files that left the caches for lack of room.
    pub evicted: u64,
    /// Steps on files that took too long, or would have.
    pub lookups_given_up: u64,
    /// The memory of all caches.
    pub bytes: u64,
}

impl Analyzer {
    /// With `cache_bytes` for everything that it remembers.
    #[must_use]
    pub fn new(config: &AnalysisConfig, cache_bytes: u64) -> Self {
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let rule_bytes = (cache_bytes / 4).min(4 << 20);
        let budget = Rc::new(MemoryBudget::new(cache_bytes - rule_bytes));
        let limit_ns = limit_here_ns(config.report_time);
        let allowance = Rc::new(Allowance::new(CLOCKS, limit_ns));
        let limits = Limits {
            block_bytes: (cache_bytes / 2).min(4 << 20),
            debug_dirs: DebugDirs::new(config.debug_dirs.clone(), &|name| std::env::var_os(name)),
            ..Limits::default()
        };
        Analyzer {
            wanted: Wanted::of(config),
            window_bytes: config.stack_snapshot_bytes,
            clock: Clock::new(),
            deaths: RecentDeaths::default(),
            modules: Modules::new(limits, budget.clone(), allowance.clone()),
            namer: Namer::new(config.symbol_cache_limit, &budget),
            budget,
            caches: Caches::within(MAX_RULES, rule_bytes, allowance.clone()),
            allowance,
        }
    }

    /// From here on `work` is done every now and then while a report is made; its time is not the
    /// report's.
    pub fn meanwhile(&self, work: Box<dyn Fn()>) {
        self.allowance.meanwhile(work);
    }

    /// Computes times again for kernels that do not record the wall-clock time.
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
            lookups_given_up: self.allowance.cut_count(),
            bytes: (self.budget.used() + self.caches.bytes()) as u64,
        }
    }

    /// Everything that can be said of this crash.
    pub fn report(&mut self, event: &Event) -> Report {
        self.allowance.begin();
        opener::begin(event.uid);
        let facts = self.gather(event);
        let judged = judge::judge(&facts, self.wanted);
        let time = self.clock.of(event);
        let same_death = event.disposition == Disposition::Fatal
            && self.deaths.is_repeated(event.host_pid, event.start_ns);
        let mut report = Report {
            same_death,
            ..assemble::assemble(facts, judged, self.wanted, time)
        };
        self.add_threads(event, &mut report);
        let is_said = |lost: &Lost| lost.reason == NO_ANSWER;
        if opener::is_silent() && !report.lost.iter().any(is_said) {
            report.lost.push(Lost {
                detail: "symbols",
                reason: NO_ANSWER,
            });
        }
        report
    }

    /// Whether frames or names may be missing for want of time, or of an answer.
    fn is_cut(&self) -> bool {
        self.allowance.cuts().any(|step| step != Step::Lines) || opener::is_silent()
    }

    /// Notes that a process has died of a handled fault; true when its death is known
    /// already.
    pub fn is_repeated_death(&mut self, host_pid: u32, start_ns: u64) -> bool {
        self.deaths.is_repeated(host_pid, start_ns)
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
