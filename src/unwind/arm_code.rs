//! What 32-bit ARM code itself says about its frame, as a [`Rule`] like one of call-frame
//! information.
//!
//! C code of ARM mostly has no tables. If a function's start is known, its code is read from
//! there to the pc: pushes, stores with write-back and constants added to the stack pointer
//! count. Branches take what is known along; after a jump or return the code goes on with
//! what a branch brought there, or else with the function's body as it was deepest. If the
//! stack pointer is lost (`alloca`), the frame is found by a register that was set from it.
//! If the start is not known, the code is read from the pc on to where it returns, and what it
//! loads on the way tells where the caller's values are.
//!
//! In: bytes. Out: a rule, and whether it is certain. An instruction that is cut off
//! ends a reading without a result.

use super::arm_step::{step, Effect, Set};
use super::rule::{Cfa, Column, Rule};
use crate::base::address::FileAddress;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;

/// Instructions up to a return.
const MAX_AHEAD: usize = 256;
/// How far behind a constant in a register the instruction may stand that uses it.
const CONSTANT_LIVES: usize = 4;

/// A rule that code has shown.
pub(super) struct Shown {
    pub(super) rule: Rule,
    /// Read from all of the code that has run, and nothing assumed.
    pub(super) sure: bool,
}

/// What is known at an instruction; places are bytes below the caller's stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// The stack pointer.
    depth: Option<i64>,
    /// Where the old values of r4 to r11 and lr are.
    saved: [Option<i64>; 16],
    /// Registers that were set from the stack pointer.
    copies: [Option<i64>; 16],
    /// The return address is in lr.
    linked: bool,
}

impl Frame {
    const ENTERED: Frame = Frame {
        depth: Some(0),
        saved: [None; 16],
        copies: [None; 16],
        linked: true,
    };

    fn place(&self, register: u8) -> Option<i64> {
        match usize::from(register) {
            SP => self.depth,
            other => *self.copies.get(other)?,
        }
    }

    fn put(&mut self, register: u8, place: Option<i64>) {
        match usize::from(register) {
            SP => self.depth = place,
            other => self.copies[other & 15] = place,
        }
    }

    fn apply(&mut self, effect: Effect, constant: &Constant) {
        match effect {
            Effect::Push { mask, bytes } => {
                self.depth = self.depth.and_then(|depth| depth.checked_add(bytes));
                let Some(depth) = self.depth else {
                    return;
                };
                for (index, number) in (0..).zip(numbers(mask)) {
                    if is_kept(number) {
                        self.saved[number].get_or_insert(depth - 4 * index);
                    }
                }
            }
            Effect::Pop { mask, bytes } => {
                self.depth = self.depth.and_then(|depth| depth.checked_sub(bytes));
                for number in numbers(mask) {
                    self.saved[number] = None;
                    self.copies[number] = None;
                }
                self.linked |= mask >> LR & 1 == 1;
            }
            Effect::Add { to, from, bytes } => {
                let place = self.place(from).and_then(|place| place.checked_sub(bytes));
                self.put(to, place);
            }
            Effect::AddRegister { to, from, by, down } => {
                let bytes = constant.of(by).map(|value| match down {
                    true => -i64::from(value),
                    false => i64::from(value),
                });
                let place = self.place(from).zip(bytes);
                self.put(
                    to,
                    place.and_then(|(place, bytes)| place.checked_sub(bytes)),
                );
            }
            Effect::Lose => self.depth = None,
            Effect::Constant { to, .. } | Effect::Upper { to, .. } => self.put(to, None),
            // Its callee has used the register.
            Effect::Call => self.linked = false,
            _ => {}
        }
    }

    fn rule(&self, set: Set) -> Option<Rule> {
        let cfa = match self.depth {
            Some(depth) => Cfa::Register(SP as u16, depth),
            None => {
                // Of these compilers make frame pointers.
                let [usual, other] = match set {
                    Set::Arm => [11, 7],
                    Set::Thumb => [7, 11],
                };
                let copy = |number: usize| Some((number, self.copies[number]?));
                let (number, place) = copy(usual).or_else(|| copy(other))?;
                Cfa::Register(number as u16, place)
            }
        };
        if self.saved[LR].is_none() && !self.linked {
            return None;
        }
        let saved = (0_u16..).zip(self.saved);
        let columns = saved.filter_map(|(number, place)| Some((number, Column::At(-place?))));
        Some(rule(cfa, columns.collect(), LR))
    }
}

/// A constant that was put into a register a few instructions ago.
#[derive(Clone, Copy, Debug, Default)]
struct Constant {
    register: u8,
    value: u32,
    age: usize,
}

