//! Names of addresses in whole files, held against gdb's, which reads the same tables
//! by its own rules: libc and this test, and whatever `NAMES_OF` lists, with colons
//! between.
//!
//! What has to agree is where the symbol begins: of several names for one place each
//! is right, and gdb names data too.

#[path = "host/mod.rs"]
mod host;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use segfault_analyzer::base::address::FileAddress;
use segfault_analyzer::symbols::elf::{Answer, ElfFile, Source, Table};
use segfault_analyzer::sys::file::RegularFile;

/// Of one file.
const MAX_ADDRESSES: usize = 20_000;
/// Of what differs.
const MAX_SHOWN: usize = 40;

fn open(path: &str) -> ElfFile {
    let file = RegularFile::open(Path::new(path)).expect(path);
    ElfFile::parse(Source::file(file).expect(path)).expect(path)
}

/// Where functions begin and end, the places next to that, and between.
fn addresses(path: &str) -> Vec<u64> {
    let mut found = BTreeSet::new();
    for table in ["-n", "-nD"] {
        let out = Command::new("nm")
            .args([table, "-S", "--defined-only", path])
            .output();
        let out = out.expect("nm").stdout;
        for line in String::from_utf8_lossy(&out).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| u64::from_str_radix(words.get(at).copied()?, 16).ok();
            let is_code = words
                .iter()
                .any(|word| matches!(*word, "T" | "t" | "W" | "w" | "i"));
            let Some(start) = number(0).filter(|_| is_code) else {
                continue;
            };
            let size = number(1).unwrap_or(0);
            found.extend([start, start + 1, start + size / 2, start + size]);
            found.extend((start + size).checked_sub(1));
        }
    }
    assert!(found.len() > 1000, "{path}: {} addresses", found.len());
    let step = found.len() / MAX_ADDRESSES + 1;
    found.into_iter().step_by(step).collect()
}

fn ours(elf: &ElfFile, addresses: &[u64]) -> Vec<Option<(String, u64)>> {
    let asked: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
    let mut answers = vec![Answer::unknown(); asked.len()];
    for table in [Table::Full, Table::Dynamic] {
        elf.add_functions(table, &asked, &mut answers)
            .expect("in time");
    }
    let named = answers.into_iter().zip(asked).map(|(answer, address)| {
        let found = answer.found?;
        let name = String::from_utf8_lossy(&found.name).into_owned();
        Some((name, address.0 - found.start.0))
    });
    named.collect()
}

/// `name + 5 in section .text`, or `No symbol matches 0x5.`
fn gdbs(path: &str, addresses: &[u64]) -> Vec<Option<(String, u64)>> {
    let commands: String = addresses
        .iter()
        .map(|it| format!("info symbol {it:#x}\n"))
        .collect();
    let script = std::env::temp_dir().join(format!("names-{}", std::process::id()));
    std::fs::write(&script, commands).expect("a script");
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-batch",
        "-iex",
        "set debuginfod enabled off",
        "-iex",
    ]);
    gdb.args([
        "set auto-load no",
        "-iex",
        "set debug-file-directory /nowhere",
        "-ex",
    ]);
    gdb.args(["set print asm-demangle off", "-x"]);
    let out = gdb.arg(&script).arg(path).output();
    std::fs::remove_file(&script).expect("our own");
    let text = String::from_utf8_lossy(&out.expect("gdb").stdout).into_owned();
    let answers: Vec<_> = text
        .lines()
        .filter(|line| line.contains(" in section ") || line.starts_with("No symbol matches"))
        .map(|line| {
            let (symbol, section) = line.split_once(" in section ")?;
            if !section.starts_with(".text") && !section.starts_with(".init") && section != ".fini"
            {
                return None;
            }
            let (name, offset) = match symbol.rsplit_once(" + ") {
                Some((name, offset)) => (name, offset.parse().ok()?),
                None => (symbol, 0),
            };
            Some((name.to_owned(), offset))
        })
        .collect();
    assert_eq!(answers.len(), addresses.len(), "{path}");
    answers
}

fn compare(path: &str) {
    let elf = open(path);
    let addresses = addresses(path);
    let expected = gdbs(path, &addresses);
    let known = expected.iter().flatten().count();
    assert!(known > addresses.len() / 3, "{path}: gdb knows {known}");
    let start = |found: &Option<(String, u64)>, address: u64| {
        found.as_ref().map(|(_, offset)| address - offset)
    };
    let all = addresses.iter().zip(ours(&elf, &addresses)).zip(expected);
    let differ: Vec<String> = all
        .filter(|((address, our), gdb)| {
            // Between functions gdb goes on with the one before.
            our.is_some() && gdb.is_some() && start(our, **address) != start(gdb, **address)
                || our.is_none() && gdb.as_ref().is_some_and(|(_, offset)| *offset == 0)
        })
        .map(|((address, our), gdb)| format!("{address:#x}: {our:?}, gdb {gdb:?}"))
        .collect();
    eprintln!("{path}: {} of {} differ", differ.len(), addresses.len());
    let shown = &differ[..differ.len().min(MAX_SHOWN)];
    assert!(
        differ.is_empty(),
        "{path}: {} of {}: {shown:#?}",
        differ.len(),
        addresses.len()
    );
}

#[test]
fn names_are_those_of_gdb() {
    let itself = std::env::current_exe().expect("a path");
    if !host::has("nm") || !host::has("gdb") {
        return;
    }
    if let Ok(listed) = std::env::var("NAMES_OF") {
        return listed.split(':').for_each(compare);
    }
    compare(itself.to_str().expect("a path of text"));
    if let Some(libc) = host::libc() {
        compare(&libc);
    }
}
