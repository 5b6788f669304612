//! aarch64: calls, signal frames, frame records and authenticated pointers.
//!
//! A call leaves its return address in x30; a function that calls others saves
//! it beside the caller's x29, in a record that x29 then points to (AAPCS64).
//! The signal frame is `struct rt_sigframe` of `arch/arm64/kernel/signal.c`.

use std::ops::RangeInclusive;

use super::architecture::{Architecture, Before, Caller, Site, State};
use super::stack::{offset, word};
use super::AddressSpace;
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

pub(super) struct Aarch64;

const FP: u16 = 29;
const LR: u16 = 30;
const SP: u16 = 31;
const PC: u16 = 32;

/// `mov x8, #139; svc #0`: rt_sigreturn, in the vDSO, glibc and musl.
const RESTORER: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
/// `mov x8, #93; svc #0`: exit, after the call in musl's `__clone`.
const EXIT: [u8; 8] = [0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];
const INSTRUCTION: u64 = 4;

/// x0 within the signal frame that the stack pointer points to: `siginfo` takes
/// 128 bytes, `ucontext` 176 up to its `mcontext`, the fault address 8.
const SIGCONTEXT: u64 = 312;

/// Widths of user addresses, widest first: a narrower one leaves more bits to
/// authentication codes (`CONFIG_ARM64_VA_BITS`).
const ADDRESS_BITS: [u32; 6] = [52, 48, 47, 42, 39, 36];

impl Architecture for Aarch64 {
    const ARCH: Arch = Arch::Aarch64;
    const WORD: u64 = 8;
    const STACK_POINTER: u16 = SP;
    const FRAME_POINTER: u16 = FP;
    const PROGRAM_COUNTER: u16 = PC;
    const INSTRUCTION: u64 = INSTRUCTION;
    const LINK: Option<u16> = Some(LR);
    // x18 belongs to the platform; x19 to x28 and x29 are the callee's to keep.
    const PRESERVED: u64 = 0x7ff << 19 | 1 << 18;

    /// The width of this process's addresses is not known: the widest that leads to code is
    /// right.
    fn code_pointer(space: &dyn AddressSpace, value: u64) -> ProcessAddress {
        if space.is_executable(ProcessAddress(value)) {
            return ProcessAddress(value);
        }
        ADDRESS_BITS
            .iter()
            .map(|bits| ProcessAddress(value & ((1 << bits) - 1)))
            .find(|address| space.is_executable(*address))
            .unwrap_or(ProcessAddress(value))
    }

    fn site(space: &dyn AddressSpace, address: ProcessAddress) -> Site {
        let mut after = [0; RESTORER.len()];
        let len = space.read_code(address, &mut after).min(after.len());
        let mut before = [0; INSTRUCTION as usize];
        let start = ProcessAddress(address.0.wrapping_sub(INSTRUCTION));
        let before = if space.read_code(start, &mut before) >= before.len() {
            match call(u32::from_le_bytes(before)) {
                Before::Direct(distance) if !space.is_executable(offset(address, distance)) => {
                    Before::Astray(distance)
                }
                before => before,
            }
        } else {
            Before::Unreadable
        };
        Site {
            before,
            restorer: after[..len] == RESTORER,
            ends: after[..len] == EXIT,
        }
    }

    fn inside_restorer(space: &dyn AddressSpace, pc: ProcessAddress) -> bool {
        let mut code = [0; RESTORER.len()];
        [INSTRUCTION, 2 * INSTRUCTION].iter().any(|back| {
            let start = ProcessAddress(pc.0.wrapping_sub(*back));
            space.read_code(start, &mut code) >= code.len() && code == RESTORER
        })
    }

    fn interrupted(space: &dyn AddressSpace, state: &State) -> Result<Caller, ProcessAddress> {
        let sp = Self::stack_pointer(state).ok_or(ProcessAddress(0))?;
        let mut before = *state;
        // x0 to x30, sp and pc in the order of their numbers.
        for number in 0..=PC {
            let slot = offset(sp, SIGCONTEXT + u64::from(number) * Self::WORD);
            before.set(number, word::<Self>(space, slot)?);
        }
        Ok(Self::caller(before))
    }

    /// As far as it is certain: none of it calls, or may write x30.
    fn keeps_link(_: &State, code: &[u8]) -> bool {
        let writes = |code: u32| {
            let second = u32::from(LR) == code >> 10 & 31;
            u32::from(LR) == code & 31 || second || call(code) != Before::Other
        };
        !instructions(code).any(writes)
    }

    fn leaf(space: &dyn AddressSpace, state: &State) -> Option<Caller> {
        let pc = Self::code_pointer(space, state.get(LR)?);
        let mut next = *state;
        next.keep(Self::PRESERVED | 1 << SP);
        next.set(PC, pc.0);
        Some(Self::caller(next))
    }

