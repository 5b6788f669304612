//! The user's registers, as the kernel kept them when the signal was delivered.
//!
//! In come the words of the kernel's `pt_regs` (x86_64: `arch/x86/include/asm/ptrace.h`)
//! or `user_pt_regs` (aarch64: `arch/arm64/include/uapi/asm/ptrace.h`); out go
//! values by role, by DWARF number and by name. The words themselves show whether the
//! task is a 32-bit one on a 64-bit kernel: its registers are in the same structure, in
//! the low halves. Every build knows all architectures, so that a record can be decoded
//! and tested anywhere.

use crate::base::address::ProcessAddress;

/// Words that a record has room for; aarch64 fills them all.
pub const WORDS: usize = 34;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
    /// A 32-bit task on x86_64.
    I386,
    /// A 32-bit task on aarch64.
    Arm,
}

impl Arch {
    /// The architecture that this tool was built for, hence the kernel's.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    /// Whether this build meets 32-bit ARM tasks: a release binary only those of its own
    /// kernel, a desk's also cores of others.
    pub const MEETS_ARM: bool = cfg!(any(
        test,
        debug_assertions,
        feature = "every-arch",
        target_arch = "aarch64"
    ));

    /// As `uname -m` prints it, but for 32-bit tasks, whose architecture has many
    /// names there.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::I386 => "i386",
            Arch::Arm => "arm",
        }
    }

    /// Bytes of a register.
    #[must_use]
    pub fn word_bytes(self) -> usize {
        match self {
            Arch::X86_64 | Arch::Aarch64 => 8,
            Arch::I386 | Arch::Arm => 4,
        }
    }

    /// That of a task with these words, which a kernel of this architecture kept.
    fn of_task(self, words: &[u64; WORDS]) -> Arch {
        match self {
            // __USER32_CS. Linux 6.12 made cs 16 bits of a wider word.
            Arch::X86_64 if words[17] & 0xffff == 0x23 => Arch::I386,
            // PSR_MODE32_BIT
            Arch::Aarch64 if words[33] & 0x10 != 0 => Arch::Arm,
            _ => self,
        }
    }

    /// Each register's name with its word in the kernel's structure, in the
    /// order of a report: pc and sp first.
    fn layout(self) -> &'static [(&'static str, usize)] {
        match self {
            Arch::X86_64 => &X86_64_LAYOUT,
            Arch::Aarch64 => &AARCH64_LAYOUT,
            Arch::I386 => &I386_LAYOUT,
            Arch::Arm => &ARM_LAYOUT,
        }
    }

    /// The word of a register by its DWARF number, if a record holds it.
    fn dwarf_word(self, number: u16) -> Option<usize> {
        let number = usize::from(number);
        match self {
            Arch::X86_64 => X86_64_DWARF.get(number).copied(),
            Arch::I386 => I386_DWARF.get(number).copied(),
            Arch::Aarch64 if number <= 32 => Some(number),
            Arch::Arm if number < 15 => Some(number),
            Arch::Arm if number == 15 => Some(32),
            Arch::Aarch64 | Arch::Arm => None,
        }
    }

    /// The lower-case name of a register by its DWARF number.
    #[must_use]
    pub fn dwarf_name(self, number: u16) -> Option<&'static str> {
        let word = self.dwarf_word(number)?;
        let named = self.layout().iter().find(|(_, index)| *index == word)?;
        Some(named.0)
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

const I386_LAYOUT: [(&str, usize); 10] = [
    ("eip", 16),
    ("esp", 19),
    ("eax", 10),
    ("ebx", 5),
    ("ecx", 11),
    ("edx", 12),
    ("esi", 13),
    ("edi", 14),
    ("ebp", 4),
    ("eflags", 18),
];

/// r13 is sp, r14 is lr (`compat_sp`, `compat_lr`).
const ARM_LAYOUT: [(&str, usize); 17] = [
    ("pc", 32),
    ("sp", 13),
    ("r0", 0),
    ("r1", 1),
    ("r2", 2),
    ("r3", 3),
    ("r4", 4),
    ("r5", 5),
    ("r6", 6),
    ("r7", 7),
    ("r8", 8),
    ("r9", 9),
    ("r10", 10),
    ("r11", 11),
    ("r12", 12),
    ("lr", 14),
    ("cpsr", 33),
];

