//! `.ARM.exidx` and `.ARM.extab`: exception tables of 32-bit ARM (Arm IHI 0038, "Exception
//! Handling ABI for the Arm Architecture", sections 6, 7 and 10).
//!
//! ```text
//! .ARM.exidx   prel31 start of the code | 1 (cannot be unwound)
//!              by address               | 0x80 and three instructions
//!                                       | prel31 place of an entry in .ARM.extab
//! .ARM.extab   0x80, three instructions                                personality 0
//!              0x81 or 0x82, more words, two instructions, the words   personalities 1 and 2
//!              prel31 personality; more words, three instructions, the words     generic
//! ```
//!
//! The instructions move a virtual stack pointer up to where the caller's was, and load
//! registers on the way. Here they are run with symbols, so that the result is a [`Rule`],
//! as from call-frame information. A register that was loaded and then becomes the stack
//! pointer makes expressions of DWARF necessary.
//!
//! An entry holds where functions are called, and not in a prologue or epilogue:
//! [`Rule::at_calls`]. Linkers merge neighbours with equal entries, so the start may be that
//! of a function before.
//!
//! In: a file and an address. It refuses instructions that are reserved, and code that
//! cannot be unwound, for linkers say so of all code without tables.

use super::rule::{Cfa, Column, Rule, Slice};
use super::{CfiSection, ModuleData};
use crate::base::address::FileAddress;

const SP: u16 = 13;
const LR: u16 = 14;
const PC: u16 = 15;

/// Bytes of an entry of the index.
const ENTRY: u64 = 8;
/// The second word of code that cannot be unwound.
const CANNOT_UNWIND: u32 = 1;
/// Words of instructions behind the first: the count has 8 bits.
const MAX_WORDS: usize = 255;
/// A place that needs more bytes of an expression than this is given up.
const MAX_BASE: usize = 64;

/// The rule for the code at an address.
pub(super) fn rule(data: &dyn ModuleData, address: FileAddress) -> Option<Rule> {
    let found = find(data, address)?;
    let mut rule = run(&instructions(data, found.place, found.content)?)?;
    rule.start = found.start;
    Some(rule)
}

/// An entry of the index.
#[derive(Clone, Copy, Debug)]
struct Found {
    start: FileAddress,
    /// Of its second word.
    place: u64,
    content: u32,
}

/// The last entry whose code begins at or below the address.
fn find(data: &dyn ModuleData, address: FileAddress) -> Option<Found> {
    let section = data.section(CfiSection::ArmIndex)?;
    let entry = |index: u64| {
        let mut bytes = [0; ENTRY as usize];
        data.read_section(CfiSection::ArmIndex, index * ENTRY, &mut bytes)?;
        let [first, content] = [&bytes[..4], &bytes[4..]].map(number);
        let place = section.address.0.wrapping_add(index * ENTRY);
        Some(Found {
            start: FileAddress(prel31(place, first)),
            place: place.wrapping_add(4),
            content,
        })
    };
    let (mut low, mut high) = (0, section.size / ENTRY);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle)?.start <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    entry(low.checked_sub(1)?)
}

/// The instructions of an entry whose second word is at `place`.
fn instructions(data: &dyn ModuleData, place: u64, content: u32) -> Option<Vec<u8>> {
    if content == CANNOT_UNWIND {
        return None;
    }
    if content >> 31 == 1 {
        // Only the first personality has room for its instructions there.
        return (content >> 24 == 0x80).then(|| content.to_be_bytes()[1..].to_vec());
    }
    let mut table = prel31(place, content);
    let mut first = word(data, table)?;
    let (from, words) = match first >> 24 {
        0x80 => (1, 0),
        0x81 | 0x82 => (2, first >> 16 & 0xff),
        0x83.. => return None,
        // The instructions behind the address of a personality are arranged as GCC's do.
        _ => {
            table = table.wrapping_add(4);
            first = word(data, table)?;
            (1, first >> 24)
        }
    };
    let mut code = first.to_be_bytes()[from..].to_vec();
    let mut more = [0; 4 * MAX_WORDS];
    let more = more.get_mut(..4 * words as usize)?;
    if data.read(FileAddress(table.wrapping_add(4)), more) < more.len() {
        return None;
    }
    let words = more.chunks_exact(4).map(number);
    code.extend(words.flat_map(u32::to_be_bytes));
    Some(code)
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word))
}

fn word(data: &dyn ModuleData, address: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    (data.read(FileAddress(address), &mut bytes) == bytes.len()).then(|| number(&bytes))
}

/// What a distance of 31 bits leads to from its own place.
fn prel31(place: u64, value: u32) -> u64 {
    let distance = i64::from((value << 1) as i32 >> 1);
    place.wrapping_add_signed(distance) & 0xffff_ffff
}

/// What the virtual stack pointer is counted from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    Register(u16),
    /// The expression that computes it.
    Loaded(Vec<u8>),
}

impl Base {
    /// The expression of a place so many bytes further on.
    fn expression(&self, offset: i64) -> Vec<u8> {
        const BREG0: u8 = 0x70;
        const PLUS: u8 = 0x22;
        const CONSTS: u8 = 0x11;
        let mut code = Vec::new();
        match self {
            Base::Register(number) => {
                code.push(BREG0 + *number as u8);
                sleb128(&mut code, offset);
            }
            Base::Loaded(base) => {
                code.extend_from_slice(base);
                code.push(CONSTS);
                sleb128(&mut code, offset);
                code.push(PLUS);
            }
        }
        code
    }
}

