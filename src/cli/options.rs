//! The options, each once: names, value, range, default and what `--help` says.
//!
//! The parser finds an option here and asks it what its value must be; `help_text.rs`
//! renders `--help` from here; tests/docs.rs compares the manual and the README with it. What an
//! option does is in the parser, by its [`Key`].

use lexopt::Arg;

use crate::config::default;

/// Which option it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Append,
    Btf,
    By,
    Capture,
    Check,
    Core,
    CoreKeep,
    CoreMaxSize,
    Count,
    DebugDir,
    Debuginfod,
    Duration,
    FatalOnly,
    File,
    Follow,
    Fold,
    FoldHandled,
    Format,
    Help,
    Json,
    Last,
    Maps,
    MaxPerMinute,
    MaxStackDepth,
    Memory,
    MemoryLimit,
    NoMemory,
    Output,
    PerDay,
    Pid,
    ProcessName,
    Registers,
    ReportTime,
    RingBuffer,
    Rotate,
    Signals,
    Since,
    ShowSignature,
    StackSnapshot,
    StackTrace,
    Stats,
    StatsInterval,
    SymbolCacheLimit,
    Sysroot,
    ThreadSnapshot,
    Threads,
    Verbose,
    VerboseNames,
    Version,
}

/// What is given with an option: its name in the help text, and what it must be, in the
/// words of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    /// A whole number within these limits.
    Number(&'static str, &'static str, u64, u64),
    /// The same, which may be left out: then it is the last of these.
    Optional(&'static str, &'static str, u64, u64, u64),
    Text(&'static str, &'static str),
}

/// What holds if the option is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing, or nothing that has to be said.
    None,
    Number(u64),
    Text(&'static str),
}

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    pub key: Key,
    pub short: Option<char>,
    pub long: &'static str,
    pub value: Value,
    pub default: Default,
    /// Lines. `{range}` is replaced with the limits of a number, and `[]` with the
    /// default, which otherwise has a column of its own.
    pub help: &'static str,
}

/// Options under a heading.
pub type Group = (&'static str, &'static [Opt]);

/// The name that `--capture` had.
const ALIAS: (&str, &str) = ("force-rung", "capture");

/// `PID_MAX_LIMIT` of include/linux/threads.h, 64-bit.
const PID_MAX: u64 = 4 << 20;
const DAY_S: u64 = 86_400;
pub(super) const FILE: &str = "the path of a file";
pub(super) const DIRECTORY: &str = "the path of a directory";
const SECONDS: &str = "a number of seconds";

/// Without a value.
pub(super) const fn flag(
    key: Key,
    short: Option<char>,
    long: &'static str,
    help: &'static str,
) -> Opt {
    option(key, short, long, Value::None, Default::None, help)
}

pub(super) const fn option(
    key: Key,
    short: Option<char>,
    long: &'static str,
    value: Value,
    default: Default,
    help: &'static str,
) -> Opt {
    Opt {
        key,
        short,
        long,
        value,
        default,
        help,
    }
}

pub(super) const HELP: Opt = flag(Key::Help, Some('h'), "help", "print this text");

pub(super) const JSON: Opt = flag(
    Key::Json,
    None,
    "json",
    "print one JSON object on each line",
);

pub(super) const REGISTERS: Opt = flag(
    Key::Registers,
    Some('r'),
    "registers",
    "registers, what they point at, and the code",
);

pub(super) const VERBOSE_NAMES: Opt = flag(
    Key::VerboseNames,
    None,
    "verbose-names",
    "C++ functions with their parameters",
);

/// Of monitoring, and of `--check`.
pub static MONITORING: &[Group] = &[
    ("Which crashes", WHICH),
    ("What a report holds", CONTENTS),
    ("How often a crash is reported", HOW_OFTEN),
    ("Where reports go", OUTPUT),
    ("Statistics and limits", LIMITS),
    ("Others", OTHERS),
];

