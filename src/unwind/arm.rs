//! 32-bit ARM on a kernel of aarch64: calls, signal frames, and what code shows.
//!
//! A call leaves its return address in lr, with bit 0 set if it is in Thumb code (Arm IHI
//! 0042, "Procedure Call Standard"). There is no one frame pointer: r11 or r7, or none. So
//! what has no table is read from its code (`arm_code`). The signal frames are `struct
//! compat_sigframe` and `struct compat_rt_sigframe` of `arch/arm64/kernel/signal32.c`.

use std::ops::RangeInclusive;

use super::architecture::{Architecture, Before, Caller, Site, State, THUMB};
use super::arm_code::{self, Shown};
use super::arm_step::{step, Effect, Set};
use super::rule::Rule;
use super::stack::{offset, word};
use super::AddressSpace;
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

pub(super) struct Arm;

const FP: u16 = 11;
const SP: u16 = 13;
const LR: u16 = 14;
const PC: u16 = 15;

/// Numbers of the system calls that end a signal handler, and of the one that ends a thread.
const EXIT: u8 = 1;
const SIGRETURN: u8 = 119;
const RT_SIGRETURN: u8 = 173;

/// r0 in a signal frame: a `compat_ucontext` has 20 bytes up to its `mcontext`, that has three
/// words before r0; the other frame has 128 bytes of `siginfo` first.
const SIGCONTEXT: u64 = 32;
const RT_SIGCONTEXT: u64 = 160;
/// The kernel's mark of a frame without siginfo, its first word.
const MARK: u64 = 0x5ac3_c35a;
/// Words behind r0: the pc, and the state with the processor's mode.
const SAVED_PC: u64 = 15;
const SAVED_CPSR: u64 = 16;
/// The bits of the mode, without those of conditions, and what a user's are.
const MODE: u64 = 0x1f;
const USER: u64 = 0x10;

/// Bytes before and behind an address that show what it is.
const BEFORE: usize = 8;
const AFTER: usize = 8;
/// `mov lr, pc`: what follows is a call in code for the oldest processors.
const MOV_LR_PC: u32 = 0xe1a0_e00f;

/// The page with the kernel's helpers, and the one helper that pushes: a compare and
/// exchange of 8 bytes, which has pushed r4 to r6 behind its first instruction.
const HELPERS: RangeInclusive<u64> = 0xffff_0f60..=0xffff_0fff;
const CMPXCHG64: RangeInclusive<u64> = 0xffff_0f64..=0xffff_0f97;
const CMPXCHG64_BYTES: u64 = 12;

impl Architecture for Arm {
    const ARCH: Arch = Arch::Arm;
    const WORD: u64 = 4;
    const STACK_POINTER: u16 = SP;
    const FRAME_POINTER: u16 = FP;
    const PROGRAM_COUNTER: u16 = PC;
    const INSTRUCTION: u64 = 2;
    const LINK: Option<u16> = Some(LR);
    const READS_RULES: bool = true;
    // r4 to r11.
    const PRESERVED: u64 = 0xff << 4;

    /// Bit 0 says that the code is Thumb.
    fn code_pointer(_: &dyn AddressSpace, value: u64) -> ProcessAddress {
        ProcessAddress(value & !1)
    }

    fn set_mode(state: &mut State, pointer: u64) {
        state.set(THUMB, pointer & 1);
    }

    fn site(space: &dyn AddressSpace, address: ProcessAddress) -> Site {
        let mut after = [0; AFTER];
        let len = space.read_code(address, &mut after).min(after.len());
        let after = &after[..len];
        Site {
            before: before(space, address),
            restorer: makes_call(after, SIGRETURN) || makes_call(after, RT_SIGRETURN),
            ends: makes_call(after, EXIT),
        }
    }

    fn inside_restorer(space: &dyn AddressSpace, pc: ProcessAddress) -> bool {
        inside(space, pc).is_some()
    }

