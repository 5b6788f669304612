//! What the user asked for, validated: the options of monitoring, and the capture method.
//!
//! The argument parser (`cli`) makes it; each room takes of it what it needs.

use std::path::PathBuf;
use std::time::Duration;

use crate::crash::signals::{signal::SIGSEGV, signal_name, CRASH_SIGNALS};

/// The ring without `-t`, as the manual says.
pub const RING_BYTES: u32 = 256 << 10;

/// The ring with `-t`: records with stacks are many times larger.
pub const RING_BYTES_WITH_STACKS: u32 = 4 << 20;

/// What the program itself may need beside the ring.
pub const MEMORY_BESIDE_RING_MB: u64 = 4;

/// Where distributions put separate debug files.
const DEBUG_DIR: &str = "/usr/lib/debug";

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// A way to capture, by what the kernel has to offer for it.
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

/// What the user asked for, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `-d`: `None` runs until a signal ends it.
    pub duration: Option<Duration>,
    /// `-p`, as the tool's own pid namespace numbers it.
    pub pid: Option<u32>,
    /// `-n`: 1 to 64 bytes.
    pub name: Option<Vec<u8>>,
    /// `-r`
    pub registers: bool,
    /// `-t`
    pub stack_trace: bool,
    /// `--max-stack-depth`: 1 to 1024.
    pub max_stack_depth: usize,
    /// `-o`
    pub output: Option<PathBuf>,
    /// `-a`
    pub append: bool,
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
    pub ring_bytes: u32,
    /// The user has said so: a method that fares better with more takes no more.
    pub is_ring_chosen: bool,
    /// `--btf FILE`: type information of the running kernel.
    pub btf: Option<PathBuf>,
    /// `--capture measured`: as if the kernel had no type information.
    pub measure_types: bool,
    /// `--stack-snapshot KB`: bytes; the main stack window's budget with `-t`.
    pub stack_snapshot_bytes: u32,
    /// `--debug-dir DIR`, each of them: where separate debug files are looked for.
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
    /// `--capture NAME`: not what this kernel can do best, but this.
    pub method: Option<Method>,
}

impl Config {
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
    /// The manual's defaults.
    fn default() -> Self {
        Config {
            duration: None,
            pid: None,
            name: None,
            registers: false,
            stack_trace: false,
            max_stack_depth: 16,
            output: None,
            append: false,
            format: Format::Text,
            stats: false,
            stats_interval: Duration::from_secs(5),
            symbol_cache_limit: 1000,
            memory_limit_bytes: 100 << 20,
            verbose: false,
            fatal_only: false,
            ring_bytes: RING_BYTES,
            is_ring_chosen: false,
            btf: None,
            measure_types: false,
            stack_snapshot_bytes: 32 << 10,
            debug_dirs: vec![PathBuf::from(DEBUG_DIR)],
            signals: 1 << SIGSEGV,
            memory: false,
            maps: false,
            no_memory: false,
            fold: None,
            fold_handled: Some(Duration::from_secs(60)),
            max_per_minute: None,
            method: None,
        }
    }
}
