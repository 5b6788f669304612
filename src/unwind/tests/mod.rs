//! Hand-laid stacks: a file of 4 KB of code at 0x1000, mapped at [`BIAS`], and
//! the words that the stack held. The comment of each test has the disassembly
//! and the call-frame information that its bytes stand for.

mod aarch64;
mod arm;
#[cfg(feature = "dwarf")]
mod hostile;
mod i386;
#[cfg(feature = "dwarf")]
mod rows;
#[cfg(feature = "dwarf")]
mod sections;
#[cfg(feature = "dwarf")]
mod synth;
mod x86_64;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{
    walk, AddressSpace, Caches, CfiSection, ModuleData, Placed, SectionRange, Stop, Trust, Walk,
};
use crate::base::address::{FileAddress, ProcessAddress};
use crate::crash::registers::{Arch, Registers, WORDS};

/// Within reach of 32-bit tasks.
const BIAS: u64 = 0x5650_0000;
const TEXT: u64 = 0x1000;
const TEXT_LEN: usize = 0x1000;
/// Where the stack pointer is in most tests.
const STACK: u64 = 0x7fff_0000;

/// The process address of a place in the file.
const fn at(file: u64) -> u64 {
    BIAS + file
}

#[derive(Clone)]
struct Module {
    code: Vec<u8>,
    sections: Vec<(CfiSection, u64, Vec<u8>)>,
    /// Start and length.
    functions: Vec<(u64, u64)>,
    entry: Option<u64>,
    address_bytes: u8,
    /// One page of code that is in no file.
    anonymous: Option<u64>,
    /// The captured pieces of its code, and their addresses.
    captured: Vec<(u64, Vec<u8>)>,
    /// Functions that call keep frame pointers.
    keeps_frame_pointers: bool,
    /// One page of a file that was not available.
    gone: Option<u64>,
    reads: std::cell::Cell<usize>,
}

impl ModuleData for Module {
    fn identity(&self) -> u64 {
        1
    }

    fn address_bytes(&self) -> u8 {
        self.address_bytes
    }

    fn keeps_frame_pointers(&self) -> bool {
        self.keeps_frame_pointers
    }

    fn entry(&self) -> Option<FileAddress> {
        self.entry.map(FileAddress)
    }

    fn section(&self, wanted: CfiSection) -> Option<SectionRange> {
        let found = self.sections.iter().find(|(kind, ..)| *kind == wanted);
        found.map(|(_, address, bytes)| SectionRange {
            address: FileAddress(*address),
            size: bytes.len() as u64,
        })
    }

    fn read_section(&self, wanted: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()> {
        self.reads.set(self.reads.get() + 1);
        let (.., bytes) = self.sections.iter().find(|(kind, ..)| *kind == wanted)?;
        let start = usize::try_from(offset).ok()?;
        buf.copy_from_slice(bytes.get(start..start.checked_add(buf.len())?)?);
        Some(())
    }

    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize {
        let Some(start) = address.offset_from(FileAddress(TEXT)) else {
            return 0;
        };
        let tail = self.code.get(start as usize..).unwrap_or(&[]);
        let len = tail.len().min(buf.len());
        buf[..len].copy_from_slice(&tail[..len]);
        len
    }

    fn function_start(&self, address: FileAddress) -> Option<FileAddress> {
        let found = self
            .functions
            .iter()
            .find(|(start, len)| (*start..start + len).contains(&address.0));
        found.map(|(start, _)| FileAddress(*start))
    }
}

/// A crashed process.
#[derive(Clone)]
struct Crash {
    arch: Arch,
    words: [u64; WORDS],
    memory: BTreeMap<u64, u64>,
    module: Module,
    stack_start: Option<u64>,
    /// The end of a page that was never written to.
    unused_to: Option<u64>,
    /// Below it memory is of another stack.
    other_to: u64,
}

impl Crash {
    fn new(arch: Arch) -> Self {
        Crash {
            arch,
            words: [0; WORDS],
            memory: BTreeMap::new(),
            module: Module {
                code: match arch {
                    Arch::X86_64 | Arch::I386 => vec![0x90; TEXT_LEN],
                    _ => 0xd503_201f_u32.to_le_bytes().repeat(TEXT_LEN / 4),
                },
                sections: Vec::new(),
                functions: Vec::new(),
                entry: None,
                address_bytes: arch.word_bytes() as u8,
                anonymous: None,
                captured: Vec::new(),
                keeps_frame_pointers: false,
                gone: None,
                reads: std::cell::Cell::new(0),
            },
            stack_start: None,
            unused_to: None,
            other_to: 0,
        }
    }

