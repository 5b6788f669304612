//! Signals other than SIGSEGV that an instruction raises: bus errors, division, undefined
//! and privileged instructions, breakpoints, forbidden system calls.

use super::calls;
use super::operand::{refused, touched};
use super::privileged::{bytes, not_for_users};
use super::words::Words;
use super::{Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::base::bytes::little_endian;
use crate::crash::registers::Arch;
use crate::crash::signals::{code, trap};
use crate::decode::Class;
use crate::report::Cause;

// arm64 exception classes, arch/arm64/include/asm/esr.h
const CLASS_BRANCH_TARGET: u64 = 0x0d;
const CLASS_SYSTEM_REGISTER: u64 = 0x18;
const CLASS_POINTER_AUTHENTICATION: u64 = 0x1c;
const CLASS_PC_ALIGNMENT: u64 = 0x22;
const CLASS_SP_ALIGNMENT: u64 = 0x26;

/// The verdict on a SIGBUS.
pub(super) fn bus(scene: &Scene<'_>) -> Verdict {
    match scene.fault.code {
        code::BUS_ADRALN => misaligned(scene),
        code::BUS_ADRERR => beyond_file(scene),
        3 => Verdict::plain(
            Cause::Unknown,
            "the hardware behind the address reported an error",
        ),
        4 | 5 => Verdict::plain(
            Cause::Unknown,
            "the memory has a hardware error (machine check)",
        ),
        // The stack segment's twin of a general-protection fault.
        code::SI_KERNEL if scene.is_trap(trap::STACK_SEGMENT) => refused(scene),
        _ => Verdict::plain(
            Cause::Unknown,
            "a bus error about which the kernel says nothing more",
        ),
    }
}

fn misaligned(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    let arm = matches!(scene.arch, Arch::Aarch64 | Arch::Arm);
    match scene.syndrome_class() {
        Some(CLASS_PC_ALIGNMENT) if arm => {
            words.text("jump to ").hex(scene.fault.pc.0);
            words.text(", where no instruction can begin: it is not aligned");
        }
        Some(CLASS_SP_ALIGNMENT) if arm => {
            words.text("the stack pointer");
            if let Some(sp) = scene.stack_pointer() {
                words.text(" ").hex(sp);
            }
            words.text(" is not a multiple of 16");
        }
        _ => {
            // x86 reports no address: it is the one that is not aligned.
            let unaligned = scene.placed().find(|placed| {
                let width = u64::from(placed.operand.width.unwrap_or(1)).max(1);
                placed.address % width != 0
            });
            let (access, address) = match &unaligned {
                Some(placed) => (touched(placed.operand.touch), placed.address),
                None => (scene.access(), scene.address()),
            };
            words.touch(access, unaligned.as_ref(), address);
            words.text(" without the alignment that it needs");
            words.origin(scene, unaligned.as_ref(), address);
            let mut verdict = Verdict::new(Cause::Misaligned, words);
            verdict.address = unaligned.map(|placed| ProcessAddress(placed.address));
            verdict.access = access;
            return verdict;
        }
    }
    Verdict::new(Cause::Misaligned, words)
}

fn beyond_file(scene: &Scene<'_>) -> Verdict {
    let (access, address) = (scene.access(), scene.address());
    let placed = scene.faulting_operand();
    let mut words = Words::default();
    words.touch(access, placed.as_ref(), address);
    let event = scene.event;
    let mapping = event.mapping(ProcessAddress(address));
    if mapping.is_none() && (event.lacks("mappings") || event.lacks("data_mappings")) {
        words.text(", for which the kernel had no page; what is mapped there is not known, perhaps a file that ends before it");
        return Verdict::new(Cause::Unknown, words);
    }
    let Some((mapping, file)) = mapping.and_then(|it| Some((it, it.file.as_ref()?))) else {
        words.text(", for which the kernel had no page: huge pages or memory ran out, or it could not be read");
        return Verdict::new(Cause::Unknown, words);
    };
    let offset = file.offset.0.wrapping_add(address - mapping.start.0);
    words.text(", offset ").hex(offset).text(" of ");
    words.bytes(&event.mapping_name(mapping));
    let known = &file.identity;
    // A file that was emptied has a time; of one without either nothing is known.
    if (known.size, known.mtime_s, known.mtime_ns) == (0, 0, 0) {
        words.text(", whose size is not known");
        return Verdict::new(Cause::Unknown, words);
    }
    match offset.checked_sub(file.identity.size) {
        Some(past) => {
            words
                .text(", which has ")
                .number(file.identity.size)
                .text(" bytes");
            words.text(": ");
            match past {
                0 => words.text("right"),
                past => words.distance(past),
            };
            words.text(" past its end");
            Verdict::new(Cause::BeyondFile, words)
        }
        None => {
            words.text(", which is inside the file as it is now: the file could not be read, its file system is full, or the file was shorter");
            Verdict::new(Cause::Unknown, words)
        }
    }
}

/// The verdict on a SIGILL.
pub(super) fn undefined(scene: &Scene<'_>) -> Verdict {
    let class = scene.syndrome_class();
    let decoded = scene.decoded.as_ref();
    let mut words = Words::default();
    match (scene.arch, class) {
        (Arch::Aarch64, Some(CLASS_BRANCH_TARGET)) => {
            words.text(
                "a jump did not lead to a landing pad (BTI): probably a bad function pointer",
            );
            return Verdict::new(Cause::Unknown, words);
        }
        (Arch::Aarch64, Some(CLASS_POINTER_AUTHENTICATION)) => {
            words.text(
                "a pointer's signature was wrong (FPAC): probably an overwritten return address",
            );
            return Verdict::new(Cause::Unknown, words);
        }
        (Arch::Aarch64, Some(CLASS_SYSTEM_REGISTER)) => {
            return not_for_users(scene);
        }
        _ => {}
    }
    match decoded.map(|decoded| decoded.class) {
        // On aarch64 zeros are such an instruction too, but no compiler wrote them.
        Some(Class::Undefined) if !scene.evidence.code.starts_with(&[0; 4]) => {
            words.text("the instruction");
            bytes(scene, &mut words);
            words.text(" always traps: probably a failed check, an abort, or code that the compiler considered unreachable");
        }
        Some(Class::Privileged) => {
            return not_for_users(scene);
        }
        Some(class) if class != Class::Undefined => {
            words.text("this processor refused the instruction");
            bytes(scene, &mut words);
            words.text(": probably made for a newer processor, or not code at all");
        }
        None if scene.evidence.code.is_empty() => {
            words
                .text("the processor does not know the instruction, whose bytes were not captured");
        }
        _ => {
            words.text("not an instruction that the processor knows:");
            bytes(scene, &mut words);
        }
    }
    Verdict::new(Cause::UndefinedInstruction, words)
}

/// The verdict on a SIGFPE.
pub(super) fn arithmetic(scene: &Scene<'_>) -> Verdict {
    let what = match scene.fault.code {
        code::FPE_INTDIV => return division(scene),
        2 => {
            return Verdict::plain(
                Cause::Unknown,
                "an integer overflow, for which the program has enabled a trap",
            )
        }
        3 => "floating-point division by zero",
        4 => "a floating-point result that is too large",
        5 => "a floating-point result that is too small",
        6 => "a floating-point result that is not exact",
        7 => "an invalid floating-point operation",
        _ => "a floating-point exception of unknown kind",
    };
    let mut words = Words::default();
    words
        .text(what)
        .text(": the program has enabled a signal for it");
    Verdict::new(Cause::FloatingPoint, words)
}

/// x86 has one trap for both: the divisor is zero, or the quotient too large.
fn division(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    let divided = Division::of(scene);
    let divisor = divided.as_ref().and_then(|divided| divided.divisor);
    let cause = match (divisor, divided) {
        (Some(0), Some(divided)) => {
            words.text("division by zero: ");
            divided.place(scene, &mut words);
            Cause::DivisionByZero
        }
        (Some(divisor), Some(divided)) => {
            divided.overflow(divisor, &mut words);
            words.text("; ");
            divided.place(scene, &mut words);
            Cause::DivisionOverflow
        }
        (None, Some(Division { fits: true, .. })) => {
            words.text("division by zero: with any other divisor the quotient would fit");
            Cause::DivisionByZero
        }
        _ => {
            words.text(
                "division by zero, or a quotient that is too large: the divisor is not known",
            );
            Cause::Unknown
        }
    };
    Verdict::new(cause, words)
}

/// An x86 division, taken apart.
struct Division {
    divisor: Option<u64>,
    /// That the divisor is in, by its DWARF number; else it is in memory.
    register: Option<u16>,
    address: Option<u64>,
    /// In bytes, of divisor and quotient.
    width: u32,
    signed: bool,
    /// Only if it is no wider than they are.
    dividend: Option<u64>,
    /// No divisor but zero can be the reason.
    fits: bool,
}

impl Division {
    /// `F6 /6`, `F6 /7`, `F7 /6`, `F7 /7`: `div` and `idiv`.
    fn of(scene: &Scene<'_>) -> Option<Division> {
        if scene.decoded?.class != Class::Division {
            return None;
        }
        let code = scene.evidence.code;
        let is_rex = |byte: u8| scene.arch == Arch::X86_64 && byte & 0xf0 == 0x40;
        let is_prefix = |byte: u8| {
            is_rex(byte)
                || matches!(
                    byte,
                    0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
                )
        };
        let opcode_at = code.iter().position(|&byte| !is_prefix(byte))?;
        let (prefixes, rest) = code.split_at(opcode_at);
        let (&opcode, &modrm) = (rest.first()?, rest.get(1)?);
        let rex = prefixes.last().copied().filter(|&byte| is_rex(byte));
        let width: u32 = match opcode {
            0xf6 => 1,
            0xf7 if rex.is_some_and(|rex| rex & 8 != 0) => 8,
            0xf7 if prefixes.contains(&0x66) => 2,
            0xf7 => 4,
            _ => return None,
        };
        let mask = u64::MAX >> (64 - 8 * width);
        let (mut divisor, mut register, mut address) = (None, None, None);
        if modrm >= 0o300 {
            let number = u16::from(modrm & 7 | rex.map_or(0, |rex| (rex & 1) << 3));
            let high = width == 1 && rex.is_none() && number >= 4;
            register = Some(dwarf(scene.arch, if high { number - 4 } else { number }));
            let value = scene.register(register?)?;
            divisor = Some((if high { value >> 8 } else { value }) & mask);
        } else if let Some(placed) = scene.placed().next() {
            address = Some(placed.address);
            let place = ProcessAddress(placed.address);
            let bytes = scene.event.memory(place, width as usize);
            divisor = bytes.map(little_endian);
        }
        let (low, high) = (scene.register(0)?, scene.register(dwarf(scene.arch, 2))?);
        let signed = modrm & 0o70 == 0o70;
        let sign = (low as i64) << (64 - 8 * width) >> 63;
        let narrow = width > 1 && signed && (high ^ sign as u64) & mask == 0;
        Some(Division {
            divisor,
            register,
            address,
            width,
            signed,
            dividend: narrow.then_some(low & mask),
            fits: dividend_fits(low, high, width, signed),
        })
    }

    /// Which the divisor is.
    fn place(&self, scene: &Scene<'_>, words: &mut Words) {
        words.text("the divisor is ");
        if let Some(register) = self.register {
            words.named(scene.arch.dwarf_name(register));
        } else if let Some(address) = self.address {
            words.text("the ").distance(self.width.into());
            words.text(" at ").hex(address);
        }
    }

    /// `the quotient -2147483648 / -1 does not fit into 4 bytes`
    fn overflow(&self, divisor: u64, words: &mut Words) {
        words.text("the quotient ");
        match self.dividend {
            Some(dividend) => self.number(dividend, words).text(" / "),
            None => words.text("of a division by "),
        };
        self.number(divisor, words).text(" does not fit into ");
        words.distance(self.width.into());
    }

    fn number<'w>(&self, value: u64, words: &'w mut Words) -> &'w mut Words {
        let spare = 64 - 8 * self.width;
        match (value << spare) as i64 >> spare {
            negative @ ..0 if self.signed => words.text("-").number(negative.unsigned_abs()),
            _ => words.number(value),
        }
    }
}

