//! Debug information of which parts are in other files: with these files, without them, and
//! with others in their place.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::{brief, code, known, parse, Scratch};
use super::*;
use crate::host;
use crate::symbols::elf::{find_supplement, DebugDirs};
use crate::sys::file::RegularFile;

fn addresses(path: &Path) -> Vec<FileAddress> {
    let code = code(path, "outer", 1).into_iter();
    code.chain(code_of_main(path)).map(FileAddress).collect()
}

fn code_of_main(path: &Path) -> Vec<u64> {
    code(path, "main", 3)
}

struct Supplement(Option<ElfFile>);

impl Others for Supplement {
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        self.0.as_ref().ok_or(Refused::Supplement.into())
    }
}

/// A program whose common part with another one dwz has moved into a file of its own, and
/// what it was before.
fn dwz(dir: &Scratch, options: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let path = dir.build("gcc", &["-O2", "-g", "-gz=none"])?;
    if !host::has("dwz") {
        return None;
    }
    let plain = dir.0.join("plain");
    std::fs::copy(&path, &plain).unwrap();
    std::fs::copy(&path, dir.0.join("other")).unwrap();
    let mut command = Command::new("dwz");
    command
        .args(options)
        .args(["-m", "common", "prog", "other"]);
    assert!(command.current_dir(&dir.0).status().unwrap().success());
    Some((path, plain))
}

#[test]
fn names_may_be_in_a_supplementary_file() {
    for options in [&[][..], &["--dwarf-5"]] {
        let dir = Scratch::new(&format!("dwz{}", options.concat()));
        let Some((path, plain)) = dwz(&dir, options) else {
            return;
        };
        let at = addresses(&path);
        let whole = known(&parse(&plain), &brief(), &at);
        let elf = parse(&path);
        let link = elf.supplement_link().unwrap();
        assert_eq!(&*link.name, b"common");
        let find = || Supplement(find_supplement(&elf, &[], &DebugDirs::default()));
        let found = calls(&elf, &brief(), &find(), &at);
        assert_eq!(found.lack, None, "{options:?}");
        assert!(found.calls == whole, "{options:?}");
        // It may lie below a debug directory, by its build-id.
        let id = crate::base::bytes::hex(&link.id);
        let debug = dir.0.join(".build-id").join(&id[..2]);
        std::fs::create_dir_all(&debug).unwrap();
        let common = dir.0.join("common");
        let by_id = debug.join(format!("{}.debug", &id[2..]));
        std::fs::rename(&common, &by_id).unwrap();
        assert!(find().0.is_none());
        let dirs = DebugDirs {
            packages: vec![dir.0.clone()],
            ..DebugDirs::default()
        };
        let found = Supplement(find_supplement(&elf, &[], &dirs));
        assert!(calls(&elf, &brief(), &found, &at).calls == whole);
        // Without it only names are missing; they are not those of other functions.
        std::fs::remove_file(by_id).unwrap();
        let found = calls(&elf, &brief(), &find(), &at);
        assert_eq!(found.lack, Some(Refused::Supplement.into()));
        let mut nameless = 0;
        for (found, whole) in found.calls.iter().zip(&whole) {
            assert_eq!(found.len(), whole.len());
            for (call, known) in found.iter().zip(whole) {
                assert!(call.name.is_none() || call.name == known.name);
                nameless += usize::from(call.name != known.name);
                let name = known.name.clone();
                assert_eq!(
                    &Call {
                        name,
                        ..call.clone()
                    },
                    known
                );
            }
        }
        assert!(nameless > 0);
        // A file of that name which is another one.
        std::fs::copy(&plain, &common).unwrap();
        assert!(find().0.is_none());
    }
}

/// The files that lie there, as they are now.
struct There {
    package: Option<ElfFile>,
}

fn open(path: &Path) -> Option<ElfFile> {
    let source = Source::file(RegularFile::open(path).ok()?).unwrap();
    ElfFile::parse_debug(source).ok()
}

impl There {
    fn new(program: &Path) -> Self {
        There {
            package: open(&program.with_extension("dwp")),
        }
    }
}

impl Others for There {
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        unreachable!("nothing leads to one")
    }

    fn package(&self) -> Option<&ElfFile> {
        self.package.as_ref()
    }

    fn object(&self, path: &Path) -> Option<ElfFile> {
        open(path)
    }
}

const SPLIT: &[(&str, &[&str])] = &[
    ("gcc", &["-O2", "-gz=none", "-gdwarf-5"]),
    ("gcc", &["-O2", "-gz=none", "-gdwarf-4"]),
    ("clang-19", &["-O2", "-gdwarf-5"]),
    ("clang-19", &["-O2", "-gdwarf-4"]),
];

/// The object that the compiler wrote.
fn object(dir: &Scratch) -> PathBuf {
    let entries = std::fs::read_dir(&dir.0).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.find(|path| path.extension().is_some_and(|ending| ending == "dwo"));
    found.expect("a .dwo file")
}

fn split(dir: &Scratch, compiler: &str, flags: &[&str]) -> Option<(PathBuf, Vec<Vec<Call>>)> {
    let plain = dir.build(compiler, flags)?;
    let whole = known(&parse(&plain), &brief(), &addresses(&plain));
    assert!(whole.iter().any(|calls| calls.len() > 2));
    let path = dir.build(compiler, &[flags, &["-gsplit-dwarf"]].concat())?;
    Some((path, whole))
}

