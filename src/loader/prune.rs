//! Leaves out instructions that no run of a program can reach.
//!
//! What the user did not ask for is switched off by constants: settings in the object's
//! read-only data, and what CO-RE relocations put into the code. The verifier sees that
//! too, and removes what it never visited. But for each stretch that it removes it moves
//! all that follows and goes through every jump of the program, which took a seventh of
//! the time of a load, and it changes what is left one instruction at a time.
//!
//! So constants are followed here first, through registers and over every way that a
//! program can go (conditional constant propagation: Wegman and Zadeck, "Constant
//! Propagation with Conditional Branches", 1991). What is not known is assumed to be
//! anything. Functions that are called no more go as a whole.
//!
//! The instruction set is `Documentation/bpf/standardization/instruction-set.rst`.

use crate::loader::insn::{Instruction, PSEUDO_CALL, PSEUDO_FUNC};

const CLASS: u8 = 0x07;
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;

const JA: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Operand is a register.
const X: u8 = 0x08;
const MODE: u8 = 0xe0;
const MEM: u8 = 0x60;
const ATOMIC: u8 = 0xc0;

/// r0 to r9: r10 is the frame pointer, which nothing changes.
const REGISTERS: usize = 10;
/// r0 and the arguments, r1 to r5, do not survive a call.
const CLOBBERED: usize = 6;

/// A load of the address of a map, or of a place in one.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    pub instruction: usize,
    /// What is there, from the address on, if it never changes.
    pub constants: &'a [u8],
}

const JUMP_TO_NEXT: Instruction = Instruction {
    code: JA,
    destination: 0,
    source: 0,
    offset: 0,
    immediate: 0,
};

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Nothing.
    Any,
    /// Its upper half is zero.
    Number(u32),
    /// So many bytes behind the address with this number in the list.
    Address { number: u16, byte: u16 },
}

type Registers = [Value; REGISTERS];

/// Where a run can go after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    None,
    Next,
    Jump(u32),
    Both(u32),
}

/// The instructions that can be reached, and for each the index that it came from. All
/// addresses that it loads are given, in the order of their instructions. The program stays
/// as it is if it has an instruction that is not known here.
#[must_use]
pub fn prune(program: &[Instruction], addresses: &[Address<'_>]) -> (Vec<Instruction>, Vec<usize>) {
    let walk = Walk::of(program, addresses);
    match walk.and_then(|walk| walk.kept()) {
        Some(kept) => kept,
        None => (program.to_vec(), (0..program.len()).collect()),
    }
}

struct Walk<'a> {
    program: &'a [Instruction],
    addresses: &'a [Address<'a>],
    /// For each instruction, the place of what is known there, if a jump or a call leads
    /// to it: it is an entry.
    entries: Vec<Option<u16>>,
    known: Vec<Registers>,
    /// Entries to go on from.
    open: Vec<usize>,
    /// Where the run goes on, once it was there.
    ways: Vec<Option<Ways>>,
    functions: Vec<usize>,
}

