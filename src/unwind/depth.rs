//! How far x86 code has moved the stack pointer, read from the code itself.
//!
//! For functions without call-frame information. Where a function's start is
//! known its code is read in a straight line from there to the pc: pushes, pops
//! and constants added to the stack pointer count, other instructions are
//! stepped over by their length. Behind a `ret` or `jmp` the depth counts with
//! which a jump led there, else that of the function's body. Where the stack
//! pointer comes from elsewhere (`alloca`, alignment, `leave`) the depth is unknown
//! until then.
//!
//! Where it is not known the code is read from the pc on, up to the `ret`, along
//! its jumps: what is given back on the way was taken before. An opcode that is
//! not known here ends either reading without a result.
//!
//! Lengths: Intel SDM volume 2, chapter 2 and the opcode maps of appendix A.

/// Instructions up to a `ret`.
const MAX_AHEAD: usize = 256;
/// The number of rsp in an instruction.
const RSP: u8 = 4;
/// And of rbp.
const RBP: u8 = 5;

/// What a function has pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// Bytes between the stack pointer and the return address.
    pub(super) bytes: u64,
    /// By DWARF number: how far below the return address a register's old value lies.
    pub(super) saved: [Option<u64>; 16],
    /// Read from all of the code that has been run, and nothing assumed.
    pub(super) sure: bool,
}

/// What an instruction does to the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    Call,
    Push(Option<u8>),
    /// Bytes taken; negative ones are given back.
    Take(i64),
    /// The stack pointer is set to what is not known here.
    Set,
    /// The same, from the frame pointer.
    Frame,
    Pop(u8),
    /// Nothing behind it follows from what is before it.
    Leaves,
    /// The same, for another function.
    JumpsTo,
    Return,
    /// So many bytes from the next instruction on.
    Jump(i64),
    /// The same, or not.
    Branch(i64),
}

/// The processor's mode, by the bytes of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Bits32 = 4,
    Bits64 = 8,
}

