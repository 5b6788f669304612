//! The verifiers of Linux 4.15 to 5.2, as far as the programs for old kernels go. They
//! differ from later ones in what they cannot follow:
//!
//! - A number that was put on the stack is unknown when it is read back (until 5.3): it is
//!   no size and no distance any more, however constant it was.
//! - A branch on a constant is left out only where the constant is the number that it is
//!   compared with, by `==` or `!=` (until 4.20).
//! - 32-bit comparisons, loops, calls between functions: none; see tests/chain_object.rs.
//! - Of two numbers, at most the second one unknown, only sums, differences and masks are
//!   followed: a shift by an unknown number is unknown.
//! - A pointer to a map's value has a distance of at least zero and less than 2^29, at all
//!   times, and is never put into a map.
//! - They look at 131,072 instructions (98,304 up to 4.14, which is what is held to here),
//!   counted once for each state in which one is met, and keep 1,024 branches for later.
//!
//! What one path has shown to be right is not looked at again in a state that says no
//! less, at the places that `check_cfg()` marks: see `is_state_visited()`.

mod flow;
mod scalar;
mod state;

use flow::{arguments, live, marks, target, Argument};
use scalar::{Comparison, Operation, Scalar};
use segfault_analyzer::loader::insn::Instruction;
use state::{Register, State};

/// `BPF_COMPLEXITY_LIMIT_INSNS` and `BPF_COMPLEXITY_LIMIT_STACK` in their smallest forms.
pub const MOST_LOOKED_AT: usize = 98_304;
const MOST_BRANCHES: usize = 1024;
/// `BPF_MAX_VAR_OFF`, `BPF_MAX_VAR_SIZ`
const MOST_DISTANCE: i64 = 1 << 29;
/// Of a tracepoint's record that may be read, and of a raw one's arguments.
const CONTEXT_BYTES: i64 = 96;

const LDIMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JA: u8 = 0x05;
const XADD: u8 = 0xc0;

/// What a map looks like to a program.
#[derive(Clone, Copy, Debug)]
pub struct MapShape {
    pub key_bytes: u32,
    pub value_bytes: u32,
}

/// What the verifier is given.
pub struct Input<'a> {
    pub program: &'a [Instruction],
    /// For each instruction that loads a map, its index.
    pub maps: &'a dyn Fn(usize) -> Option<usize>,
    pub shapes: &'a [MapShape],
}

/// How many instructions were looked at, or where it ended and why.
pub type Verdict = Result<usize, (usize, String)>;

/// Looks at a program as such a verifier does.
pub fn verify(input: &Input<'_>) -> Verdict {
    let mut walk = Walk {
        input,
        live: live(input.program),
        explored: vec![Vec::new(); input.program.len()],
        is_marked: marks(input.program),
        later: Vec::new(),
        found: 0,
    };
    walk.later.push((0, State::new()));
    let mut looked_at = 0;
    while let Some((mut at, mut state)) = walk.later.pop() {
        loop {
            looked_at += 1;
            if looked_at > MOST_LOOKED_AT {
                return Err((at, "too complex".into()));
            }
            if at >= input.program.len() {
                return Err((at, "leads out of the program".into()));
            }
            if walk.is_marked[at] {
                let live = walk.live[at];
                if walk.explored[at]
                    .iter()
                    .rev()
                    .any(|old| old.covers(&state, live))
                {
                    break;
                }
                walk.explored[at].push(state.clone());
            }
            match walk.step(at, &mut state).map_err(|why| (at, why))? {
                Some(next) => at = next,
                None => break,
            }
            if walk.later.len() > MOST_BRANCHES {
                return Err((at, "too many branches at a time".into()));
            }
        }
    }
    Ok(looked_at)
}

struct Walk<'a> {
    input: &'a Input<'a>,
    live: Vec<u16>,
    explored: Vec<Vec<State>>,
    is_marked: Vec<bool>,
    later: Vec<(usize, State)>,
    /// Look-ups so far.
    found: u32,
}

type Checked<T> = Result<T, String>;

