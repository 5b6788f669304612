//! The order of the modules, held to: imports point down only, each dependency
//! has one home, unsafe code stays in `src/sys/`, no file grows without end.
//!
//! The table is the graph of components. A new edge is
//! written here together with its reason, or it is a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may import. What it may import stands
/// above it, so that there are no circles.
const GRAPH: &[(&str, &[&str])] = &[
    // Leaves: any component may use them, and they use none.
    ("base", &[]),
    // The operating system.
    ("sys", &["base"]),
    // Maps with a secret key.
    ("keyed", &["sys"]),
    // What a crash is, and what the user asked for, as plain data.
    ("crash", &["base"]),
    ("config", &["crash"]),
    // What an instruction does, by its bytes.
    ("decode", &["base", "crash"]),
    // Who called whom: registers and bytes in, frames out; opens no file.
    ("unwind", &["base", "crash", "decode", "keyed"]),
    // Files: what their bytes are called, and which of them a process had mapped.
    ("symbols", &["base", "keyed", "sys", "unwind"]),
    (
        "modules",
        &["base", "crash", "keyed", "symbols", "sys", "unwind"],
    ),
    // The way into the kernel, and out of it again.
    ("loader", &["base", "keyed", "sys"]),
    ("measure", &["base", "loader", "sys"]),
    ("capture", &["base", "config", "crash", "loader", "sys"]),
    // The command line.
    ("cli", &["base", "config", "crash"]),
    // A report, and all that is decided about it once it is made. Symbols: names of C++ are
    // made readable only when they are written.
    (
        "report",
        &[
            "base", "capture", "config", "crash", "keyed", "symbols", "sys",
        ],
    ),
    // Events as core files, and core files as events.
    ("corefile", &["base", "config", "crash", "symbols", "sys"]),
    // An event becomes a report.
    (
        "analyze",
        &[
            "base", "config", "corefile", "crash", "decode", "keyed", "modules", "report",
            "symbols", "sys", "unwind",
        ],
    ),
    // Reports that were brought from elsewhere.
    (
        "desk",
        &[
            "analyze", "base", "cli", "config", "corefile", "crash", "report", "symbols", "sys",
        ],
    ),
    // The choice of the capture method, and what this host offers.
    (
        "start",
        &[
            "base", "capture", "config", "crash", "loader", "measure", "sys",
        ],
    ),
    ("check", &["base", "capture", "crash", "loader", "sys"]),
    // The wiring.
    (
        "monitor",
        &[
            "analyze", "base", "capture", "config", "corefile", "crash", "keyed", "measure",
            "report", "sys",
        ],
    ),
    (
        "app",
        &[
            "base", "check", "cli", "config", "corefile", "desk", "monitor", "report", "start",
            "sys",
        ],
    ),
];

/// Files that make values of values: the same on every machine, so none of them
/// may ask the system anything.
const PURE: &[&str] = &[
    "capture/record/abi.rs",
    "base/address.rs",
    "capture/record/assemble.rs",
    "base/bytes.rs",
    "analyze/cause/",
    "cli/",
    "analyze/deaths.rs",
    "decode/",
    "desk/json.rs",
    "desk/sighting.rs",
    "desk/table.rs",
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
    "report/output/escape.rs",
    "report/output/json.rs",
    "report/output/text.rs",
    "base/procfs.rs",
    "report/mod.rs",
    "report/signature.rs",
    "monitor/statistics.rs",
    "symbols/demangle/",
    "unwind/",
    "config.rs",
    "crash/",
];