impl<'a> Walk<'a> {
    /// Goes every way that is possible; `None` if an instruction is not known.
    fn of(program: &'a [Instruction], addresses: &'a [Address<'a>]) -> Option<Self> {
        let mut walk = Walk {
            program,
            addresses,
            entries: vec![None; program.len()],
            known: Vec::new(),
            open: Vec::new(),
            ways: vec![None; program.len()],
            functions: Vec::new(),
        };
        for (at, instruction) in program.iter().enumerate() {
            if is_jump(instruction) {
                let target = (at + 1).checked_add_signed(isize::from(instruction.offset))?;
                walk.entry(target)?;
            }
        }
        walk.call(0)?;
        while let Some(at) = walk.open.pop() {
            walk.run(at)?;
        }
        Some(walk)
    }

    fn call(&mut self, function: usize) -> Option<()> {
        if !self.functions.contains(&function) {
            self.functions.push(function);
            self.enter(function, &[Value::Any; REGISTERS])?;
        }
        Some(())
    }

    /// What is known at an entry, which it may become with this.
    fn entry(&mut self, at: usize) -> Option<&mut Registers> {
        let entry = self.entries.get_mut(at)?;
        if entry.is_none() {
            *entry = Some(u16::try_from(self.known.len()).ok()?);
            self.known.push([Value::Any; REGISTERS]);
        }
        self.known.get_mut(usize::from((*entry)?))
    }

    /// A run comes to the entry `at`, with this in its registers.
    fn enter(&mut self, at: usize, registers: &Registers) -> Option<()> {
        let is_new = self.ways.get(at)?.is_none();
        let known = self.entry(at)?;
        let mut has_changed = is_new;
        for (known, value) in known.iter_mut().zip(registers) {
            if is_new {
                *known = *value;
            } else if *known != *value && *known != Value::Any {
                *known = Value::Any;
                has_changed = true;
            }
        }
        if is_new {
            // It was reached; where it leads is seen when the run goes on.
            self.ways[at] = Some(Ways::None);
        }
        if has_changed && !self.open.contains(&at) {
            self.open.push(at);
        }
        Some(())
    }

    /// Goes on from an entry, up to the next one.
    fn run(&mut self, mut at: usize) -> Option<()> {
        let mut registers = *self.entry(at)?;
        loop {
            let instruction = self.program.get(at)?;
            let mut next = at + 1;
            let ways = match instruction.code & CLASS {
                LD => {
                    next += 1;
                    self.load_wide(at, instruction, &mut registers)?;
                    Ways::Next
                }
                JMP | JMP32 => self.jump(at, instruction, &mut registers)?,
                _ => {
                    self.compute(instruction, &mut registers)?;
                    Ways::Next
                }
            };
            *self.ways.get_mut(at)? = Some(ways);
            if let Ways::Jump(to) | Ways::Both(to) = ways {
                self.enter(to as usize, &registers)?;
            }
            if matches!(ways, Ways::None | Ways::Jump(_)) {
                return Some(());
            }
            if self.entries.get(next)?.is_some() {
                return self.enter(next, &registers);
            }
            at = next;
        }
    }

    fn load_wide(
        &mut self,
        at: usize,
        instruction: &Instruction,
        registers: &mut Registers,
    ) -> Option<()> {
        if !instruction.is_wide_load() {
            return None;
        }
        let high = self.program.get(at + 1)?;
        let found = self
            .addresses
            .binary_search_by_key(&at, |address| address.instruction);
        let value = match (found, instruction.source) {
            (Ok(number), _) => match u16::try_from(number) {
                Ok(number) => Value::Address { number, byte: 0 },
                Err(_) => Value::Any,
            },
            (_, 0) if high.immediate == 0 => Value::Number(instruction.immediate.cast_unsigned()),
            (_, PSEUDO_FUNC) => {
                self.call(called(at, instruction)?)?;
                Value::Any
            }
            _ => Value::Any,
        };
        set(registers, instruction.destination, value);
        Some(())
    }

    /// All but jumps and loads of 64 bits.
    fn compute(&self, instruction: &Instruction, registers: &mut Registers) -> Option<()> {
        let Instruction {
            code,
            destination,
            source,
            offset,
            ..
        } = *instruction;
        let value = match code & CLASS {
            ST => return Some(()),
            STX if code & MODE == ATOMIC => {
                // Some return the old value, in the source or in r0.
                set(registers, source, Value::Any);
                set(registers, 0, Value::Any);
                return Some(());
            }
            STX => return Some(()),
            LDX if code & MODE == MEM => self.loaded(get(registers, source), code, offset),
            LDX => Value::Any,
            ALU | ALU64 => {
                let operand = match code & X {
                    0 => Operand::Immediate(instruction.immediate),
                    _ => Operand::Value(get(registers, source)),
                };
                let before = get(registers, destination);
                // A move with an offset extends the sign; so does a division with one.
                match offset {
                    0 => calculated(code, before, operand),
                    _ => Value::Any,
                }
            }
            _ => return None,
        };
        set(registers, destination, value);
        Some(())
    }

    /// What a load from an address yields.
    fn loaded(&self, address: Value, code: u8, offset: i16) -> Value {
        let Value::Address { number, byte } = address else {
            return Value::Any;
        };
        let bytes = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        };
        let start = usize::from(byte).checked_add_signed(isize::from(offset));
        let data = self.addresses[usize::from(number)].constants;
        let found = start.and_then(|start| data.get(start..start + bytes));
        let mut value = [0; 8];
        match found {
            Some(found) => value[..bytes].copy_from_slice(found),
            None => return Value::Any,
        }
        // As the program stores it: BPF has the byte order of the host.
        let value = match cfg!(target_endian = "little") {
            true => u64::from_le_bytes(value),
            false => return Value::Any,
        };
        u32::try_from(value).map_or(Value::Any, Value::Number)
    }

