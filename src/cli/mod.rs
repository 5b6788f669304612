//! The command line: arguments in, [`Command`] out, no side effects.
//!
//! Every value is checked here, so that the rest of the program meets only what
//! makes sense. A wrong one gets one line: the option, what was given, what was
//! expected. Of an option that is given twice the last counts,
//! except `--debug-dir`, of which all do. `-a` without
//! `-o` is accepted: standard output is never truncated anyway. `-o -` is
//! standard output.
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

pub mod desk;

use crate::base::error::{Error, Result};
use crate::config::{Config, Format, Method, MEMORY_BESIDE_RING_MB};
use crate::crash::signals::{short_name, CRASH_SIGNALS};

/// What `--help` prints.
pub const HELP: &str = include_str!("help.txt");

/// What `--version` prints.
pub const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Longest `-n`; a name in the kernel has 15 bytes, an executable's may be longer.
const NAME_MAX_BYTES: usize = 64;
/// `PID_MAX_LIMIT` of include/linux/threads.h, 64-bit.
const PID_MAX: u64 = 4 << 20;
/// Longer durations (136 years) are cut to this, so that sums of times cannot overflow.
const DURATION_MAX_S: u64 = u32::MAX as u64;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Run(Box<Config>),
    /// `--check`: say what would be done, and whether it works.
    Check(Box<Config>),
    /// A subcommand.
    Desk(desk::Task),
    /// What `--help` of a subcommand prints.
    DeskHelp(&'static str),
    Help,
    Version,
}

/// Reads the arguments that follow the program's name.
pub fn parse<I>(args: I) -> Result<Command>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(args);
    let mut config = Config::default();
    let mut is_check = false;
    let mut count = 0;
    while let Some(arg) = parser.next().map_err(unexpected)? {
        count += 1;
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Short('r') | Arg::Long("registers") => config.registers = true,
            Arg::Short('t') | Arg::Long("stack-trace") => config.stack_trace = true,
            Arg::Short('a') | Arg::Long("append") => config.append = true,
            Arg::Short('v') | Arg::Long("verbose") => config.verbose = true,
            Arg::Long("check") => is_check = true,
            Arg::Long("stats") => config.stats = true,
            Arg::Long("fatal-only") => config.fatal_only = true,
            Arg::Short('d') | Arg::Long("duration") => {
                config.duration = duration(&value(&mut parser, "--duration", DURATION)?)?;
            }
            Arg::Short('p') | Arg::Long("pid") => {
                config.pid =
                    Some(number(&mut parser, "--pid", "a process id", 1..=PID_MAX)? as u32);
            }
            Arg::Short('n') | Arg::Long("process-name") => {
                config.name = Some(name(value(&mut parser, "--process-name", NAME)?)?);
            }
            Arg::Long("max-stack-depth") => {
                config.max_stack_depth = number(
                    &mut parser,
                    "--max-stack-depth",
                    "a number of frames",
                    1..=1024,
                )? as usize;
            }
            Arg::Short('o') | Arg::Long("output") => {
                let given = value(&mut parser, "--output", FILE)?;
                config.output = if given == "-" {
                    None
                } else {
                    Some(path("--output", given, FILE)?)
                };
            }
            Arg::Long("format") => {
                config.format = format(&value(&mut parser, "--format", FORMAT)?)?;
            }
            Arg::Long("stats-interval") => {
                let what = "a number of seconds";
                let seconds = number(&mut parser, "--stats-interval", what, 1..=86_400)?;
                config.stats_interval = Duration::from_secs(seconds);
            }
            Arg::Long("symbol-cache-limit") => {
                let what = "a number of symbols";
                config.symbol_cache_limit =
                    number(&mut parser, "--symbol-cache-limit", what, 1..=10_000_000)? as usize;
            }
            Arg::Long("memory-limit") => {
                // What the ring needs of it is compared when both are known.
                let limit_mb =
                    number(&mut parser, "--memory-limit", "a number of MB", 1..=1 << 20)?;
                config.memory_limit_bytes = limit_mb << 20;
            }
            Arg::Long("ring-buffer") => {
                config.ring_bytes = Some(ring(&value(&mut parser, "--ring-buffer", RING)?)?);
            }
            Arg::Long("btf") => {
                let given = value(&mut parser, "--btf", FILE)?;
                config.btf = Some(path("--btf", given, FILE)?);
            }
            Arg::Long("debug-dir") => {
                let given = value(&mut parser, "--debug-dir", DIRECTORY)?;
                let dirs = &mut config.debug_dirs;
                dirs.push(path("--debug-dir", given, DIRECTORY)?);
            }
            Arg::Long("stack-snapshot") => {
                let size_kb = number(&mut parser, "--stack-snapshot", "a size in KB", 4..=512)?;
                config.stack_snapshot_bytes = (size_kb as u32) << 10;
            }
            Arg::Long("signals") => {
                config.signals = signals(&value(&mut parser, "--signals", SIGNALS)?)?;
            }
            Arg::Long("memory") => config.memory = true,
            Arg::Long("maps") => config.maps = true,
            Arg::Long("no-memory") => config.no_memory = true,
            Arg::Long("fold") => config.fold = window(&mut parser, "--fold")?,
            Arg::Long("fold-handled") => {
                config.fold_handled = window(&mut parser, "--fold-handled")?;
            }
            Arg::Long("max-per-minute") => {
                let what = "a number of reports";
                let reports = number(&mut parser, "--max-per-minute", what, 1..=1_000_000)?;
                config.max_per_minute = Some(reports as u32);
            }
            Arg::Long("capture" | "force-rung") => {
                method(&mut config, &value(&mut parser, "--capture", METHOD)?)?;
            }
            Arg::Value(word) => {
                if count == 1 {
                    if let Some(command) = desk::parse(&word, &mut parser)? {
                        return Ok(command);
                    }
                }
                return Err(usage(format!(
                    "unexpected argument '{}': expected options, or symbolize or summarize as the first word; try --help",
                    shown(&word)
                )));
            }
            other => return Err(unexpected(other.unexpected())),
        }
    }
    check_memory(&config)?;
    if config.memory && config.no_memory {
        return Err(usage("--memory and --no-memory cannot be combined".into()));
    }
    let config = Box::new(config);
    Ok(if is_check {
        Command::Check(config)
    } else {
        Command::Run(config)
    })
}

