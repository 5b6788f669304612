//! The command line of the subcommands, which need neither root nor BPF.
//!
//! `symbolize`, `summarize`, `show`, `diff` and `core` are known by being the first argument. What
//! follows is theirs alone. What only a desk build has, other builds refuse by name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lexopt::Arg;

use super::desk_options::{CORE, SHOW};
#[cfg(feature = "desk")]
use super::desk_options::{DIFF, SUMMARIZE_AT_DESK as SUMMARIZE, SYMBOLIZE_AT_DESK as SYMBOLIZE};
#[cfg(not(feature = "desk"))]
use super::desk_options::{SUMMARIZE, SYMBOLIZE};
use super::moment::{self, Moment};
use super::options::{self, Group, Key};
use super::{help_text, number, path, unexpected, usage, value, wrong, Result};
use crate::config::CppNames;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Command {
    /// Names for reports from elsewhere.
    #[default]
    Symbolize,
    /// A table of reports.
    Summarize,
    /// Reports in JSON as text.
    Show,
    /// Two tables of reports, compared.
    #[cfg(feature = "desk")]
    Diff,
    /// Reports of core files.
    Core,
}

/// The field of a report that `summarize --by` counts crashes by.
#[cfg(feature = "desk")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The build-id of the executable.
    Build,
    /// The name of the host.
    Host,
    /// The version of the executable.
    Version,
    Cause,
    /// The executable.
    Program,
}

#[cfg(feature = "desk")]
impl Field {
    /// The word of the command line and of JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Field::Build => "build",
            Field::Host => "host",
            Field::Version => "version",
            Field::Cause => "cause",
            Field::Program => "program",
        }
    }

    fn named(word: &OsStr) -> Option<Self> {
        let all = [
            Field::Build,
            Field::Host,
            Field::Version,
            Field::Cause,
            Field::Program,
        ];
        all.into_iter().find(|field| word == field.as_str())
    }
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Task {
    pub command: Command,
    /// `--file` and `--debug-dir`, each of them: files, and directories of them.
    pub given: Vec<PathBuf>,
    /// `--sysroot`, each of them.
    pub sysroots: Vec<PathBuf>,
    /// `--debuginfod`, each of them: addresses of servers.
    #[cfg(feature = "desk")]
    pub servers: Vec<String>,
    /// `--memory-limit`
    pub memory_limit_bytes: Option<u64>,
    /// `--json`
    pub json: bool,
    /// `-r`
    pub registers: bool,
    /// `--verbose-names`
    pub cpp_names: CppNames,
    /// `--threads`
    pub threads: bool,
    /// `--max-stack-depth`
    pub max_stack_depth: Option<usize>,
    /// `--last`
    pub last: Option<usize>,
    /// `--signature`
    pub signature: Option<u64>,
    /// `--since`
    pub since: Option<Moment>,
    /// `--follow`
    pub follow: bool,
    /// `--by`
    #[cfg(feature = "desk")]
    pub by: Option<Field>,
    /// `--per-day`
    #[cfg(feature = "desk")]
    pub per_day: bool,
    /// The files with reports, or core files; none means standard input, and so does `-`.
    pub inputs: Vec<PathBuf>,
}

/// The subcommand that a first argument names.
fn command(word: &OsStr) -> Option<Command> {
    match word.as_bytes() {
        b"symbolize" => Some(Command::Symbolize),
        b"summarize" => Some(Command::Summarize),
        b"show" => Some(Command::Show),
        #[cfg(feature = "desk")]
        b"diff" => Some(Command::Diff),
        b"core" => Some(Command::Core),
        _ => None,
    }
}

/// What a subcommand's `--help` prints.
#[must_use]
pub fn help(command: Command) -> String {
    let text = match command {
        Command::Symbolize => include_str!("symbolize.txt"),
        Command::Summarize => include_str!("summarize.txt"),
        Command::Show => include_str!("show.txt"),
        #[cfg(feature = "desk")]
        Command::Diff => include_str!("diff.txt"),
        Command::Core => include_str!("core.txt"),
    };
    let column = match command {
        Command::Core => 27,
        _ => 24,
    };
    help_text::render(text, options_of(command), column)
}

fn options_of(command: Command) -> &'static [Group] {
    match command {
        Command::Symbolize => SYMBOLIZE,
        Command::Summarize => SUMMARIZE,
        Command::Show => SHOW,
        #[cfg(feature = "desk")]
        Command::Diff => DIFF,
        Command::Core => CORE,
    }
}