impl Walk<'_> {
    /// What comes after an instruction; nothing after the last.
    fn step(&mut self, at: usize, state: &mut State) -> Checked<Option<usize>> {
        let one = self.input.program[at];
        match (one.code & 7, one.code) {
            (0, LDIMM64) => {
                let low = u64::from(one.immediate.cast_unsigned());
                let high = self
                    .input
                    .program
                    .get(at + 1)
                    .map_or(0, |next| next.immediate);
                let number = u64::from(high.cast_unsigned()) << 32 | low;
                let value = match (self.input.maps)(at) {
                    Some(map) => Register::Map(map),
                    None => Register::Number(Scalar::exactly(number)),
                };
                state.registers[usize::from(one.destination)] = value;
                return Ok(Some(at + 2));
            }
            (1, _) => self.load(state, &one)?,
            (2 | 3, _) => self.store(state, &one)?,
            (4 | 7, _) => alu(state, &one)?,
            (5, CALL) => self.call(state, one.immediate)?,
            (5, EXIT) => {
                read(state, 0)?;
                return Ok(None);
            }
            (5, JA) => return Ok(Some(target(at, &one))),
            (5, _) => return self.branch(at, state, &one).map(Some),
            _ => return Err(format!("unknown instruction {:#x}", one.code)),
        }
        Ok(Some(at + 1))
    }

    fn load(&self, state: &mut State, one: &Instruction) -> Checked<()> {
        let bytes = access_bytes(one.code);
        let pointer = read(state, one.source)?;
        let offset = i64::from(one.offset);
        let value = match pointer {
            Register::Stack(base) => state.read_stack(base + offset, bytes)?,
            Register::Context => {
                if offset < 0 || offset + bytes > CONTEXT_BYTES || offset % bytes != 0 {
                    return Err(format!("{bytes} bytes of the context at {offset}"));
                }
                Register::Number(Scalar::UNKNOWN.narrowed(bytes as u32))
            }
            _ => {
                self.check_value(&pointer, offset, bytes)?;
                Register::Number(Scalar::UNKNOWN.narrowed(bytes as u32))
            }
        };
        state.registers[usize::from(one.destination)] = value;
        Ok(())
    }

    fn store(&self, state: &mut State, one: &Instruction) -> Checked<()> {
        let bytes = access_bytes(one.code);
        let is_atomic = one.code & 0xe0 == XADD;
        let value = match one.code & 7 {
            3 => read(state, one.source)?,
            _ => Register::UNKNOWN,
        };
        let offset = i64::from(one.offset);
        match read(state, one.destination)? {
            Register::Stack(_) if is_atomic => Err("an atomic addition on the stack".into()),
            Register::Stack(base) => state.write_stack(base + offset, bytes, value),
            // Privileged programs may; 4.15 and 4.19 do not keep what it was.
            pointer => self.check_value(&pointer, offset, bytes),
        }
    }

    /// Memory in a map's value.
    fn check_value(&self, pointer: &Register, offset: i64, bytes: i64) -> Checked<()> {
        let Register::Value { map, at, and } = pointer else {
            return Err(format!("{pointer:?} is no memory"));
        };
        let size = i64::from(self.input.shapes[*map].value_bytes);
        let least = at + offset;
        if and.signed_least < 0 || and.most >= MOST_DISTANCE as u64 {
            return Err(format!("an unbounded place in a map: {and:?}"));
        }
        let (first, last) = (least + and.signed_least, least + and.most as i64);
        if first < 0 || bytes <= 0 || last + bytes > size {
            return Err(format!(
                "{bytes} bytes at {first} to {last} of a map of {size}"
            ));
        }
        Ok(())
    }

    fn call(&mut self, state: &mut State, helper: i32) -> Checked<()> {
        let kinds = arguments(helper).ok_or_else(|| format!("helper {helper}"))?;
        let mut map = None;
        for (number, kind) in (1u8..).zip(kinds) {
            let value = read(state, number)?;
            match (kind, value) {
                (Argument::Any, _) | (Argument::Context, Register::Context) => {}
                (Argument::Map, Register::Map(known)) => map = Some(known),
                (Argument::Key, Register::Stack(at)) => {
                    let shape = self.shape(map)?;
                    state.check_written(at, i64::from(shape.key_bytes))?;
                }
                (Argument::MapValue, Register::Stack(at)) => {
                    let shape = self.shape(map)?;
                    state.check_written(at, i64::from(shape.value_bytes))?;
                }
                (
                    Argument::Read | Argument::Written,
                    Register::Stack(_) | Register::Value { .. },
                ) => {}
                (Argument::Bytes, Register::Number(bytes)) => {
                    let memory = read(state, number - 1)?;
                    let is_written = kinds[usize::from(number) - 2] == Argument::Written;
                    self.check_memory(state, &memory, &bytes, is_written)?;
                }
                (kind, value) => return Err(format!("helper {helper}: {value:?} as {kind:?}")),
            }
        }
        state.registers[..6].fill(Register::Nothing);
        state.registers[0] = Register::UNKNOWN;
        if helper == 1 {
            self.found += 1;
            let map = map.ok_or("a look-up without a map")?;
            let id = self.found;
            state.registers[0] = Register::Found { map, id };
        }
        Ok(())
    }

    fn shape(&self, map: Option<usize>) -> Checked<MapShape> {
        map.and_then(|map| self.input.shapes.get(map).copied())
            .ok_or_else(|| "a key without a map".into())
    }

    /// Memory for a helper, of a size that has to be known, and at least one byte.
    fn check_memory(
        &self,
        state: &mut State,
        memory: &Register,
        bytes: &Scalar,
        is_written: bool,
    ) -> Checked<()> {
        if bytes.signed_least < 0 || bytes.most >= MOST_DISTANCE as u64 || bytes.least == 0 {
            return Err(format!("a size that may be anything: {bytes:?}"));
        }
        let most = bytes.most as i64;
        match memory {
            // What may be written in part has to be there before.
            Register::Stack(at) if is_written && bytes.constant().is_some() => {
                state.fill_stack(*at, most)
            }
            Register::Stack(at) => state.check_written(*at, most),
            _ => self.check_value(memory, 0, most),
        }
    }

    fn branch(&mut self, at: usize, state: &mut State, one: &Instruction) -> Checked<usize> {
        let left = read(state, one.destination)?;
        let right = match one.code & 8 {
            0 => Register::Number(Scalar::exactly(i64::from(one.immediate).cast_unsigned())),
            _ => read(state, one.source)?,
        };
        let (comparison, is_negated) = comparison(one.code)?;
        let jumped = target(at, one);
        if let (Register::Number(left), Comparison::Equal, 0) = (left, comparison, one.code & 8) {
            let wanted = i64::from(one.immediate).cast_unsigned();
            if left.constant() == Some(wanted) {
                return Ok(if is_negated { at + 1 } else { jumped });
            }
        }
        let mut other = state.clone();
        let (holds, fails) = match is_negated {
            false => (&mut other, &mut *state),
            true => (&mut *state, &mut other),
        };
        let number = usize::from(one.destination);
        match (left, right) {
            (Register::Number(left), Register::Number(right)) => {
                if let Some(right) = right.constant() {
                    let (if_so, if_not) = left.compared(comparison, right);
                    holds.registers[number] = Register::Number(if_so);
                    fails.registers[number] = Register::Number(if_not);
                } else if let (Some(left), Some(mirrored)) = (left.constant(), mirrored(comparison))
                {
                    let (if_so, if_not) = right.compared(mirrored, left);
                    holds.registers[usize::from(one.source)] = Register::Number(if_so);
                    fails.registers[usize::from(one.source)] = Register::Number(if_not);
                }
            }
            (Register::Found { id, .. }, Register::Number(zero))
                if comparison == Comparison::Equal
                    && zero.constant() == Some(0)
                    && one.code & 8 == 0 =>
            {
                holds.decide(id, false);
                fails.decide(id, true);
            }
            // Anything else teaches nothing, and is allowed to who may do this at all.
            _ => {}
        }
        self.later.push((jumped, other));
        Ok(at + 1)
    }
}