// What each kind of value should be, in the words of a message.
const DURATION: &str = "a whole number of seconds (0 = until a signal)";
const NAME: &str = "1 to 64 bytes of a process name";
const FILE: &str = "the path of a file";
const DIRECTORY: &str = "the path of a directory";
const FORMAT: &str = "text or json";
const SIGNALS: &str = "names such as SEGV,BUS,ABRT, or all";
const METHOD: &str = "auto, ring, chain, tracepoint, measured or perf";
const RING: &str = "a size in KB, a power of two from 64 to 1048576";

fn usage(message: String) -> Error {
    Error::usage(message)
}

/// The line for a value that is not what it should be.
fn wrong(option: &str, given: &OsStr, expected: &str) -> Error {
    usage(format!(
        "{option}: expected {expected}, not '{}'",
        shown(given)
    ))
}

/// An argument as a message may show it.
fn shown(given: &OsStr) -> String {
    given.to_string_lossy().escape_debug().to_string()
}

fn unexpected(error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedOption(option) => usage(format!(
            "unknown option '{}'; try --help",
            shown(OsStr::new(&option))
        )),
        lexopt::Error::UnexpectedValue { option, value } => usage(format!(
            "{option} takes no value, but got '{}'",
            shown(&value)
        )),
        other => usage(format!("{}; try --help", other.to_string().escape_debug())),
    }
}

fn value(parser: &mut lexopt::Parser, option: &str, expected: &str) -> Result<OsString> {
    parser
        .value()
        .map_err(|_| usage(format!("{option} needs a value: {expected}")))
}

