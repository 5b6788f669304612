//! What follows what in a program, what its helpers are given, and which registers are
//! still to be read.

use segfault_analyzer::loader::insn::Instruction;

use super::{CALL, EXIT, JA, LDIMM64};

/// An argument of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    Context,
    Map,
    Key,
    MapValue,
    /// Memory that the helper reads or writes; how much the next argument says.
    Read,
    Written,
    Bytes,
    Any,
}

pub fn arguments(helper: i32) -> Option<&'static [Argument]> {
    use Argument::{Any, Bytes, Context, Key, Map, MapValue, Read, Written};
    Some(match helper {
        1 | 3 => &[Map, Key],
        2 => &[Map, Key, MapValue, Any],
        4 | 45 => &[Written, Bytes, Any],
        5 | 8 | 14 | 15 | 35 => &[],
        12 => &[Context, Map, Any],
        16 => &[Written, Bytes],
        25 => &[Context, Map, Any, Read, Bytes],
        _ => return None,
    })
}

pub fn is_conditional(code: u8) -> bool {
    code & 7 == 5 && !matches!(code, CALL | EXIT | JA)
}

pub fn target(at: usize, instruction: &Instruction) -> usize {
    (at + 1).saturating_add_signed(isize::from(instruction.offset))
}

/// Where `check_cfg()` has states compared: conditions, what they lead to, and what
/// follows a call or a jump.
pub fn marks(program: &[Instruction]) -> Vec<bool> {
    let mut is_marked = vec![false; program.len() + 1];
    for (at, instruction) in program.iter().enumerate() {
        if is_conditional(instruction.code) {
            is_marked[at] = true;
            is_marked[target(at, instruction).min(program.len())] = true;
        } else if matches!(instruction.code, CALL | JA) {
            is_marked[at + 1] = true;
        }
    }
    is_marked
}

/// For each instruction a bit for each register that it or a later one reads. The kernel
/// finds that as it goes, and has at most these.
pub fn live(program: &[Instruction]) -> Vec<u16> {
    let mut live = vec![0u16; program.len() + 1];
    for (at, one) in program.iter().enumerate().rev() {
        let (destination, source) = (1u16 << one.destination, 1u16 << one.source);
        let by_register = one.code & 8 != 0;
        let (written, read) = match (one.code & 7, one.code) {
            (0, LDIMM64) => (destination, 0),
            (1, _) => (destination, source),
            (2, _) => (0, destination),
            (3, _) => (0, destination | source),
            (4 | 7, code) => {
                let is_move = code & 0xf0 == 0xb0;
                let other = if by_register && code & 0xf0 != 0xd0 {
                    source
                } else {
                    0
                };
                (destination, other | if is_move { 0 } else { destination })
            }
            (5, CALL) => {
                let count = arguments(one.immediate).map_or(5, <[Argument]>::len);
                (0b11_1111, ((1u16 << count) - 1) << 1)
            }
            (5, EXIT) => (0, 1),
            (5, JA) => (0, 0),
            (5, _) => (0, destination | if by_register { source } else { 0 }),
            _ => (0, 0),
        };
        let mut after = match one.code {
            EXIT => 0,
            JA => live[target(at, one).min(program.len())],
            LDIMM64 => live.get(at + 2).copied().unwrap_or(0),
            _ => live[at + 1],
        };
        if is_conditional(one.code) {
            after |= live[target(at, one).min(program.len())];
        }
        live[at] = after & !written | read;
    }
    live
}
