//! Files written field by field, files of this machine against `nm`, and files cut
//! and changed at every byte.

use super::testing::*;
use super::*;
use crate::host;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn parse(bytes: Vec<u8>) -> ElfFile {
    ElfFile::parse(Source::memory(bytes)).unwrap()
}

fn open(path: &str) -> ElfFile {
    let file = crate::sys::file::RegularFile::open(std::path::Path::new(path));
    ElfFile::parse(Source::file(file.expect(path)).unwrap()).unwrap()
}

/// `name+offset` for each address, `-` if there is no name.
fn names(elf: &ElfFile, addresses: &[u64]) -> Vec<String> {
    let addresses: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
    let answers = elf.functions(&addresses).unwrap();
    let show = |(answer, address): (&Answer, &FileAddress)| match &answer.found {
        Some(found) => {
            let name = String::from_utf8_lossy(&found.name).into_owned();
            format!("{name}+{:#x}", address.0 - found.start.0)
        }
        None => "-".to_owned(),
    };
    answers.iter().zip(&addresses).map(show).collect()
}

fn with_symtab(symtab: Vec<SynthSymbol>) -> Synth {
    Synth {
        symtab,
        ..Synth::new()
    }
}

#[test]
fn both_classes_are_read() {
    for wide in [true, false] {
        for sections in [true, false] {
            let synth = Synth {
                wide,
                sections,
                symtab: vec![symbol("full", 0x1000, 0x10, GLOBAL | FUNC)],
                dynsym: vec![
                    symbol("dynamic", 0x1000, 0x10, GLOBAL | FUNC),
                    symbol("second", 0x1010, 8, WEAK | FUNC),
                ],
                ..Synth::new()
            };
            let elf = parse(synth.build());
            assert_eq!(elf.build_id(), Some(&[0xab, 0xcd, 0xef, 0x01][..]));
            assert_eq!(elf.is_64_bit(), wide);
            assert_eq!(elf.has_symtab(), sections);
            let first = if sections { "full+0x4" } else { "dynamic+0x4" };
            assert_eq!(
                names(&elf, &[0x1017, 0x1004, 0x1018]),
                ["second+0x7", first, "-"],
                "{wide} {sections}"
            );
        }
    }
}

#[test]
fn the_better_symbol_wins() {
    let elf = parse(
        with_symtab(vec![
            symbol("local", 0x1000, 0x20, LOCAL | FUNC),
            symbol("weak", 0x1000, 0x20, WEAK | FUNC),
            symbol("__global", 0x1000, 0x20, GLOBAL | FUNC),
            symbol("global", 0x1000, 0x20, GLOBAL | IFUNC),
            symbol("_global", 0x1000, 0x20, GLOBAL | FUNC),
            symbol("outer", 0x1100, 0x100, GLOBAL | FUNC),
            symbol("inner", 0x1140, 0x20, LOCAL | FUNC),
            symbol("innermost", 0x1140, 0x10, LOCAL | NOTYPE),
            symbol("nothing", 0x1200, 0x10, GLOBAL | OBJECT),
            symbol("thread", 0x1200, 0x10, GLOBAL | TLS),
            SynthSymbol {
                section: ABS,
                ..symbol("absolute", 0x1200, 0x10, GLOBAL | FUNC)
            },
            SynthSymbol {
                section: 0,
                ..symbol("elsewhere", 0x1200, 0x10, GLOBAL | FUNC)
            },
        ])
        .build(),
    );
    assert_eq!(
        names(&elf, &[0x1000, 0x1120, 0x1144, 0x1150, 0x1170, 0x1205]),
        [
            "_global+0x0",
            "outer+0x20",
            "innermost+0x4",
            "inner+0x10",
            "outer+0x70",
            "-"
        ]
    );
}

#[test]
fn a_resolver_is_not_called_as_what_it_chooses() {
    let chosen = symbol("chosen", 0x1000, 0x20, GLOBAL | IFUNC);
    let named = symbol("choose", 0x1000, 0x20, LOCAL | FUNC);
    let elf = parse(with_symtab(vec![chosen.clone(), named]).build());
    assert_eq!(names(&elf, &[0x1004]), ["choose+0x4"]);
    let elf = parse(with_symtab(vec![chosen]).build());
    assert_eq!(names(&elf, &[0x1004]), ["chosen.resolver+0x4"]);
}

#[test]
fn variables_are_found_by_their_addresses() {
    let synth = with_symtab(vec![
        symbol("lock", 0x1100, 40, GLOBAL | OBJECT),
        symbol("inside", 0x1108, 8, LOCAL | OBJECT),
        symbol("code", 0x1128, 40, GLOBAL | FUNC),
    ]);
    let elf = parse(synth.build());
    let name = |address| {
        let found = elf.variable(Table::Full, FileAddress(address));
        found.map(|found| String::from_utf8(found.name).unwrap())
    };
    assert_eq!(name(0x1100).as_deref(), Some("lock"));
    assert_eq!(name(0x1108).as_deref(), Some("inside"));
    assert_eq!(name(0x1127).as_deref(), Some("lock"));
    assert_eq!(name(0x1128), None, "a function");
    assert_eq!(name(0x10ff), None);
    assert_eq!(elf.variable(Table::Dynamic, FileAddress(0x1100)), None);
}

