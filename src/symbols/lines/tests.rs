//! Programs of this machine's compilers against binutils' `addr2line`, and debug
//! information that was cut and changed.

use super::*;
use crate::base::allowance::Allowance;
use crate::base::budget::MemoryBudget;
use crate::host;
use crate::sys::file::RegularFile;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

const SOURCE: &str = r#"
#include "inner.h"
volatile int sink;
static inline __attribute__((always_inline)) int middle(int *p)
{
    sink++;
    return inner(p) + 1;
}
__attribute__((noinline)) int outer(int *p)
{
    int sum = 0;
    for (int i = 0; i < 3; i++) {
        sum += middle(p + i);
        sum ^= inner(p);
    }
    return sum;
}
int main(int argc, char **argv)
{
    (void)argv;
    return outer(&argc) + middle(&argc);
}
"#;

const HEADER: &str = r#"
extern volatile int sink;
static inline __attribute__((always_inline)) int inner(int *p)
{
    sink += 2;
    return *p * sink;
}
"#;

/// With room for whatever is compressed.
pub(super) fn brief() -> Memory {
    Memory::brief(Rc::new(MemoryBudget::new(1 << 30)))
}

/// What is known of the addresses of a file that is alone, which lacks nothing.
pub(super) fn known(elf: &ElfFile, memory: &Memory, addresses: &[FileAddress]) -> Vec<Vec<Call>> {
    let lines = calls(elf, memory, &Alone, addresses);
    assert_eq!(lines.lack, None);
    lines.calls
}

/// Why nothing is known of them.
fn refused(elf: &ElfFile, memory: &Memory, addresses: &[FileAddress]) -> Option<Refused> {
    let lines = calls(elf, memory, &Alone, addresses);
    assert!(lines.calls.iter().all(Vec::is_empty));
    lines.lack.map(|lack| lack.reason)
}

/// A directory of one test's own, removed when dropped.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sa-lines-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("include")).unwrap();
        std::fs::write(path.join("prog.c"), SOURCE).unwrap();
        std::fs::write(path.join("include/inner.h"), HEADER).unwrap();
        Scratch(path)
    }

    /// The program as this compiler makes it; skips without one, or without `nm`.
    pub(super) fn build(&self, compiler: &str, flags: &[&str]) -> Option<PathBuf> {
        if !host::has(compiler) || !host::has("nm") {
            return None;
        }
        let mut command = Command::new(compiler);
        command
            .args(flags)
            .args(["-Iinclude", "prog.c", "-o", "prog"]);
        let output = command.current_dir(&self.0).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler} {flags:?}: {said}");
        Some(self.0.join("prog"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn parse(path: &Path) -> ElfFile {
    let file = RegularFile::open(path).unwrap();
    ElfFile::parse(Source::file(file).unwrap()).unwrap()
}

/// Every `step`th address of the functions whose symbols contain `part`.
pub(super) fn code(path: &Path, part: &str, step: u64) -> Vec<u64> {
    let out = Command::new("nm").arg("-S").arg(path).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut addresses = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [start, size, "t" | "T", name] = fields[..] else {
            continue;
        };
        if name.contains(part) {
            let [start, size] = [start, size].map(|n| u64::from_str_radix(n, 16).unwrap());
            addresses.extend((start..start + size).step_by(step as usize));
        }
    }
    assert!(!addresses.is_empty(), "no {part} in {path:?}");
    addresses
}

const BINUTILS: &[&str] = &["addr2line"];
/// For the output of clang, whose indirect lists binutils 2.40 does not know.
const LLVM: &[&str] = &["llvm-symbolizer-19", "--output-style=GNU", "--no-demangle"];

/// `function` and `path:line` of each call, as `addr2line -i -f -a` has them; skips
/// without the tool.
fn oracle(tool: &[&str], path: &Path, addresses: &[u64]) -> Option<Vec<Vec<(String, String)>>> {
    if !host::has(tool[0]) {
        return None;
    }
    let mut command = Command::new(tool[0]);
    command.args(&tool[1..]);
    command.args(["-i", "-f", "-a", "-e"]).arg(path);
    command.args(addresses.iter().map(|address| format!("{address:#x}")));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let mut all: Vec<Vec<(String, String)>> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            all.push(Vec::new());
            continue;
        }
        let place = lines.next().unwrap().split(" (disc").next().unwrap();
        let calls = all.last_mut().expect("an address comes first");
        calls.push((line.to_owned(), place.to_owned()));
    }
    assert_eq!(all.len(), addresses.len(), "{tool:?}");
    Some(all)
}

