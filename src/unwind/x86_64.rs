//! x86_64: calls, signal frames and frame pointers.
//!
//! psABI, figure 3.36, numbers the registers; a call pushes its return address,
//! so a caller's stack pointer is one word above the place of that address.
//! The signal frame is `struct rt_sigframe` of `arch/x86/include/asm/sigframe.h`.

use std::ops::RangeInclusive;

use super::architecture::{Architecture, Before, Caller, Site, State};
use super::depth::{self, Depth, Mode};
use super::stack::{offset, word};
use super::AddressSpace;
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

pub(super) struct X86_64;

const RBX: u16 = 3;
const RBP: u16 = 6;
const RSP: u16 = 7;
const RIP: u16 = 16;

/// `mov $15, %rax; syscall`: rt_sigreturn, in glibc and musl alike.
const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];
/// Bytes of the restorer before its system call.
const RESTORER_CALL: u64 = 7;

/// Code after a call from which no return is meant: `hlt` in `_start`, and
/// `mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall` in musl's `__clone`.
const HLT: u8 = 0xf4;
const EXIT: [u8; 8] = [0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05];

/// Longest call instruction that is looked for.
const BEFORE: usize = 7;
/// Bytes of the code after it.
const AFTER: usize = 9;

/// The offset of `mcontext` from the stack pointer when a handler has returned (`uc_flags`,
/// `uc_link`, `uc_stack`: 40 bytes), in words of `struct sigcontext_64`, by DWARF number.
const MCONTEXT: u64 = 40;
const SIGCONTEXT: [(u16, u64); 17] = [
    (8, 0),
    (9, 1),
    (10, 2),
    (11, 3),
    (12, 4),
    (13, 5),
    (14, 6),
    (15, 7),
    (5, 8),
    (4, 9),
    (RBP, 10),
    (RBX, 11),
    (1, 12),
    (0, 13),
    (2, 14),
    (RSP, 15),
    (RIP, 16),
];

/// The word of `cs`, `gs`, `fs` and `ss`, and its value: `__USER_CS`, `__USER_DS`.
const SEGMENTS: u64 = 18;
const USER_SEGMENTS: u64 = 0x002b_0000_0000_0033;
/// All flags of `uc_flags`, the first word of a ucontext; after it `uc_link`.
const UC_FLAGS: u64 = 7;
const UC_LINK: u64 = 8;

impl Architecture for X86_64 {
    const ARCH: Arch = Arch::X86_64;
    const WORD: u64 = 8;
    const STACK_POINTER: u16 = RSP;
    const FRAME_POINTER: u16 = RBP;
    const PROGRAM_COUNTER: u16 = RIP;
    // rbx, rbp, r12 to r15.
    const PRESERVED: u64 = 1 << RBX | 1 << RBP | 0xf << 12;

    fn code_pointer(_: &dyn AddressSpace, value: u64) -> ProcessAddress {
        ProcessAddress(value)
    }

    fn site(space: &dyn AddressSpace, address: ProcessAddress) -> Site {
        around::<Self>(space, address, |after| {
            let ends = after.first() == Some(&HLT) || after.starts_with(&EXIT);
            (after.starts_with(&RESTORER), ends)
        })
    }

    fn inside_restorer(space: &dyn AddressSpace, pc: ProcessAddress) -> bool {
        let mut code = [0; RESTORER.len()];
        [RESTORER_CALL, RESTORER.len() as u64].iter().any(|back| {
            let start = ProcessAddress(pc.0.wrapping_sub(*back));
            space.read_code(start, &mut code) >= code.len() && code == RESTORER
        })
    }