    fn jump(
        &mut self,
        at: usize,
        instruction: &Instruction,
        registers: &mut Registers,
    ) -> Option<Ways> {
        let Instruction {
            code,
            destination,
            source,
            ..
        } = *instruction;
        match code {
            EXIT => return Some(Ways::None),
            CALL => {
                if source == PSEUDO_CALL {
                    self.call(called(at, instruction)?)?;
                }
                registers[..CLOBBERED].fill(Value::Any);
                return Some(Ways::Next);
            }
            _ if !is_jump(instruction) => return None,
            _ => {}
        }
        let target = (at + 1).checked_add_signed(isize::from(instruction.offset))?;
        let target = u32::try_from(target).ok()?;
        if code == JA {
            return Some(Ways::Jump(target));
        }
        let left = match get(registers, destination) {
            Value::Number(number) => number,
            _ => return Some(Ways::Both(target)),
        };
        let right = match (code & X, get(registers, source)) {
            (0, _) => i64::from(instruction.immediate).cast_unsigned(),
            (_, Value::Number(number)) => u64::from(number),
            _ => return Some(Ways::Both(target)),
        };
        Some(match is_taken(code, left, right) {
            Some(true) => Ways::Jump(target),
            Some(false) => Ways::Next,
            None => Ways::Both(target),
        })
    }

    /// The instructions that were reached, put together again.
    fn kept(&self) -> Option<(Vec<Instruction>, Vec<usize>)> {
        let mut places: Vec<u32> = Vec::with_capacity(self.program.len());
        let mut origins: Vec<usize> = Vec::with_capacity(self.program.len());
        let mut is_second_slot = false;
        for (at, instruction) in self.program.iter().enumerate() {
            places.push(u32::try_from(origins.len()).ok()?);
            let ways = self.ways[at];
            if ways.is_some() && !self.is_passed(at) || is_second_slot {
                origins.push(at);
            }
            is_second_slot = ways.is_some() && instruction.is_wide_load();
        }
        let place = |at: usize| places.get(at).map(|place| i64::from(*place));
        let mut kept = Vec::with_capacity(origins.len());
        for (number, at) in origins.iter().enumerate() {
            let mut instruction = self.program[*at];
            let after = number as i64 + 1;
            match self.ways[*at] {
                Some(Ways::Jump(to)) => {
                    instruction = JUMP_TO_NEXT;
                    instruction.offset = i16::try_from(place(to as usize)? - after).ok()?;
                }
                Some(Ways::Both(to)) => {
                    instruction.offset = i16::try_from(place(to as usize)? - after).ok()?;
                }
                Some(Ways::Next) if is_jump(&instruction) => instruction = JUMP_TO_NEXT,
                Some(_) if refers_to_function(&instruction) => {
                    let to = called(*at, &instruction)?;
                    instruction.immediate = i32::try_from(place(to)? - after).ok()?;
                }
                _ => {}
            }
            kept.push(instruction);
        }
        Some((kept, origins))
    }