    fn code(&mut self, file: u64, bytes: &[u8]) {
        let start = (file - TEXT) as usize;
        self.module.code[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Consecutive words of the stack.
    fn stack(&mut self, address: u64, words: &[u64]) {
        for (slot, word) in (address..).step_by(8).zip(words) {
            self.memory.insert(slot, *word);
        }
    }

    /// The same for a 32-bit task.
    fn stack_32(&mut self, address: u64, words: &[u64]) {
        for (slot, word) in (address..).step_by(4).zip(words) {
            let half = (slot & 4) * 8;
            let whole = self.memory.entry(slot & !7).or_default();
            *whole = *whole & !(0xffff_ffff << half) | (word & 0xffff_ffff) << half;
        }
    }

    fn walk(&self) -> Walk {
        let mut caches = Caches::new(1000, 1 << 20);
        let space = Space::of(self);
        let registers = self.registers();
        let first = walk(&registers, &space, 16, &mut caches);
        let reads = space.module.reads.get();
        assert_eq!(walk(&registers, &space, 16, &mut caches), first);
        assert_eq!(
            space.module.reads.get(),
            reads,
            "a known walk reads no section"
        );
        first
    }

    /// As the kernel has them.
    fn registers(&self) -> Registers {
        let mut words = self.words;
        let kernel = match self.arch {
            Arch::I386 => {
                words[17] = 0x23;
                Arch::X86_64
            }
            Arch::Arm => {
                words[33] |= 0x10;
                Arch::Aarch64
            }
            kernel => kernel,
        };
        Registers::new(kernel, words)
    }

    /// The walk as file addresses with trust, and how it stopped.
    fn frames(&self) -> (Vec<(u64, Trust)>, Stop) {
        let walk = self.walk();
        let frames = walk.frames.iter();
        let frames = frames.map(|frame| {
            let address = frame.code.address().0;
            (address.checked_sub(BIAS).unwrap_or(address), frame.trust)
        });
        (frames.collect(), walk.stop)
    }
}

/// The crash as the walker sees it.
struct Space {
    memory: BTreeMap<u64, u64>,
    module: Rc<Module>,
    stack_start: Option<u64>,
    unused_to: Option<u64>,
    other_to: u64,
}

impl Space {
    fn of(crash: &Crash) -> Self {
        Space {
            memory: crash.memory.clone(),
            module: Rc::new(crash.module.clone()),
            stack_start: crash.stack_start,
            unused_to: crash.unused_to,
            other_to: crash.other_to,
        }
    }
}

impl Space {
    fn is_file(&self, address: ProcessAddress) -> bool {
        (at(TEXT)..at(TEXT) + TEXT_LEN as u64).contains(&address.0)
    }
}

impl AddressSpace for Space {
    fn read_memory(&self, address: ProcessAddress, buf: &mut [u8]) -> Option<()> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let place = address.0.checked_add(index as u64)?;
            let word = self.memory.get(&(place & !7))?;
            *byte = word.to_le_bytes()[(place & 7) as usize];
        }
        Some(())
    }

    fn above_unused(&self, address: ProcessAddress) -> Option<ProcessAddress> {
        let above = self.unused_to.filter(|above| address.0 < *above);
        above.map(ProcessAddress)
    }

    fn is_other_stack(&self, address: ProcessAddress, top: ProcessAddress) -> bool {
        address.0 < self.other_to && top.0 > self.other_to && self.memory.contains_key(&address.0)
    }

    fn read_code(&self, address: ProcessAddress, buf: &mut [u8]) -> usize {
        let piece = self.module.captured.iter().find_map(|(start, bytes)| {
            let into = usize::try_from(address.0.checked_sub(*start)?).ok()?;
            bytes.get(into..into.checked_add(buf.len())?)
        });
        if let Some(piece) = piece {
            buf.copy_from_slice(piece);
            return buf.len();
        }
        self.module
            .read(FileAddress(address.0.wrapping_sub(BIAS)), buf)
    }

    fn is_executable(&self, address: ProcessAddress) -> bool {
        let pages = [self.module.anonymous, self.module.gone];
        let mut pages = pages.into_iter().flatten();
        self.is_file(address) || pages.any(|start| (start..start + 0x1000).contains(&address.0))
    }

    fn lacks_file(&self, address: ProcessAddress) -> bool {
        let gone = self.module.gone;
        gone.is_some_and(|start| (start..start + 0x1000).contains(&address.0))
    }

    fn module(&self, address: ProcessAddress) -> Option<Placed> {
        self.is_file(address).then(|| Placed {
            data: Rc::clone(&self.module) as Rc<dyn ModuleData>,
            bias: BIAS,
        })
    }

    fn stack_start(&self) -> Option<ProcessAddress> {
        self.stack_start.map(ProcessAddress)
    }

    fn is_stack_top(&self, address: ProcessAddress) -> bool {
        self.stack_start.is_some_and(|start| start <= address.0)
    }
}