    /// Code segments of 64-bit programs, and nothing linked: setup_sigcontext() and
    /// x64_setup_rt_frame() in arch/x86/kernel/signal*.c.
    fn is_marked(space: &dyn AddressSpace, state: &State) -> bool {
        let Some(sp) = Self::stack_pointer(state) else {
            return false;
        };
        let read = |at: u64| word::<Self>(space, offset(sp, at)).ok();
        let segments = read(MCONTEXT + 8 * SEGMENTS);
        segments == Some(USER_SEGMENTS)
            && read(UC_LINK) == Some(0)
            && read(0).is_some_and(|flags| flags <= UC_FLAGS)
    }

    fn interrupted(space: &dyn AddressSpace, state: &State) -> Result<Caller, ProcessAddress> {
        let sp = Self::stack_pointer(state).ok_or(ProcessAddress(0))?;
        saved::<Self>(space, state, offset(sp, MCONTEXT), &SIGCONTEXT)
    }

    fn leaf(space: &dyn AddressSpace, state: &State) -> Option<Caller> {
        let sp = Self::stack_pointer(state)?;
        let pc = word::<Self>(space, sp).ok()?;
        Some(Self::returned_through(space, state, sp, pc))
    }

    fn frame_pointer(
        space: &dyn AddressSpace,
        state: &State,
        floor: ProcessAddress,
    ) -> Option<Caller> {
        frame_pointer::<Self>(space, state, floor)
    }

