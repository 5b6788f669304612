//! The command line of the subcommands, which need neither root nor BPF.
//!
//! `symbolize`, `summarize` and `core` are known by being the first argument. What follows
//! is theirs alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lexopt::Arg;

use super::desk_options::{CORE, SUMMARIZE, SYMBOLIZE};
use super::options::{self, Group, Key};
use super::{help_text, number, path, unexpected, usage, value, Result};
use crate::config::CppNames;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Command {
    /// Names for reports from elsewhere.
    #[default]
    Symbolize,
    /// A table of reports.
    Summarize,
    /// Reports of core files.
    Core,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Task {
    pub command: Command,
    /// `--file` and `--debug-dir`, each of them: files, and directories of them.
    pub given: Vec<PathBuf>,
    /// `--sysroot`, each of them.
    pub sysroots: Vec<PathBuf>,
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
    /// The files with reports, or core files; none means standard input, and so does `-`.
    pub inputs: Vec<PathBuf>,
}

/// The subcommand that a first argument names.
fn command(word: &OsStr) -> Option<Command> {
    match word.as_bytes() {
        b"symbolize" => Some(Command::Symbolize),
        b"summarize" => Some(Command::Summarize),
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
        Command::Core => include_str!("core.txt"),
    };
    let column = match command {
        Command::Core => 27,
        Command::Symbolize | Command::Summarize => 24,
    };
    help_text::render(text, options_of(command), column)
}

fn options_of(command: Command) -> &'static [Group] {
    match command {
        Command::Symbolize => SYMBOLIZE,
        Command::Summarize => SUMMARIZE,
        Command::Core => CORE,
    }
}

/// Reads what follows a first argument; `None` if that is no subcommand.
pub(super) fn parse(word: &OsStr, parser: &mut lexopt::Parser) -> Result<Option<super::Command>> {
    let Some(command) = command(word) else {
        return Ok(None);
    };
    let mut task = Task {
        command,
        ..Task::default()
    };
    while let Some(arg) = parser.next().map_err(unexpected)? {
        if let Arg::Value(name) = arg {
            task.inputs.push(PathBuf::from(name));
            continue;
        }
        let Some(option) = options::find(options_of(command), &arg) else {
            return Err(unexpected(arg.unexpected()));
        };
        match option.key {
            Key::Help => return Ok(Some(super::Command::DeskHelp(command))),
            Key::MemoryLimit => {
                task.memory_limit_bytes = Some(number(parser, option)? << 20);
            }
            Key::Json => task.json = true,
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
    Ok(Some(super::Command::Desk(task)))
}
