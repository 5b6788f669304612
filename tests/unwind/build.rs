//! The crash programs, built in every way that changes their stacks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host;

/// One way to build a program.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    pub name: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
    strip: bool,
    pub musl: bool,
}

const fn flavour(
    name: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
) -> Flavour {
    Flavour {
        name,
        compiler,
        flags,
        strip: false,
        musl: false,
    }
}

pub const FLAVOURS: [Flavour; 9] = [
    flavour("pie", "cc", &["-fPIE", "-pie"]),
    flavour("no_pie", "cc", &["-fno-pie", "-no-pie"]),
    flavour("static", "cc", &["-static"]),
    flavour("clang", "clang-19", &["-fPIE", "-pie"]),
    Flavour {
        strip: true,
        ..flavour("stripped", "cc", &["-fPIE", "-pie"])
    },
    // Call-frame information in .debug_frame alone.
    flavour(
        "debug_frame",
        "cc",
        &[
            "-fno-asynchronous-unwind-tables",
            "-fno-unwind-tables",
            "-g",
        ],
    ),
    Flavour {
        musl: true,
        ..flavour("musl", "musl-gcc", &[])
    },
    Flavour {
        musl: true,
        ..flavour("musl_static", "musl-gcc", &["-static"])
    },
    Flavour {
        musl: true,
        strip: true,
        ..flavour("musl_stripped", "musl-gcc", &["-static"])
    },
];

/// What can be walked without call-frame information.
pub const FRAME_POINTERS: Flavour = flavour(
    "frame_pointers",
    "cc",
    &["-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"],
);

/// A program, and its twin that still has its symbols.
pub struct Program {
    pub path: PathBuf,
    pub named: PathBuf,
}

/// Builds `source`; skips where this compiler or `strip` is missing.
pub fn program(source: &str, flavour: Flavour) -> Option<Program> {
    if !host::has(flavour.compiler) || flavour.strip && !host::has("strip") {
        return None;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unwind");
    std::fs::create_dir_all(&directory).expect("a directory for crash programs");
    let named = directory.join(format!("{source}.{}", flavour.name));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/unwind")
        .join(format!("{source}.c"));
    let status = Command::new(flavour.compiler)
        .args(["-O2", "-w", "-fno-optimize-sibling-calls"])
        .args(flavour.flags)
        .arg(&source)
        .arg("-o")
        .arg(&named)
        .arg("-lpthread")
        .stdin(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{source:?}");
    if !flavour.strip {
        let path = named.clone();
        return Some(Program { path, named });
    }
    let path = named.with_extension("bare");
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(&path)
        .arg(&named)
        .status();
    assert!(stripped.is_ok_and(|status| status.success()), "{named:?}");
    Some(Program { path, named })
}

/// The functions that a source defines, in C and in assembly.
pub fn functions(source: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unwind");
    let mut names = vec!["main".to_owned()];
    for file in [format!("{source}.c"), "chain.h".to_owned()] {
        let text = std::fs::read_to_string(directory.join(file)).expect("a source");
        for line in text.lines() {
            let declared = line.split_once("CALLED ").and_then(|(_, rest)| {
                rest.rsplit_once("__attribute__((noreturn)) ")
                    .map_or(Some(rest), |(_, rest)| Some(rest))
            });
            let declared = declared.and_then(|rest| rest.split_once('('));
            let assembled = line
                .split_once(".type ")
                .and_then(|(_, rest)| rest.split_once(','));
            let name = declared.or(assembled).map(|(before, _)| before);
            let name = name.and_then(|name| name.rsplit([' ', '*']).next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}