    /// The record holds the caller's x29, then the return address. It does not have the
    /// caller's stack pointer, which is only known to be above the record, so call-frame
    /// information may not use it.
    fn frame_pointer(
        space: &dyn AddressSpace,
        state: &State,
        floor: ProcessAddress,
    ) -> Option<Caller> {
        let fp = ProcessAddress(state.get(FP)?);
        if fp < floor || !fp.0.is_multiple_of(Self::WORD) {
            return None;
        }
        let slot = offset(fp, Self::WORD);
        let value = word::<Self>(space, slot).ok()?;
        Some(Self::returned_through(space, state, slot, value))
    }

    /// The word below a saved return address is the caller's x29.
    fn returned_through(
        space: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller {
        let pc = Self::code_pointer(space, value);
        let mut next = *state;
        next.keep(0);
        if let Ok(saved) = word::<Self>(space, ProcessAddress(slot.0.wrapping_sub(Self::WORD))) {
            next.set(FP, saved);
        }
        next.set(PC, pc.0);
        Caller {
            pc,
            floor: offset(slot, Self::WORD),
            signal: false,
            debug: false,
            assumed: false,
            state: next,
        }
    }

    /// `b`, or `adrp x16; ldr x17; add x16; br x17` after an optional `bti c`.
    fn is_jump(code: &[u8]) -> bool {
        let mut code = instructions(code).skip_while(|code| *code == 0xd503_245f);
        let Some(first) = code.next() else {
            return false;
        };
        first & 0xfc00_0000 == 0x1400_0000 || first & 0x9f00_001f == 0x9000_0010
    }

    /// `mov x29, sp` or `add x29, sp, #n`.
    fn sets_frame_pointer(code: &[u8]) -> bool {
        instructions(code).any(|instruction| instruction & 0xffc0_03ff == 0x9100_03fd)
    }

    /// `b`
    fn jumps_into(code: &[u8], distance: RangeInclusive<i64>) -> bool {
        (0_i64..)
            .zip(instructions(code))
            .any(|(index, instruction)| {
                instruction & 0xfc00_0000 == 0x1400_0000
                    && distance.contains(&(index * 4 + branch(instruction)))
            })
    }
}

fn instructions(code: &[u8]) -> impl Iterator<Item = u32> + '_ {
    code.chunks_exact(4)
        .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The distance of a `b` or `bl` from itself: 26 bits, in words.
fn branch(instruction: u32) -> i64 {
    let words = (instruction << 6) as i32 >> 6;
    i64::from(words) * 4
}

/// The kind of call that this instruction is; the distance counts from the next one.
fn call(instruction: u32) -> Before {
    // bl
    if instruction & 0xfc00_0000 == 0x9400_0000 {
        return Before::Direct((branch(instruction) as u64).wrapping_sub(INSTRUCTION));
    }
    // blr; blraaz and blrabz; blraa and blrab.
    let indirect = instruction & 0xffff_fc1f == 0xd63f_0000
        || instruction & 0xffff_f81f == 0xd63f_081f
        || instruction & 0xffff_f800 == 0xd73f_0800;
    if indirect {
        Before::Indirect
    } else {
        Before::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_word() {
        // bl .-8: the target is 12 bytes before the return address.
        assert_eq!(call(0x97ff_fffe), Before::Direct(-12_i64 as u64));
        assert_eq!(call(0x9400_0001), Before::Direct(0));
        for (instruction, name) in [
            (0xd63f_0020, "blr x1"),
            (0xd63f_083f, "blraaz x1"),
            (0xd63f_0c3f, "blrabz x1"),
            (0xd73f_0822, "blraa x1, x2"),
            (0xd73f_0c22, "blrab x1, x2"),
        ] {
            assert_eq!(call(instruction), Before::Indirect, "{name}");
        }
        for (instruction, name) in [
            (0xd61f_0020, "br x1"),
            (0xd65f_03c0, "ret"),
            (0x1400_0001, "b .+4"),
            (0xd503_201f, "nop"),
        ] {
            assert_eq!(call(instruction), Before::Other, "{name}");
        }
    }

    #[test]
    fn stubs_of_the_linkage_table_are_jumps() {
        // adrp x16, .; and the same after bti c.
        assert!(Aarch64::is_jump(&0x9000_0010_u32.to_le_bytes()));
        let protected = [0xd503_245f_u32.to_le_bytes(), 0x9000_0010_u32.to_le_bytes()];
        assert!(Aarch64::is_jump(&protected.concat()));
        assert!(
            !Aarch64::is_jump(&0xa9bf_7bfd_u32.to_le_bytes()),
            "stp x29, x30"
        );
    }
}
