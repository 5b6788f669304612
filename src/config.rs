//! What the user asked for, validated: the options of monitoring, and the capture method.
//!
//! The argument parser (`cli`) fills a [`Config`]. Only `app` sees it besides: [`Config::start`],
//! [`Config::monitor`] and [`Config::cores`] give each component what it needs and no more. What follows from several
//! options, such as the size of a ring, is decided here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crash::signals::{signal::SIGSEGV, signal_name, CRASH_SIGNALS};

/// The ring without `-t`.
pub const RING_BYTES: u32 = 256 << 10;

/// The ring with `-t`: records with stacks are many times larger.
pub const RING_BYTES_WITH_STACKS: u32 = 4 << 20;

/// What the tool itself may need in addition to the ring.
pub const MEMORY_BESIDE_RING_MB: u64 = 4;

/// What holds without an option, in the units of the command line.
pub mod default {
    pub const MAX_STACK_DEPTH: u64 = 16;
    /// Of a report that a core file gives.
    pub const CORE_STACK_DEPTH: u64 = 64;
    pub const STATS_INTERVAL_S: u64 = 5;
    pub const SYMBOL_CACHE_LIMIT: u64 = 1000;
    pub const MEMORY_LIMIT_MB: u64 = 100;
    pub const STACK_SNAPSHOT_KB: u64 = 32;
    /// Other threads with `--threads` alone.
    pub const THREADS: u64 = 64;
    pub const THREAD_SNAPSHOT_KB: u64 = 8;
    pub const REPORT_TIME_MS: u64 = 100;
    /// Files of reports that are put aside.
    pub const ROTATED: u32 = 5;
    pub const FOLD_HANDLED_S: u64 = 60;
    /// Where distributions put separate debug files.
    pub const DEBUG_DIR: &str = "/usr/lib/debug";
}

/// How C++ names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CppNames {
    #[default]
    Short,
    /// `--verbose-names`: with the parameters of functions, and what they return.
    Whole,
}

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// A capture method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One program and a ring buffer: from 5.17 on.
    Ring,
    /// A chain of programs and one ring a CPU: from 4.17 on.
    Chain,
    /// The same, at the tracepoint that perf events know: from 4.15 on.
    Tracepoint,
    /// Perf events alone, without BPF.
    Perf,
}

impl Method {
    /// As `--capture` takes it and `-v` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Method::Ring => "ring",
            Method::Chain => "chain",
            Method::Tracepoint => "tracepoint",
            Method::Perf => "perf",
        }
    }
}

/// For the start of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartConfig {
    /// `None`: the best that works.
    pub method: Option<Method>,
    /// A file with type information of the running kernel.
    pub btf: Option<PathBuf>,
    /// As if the kernel had no type information.
    pub measure_types: bool,
    pub capture: CaptureConfig,
}

/// For the capture methods: which deliveries are wanted, and what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Bit N stands for signal N.
    pub signals: u64,
    pub pid: Option<u32>,
    /// Only descendants of the tool.
    pub only_below: bool,
    /// What the name of a process contains.
    pub name: Option<Vec<u8>>,
    /// How long the programs only count handled faults of one site, after the first.
    pub fold_handled: Option<Duration>,
    /// Mappings that hold no code, too.
    pub all_mappings: bool,
    /// What registers point to.
    pub memory: bool,
    /// Of the main stack; 0 for none.
    pub stack_bytes: u32,
    /// At most so many other threads; 0 for none.
    pub threads: u32,
    /// Of the stack of each of them; 0 for none.
    pub thread_stack_bytes: u32,
    /// A power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// A method that fares better with more may take more: the user has not said.
    pub may_enlarge_rings: bool,
    pub memory_limit_bytes: u64,
    pub verbose: bool,
}

/// For the analysis of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnalysisConfig {
    pub registers: bool,
    pub stack_trace: bool,
    pub memory: bool,
    pub maps: bool,
    pub no_memory: bool,
    /// Frames.
    pub max_stack_depth: usize,
    pub stack_snapshot_bytes: u32,
    /// On a processor, for one report.
    pub report_time: Duration,
    /// Entries.
    pub symbol_cache_limit: usize,
    /// Where separate debug files are looked for.
    pub debug_dirs: Vec<PathBuf>,
}

