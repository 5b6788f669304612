//! The command line: arguments in, [`Config`] out, no side effects.

use std::path::PathBuf;
use std::time::Duration;

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
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
    /// `--btf FILE`: type information of the running kernel.
    pub btf: Option<PathBuf>,
    /// `--stack-snapshot KB`: bytes; the main stack window's budget with `-t`.
    pub stack_snapshot_bytes: u32,
}
