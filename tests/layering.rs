//! The order of the modules, held to: imports point down only, each dependency
//! has one home, unsafe code stays in `src/sys/`, no file grows without end.
//!
//! The table is the graph that `src/lib.rs` tells as a story. A new edge is
//! written here together with its reason, or it is a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may import. What it may import stands
/// above it, so that there are no circles.
const GRAPH: &[(&str, &[&str])] = &[
    // Leaves: anyone may use them, and they know nobody.
    ("address", &[]),
    ("bytes", &[]),
    ("error", &[]),
    ("dying", &[]),
    ("procfs", &[]),
    // The operating system.
    ("sys", &["bytes", "error"]),
    // Maps whose keys crashed programs choose.
    ("keyed", &["sys"]),
    ("deaths", &["keyed"]),
    // What a crash is, as plain data.
    ("abi", &["bytes"]),
    ("registers", &["address"]),
    ("event", &["address", "registers"]),
    // What an instruction does, by its bytes.
    ("decode", &["address", "registers"]),
    // Who called whom: registers and bytes in, frames out; opens no file.
    ("unwind", &["address", "bytes", "keyed", "registers"]),
    // What the user is told, as plain data; Trust and Stop are the unwinder's.
    (
        "report",
        &["address", "event", "keyed", "registers", "unwind"],
    ),
    ("fault", &["address", "event", "registers", "report"]),
    (
        "assemble",
        &["abi", "address", "bytes", "event", "fault", "registers"],
    ),
    ("nearby", &["address", "event", "fault", "report"]),
    // Why it crashed, and what equal crashes have in common.
    (
        "cause",
        &[
            "address",
            "decode",
            "dying",
            "event",
            "fault",
            "registers",
            "report",
            "unwind",
        ],
    ),
    ("signature", &["dying", "report", "unwind"]),
    ("clock", &["event", "report", "sys"]),
    // Files: what their bytes are called, and which of them a process had mapped.
    ("symbols", &["address", "bytes", "sys", "unwind"]),
    (
        "modules",
        &[
            "address", "event", "keyed", "procfs", "symbols", "sys", "unwind",
        ],
    ),
    ("space", &["address", "event", "modules", "sys", "unwind"]),
    ("located", &["address", "report", "symbols", "unwind"]),
    // The way into the kernel, and out of it again.
    ("loader", &["bytes", "error", "keyed", "sys"]),
    // What a kernel without type information does not tell.
    ("measure", &["bytes", "error", "loader", "procfs", "sys"]),
    ("ringbuf", &["error", "sys"]),
    ("perfring", &["error", "sys"]),
    ("stats", &[]),
    ("cli", &["error"]),
    (
        "capture",
        &[
            "abi",
            "address",
            "bytes",
            "cli",
            "error",
            "event",
            "fault",
            "loader",
            "perfring",
            "procfs",
            "registers",
            "ringbuf",
            "stats",
            "sys",
        ],
    ),
    ("fold", &[]),
    ("follow", &["assemble", "event", "report", "sys"]),
    ("repeats", &["capture", "cli", "event", "fold", "report"]),
    ("messages", &["error", "sys"]),
    // Which way of capture works here.
    (
        "start",
        &[
            "assemble", "capture", "cli", "error", "event", "loader", "measure", "messages", "sys",
        ],
    ),
    // An event becomes a report, a report becomes lines.
    (
        "analyze",
        &[
            "address",
            "cause",
            "cli",
            "clock",
            "deaths",
            "decode",
            "event",
            "fault",
            "located",
            "modules",
            "nearby",
            "registers",
            "report",
            "signature",
            "space",
            "symbols",
            "unwind",
        ],
    ),
    (
        "output",
        &[
            "address",
            "error",
            "event",
            "messages",
            "registers",
            "report",
            "sys",
            "unwind",
        ],
    ),
    // Reports that were brought from elsewhere.
    (
        "desk",
        &[
            "address",
            "bytes",
            "cli",
            "error",
            "located",
            "messages",
            "output",
            "report",
            "signature",
            "symbols",
            "sys",
            "unwind",
        ],
    ),
    (
        "check",
        &["capture", "cli", "error", "event", "loader", "sys"],
    ),
    // The wiring.
    (
        "monitor",
        &[
            "analyze", "assemble", "capture", "cli", "error", "event", "follow", "messages",
            "output", "repeats", "report", "stats", "sys",
        ],
    ),
    (
        "app",
        &[
            "check", "cli", "desk", "error", "messages", "monitor", "output", "start", "sys",
        ],
    ),
];