impl Constant {
    fn of(&self, register: u8) -> Option<u32> {
        (self.age > 0 && self.register == register).then_some(self.value)
    }

    fn see(&mut self, effect: Effect) {
        self.age = self.age.saturating_sub(1);
        match effect {
            Effect::Constant { to, value } => {
                *self = Constant {
                    register: to,
                    value,
                    age: CONSTANT_LIVES,
                };
            }
            Effect::Upper { to, value } if self.of(to).is_some() => {
                self.value = self.value & 0xffff | value << 16;
                self.age = CONSTANT_LIVES;
            }
            _ => {}
        }
    }
}

fn numbers(mask: u16) -> impl Iterator<Item = usize> {
    (0..16).filter(move |number| mask >> number & 1 == 1)
}

/// The registers whose old values a function saves.
fn is_kept(number: usize) -> bool {
    matches!(number, 4..=11 | LR)
}

fn rule(cfa: Cfa, columns: Vec<(u16, Column)>, returns: usize) -> Rule {
    Rule {
        cfa,
        columns: columns.into(),
        return_column: returns as u16,
        expressions: Box::default(),
        signal: false,
        debug: false,
        at_calls: false,
        start: FileAddress(0),
    }
}

/// What runs behind an instruction.
enum Goes {
    On,
    Branches(i64),
    Away,
    To(i64),
}

fn goes(effect: Effect, conditional: bool) -> Goes {
    let away = match effect {
        Effect::Jump(distance) if conditional => return Goes::Branches(distance),
        Effect::Jump(distance) => return Goes::To(distance),
        Effect::Branch(distance) => return Goes::Branches(distance),
        Effect::Pop { mask, .. } => mask >> PC & 1 == 1,
        Effect::Load { .. } | Effect::Leave | Effect::Return | Effect::Stop => true,
        _ => false,
    };
    match away && !conditional {
        true => Goes::Away,
        false => Goes::On,
    }
}

/// By the code from a function's start up to the pc.
pub(super) fn behind(set: Set, code: &[u8]) -> Option<Shown> {
    let mut frame = Frame::ENTERED;
    let mut body = frame;
    let mut brought: Vec<(usize, Frame)> = Vec::new();
    let mut constant = Constant::default();
    let (mut reached, mut conditions, mut at) = (true, 0, 0);
    loop {
        if let Some((_, led)) = brought.iter().find(|(to, _)| *to == at) {
            if !reached {
                frame = *led;
                reached = true;
            }
        }
        if at >= code.len() {
            break;
        }
        // Between a jump and where another one leads there may be data.
        if !reached {
            at += if set == Set::Thumb { 2 } else { 4 };
            continue;
        }
        let next = step(set, &code[at..])?;
        let conditional = next.conditional || conditions > 0;
        conditions = match next.effect {
            Effect::Conditions(count) => count,
            _ => conditions.saturating_sub(1),
        };
        match goes(next.effect, conditional) {
            Goes::On if !conditional => frame.apply(next.effect, &constant),
            Goes::On => match next.effect {
                Effect::Push { .. } | Effect::Lose => frame.depth = None,
                Effect::Pop { mask, .. } if mask >> PC & 1 == 0 => frame.depth = None,
                Effect::Add { to, .. } | Effect::AddRegister { to, .. } => frame.put(to, None),
                Effect::Call => frame.linked = false,
                _ => {}
            },
            Goes::Branches(distance) => bring(&mut brought, at, distance, frame),
            Goes::To(distance) => bring(&mut brought, at, distance, frame),
            Goes::Away => {}
        }
        constant.see(next.effect);
        if frame.depth.is_none() || frame.depth >= body.depth {
            body = frame;
        }
        at += next.length;
        if matches!(goes(next.effect, conditional), Goes::Away | Goes::To(_)) {
            reached = false;
            frame = body;
        }
    }
    let rule = (at == code.len()).then(|| frame.rule(set))??;
    Some(Shown {
        rule,
        sure: reached,
    })
}

/// Notes what a branch takes to where it leads. The first of several is as good as others.
fn bring(brought: &mut Vec<(usize, Frame)>, at: usize, distance: i64, frame: Frame) {
    let to = isize::try_from(distance)
        .ok()
        .and_then(|distance| at.checked_add_signed(distance));
    brought.extend(to.filter(|to| *to > at).map(|to| (to, frame)));
}

