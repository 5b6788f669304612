//! Numbers of the formats: machines, types of notes, places of fields, by architecture.
//!
//! Sizes of C types differ between 32 and 64 bits and nowhere else, so that one table of
//! fields serves all architectures. From the kernel's include/linux/elfcore.h,
//! include/uapi/linux/elf.h and arch/*/include/asm/elf.h.

use crate::crash::registers::{Arch, WORDS};

pub const ET_CORE: u16 = 4;
pub const PT_LOAD: u32 = 1;
pub const PT_NOTE: u32 = 4;

pub const NT_PRSTATUS: u32 = 1;
pub const NT_PRPSINFO: u32 = 3;
pub const NT_AUXV: u32 = 6;
pub const NT_FILE: u32 = 0x4649_4c45;
pub const NT_SIGINFO: u32 = 0x5349_4749;

pub const AT_PHDR: u64 = 3;
pub const AT_PHENT: u64 = 4;
pub const AT_PHNUM: u64 = 5;
pub const AT_PAGESZ: u64 = 6;
pub const AT_BASE: u64 = 7;
pub const AT_ENTRY: u64 = 9;
pub const AT_UID: u64 = 11;
pub const AT_SYSINFO_EHDR: u64 = 33;

/// Bytes of a siginfo, on every architecture.
pub const SIGINFO_BYTES: usize = 128;
/// The name of a program, and its arguments, in NT_PRPSINFO.
pub const NAME_BYTES: usize = 16;
pub const ARGUMENT_BYTES: usize = 80;

const EM_386: u16 = 3;
const EM_ARM: u16 = 40;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// No word of the kernel's `pt_regs`.
pub const NONE: usize = usize::MAX;
/// The bases of the segments, which are beside the registers.
pub const FS_BASE: usize = usize::MAX - 1;
pub const GS_BASE: usize = usize::MAX - 2;

/// `user_regs_struct`: after `pt_regs`, fs_base, gs_base, ds, es, fs, gs.
const X86_64: [usize; 27] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, FS_BASE, GS_BASE,
    NONE, NONE, NONE, NONE,
];
/// ebx, ecx, edx, esi, edi, ebp, eax, ds, es, fs, gs, orig_eax, eip, cs, eflags, esp, ss.
const I386: [usize; 17] = [
    5, 11, 12, 13, 14, 4, 10, NONE, NONE, NONE, NONE, 15, 16, 17, 18, 19, 20,
];
const AARCH64: [usize; WORDS] = {
    let mut slots = [0; WORDS];
    let mut at = 0;
    while at < WORDS {
        slots[at] = at;
        at += 1;
    }
    slots
};
/// r0 to r15, cpsr, orig_r0.
const ARM: [usize; 18] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 32, 33, NONE,
];

/// The register set of NT_PRSTATUS: for each of its words, that of `pt_regs`.
#[must_use]
pub fn slots(arch: Arch) -> &'static [usize] {
    match arch {
        Arch::X86_64 => &X86_64,
        Arch::I386 => &I386,
        Arch::Aarch64 => &AARCH64,
        Arch::Arm => &ARM,
    }
}

#[must_use]
pub fn machine(arch: Arch) -> u16 {
    match arch {
        Arch::X86_64 => EM_X86_64,
        Arch::I386 => EM_386,
        Arch::Aarch64 => EM_AARCH64,
        Arch::Arm => EM_ARM,
    }
}

/// The architecture of a core: `None` for one that this tool does not know. A core of 32-bit
/// programs for x86_64 (x32) is none.
#[must_use]
pub fn arch(machine: u16, is_64_bit: bool) -> Option<Arch> {
    let known = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm];
    known
        .into_iter()
        .find(|&arch| self::machine(arch) == machine && is_64_bit == (arch.word_bytes() == 8))
}

/// Where NT_PRSTATUS has the thread's number and its registers.
#[must_use]
pub fn prstatus(arch: Arch) -> (usize, usize) {
    match arch.word_bytes() {
        8 => (32, 112),
        _ => (24, 72),
    }
}

/// Where NT_PRPSINFO has the user, the process, its parent, name and arguments. A user's number
/// has two bytes on 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prpsinfo {
    pub uid: usize,
    pub pid: usize,
    pub ppid: usize,
    pub name: usize,
}

#[must_use]
pub fn prpsinfo(arch: Arch) -> Prpsinfo {
    match arch.word_bytes() {
        8 => Prpsinfo {
            uid: 16,
            pid: 24,
            ppid: 28,
            name: 40,
        },
        _ => Prpsinfo {
            uid: 8,
            pid: 12,
            ppid: 16,
            name: 28,
        },
    }
}

/// Where a siginfo has what depends on the signal: an address, or a sender.
#[must_use]
pub fn siginfo_fields(arch: Arch) -> usize {
    match arch.word_bytes() {
        8 => 16,
        _ => 12,
    }
}

/// Bytes as they are in a file of that architecture. Its functions are not inlined: they are
/// called from some hundred places, and nothing here is in a hurry.
#[derive(Debug)]
pub struct Writer {
    pub bytes: Vec<u8>,
    word_bytes: usize,
}

impl Writer {
    #[must_use]
    pub fn new(arch: Arch) -> Self {
        Writer {
            bytes: Vec::new(),
            word_bytes: arch.word_bytes(),
        }
    }

    #[inline(never)]
    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    #[inline(never)]
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// As large as a register.
    #[inline(never)]
    pub fn word(&mut self, value: u64) {
        let bytes = value.to_le_bytes();
        self.bytes.extend_from_slice(&bytes[..self.word_bytes]);
    }

    /// Text, cut off or filled up with zeros.
    #[inline(never)]
    pub fn text(&mut self, text: &[u8], len: usize) {
        // Its last byte is always zero.
        let text = &text[..text.len().min(len - 1)];
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(text);
        self.bytes.resize(end, 0);
    }

    /// Zeros up to that length.
    #[inline(never)]
    pub fn fill(&mut self, len: usize) {
        self.bytes.resize(len.max(self.bytes.len()), 0);
    }

    pub fn align(&mut self, to: usize) {
        self.fill(self.bytes.len().next_multiple_of(to));
    }
}