    /// Without SA_RESTORER handlers return to `[sigpage]`, which is in no file.
    fn is_marked(space: &dyn AddressSpace, state: &State) -> bool {
        let pc = state.get(PC).map(ProcessAddress);
        let unknown = pc.is_some_and(|pc| space.is_executable(pc) && space.module(pc).is_none());
        unknown && by_mark(space, state).is_some()
    }

    fn interrupted(space: &dyn AddressSpace, state: &State) -> Result<Caller, ProcessAddress> {
        let sp = Self::stack_pointer(state).ok_or(ProcessAddress(0))?;
        let pc = ProcessAddress(state.get(PC).unwrap_or(0));
        let at = inside(space, pc)
            .or_else(|| by_mark(space, state))
            .ok_or(sp)?;
        let mut before = *state;
        let saved = |number: u64| word::<Self>(space, offset(sp, at + number * Self::WORD));
        for number in 0..=PC {
            before.set(number, saved(number.into())?);
        }
        before.set(THUMB, saved(SAVED_CPSR)? >> 5 & 1);
        Ok(Self::caller(before))
    }

    /// As far as it is certain.
    fn keeps_link(state: &State, code: &[u8]) -> bool {
        let rule = Self::rule_behind(state, code).filter(|(_, sure)| *sure);
        rule.is_some_and(|(rule, _)| rule.column(LR).is_none())
    }

    fn leaf(space: &dyn AddressSpace, state: &State) -> Option<Caller> {
        let value = state.get(LR)?;
        let mut next = *state;
        next.keep(Self::PRESERVED | 1 << SP);
        let helper = state.get(PC).filter(|pc| HELPERS.contains(pc));
        if helper.is_some_and(|pc| CMPXCHG64.contains(&pc)) {
            next.set(SP, next.get(SP)?.wrapping_add(CMPXCHG64_BYTES));
            next.keep(!(7 << 4));
        }
        next.set(PC, Self::code_pointer(space, value).0);
        Self::set_mode(&mut next, value);
        Some(Self::caller(next))
    }

    /// A record in one of the forms of compilers: r11 or r7 points to the caller's, with the
    /// return address above it, or r11 to the return address, with the caller's r11 below it.
    fn frame_pointer(
        space: &dyn AddressSpace,
        state: &State,
        floor: ProcessAddress,
    ) -> Option<Caller> {
        [(11, 4, 0), (11, 0, -4), (7, 4, 0)]
            .into_iter()
            .find_map(|(register, returns, saved)| {
                let fp = state.get(register).filter(|fp| *fp >= floor.0)?;
                if !fp.is_multiple_of(Self::WORD) {
                    return None;
                }
                let slot = offset(ProcessAddress(fp), returns);
                let value = word::<Self>(space, slot).ok()?;
                let caller = Self::code_pointer(space, value);
                if !space.is_executable(caller) || !before(space, caller).is_call() {
                    return None;
                }
                let old = ProcessAddress(fp.wrapping_add_signed(saved));
                let mut found = Self::returned_through(space, state, slot, value);
                found.state.set(register, word::<Self>(space, old).ok()?);
                Some(found)
            })
    }

