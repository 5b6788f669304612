//! The abbreviations of `.debug_abbrev`: the shapes of entries, without the attributes that
//! are of no interest. DWARF 5, section 7.5.3.

use super::reader::Reader;
use super::{Debug, Section};
use crate::base::order;

/// Units of work for an entry, or for the shape of one.
pub(super) const ENTRY: u64 = 32;
/// Compilers make some hundred for a unit.
const MAX_ABBREVIATIONS: usize = 16 * 1024;
const MAX_SPECIFICATIONS: usize = 256 * 1024;

pub(super) const TAG_INLINED: u64 = 0x1d;
pub(super) const TAG_SUBPROGRAM: u64 = 0x2e;
pub(super) const TAG_COMPILE_UNIT: u64 = 0x11;
pub(super) const TAG_PARTIAL_UNIT: u64 = 0x3c;
pub(super) const TAG_SKELETON_UNIT: u64 = 0x4a;
/// A call; of version 4 as GNU has it.
#[cfg(feature = "desk")]
pub(super) const TAG_CALL_SITE: u64 = 0x48;
#[cfg(feature = "desk")]
pub(super) const TAG_GNU_CALL_SITE: u64 = 0x4109;

/// The value is in the abbreviation.
pub(super) const FORM_IMPLICIT_CONST: u64 = 0x21;

#[derive(Clone, Copy, Debug)]
pub(super) struct Specification {
    pub(super) attribute: u16,
    /// [`SKIP`]: the attributes here are of no interest, and have `constant` bytes.
    pub(super) form: u16,
    pub(super) constant: i64,
}

/// No form that there is.
pub(super) const SKIP: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct Abbreviation {
    code: u64,
    pub(super) tag: u64,
    pub(super) children: bool,
    pub(super) first: u32,
    pub(super) count: u32,
}

/// What the size of a value depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub(super) version: u16,
    pub(super) wide: bool,
    pub(super) address_size: u8,
    /// Not what the entry is made of, but what is wanted of it: calls, too.
    #[cfg(feature = "desk")]
    pub(super) has_calls: bool,
}

/// What only a reader of calls needs: where a call returns to, what it calls, whether it
/// is a tail call; of a function whether all of its calls are there.
#[cfg(feature = "desk")]
fn is_of_calls(tag: u64, attribute: u64) -> bool {
    match tag {
        TAG_CALL_SITE | TAG_GNU_CALL_SITE => {
            matches!(attribute, 0x11 | 0x31 | 0x7d | 0x7f | 0x81 | 0x82 | 0x2115)
        }
        TAG_SUBPROGRAM => matches!(attribute, 0x7a..=0x7c | 0x2116..=0x2118),
        _ => false,
    }
}

/// Whether an attribute is of interest in an entry.
fn is_wanted(tag: u64, attribute: u64, encoding: Encoding) -> bool {
    #[cfg(feature = "desk")]
    if encoding.has_calls && is_of_calls(tag, attribute) {
        return true;
    }
    #[cfg(not(feature = "desk"))]
    let _ = encoding;
    match attribute {
        0x01 => true,
        0x03
        | 0x10..=0x12
        | 0x1b
        | 0x31
        | 0x47
        | 0x55
        | 0x58
        | 0x59
        | 0x6e
        | 0x72..=0x74
        | 0x76
        | 0x2007
        | 0x2130..=0x2133 => {
            matches!(
                tag,
                TAG_INLINED
                    | TAG_SUBPROGRAM
                    | TAG_COMPILE_UNIT
                    | TAG_PARTIAL_UNIT
                    | TAG_SKELETON_UNIT
            )
        }
        _ => false,
    }
}

/// The abbreviations, each shared by all entries of the same shape.
#[derive(Debug, Default)]
pub(super) struct Abbreviations {
    pub(super) all: Vec<Abbreviation>,
    pub(super) specifications: Vec<Specification>,
}

impl Abbreviations {
    /// The whole table, or its beginning down to the shape with the code 1, which
    /// compilers give to a unit's first entry.
    pub(super) fn read(
        debug: &Debug<'_>,
        at: u64,
        encoding: Encoding,
        until: Option<u64>,
    ) -> Option<Self> {
        let mut reader = debug.reader_at(Section::Abbrev, at);
        let mut table = Abbreviations::default();
        loop {
            let code = reader.unsigned()?;
            if code == 0 {
                table.sort();
                return Some(table);
            }
            let tag = reader.unsigned()?;
            let children = reader.u8()? != 0;
            let first = table.specifications.len();
            table.read_specifications(&mut reader, tag, encoding)?;
            if table.all.len() == MAX_ABBREVIATIONS {
                return None;
            }
            table.all.push(Abbreviation {
                code,
                tag,
                children,
                first: first as u32,
                count: (table.specifications.len() - first) as u32,
            });
            if until == Some(code) {
                table.sort();
                return Some(table);
            }
            debug.work(ENTRY)?;
        }
    }

    fn read_specifications(
        &mut self,
        reader: &mut Reader<'_>,
        tag: u64,
        encoding: Encoding,
    ) -> Option<()> {
        let first = self.specifications.len();
        loop {
            let attribute = reader.unsigned()?;
            let form = reader.unsigned()?;
            let constant = match form {
                FORM_IMPLICIT_CONST => reader.signed()?,
                _ => 0,
            };
            if (attribute, form) == (0, 0) {
                return Some(());
            }
            let size = match is_wanted(tag, attribute, encoding) {
                true => None,
                false => fixed_size(form, encoding),
            };
            if let Some(size) = size {
                let before = self.specifications.get_mut(first..)?.last_mut();
                match before.filter(|before| before.form == SKIP) {
                    Some(before) => before.constant = before.constant.checked_add(size)?,
                    None => self.specifications.push(Specification {
                        attribute: 0,
                        form: SKIP,
                        constant: size,
                    }),
                }
                continue;
            }
            if self.specifications.len() >= MAX_SPECIFICATIONS {
                return None;
            }
            self.specifications.push(Specification {
                attribute: u16::try_from(attribute).unwrap_or(u16::MAX),
                form: u16::try_from(form).ok().filter(|&form| form != SKIP)?,
                constant,
            });
        }
    }

    /// Nearly always they are numbered from 1. Of several with one number the first counts.
    fn sort(&mut self) {
        order::sort(&mut self.all, |shape| shape.code);
    }

    pub(super) fn find(&self, code: u64) -> Option<Abbreviation> {
        let at = |index: usize| self.all.get(index).filter(|shape| shape.code == code);
        let direct = at(usize::try_from(code.checked_sub(1)?).ok()?);
        let search = || at(self.all.partition_point(|shape| shape.code < code));
        direct.or_else(search).copied()
    }
}

/// The bytes of a value, if they are as many in every entry.
fn fixed_size(form: u64, encoding: Encoding) -> Option<i64> {
    let offset = if encoding.wide { 8 } else { 4 };
    Some(match form {
        0x19 | FORM_IMPLICIT_CONST => 0,
        0x0b | 0x0c | 0x11 | 0x25 | 0x29 => 1,
        0x05 | 0x12 | 0x26 | 0x2a => 2,
        0x27 | 0x2b => 3,
        0x06 | 0x13 | 0x1c | 0x28 | 0x2c => 4,
        0x07 | 0x14 | 0x20 | 0x24 => 8,
        0x1e => 16,
        0x01 => encoding.address_size.into(),
        0x10 if encoding.version == 2 => encoding.address_size.into(),
        0x0e | 0x10 | 0x17 | 0x1d | 0x1f | 0x1f20 | 0x1f21 => offset,
        _ => return None,
    })
}