    /// Whether a jump does nothing: it is never taken, or leads to what comes next anyway.
    fn is_passed(&self, at: usize) -> bool {
        // The kernel wants a record of each function's first instruction.
        if !is_jump(&self.program[at]) || self.functions.contains(&at) {
            return false;
        }
        match self.ways[at] {
            Some(Ways::Next) => true,
            Some(Ways::Jump(to)) => {
                let between = self.ways.get(at + 1..to as usize);
                between.is_some_and(|between| between.iter().all(Option::is_none))
            }
            _ => false,
        }
    }
}

enum Operand {
    Immediate(i32),
    Value(Value),
}

fn get(registers: &Registers, number: u8) -> Value {
    let value = registers.get(usize::from(number));
    value.copied().unwrap_or(Value::Any)
}

fn set(registers: &mut Registers, number: u8, value: Value) {
    if let Some(place) = registers.get_mut(usize::from(number)) {
        *place = value;
    }
}

/// A jump with a target in its offset.
fn is_jump(instruction: &Instruction) -> bool {
    let operation = instruction.code & 0xf0;
    match instruction.code & CLASS {
        JMP => !matches!(operation, 0x80 | 0x90 | 0xe0 | 0xf0),
        JMP32 => !matches!(operation, 0x00 | 0x80 | 0x90 | 0xe0 | 0xf0),
        _ => false,
    }
}

fn refers_to_function(instruction: &Instruction) -> bool {
    instruction.is_local_call() || instruction.is_wide_load() && instruction.source == PSEUDO_FUNC
}

/// The function that a call, or a load of its address, refers to.
fn called(at: usize, instruction: &Instruction) -> Option<usize> {
    (at + 1).checked_add_signed(isize::try_from(instruction.immediate).ok()?)
}

/// The result of an operation, as far as programs need it.
fn calculated(code: u8, before: Value, operand: Operand) -> Value {
    let is_64 = code & CLASS == ALU64;
    let operation = code & 0xf0;
    let operand = match (operation, operand) {
        (0xb0, Operand::Value(value)) if is_64 => return value,
        (_, Operand::Value(Value::Number(number))) => u64::from(number),
        (_, Operand::Value(_)) => return Value::Any,
        (_, Operand::Immediate(immediate)) => i64::from(immediate).cast_unsigned(),
    };
    if let (0x00, true, Value::Address { number, byte }) = (operation, is_64, before) {
        let byte = u64::from(byte).wrapping_add(operand);
        let address = |byte| Value::Address { number, byte };
        return u16::try_from(byte).map_or(Value::Any, address);
    }
    let before = match before {
        Value::Number(number) => Some(u64::from(number)),
        _ => None,
    };
    let bits = if is_64 { 64 } else { 32 };
    let result = match (operation, before) {
        (0xb0, _) => operand,
        (0x00, Some(before)) => before.wrapping_add(operand),
        (0x10, Some(before)) => before.wrapping_sub(operand),
        (0x40, Some(before)) => before | operand,
        (0x50, Some(before)) => before & operand,
        (0x60, Some(before)) if operand < bits => before << operand,
        (0x70, Some(before)) if operand < bits => before >> operand,
        (0xa0, Some(before)) => before ^ operand,
        _ => return Value::Any,
    };
    if !is_64 {
        return Value::Number(result as u32);
    }
    u32::try_from(result).map_or(Value::Any, Value::Number)
}

/// Whether a jump is taken; `None` if its condition is not known.
fn is_taken(code: u8, left: u32, right: u64) -> Option<bool> {
    let is_64 = code & CLASS == JMP;
    let left = u64::from(left);
    let right = if is_64 {
        right
    } else {
        right & u64::from(u32::MAX)
    };
    let signed = |value: u64| match is_64 {
        true => value.cast_signed(),
        false => i64::from((value as u32).cast_signed()),
    };
    Some(match code & 0xf0 {
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        0x40 => left & right != 0,
        0x50 => left != right,
        0x60 => signed(left) > signed(right),
        0x70 => signed(left) >= signed(right),
        0xa0 => left < right,
        0xb0 => left <= right,
        0xc0 => signed(left) < signed(right),
        0xd0 => signed(left) <= signed(right),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "prune_tests.rs"]
mod tests;
