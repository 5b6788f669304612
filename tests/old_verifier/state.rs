//! Registers and the stack, as far as a verifier before 5.3 follows them: a pointer
//! that is put on the stack is known when it comes back, a number is not.

use super::scalar::Scalar;

pub const STACK_BYTES: i64 = 512;
const SLOT_BYTES: i64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Nothing was written to it, or a call has spoilt it.
    Nothing,
    Number(Scalar),
    Context,
    /// Bytes from the frame pointer.
    Stack(i64),
    /// Index into the object's maps.
    Map(usize),
    /// What a look-up gave, before it is compared with zero.
    Found {
        map: usize,
        id: u32,
    },
    /// A place in a map's value, a certain distance and a variable one from its start.
    Value {
        map: usize,
        at: i64,
        and: Scalar,
    },
}

impl Register {
    pub const UNKNOWN: Register = Register::Number(Scalar::UNKNOWN);

    pub fn is_pointer(&self) -> bool {
        !matches!(self, Register::Nothing | Register::Number(_))
    }

    /// Whether what was checked with `self` need not be checked with `other`.
    fn covers(&self, other: &Register, same: &mut Vec<(u32, u32)>) -> bool {
        match (self, other) {
            (Register::Nothing, _) => true,
            (Register::Number(old), Register::Number(new)) => old.covers(new),
            (
                Register::Value { map, at, and },
                Register::Value {
                    map: new_map,
                    at: new_at,
                    and: new_and,
                },
            ) => map == new_map && at == new_at && and.covers(new_and),
            (
                Register::Found { map, id },
                Register::Found {
                    map: new_map,
                    id: new_id,
                },
            ) => {
                let known = same.iter().find(|(old, _)| old == id).copied();
                let (_, paired) = known.unwrap_or_else(|| {
                    same.push((*id, *new_id));
                    (*id, *new_id)
                });
                map == new_map && paired == *new_id
            }
            _ => self == other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// A bit for each byte that was written.
    Bytes(u8),
    Pointer(Register),
}

#[derive(Clone, Debug)]
pub struct State {
    pub registers: [Register; 11],
    /// From the frame pointer downward, as far as it was used.
    slots: Vec<Slot>,
}

impl State {
    pub fn new() -> State {
        let mut registers = [Register::Nothing; 11];
        registers[1] = Register::Context;
        registers[10] = Register::Stack(0);
        State {
            registers,
            slots: Vec::new(),
        }
    }

    /// `states_equal()`; `live` has a bit for each register that is read later.
    pub fn covers(&self, other: &State, live: u16) -> bool {
        let mut same = Vec::new();
        let mut registers = self.registers.iter().zip(&other.registers).enumerate();
        if !registers.all(|(at, (old, new))| live >> at & 1 == 0 || old.covers(new, &mut same)) {
            return false;
        }
        // A slot that the older state has not written was not read either.
        let mut slots = self.slots.iter().enumerate();
        slots.all(|(at, old)| match (old, other.slots.get(at)) {
            (Slot::Bytes(old), Some(Slot::Bytes(new))) => old & !new == 0,
            (Slot::Pointer(old), Some(Slot::Pointer(new))) => old.covers(new, &mut same),
            (Slot::Bytes(0), _) => true,
            _ => false,
        })
    }

    /// After a look-up's answer was compared with zero.
    pub fn decide(&mut self, id: u32, is_there: bool) {
        let decide = |register: &mut Register| match *register {
            Register::Found { map, id: other } if other == id => {
                *register = match is_there {
                    true => Register::Value {
                        map,
                        at: 0,
                        and: Scalar::exactly(0),
                    },
                    false => Register::Number(Scalar::exactly(0)),
                };
            }
            _ => {}
        };
        self.registers.iter_mut().for_each(decide);
        for slot in &mut self.slots {
            if let Slot::Pointer(register) = slot {
                decide(register);
            }
        }
    }

    fn slot(at: i64) -> usize {
        ((-at - 1) / SLOT_BYTES) as usize
    }

    /// The bits of the bytes at `at` in their slot.
    fn bits(at: i64, bytes: i64) -> u8 {
        let first = at.rem_euclid(SLOT_BYTES);
        (((1u16 << bytes) - 1) << first) as u8
    }

    pub fn check_stack(at: i64, bytes: i64) -> Result<(), String> {
        match at >= -STACK_BYTES && bytes > 0 && at + bytes <= 0 {
            true => Ok(()),
            false => Err(format!("{bytes} bytes of the stack at {at}")),
        }
    }

    /// At most eight bytes at a multiple of their number.
    pub fn write_stack(&mut self, at: i64, bytes: i64, value: Register) -> Result<(), String> {
        Self::check_stack(at, bytes)?;
        if at.rem_euclid(bytes) != 0 {
            return Err(format!("{bytes} bytes of the stack at {at}, not aligned"));
        }
        let slot = Self::slot(at);
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot::Bytes(0));
        }
        if value.is_pointer() {
            if bytes != SLOT_BYTES {
                return Err("part of a pointer to the stack".into());
            }
            self.slots[slot] = Slot::Pointer(value);
            return Ok(());
        }
        let before = match self.slots[slot] {
            Slot::Bytes(bits) => bits,
            // 4.15 takes what else is of the pointer for written no more than 4.19 does.
            Slot::Pointer(_) => 0,
        };
        self.slots[slot] = Slot::Bytes(before | Self::bits(at, bytes));
        Ok(())
    }

    /// A number that comes back is unknown.
    pub fn read_stack(&self, at: i64, bytes: i64) -> Result<Register, String> {
        Self::check_stack(at, bytes)?;
        match self.slots.get(Self::slot(at)) {
            Some(Slot::Pointer(register)) if bytes == SLOT_BYTES => Ok(*register),
            Some(Slot::Bytes(bits))
                if at.rem_euclid(bytes) == 0 && !bits & Self::bits(at, bytes) == 0 =>
            {
                Ok(Register::Number(Scalar::UNKNOWN.narrowed(bytes as u32)))
            }
            _ => Err(format!(
                "{bytes} bytes of the stack at {at} were not written"
            )),
        }
    }

    /// What a helper reads: numbers alone.
    pub fn check_written(&self, at: i64, bytes: i64) -> Result<(), String> {
        Self::check_stack(at, bytes)?;
        for at in at..at + bytes {
            match self.slots.get(Self::slot(at)) {
                Some(Slot::Bytes(bits)) if bits & Self::bits(at, 1) != 0 => {}
                _ => {
                    return Err(format!(
                        "a helper reads the stack at {at}, which nobody wrote"
                    ))
                }
            }
        }
        Ok(())
    }

    pub fn fill_stack(&mut self, at: i64, bytes: i64) -> Result<(), String> {
        Self::check_stack(at, bytes)?;
        for at in at..at + bytes {
            self.write_stack(at, 1, Register::UNKNOWN)?;
        }
        Ok(())
    }
}