fn sleb128(code: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        let sign = if byte & 0x40 == 0 { 0 } else { -1 };
        if value == sign {
            code.push(byte);
            return;
        }
        code.push(byte | 0x80);
    }
}

/// The virtual machine: where the stack pointer is, and where registers were loaded from.
struct Machine {
    base: Base,
    offset: i64,
    loaded: [Option<(Base, i64)>; 16],
}

impl Machine {
    /// Loads registers, the lowest number from the lowest address.
    fn pop(&mut self, mask: u16) {
        let mut place = self.offset;
        for number in (0..16).filter(|number| mask >> number & 1 == 1) {
            self.loaded[number] = Some((self.base.clone(), place));
            place += 4;
        }
        self.offset = place;
        if mask >> SP & 1 == 1 {
            self.set(SP);
        }
    }

    /// The stack pointer becomes what a register holds.
    fn set(&mut self, number: u16) {
        const DEREF: u8 = 0x06;
        self.base = match &self.loaded[usize::from(number)] {
            Some((base, place)) => {
                let mut code = base.expression(*place);
                code.push(DEREF);
                Base::Loaded(code)
            }
            None => Base::Register(number),
        };
        self.offset = 0;
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.offset = self.offset.checked_add_unsigned(bytes)?;
        Some(())
    }

    fn rule(self) -> Option<Rule> {
        let mut expressions = Vec::new();
        let mut keep = |code: Vec<u8>| -> Option<Slice> {
            let start = u32::try_from(expressions.len()).ok()?;
            expressions.extend(code);
            Some(start..u32::try_from(expressions.len()).ok()?)
        };
        let mut columns = Vec::new();
        for (number, loaded) in (0_u16..).zip(self.loaded) {
            let Some((base, place)) = loaded.filter(|_| number != SP) else {
                continue;
            };
            let column = if base == self.base {
                Column::At(place - self.offset)
            } else {
                Column::AtExpression(keep(base.expression(place))?)
            };
            columns.push((number, column));
        }
        let cfa = match self.base {
            Base::Register(number) => Cfa::Register(number, self.offset),
            base @ Base::Loaded(_) => Cfa::Expression(keep(base.expression(self.offset))?),
        };
        let has_pc = columns.iter().any(|(number, _)| *number == PC);
        Some(Rule {
            cfa,
            columns: columns.into(),
            return_column: if has_pc { PC } else { LR },
            expressions: expressions.into(),
            signal: false,
            debug: false,
            at_calls: true,
            start: FileAddress(0),
        })
    }
}

/// Runs instructions (section 10.3, table 4); `None` if one of them is reserved, or says
/// that the frame cannot be unwound.
fn run(code: &[u8]) -> Option<Rule> {
    let mut machine = Machine {
        base: Base::Register(SP),
        offset: 0,
        loaded: [const { None }; 16],
    };
    let mut code = code.iter().copied();
    while let Some(byte) = code.next() {
        let low = u64::from(byte & 0xf);
        match byte {
            0x00..=0x3f => machine.skip(u64::from(byte) * 4 + 4)?,
            0x40..=0x7f => machine.offset -= i64::from(byte & 0x3f) * 4 + 4,
            // Registers r4 to r15; none of them: this cannot be unwound.
            0x80..=0x8f => match u16::from_be_bytes([byte & 0xf, code.next()?]) {
                0 => return None,
                mask => machine.pop(mask << 4),
            },
            0x9d | 0x9f => return None,
            0x90..=0x9f => machine.set(u16::from(byte & 0xf)),
            // r4 to r4+n, then lr.
            0xa0..=0xaf => {
                let mask = ((2_u16 << (byte & 7)) - 1) << 4;
                machine.pop(mask | u16::from(byte >> 3 & 1) << LR);
            }
            0xb0 => break,
            0xb1 => match code.next()? {
                mask @ 1..=0xf => machine.pop(mask.into()),
                _ => return None,
            },
            0xb2 => {
                let words = uleb128(&mut code)?;
                machine.skip(words.checked_mul(4)?.checked_add(0x204)?)?;
            }
            // FSTMFDX: a word more than the registers.
            0xb3 => machine.skip(doubles(code.next()?) + 4)?,
            // The code that authenticates the return address, and its use with this pointer.
            0xb4 => machine.skip(4)?,
            0xb5 => {}
            0xb6 | 0xb7 => return None,
            0xb8..=0xbf => machine.skip((low - 8 + 1) * 8 + 4)?,
            // iWMMXt: wR10 to wR10+n, others, and wCGR0 to wCGR3.
            0xc0..=0xc5 => machine.skip((low + 1) * 8)?,
            0xc6 => machine.skip(doubles(code.next()?))?,
            0xc7 => match code.next()? {
                mask @ 1..=0xf => machine.skip(u64::from(mask.count_ones()) * 4)?,
                _ => return None,
            },
            // VPUSH: from d16 on, from d0 on; d8 to d8+n.
            0xc8 | 0xc9 => machine.skip(doubles(code.next()?))?,
            0xca..=0xcf => return None,
            0xd0..=0xd7 => machine.skip((low + 1) * 8)?,
            0xd8..=0xff => return None,
        }
        let is_long = matches!(&machine.base, Base::Loaded(code) if code.len() > MAX_BASE);
        if is_long {
            return None;
        }
    }
    machine.rule()
}

/// Bytes of the registers that a byte names: the first, and how many more.
fn doubles(range: u8) -> u64 {
    (u64::from(range & 0xf) + 1) * 8
}

fn uleb128(code: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = code.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "exidx_tests.rs"]
mod tests;