/// Files that make values of values: the same on every machine, so none of them
/// may ask the system anything.
const PURE: &[&str] = &[
    "abi.rs",
    "address.rs",
    "assemble.rs",
    "bytes.rs",
    "cause/",
    "cli.rs",
    "cli/",
    "deaths.rs",
    "decode/",
    "desk/json.rs",
    "desk/sighting.rs",
    "desk/table.rs",
    "event.rs",
    "fault.rs",
    "loader/btf.rs",
    "loader/btf/",
    "loader/btf_load.rs",
    "loader/compare.rs",
    "loader/insn.rs",
    "loader/lines.rs",
    "loader/link.rs",
    "loader/maps.rs",
    "loader/object.rs",
    "loader/object/",
    "loader/packed.rs",
    "loader/parse.rs",
    "loader/relo.rs",
    "loader/relo/",
    "loader/target.rs",
    "loader/unroll.rs",
    "measure/facts.rs",
    "measure/layout.rs",
    "measure/pieces.rs",
    "measure/search.rs",
    "measure/search/",
    "output/codes.rs",
    "output/escape.rs",
    "output/json.rs",
    "output/text.rs",
    "procfs.rs",
    "registers.rs",
    "report.rs",
    "signature.rs",
    "stats.rs",
    "symbols/demangle.rs",
    "unwind/",
];

/// What a pure file must not name.
const EFFECTS: &[&str] = &[
    "crate::sys",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "File::open",
];

/// Each dependency, and where it may be used.
const HOMES: &[(&str, &[&str])] = &[
    ("cpp_demangle", &["symbols/demangle.rs"]),
    ("gimli", &["unwind/"]),
    // Two kinds of ELF: objects for BPF, and what processes map.
    ("goblin", &["loader/parse.rs", "symbols/elf/"]),
    ("lexopt", &["cli.rs", "cli/"]),
    // An errno has no other names, and the error that carries one is everybody's.
    ("libc", &["sys/", "error.rs"]),
    ("memchr", &["bytes.rs"]),
    ("nix", &["sys/"]),
    ("lzma_rs", &["symbols/elf/"]),
    ("rustc_demangle", &["symbols/demangle.rs"]),
];

const MAX_LINES: usize = 600;

/// A source file without its comments and its tests.
struct Source {
    /// Below src/.
    name: String,
    /// Numbered from one.
    lines: Vec<(usize, String)>,
}

impl Source {
    /// The module at the top of the crate that it belongs to.
    fn module(&self) -> &str {
        let first = self.name.split('/').next().expect("a name");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.name == *place || place.ends_with('/') && self.name.starts_with(place)
        })
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|ending| extensions.iter().any(|wanted| ending == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing in {directory:?}");
    found
}

/// Every source but the tests: files of tests are named so, and in other files
/// they stand last.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut sources = Vec::new();
    for path in files_below(&src, &["rs"]) {
        let name = path.strip_prefix(&src).expect("below src/");
        let name = name.to_str().expect("an ASCII name").to_owned();
        let stem = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if stem.ends_with("tests") || stem == "testing" || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let mut lines = Vec::new();
        let mut after_test_mark = false;
        for (index, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if after_test_mark && code.starts_with("mod ") && code.ends_with('{') {
                break;
            }
            after_test_mark = code == "#[cfg(test)]" || after_test_mark && code.starts_with("#[");
            let code = code.split("//").next().unwrap_or("");
            lines.push((index + 1, code.to_owned()));
        }
        sources.push(Source { name, lines });
    }
    sources
}

/// The paths that begin with `crate::` in a file, `crate::{a, b}` taken apart:
/// line and first component.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in &source.lines {
        for (_, rest) in line
            .match_indices("crate::")
            .map(|(at, mark)| line.split_at(at + mark.len()))
        {
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0;
                let outer: String = group
                    .chars()
                    .filter(|&c| {
                        let before = depth;
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        before == 0 && depth == 0
                    })
                    .collect();
                // A group over several lines is not followed; rustfmt makes few of them.
                assert!(
                    depth < 0,
                    "src/{}:{number}: one import a line, please",
                    source.name
                );
                for part in outer.split([',', ';']) {
                    found.push((*number, first_word(part.trim())));
                }
            } else {
                found.push((*number, first_word(rest)));
            }
        }
    }
    found.retain(|(_, word)| !word.is_empty());
    found
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Whether `word` stands in `line` as a word of its own, followed by `after`.
fn names(line: &str, word: &str, after: &str) -> bool {
    line.match_indices(&format!("{word}{after}"))
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn the_graph_has_no_circles_and_every_module() {
    let mut above = BTreeSet::new();
    for (module, imports) in GRAPH {
        for import in *imports {
            assert!(
                above.contains(import),
                "{module} imports {import}, which stands below it"
            );
        }
        assert!(above.insert(*module), "{module} stands twice");
    }
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let declared: BTreeSet<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, above, "src/lib.rs, and the table");
}