/// By the code from the pc on.
pub(super) fn ahead(set: Set, code: &[u8]) -> Option<Shown> {
    // Bytes above `base`, which at first is the stack pointer.
    let mut base = SP;
    let mut up = 0_i64;
    let mut copies = [None; 16];
    let mut loaded = [None; 16];
    let (mut called, mut conditions, mut at) = (false, 0_u8, 0_usize);
    for _ in 0..MAX_AHEAD {
        let next = step(set, code.get(at..)?)?;
        let conditional = next.conditional || conditions > 0;
        conditions = match next.effect {
            Effect::Conditions(count) => count,
            _ => conditions.saturating_sub(1),
        };
        if conditional {
            // It may or may not run: only what does not matter may be so.
            match next.effect {
                Effect::Push { .. } | Effect::Lose => return None,
                Effect::Pop { mask, .. } if mask >> PC & 1 == 0 => return None,
                Effect::Add { to: 13, .. } | Effect::AddRegister { to: 13, .. } => return None,
                Effect::Call => called = true,
                _ => {}
            }
            at += next.length;
            continue;
        }
        match next.effect {
            Effect::Push { bytes, .. } => up -= bytes,
            Effect::Pop { mask, bytes } => {
                for (index, number) in (0..).zip(numbers(mask)) {
                    loaded[number] = Some(up + 4 * index);
                    copies[number] = None;
                }
                up = up.checked_add(bytes)?;
                if mask >> PC & 1 == 1 {
                    return shown(base, up, &loaded, PC, !called);
                }
            }
            Effect::Add {
                to: 13,
                from: 13,
                bytes,
            } => up = up.checked_add(bytes)?,
            // From here on everything is above another register.
            Effect::Add {
                to: 13,
                from,
                bytes,
            } => {
                let (register, place) = copies[usize::from(from)].unwrap_or((from, 0));
                if loaded.iter().any(Option::is_some) {
                    return None;
                }
                base = register.into();
                up = bytes.checked_add(place)?;
            }
            Effect::Add { to, from, bytes } => {
                let copy: Option<(u8, i64)> = match usize::from(from) {
                    // The pc, and what was set from the stack pointer here.
                    PC | SP => None,
                    from_ => Some(copies[from_].unwrap_or((from, 0))),
                };
                let copy =
                    copy.and_then(|(register, place)| Some((register, place.checked_add(bytes)?)));
                copies[usize::from(to & 15)] = copy;
            }
            Effect::AddRegister { to: 13, .. } | Effect::Lose => return None,
            Effect::Load { mask, from, bytes } => {
                return leave_by_load(mask, from, bytes, base, up, !called);
            }
            // It may not return: then the code after it belongs to another function.
            Effect::Call => called = true,
            // Forward only: so it ends.
            Effect::Jump(distance) => {
                let distance = usize::try_from(distance).ok().filter(|it| *it > 0)?;
                at = at.checked_add(distance)?;
                continue;
            }
            Effect::Return if called && loaded[LR].is_none() => return None,
            Effect::Return => return shown(base, up, &loaded, LR, !called),
            Effect::Leave | Effect::Stop => return None,
            Effect::None
            | Effect::Branch(_)
            | Effect::Conditions(_)
            | Effect::Constant { .. }
            | Effect::Upper { .. }
            | Effect::AddRegister { .. } => {}
        }
        at += next.length;
    }
    None
}

/// `ldm` of the pc: from the stack pointer, or from beside the frame pointer.
fn leave_by_load(
    mask: u16,
    from: u8,
    bytes: i64,
    base: usize,
    up: i64,
    sure: bool,
) -> Option<Shown> {
    let (base, start) = match usize::from(from) {
        SP => (base, up.checked_add(bytes)?),
        other => (other, bytes),
    };
    let mut loaded = [None; 16];
    for (index, number) in (0..).zip(numbers(mask)) {
        loaded[number] = Some(start + 4 * index);
    }
    let end = start + 4 * i64::from(mask.count_ones());
    shown(base, end, &loaded, PC, sure)
}

/// The rule where the code returns, through lr or the pc.
fn shown(
    base: usize,
    up: i64,
    loaded: &[Option<i64>; 16],
    returns: usize,
    sure: bool,
) -> Option<Shown> {
    let slot = loaded[returns];
    let mut columns = Vec::new();
    for (number, place) in (0_usize..).zip(loaded) {
        let kept = is_kept(number) || number == SP;
        if let Some(place) = place.filter(|_| kept && number != LR) {
            columns.push((number as u16, Column::At(place - up)));
        }
    }
    if let Some(slot) = slot {
        columns.push((LR as u16, Column::At(slot - up)));
    }
    // What is still below was not taken by this function.
    if up < 0 {
        return None;
    }
    Some(Shown {
        rule: rule(Cfa::Register(base as u16, up), columns, LR),
        sure,
    })
}

#[cfg(test)]
#[path = "arm_code_tests.rs"]
mod tests;
