//! How far x86 code has moved the stack pointer, read from the code itself.
//!
//! For functions without call-frame information. If a function's start is known, its
//! code is read in a straight line from there to the pc: pushes, pops and constants added
//! to the stack pointer count; other instructions are skipped by their length. After a
//! `ret` or `jmp` the depth is the one with which a jump leads there, or else that of the
//! function's body. If the stack pointer is set from elsewhere (`alloca`, alignment,
//! `leave`), the depth is unknown until such a point.
//!
//! Where it is not known the code is read from the pc on, up to the `ret`, along
//! its jumps: what is given back on the way was taken before. An opcode that is
//! not known ends either reading without a result. [`crate::decode`] has the lengths and
//! effects of instructions.

use crate::crash::registers::Arch;
use crate::decode::{step, Effect, Reg};

/// Instructions up to a `ret`.
const MAX_AHEAD: usize = 256;

/// How much a function has pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// Bytes between the stack pointer and the return address.
    pub(super) bytes: u64,
    /// By DWARF number: how far below the return address a register's old value lies.
    pub(super) saved: [Option<u64>; 16],
    /// Read from all of the code that has been run, and nothing assumed.
    pub(super) sure: bool,
}

/// The processor's mode, by the bytes of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Bits32 = 4,
    Bits64 = 8,
}

/// How much the code from a function's start to the pc has pushed.
pub(super) fn of(mode: Mode, code: &[u8]) -> Option<Depth> {
    let word = mode as u64;
    let mut saved = [None; 16];
    let (mut depth, mut body) = (Some(0_u64), 0);
    let mut jumps: Vec<(usize, Option<u64>)> = Vec::new();
    let mut reached = true;
    let mut at = 0;
    loop {
        if !reached {
            let led = jumps.iter().find(|(to, _)| *to == at);
            reached = led.is_some();
            depth = led.map_or(depth, |(_, led)| *led);
        }
        if at >= code.len() {
            break;
        }
        let (len, effect) = instruction(mode, &code[at..])?;
        at += len;
        match effect {
            Effect::None | Effect::Call => {}
            Effect::Push(register) => {
                depth = depth.and_then(|depth| depth.checked_add(word));
                if let (Some(depth), Some(number)) = (depth, kept(mode, register)) {
                    saved[number].get_or_insert(depth);
                }
            }
            Effect::Take(bytes) => {
                depth = depth.and_then(|depth| depth.checked_add_signed(bytes));
            }
            Effect::Pop(_) => depth = depth.and_then(|depth| depth.checked_sub(word)),
            Effect::Set | Effect::Frame => depth = None,
            Effect::Branch(_) | Effect::Stop | Effect::Leave | Effect::Return | Effect::Jump(_) => {
            }
        }
        body = body.max(depth.unwrap_or(0));
        if let Effect::Branch(distance) | Effect::Jump(distance) = effect {
            let distance = isize::try_from(distance).ok()?;
            jumps.extend(at.checked_add_signed(distance).map(|to| (to, depth)));
        }
        if matches!(
            effect,
            Effect::Stop | Effect::Leave | Effect::Return | Effect::Jump(_)
        ) {
            reached = false;
            // If there are few registers, arguments are pushed, too.
            depth = (mode == Mode::Bits64).then_some(body);
        }
    }
    let bytes = depth.filter(|_| at == code.len())?;
    Some(Depth {
        bytes,
        saved,
        sure: reached,
    })
}

/// How much the code from the pc frees until it returns.
pub(super) fn ahead(mode: Mode, code: &[u8]) -> Option<Depth> {
    let word = mode as i64;
    let mut popped = [None; 16];
    let (mut at, mut up) = (0_usize, 0_i64);
    let mut sure = true;
    for _ in 0..MAX_AHEAD {
        let (len, effect) = instruction(mode, code.get(at..)?)?;
        at += len;
        match effect {
            Effect::None | Effect::Branch(_) => {}
            // It may not return: then the code after it belongs to another function.
            Effect::Call => sure = false,
            Effect::Push(_) => up -= word,
            Effect::Pop(register) => {
                if let Some(number) = kept(mode, register) {
                    popped[number] = Some(up);
                }
                up += word;
            }
            Effect::Take(bytes) => up = up.checked_sub(bytes)?,
            Effect::Set | Effect::Frame | Effect::Stop | Effect::Leave => return None,
            // Forward only: so it ends.
            Effect::Jump(distance) => at = at.checked_add(usize::try_from(distance).ok()?)?,
            Effect::Return => {
                let bytes = u64::try_from(up).ok()?;
                let below = |slot: i64| u64::try_from(up - slot).ok();
                let saved = popped.map(|slot| slot.and_then(below));
                return Some(Depth { bytes, saved, sure });
            }
        }
    }
    None
}

/// Whether a function jumps to another one with the stack as it was, without a branch.
pub(super) fn jumps_on(mode: Mode, code: &[u8]) -> bool {
    let (mut at, mut bytes) = (0, 0_i64);
    loop {
        let rest = code.get(at..).unwrap_or_default();
        let Some((len, effect)) = instruction(mode, rest) else {
            return false;
        };
        at += len;
        match effect {
            Effect::None => {}
            Effect::Push(_) => bytes += mode as i64,
            Effect::Pop(_) => bytes -= mode as i64,
            Effect::Take(taken) => bytes = bytes.saturating_add(taken),
            Effect::Leave => return bytes == 0,
            _ => return false,
        }
    }
}

/// Whether the code from the pc on gives the stack back through the frame pointer: a
/// function that has pushed one, and pushes none until then.
pub(super) fn leaves_by_frame(mode: Mode, code: &[u8]) -> bool {
    let mut at = 0_usize;
    for _ in 0..MAX_AHEAD {
        let rest = code.get(at..).unwrap_or_default();
        let Some((len, effect)) = instruction(mode, rest) else {
            return false;
        };
        at += len;
        match effect {
            Effect::Frame => return true,
            Effect::Push(register) if register == Some(frame_pointer(mode)) => return false,
            Effect::Set | Effect::Stop | Effect::Leave | Effect::Return => return false,
            // Forward only: so it ends.
            Effect::Jump(distance) => {
                let ahead = usize::try_from(distance).ok();
                let Some(to) = ahead.and_then(|ahead| at.checked_add(ahead)) else {
                    return false;
                };
                at = to;
            }
            _ => {}
        }
    }
    false
}

/// The registers that functions keep.
fn kept(mode: Mode, register: Option<Reg>) -> Option<usize> {
    let Reg(number) = register?;
    let is_kept = match mode {
        Mode::Bits64 => matches!(number, 3 | 6 | 12..=15),
        Mode::Bits32 => matches!(number, 3 | 5..=7),
    };
    is_kept.then_some(number.into())
}

fn frame_pointer(mode: Mode) -> Reg {
    Reg(match mode {
        Mode::Bits32 => 5,
        Mode::Bits64 => 6,
    })
}

/// An instruction's length and effect.
fn instruction(mode: Mode, code: &[u8]) -> Option<(usize, Effect)> {
    let arch = match mode {
        Mode::Bits32 => Arch::I386,
        Mode::Bits64 => Arch::X86_64,
    };
    let step = step(arch, code)?;
    Some((step.length.into(), step.effect))
}

#[cfg(test)]
#[path = "depth_tests.rs"]
mod tests;