/// i386: the same by DWARF number 0 to 8 (psABI for i386, table 2.14).
const I386_DWARF: [usize; 9] = [10, 11, 12, 5, 19, 4, 13, 14, 16];

/// x86_64: word of `pt_regs` by DWARF number 0 to 16 (psABI, figure 3.36).
const X86_64_DWARF: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];

/// aarch64: the word of pstate, or a 32-bit task's cpsr, and its bit T.
const CPSR: usize = 33;
const CPSR_THUMB: u64 = 1 << 5;

/// The full register set of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    arch: Arch,
    words: [u64; WORDS],
    /// A bit for each word whose value is not known.
    unknown: u64,
}

impl Registers {
    /// From values by their names, as [`Registers::named`] gives them; `None` if no
    /// architecture has all of these names, or pc and sp are not among them.
    #[must_use]
    pub fn of_names(named: &[(&[u8], u64)]) -> Option<Self> {
        const ALL: [Arch; 4] = [Arch::X86_64, Arch::Aarch64, Arch::I386, Arch::Arm];
        ALL.into_iter().find_map(|arch| {
            let layout = arch.layout();
            let mut words = [0; WORDS];
            let mut unknown = u64::MAX;
            for (name, value) in named {
                let known = layout.iter().find(|known| known.0.as_bytes() == *name)?;
                words[known.1] = *value;
                unknown &= !(1 << known.1);
            }
            let has = |at: usize| unknown >> layout[at].1 & 1 == 0;
            (has(0) && has(1)).then_some(Registers {
                arch,
                words,
                unknown,
            })
        })
    }

    /// From the structure of a kernel of this architecture, word by word.
    #[must_use]
    pub fn new(kernel: Arch, words: [u64; WORDS]) -> Self {
        let arch = kernel.of_task(&words);
        Registers {
            arch,
            words,
            unknown: 0,
        }
    }

    /// The same where the values of these words, one bit each, are not known. Neither
    /// pc nor sp may be among them.
    #[must_use]
    pub fn without(mut self, words: u64) -> Self {
        self.unknown |= words;
        self
    }

    /// The kernel's structure, word by word; 0 for what is not known.
    #[must_use]
    pub fn words(&self) -> [u64; WORDS] {
        std::array::from_fn(|index| match self.is_known(index) {
            true => self.word(index),
            false => 0,
        })
    }

    /// The words whose values are not known, one bit each.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// That of the task, which may be a 32-bit one.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Whether a 32-bit ARM task runs Thumb code; `None` if that is not known, and for
    /// others.
    #[must_use]
    pub fn is_thumb(&self) -> Option<bool> {
        let known = self.arch == Arch::Arm && self.is_known(CPSR);
        known.then(|| self.words[CPSR] & CPSR_THUMB != 0)
    }

    /// Sets the mode of a 32-bit ARM task.
    pub fn set_thumb(&mut self, thumb: bool) {
        self.words[CPSR] &= !CPSR_THUMB;
        if thumb {
            self.words[CPSR] |= CPSR_THUMB;
        }
    }

    #[must_use]
    pub fn is_32_bit(&self) -> bool {
        self.arch.word_bytes() == 4
    }

    fn word(&self, index: usize) -> u64 {
        match self.arch.word_bytes() {
            4 => self.words[index] & 0xffff_ffff,
            _ => self.words[index],
        }
    }

    #[must_use]
    pub fn pc(&self) -> ProcessAddress {
        ProcessAddress(self.word(self.arch.layout()[0].1))
    }

    #[must_use]
    pub fn sp(&self) -> ProcessAddress {
        ProcessAddress(self.word(self.arch.layout()[1].1))
    }

    /// The value of a register by its DWARF number; `None` if it is not known, or if a record
    /// does not have it. Number 32 is the pc on aarch64, 16 on x86_64, 15 on arm, 8 on i386.
    #[must_use]
    pub fn dwarf(&self, number: u16) -> Option<u64> {
        let index = self.arch.dwarf_word(number)?;
        self.is_known(index).then(|| self.word(index))
    }