fn access_bytes(code: u8) -> i64 {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn read(state: &State, number: u8) -> Checked<Register> {
    match state.registers.get(usize::from(number)) {
        Some(Register::Nothing) | None => Err(format!("R{number} was not written")),
        Some(register) => Ok(*register),
    }
}

/// What a condition compares, and whether it jumps where that does not hold.
fn comparison(code: u8) -> Checked<(Comparison, bool)> {
    Ok(match code & 0xf0 {
        0x10 => (Comparison::Equal, false),
        0x20 => (Comparison::Above, false),
        0x30 => (Comparison::AtLeast, false),
        0x40 => (Comparison::Set, false),
        0x50 => (Comparison::Equal, true),
        0x60 => (Comparison::SignedAbove, false),
        0x70 => (Comparison::SignedAtLeast, false),
        0xa0 => (Comparison::Below, false),
        0xb0 => (Comparison::AtMost, false),
        0xc0 => (Comparison::SignedBelow, false),
        0xd0 => (Comparison::SignedAtMost, false),
        _ => return Err(format!("unknown condition {code:#x}")),
    })
}

/// The same comparison with its sides exchanged.
fn mirrored(comparison: Comparison) -> Option<Comparison> {
    Some(match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Above => Comparison::Below,
        Comparison::AtLeast => Comparison::AtMost,
        Comparison::Below => Comparison::Above,
        Comparison::AtMost => Comparison::AtLeast,
        Comparison::SignedAbove => Comparison::SignedBelow,
        Comparison::SignedAtLeast => Comparison::SignedAtMost,
        Comparison::SignedBelow => Comparison::SignedAbove,
        Comparison::SignedAtMost => Comparison::SignedAtLeast,
        Comparison::Set => return None,
    })
}