/// For what folds and limits reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatsConfig {
    pub fold: Option<Duration>,
    pub fold_handled: Option<Duration>,
    pub max_per_minute: Option<u32>,
    pub memory_limit_bytes: u64,
}

/// When a file of reports is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before it would have more.
    pub bytes: u64,
    /// How many of those put aside stay, at least one.
    pub keep: u32,
}

/// For core files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CoreConfig {
    pub directory: PathBuf,
    /// How many files are kept, and how many bytes all of them may have.
    pub keep_files: Option<u64>,
    pub keep_bytes: Option<u64>,
}

/// For the writers of reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// A section of its own.
    pub registers: bool,
    pub stack_trace: bool,
    pub cpp_names: CppNames,
    /// Lines of JSON are kept short, as only `-t` was asked for.
    pub is_short: bool,
    /// Reports go to standard output alone, whose reader may go away.
    pub is_stdout: bool,
}

/// For the loop around it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorConfig {
    pub duration: Option<Duration>,
    /// The end comes after so many reports.
    pub count: Option<u64>,
    /// How often statistics are printed, if they are.
    pub stats_interval: Option<Duration>,
    pub fatal_only: bool,
    /// Of these processes alone, if there are any.
    pub pids: Vec<u32>,
    /// Of descendants of the tool alone.
    pub only_below: bool,
    pub memory_limit_bytes: u64,
    pub analysis: AnalysisConfig,
    pub repeats: RepeatsConfig,
    pub output: OutputConfig,
}

/// A value of `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// `None` is standard output.
    pub path: Option<PathBuf>,
    /// `None` is that of `--format`.
    pub format: Option<Format>,
}

/// What the user asked for, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `-d`: `None` runs until a signal ends it.
    pub duration: Option<Duration>,
    /// `--count N`
    pub count: Option<u64>,
    /// `-p`, each of them, as the tool's own pid namespace numbers it.
    pub pids: Vec<u32>,
    /// `-- COMMAND ARG…`, if there is one.
    pub command: Vec<OsString>,
    /// `-n`: 1 to 64 bytes.
    pub name: Option<Vec<u8>>,
    /// `-r`
    pub registers: bool,
    /// `-t`
    pub stack_trace: bool,
    /// `--verbose-names`
    pub cpp_names: CppNames,
    /// `--max-stack-depth`: 1 to 1024.
    pub max_stack_depth: usize,
    /// `-o`, each of them; none is standard output.
    pub outputs: Vec<Output>,
    /// `-a`
    pub append: bool,
    /// `--rotate SIZE`
    pub rotation: Option<Rotation>,
    pub format: Format,
    pub stats: bool,
    pub stats_interval: Duration,
    /// Entries.
    pub symbol_cache_limit: usize,
    /// Bytes.
    pub memory_limit_bytes: u64,
    pub verbose: bool,
    /// `--fatal-only`
    pub fatal_only: bool,
    /// `--ring-buffer KB`: bytes, a power of two and a multiple of the page size.
    pub ring_bytes: Option<u32>,
    /// `--btf FILE`: type information of the running kernel.
    pub btf: Option<PathBuf>,
    /// `--capture measured`: as if the kernel had no type information.
    pub measure_types: bool,
    /// `--stack-snapshot KB`: bytes; the main stack window's budget with `-t`.
    pub stack_snapshot_bytes: u32,
    /// `--threads[=N]`: at most so many other threads.
    pub threads: Option<u32>,
    /// `--thread-snapshot KB`: bytes; of the stack of each of them with `-t`.
    pub thread_snapshot_bytes: u32,
    /// `--report-time MS`: on a processor, for one report.
    pub report_time: Duration,
    /// `--debug-dir DIR`, each of them, in place of the usual one.
    pub debug_dirs: Vec<PathBuf>,
    /// `--signals LIST`: bit N stands for signal N.
    pub signals: u64,
    /// `--memory`
    pub memory: bool,
    /// `--maps`
    pub maps: bool,
    /// `--no-memory`: no content of the crashed process's memory leaves the tool.
    pub no_memory: bool,
    /// `--fold SECONDS`: `None` reports every crash.
    pub fold: Option<Duration>,
    /// `--fold-handled SECONDS`: `None` reports every fault that a handler takes.
    pub fold_handled: Option<Duration>,
    /// `--max-per-minute N`: reports of one executable.
    pub max_per_minute: Option<u32>,
    /// `--core DIR`
    pub core_directory: Option<PathBuf>,
    /// `--core-keep N`
    pub core_keep_files: Option<u64>,
    /// `--core-max-size MB`: bytes.
    pub core_keep_bytes: Option<u64>,
    /// `--capture NAME`: this method instead of the best one.
    pub method: Option<Method>,
}

