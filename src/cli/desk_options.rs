//! The options of the subcommands, as [`super::options`] has those of monitoring.

use super::moment::EXPECTED;
use super::options::{flag, option, Default, Group, Key, Value};
use super::options::{DIRECTORY, FILE, HELP, JSON, REGISTERS, VERBOSE_NAMES};
use crate::config::default;

/// The heading of options that other builds do not have.
const DESK_BUILD: &str = "In a desk build";

/// Of `symbolize`.
pub static SYMBOLIZE: &[Group] = &[SYMBOLIZE_EVERYWHERE];

/// Of `symbolize` in a desk build.
pub static SYMBOLIZE_AT_DESK: &[Group] = &[
    SYMBOLIZE_EVERYWHERE,
    (
        DESK_BUILD,
        &[option(
            Key::Debuginfod,
            None,
            "debuginfod",
            Value::Text("URL", "an address that begins with http:// or https://"),
            Default::None,
            "ask this debuginfod server for files that are not here;\n\
             otherwise those of DEBUGINFOD_URLS",
        )],
    ),
];

const SYMBOLIZE_EVERYWHERE: Group = (
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
);

/// Of `summarize`.
pub static SUMMARIZE: &[Group] = &[SUMMARIZE_EVERYWHERE];

/// Of `summarize` in a desk build.
pub static SUMMARIZE_AT_DESK: &[Group] = &[
    SUMMARIZE_EVERYWHERE,
    (
        DESK_BUILD,
        &[option(
            Key::By,
            None,
            "by",
            Value::Text("FIELD", "one of build, host, version, cause and program"),
            Default::None,
            "print one line for each value of FIELD: build, host,\n\
             version, cause or program",
        )],
    ),
];

const SUMMARIZE_EVERYWHERE: Group = ("", &[JSON, HELP]);

/// Of `show`.
pub static SHOW: &[Group] = &[(
    "",
    &[
        option(
            Key::Last,
            None,
            "last",
            Value::Number("N", "a number of reports", 1, 1 << 20),
            Default::None,
            "only the last N reports",
        ),
        option(
            Key::ShowSignature,
            None,
            "signature",
            Value::Text("S", "16 hexadecimal digits"),
            Default::None,
            "only crashes with this signature",
        ),
        option(
            Key::Since,
            None,
            "since",
            Value::Text("T", EXPECTED),
            Default::None,
            "only crashes since T: 2026-11-30, '2026-11-30 20:00',\n\
             2026-11-30T20:00:00Z, or 2h for two hours ago",
        ),
        flag(
            Key::Follow,
            None,
            "follow",
            "wait for more reports at the end of the last file, and\n\
             go on with the next file of that name",
        ),
        VERBOSE_NAMES,
        HELP,
    ],
)];

/// Of `diff`, which a desk build alone has.
pub static DIFF: &[Group] = &[(
    "",
    &[
        JSON,
        flag(
            Key::PerDay,
            None,
            "per-day",
            "compare how many there were in a day, from the first to\n\
             the last report of each set",
        ),
        HELP,
    ],
)];

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
