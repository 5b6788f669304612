//! Any registers, stack, code and call-frame information: a walk ends, and a second
//! one, from what the first has kept, finds the same.
//!
//! ```text
//! u8 processor   u8 flags   5 * u16 lengths   registers, sections, code, stack
//! ```
//!
//! seeds.py makes such files of real programs.
#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::base::address::{FileAddress, ProcessAddress};
use segfault_analyzer::crash::registers::{Arch, Registers, WORDS};
use segfault_analyzer::unwind::{walk, AddressSpace, Caches, CfiSection, ModuleData, Placed, SectionRange};
use segfault_analyzer::crash::frame::Trust;

const TEXT: u64 = 0x1000;
const HEADER: u64 = 0x10_0000;
const FRAMES: u64 = 0x20_0000;
const DEBUG_FRAMES: u64 = 0x30_0000;
/// Within reach of 32-bit tasks.
const BIAS: u64 = 0x5650_0000;
const STACK: u64 = 0x7fff_0000;
const MAX_FRAMES: usize = 64;

/// Flags: symbols every 64 bytes; code is not in a file that can be had; an entry.
const SYMBOLS: u8 = 1;
const NO_FILE: u8 = 2;
const ENTRY: u8 = 4;

struct Module {
    flags: u8,
    address_bytes: u8,
    sections: [(CfiSection, u64, Vec<u8>); 3],
    code: Vec<u8>,
}

impl Module {
    fn find(&self, wanted: CfiSection) -> Option<&(CfiSection, u64, Vec<u8>)> {
        let mut sections = self.sections.iter();
        sections.find(|(kind, _, bytes)| *kind == wanted && !bytes.is_empty())
    }
}

impl ModuleData for Module {
    fn identity(&self) -> u64 {
        1
    }

    fn address_bytes(&self) -> u8 {
        self.address_bytes
    }

    fn entry(&self) -> Option<FileAddress> {
        (self.flags & ENTRY != 0).then_some(FileAddress(TEXT))
    }

    fn section(&self, section: CfiSection) -> Option<SectionRange> {
        self.find(section).map(|(_, address, bytes)| SectionRange {
            address: FileAddress(*address),
            size: bytes.len() as u64,
        })
    }

    fn read_section(&self, section: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()> {
        let (.., bytes) = self.find(section)?;
        let start = usize::try_from(offset).ok()?;
        buf.copy_from_slice(bytes.get(start..start.checked_add(buf.len())?)?);
        Some(())
    }

    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize {
        let start = address.offset_from(FileAddress(TEXT));
        let start = start.and_then(|start| usize::try_from(start).ok());
        let tail = start
            .and_then(|start| self.code.get(start..))
            .unwrap_or(&[]);
        let len = tail.len().min(buf.len());
        buf[..len].copy_from_slice(&tail[..len]);
        len
    }

    fn function_start(&self, address: FileAddress) -> Option<FileAddress> {
        let known = self.flags & SYMBOLS != 0 && address.0 >= TEXT;
        known.then_some(FileAddress(address.0 & !63))
    }
}

struct Space {
    module: Rc<Module>,
    stack: Vec<u8>,
}

impl Space {
    fn has(&self, address: ProcessAddress) -> bool {
        let start = ProcessAddress(BIAS + TEXT);
        let into = address.offset_from(start);
        into.is_some_and(|into| into < self.module.code.len() as u64)
    }
}

impl AddressSpace for Space {
    fn read_memory(&self, address: ProcessAddress, buf: &mut [u8]) -> Option<()> {
        let start = address.offset_from(ProcessAddress(STACK))?;
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(buf.len())?;
        buf.copy_from_slice(self.stack.get(start..end)?);
        Some(())
    }

    fn read_code(&self, address: ProcessAddress, buf: &mut [u8]) -> usize {
        match self.module(address) {
            Some(placed) => self.module.read(placed.file_address(address), buf),
            None => 0,
        }
    }

    fn is_executable(&self, address: ProcessAddress) -> bool {
        self.has(address)
    }

    fn module(&self, address: ProcessAddress) -> Option<Placed> {
        let there = self.has(address) && self.module.flags & NO_FILE == 0;
        there.then(|| Placed {
            data: self.module.clone(),
            bias: BIAS,
        })
    }

    fn lacks_file(&self, address: ProcessAddress) -> bool {
        self.has(address) && self.module.flags & NO_FILE != 0
    }

    fn stack_start(&self) -> Option<ProcessAddress> {
        Some(ProcessAddress(STACK + self.stack.len() as u64))
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len.min(bytes.len()));
    *bytes = rest;
    taken
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let head = take(&mut rest, 12);
    let Ok([processor, flags, lengths @ ..]) = <&[u8; 12]>::try_from(head) else {
        return;
    };
    let length = |index: usize| {
        let bytes = [lengths[2 * index], lengths[2 * index + 1]];
        usize::from(u16::from_le_bytes(bytes))
    };
    let arch = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm][usize::from(processor & 3)];
    let mut words = [0; WORDS];
    for word in &mut words {
        let value = take(&mut rest, 8);
        *word = value
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    // As the kernel tells tasks of 32 bits.
    let kernel = match arch {
        Arch::X86_64 | Arch::I386 => {
            words[17] = if arch == Arch::I386 { 0x23 } else { 0x33 };
            Arch::X86_64
        }
        Arch::Aarch64 | Arch::Arm => {
            words[33] = if arch == Arch::Arm { 0x10 } else { 0 };
            Arch::Aarch64
        }
    };
    let registers = Registers::new(kernel, words);
    let sections = [
        (
            CfiSection::EhFrameHdr,
            HEADER,
            take(&mut rest, length(0)).to_vec(),
        ),
        (
            match arch {
                Arch::Arm => CfiSection::ArmIndex,
                _ => CfiSection::EhFrame,
            },
            FRAMES,
            take(&mut rest, length(1)).to_vec(),
        ),
        (
            CfiSection::DebugFrame,
            DEBUG_FRAMES,
            take(&mut rest, length(2)).to_vec(),
        ),
    ];
    let module = Module {
        flags: *flags,
        address_bytes: arch.word_bytes() as u8,
        sections,
        code: take(&mut rest, length(3)).to_vec(),
    };
    let space = Space {
        module: Rc::new(module),
        stack: take(&mut rest, length(4)).to_vec(),
    };
    let mut caches = Caches::new(1000, 1 << 20);
    let first = walk(&registers, &space, MAX_FRAMES, &mut caches);
    assert!((1..=MAX_FRAMES).contains(&first.frames.len()));
    assert_eq!(first.frames[0].trust, Trust::Context);
    let again = walk(&registers, &space, MAX_FRAMES, &mut caches);
    assert_eq!(first, again);
});