/// The same of ours; the function itself has the oracle's name.
fn ours(elf: &ElfFile, addresses: &[u64]) -> Vec<Vec<(Option<String>, String)>> {
    let addresses: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
    let text = |bytes: &Option<Rc<[u8]>>| {
        let bytes = bytes.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    };
    let show = |call: &Call| {
        let place = match (text(&call.file), call.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => "??".to_owned(),
        };
        (text(&call.name), place)
    };
    let calls = known(elf, &brief(), &addresses);
    calls
        .iter()
        .map(|calls| calls.iter().map(show).collect())
        .collect()
}

/// Compares places, and names too if that is asked for; how many of the addresses are in inlined calls.
fn compare(tool: &[&str], path: &Path, addresses: &[u64], names: bool) -> Option<usize> {
    let oracle = oracle(tool, path, addresses)?;
    let ours = ours(&parse(path), addresses);
    let (mut inlined, mut known) = (0, 0);
    for ((expected, got), address) in oracle.iter().zip(&ours).zip(addresses) {
        let same = |(expected, got): (&(String, String), &(Option<String>, String))| {
            let name = !names || got.0.as_ref().is_none_or(|name| *name == expected.0);
            // A line of 0 or none reads `:?`.
            let place = got.1 == expected.1 || expected.1.ends_with('?') || expected.1.ends_with(":0")
                // binutils 2.40 takes this for file 1 of code that gcc made at link time.
                || expected.1.contains("<artificial>");
            name && place
        };
        let unknown = expected.len() == 1 && expected[0].1.starts_with("??:");
        let equal = expected.len() == got.len() && expected.iter().zip(got).all(same);
        assert!(
            unknown || equal,
            "{path:?} {address:#x}:\n{expected:?}\n{got:?}"
        );
        inlined += usize::from(got.len() > 1);
        known += usize::from(!unknown);
    }
    // binutils 2.40 cannot read the 64-bit format, and says nothing then.
    println!("{path:?}: {known} of {} known to {tool:?}", addresses.len());
    Some(inlined)
}

#[test]
fn lines_and_inlined_calls_are_those_of_addr2line() {
    for compiler in ["gcc", "clang-19"] {
        for flags in [
            &["-O2", "-gdwarf-5"][..],
            &["-O2", "-gdwarf-4"],
            &["-O2", "-gdwarf-3"],
            &["-O2", "-gdwarf-2", "-gno-strict-dwarf"],
            &["-O0", "-gdwarf-5"],
            &["-O2", "-gdwarf-5", "-gdwarf64"],
            &["-O2", "-gdwarf-5", "-ffunction-sections"],
            &["-O2", "-gdwarf-5", "-flto"],
            &["-O2", "-g1"],
            &["-O2", "-g", "-gno-as-loc-support"],
        ] {
            // clang's own assembler needs no such option.
            if compiler != "gcc" && flags.contains(&"-gno-as-loc-support") {
                continue;
            }
            let name = format!("{compiler}{}", flags.concat());
            let dir = Scratch::new(&name);
            let Some(path) = dir.build(compiler, flags) else {
                continue;
            };
            let mut addresses = code(&path, "outer", 1);
            addresses.extend(code(&path, "main", 1));
            let tool = if compiler == "gcc" { BINUTILS } else { LLVM };
            let Some(inlined) = compare(tool, &path, &addresses, true) else {
                continue;
            };
            assert!(inlined > 0, "{name}");
        }
    }
}

#[test]
fn our_own_lines_are_those_of_addr2line() {
    // Some of the functions of this crate, which rustc's linker put together from
    // many units.
    let path = std::env::current_exe().unwrap();
    if !host::has("nm") {
        return;
    }
    let addresses = code(&path, "segfault_analyzer4base5bytes", 7);
    let addresses: Vec<u64> = addresses.into_iter().take(400).collect();
    // If code of other units lies between, binutils 2.40 gives the innermost of many inlined
    // calls the name of the function.
    let Some(inlined) = compare(BINUTILS, &path, &addresses, false) else {
        return;
    };
    assert!(inlined > 0, "{} addresses", addresses.len());
}