impl Config {
    #[must_use]
    pub fn start(&self) -> StartConfig {
        StartConfig {
            method: self.method,
            btf: self.btf.clone(),
            measure_types: self.measure_types,
            capture: self.capture(),
        }
    }

    #[must_use]
    pub fn monitor(&self) -> MonitorConfig {
        MonitorConfig {
            duration: self.duration,
            count: self.count,
            stats_interval: self.stats.then_some(self.stats_interval),
            fatal_only: self.fatal_only,
            pids: self.pids.clone(),
            only_below: !self.command.is_empty(),
            memory_limit_bytes: self.memory_limit_bytes,
            analysis: self.analysis(),
            repeats: RepeatsConfig {
                fold: self.fold,
                fold_handled: self.fold_handled,
                max_per_minute: self.max_per_minute,
                memory_limit_bytes: self.memory_limit_bytes,
            },
            output: OutputConfig {
                registers: self.registers,
                stack_trace: self.stack_trace,
                cpp_names: self.cpp_names,
                is_short: self.is_brief(),
                is_stdout: self.outputs().iter().all(|(path, _)| path.is_none()),
            },
        }
    }

    /// Each output, `None` for standard output, and its format.
    #[must_use]
    pub fn outputs(&self) -> Vec<(Option<&Path>, Format)> {
        if self.outputs.is_empty() {
            return vec![(None, self.format)];
        }
        let output = |o: &'_ Output| o.format.unwrap_or(self.format);
        let outputs = self.outputs.iter();
        outputs.map(|o| (o.path.as_deref(), output(o))).collect()
    }

    /// Whether reports go to a file with a name.
    #[must_use]
    pub fn writes_files(&self) -> bool {
        self.outputs.iter().any(|output| output.path.is_some())
    }

    /// Whether no option asks for more than the usual number of calls.
    fn is_brief(&self) -> bool {
        let more = self.registers || self.memory || self.maps || self.threads.is_some();
        !more && self.max_stack_depth <= default::MAX_STACK_DEPTH as usize
    }

    fn capture(&self) -> CaptureConfig {
        // With --fatal-only a report is wanted of those alone that a process dies of.
        const FATAL_ONLY: Duration = Duration::from_secs(60);
        let fold_fatal = self.fatal_only.then_some(FATAL_ONLY);
        let wants_stacks = self.stack_trace || self.writes_cores();
        CaptureConfig {
            signals: self.signals,
            // Of several the tool itself chooses.
            pid: match *self.pids {
                [pid] => Some(pid),
                _ => None,
            },
            only_below: !self.command.is_empty(),
            name: self.name.clone(),
            fold_handled: self.fold_handled.or(fold_fatal),
            all_mappings: self.registers || self.maps || self.writes_cores(),
            memory: self.memory || self.writes_cores(),
            stack_bytes: match wants_stacks {
                true => self.stack_snapshot_bytes,
                false => 0,
            },
            threads: self.threads.unwrap_or(0),
            thread_stack_bytes: match wants_stacks {
                true => self.thread_snapshot_bytes,
                false => 0,
            },
            ring_bytes: self.ring_bytes(),
            may_enlarge_rings: wants_stacks && self.ring_bytes.is_none(),
            memory_limit_bytes: self.memory_limit_bytes,
            verbose: self.verbose,
        }
    }