static WHICH: &[Opt] = &[
    option(
        Key::Duration,
        Some('d'),
        "duration",
        Value::Text("SECONDS", "a whole number of seconds (0 = until a signal)"),
        Default::Number(0),
        "stop after this time; 0 = never",
    ),
    option(
        Key::Count,
        None,
        "count",
        Value::Number("N", "a number of reports", 1, 1_000_000),
        Default::None,
        "stop after N reports",
    ),
    option(
        Key::Pid,
        Some('p'),
        "pid",
        Value::Number("PID", "a process id", 1, PID_MAX),
        Default::None,
        "only this process; may be given more than once.\n\
         Ends when all of them have ended",
    ),
    option(
        Key::ProcessName,
        Some('n'),
        "process-name",
        Value::Text("TEXT", "1 to 64 bytes of a process name"),
        Default::None,
        "only if the name of the process, the thread or\n\
         the executable contains TEXT",
    ),
    flag(
        Key::FatalOnly,
        None,
        "fatal-only",
        "leave out faults that a handler takes",
    ),
    option(
        Key::Signals,
        None,
        "signals",
        Value::Text("LIST", "names such as SEGV,BUS,ABRT, or all"),
        Default::Text("SEGV"),
        "of SEGV,BUS,ILL,FPE,ABRT,TRAP,SYS, or all",
    ),
];

static CONTENTS: &[Opt] = &[
    REGISTERS,
    flag(
        Key::StackTrace,
        Some('t'),
        "stack-trace",
        "the calls that led to the fault",
    ),
    option(
        Key::MaxStackDepth,
        None,
        "max-stack-depth",
        Value::Number("N", "a number of frames", 1, 1024),
        Default::Number(default::MAX_STACK_DEPTH),
        "at most N calls, {range}",
    ),
    VERBOSE_NAMES,
    option(
        Key::Threads,
        None,
        "threads",
        Value::Optional("[=N]", "a number of threads", 1, 1024, default::THREADS),
        Default::None,
        "what up to N other threads do; with -t their\n\
         calls. N is {range}, or 64",
    ),
    flag(
        Key::Memory,
        None,
        "memory",
        "128 bytes around each register that points to\n\
         memory, and around the stack pointer",
    ),
    flag(
        Key::Maps,
        None,
        "maps",
        "the mappings next to the fault, the instruction\n\
         and the stack pointer",
    ),
    flag(
        Key::NoMemory,
        None,
        "no-memory",
        "nothing that the process had in its memory: no\n\
         command line, text, stack or code bytes",
    ),
];

static HOW_OFTEN: &[Opt] = &[
    option(
        Key::Fold,
        None,
        "fold",
        Value::Number("SECONDS", SECONDS, 0, DAY_S),
        Default::None,
        "equal crashes once in this time, then how many",
    ),
    option(
        Key::FoldHandled,
        None,
        "fold-handled",
        Value::Number("SECONDS", SECONDS, 0, DAY_S),
        Default::Number(default::FOLD_HANDLED_S),
        "the same for faults that a handler takes; 0\n\
         reports every one",
    ),
    option(
        Key::MaxPerMinute,
        None,
        "max-per-minute",
        Value::Number("N", "a number of reports", 1, 1_000_000),
        Default::None,
        "at most N reports of one executable, then how\n\
         many more",
    ),
];

static OUTPUT: &[Opt] = &[
    option(
        Key::Output,
        Some('o'),
        "output",
        Value::Text("FILE", FILE),
        Default::None,
        "to FILE; a new one gets mode 0600. SIGHUP opens\n\
         it again, for log rotation. May be given more\n\
         than once; json:FILE or text:FILE has a format",
    ),
    flag(
        Key::Append,
        Some('a'),
        "append",
        "keep what FILE already holds",
    ),
    option(
        Key::Rotate,
        None,
        "rotate",
        Value::Text(
            "SIZE",
            "a size such as 500K, 10M or 1G, and how many files to keep",
        ),
        Default::None,
        "put FILE aside as FILE.1 before it has more than\n\
         SIZE (500K, 10M, 1G); 10M,3 keeps 3 of them",
    ),
    option(
        Key::Format,
        None,
        "format",
        Value::Text("text|json", "text or json"),
        Default::Text("text"),
        "json: one object on each line",
    ),
    option(
        Key::Core,
        None,
        "core",
        Value::Text("DIR", DIRECTORY),
        Default::None,
        "a small core file in DIR for each crash, for gdb",
    ),
    option(
        Key::CoreKeep,
        None,
        "core-keep",
        Value::Number("N", "a number of files", 1, 1_000_000),
        Default::None,
        "keep the newest N of them",
    ),
    option(
        Key::CoreMaxSize,
        None,
        "core-max-size",
        Value::Number("MB", "a number of MB", 1, 1 << 20),
        Default::None,
        "keep as many of them as fit into this",
    ),
];