#[test]
fn debug_information_may_be_in_a_file_of_its_own() {
    let dir = Scratch::new("separate");
    let Some(path) = dir.build("cc", &["-O2", "-g", "-gz=none"]) else {
        return;
    };
    let addresses = code(&path, "outer", 1);
    let copy = |how: &str, to: &str| {
        let mut command = Command::new("objcopy");
        let done = command.arg(how).arg(&path).arg(dir.0.join(to)).status();
        assert!(done.unwrap().success());
        parse(&dir.0.join(to))
    };
    let whole = ours(&parse(&path), &addresses);
    assert!(whole.iter().all(|calls| !calls.is_empty()));
    assert_eq!(ours(&copy("--only-keep-debug", "debug"), &addresses), whole);
    let stripped = copy("--strip-debug", "stripped");
    assert!(!stripped.debug_sections().exist());
    assert!(ours(&stripped, &addresses).iter().all(Vec::is_empty));
}

#[test]
fn compressed_sections_have_the_same_lines() {
    let dir = Scratch::new("compressed");
    let Some(path) = dir.build("cc", &["-O2", "-g", "-gz=none"]) else {
        return;
    };
    let addresses = code(&path, "outer", 1);
    let at: Vec<FileAddress> = addresses.iter().copied().map(FileAddress).collect();
    let whole = known(&parse(&path), &brief(), &at);
    assert!(whole.iter().any(|calls| calls.len() > 1));
    for (tool, name, form, is_read) in [
        ("objcopy", "zlib", Compression::Zlib, cfg!(feature = "zlib")),
        (
            "objcopy",
            "zlib-gnu",
            Compression::ZlibGnu,
            cfg!(feature = "zlib"),
        ),
        (
            "llvm-objcopy-19",
            "zstd",
            Compression::Zstd,
            cfg!(feature = "zstd"),
        ),
    ] {
        if !host::has(tool) {
            continue;
        }
        let to = dir.0.join(name);
        let mut command = Command::new(tool);
        command.arg(format!("--compress-debug-sections={name}"));
        assert!(command.arg(&path).arg(&to).status().unwrap().success());
        let elf = parse(&to);
        if !is_read {
            let reason = Some(Refused::Compressed(form));
            assert_eq!(refused(&elf, &brief(), &at), reason);
            continue;
        }
        assert!(known(&elf, &brief(), &at) == whole, "{name}");
        for limit in [10 << 20, 1 << 20, 100_000, 20_000, 0] {
            let budget = Rc::new(MemoryBudget::new(limit));
            for memory in [Memory::kept(budget.clone()), Memory::brief(budget.clone())] {
                for _ in 0..2 {
                    let lines = calls(&elf, &memory, &Alone, &at);
                    match lines.lack {
                        None => assert!(lines.calls == whole, "{name} {limit}"),
                        Some(lack) => {
                            assert_eq!(lack.reason, Refused::TooLarge(form));
                            assert!(limit < 1 << 20, "{name} {limit}");
                            assert!(lines.calls.iter().all(Vec::is_empty));
                        }
                    }
                    assert!(budget.used() <= limit, "{name} {limit}");
                }
            }
            assert_eq!(budget.used(), 0);
        }
        // Time that does not suffice is not used up.
        let size = elf.debug_sections().packed().unwrap().1;
        let allowance = Rc::new(Allowance::of_work((size * 8 - 16) * 16));
        let source = Source::file(RegularFile::open(&to).unwrap()).unwrap();
        let hurried = ElfFile::parse(source.within(Some(&allowance))).unwrap();
        let reason = Some(Refused::TooLong(form));
        assert_eq!(refused(&hurried, &brief(), &at), reason);
        assert!(!allowance.is_out());
        let none = Memory::brief(Rc::new(MemoryBudget::new(0)));
        let reason = Some(Refused::TooLarge(form));
        assert_eq!(refused(&elf, &none, &at), reason);
    }
}

