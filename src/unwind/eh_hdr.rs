//! The search table of `.eh_frame_hdr` (Linux Standard Base, "Exception Frames").
//!
//! ```text
//! u8 version = 1 | u8 pointer's encoding | u8 count's | u8 table's
//! pointer to .eh_frame | count of entries
//! count times: address of code, address of its entry in .eh_frame; by code
//! ```
//!
//! In: a section, read in windows, and an address. Out: the entry whose code begins
//! nearest below the address, which need not contain it. The table is searched here
//! because the lookup in gimli 0.34 multiplies the unchecked count and panics on a
//! hostile one.

use super::{CfiSection, ModuleData, SectionRange};
use crate::base::address::FileAddress;
use crate::base::bytes::Cursor;

/// DW_EH_PE_*: how a pointer is encoded.
pub(super) mod encoding {
    pub(in crate::unwind) const OMIT: u8 = 0xff;
    pub(in crate::unwind) const ABSOLUTE: u8 = 0x00;
    pub(in crate::unwind) const PC_RELATIVE: u8 = 0x10;
    pub(in crate::unwind) const DATA_RELATIVE: u8 = 0x30;

    /// What the value is relative to.
    pub(in crate::unwind) fn base(encoding: u8) -> u8 {
        encoding & 0x70
    }
}

/// Entries that are read at once when the search has come near.
const WINDOW: u64 = 128;
/// Longest entry of a table: two values of 8 bytes.
const MAX_ENTRY: usize = 16;
/// The header's own bytes at the longest.
const HEADER: usize = 4 + 8 + 8;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nearest {
    /// The place of the entry; `None` if the address lies below all entries.
    pub(super) entry: Option<FileAddress>,
    /// How many entries the table claims to have.
    pub(super) count: u64,
}

/// One value of a fixed size or LEB128, as a pointer's low four bits say, sign-extended.
pub(super) fn value(cursor: &mut Cursor<'_>, encoding: u8) -> Option<u64> {
    Some(match encoding & 0x0f {
        0x00 | 0x04 => cursor.u64().ok()?,
        0x01 => uleb128(cursor)?,
        0x02 => u64::from(cursor.u16().ok()?),
        0x03 => u64::from(cursor.u32().ok()?),
        0x09 => sleb128(cursor)?,
        0x0a => i64::from(cursor.u16().ok()? as i16) as u64,
        0x0b => i64::from(cursor.i32().ok()?) as u64,
        0x0c => cursor.i64().ok()? as u64,
        _ => return None,
    })
}

/// An unsigned LEB128 number; bits past the 64th are dropped.
pub(super) fn uleb128(cursor: &mut Cursor<'_>) -> Option<u64> {
    leb128(cursor).map(|(value, _, _)| value)
}

/// A signed LEB128 number, as its two's complement.
pub(super) fn sleb128(cursor: &mut Cursor<'_>) -> Option<u64> {
    let (value, shift, negative) = leb128(cursor)?;
    Some(match negative && shift < 64 {
        true => value | u64::MAX << shift,
        false => value,
    })
}

fn leb128(cursor: &mut Cursor<'_>) -> Option<(u64, u32, bool)> {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = cursor.u8().ok()?;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        if byte & 0x80 == 0 {
            return Some((value, shift, byte & 0x40 != 0));
        }
    }
}

/// Finds the entry nearest below an address; `None` if the section has no
/// table that can be searched.
pub(super) fn search(
    data: &dyn ModuleData,
    section: SectionRange,
    address: FileAddress,
) -> Option<Nearest> {
    let table = Table::read(data, section)?;
    let none = Nearest {
        entry: None,
        count: table.count,
    };
    let mut low = 0;
    let mut high = table.count;
    // Entries below `low` begin not above the address; those from `high` on above it.
    while high - low > WINDOW {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; MAX_ENTRY];
        let (start, _) = table.entries(data, middle, 1, &mut bytes)?.next()?;
        if start <= address {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut bytes = [0; WINDOW as usize * MAX_ENTRY];
    if high == low {
        return Some(none);
    }
    let entry = table
        .entries(data, low, high - low, &mut bytes)?
        .take_while(|(start, _)| *start <= address)
        .last()
        .map(|(_, entry)| entry);
    Some(Nearest { entry, ..none })
}

/// A table of entries with a fixed size.
struct Table {
    section: SectionRange,
    encoding: u8,
    /// Bytes of one value.
    size: usize,
    start: u64,
    count: u64,
}

impl Table {
    fn read(data: &dyn ModuleData, section: SectionRange) -> Option<Self> {
        let mut header = [0; HEADER];
        let len = usize::try_from(section.size).map_or(HEADER, |size| size.min(HEADER));
        let header = &mut header[..len];
        data.read_section(CfiSection::EhFrameHdr, 0, header)?;
        let mut cursor = Cursor::new(header);
        let [1, pointer, count, table] = cursor.array().ok()? else {
            return None;
        };
        if pointer != encoding::OMIT {
            value(&mut cursor, pointer)?;
        }
        if count == encoding::OMIT || table == encoding::OMIT {
            return None;
        }
        let count = value(&mut cursor, count)?;
        let size = match table & 0x0f {
            0x00 | 0x04 | 0x0c => 8,
            0x03 | 0x0b => 4,
            _ => return None,
        };
        if !matches!(
            encoding::base(table),
            encoding::ABSOLUTE | encoding::DATA_RELATIVE
        ) {
            return None;
        }
        let start = cursor.offset() as u64;
        let room = section.size.saturating_sub(start) / (2 * size as u64);
        Some(Table {
            section,
            encoding: table,
            size,
            start,
            count: count.min(room),
        })
    }

    /// Reads entries into `bytes`, which has room for them.
    fn entries<'b>(
        &self,
        data: &dyn ModuleData,
        first: u64,
        count: u64,
        bytes: &'b mut [u8],
    ) -> Option<impl Iterator<Item = (FileAddress, FileAddress)> + 'b> {
        let entry = 2 * self.size;
        let len = usize::try_from(count).ok()?.checked_mul(entry)?;
        let bytes = bytes.get_mut(..len)?;
        let offset = first.checked_mul(entry as u64)?.checked_add(self.start)?;
        data.read_section(CfiSection::EhFrameHdr, offset, bytes)?;
        let base = match encoding::base(self.encoding) {
            encoding::DATA_RELATIVE => self.section.address.0,
            _ => 0,
        };
        let format = self.encoding;
        Some(bytes.chunks_exact(entry).filter_map(move |bytes| {
            let mut cursor = Cursor::new(bytes);
            let start = value(&mut cursor, format)?;
            let entry = value(&mut cursor, format)?;
            let at = |value| FileAddress(base.wrapping_add(value));
            Some((at(start), at(entry)))
        }))
    }
}