#[test]
fn functions_may_be_in_an_object_or_a_package() {
    for &(compiler, flags) in SPLIT {
        let name = format!("{compiler}{}", flags.concat());
        let dir = Scratch::new(&format!("split-{name}"));
        let Some((path, whole)) = split(&dir, compiler, flags) else {
            continue;
        };
        let (elf, at) = (parse(&path), addresses(&path));
        let budget = Rc::new(crate::base::budget::MemoryBudget::new(1 << 20));
        let ask = || {
            let lines = calls(&elf, &brief(), &There::new(&path), &at);
            let kept = Memory::kept(budget.clone());
            for _ in 0..2 {
                assert!(
                    calls(&elf, &kept, &There::new(&path), &at) == lines,
                    "{name}"
                );
            }
            lines
        };
        let is_whole = |lines: &Lines| {
            assert_eq!(lines.lack, None, "{name}");
            assert!(lines.calls == whole, "{name}");
        };
        is_whole(&ask());
        let object = object(&dir);
        let lacks = |reason| {
            let lines = ask();
            assert!(lines.calls.iter().all(Vec::is_empty), "{name}");
            let lack = lines.lack.expect("something is missing");
            assert_eq!(lack.reason, reason, "{name}");
            let file = lack.file.expect("it is named");
            let file_name = object.file_name().unwrap().as_encoded_bytes();
            assert!(file.ends_with(file_name), "{name}");
        };
        if host::has("llvm-dwp-19") {
            let mut dwp = Command::new("llvm-dwp-19");
            dwp.args(["-e", "prog", "-o", "prog.dwp"])
                .current_dir(&dir.0);
            assert!(dwp.status().unwrap().success());
            let elsewhere = object.with_extension("elsewhere");
            std::fs::rename(&object, &elsewhere).unwrap();
            is_whole(&ask());
            hostile_package(&elf, &path, &at, &whole);
            // A package of another program: the objects count.
            std::fs::copy(&path, path.with_extension("dwp")).unwrap();
            lacks(Refused::NoObject);
            std::fs::remove_file(path.with_extension("dwp")).unwrap();
            std::fs::rename(&elsewhere, &object).unwrap();
        }
        hostile_object(&elf, &object, &at);
        is_whole(&ask());
        // Of a program that was compiled later.
        let good = std::fs::read(&object).unwrap();
        let other = std::fs::read_to_string(dir.0.join("prog.c")).unwrap();
        std::fs::write(dir.0.join("prog.c"), format!("int more;\n{other}")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        dir.build(compiler, &[flags, &["-gsplit-dwarf"]].concat())
            .unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert!(std::fs::read(&object).unwrap() != good);
        lacks(Refused::OtherObject);
        std::fs::remove_file(&object).unwrap();
        lacks(Refused::NoObject);
        assert_eq!(budget.used(), 0);
    }
}

struct Held {
    package: Option<ElfFile>,
    object: Option<Vec<u8>>,
}

impl Others for Held {
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        Err(Refused::Supplement.into())
    }

    fn package(&self) -> Option<&ElfFile> {
        self.package.as_ref()
    }

    fn object(&self, _: &Path) -> Option<ElfFile> {
        ElfFile::parse_debug(Source::memory(self.object.clone()?)).ok()
    }
}

/// Places of a section, and a few values for each.
fn changes(elf: &ElfFile, sections: &[Section]) -> Vec<(usize, u8)> {
    let stored = sections
        .iter()
        .map(|section| elf.split_sections().get(*section));
    let places = stored.flat_map(|stored| {
        let range = stored.range;
        range.offset..range.offset + range.size
    });
    let values = [0xff, 0x80, 0x00, 0x01, 0x16, 0x21];
    let places = places.enumerate();
    places
        .map(|(number, at)| (at as usize, values[number % 6]))
        .collect()
}

/// Whatever its table says: what is known is right.
fn hostile_package(elf: &ElfFile, path: &Path, at: &[FileAddress], whole: &[Vec<Call>]) {
    let good = std::fs::read(path.with_extension("dwp")).unwrap();
    let package = ElfFile::parse_debug(Source::memory(good.clone())).unwrap();
    let changes = changes(&package, &[Section::CuIndex]);
    assert!(changes.len() > 40, "{}", changes.len());
    for (place, _) in changes {
        for value in [0x00, 0x01, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[place] = value;
            let package = ElfFile::parse_debug(Source::memory(bytes)).ok();
            let others = Held {
                package,
                object: None,
            };
            let lines = calls(elf, &brief(), &others, at);
            let names = |calls: &Call| (calls.inlined, calls.file.clone(), calls.line);
            for (found, whole) in lines.calls.iter().zip(whole) {
                let same = found.iter().map(names).eq(whole.iter().map(names));
                assert!(found.is_empty() || same, "{place:#x} {value:#x}");
            }
        }
    }
}

fn hostile_object(elf: &ElfFile, object: &Path, at: &[FileAddress]) {
    let good = std::fs::read(object).unwrap();
    let parsed = ElfFile::parse_debug(Source::memory(good.clone())).unwrap();
    let sections = [
        Section::Info,
        Section::Abbrev,
        Section::StrOffsets,
        Section::Rnglists,
    ];
    for (place, value) in changes(&parsed, &sections) {
        let mut bytes = good.clone();
        bytes[place] = value;
        let others = Held {
            package: None,
            object: Some(bytes),
        };
        let lines = calls(elf, &brief(), &others, at);
        assert_eq!(lines.calls.len(), at.len());
    }
}