/// Reads what follows a first argument; `None` if that is no subcommand.
pub(super) fn parse(word: &OsStr, parser: &mut lexopt::Parser) -> Result<Option<super::Command>> {
    let Some(command) = command(word) else {
        return match word.as_bytes() {
            #[cfg(not(feature = "desk"))]
            b"diff" => Err(at_a_desk("diff")),
            _ => Ok(None),
        };
    };
    let mut task = Task {
        command,
        ..Task::default()
    };
    let stray = |error| unexpected(error, options_of(command));
    while let Some(arg) = parser.next().map_err(stray)? {
        if let Arg::Value(name) = arg {
            task.inputs.push(PathBuf::from(name));
            continue;
        }
        let Some(option) = options::find(options_of(command), &arg) else {
            #[cfg(not(feature = "desk"))]
            if let Some(name) = desk_option(command, &arg) {
                return Err(at_a_desk(name));
            }
            return Err(stray(arg.unexpected()));
        };
        match option.key {
            Key::Help => return Ok(Some(super::Command::DeskHelp(command))),
            Key::MemoryLimit => {
                task.memory_limit_bytes = Some(number(parser, option)? << 20);
            }
            #[cfg(feature = "desk")]
            Key::By => {
                let given = value(parser, option)?;
                let field = Field::named(&given).ok_or_else(|| wrong(option, &given))?;
                task.by = Some(field);
            }
            #[cfg(feature = "desk")]
            Key::Debuginfod => {
                let given = value(parser, option)?;
                let server = server(&given).ok_or_else(|| wrong(option, &given))?;
                task.servers.push(server);
            }
            #[cfg(feature = "desk")]
            Key::PerDay => task.per_day = true,
            Key::Json => task.json = true,
            Key::Last => task.last = Some(number(parser, option)? as usize),
            Key::Follow => task.follow = true,
            Key::ShowSignature => {
                let given = value(parser, option)?;
                let signature = signature(&given).ok_or_else(|| wrong(option, &given))?;
                task.signature = Some(signature);
            }
            Key::Since => {
                let given = value(parser, option)?;
                let since = given.to_str().and_then(moment::read);
                task.since = Some(since.ok_or_else(|| wrong(option, &given))?);
            }
            Key::Registers => task.registers = true,
            Key::Threads => task.threads = true,
            Key::VerboseNames => task.cpp_names = CppNames::Whole,
            Key::MaxStackDepth => task.max_stack_depth = Some(number(parser, option)? as usize),
            Key::Sysroot => task.sysroots.push(path(option, value(parser, option)?)?),
            // Files, and directories of files.
            _ => task.given.push(path(option, value(parser, option)?)?),
        }
    }
    if command == Command::Core && task.inputs.is_empty() {
        return Err(usage("core needs a core file; try core --help".into()));
    }
    #[cfg(feature = "desk")]
    if command == Command::Diff {
        match &*task.inputs {
            [old, new] if old == new && old.as_os_str() == "-" => {
                return Err(usage(
                    "only one of OLD and NEW can be standard input".into(),
                ));
            }
            [_, _] => {}
            _ => return Err(usage("diff needs OLD and NEW; try diff --help".into())),
        }
    }
    Ok(Some(super::Command::Desk(task)))
}

/// 16 hexadecimal digits.
fn signature(given: &OsStr) -> Option<u64> {
    let text = given.to_str().filter(|text| text.len() == 16)?;
    let are_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u64::from_str_radix(text, 16).ok())?
}

/// The address of a server, as far as one can tell without asking it.
#[cfg(feature = "desk")]
fn server(given: &OsStr) -> Option<String> {
    let text = given.to_str()?;
    let (scheme, rest) = text.split_once("://")?;
    let is_known = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_known && is_plain && !rest.is_empty()).then(|| text.to_owned())
}

/// An option of a subcommand that a desk build alone has.
#[cfg(not(feature = "desk"))]
fn desk_option(command: Command, arg: &Arg<'_>) -> Option<&'static str> {
    match (command, arg) {
        (Command::Summarize, Arg::Long("by")) => Some("--by"),
        (Command::Symbolize, Arg::Long("debuginfod")) => Some("--debuginfod"),
        _ => None,
    }
}

/// What is refused, and where it is to be had.
#[cfg(not(feature = "desk"))]
fn at_a_desk(what: &str) -> super::Error {
    usage(format!(
        "{what} is not in this build: use the desk build, segfault_analyzer-desk, which `make desk` gives"
    ))
}