#[test]
fn versions_are_left_out() {
    let elf = parse(with_symtab(vec![symbol("twice@@LIB_2", 0x1000, 8, GLOBAL | FUNC)]).build());
    assert_eq!(names(&elf, &[0x1001]), ["twice+0x1"]);
}

#[test]
fn a_symbol_without_size_reaches_to_the_next() {
    let labels = vec![
        symbol("start", 0x1000, 0, GLOBAL | NOTYPE),
        symbol("sized", 0x1010, 0x10, GLOBAL | FUNC),
        symbol("last", 0x1100, 0, LOCAL | FUNC),
    ];
    let elf = parse(with_symtab(labels.clone()).build());
    assert_eq!(
        names(
            &elf,
            &[0xfff, 0x1000, 0x100f, 0x1010, 0x1020, 0x1fff, 0x2000]
        ),
        [
            "-",
            "start+0x0",
            "start+0xf",
            "sized+0x0",
            "-",
            "last+0xeff",
            "-"
        ]
    );
    // In .dynsym, which does not have the symbols in between, only functions, and not far.
    let elf = parse(
        Synth {
            dynsym: labels,
            ..Synth::new()
        }
        .build(),
    );
    assert_eq!(
        names(
            &elf,
            &[0x1000, 0x1001, 0x1011, 0x1020, 0x1100, 0x14ff, 0x1500]
        ),
        [
            "start+0x0",
            "-",
            "sized+0x1",
            "-",
            "last+0x0",
            "last+0x3ff",
            "-"
        ]
    );
}

#[test]
fn markers_and_thumb_bits_are_no_part_of_arm_names() {
    let symtab = vec![
        symbol("$x", 0x1000, 0, LOCAL | NOTYPE),
        symbol("function", 0x1000, 0x20, LOCAL | FUNC),
        symbol("$d.7", 0x1020, 0, LOCAL | NOTYPE),
        symbol("label", 0x1030, 0, LOCAL | NOTYPE),
        symbol("$x", 0x1034, 0, LOCAL | NOTYPE),
    ];
    let aarch64 = Synth {
        machine: 183,
        ..with_symtab(symtab)
    };
    assert_eq!(
        names(&parse(aarch64.build()), &[0x1004, 0x1024, 0x1038]),
        ["function+0x4", "-", "label+0x8"]
    );
    let arm = Synth {
        machine: 40,
        wide: false,
        ..with_symtab(vec![symbol("thumb", 0x1001, 0x10, GLOBAL | FUNC)])
    };
    assert_eq!(
        names(&parse(arm.build()), &[0x1000, 0x100f]),
        ["thumb+0x0", "thumb+0xf"]
    );
}

#[test]
fn every_address_of_a_stretch_has_the_stretchs_answer() {
    let elf = parse(
        with_symtab(vec![
            symbol("a", 0x1000, 0x40, LOCAL | FUNC),
            symbol("b", 0x1010, 0x10, GLOBAL | FUNC),
            symbol("c", 0x1050, 0, LOCAL | FUNC),
            symbol("d", 0x1060, 0x10, LOCAL | FUNC),
        ])
        .build(),
    );
    let all: Vec<FileAddress> = (0xff0..0x2010).map(FileAddress).collect();
    let together = elf.functions(&all).unwrap();
    for (&address, answer) in all.iter().zip(&together) {
        let alone = elf.functions(&[address]).unwrap().remove(0);
        assert_eq!(alone.found, answer.found, "{address:?}");
        assert!(alone.low <= address && address < alone.high);
        let same = all
            .iter()
            .zip(&together)
            .filter(|(&other, _)| alone.low <= other && other < alone.high);
        for (other, theirs) in same {
            assert_eq!(theirs.found, alone.found, "{address:?} {other:?}");
        }
    }
}

#[test]
fn what_is_not_for_us_is_refused() {
    let refuse = |bytes: &[u8]| ElfFile::parse(Source::memory(bytes.to_vec())).unwrap_err();
    assert_eq!(refuse(b""), ElfError::NotElf);
    assert_eq!(refuse(b"#!/bin/sh\n"), ElfError::NotElf);
    let mut bytes = Synth::new().build();
    bytes[5] = 2;
    assert_eq!(refuse(&bytes), ElfError::BigEndian);
    bytes[5] = 1;
    bytes[16] = 4;
    assert_eq!(refuse(&bytes), ElfError::Kind(4));
}

