//! Finds the unit that holds an address.
//!
//! In: addresses. Out: for each the offset of its unit in `.debug_info`. `.debug_aranges`
//! has the units that gcc made; for the others the first entry of every unit is read.
//! DWARF 5, sections 6.1.2 and 3.1.1.

use super::ranges;
use super::unit::Unit;
use super::{Debug, Section};
use crate::base::address::FileAddress;

/// More units than any program has.
const MAX_UNITS: usize = 1 << 20;
/// Units of work for a set of ranges, or for a unit.
const SET: u64 = 64;
/// The same for a range.
const PAIR: u64 = 16;

pub(super) fn units(debug: &Debug<'_>, addresses: &[FileAddress]) -> Vec<Option<u64>> {
    let mut units = vec![None; addresses.len()];
    // If a table cannot be read to its end, the entries before still count.
    let _ = by_aranges(debug, addresses, &mut units);
    if units.contains(&None) {
        let _ = by_first_entries(debug, addresses, &mut units);
    }
    units
}

fn note(addresses: &[FileAddress], units: &mut [Option<u64>], unit: u64, low: u64, high: u64) {
    for (address, slot) in addresses.iter().zip(units) {
        if slot.is_none() && low <= address.0 && address.0 < high {
            *slot = Some(unit);
        }
    }
}

fn by_aranges(
    debug: &Debug<'_>,
    addresses: &[FileAddress],
    units: &mut [Option<u64>],
) -> Option<()> {
    let mut reader = debug.reader(Section::Aranges);
    while reader.at() < reader.size() {
        debug.work(SET)?;
        let start = reader.at();
        let (length, wide) = reader.initial_length()?;
        let end = reader.at().checked_add(length)?;
        let version = reader.u16()?;
        let unit = reader.offset(wide)?;
        let size = reader.u8()?;
        let segment_size = reader.u8()?;
        if version == 2 && matches!(size, 4 | 8) && segment_size == 0 {
            let pair = u64::from(size) * 2;
            let head = reader.at() - start;
            reader.seek(start + head.next_multiple_of(pair));
            while reader.at() + pair <= end {
                debug.work(PAIR)?;
                let low = reader.sized(size)?;
                let length = reader.sized(size)?;
                if low != 0 {
                    note(addresses, units, unit, low, low.saturating_add(length));
                }
            }
        }
        reader.seek(end);
    }
    Some(())
}

fn by_first_entries(
    debug: &Debug<'_>,
    addresses: &[FileAddress],
    units: &mut [Option<u64>],
) -> Option<()> {
    let mut reader = debug.reader(Section::Info);
    let mut at = 0;
    for _ in 0..MAX_UNITS {
        if at >= reader.size() || !units.contains(&None) {
            return Some(());
        }
        debug.work(SET)?;
        reader.seek(at);
        let end = Unit::header(&mut reader)?.end;
        reader.seek(at);
        if let Some(unit) = Unit::glance(debug, &mut reader) {
            if unit.is_program() {
                let _ = ranges::visit(debug, &unit, &unit.root, &mut |low, high| {
                    note(addresses, units, at, low, high);
                });
            }
        }
        at = end;
    }
    None
}