#[test]
fn imports_point_down_only() {
    let graph: BTreeMap<&str, &[&str]> = GRAPH.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let module = source.module().to_owned();
        let Some(allowed) = graph.get(module.as_str()) else {
            assert!(
                module == "lib" || module == "main",
                "{} is in no module",
                source.name
            );
            continue;
        };
        for (line, import) in imports(&source) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!(
                    "src/{}:{line}: {module} imports {import}",
                    source.name
                ));
            }
            used.insert((module.clone(), import));
        }
    }
    none("imports that the table does not have", &wrong);
    let unused: Vec<String> = GRAPH
        .iter()
        .flat_map(|(module, imports)| imports.iter().map(move |import| (*module, *import)))
        .filter(|(module, import)| !used.contains(&((*module).to_owned(), (*import).to_owned())))
        .map(|(module, import)| format!("{module} -> {import}"))
        .collect();
    none("edges of the table that no source needs", &unused);
}

#[test]
fn pure_files_ask_the_system_nothing() {
    let mut wrong = Vec::new();
    let mut met: BTreeSet<&&str> = BTreeSet::new();
    for source in sources().iter().filter(|source| source.is_in(PURE)) {
        met.extend(PURE.iter().filter(|place| source.is_in(&[place])));
        for (number, line) in &source.lines {
            for effect in EFFECTS.iter().filter(|effect| line.contains(**effect)) {
                wrong.push(format!("src/{}:{number}: {effect}", source.name));
            }
        }
    }
    none("effects where there should be none", &wrong);
    let unmet: Vec<String> = PURE
        .iter()
        .filter(|place| !met.contains(*place))
        .map(|p| (*p).to_owned())
        .collect();
    none("no such files", &unmet);
}

#[test]
fn each_dependency_has_one_home() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let listed: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")))
        .collect();
    let homes: BTreeSet<String> = HOMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed, homes, "Cargo.toml, and the table");
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, places) in HOMES.iter().filter(|(_, places)| !source.is_in(places)) {
            for (number, line) in &source.lines {
                if names(line, name, "::") || line.trim() == format!("use {name};") {
                    wrong.push(format!(
                        "src/{}:{number}: {name} lives in {places:?}",
                        source.name
                    ));
                }
            }
        }
    }
    none("dependencies away from home", &wrong);
}

/// What the standard library keys with randomness that it opens /dev/urandom for, and
/// panics without: early after boot, on kernels before 5.6.
const RANDOM: &[&str] = &["HashMap", "HashSet", "RandomState", "DefaultHasher"];

#[test]
fn maps_need_no_randomness_of_the_system() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.name != "keyed.rs") {
        for (number, line) in &source.lines {
            for name in RANDOM.iter().filter(|name| line.contains(**name)) {
                wrong.push(format!("src/{}:{number}: {name}", source.name));
            }
        }
    }
    none("hash maps that are not of crate::keyed", &wrong);
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module() != "sys") {
        for (number, line) in &source.lines {
            let permits = line.contains("(unsafe_code)") && source.name != "lib.rs";
            if permits || is_unsafe(line) {
                wrong.push(format!("src/{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    none("unsafe code outside of src/sys/", &wrong);
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    assert!(library.contains("#![deny(unsafe_code)]"));
}

fn is_unsafe(line: &str) -> bool {
    [" {", " fn ", " impl ", " extern "]
        .iter()
        .any(|after| names(line, "unsafe", after))
}

#[test]
fn no_file_grows_without_end() {
    let mut files = files_below(&root().join("src"), &["rs"]);
    files.extend(files_below(&root().join("bpf"), &["c", "h"]));
    files.push(root().join("build.rs"));
    let long: Vec<String> = files
        .iter()
        .map(|path| {
            (
                path,
                fs::read_to_string(path).expect("a source").lines().count(),
            )
        })
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    none("files to split", &long);
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let source = |text: &str| Source {
        name: "cli.rs".into(),
        lines: vec![(1, text.to_owned())],
    };
    let seen = |text: &str| -> Vec<String> {
        imports(&source(text))
            .into_iter()
            .map(|(_, word)| word)
            .collect()
    };
    assert_eq!(seen("use crate::error::{Error, Result};"), ["error"]);
    assert_eq!(
        seen("use crate::{sys::{bpf, mmap}, event};"),
        ["sys", "event"]
    );
    assert_eq!(seen("crate::bytes::at(crate::abi::SIZE)"), ["bytes", "abi"]);
    assert!(names("use nix::libc::c_int;", "nix", "::"));
    assert!(!names("use nix::libc::c_int;", "libc", "::"));
    assert!(is_unsafe("    unsafe { call() }") && is_unsafe("unsafe impl Send for X {}"));
    assert!(!is_unsafe("if fixup.unsafe_resize {"));
}