    /// The system call that an x86 thread is in; `None` for one that a trap stopped,
    /// whose orig_ax is -1, and on other architectures.
    #[must_use]
    pub fn system_call(&self) -> Option<u64> {
        const ORIG_AX: usize = 15;
        let number = self.words[ORIG_AX];
        let x86 = matches!(self.arch, Arch::X86_64 | Arch::I386);
        (x86 && self.is_known(ORIG_AX) && number as i64 >= 0).then_some(number)
    }

    /// The arguments of the system call that the thread is in, if it is in one.
    #[must_use]
    pub fn call_arguments(&self) -> [u64; 6] {
        let words = match self.arch {
            Arch::X86_64 => [14, 13, 12, 7, 9, 8],
            Arch::I386 => [5, 11, 12, 13, 14, 4],
            Arch::Aarch64 | Arch::Arm => [0, 1, 2, 3, 4, 5],
        };
        words.map(|index| self.word(index))
    }

    /// Sets a register by its DWARF number, if it is one that a record has.
    pub fn set_dwarf(&mut self, number: u16, value: u64) {
        if let Some(word) = self.arch.dwarf_word(number) {
            self.words[word] = value;
        }
    }

    /// Every known register by its lower-case name, pc and sp first.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.arch
            .layout()
            .iter()
            .filter(|&&(_, index)| self.is_known(index))
            .map(|&(name, index)| (name, self.word(index)))
    }

    fn is_known(&self, index: usize) -> bool {
        self.unknown >> index & 1 == 0
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

    /// High halves are whatever the kernel left there.
    #[test]
    fn a_code_segment_of_32_bits_makes_an_i386_task() {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = 0xabcd_0000_0000_0000 | (index as u64 * 8);
        }
        words[17] = 0xabcd_0023;
        let registers = Registers::new(Arch::X86_64, words);
        assert_eq!(registers.arch(), Arch::I386);
        assert_eq!(registers.pc(), ProcessAddress(128));
        assert_eq!(registers.sp(), ProcessAddress(152));
        let dwarf: Vec<_> = (0..9)
            .filter_map(|number| registers.dwarf(number))
            .collect();
        assert_eq!(dwarf, [80, 88, 96, 40, 152, 32, 104, 112, 128]);
        assert_eq!(registers.dwarf(9), None);
        let names: Vec<_> = registers.named().map(|(name, _)| name).collect();
        assert_eq!(names[..3], ["eip", "esp", "eax"]);
        words[17] = 0x33;
        assert_eq!(Registers::new(Arch::X86_64, words).arch(), Arch::X86_64);
    }

    #[test]
    fn what_is_not_known_has_no_value() {
        let registers = numbered(Arch::X86_64).without(1 << 5 | 1 << 18);
        assert_eq!(registers.dwarf(3), None, "rbx");
        assert_eq!(registers.dwarf(0), Some(80), "rax");
        let names: Vec<_> = registers.named().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 16);
        assert!(!names.contains(&"rbx") && !names.contains(&"rflags"));
    }

    #[test]
    fn names_give_the_registers_back() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let registers = numbered(arch).without(1 << 1);
            let named: Vec<(&[u8], u64)> = registers
                .named()
                .map(|(name, value)| (name.as_bytes(), value))
                .collect();
            let back = Registers::of_names(&named).expect("an architecture");
            assert_eq!(back.arch(), arch);
            assert!(back.named().eq(registers.named()));
        }
        assert_eq!(Registers::of_names(&[]), None);
        assert_eq!(Registers::of_names(&[(b"rip", 1), (b"rax", 2)]), None);
        assert_eq!(Registers::of_names(&[(b"rip", 1), (b"sp", 2)]), None);
    }

    #[test]
    fn a_mode_of_32_bits_makes_an_arm_task() {
        let mut words = numbered(Arch::Aarch64).words;
        words[33] = 0x6000_0030;
        let registers = Registers::new(Arch::Aarch64, words);
        assert_eq!(registers.arch(), Arch::Arm);
        assert_eq!(registers.pc(), ProcessAddress(256));
        assert_eq!(registers.sp(), ProcessAddress(104), "r13");
        assert_eq!(registers.dwarf(13), Some(104));
        assert_eq!(registers.dwarf(14), Some(112), "lr");
        assert_eq!(registers.dwarf(15), Some(256), "pc");
        assert_eq!(registers.dwarf(16), None);
        assert_eq!(registers.named().count(), 17);
    }
}