/// Everything that can be asked, of bytes that may be anything.
fn ask_everything(bytes: &[u8]) {
    let Ok(elf) = ElfFile::parse(Source::memory(bytes.to_vec())) else {
        return;
    };
    let addresses = [0, 0x1000, 0x1008, 0x1fff, u64::MAX].map(FileAddress);
    let _ = elf.functions(&addresses);
    for address in addresses {
        let _ = elf.file_offset(address);
    }
    let home = Home {
        root: None,
        dir: "/nonexistent".into(),
    };
    let _ = find_debug_file(&elf, &[home], &DebugDirs::default());
}

fn hostile_sample(wide: bool, sections: bool) -> Vec<u8> {
    let symbols = vec![
        symbol("one", 0x1000, 0x10, GLOBAL | FUNC),
        symbol("two", 0x1010, 0, LOCAL | NOTYPE),
    ];
    Synth {
        wide,
        sections,
        machine: 183,
        symtab: symbols.clone(),
        dynsym: symbols,
        debug_link: Some(("x.debug", 7)),
        ..Synth::new()
    }
    .build()
}

#[test]
fn a_file_cut_anywhere_does_no_harm() {
    for (wide, sections) in [(true, true), (true, false), (false, true), (false, false)] {
        let bytes = hostile_sample(wide, sections);
        for len in 0..bytes.len() {
            ask_everything(&bytes[..len]);
        }
    }
}

#[test]
fn absurd_numbers_do_no_harm() {
    for (wide, sections) in [(true, true), (true, false), (false, true), (false, false)] {
        let bytes = hostile_sample(wide, sections);
        for at in 0..bytes.len() {
            for width in [1, 2, 4, 8] {
                for filler in [0xff, 0x7f, 0x80, 0] {
                    let mut bytes = bytes.clone();
                    let end = (at + width).min(bytes.len());
                    bytes[at..end].fill(filler);
                    ask_everything(&bytes);
                }
            }
        }
    }
}

#[test]
fn checksums_are_those_of_the_format() {
    assert_eq!(
        crc32(&Source::memory(b"123456789".to_vec())),
        Some(0xcbf4_3926)
    );
    assert_eq!(crc32(&Source::memory(vec![0; 65_536])), Some(0xd797_8eeb));
}

/// What `nm` prints: for each value, the names of functions there; skips without it.
fn nm(path: &str, dynamic: bool) -> Option<BTreeMap<u64, BTreeSet<String>>> {
    if !host::has("nm") {
        return None;
    }
    let mut command = Command::new("nm");
    if dynamic {
        command.arg("-D");
    }
    command.args(["--defined-only", "--without-symbol-versions", path]);
    let out = command.output().unwrap();
    assert!(out.status.success(), "nm {path}");
    let mut names: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let mut words = line.split_whitespace();
        let (Some(value), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if matches!(kind, "T" | "t" | "W" | "i") {
            let value = u64::from_str_radix(value, 16).unwrap();
            names.entry(value).or_default().insert(name.to_owned());
        }
    }
    Some(names)
}

fn compare_with_nm(path: &str, dynamic: bool) {
    let elf = open(path);
    let Some(expected) = nm(path, dynamic) else {
        return;
    };
    let values: Vec<u64> = expected.keys().copied().collect();
    let mut wrong = Vec::new();
    for (value, shown) in values.iter().zip(names(&elf, &values)) {
        let name = shown.strip_suffix("+0x0").unwrap_or("");
        let name = name.strip_suffix(".resolver").unwrap_or(name);
        if !expected[value].contains(name) {
            wrong.push(format!("{value:#x}: {shown}, not {:?}", expected[value]));
        }
    }
    assert!(values.len() > 1, "{path}");
    assert!(wrong.is_empty(), "{path}: {wrong:#?}");
}

#[test]
fn names_in_libc_are_those_of_nm() {
    let Some(path) = host::libc() else {
        return;
    };
    compare_with_nm(&path, true);
}

#[test]
fn names_in_this_test_are_those_of_nm() {
    let itself = std::env::current_exe().unwrap();
    let itself = itself.to_str().unwrap();
    if !open(itself).has_symtab() {
        host::skip("this profile strips what it builds");
        return;
    }
    compare_with_nm(itself, false);
}

#[test]
fn real_programs_have_what_walks_need() {
    let libc = host::libc();
    for path in ["/bin/ls", "/bin/sh"].into_iter().chain(libc.as_deref()) {
        let elf = open(path);
        let header = elf.section(CfiSection::EhFrameHdr).unwrap();
        let frames = elf.section(CfiSection::EhFrame).unwrap();
        assert!(header.size > 12 && frames.size > 100, "{path}");
        assert_eq!(elf.build_id().map(<[u8]>::len), Some(20), "{path}");
        let (offset, left) = elf.file_offset(header.address).unwrap();
        let range = elf.section_range(CfiSection::EhFrameHdr).unwrap();
        assert_eq!((offset.0, left >= header.size), (range.offset, true));
    }
}

