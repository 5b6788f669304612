//! The address ranges of an entry: `low..high`, or a list of its own.
//!
//! In: an entry and its unit. Out: its ranges, one after another. Ranges that begin at 0
//! are left out: linkers write them for code that they removed.
//! DWARF 5, section 2.17; version 4, section 2.17.3.

use super::unit::{Entry, Unit, Value};
use super::{Debug, Section};

/// The ranges of one entry; a unit has one for each of its functions.
const MAX_RANGES: usize = 64 * 1024;
/// Units of work for a range.
const RANGE: u64 = 16;

/// Shows every range, in any order; `None` if some could not be read.
pub(super) fn visit(
    debug: &Debug<'_>,
    unit: &Unit,
    entry: &Entry,
    show: &mut dyn FnMut(u64, u64),
) -> Option<()> {
    let mut show = |low: u64, high: u64| {
        if low != 0 && low < high {
            show(low, high);
        }
    };
    match (entry.ranges, entry.low, entry.high) {
        (Some(Value::Number(at)), ..) if unit.version < 5 => {
            let at = at.checked_add(unit.ranges_base)?;
            old_list(debug, unit, at, &mut show)
        }
        (Some(Value::Number(at)), ..) => list(debug, unit, at, &mut show),
        (Some(Value::ListIndex(index)), ..) => {
            let base = unit.list_base()?;
            let size = if unit.wide { 8 } else { 4 };
            let at = base.checked_add(index.checked_mul(size)?)?;
            let offset = debug.reader_at(Section::Rnglists, at).offset(unit.wide)?;
            list(debug, unit, base.checked_add(offset)?, &mut show)
        }
        (None, Some(low), Some(high)) => {
            let low = unit.address(debug, low)?;
            let high = match high {
                Value::Number(length) => low.checked_add(length)?,
                high => unit.address(debug, high)?,
            };
            show(low, high);
            Some(())
        }
        _ => Some(()),
    }
}

/// The default base of the offsets in a list.
fn base(debug: &Debug<'_>, unit: &Unit) -> u64 {
    let low = unit.root.low.and_then(|low| unit.address(debug, low));
    low.unwrap_or(0)
}

/// Pairs; (0, 0) ends them, a first of all ones sets the base.
fn old_list(debug: &Debug<'_>, unit: &Unit, at: u64, show: &mut dyn FnMut(u64, u64)) -> Option<()> {
    let mut reader = debug.reader_at(Section::Ranges, at);
    let mut base = base(debug, unit);
    let ones = u64::MAX >> (64 - 8 * u32::from(unit.address_size));
    for _ in 0..MAX_RANGES {
        debug.work(RANGE)?;
        let low = reader.sized(unit.address_size)?;
        let high = reader.sized(unit.address_size)?;
        if (low, high) == (0, 0) {
            return Some(());
        }
        if low == ones {
            base = high;
        } else if low != high {
            show(base.wrapping_add(low), base.wrapping_add(high));
        }
    }
    None
}

fn list(debug: &Debug<'_>, unit: &Unit, at: u64, show: &mut dyn FnMut(u64, u64)) -> Option<()> {
    let mut reader = debug.reader_at(Section::Rnglists, at);
    let mut base = base(debug, unit);
    let size = unit.address_size;
    for _ in 0..MAX_RANGES {
        debug.work(RANGE)?;
        // DWARF 5, table 7.30.
        match reader.u8()? {
            0 => return Some(()),
            1 => base = unit.indexed_address(debug, reader.unsigned()?)?,
            2 => {
                let (low, high) = (reader.unsigned()?, reader.unsigned()?);
                let low = unit.indexed_address(debug, low)?;
                show(low, unit.indexed_address(debug, high)?);
            }
            3 => {
                let (low, length) = (reader.unsigned()?, reader.unsigned()?);
                let low = unit.indexed_address(debug, low)?;
                show(low, low.wrapping_add(length));
            }
            4 => {
                let (low, high) = (reader.unsigned()?, reader.unsigned()?);
                show(base.wrapping_add(low), base.wrapping_add(high));
            }
            5 => base = reader.sized(size)?,
            6 => {
                let (low, high) = (reader.sized(size)?, reader.sized(size)?);
                show(low, high);
            }
            7 => {
                let (low, length) = (reader.sized(size)?, reader.unsigned()?);
                show(low, low.wrapping_add(length));
            }
            _ => return None,
        }
    }
    None
}
