//! The options of the subcommands, as [`super::options`] has those of monitoring.

use super::options::{flag, option, Default, Group, Key, Value};
use super::options::{DIRECTORY, FILE, HELP, JSON, REGISTERS, VERBOSE_NAMES};
use crate::config::default;

/// Of `symbolize`.
pub static SYMBOLIZE: &[Group] = &[(
    "",
    &[
        option(
            Key::File,
            None,
            "file",
            Value::Text("PATH", FILE),
            Default::None,
            "an unstripped file, or a separate debug file",
        ),
        option(
            Key::DebugDir,
            None,
            "debug-dir",
            Value::Text("DIR", DIRECTORY),
            Default::None,
            "DIR/.build-id/xx/rest.debug, otherwise any file below\n\
             DIR; /usr/lib/debug is always searched too",
        ),
        option(
            Key::Sysroot,
            None,
            "sysroot",
            Value::Text("DIR", DIRECTORY),
            Default::None,
            "the root of the crashed system, or a copy; modules are\n\
             looked up there by their path",
        ),
        option(
            Key::MemoryLimit,
            None,
            "memory-limit",
            Value::Number("MB", "a number of MB", 1, 1 << 20),
            Default::None,
            "keep at most this much of what was read from files;\n\
             otherwise a quarter of the machine's memory",
        ),
        VERBOSE_NAMES,
        HELP,
    ],
)];

/// Of `summarize`.
pub static SUMMARIZE: &[Group] = &[("", &[JSON, HELP])];

/// Of `core`.
pub static CORE: &[Group] = &[(
    "",
    &[
        JSON,
        REGISTERS,
        flag(
            Key::Threads,
            None,
            "threads",
            "all other threads, too, and in which system calls\n\
             they were",
        ),
        option(
            Key::MaxStackDepth,
            None,
            "max-stack-depth",
            Value::Number("N", "a number of frames", 1, 1024),
            Default::Number(default::CORE_STACK_DEPTH),
            "at most N calls, {range}",
        ),
        VERBOSE_NAMES,
        option(
            Key::DebugDir,
            None,
            "debug-dir",
            Value::Text("DIR", DIRECTORY),
            Default::Text(default::DEBUG_DIR),
            "look for debug files in DIR instead of\n\
             []; may be given more than once",
        ),
        HELP,
    ],
)];
