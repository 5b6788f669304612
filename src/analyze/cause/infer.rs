//! Infers what the processor reported about a fault, if the record lacks it: perf events
//! have the registers, and the module's file has the instruction.
//!
//! An instruction can only fault at one of its operands. If exactly one of them can have
//! faulted, its address is the fault's. If several can, or if not all of them can be
//! computed, the result is nothing.

use super::operand::{touched, Placed};
use super::{Chosen, Evidence, Fault, Scene};
use crate::base::address::ProcessAddress;
use crate::crash::event::{Event, Siginfo, Trap};
use crate::crash::kinds::Access;
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::{code, signal, trap};
use crate::decode::{decode_at_pc, Class, Decoded, Target, Touch};
use crate::report::Location;

/// No kernel has smaller pages.
const PAGE: u64 = 4096;
/// A wider access may consist of several, and fault at any of them.
const MOST_WIDTH: u16 = 64;
/// User space ends below, whatever the size of addresses.
const USER_END: u64 = 1 << 56;

// x86: a page fault of the user's.
const X86_PRESENT: u64 = 1;
const X86_WRITE: u64 = 1 << 1;
const X86_USER: u64 = 1 << 2;
const X86_FETCH: u64 = 1 << 4;
const X86_KEY: u64 = 1 << 5;
// arm64: a data abort from user space.
const ARM64_DATA: u64 = 0x9200_0000;
const ARM64_FETCH: u64 = 0x8200_0000;
const ARM64_WRITE: u64 = 1 << 6;
const ARM64_TRANSLATION: u64 = 0x04;
const ARM64_PERMISSION: u64 = 0x0f;

/// Siginfo and trap, where the instruction whose bytes are `code`
/// leaves no doubt.
#[must_use]
pub fn infer(
    event: &Event,
    fault: &Fault,
    registers: &Registers,
    code: &[u8],
) -> Option<(Siginfo, Trap)> {
    let arch = registers.arch();
    if let Some(trap) = fetch(event, fault, arch) {
        return Some((fault.siginfo, trap));
    }
    let decoded = decode_at_pc(registers, code)?;
    let chosen = Chosen {
        fault: *fault,
        registers: Some(*registers),
        earlier: None,
        made: false,
    };
    let place = Location::default();
    let scene = Scene {
        evidence: &Evidence {
            event,
            chosen: &chosen,
            code,
            before: &[],
            functions: &[],
            place: &place,
            quotes: false,
        },
        event,
        fault: *fault,
        arch,
        registers: Some(registers),
        decoded: Some(decoded),
    };
    match (fault.signal, fault.code) {
        (signal::SIGSEGV, code::SEGV_MAPERR | code::SEGV_ACCERR | code::SEGV_PKUERR)
        | (signal::SIGBUS, code::BUS_ADRERR) => page_fault(&scene, &decoded),
        (signal::SIGSEGV, code::SI_KERNEL) => protection(&scene, &decoded),
        (signal::SIGFPE, code::FPE_INTDIV) if decoded.class == Class::Division => {
            let trap = Trap {
                address: 0,
                error_code: 0,
                number: trap::DIVISION,
            };
            Some((Siginfo::Address(fault.pc), trap))
        }
        _ => None,
    }
}

/// Of the instruction itself: the signal names its address, where nothing can be executed. A
/// core file has the address.
fn fetch(event: &Event, fault: &Fault, arch: Arch) -> Option<Trap> {
    let is_page_fault = matches!(
        (fault.signal, fault.code),
        (signal::SIGSEGV, code::SEGV_MAPERR | code::SEGV_ACCERR)
    );
    let address = fault.siginfo.address().filter(|_| is_page_fault)?;
    let mapping = event.mapping(fault.pc);
    if address != fault.pc || mapping.is_some_and(|mapping| mapping.flags.executable()) {
        return None;
    }
    let is_mapped = fault.code == code::SEGV_ACCERR;
    Some(match arch {
        Arch::X86_64 | Arch::I386 => Trap {
            address: address.0,
            error_code: X86_FETCH | X86_USER | if is_mapped { X86_PRESENT } else { 0 },
            number: trap::PAGE_FAULT,
        },
        Arch::Aarch64 | Arch::Arm => Trap {
            address: address.0,
            error_code: ARM64_FETCH
                | if is_mapped {
                    ARM64_PERMISSION
                } else {
                    ARM64_TRANSLATION
                },
            number: 0,
        },
    })
}