/// A whole number, digits alone, in a range.
fn number(
    parser: &mut lexopt::Parser,
    option: &str,
    what: &str,
    range: RangeInclusive<u64>,
) -> Result<u64> {
    let expected = format!("{what} from {} to {}", range.start(), range.end());
    let given = value(parser, option, &expected)?;
    digits(&given)
        .filter(|number| range.contains(number))
        .ok_or_else(|| wrong(option, &given, &expected))
}

/// Decimal digits and nothing else: no sign, no space.
fn digits(given: &OsStr) -> Option<u64> {
    let text = given.to_str()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn duration(given: &OsStr) -> Result<Option<Duration>> {
    match digits(given) {
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds.min(DURATION_MAX_S)))),
        None => Err(wrong("--duration", given, DURATION)),
    }
}

fn name(given: OsString) -> Result<Vec<u8>> {
    let bytes = given.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_MAX_BYTES {
        return Err(wrong("--process-name", &given, NAME));
    }
    Ok(given.into_vec())
}

fn path(option: &str, given: OsString, expected: &str) -> Result<PathBuf> {
    if given.is_empty() {
        return Err(wrong(option, &given, expected));
    }
    Ok(PathBuf::from(given))
}

fn format(given: &OsStr) -> Result<Format> {
    match given.as_bytes() {
        b"text" => Ok(Format::Text),
        b"json" => Ok(Format::Json),
        _ => Err(wrong("--format", given, FORMAT)),
    }
}

/// A set of crash signals, with or without `SIG` before each, in any case.
fn signals(given: &OsStr) -> Result<u64> {
    let refused = || wrong("--signals", given, SIGNALS);
    let mut set = 0;
    for word in given.to_str().ok_or_else(refused)?.split(',') {
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let mut known = false;
        for number in CRASH_SIGNALS {
            if short_name(number) == Some(name) || name == "ALL" {
                set |= 1 << number;
                known = true;
            }
        }
        if !known {
            return Err(refused());
        }
    }
    Ok(set)
}

/// A window of whole seconds; 0 is none.
fn window(parser: &mut lexopt::Parser, option: &str) -> Result<Option<Duration>> {
    let what = "a number of seconds";
    let seconds = number(parser, option, what, 0..=86_400)?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// Where types come from and how a capture is made are two things: of each, the last counts.
fn method(config: &mut Config, given: &OsStr) -> Result<()> {
    match given.as_bytes() {
        b"auto" => (config.method, config.measure_types) = (None, false),
        b"measured" => config.measure_types = true,
        b"ring" => config.method = Some(Method::Ring),
        b"chain" | b"old" => config.method = Some(Method::Chain),
        b"tracepoint" => config.method = Some(Method::Tracepoint),
        b"perf" => config.method = Some(Method::Perf),
        _ => return Err(wrong("--capture", given, METHOD)),
    }
    Ok(())
}

/// A power of two from 64 KB, the largest page that a kernel is built with, up
/// to 1 GB.
fn ring(given: &OsStr) -> Result<u32> {
    digits(given)
        .filter(|size_kb| size_kb.is_power_of_two() && (64..=1 << 20).contains(size_kb))
        .map(|size_kb| (size_kb as u32) << 10)
        .ok_or_else(|| wrong("--ring-buffer", given, RING))
}

fn check_memory(config: &Config) -> Result<()> {
    let ring_bytes = u64::from(config.ring_bytes());
    let least_mb = ring_bytes.div_ceil(1 << 20) + MEMORY_BESIDE_RING_MB;
    if config.memory_limit_bytes >> 20 >= least_mb {
        return Ok(());
    }
    Err(usage(format!(
        "--memory-limit: {} MB cannot hold a ring buffer of {} KB; {least_mb} MB or more can",
        config.memory_limit_bytes >> 20,
        ring_bytes >> 10,
    )))
}

#[cfg(test)]
mod tests;