static LIMITS: &[Opt] = &[
    flag(
        Key::Stats,
        None,
        "stats",
        "print statistics at intervals and at the end",
    ),
    option(
        Key::StatsInterval,
        None,
        "stats-interval",
        Value::Number("SECONDS", SECONDS, 1, DAY_S),
        Default::Number(default::STATS_INTERVAL_S),
        "the interval",
    ),
    option(
        Key::SymbolCacheLimit,
        None,
        "symbol-cache-limit",
        Value::Number("N", "a number of symbols", 1, 10_000_000),
        Default::Number(default::SYMBOL_CACHE_LIMIT),
        "at most N symbols in memory",
    ),
    option(
        Key::MemoryLimit,
        None,
        "memory-limit",
        Value::Number("MB", "a number of MB", 1, 1 << 20),
        Default::Number(default::MEMORY_LIMIT_MB),
        "at most this much memory",
    ),
    // From the largest page that a kernel is built with up to 1 GB.
    option(
        Key::RingBuffer,
        None,
        "ring-buffer",
        Value::Number("KB", "a size in KB, a power of two", 64, 1 << 20),
        Default::Text("256, with -t or --core 4096"),
        "between kernel and tool, a power of two
                   []",
    ),
    option(
        Key::StackSnapshot,
        None,
        "stack-snapshot",
        Value::Number("KB", "a size in KB", 4, 512),
        Default::Number(default::STACK_SNAPSHOT_KB),
        "of each stack with -t, {range}",
    ),
    option(
        Key::ThreadSnapshot,
        None,
        "thread-snapshot",
        Value::Number("KB", "a size in KB", 1, 64),
        Default::Number(default::THREAD_SNAPSHOT_KB),
        "of each other thread's stack, {range}",
    ),
    option(
        Key::ReportTime,
        None,
        "report-time",
        Value::Number("MS", "a number of milliseconds", 10, 60_000),
        Default::Number(default::REPORT_TIME_MS),
        "of a processor for a report",
    ),
];

static OTHERS: &[Opt] = &[
    option(
        Key::DebugDir,
        None,
        "debug-dir",
        Value::Text("DIR", DIRECTORY),
        Default::Text(default::DEBUG_DIR),
        "look for debug files in DIR instead of\n\
         []; may be given more than once",
    ),
    option(
        Key::Btf,
        None,
        "btf",
        Value::Text("FILE", FILE),
        Default::None,
        "type information of the running kernel, if the\n\
         kernel itself has none",
    ),
    option(
        Key::Capture,
        None,
        "capture",
        Value::Text("METHOD", "auto, ring, chain, tracepoint, measured or perf"),
        Default::Text("auto"),
        "ring (Linux 5.17), chain (4.17), tracepoint\n\
         (4.15), perf (no BPF); measured: ignore the\n\
         kernel's type information",
    ),
    flag(
        Key::Check,
        None,
        "check",
        "print what this host offers and what reports will\n\
         lack, then end: 0 if monitoring works, else 3\n\
         or 4",
    ),
    flag(
        Key::Verbose,
        Some('v'),
        "verbose",
        "print what the tool does at start",
    ),
    HELP,
    flag(Key::Version, Some('V'), "version", "print the version"),
];

/// The option that an argument names.
pub(super) fn find(groups: &'static [Group], arg: &Arg<'_>) -> Option<&'static Opt> {
    let is_named = |option: &&Opt| match arg {
        Arg::Short(short) => option.short == Some(*short),
        Arg::Long(long) if *long == ALIAS.0 => option.long == ALIAS.1,
        Arg::Long(long) => option.long == *long,
        Arg::Value(_) => false,
    };
    groups
        .iter()
        .flat_map(|(_, options)| *options)
        .find(is_named)
}

impl Opt {
    /// The value's name, if it takes one; with what stands before it if it may be left out.
    #[must_use]
    pub fn word(&self) -> Option<&'static str> {
        match self.value {
            Value::None => None,
            Value::Number(word, ..) | Value::Optional(word, ..) | Value::Text(word, _) => {
                Some(word)
            }
        }
    }

    /// What its value must be.
    pub(super) fn expected(&self) -> String {
        match self.value {
            Value::None => String::new(),
            Value::Number(_, what, from, to) | Value::Optional(_, what, from, to, _) => {
                format!("{what} from {from} to {to}")
            }
            Value::Text(_, what) => what.to_string(),
        }
    }

    /// The default in words; empty if there is none.
    #[must_use]
    pub fn shown_default(&self) -> String {
        match self.default {
            Default::None => String::new(),
            Default::Number(number) => number.to_string(),
            Default::Text(text) => text.to_string(),
        }
    }
}