#[test]
fn without_section_headers_the_same_is_found() {
    let Some(path) = host::libc() else {
        return;
    };
    let (whole, mut bytes) = (open(&path), std::fs::read(&path).unwrap());
    // e_shoff, e_shnum, e_shstrndx
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    let cut = parse(bytes);
    assert_eq!(cut.build_id(), whole.build_id());
    for section in [CfiSection::EhFrameHdr, CfiSection::EhFrame] {
        let (cut, whole) = (
            cut.section(section).unwrap(),
            whole.section(section).unwrap(),
        );
        assert_eq!(cut.address, whole.address);
        assert!(cut.size >= whole.size);
    }
    let Some(functions) = nm(&path, true) else {
        return;
    };
    let starts: Vec<u64> = functions.into_keys().collect();
    assert!(starts.len() > 1000, "{}", starts.len());
    assert_eq!(names(&cut, &starts), names(&whole, &starts));
}

#[test]
fn our_own_image_names_its_functions() {
    let Some(image) = crate::sys::vdso::image() else {
        host::skip("the kernel gives this process no vdso");
        return;
    };
    let elf = parse(image);
    assert!(elf.section(CfiSection::EhFrame).is_some());
    let size = elf.loads()[0].memory_size;
    let all: Vec<u64> = (0..size).collect();
    let named = names(&elf, &all);
    assert!(named.iter().any(|name| name.contains("clock_gettime+0x0")));
}

#[test]
fn a_stripped_go_program_has_names() {
    if !host::has("go") {
        return;
    }
    let dir = std::env::temp_dir().join(format!("sa-go-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("prog.go"), "package main\n\nfunc main() {}\n").unwrap();
    let mut go = Command::new("go");
    go.args(["build", "-ldflags=-s -w", "-o", "prog", "prog.go"]);
    // What it compiles for that, it keeps for the next time.
    let cache = std::env::current_exe().unwrap().with_file_name("go-cache");
    go.env("GO111MODULE", "off").env("CGO_ENABLED", "0");
    let out = go.env("GOCACHE", cache).current_dir(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let program = std::fs::read(dir.join("prog")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let elf = parse(program);
    assert!(!elf.has_symtab());
    let mut entry = [0; 8];
    elf.source().read_exact(24, &mut entry).unwrap();
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(
        names(&elf, &[u64::from_le_bytes(entry)]),
        [format!("_rt0_{machine}_linux+0x0")]
    );
}

/// Stubs as `objdump` names them: address and name; skips without it.
fn stubs(program: &str) -> Vec<(u64, String)> {
    if !host::has("objdump") {
        return Vec::new();
    }
    let sections = ["-j", ".plt", "-j", ".plt.sec", "-j", ".plt.got"];
    let out = Command::new("objdump")
        .arg("-d")
        .args(sections)
        .arg(program)
        .output();
    let text = String::from_utf8_lossy(&out.unwrap().stdout).into_owned();
    // 0000000000004060 <free@plt>:
    let head = |line: &str| {
        let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
        let plain = name.ends_with("@plt") && !name.contains('+');
        let address = u64::from_str_radix(address, 16).ok()?;
        plain.then(|| (address, name.to_owned()))
    };
    let found: Vec<_> = text.lines().filter_map(head).collect();
    assert!(found.len() > 10, "{program}: {text}");
    found
}

#[test]
fn stubs_are_named_as_objdump_names_them() {
    for program in ["/bin/ls", "/bin/bash"] {
        let elf = open(program);
        for (address, name) in stubs(program) {
            // A program has functions of its own with such names.
            let expected = [
                format!("{name}+0x6"),
                format!("{}+0x6", &name[..name.len() - 4]),
            ];
            let got = names(&elf, &[address + 6]);
            assert!(
                expected.contains(&got[0]),
                "{program} {address:#x}: {got:?}"
            );
        }
    }
}

#[test]
fn section_headers_of_any_content_do_no_harm() {
    let good = std::fs::read("/bin/ls").unwrap();
    let addresses: Vec<FileAddress> = stubs("/bin/ls")
        .iter()
        .step_by(16)
        .map(|stub| FileAddress(stub.0))
        .collect();
    let headers = u64::from_le_bytes(good[0x28..0x30].try_into().unwrap()) as usize;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = headers + state as usize % (bytes.len() - headers - 8);
            bytes[at..at + 4].copy_from_slice(&((state >> 32) as u32).to_le_bytes());
        }
        if let Ok(elf) = ElfFile::parse(Source::memory(bytes)) {
            let _ = elf.functions(&addresses);
        }
    }
}
