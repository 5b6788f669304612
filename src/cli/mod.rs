//! The command line: arguments in, [`Command`] out, no side effects.
//!
//! Every value is checked here, so the rest of the program gets only valid ones. The
//! message for a wrong value is one line: the option, what was given, what was expected.
//! If an option is given twice, the last one counts; of `-p`, `-o` and `--debug-dir` all count. `-a`
//! without `-o` is accepted: standard output is never truncated anyway. `-o -` is
//! standard output.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;

pub mod desk;
pub mod desk_options;
mod help_text;
pub mod moment;
pub mod options;
mod suggest;

use crate::base::error::{Error, Result};
use crate::config::{
    default, Config, CppNames, Format, Method, Output, Rotation, MEMORY_BESIDE_RING_MB,
};
use crate::crash::signals::{short_name, CRASH_SIGNALS};
use options::{Key, Opt, Value, MONITORING};

/// What `--version` prints.
pub const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Longest `-n`; a name in the kernel has 15 bytes, an executable's may be longer.
const NAME_MAX_BYTES: usize = 64;
/// Longer durations (136 years) are cut to this, so that sums of times cannot overflow.
const DURATION_MAX_S: u64 = u32::MAX as u64;

/// The first words that are no options, for a message.
const SUBCOMMANDS: &str = match cfg!(feature = "desk") {
    true => "symbolize, summarize, show, diff or core",
    false => "symbolize, summarize, show or core",
};

/// What `--help` prints.
#[must_use]
pub fn help() -> String {
    help_text::render(include_str!("help.txt"), MONITORING, 31)
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Run(Box<Config>),
    /// `--check`: print what the tool would do, and whether it works.
    Check(Box<Config>),
    /// A subcommand.
    Desk(desk::Task),
    /// `--help` of a subcommand.
    DeskHelp(desk::Command),
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
    loop {
        if let Some(mut rest) = parser.try_raw_args() {
            if rest.next_if(|arg| arg == "--").is_some() {
                config.command = rest.collect();
                if config.command.is_empty() {
                    return Err(usage("expected a command after '--'".into()));
                }
                break;
            }
        }
        let Some(arg) = parser
            .next()
            .map_err(|error| unexpected(error, MONITORING))?
        else {
            break;
        };
        count += 1;
        if let Arg::Value(word) = arg {
            if count == 1 {
                if let Some(command) = desk::parse(&word, &mut parser)? {
                    return Ok(command);
                }
            }
            return Err(unexpected_word(&word, count == 1));
        }
        let Some(option) = options::find(MONITORING, &arg) else {
            return Err(unexpected(arg.unexpected(), MONITORING));
        };
        match option.key {
            Key::Help => return Ok(Command::Help),
            Key::Version => return Ok(Command::Version),
            Key::Check => is_check = true,
            _ => set(&mut config, option, &mut parser)?,
        }
    }
    if !config.command.is_empty() && config.outputs.is_empty() {
        // What the command prints stays as it is.
        let path = Some(PathBuf::from("/dev/stderr"));
        config.outputs.push(Output { path, format: None });
    }
    check_memory(&config)?;
    if config.rotation.is_some() && !config.writes_files() {
        return Err(usage("--rotate needs a file: --output FILE".into()));
    }
    if config.memory && config.no_memory {
        return Err(usage("--memory and --no-memory cannot be combined".into()));
    }
    if config.core_directory.is_some() && config.no_memory {
        return Err(usage("--core and --no-memory cannot be combined".into()));
    }
    let config = Box::new(config);
    Ok(if is_check {
        Command::Check(config)
    } else {
        Command::Run(config)
    })
}

/// Does what an option says, once its value is read.
fn set(config: &mut Config, option: &Opt, parser: &mut lexopt::Parser) -> Result<()> {
    match option.value {
        Value::None => set_flag(config, option.key),
        Value::Number(..) => set_number(config, option.key, number(parser, option)?),
        Value::Optional(.., usual) => {
            let given = parser.optional_value();
            let number = given.map_or(Ok(usual), |given| in_range(option, &given))?;
            set_number(config, option.key, number);
        }
        Value::Text(..) => return set_text(config, option, value(parser, option)?),
    }
    Ok(())
}