    fn returned_through(
        space: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller {
        let mut next = *state;
        next.keep(0);
        next.set(SP, offset(slot, Self::WORD).0);
        next.set(PC, Self::code_pointer(space, value).0);
        Self::set_mode(&mut next, value);
        Self::caller(next)
    }

    /// `b`; `add ip, pc, #n; add ip, ip, #n; ldr pc, [ip, #n]!`, perhaps behind Thumb's
    /// `bx pc`; and what a linker puts between distant code.
    fn is_jump(code: &[u8]) -> bool {
        let word = |at: usize| {
            let bytes = code.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let Some(first) = word(0) else {
            return false;
        };
        // bx pc; nop or b.
        let from = if first & 0xffff == 0x4778 { 4 } else { 0 };
        let jumps = word(from).is_some_and(|word| {
            // b; ldr pc, [pc, #n]; add ip, pc, #n; ldr ip, [pc, #n]
            matches!(word >> 24, 0xea)
                || matches!(word >> 12, 0xe51ff | 0xe59ff | 0xe28fc | 0xe59fc)
        });
        // b.w; movw ip, #n
        let wide = first & 0xd000_f800 == 0x9000_f000 || first & 0x8f00_fbf0 == 0x0c00_f240;
        jumps || wide || from != 0
    }

    fn sets_frame_pointer(_: &[u8]) -> bool {
        false
    }

    fn rule_behind(state: &State, code: &[u8]) -> Option<(Rule, bool)> {
        let Shown { rule, sure } = arm_code::behind(set(state), code)?;
        Some((rule, sure))
    }

    fn rule_ahead(state: &State, code: &[u8]) -> Option<(Rule, bool)> {
        let Shown { rule, sure } = arm_code::ahead(set(state), code)?;
        Some((rule, sure))
    }

    /// `blx` of a register
    fn called(space: &dyn AddressSpace, returns: ProcessAddress, state: &State) -> Option<u64> {
        let mut code = [0; 4];
        let start = ProcessAddress(returns.0.wrapping_sub(4));
        if space.read_code(start, &mut code) < code.len() {
            return None;
        }
        let word = u32::from_le_bytes(code);
        let number = match word {
            _ if word & 0x0fff_fff0 == 0x012f_ff30 => word & 0xf,
            _ if word & 0xff87_0000 == 0x4780_0000 => word >> 19 & 0xf,
            _ => return None,
        };
        // The register of a caller is the one that the pc came from.
        let target = state.get(u16::try_from(number).ok()?)?;
        Some(target & !1)
    }

    /// `b` of either instruction set
    fn jumps_into(code: &[u8], distance: RangeInclusive<i64>) -> bool {
        let jumps = |set: Set, size: usize| {
            (0..code.len()).step_by(size).any(|at| {
                let step = step(set, &code[at..]);
                match step.map(|step| step.effect) {
                    Some(Effect::Jump(to) | Effect::Branch(to)) => {
                        distance.contains(&(at as i64 + to))
                    }
                    _ => false,
                }
            })
        };
        jumps(Set::Arm, 4) || jumps(Set::Thumb, 2)
    }
}

/// The instruction set of a frame. If it is not known, that of its caller: few programs mix
/// them.
fn set(state: &State) -> Set {
    let pc = state.get(PC).unwrap_or(0);
    let thumb = match state.get(THUMB) {
        Some(thumb) => thumb == 1,
        None => pc & 2 != 0 || state.get(LR).is_some_and(|link| link & 1 == 1),
    };
    match thumb {
        true => Set::Thumb,
        false => Set::Arm,
    }
}

/// The call before an address. Its instruction set is not known: where bytes are a call in
/// both, one that leads to code is better.
fn before(space: &dyn AddressSpace, address: ProcessAddress) -> Before {
    let mut code = [0; BEFORE];
    let mut len = BEFORE;
    let start = |len: usize| ProcessAddress(address.0.wrapping_sub(len as u64));
    while space.read_code(start(len), &mut code[BEFORE - len..]) < len {
        len /= 2;
        if len < 2 {
            return Before::Unreadable;
        }
    }
    if len < BEFORE {
        code[..BEFORE - len].fill(0);
    }
    let known = |before: Before| match before.target(address) {
        Some(target) => space.is_executable(ProcessAddress(target.0 & Arm::LAST)),
        None => before.is_call(),
    };
    let thumb = Some(thumb_call(address, &code)).filter(|it| known(*it));
    let arm = || {
        let call = Some(arm_call(&code)).filter(|_| address.0.is_multiple_of(4));
        call.filter(|it| known(*it))
    };
    match thumb {
        Some(Before::Direct(distance)) => Before::Direct(distance),
        other => arm().or(other).unwrap_or(Before::Other),
    }
}

fn words(code: &[u8; BEFORE]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = *code;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// Distances count from behind the call, so that it itself is at -4.
fn arm_call(code: &[u8; BEFORE]) -> Before {
    let [first, call] = words(code);
    let distance = i64::from((call << 8) as i32 >> 6) + 4;
    match call >> 24 & 0xf {
        0xb if call >> 28 != 0xf => return Before::Direct(distance as u64),
        // blx to Thumb code, which has a bit more of distance.
        low @ (0xa | 0xb) if call >> 28 == 0xf => {
            let half = i64::from(low & 1) * 2;
            return Before::Direct((distance + half) as u64);
        }
        _ => {}
    }
    let indirect = call & 0x0fff_fff0 == 0x012f_ff30 || first == MOV_LR_PC;
    if indirect {
        Before::Indirect
    } else {
        Before::Other
    }
}

fn thumb_call(address: ProcessAddress, code: &[u8; BEFORE]) -> Before {
    let [_, word] = words(code);
    let (first, second) = (word & 0xffff, word >> 16);
    if first >> 11 == 0b11110 && second & 0xc000 == 0xc000 {
        let sign = first >> 10 & 1;
        let (i1, i2) = (1 ^ (second >> 13 & 1) ^ sign, 1 ^ (second >> 11 & 1) ^ sign);
        let high = sign << 24 | i1 << 23 | i2 << 22 | (first & 0x3ff) << 12;
        let distance = i64::from(((high | (second & 0x7ff) << 1) << 7) as i32 >> 7);
        let arm = second >> 12 & 1 == 0;
        // blx counts from a whole word.
        let odd = if arm { address.0 as i64 & 2 } else { 0 };
        return Before::Direct((distance - odd) as u64);
    }
    match second & 0xff87 {
        0x4780 => Before::Indirect,
        _ => Before::Other,
    }
}

/// Whether code makes the system call of that number: `mov r7, #n; svc`.
fn makes_call(code: &[u8], number: u8) -> bool {
    call_bytes(code, number).is_some()
}

/// The same; bytes of the first instruction.
fn call_bytes(code: &[u8], number: u8) -> Option<u64> {
    match *code {
        [n, 0x70, 0xa0, 0xe3, _, _, _, 0xef, ..] if n == number => Some(4),
        [0x4f, 0xf0, n, 0x07, _, 0xdf, ..] if n == number => Some(4),
        [n, 0x27, _, 0xdf, ..] if n == number => Some(2),
        _ => None,
    }
}

/// Where the saved registers are if the pc is in a restorer: at its start, before its system
/// call, or behind it.
fn inside(space: &dyn AddressSpace, pc: ProcessAddress) -> Option<u64> {
    [0_u64, 2, 4, 6, 8].into_iter().find_map(|back| {
        let mut code = [0; AFTER];
        let start = ProcessAddress(pc.0.wrapping_sub(back));
        let len = space.read_code(start, &mut code).min(code.len());
        [(SIGRETURN, SIGCONTEXT), (RT_SIGRETURN, RT_SIGCONTEXT)]
            .into_iter()
            .find_map(|(number, at)| {
                let first = call_bytes(&code[..len], number)?;
                let size = if code[3] == 0xe3 { 4 } else { 2 };
                (back == 0 || back == first || back == first + size).then_some(at)
            })
    })
}

/// The same by what the kernel has written.
fn by_mark(space: &dyn AddressSpace, state: &State) -> Option<u64> {
    let sp = Arm::stack_pointer(state)?;
    let read = |at: u64| word::<Arm>(space, offset(sp, at)).ok();
    let user = |at: u64| {
        let mode = read(at + SAVED_CPSR * Arm::WORD).is_some_and(|cpsr| cpsr & MODE == USER);
        let pc = read(at + SAVED_PC * Arm::WORD);
        mode && pc.is_some()
    };
    if read(0) == Some(MARK) && user(SIGCONTEXT) {
        return Some(SIGCONTEXT);
    }
    // uc_flags and uc_link.
    let linked = [128, 132].into_iter().any(|at| read(at) != Some(0));
    (!linked && user(RT_SIGCONTEXT)).then_some(RT_SIGCONTEXT)
}