    fn analysis(&self) -> AnalysisConfig {
        AnalysisConfig {
            registers: self.registers,
            stack_trace: self.stack_trace,
            memory: self.memory,
            maps: self.maps,
            no_memory: self.no_memory,
            max_stack_depth: self.max_stack_depth,
            stack_snapshot_bytes: self.stack_snapshot_bytes,
            report_time: self.report_time,
            symbol_cache_limit: self.symbol_cache_limit,
            debug_dirs: match self.debug_dirs.is_empty() {
                true => vec![PathBuf::from(default::DEBUG_DIR)],
                false => self.debug_dirs.clone(),
            },
        }
    }

    /// Whether a core file is written for each fatal report.
    fn writes_cores(&self) -> bool {
        self.core_directory.is_some()
    }

    /// Where core files go, if they are wanted.
    #[must_use]
    pub fn cores(&self) -> Option<CoreConfig> {
        Some(CoreConfig {
            directory: self.core_directory.clone()?,
            keep_files: self.core_keep_files,
            keep_bytes: self.core_keep_bytes,
        })
    }

    /// As the user says, or as large as records with or without stacks need it.
    #[must_use]
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
            .unwrap_or(match self.stack_trace || self.writes_cores() {
                true => RING_BYTES_WITH_STACKS,
                false => RING_BYTES,
            })
    }

    /// What is reported, in words.
    #[must_use]
    pub fn monitored(&self) -> String {
        if self.signals == 1 << SIGSEGV {
            return "segmentation faults".into();
        }
        let watched = CRASH_SIGNALS
            .iter()
            .filter(|&number| self.signals & 1 << number != 0);
        let names: Vec<String> = watched.map(|&number| signal_name(number)).collect();
        names.join(", ")
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            duration: None,
            count: None,
            pids: Vec::new(),
            command: Vec::new(),
            name: None,
            registers: false,
            stack_trace: false,
            cpp_names: CppNames::Short,
            max_stack_depth: default::MAX_STACK_DEPTH as usize,
            outputs: Vec::new(),
            append: false,
            rotation: None,
            format: Format::Text,
            stats: false,
            stats_interval: Duration::from_secs(default::STATS_INTERVAL_S),
            symbol_cache_limit: default::SYMBOL_CACHE_LIMIT as usize,
            memory_limit_bytes: default::MEMORY_LIMIT_MB << 20,
            verbose: false,
            fatal_only: false,
            ring_bytes: None,
            btf: None,
            measure_types: false,
            stack_snapshot_bytes: (default::STACK_SNAPSHOT_KB as u32) << 10,
            threads: None,
            thread_snapshot_bytes: (default::THREAD_SNAPSHOT_KB as u32) << 10,
            report_time: Duration::from_millis(default::REPORT_TIME_MS),
            debug_dirs: Vec::new(),
            signals: 1 << SIGSEGV,
            memory: false,
            maps: false,
            no_memory: false,
            fold: None,
            fold_handled: Some(Duration::from_secs(default::FOLD_HANDLED_S)),
            max_per_minute: None,
            core_directory: None,
            core_keep_files: None,
            core_keep_bytes: None,
            method: None,
        }
    }
}

impl AnalysisConfig {
    /// For core files, at a desk.
    #[must_use]
    pub fn of_cores(registers: bool, max_stack_depth: usize, debug_dirs: Vec<PathBuf>) -> Self {
        // Nobody waits for other reports.
        const REPORT_TIME: Duration = Duration::from_secs(10);
        let config = Config {
            registers,
            stack_trace: true,
            max_stack_depth,
            debug_dirs,
            report_time: REPORT_TIME,
            ..Config::default()
        };
        config.analysis()
    }
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Config::default().capture()
    }
}