/// What the user asked for, cut into pieces, and the components that may see them.
const OPTIONS: &[(&str, &[&str])] = &[
    ("Config", &["config.rs", "app.rs", "cli/"]),
    ("StartConfig", &["config.rs", "start.rs"]),
    ("CaptureConfig", &["config.rs", "capture/", "start/"]),
    ("MonitorConfig", &["config.rs", "monitor/"]),
    ("AnalysisConfig", &["config.rs", "analyze/", "desk/"]),
    ("RepeatsConfig", &["config.rs", "report/repeats.rs"]),
    ("OutputConfig", &["config.rs"]),
    (
        "Rotation",
        &[
            "config.rs",
            "cli/",
            "report/output/outputs.rs",
            "report/output/sink.rs",
        ],
    ),
    ("CoreConfig", &["config.rs", "corefile/store.rs"]),
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
    ("gimli", &["unwind/"]),
    // Two kinds of ELF: objects for BPF, and what processes map.
    ("goblin", &["loader/parse.rs", "symbols/elf/"]),
    ("lexopt", &["cli/"]),
    // An errno has no other names, and the error that carries one is everybody's.
    ("libc", &["sys/", "base/error.rs"]),
    ("memchr", &["base/bytes.rs"]),
    ("miniz_oxide", &["symbols/elf/inflate/"]),
    ("nix", &["sys/"]),
    ("lzma_rs", &["symbols/elf/"]),
    ("ruzstd", &["symbols/elf/inflate/"]),
    ("rustc_demangle", &["symbols/demangle/"]),
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

/// A file's place among the modules: `symbols/elf/mod.rs` is `symbols`, `elf`.
fn module_path(name: &str) -> Vec<String> {
    let mut path: Vec<String> = name
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// What stands behind `crate::` and `super::` in a file, groups taken apart, as whole paths.
fn paths(source: &Source) -> Vec<Vec<String>> {
    let own = module_path(&source.name);
    let text: String = source
        .lines
        .iter()
        .map(|(_, line)| line.trim().to_owned() + " ")
        .collect();
    let mut found = Vec::new();
    for (mark, is_super) in [("crate::", false), ("super::", true)] {
        for (at, _) in text.match_indices(mark) {
            // The first of several `super::` is the one that counts.
            if text[..at].ends_with("super::") {
                continue;
            }
            let mut base = if is_super { own.clone() } else { Vec::new() };
            let mut rest = &text[at..];
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            rest = rest.strip_prefix("crate::").unwrap_or(rest);
            follow(&base, rest, &mut found);
        }
    }
    found
}

fn follow(base: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    if let Some(group) = rest.trim_start().strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    follow(base, &group[start..at], found);
                    start = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let word = first_word(rest.trim_start());
    if word.is_empty() {
        return;
    }
    let path = [base, std::slice::from_ref(&word)].concat();
    match rest.trim_start()[word.len()..].strip_prefix("::") {
        Some(more) => follow(&path, more, found),
        None => found.push(path),
    }
}

#[test]
fn files_of_a_room_make_no_circle() {
    // Directory, then file or directory in it, then what it imports of its neighbours.
    let mut rooms: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let sources = sources();
    let files: BTreeSet<Vec<String>> = sources.iter().map(|s| module_path(&s.name)).collect();
    for source in &sources {
        let own = module_path(&source.name);
        for path in paths(source) {
            let same = own.iter().zip(&path).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (own.get(same), path.get(same)) else {
                continue;
            };
            let target = [&own[..same], std::slice::from_ref(to)].concat();
            if same > 0 && files.iter().any(|file| file.starts_with(&target)) {
                let room = rooms.entry(own[..same].to_vec()).or_default();
                room.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    assert!(rooms.len() > 10, "{:?}", rooms.keys());
    let mut wrong = Vec::new();
    for (room, mut edges) in rooms {
        // Takes away what imports nothing that is left, until only circles are.
        while let Some(free) = edges
            .iter()
            .find(|(_, to)| to.iter().all(|to| !edges.contains_key(to)))
            .map(|(from, _)| from.clone())
        {
            edges.remove(&free);
        }
        if !edges.is_empty() {
            wrong.push(format!("{}: {edges:?}", room.join("/")));
        }
    }
    none("files that import each other in circles", &wrong);
}

/// Where a name is used outside of its places.
fn away_from_home(homes: &[(&str, &[&str])], is_named: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, places) in homes.iter().filter(|(_, places)| !source.is_in(places)) {
            let lines = source.lines.iter().filter(|(_, line)| is_named(line, name));
            wrong.extend(lines.map(|(number, _)| {
                format!("src/{}:{number}: {name} lives in {places:?}", source.name)
            }));
        }
    }
    wrong
}

#[test]
fn rooms_see_no_options_of_others() {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let wrong = away_from_home(OPTIONS, |line, name| {
        line.split(|c| !is_part(c)).any(|word| word == name)
    });
    none("options that a room must not see", &wrong);
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
    let wrong = away_from_home(HOMES, |line, name| {
        names(line, name, "::") || line.trim() == format!("use {name};")
    });
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
        name: "cli/mod.rs".into(),
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