fn alu(state: &mut State, one: &Instruction) -> Checked<()> {
    let is_wide = one.code & 7 == 7;
    let operation = one.code & 0xf0;
    let number = usize::from(one.destination);
    let right = match (operation, one.code & 8) {
        // The order of bytes, and the sign.
        (0xd0 | 0x80, _) => Register::UNKNOWN,
        (_, 0) => Register::Number(Scalar::exactly(i64::from(one.immediate).cast_unsigned())),
        _ => read(state, one.source)?,
    };
    if operation == 0xb0 {
        state.registers[number] = match (right, is_wide) {
            (value, true) => value,
            (Register::Number(value), false) if one.code & 8 == 0 => {
                let low = value.constant().unwrap_or(0) & u64::from(u32::MAX);
                Register::Number(Scalar::exactly(low))
            }
            // 4.15 and 4.19 know no more of half a register.
            (Register::Number(_), false) => Register::Number(Scalar::UNKNOWN.narrowed(4)),
            (pointer, false) => return Err(format!("half of {pointer:?}")),
        };
        return Ok(());
    }
    let left = read(state, one.destination)?;
    let kind = match operation {
        0x00 => Operation::Add,
        0x10 => Operation::Subtract,
        0x20 => Operation::Multiply,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0x60 => Operation::Left,
        0x70 => Operation::Right,
        _ => Operation::Other,
    };
    if operation == 0xc0 && !is_wide {
        return Err("an arithmetic shift of 32 bits".into());
    }
    state.registers[number] = match (left, right) {
        (Register::Number(left), Register::Number(right)) => {
            Register::Number(left.combined(kind, &right, is_wide))
        }
        (pointer, Register::Number(by)) if is_wide && pointer.is_pointer() => {
            moved(pointer, kind, &by)?
        }
        (Register::Number(by), pointer) if is_wide && kind == Operation::Add => {
            moved(pointer, kind, &by)?
        }
        (left, right) if kind == Operation::Subtract && left.is_pointer() && right.is_pointer() => {
            Register::UNKNOWN
        }
        (left, right) => return Err(format!("{left:?} {kind:?} {right:?}")),
    };
    Ok(())
}