fn page_fault(scene: &Scene<'_>, decoded: &Decoded) -> Option<(Siginfo, Trap)> {
    let mut operands = decoded.memory();
    let all = operands.all(|operand| {
        let placed = scene.placed().any(|placed| placed.operand == *operand);
        operand.touch == Touch::Nothing || placed
    });
    let mut suspects = scene.placed().filter(|placed| !is_fine(scene, placed));
    let placed = suspects.next()?;
    if !all || suspects.next().is_some() || placed.operand.partial {
        return None;
    }
    let width = placed.operand.width.filter(|&width| width <= MOST_WIDTH)?;
    let address = scene.untagged(placed.address);
    if address >= USER_END || address % PAGE + u64::from(width) > PAGE {
        return None;
    }
    let access = access(scene, &placed)?;
    let trap = match scene.arch {
        Arch::X86_64 | Arch::I386 => Trap {
            address,
            error_code: x86_error_code(scene.fault.code, access),
            number: trap::PAGE_FAULT,
        },
        Arch::Aarch64 | Arch::Arm => Trap {
            address,
            error_code: arm64_syndrome(scene.fault.code, access),
            number: 0,
        },
    };
    Some((Siginfo::Address(ProcessAddress(address)), trap))
}

/// Whether an operand cannot have led to this signal.
fn is_fine(scene: &Scene<'_>, placed: &Placed) -> bool {
    let address = ProcessAddress(scene.untagged(placed.address));
    let width = placed.operand.width.unwrap_or(1);
    // Memory in the copy of the stack was readable, and stacks are writable.
    let mut windows = scene.event.windows.iter();
    if windows.any(|window| window.get(address, width.into()).is_some()) {
        return true;
    }
    let reads = placed.operand.touch == Touch::Read;
    let mapped = scene.event.mapping(address);
    match scene.fault.code {
        code::SEGV_MAPERR if scene.fault.signal == signal::SIGSEGV => mapped.is_some(),
        code::SEGV_ACCERR if scene.fault.signal == signal::SIGSEGV => {
            mapped.is_some_and(|mapping| mapping.flags.readable()) && reads
        }
        _ => false,
    }
}

fn access(scene: &Scene<'_>, placed: &Placed) -> Option<Access> {
    let arm = matches!(scene.arch, Arch::Aarch64 | Arch::Arm);
    match placed.operand.touch {
        // A write there only if it could have been read.
        Touch::ReadWrite if arm => match scene.fault.code {
            code::SEGV_MAPERR => Some(Access::Read),
            _ => None,
        },
        touch => touched(touch),
    }
}

fn x86_error_code(code: i32, access: Access) -> u64 {
    let write = match access {
        Access::Write => X86_WRITE,
        _ => 0,
    };
    let present = match code {
        code::SEGV_ACCERR => X86_PRESENT,
        code::SEGV_PKUERR => X86_PRESENT | X86_KEY,
        _ => 0,
    };
    X86_USER | write | present
}

fn arm64_syndrome(code: i32, access: Access) -> u64 {
    let write = match access {
        Access::Write => ARM64_WRITE,
        _ => 0,
    };
    let status = match code {
        code::SEGV_ACCERR => ARM64_PERMISSION,
        _ => ARM64_TRANSLATION,
    };
    ARM64_DATA | write | status
}

/// A general-protection fault, if the instruction is one that has it here.
fn protection(scene: &Scene<'_>, decoded: &Decoded) -> Option<(Siginfo, Trap)> {
    if !matches!(scene.arch, Arch::X86_64 | Arch::I386) {
        return None;
    }
    let refused = |placed: Placed| {
        let alignment = u64::from(placed.operand.alignment.max(1));
        scene.non_canonical(placed.address) || !placed.address.is_multiple_of(alignment)
    };
    let jump = match decoded.target {
        Some(Target::Register(register)) => scene.register(register.0.into()),
        _ => None,
    };
    let is_refused = decoded.class == Class::Privileged
        || scene.placed().any(refused)
        || jump.is_some_and(|target| scene.non_canonical(target));
    is_refused.then_some((
        Siginfo::Neither,
        Trap {
            address: 0,
            error_code: 0,
            number: trap::GENERAL_PROTECTION,
        },
    ))
}
