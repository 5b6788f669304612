//! The user's registers, as the kernel kept them when the signal was delivered.
//!
//! In come the words of the kernel's `pt_regs` (x86_64: `arch/x86/include/asm/ptrace.h`)
//! or `user_pt_regs` (aarch64: `arch/arm64/include/uapi/asm/ptrace.h`); out go
//! values by role, by DWARF number and by name. Both architectures are known on
//! both, so that a record can be decoded and tested anywhere.

use crate::address::ProcessAddress;

/// Words that a record has room for; aarch64 fills them all.
pub const WORDS: usize = 34;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The architecture that this tool was built for, hence the kernel's.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    /// As `uname -m` prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Each register's name with its word in the kernel's structure, in the
    /// order of a report: pc and sp first.
    fn layout(self) -> &'static [(&'static str, usize)] {
        match self {
            Arch::X86_64 => &X86_64_LAYOUT,
            Arch::Aarch64 => &AARCH64_LAYOUT,
        }
    }
}

const X86_64_LAYOUT: [(&str, usize); 18] = [
    ("rip", 16),
    ("rsp", 19),
    ("rax", 10),
    ("rbx", 5),
    ("rcx", 11),
    ("rdx", 12),
    ("rsi", 13),
    ("rdi", 14),
    ("rbp", 4),
    ("r8", 9),
    ("r9", 8),
    ("r10", 7),
    ("r11", 6),
    ("r12", 3),
    ("r13", 2),
    ("r14", 1),
    ("r15", 0),
    ("rflags", 18),
];

const AARCH64_LAYOUT: [(&str, usize); 34] = [
    ("pc", 32),
    ("sp", 31),
    ("x0", 0),
    ("x1", 1),
    ("x2", 2),
    ("x3", 3),
    ("x4", 4),
    ("x5", 5),
    ("x6", 6),
    ("x7", 7),
    ("x8", 8),
    ("x9", 9),
    ("x10", 10),
    ("x11", 11),
    ("x12", 12),
    ("x13", 13),
    ("x14", 14),
    ("x15", 15),
    ("x16", 16),
    ("x17", 17),
    ("x18", 18),
    ("x19", 19),
    ("x20", 20),
    ("x21", 21),
    ("x22", 22),
    ("x23", 23),
    ("x24", 24),
    ("x25", 25),
    ("x26", 26),
    ("x27", 27),
    ("x28", 28),
    ("x29", 29),
    ("x30", 30),
    ("pstate", 33),
];

/// x86_64: word of `pt_regs` by DWARF number 0 to 16 (psABI, figure 3.36).
const X86_64_DWARF: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];

/// The full register set of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    arch: Arch,
    words: [u64; WORDS],
}

impl Registers {
    /// From the kernel's structure, word by word.
    #[must_use]
    pub fn new(arch: Arch, words: [u64; WORDS]) -> Self {
        Registers { arch, words }
    }

    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    #[must_use]
    pub fn pc(&self) -> ProcessAddress {
        ProcessAddress(self.words[self.arch.layout()[0].1])
    }

    #[must_use]
    pub fn sp(&self) -> ProcessAddress {
        ProcessAddress(self.words[self.arch.layout()[1].1])
    }

    /// Whether these are those of a 32-bit task: code segment 0x23 on x86,
    /// bit 4 of PSTATE on arm64.
    #[must_use]
    pub fn is_32_bit(&self) -> bool {
        match self.arch {
            // Linux 6.12 made cs 16 bits of a wider word.
            Arch::X86_64 => self.words[17] & 0xffff == 0x23,
            Arch::Aarch64 => self.words[33] & 0x10 != 0,
        }
    }

    /// The value of a register by its DWARF number; `None` for those that a
    /// record does not hold. Number 32 is the pc on aarch64, 16 on x86_64.
    #[must_use]
    pub fn dwarf(&self, number: u16) -> Option<u64> {
        let word = match self.arch {
            Arch::X86_64 => *X86_64_DWARF.get(usize::from(number))?,
            Arch::Aarch64 if number <= 32 => usize::from(number),
            Arch::Aarch64 => return None,
        };
        Some(self.words[word])
    }

    /// Every register by its lower-case name, pc and sp first.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.arch
            .layout()
            .iter()
            .map(|&(name, word)| (name, self.words[word]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(arch: Arch) -> Registers {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = index as u64 * 8;
        }
        Registers::new(arch, words)
    }

    #[test]
    fn x86_64_words_stand_where_pt_regs_has_them() {
        let registers = numbered(Arch::X86_64);
        // Offsets of struct pt_regs: ip 128, sp 152, bx 40, ax 80.
        assert_eq!(registers.pc(), ProcessAddress(128));
        assert_eq!(registers.sp(), ProcessAddress(152));
        assert_eq!(registers.dwarf(3), Some(40), "rbx");
        assert_eq!(registers.dwarf(0), Some(80), "rax");
        assert_eq!(registers.dwarf(7), Some(152), "rsp");
        assert_eq!(registers.dwarf(16), Some(128), "return address column");
        assert_eq!(registers.dwarf(17), None);
    }

    #[test]
    fn aarch64_words_stand_where_user_pt_regs_has_them() {
        let registers = numbered(Arch::Aarch64);
        assert_eq!(registers.pc(), ProcessAddress(256));
        assert_eq!(registers.sp(), ProcessAddress(248));
        assert_eq!(registers.dwarf(30), Some(240), "x30");
        assert_eq!(registers.dwarf(31), Some(248), "sp");
        assert_eq!(registers.named().count(), 34);
    }
}