#[test]
fn what_is_kept_gives_the_same_answers() {
    for compiler in ["gcc", "clang-19"] {
        let dir = Scratch::new(&format!("kept-{compiler}"));
        let Some(path) = dir.build(compiler, &["-O2", "-g"]) else {
            continue;
        };
        let elf = parse(&path);
        let code: Vec<FileAddress> = code(&path, "", 1).into_iter().map(FileAddress).collect();
        let expected = known(&elf, &brief(), &code);
        assert!(expected.iter().any(|calls| calls.len() > 2));
        // With all the room that it could need, too little for anything, and hardly any.
        for limit in [1 << 20, 16, 3000] {
            let budget = Rc::new(MemoryBudget::new(limit));
            let memory = Memory::kept(budget.clone());
            for addresses in code.chunks(7).rev() {
                let found = known(&elf, &memory, addresses);
                let first = code.iter().position(|at| *at == addresses[0]).unwrap();
                assert_eq!(found, expected[first..first + found.len()]);
                assert!(budget.used() <= limit);
            }
            drop(memory);
            assert_eq!(budget.used(), 0);
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let split = match cfg!(feature = "split") {
        true => "split DWARF: no .dwp file, and a .dwo file is missing",
        false => "split DWARF: .dwo and .dwp files are not read",
    };
    for (flags, reason) in [
        (&["-gsplit-dwarf"][..], split),
        (&["-gsplit-dwarf", "-gdwarf-4"], split),
    ] {
        let dir = Scratch::new(&format!("form{}", flags.concat()));
        let Some(path) = dir.build("gcc", &[&["-O2", "-g"], flags].concat()) else {
            continue;
        };
        let address = FileAddress(code(&path, "outer", 1)[0]);
        let refused = refused(&parse(&path), &brief(), &[address]);
        assert_eq!(refused.map(Refused::as_str), Some(reason), "{flags:?}");
    }
}

#[test]
fn debug_information_of_any_content_does_no_harm() {
    for flags in [&["-O2", "-gdwarf-5"][..], &["-O2", "-gdwarf-4"]] {
        let dir = Scratch::new(&format!("hostile{}", flags[1]));
        let Some(path) = dir.build("cc", flags) else {
            return;
        };
        let addresses: Vec<FileAddress> = code(&path, "outer", 5)
            .into_iter()
            .map(FileAddress)
            .collect();
        let good = std::fs::read(&path).unwrap();
        let sections = *parse(&path).debug_sections();
        let places: Vec<usize> = sections
            .all()
            .iter()
            .flat_map(|stored| {
                let range = stored.range;
                range.offset..range.offset + range.size
            })
            .map(|place| place as usize)
            .collect();
        assert!(places.len() > 500, "{}", places.len());
        let ask = |bytes: Vec<u8>| {
            if let Ok(elf) = ElfFile::parse(Source::memory(bytes)) {
                let budget = Rc::new(MemoryBudget::new(1 << 20));
                let _ = calls(&elf, &Memory::kept(budget), &Alone, &addresses);
                let _ = calls(&elf, &brief(), &Alone, &addresses);
            }
        };
        // Changes every byte to values that make numbers long or large, lists endless, forms odd.
        for (index, &place) in places.iter().enumerate() {
            let mut bytes = good.clone();
            bytes[place] = [0xff, 0x80, 0x00, 0x01, 0x16, 0x21][index % 6];
            ask(bytes);
        }
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes[places[state as usize % places.len()]] = (state >> 40) as u8;
            }
            ask(bytes);
        }
        for end in (0..good.len()).step_by(97) {
            ask(good[..end].to_vec());
        }
    }
}

#[test]
fn a_search_ends_in_time() {
    // A list of units without end: each the shortest there is.
    let dir = Scratch::new("time");
    let Some(path) = dir.build("cc", &["-g"]) else {
        return;
    };
    let mut bytes = std::fs::read(&path).unwrap();
    let sections = *parse(&path).debug_sections();
    let headers = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
    let info = sections.get(Section::Info).range.offset;
    // Where the section header of .debug_info has its offset and size.
    let header = (headers..bytes.len() - 63)
        .step_by(64)
        .find(|&at| bytes[at + 24..at + 32] == info.to_le_bytes())
        .unwrap();
    let end = bytes.len() as u64;
    let unit = [8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 0];
    let count = 4 << 20;
    bytes.extend(unit.iter().cycle().take(unit.len() * count));
    bytes[header + 24..header + 32].copy_from_slice(&end.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&(12 * count as u64).to_le_bytes());
    // Far less than so many units are.
    let allowance = Rc::new(Allowance::of_work(16 << 20));
    let source = Source::memory(bytes).within(Some(&allowance));
    let elf = ElfFile::parse(source).unwrap();
    let found = calls(&elf, &brief(), &Alone, &[FileAddress(u64::MAX)]);
    assert_eq!(found, Lines::none(1, Some(Refused::TimedOut)));
    assert!(allowance.is_out());
}