fn set_flag(config: &mut Config, key: Key) {
    let flag = match key {
        Key::VerboseNames => {
            config.cpp_names = CppNames::Whole;
            return;
        }
        Key::Registers => &mut config.registers,
        Key::StackTrace => &mut config.stack_trace,
        Key::Append => &mut config.append,
        Key::Verbose => &mut config.verbose,
        Key::Stats => &mut config.stats,
        Key::FatalOnly => &mut config.fatal_only,
        Key::Memory => &mut config.memory,
        Key::Maps => &mut config.maps,
        Key::NoMemory => &mut config.no_memory,
        // The test of the table tries each of its options.
        _ => unreachable!("an option without a field"),
    };
    *flag = true;
}

/// A number that is in the option's range.
fn set_number(config: &mut Config, key: Key, number: u64) {
    // A window of zero seconds is none.
    let window = (number > 0).then(|| Duration::from_secs(number));
    match key {
        Key::Pid => config.pids.push(number as u32),
        Key::MaxStackDepth => config.max_stack_depth = number as usize,
        Key::StatsInterval => config.stats_interval = Duration::from_secs(number),
        Key::SymbolCacheLimit => config.symbol_cache_limit = number as usize,
        // What the ring needs of it is compared when both are known.
        Key::MemoryLimit => config.memory_limit_bytes = number << 20,
        Key::RingBuffer => config.ring_bytes = Some((number as u32) << 10),
        Key::StackSnapshot => config.stack_snapshot_bytes = (number as u32) << 10,
        Key::Threads => config.threads = Some(number as u32),
        Key::ThreadSnapshot => config.thread_snapshot_bytes = (number as u32) << 10,
        Key::ReportTime => config.report_time = Duration::from_millis(number),
        Key::Count => config.count = Some(number),
        Key::Fold => config.fold = window,
        Key::FoldHandled => config.fold_handled = window,
        Key::MaxPerMinute => config.max_per_minute = Some(number as u32),
        Key::CoreKeep => config.core_keep_files = Some(number),
        Key::CoreMaxSize => config.core_keep_bytes = Some(number << 20),
        // The test of the table tries each of its options.
        _ => unreachable!("an option without a field"),
    }
}

fn set_text(config: &mut Config, option: &Opt, given: OsString) -> Result<()> {
    match option.key {
        Key::Duration => config.duration = duration(option, &given)?,
        Key::ProcessName => config.name = Some(name(option, given)?),
        Key::Format => config.format = format(option, &given)?,
        Key::Rotate => config.rotation = Some(rotation(option, &given)?),
        Key::Signals => config.signals = signals(option, &given)?,
        Key::Capture => method(config, option, &given)?,
        Key::Output => output(config, option, given)?,
        Key::Core => config.core_directory = Some(path(option, given)?),
        Key::Btf => config.btf = Some(path(option, given)?),
        Key::DebugDir => config.debug_dirs.push(path(option, given)?),
        // The test of the table tries each of its options.
        _ => unreachable!("an option without a field"),
    }
    Ok(())
}

fn usage(message: String) -> Error {
    Error::usage(message)
}

/// The line for a value that is not what it should be.
fn wrong(option: &Opt, given: &OsStr) -> Error {
    usage(format!(
        "--{}: expected {}, not '{}'",
        option.long,
        option.expected(),
        shown(given)
    ))
}

/// An argument as a message may show it.
fn shown(given: &OsStr) -> String {
    given.to_string_lossy().escape_debug().to_string()
}

fn unexpected_word(word: &OsStr, is_first: bool) -> Error {
    let given = shown(word);
    let commands = SUBCOMMANDS.split([' ', ',']).filter(|word| *word != "or");
    match suggest::nearest(&given, commands).filter(|_| is_first) {
        Some(meant) => usage(format!("unexpected argument '{given}': did you mean {meant}?")),
        None => usage(format!(
            "unexpected argument '{given}': expected options, or {SUBCOMMANDS} as the first word, or -- before a command; try --help"
        )),
    }
}

/// An argument that is none of these options.
fn unexpected(error: lexopt::Error, groups: &[options::Group]) -> Error {
    match error {
        lexopt::Error::UnexpectedOption(option) => {
            let all = groups.iter().flat_map(|(_, options)| options.iter());
            let names = all.map(|option| option.long);
            let long = option.strip_prefix("--").unwrap_or_default();
            let hint = match suggest::nearest(long, names) {
                Some(meant) => format!("did you mean --{meant}?"),
                None => "try --help".into(),
            };
            let option = shown(OsStr::new(&option));
            usage(format!("unknown option '{option}'; {hint}"))
        }
        lexopt::Error::UnexpectedValue { option, value } => usage(format!(
            "{option} takes no value, but got '{}'",
            shown(&value)
        )),
        other => usage(format!("{}; try --help", other.to_string().escape_debug())),
    }
}

