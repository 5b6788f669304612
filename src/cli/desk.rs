//! The command line of the subcommands, which need neither root nor BPF.
//!
//! `symbolize` and `summarize` are known by being the first argument. What follows
//! is theirs alone.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lexopt::Arg;

use super::{path, unexpected, value, Result, DIRECTORY, FILE};

/// What `symbolize --help` prints.
const SYMBOLIZE: &str = include_str!("symbolize.txt");
/// What `summarize --help` prints.
const SUMMARIZE: &str = include_str!("summarize.txt");

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Command {
    /// Names for reports from elsewhere.
    #[default]
    Symbolize,
    /// A table of reports.
    Summarize,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Task {
    pub command: Command,
    /// `--file` and `--debug-dir`, each of them: files, and directories of them.
    pub given: Vec<PathBuf>,
    /// `--sysroot`, each of them.
    pub sysroots: Vec<PathBuf>,
    /// `--json`
    pub json: bool,
    /// Where reports are; none is standard input, and so is `-`.
    pub inputs: Vec<PathBuf>,
}

/// The subcommand that a first argument names, and its help.
fn command(word: &OsStr) -> Option<(Command, &'static str)> {
    match word.as_bytes() {
        b"symbolize" => Some((Command::Symbolize, SYMBOLIZE)),
        b"summarize" => Some((Command::Summarize, SUMMARIZE)),
        _ => None,
    }
}

/// Reads what follows a first argument; `None` if that is no subcommand.
pub(super) fn parse(word: &OsStr, parser: &mut lexopt::Parser) -> Result<Option<super::Command>> {
    let Some((command, help)) = command(word) else {
        return Ok(None);
    };
    let mut task = Task {
        command,
        ..Task::default()
    };
    Ok(Some(match options(&mut task, parser)? {
        true => super::Command::Desk(task),
        false => super::Command::DeskHelp(help),
    }))
}

/// Reads a subcommand's options; false where help is wanted.
fn options(task: &mut Task, parser: &mut lexopt::Parser) -> Result<bool> {
    while let Some(arg) = parser.next().map_err(unexpected)? {
        let (option, expected, list) = match (arg, task.command) {
            (Arg::Short('h') | Arg::Long("help"), _) => return Ok(false),
            (Arg::Value(name), _) => {
                task.inputs.push(PathBuf::from(name));
                continue;
            }
            (Arg::Long("json"), Command::Summarize) => {
                task.json = true;
                continue;
            }
            (Arg::Long("file"), Command::Symbolize) => ("--file", FILE, &mut task.given),
            (Arg::Long("debug-dir"), Command::Symbolize) => {
                ("--debug-dir", DIRECTORY, &mut task.given)
            }
            (Arg::Long("sysroot"), Command::Symbolize) => {
                ("--sysroot", DIRECTORY, &mut task.sysroots)
            }
            (other, _) => return Err(unexpected(other.unexpected())),
        };
        let given = value(parser, option, expected)?;
        list.push(path(option, given, expected)?);
    }
    Ok(true)
}
