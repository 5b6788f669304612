//! Sections that binutils and LLVM compressed, and what becomes of them when their bytes are
//! changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::*;
use crate::base::allowance::Allowance;
use crate::host;
use crate::symbols::elf::{ElfFile, Section, Stored};
use crate::sys::file::RegularFile;

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sa-inflate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// A program, and the same with its sections compressed in each form that tools here know.
    fn programs(&self) -> Option<(PathBuf, Vec<(Compression, PathBuf)>)> {
        let tools = ["gcc", "objcopy", "llvm-objcopy-19"];
        if !tools.into_iter().all(host::has) {
            return None;
        }
        let text: Vec<String> = (0..400)
            .map(|n| format!("int function_{n}(int x) {{ return x * {n} + 1; }}\n"))
            .collect();
        let (source, plain) = (self.0.join("prog.c"), self.0.join("prog"));
        std::fs::write(&source, text.concat() + "int main(void) { return 0; }\n").unwrap();
        run("gcc", &["-g", "-gz=none", "-o"], &[&plain, &source]);
        let forms = [
            (Compression::Zlib, "objcopy", "zlib"),
            (Compression::ZlibGnu, "objcopy", "zlib-gnu"),
            (Compression::Zstd, "llvm-objcopy-19", "zstd"),
        ];
        let compressed = forms.into_iter().map(|(form, tool, name)| {
            let to = self.0.join(name);
            let how = format!("--compress-debug-sections={name}");
            run(tool, &[&how], &[&plain, &to]);
            (form, to)
        });
        let compressed = compressed.collect();
        Some((plain, compressed))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, options: &[&str], files: &[&Path]) {
    let status = Command::new(program).args(options).args(files).status();
    assert!(status.unwrap().success(), "{program} {options:?}");
}

fn parse(path: &Path) -> ElfFile {
    let file = RegularFile::open(path).unwrap();
    ElfFile::parse(Source::file(file).unwrap()).unwrap()
}

fn unpack(source: &Source, stored: Stored) -> Result<Vec<u8>, Trouble> {
    let packed = stored.packed.expect("it is compressed");
    let mut bytes = Vec::new();
    inflate(source, stored.range, packed, &mut |piece| {
        bytes.extend_from_slice(piece);
        assert!(bytes.len() as u64 <= packed.size);
        Ok(())
    })?;
    Ok(bytes)
}

#[test]
fn what_tools_compressed_is_unpacked() {
    let dir = Scratch::new("tools");
    let Some((plain, compressed)) = dir.programs() else {
        return;
    };
    let plain = parse(&plain);
    for (form, path) in compressed {
        let elf = parse(&path);
        for section in [Section::Info, Section::Line, Section::Str] {
            let range = plain.debug_sections().get(section).range;
            let size = usize::try_from(range.size).unwrap();
            let expected = plain.source().read_vec(range.offset, size).unwrap();
            let stored = elf.debug_sections().get(section);
            let packed = Packed {
                form,
                size: range.size,
            };
            assert_eq!(stored.packed, Some(packed), "{path:?} {section:?}");
            let found = unpack(elf.source(), stored).unwrap();
            assert!(found == expected, "{path:?} {section:?}");
        }
    }
}

#[test]
fn sizes_are_what_the_header_says() {
    let dir = Scratch::new("sizes");
    let Some((_, compressed)) = dir.programs() else {
        return;
    };
    for (_, path) in compressed {
        let elf = parse(&path);
        let stored = elf.debug_sections().get(Section::Info);
        let right = stored.packed.unwrap();
        for size in [0, 1, right.size - 1, right.size + 1, u64::MAX] {
            let packed = Some(Packed { size, ..right });
            let found = unpack(elf.source(), Stored { packed, ..stored });
            assert_eq!(found, Err(Trouble::Damaged), "{path:?} {size}");
        }
        // Cut off, wherever that is.
        for left in [0, 1, 5, stored.range.size / 2, stored.range.size - 5] {
            let mut short = stored;
            short.range.size = left;
            assert_eq!(unpack(elf.source(), short), Err(Trouble::Damaged));
        }
        let unknown = Some(Packed {
            form: Compression::Other,
            ..right
        });
        let found = unpack(
            elf.source(),
            Stored {
                packed: unknown,
                ..stored
            },
        );
        assert_eq!(found, Err(Trouble::Unknown));
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let dir = Scratch::new("time");
    let Some((_, compressed)) = dir.programs() else {
        return;
    };
    for (_, path) in compressed {
        let stored = parse(&path).debug_sections().get(Section::Info);
        let size = stored.packed.unwrap().size;
        for (units, enough) in [(size * 4, false), (size * 8 * 20 + (1 << 20), true)] {
            let allowance = Rc::new(Allowance::of_work(units));
            let source = Source::file(RegularFile::open(&path).unwrap()).unwrap();
            let source = source.within(Some(&allowance));
            let found = unpack(&source, stored).map(|bytes| bytes.len() as u64);
            let expected = if enough {
                Ok(size)
            } else {
                Err(Trouble::TimedOut)
            };
            assert_eq!(found, expected, "{path:?}");
        }
    }
}

#[test]
fn bytes_of_any_content_do_no_harm() {
    let dir = Scratch::new("hostile");
    let Some((_, compressed)) = dir.programs() else {
        return;
    };
    for (_, path) in compressed {
        let stored = parse(&path).debug_sections().get(Section::Info);
        let good = std::fs::read(&path).unwrap();
        let place =
            stored.range.offset as usize..(stored.range.offset + stored.range.size) as usize;
        let mut damaged = 0;
        for (index, at) in place.clone().enumerate() {
            let mut bytes = good.clone();
            bytes[at] = [0xff, 0x00, 0x80, 0x01, bytes[at] ^ 1, bytes[at] ^ 0x40][index % 6];
            let found = unpack(&Source::memory(bytes), stored);
            damaged += usize::from(found == Err(Trouble::Damaged));
        }
        assert!(damaged > place.len() / 10, "{path:?}: {damaged}");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes[place.start + state as usize % place.len()] = (state >> 40) as u8;
            }
            let _ = unpack(&Source::memory(bytes), stored);
        }
    }
}