fn value(parser: &mut lexopt::Parser, option: &Opt) -> Result<OsString> {
    let missing = |_| {
        let expected = option.expected();
        usage(format!("--{} needs a value: {expected}", option.long))
    };
    parser.value().map_err(missing)
}

/// A whole number in the option's range. The size of a ring is a power of two.
fn number(parser: &mut lexopt::Parser, option: &Opt) -> Result<u64> {
    in_range(option, &value(parser, option)?)
}

fn in_range(option: &Opt, given: &OsStr) -> Result<u64> {
    let is_right = |number: &u64| match option.value {
        Value::Number(_, _, from, to) | Value::Optional(_, _, from, to, _) => {
            (from..=to).contains(number)
                && (option.key != Key::RingBuffer || number.is_power_of_two())
        }
        Value::None | Value::Text(..) => true,
    };
    digits(given)
        .filter(is_right)
        .ok_or_else(|| wrong(option, given))
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

fn duration(option: &Opt, given: &OsStr) -> Result<Option<Duration>> {
    match digits(given) {
        Some(0) => Ok(None),
        Some(seconds) => Ok(Some(Duration::from_secs(seconds.min(DURATION_MAX_S)))),
        None => Err(wrong(option, given)),
    }
}

/// A size with a suffix, and how many files are kept.
fn rotation(option: &Opt, given: &OsStr) -> Result<Rotation> {
    let text = given.to_str().unwrap_or_default();
    let (size, keep) = match text.split_once(',') {
        Some((size, keep)) => (size, digits(OsStr::new(keep)).unwrap_or(0)),
        None => (text, u64::from(default::ROTATED)),
    };
    let shift = match size.bytes().last() {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        _ => return Err(wrong(option, given)),
    };
    let size = digits(OsStr::new(&size[..size.len() - 1])).unwrap_or(0);
    // Up to a terabyte, and a hundred files.
    if (1..=1 << (40 - shift)).contains(&size) && (1..=100).contains(&keep) {
        let (bytes, keep) = (size << shift, keep as u32);
        return Ok(Rotation { bytes, keep });
    }
    Err(wrong(option, given))
}

fn name(option: &Opt, given: OsString) -> Result<Vec<u8>> {
    let bytes = given.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_MAX_BYTES {
        return Err(wrong(option, &given));
    }
    Ok(given.into_vec())
}

fn path(option: &Opt, given: OsString) -> Result<PathBuf> {
    if given.is_empty() {
        return Err(wrong(option, &given));
    }
    Ok(PathBuf::from(given))
}

/// A path, with a format before it or not.
fn output(config: &mut Config, option: &Opt, given: OsString) -> Result<()> {
    let bytes = given.as_bytes();
    let (format, rest) = match (bytes.strip_prefix(b"text:"), bytes.strip_prefix(b"json:")) {
        (Some(rest), _) => (Some(Format::Text), rest),
        (_, Some(rest)) => (Some(Format::Json), rest),
        _ => (None, bytes),
    };
    let path = match rest {
        b"" => return Err(wrong(option, &given)),
        b"-" => None,
        _ => Some(PathBuf::from(OsStr::from_bytes(rest))),
    };
    if config.outputs.iter().any(|other| other.path == path) {
        let given = shown(&given);
        return Err(usage(format!("--output: '{given}' is given twice")));
    }
    config.outputs.push(Output { path, format });
    Ok(())
}

fn format(option: &Opt, given: &OsStr) -> Result<Format> {
    match given.as_bytes() {
        b"text" => Ok(Format::Text),
        b"json" => Ok(Format::Json),
        _ => Err(wrong(option, given)),
    }
}

/// A set of crash signals, with or without `SIG` before each, in any case.
fn signals(option: &Opt, given: &OsStr) -> Result<u64> {
    let refused = || wrong(option, given);
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

/// Where types come from and how a capture is made are two things: of each, the last counts.
fn method(config: &mut Config, option: &Opt, given: &OsStr) -> Result<()> {
    match given.as_bytes() {
        b"auto" => (config.method, config.measure_types) = (None, false),
        b"measured" => config.measure_types = true,
        b"ring" => config.method = Some(Method::Ring),
        b"chain" | b"old" => config.method = Some(Method::Chain),
        b"tracepoint" => config.method = Some(Method::Tracepoint),
        b"perf" => config.method = Some(Method::Perf),
        _ => return Err(wrong(option, given)),
    }
    Ok(())
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