/// `adjust_ptr_min_max_vals()`
fn moved(pointer: Register, operation: Operation, by: &Scalar) -> Checked<Register> {
    if !matches!(operation, Operation::Add | Operation::Subtract) {
        return Err(format!("{operation:?} of a pointer"));
    }
    if by.signed_least <= -MOST_DISTANCE || by.signed_least >= MOST_DISTANCE {
        return Err(format!(
            "a pointer and a number that may be anything: {by:?}"
        ));
    }
    let certain = by.constant().map(|by| match operation {
        Operation::Add => by.cast_signed(),
        _ => -by.cast_signed(),
    });
    Ok(match (pointer, certain) {
        (Register::Stack(at), Some(by)) if operation == Operation::Add => Register::Stack(at + by),
        (Register::Value { map, at, and }, Some(by)) => {
            let at = at + by;
            Register::Value { map, at, and }
        }
        (Register::Value { map, at, and }, None) => {
            let and = and.combined(operation, by, true);
            if and.signed_least <= -MOST_DISTANCE || and.signed_least >= MOST_DISTANCE {
                return Err(format!("a pointer to anywhere in a map: {and:?}"));
            }
            Register::Value { map, at, and }
        }
        (pointer, _) => return Err(format!("{pointer:?} {operation:?} {by:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction {
            code,
            destination,
            source,
            offset,
            immediate,
        }
    }

    /// A size that lay on the stack, for `bpf_probe_read()` into 64 bytes of the stack.
    fn verdict(between: &[Instruction]) -> Verdict {
        let mut program = vec![
            insn(0xb7, 2, 0, 0, 32),
            insn(0x7b, 10, 2, -72, 0),
            insn(0x79, 2, 10, -72, 0),
        ];
        program.extend_from_slice(between);
        program.extend_from_slice(&[
            insn(0xbf, 1, 10, 0, 0),
            insn(0x07, 1, 0, 0, -64),
            insn(0xb7, 3, 0, 0, 0),
            insn(CALL, 0, 0, 0, 4),
            insn(EXIT, 0, 0, 0, 0),
        ]);
        // All of it is there before.
        let clear = (1..=8).map(|slot| insn(0x7a, 10, 0, -8 * slot, 0));
        let program: Vec<_> = clear.chain(program).collect();
        verify(&Input {
            program: &program,
            maps: &|_| None,
            shapes: &[],
        })
    }

    #[test]
    fn a_number_from_the_stack_is_no_size() {
        let (at, why) = verdict(&[]).unwrap_err();
        assert!(at == 14 && why.contains("size"), "{at}: {why}");
        let bounded = [insn(0x57, 2, 0, 0, 31), insn(0x07, 2, 0, 0, 1)];
        assert!(verdict(&bounded).is_ok());
        let too_far = [insn(0x57, 2, 0, 0, 127), insn(0x07, 2, 0, 0, 1)];
        assert!(verdict(&too_far).is_err());
    }

    #[test]
    fn a_pointer_that_is_not_tested_is_no_memory() {
        let shapes = [MapShape {
            key_bytes: 4,
            value_bytes: 16,
        }];
        let look_up = |rest: &[Instruction]| {
            let mut program = vec![
                insn(0x62, 10, 0, -4, 0),
                insn(0xbf, 2, 10, 0, 0),
                insn(0x07, 2, 0, 0, -4),
                insn(LDIMM64, 1, 1, 0, 0),
                insn(0, 0, 0, 0, 0),
                insn(CALL, 0, 0, 0, 1),
            ];
            program.extend_from_slice(rest);
            program.extend_from_slice(&[insn(0xb7, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
            verify(&Input {
                program: &program,
                maps: &|at| (at == 3).then_some(0),
                shapes: &shapes,
            })
        };
        let read = |at| insn(0x79, 1, 0, at, 0);
        let test = insn(0x15, 0, 0, 1, 0);
        assert!(look_up(&[read(0)]).is_err());
        assert!(look_up(&[test, read(8)]).is_ok());
        assert!(look_up(&[test, read(16)]).is_err());
    }
}