    fn returned_through(
        _: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller {
        returned_through::<Self>(state, slot, value)
    }

    /// `jmp` by displacement or through memory, after `endbr64`, `bnd` or `push $n`.
    fn is_jump(code: &[u8]) -> bool {
        let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
        let code = code.strip_prefix(&[0xf2]).unwrap_or(code);
        matches!(
            code,
            [0xff, 0x25, ..] | [0xe9, ..] | [0x68, _, _, _, _, 0xe9 | 0xf2, ..]
        )
    }

    /// `mov %rsp, %rbp`, in both of its encodings; Go's `lea n(%rsp), %rbp`.
    fn sets_frame_pointer(code: &[u8]) -> bool {
        let moves = |bytes: &[u8]| matches!(bytes, [0x48, 0x89, 0xe5] | [0x48, 0x8b, 0xec]);
        let adds = |bytes: &[u8]| matches!(bytes, [0x48, 0x8d, 0x6c | 0xac, 0x24]);
        code.windows(3).any(moves) || code.windows(4).any(adds)
    }

    fn depth(code: &[u8]) -> Option<Depth> {
        depth::of(Mode::Bits64, code)
    }

    fn depth_ahead(code: &[u8]) -> Option<Depth> {
        depth::ahead(Mode::Bits64, code)
    }

    /// A thunk calls over a trap, then writes its target with `mov %reg, (%rsp)` and runs `ret`.
    fn jumps_on(code: &[u8]) -> bool {
        let thunk = |bytes: &[u8]| matches!(bytes, [0x48 | 0x4c, 0x89, modrm, 0x24, 0xc3] if modrm & 0xc7 == 4);
        Self::is_jump(code)
            || depth::jumps_on(Mode::Bits64, code)
            || (code.first() == Some(&0xe8) && code.windows(5).any(thunk))
    }

    fn leaves_by_frame(code: &[u8]) -> bool {
        depth::leaves_by_frame(Mode::Bits64, code)
    }

    /// `call *%reg`
    fn called(space: &dyn AddressSpace, returns: ProcessAddress, state: &State) -> Option<u64> {
        // The order of instruction encodings, as DWARF numbers.
        const NUMBERS: [u16; 8] = [0, 2, 1, RBX, RSP, RBP, 4, 5];
        let mut code = [0; 3];
        let start = ProcessAddress(returns.0.wrapping_sub(3));
        if space.read_code(start, &mut code) < code.len() {
            return None;
        }
        match code {
            [0x41, 0xff, modrm @ 0xd0..=0xd7] => state.get(u16::from(modrm & 7) + 8),
            [_, 0xff, modrm @ 0xd0..=0xd7] => state.get(NUMBERS[usize::from(modrm & 7)]),
            _ => None,
        }
    }

    /// `jmp rel32`, plain or conditional, wherever its bytes stand.
    fn jumps_into(code: &[u8], distance: RangeInclusive<i64>) -> bool {
        (1_i64..)
            .zip(code.windows(5))
            .any(|(behind_opcode, bytes)| {
                let [0xe9 | 0x80..=0x8f, displacement @ ..] = bytes else {
                    return false;
                };
                displacement.first_chunk().is_some_and(|bytes| {
                    let displacement = i64::from(i32::from_le_bytes(*bytes));
                    distance.contains(&(behind_opcode + 4 + displacement))
                })
            })
    }
}

/// What the code around an address shows; `tell` says whether the code there is a restorer
/// and whether it ends the thread.
pub(super) fn around<A: Architecture>(
    space: &dyn AddressSpace,
    address: ProcessAddress,
    tell: fn(&[u8]) -> (bool, bool),
) -> Site {
    let (before, (restorer, ends)) = read_around(space, address, tell);
    Site {
        before: match before {
            Before::Direct(distance) => {
                let target = ProcessAddress(offset(address, distance).0 & A::LAST);
                let distance = target.0.wrapping_sub(address.0);
                // A random byte 0xe8 seldom leads to code.
                match space.is_executable(target) {
                    true => Before::Direct(distance),
                    false => Before::Astray(distance),
                }
            }
            before => before,
        },
        restorer,
        ends,
    }
}

fn read_around(
    space: &dyn AddressSpace,
    address: ProcessAddress,
    tell: fn(&[u8]) -> (bool, bool),
) -> (Before, (bool, bool)) {
    let mut code = [0; BEFORE + AFTER];
    let start = ProcessAddress(address.0.wrapping_sub(BEFORE as u64));
    let len = space.read_code(start, &mut code).min(code.len());
    if len >= BEFORE {
        let (before, after) = code[..len].split_at(BEFORE);
        return (call(before), tell(after));
    }
    // The address is among the first of its mapping, or the bytes before
    // the captured ones are in no file.
    let mut after = [0; AFTER];
    let len = space.read_code(address, &mut after).min(after.len());
    let before = (2..BEFORE).rev().find_map(|len| {
        let mut before = [0; BEFORE];
        let wanted = &mut before[BEFORE - len..];
        let start = ProcessAddress(address.0.wrapping_sub(len as u64));
        (space.read_code(start, wanted) >= len).then_some(before)
    });
    let before = before.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    (call(before), tell(&after[..len]))
}

/// The registers that the kernel saved at `mcontext`: which, and in which word.
pub(super) fn saved<A: Architecture>(
    space: &dyn AddressSpace,
    state: &State,
    mcontext: ProcessAddress,
    registers: &[(u16, u64)],
) -> Result<Caller, ProcessAddress> {
    let mut before = *state;
    for &(number, index) in registers {
        let slot = offset(mcontext, index * A::WORD);
        before.set(number, word::<A>(space, slot)?);
    }
    Ok(A::caller(before))
}

/// The frame pointer's word holds the caller's, the word above it the return address.
pub(super) fn frame_pointer<A: Architecture>(
    space: &dyn AddressSpace,
    state: &State,
    floor: ProcessAddress,
) -> Option<Caller> {
    let fp = ProcessAddress(state.get(A::FRAME_POINTER)?);
    if fp < floor || !fp.0.is_multiple_of(A::WORD) {
        return None;
    }
    let saved = word::<A>(space, fp).ok()?;
    let slot = offset(fp, A::WORD);
    let pc = word::<A>(space, slot).ok()?;
    let mut caller = returned_through::<A>(state, slot, pc);
    // The function may have saved the others anywhere.
    let known = 1 << A::STACK_POINTER | 1 << A::PROGRAM_COUNTER;
    caller.state.keep(known);
    caller.state.set(A::FRAME_POINTER, saved);
    Some(caller)
}

/// The caller of a function whose return address was pushed at `slot`.
pub(super) fn returned_through<A: Architecture>(
    state: &State,
    slot: ProcessAddress,
    value: u64,
) -> Caller {
    let mut next = *state;
    next.keep(A::PRESERVED);
    next.set(A::STACK_POINTER, offset(slot, A::WORD).0);
    next.set(A::PROGRAM_COUNTER, value);
    A::caller(next)
}

/// Which call, if any, ends with these bytes: `E8 rel32`, or `FF /2` with every
/// form of operand. Prefixes before the opcode change nothing.
fn call(before: &[u8]) -> Before {
    if before.len() < 2 {
        return Before::Unreadable;
    }
    if let Some([0xe8, a, b, c, d]) = before.last_chunk() {
        let distance = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
        return Before::Direct(distance as u64);
    }
    if let Some([0xff, 0x15, ..]) = before.last_chunk::<6>() {
        return Before::Slot;
    }
    let indirect = [2, 3, 4, 6, 7].iter().any(|&len| {
        let tail = before.len().checked_sub(len).map(|at| &before[at..]);
        tail.is_some_and(|tail| indirect_len(tail) == Some(len))
    });
    if indirect {
        Before::Indirect
    } else {
        Before::Other
    }
}

/// The length of the `FF /2` at the start of the bytes.
fn indirect_len(code: &[u8]) -> Option<usize> {
    let (&0xff, rest) = code.split_first()? else {
        return None;
    };
    let modrm = *rest.first()?;
    if modrm >> 3 & 7 != 2 {
        return None;
    }
    let rm = modrm & 7;
    let sib = rm == 4;
    let len = match modrm >> 6 {
        3 => return Some(2),
        0 if rm == 5 => 6,
        0 if sib && rest.get(1)? & 7 == 5 => 7,
        0 => 2 + usize::from(sib),
        1 => 3 + usize::from(sib),
        _ => 6 + usize::from(sib),
    };
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_call_is_known_by_its_last_bytes() {
        for (bytes, name) in [
            (&[0xff, 0xd0][..], "call *%rax"),
            (&[0x41, 0xff, 0xd4], "call *%r12"),
            (&[0xff, 0x10], "call *(%rax)"),
            (&[0xff, 0x50, 0x18], "call *24(%rax)"),
            (&[0xff, 0x14, 0xc8], "call *(%rax,%rcx,8)"),
            (&[0xff, 0x54, 0x24, 0x08], "call *8(%rsp)"),
            (&[0xff, 0x93, 0, 1, 0, 0], "call *256(%rbx)"),
            (&[0xff, 0x14, 0xc5, 0, 0, 0, 0], "call *0(,%rax,8)"),
            (&[0xff, 0x94, 0x24, 0, 1, 0, 0], "call *256(%rsp)"),
        ] {
            let mut code = vec![0x90; BEFORE - bytes.len()];
            code.extend_from_slice(bytes);
            assert_eq!(call(&code), Before::Indirect, "{name}");
        }
        let code = [0x90, 0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff];
        assert_eq!(call(&code), Before::Direct(-5_i64 as u64));
        // call *x(%rip)
        assert_eq!(call(&[0x90, 0xff, 0x15, 1, 2, 3, 4]), Before::Slot);
    }

    #[test]
    fn other_instructions_are_no_calls() {
        for (bytes, name) in [
            (&[0xff, 0xe0][..], "jmp *%rax"),
            (&[0xff, 0x25, 1, 2, 3, 4], "jmp *x(%rip)"),
            (&[0xff, 0x75, 0x08], "push 8(%rbp)"),
            (&[0x90, 0x90], "nop"),
        ] {
            let mut code = vec![0x90; BEFORE - bytes.len()];
            code.extend_from_slice(bytes);
            assert_eq!(call(&code), Before::Other, "{name}");
        }
        assert_eq!(call(&[]), Before::Unreadable);
    }
}