/// What the code from a function's start up to the pc has pushed.
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
                let number = register.and_then(|register| dwarf(mode, register));
                if let (Some(depth), Some(number)) = (depth, number) {
                    saved[number].get_or_insert(depth);
                }
            }
            Effect::Take(bytes) => {
                depth = depth.and_then(|depth| depth.checked_add_signed(bytes));
            }
            Effect::Pop(_) => depth = depth.and_then(|depth| depth.checked_sub(word)),
            Effect::Set | Effect::Frame => depth = None,
            Effect::Branch(_)
            | Effect::Leaves
            | Effect::JumpsTo
            | Effect::Return
            | Effect::Jump(_) => {}
        }
        body = body.max(depth.unwrap_or(0));
        if let Effect::Branch(distance) | Effect::Jump(distance) = effect {
            let distance = isize::try_from(distance).ok()?;
            jumps.extend(at.checked_add_signed(distance).map(|to| (to, depth)));
        }
        if matches!(
            effect,
            Effect::Leaves | Effect::JumpsTo | Effect::Return | Effect::Jump(_)
        ) {
            reached = false;
            // Where there are few registers arguments are pushed, too.
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

/// What the code from the pc on gives back until it returns.
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
            // Perhaps one that does not return: what follows it may be another function.
            Effect::Call => sure = false,
            Effect::Push(_) => up -= word,
            Effect::Pop(register) => {
                if let Some(number) = dwarf(mode, register) {
                    popped[number] = Some(up);
                }
                up += word;
            }
            Effect::Take(bytes) => up = up.checked_sub(bytes)?,
            Effect::Set | Effect::Frame | Effect::Leaves | Effect::JumpsTo => return None,
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
            Effect::JumpsTo => return bytes == 0,
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
            Effect::Push(Some(RBP))
            | Effect::Set
            | Effect::Leaves
            | Effect::JumpsTo
            | Effect::Return => return false,
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

/// The registers that functions keep; all but rbp have one number in both.
fn dwarf(mode: Mode, register: u8) -> Option<usize> {
    match (mode, register) {
        (Mode::Bits64, 3 | 12..=15) | (Mode::Bits32, 3 | 5..=7) => Some(usize::from(register)),
        (Mode::Bits64, 5) => Some(6),
        _ => None,
    }
}

/// The operands behind an opcode.
#[derive(Clone, Copy, Debug, Default)]
struct Operands {
    mode: u8,
    reg: u8,
    rm: u8,
    /// An offset from rsp alone.
    from_rsp: Option<i64>,
    /// One from rbp alone.
    from_rbp: bool,
    len: usize,
}

/// An instruction's length and effect.
fn instruction(mode: Mode, code: &[u8]) -> Option<(usize, Effect)> {
    let is_prefix = |byte: &u8| {
        matches!(
            byte,
            0x66 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65
        )
    };
    let mut at = code.iter().take_while(|byte| is_prefix(byte)).count();
    let word = if code[..at].contains(&0x66) { 2 } else { 4 };
    let rex = *code.get(at)?;
    let wide = mode == Mode::Bits64;
    let rex = if wide && rex & 0xf0 == 0x40 { rex } else { 0 };
    at += usize::from(rex != 0);
    let opcode = *code.get(at)?;
    at += 1;
    let rest = code.get(at..)?;
    let with = |immediate: usize| -> Option<(usize, Operands)> {
        let operands = operands(rest, rex)?;
        Some((at + operands.len + immediate, operands))
    };
    let plain = |immediate: usize, effect: Effect| Some((at + immediate, effect));
    // Before 64 bits these had other meanings, in memory only.
    let is_vector = wide || rest.first().is_some_and(|modrm| *modrm >= 0xc0);
    match opcode {
        0x0f => two_bytes(rest, at, rex),
        0x62 | 0xc4 | 0xc5 if is_vector => vector(opcode, rest, at),
        // inc, dec
        0x40..=0x4f if opcode & 7 != RSP => plain(0, Effect::None),
        0xa0..=0xa3 => plain(mode as usize, Effect::None),
        0x50..=0x57 => plain(0, Effect::Push(Some(opcode & 7 | (rex & 1) << 3))),
        0x58..=0x5f if opcode & 7 | (rex & 1) << 3 == RSP => plain(0, Effect::Set),
        0x58..=0x5f => plain(0, Effect::Pop(opcode & 7 | (rex & 1) << 3)),
        0x68 => plain(4, Effect::Push(None)),
        0x6a => plain(1, Effect::Push(None)),
        0x00..=0x3f => match opcode & 7 {
            0..=3 => {
                let (len, operands) = with(0)?;
                let compares = opcode >= 0x38;
                Some((
                    len,
                    if compares {
                        Effect::None
                    } else {
                        writes(opcode, &operands)
                    },
                ))
            }
            4 => plain(1, Effect::None),
            5 => plain(word, Effect::None),
            _ => None,
        },
        0x69 => with(word).map(|(len, _)| (len, Effect::None)),
        0x6b | 0x80 | 0xc0 | 0xc1 | 0xc6 => with(1).map(|(len, _)| (len, Effect::None)),
        0x81 | 0x83 => {
            let size = if opcode == 0x83 { 1 } else { word };
            let (len, operands) = with(size)?;
            let value = signed(code.get(len - size..len)?);
            Some((len, adjusts(&operands, value)))
        }
        0xc7 => with(word).map(|(len, _)| (len, Effect::None)),
        0x89 | 0x8b => with(0).map(|(len, operands)| (len, writes(opcode, &operands))),
        0x8d => {
            let (len, operands) = with(0)?;
            let effect = match (operands.reg, operands.from_rsp) {
                (RSP, Some(offset)) => Effect::Take(-offset),
                (RSP, None) if operands.from_rbp => Effect::Frame,
                (RSP, None) => Effect::Set,
                _ => Effect::None,
            };
            Some((len, effect))
        }
        0x63 | 0x84..=0x88 | 0x8a | 0xd0..=0xd3 | 0xfe => {
            with(0).map(|(len, _)| (len, Effect::None))
        }
        0x90..=0x99 | 0xa4..=0xa7 | 0xaa..=0xaf | 0xcc => plain(0, Effect::None),
        0x70..=0x7f => plain(1, Effect::Branch(signed(rest.get(..1)?))),
        0xa8 | 0xb0..=0xb7 => plain(1, Effect::None),
        0xa9 => plain(word, Effect::None),
        0xb8..=0xbf => plain(if rex & 8 != 0 { 8 } else { word }, Effect::None),
        0xe8 => plain(4, Effect::Call),
        0xe9 => plain(4, Effect::Jump(signed(rest.get(..4)?))),
        0xeb => plain(1, Effect::Jump(signed(rest.get(..1)?))),
        0xc2 => plain(2, Effect::Return),
        0xc3 => plain(0, Effect::Return),
        0xf4 => plain(0, Effect::Leaves),
        0xc9 => plain(0, Effect::Frame),
        0xf6 | 0xf7 => {
            let operands = operands(rest, rex)?;
            let size = if opcode == 0xf6 { 1 } else { word };
            let immediate = if operands.reg & 7 < 2 { size } else { 0 };
            Some((at + operands.len + immediate, Effect::None))
        }
        0xff => with(0).map(|(len, operands)| {
            let effect = match operands.reg & 7 {
                2 => Effect::Call,
                4 => Effect::JumpsTo,
                6 => Effect::Push(None),
                _ => Effect::None,
            };
            (len, effect)
        }),
        _ => None,
    }
}

/// Instructions of the second map; those of the third and fourth have one more byte.
fn two_bytes(rest: &[u8], at: usize, rex: u8) -> Option<(usize, Effect)> {
    let opcode = *rest.first()?;
    let (skipped, immediate) = match opcode {
        0x05 | 0x31 | 0x77 | 0xa2 | 0xc8..=0xcf => return Some((at + 1, Effect::None)),
        0x0b => return Some((at + 1, Effect::Leaves)),
        0x80..=0x8f => return Some((at + 5, Effect::Branch(signed(rest.get(1..5)?)))),
        0x38 => (2, 0),
        0x3a => (2, 1),
        _ if has_immediate(opcode) => (1, 1),
        0x10..=0x1f | 0x28..=0x2f | 0x40..=0x7f | 0x90..=0x9f | 0xa3..=0xaf | 0xb0..=0xff => (1, 0),
        _ => return None,
    };
    let operands = operands(rest.get(skipped..)?, rex)?;
    Some((at + skipped + operands.len + immediate, Effect::None))
}

/// Instructions with a VEX or EVEX prefix.
fn vector(prefix: u8, rest: &[u8], at: usize) -> Option<(usize, Effect)> {
    let (payload, map) = match prefix {
        0xc5 => (1, 1),
        0xc4 => (2, *rest.first()? & 0x1f),
        _ => (3, *rest.first()? & 7),
    };
    let opcode = *rest.get(payload)?;
    let skipped = payload + 1;
    if map == 1 && opcode == 0x77 {
        return Some((at + skipped, Effect::None));
    }
    let immediate = usize::from(map == 3 || (map == 1 && has_immediate(opcode)));
    let operands = operands(rest.get(skipped..)?, 0)?;
    Some((at + skipped + operands.len + immediate, Effect::None))
}

fn has_immediate(opcode: u8) -> bool {
    matches!(opcode, 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6)
}

fn operands(rest: &[u8], rex: u8) -> Option<Operands> {
    let modrm = *rest.first()?;
    let (mode, low) = (modrm >> 6, modrm & 7);
    let mut found = Operands {
        mode,
        reg: modrm >> 3 & 7 | (rex & 4) << 1,
        rm: low | (rex & 1) << 3,
        from_rsp: None,
        from_rbp: mode != 0 && mode != 3 && low == RBP && rex & 1 == 0,
        len: 1,
    };
    if mode == 3 {
        return Some(found);
    }
    let mut base = low;
    let mut index = false;
    if low == 4 {
        let sib = *rest.get(1)?;
        base = sib & 7;
        index = sib >> 3 & 7 != 4 || rex & 2 != 0;
        found.len += 1;
    }
    let displacement = match mode {
        1 => 1,
        2 => 4,
        _ if base == 5 => 4,
        _ => 0,
    };
    let bytes = rest.get(found.len..found.len + displacement)?;
    if low == 4 && base == RSP && rex & 1 == 0 && !index {
        found.from_rsp = Some(signed(bytes));
    }
    found.len += displacement;
    Some(found)
}

fn signed(bytes: &[u8]) -> i64 {
    match bytes {
        [] => 0,
        [a] => i64::from(*a as i8),
        [a, b] => i64::from(i16::from_le_bytes([*a, *b])),
        [a, b, c, d, ..] => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => 0,
    }
}

/// An instruction of two operands that writes one: bit 1 of the opcode says which.
fn writes(opcode: u8, operands: &Operands) -> Effect {
    let target = if opcode & 2 != 0 {
        Some(operands.reg)
    } else {
        (operands.mode == 3).then_some(operands.rm)
    };
    let source = if opcode & 2 != 0 {
        operands.rm
    } else {
        operands.reg
    };
    let moves = matches!(opcode, 0x89 | 0x8b) && operands.mode == 3;
    if target == Some(RSP) && moves && source == RBP {
        Effect::Frame
    } else if target == Some(RSP) && opcode & 1 != 0 {
        Effect::Set
    } else {
        Effect::None
    }
}

/// `add`, `sub` and the like with a constant.
fn adjusts(operands: &Operands, value: i64) -> Effect {
    match (operands.mode, operands.rm, operands.reg & 7) {
        (3, RSP, 0) => Effect::Take(-value),
        (3, RSP, 5) => Effect::Take(value),
        (3, RSP, 7) => Effect::None,
        (3, RSP, _) => Effect::Set,
        _ => Effect::None,
    }
}

#[cfg(test)]
#[path = "depth_tests.rs"]
mod tests;