/// Whether a dividend is no wider than the quotient may be, so that only a
/// divisor of zero can trap (or -1, for the least number that there is).
fn dividend_fits(low: u64, high: u64, width: u32, signed: bool) -> bool {
    let mask = u64::MAX >> (64 - 8 * width);
    let (low, high) = match width {
        1 => (low & 0xff, low >> 8 & 0xff),
        _ => (low & mask, high & mask),
    };
    let least = 1 << (8 * width - 1);
    match signed {
        true if low & least != 0 => high == mask && low != least,
        _ => high == 0,
    }
}

/// An x86 register as an instruction numbers it, by its DWARF number.
fn dwarf(arch: Arch, number: u16) -> u16 {
    // rax rcx rdx rbx rsp rbp rsi rdi: psABI, figure 3.36
    const X86_64: [u16; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    match arch {
        Arch::I386 => number,
        _ => *X86_64.get(usize::from(number)).unwrap_or(&number),
    }
}

/// The verdict on a SIGTRAP.
pub(super) fn breakpoint(scene: &Scene<'_>) -> Verdict {
    let what = match scene.fault.code {
        code::SI_KERNEL if scene.is_trap(trap::BREAKPOINT) => BREAKPOINT,
        code::TRAP_BRKPT => BREAKPOINT,
        code::TRAP_TRACE => "a single step without a debugger",
        code::TRAP_HWBKPT => "a hardware watchpoint or breakpoint without a debugger",
        _ => {
            return Verdict::plain(
                Cause::Unknown,
                "a trap about which the kernel says nothing more",
            )
        }
    };
    Verdict::plain(Cause::Breakpoint, what)
}

const BREAKPOINT: &str = "a breakpoint instruction without a debugger: probably a failed \
                          check or an abort";

/// The verdict on a SIGSYS.
pub(super) fn system_call(scene: &Scene<'_>) -> Verdict {
    let who = match scene.fault.code {
        code::SYS_SECCOMP => "a seccomp filter",
        code::SYS_USER_DISPATCH => "the program's own dispatch of system calls",
        _ => {
            return Verdict::plain(
                Cause::Unknown,
                "the signal code is one that this tool does not interpret",
            )
        }
    };
    // si_syscall, below si_arch, which is never 0. And the kernel puts the registers
    // back as they were before the call.
    let reported = scene.own_siginfo(0).filter(|word| word >> 32 != 0);
    let number = reported.or_else(|| match scene.arch {
        Arch::X86_64 | Arch::I386 => scene.register(0),
        Arch::Aarch64 => scene.register(8),
        Arch::Arm => scene.register(7),
    });
    let mut words = Words::default();
    words.text("system call ");
    let number = number.map(|number| number & 0xffff_ffff);
    if let Some(number) = number {
        words.number(number).text(" ");
    }
    words.text("(");
    if let Some(name) = number.and_then(|number| calls::name(scene.arch, number)) {
        words.text(name).text(", ");
    }
    words.text(scene.arch.as_str()).text(") was refused by ");
    words.text(who);
    Verdict::new(Cause::ForbiddenSystemCall, words)
}
