//! Finds the unit that holds an address.
//!
//! In: the debug information of a file. Out: an [`Index`] of all units, or of those that
//! hold some addresses, from which each address's unit is found. `.debug_aranges` has the
//! units that gcc made; for the others the first entry of every unit is read.
//! DWARF 5, sections 6.1.2 and 3.1.1.

use super::ranges;
use super::unit::Unit;
use super::wanted::{sort, Wanted};
use super::{Debug, Section};

/// More units than any program has.
const MAX_UNITS: usize = 1 << 20;
/// Ranges that are held.
const MAX_RANGES: usize = 1 << 20;
/// Units of work for a set of ranges, or for a unit.
const SET: u64 = 64;
/// The same for a range.
const PAIR: u64 = 16;

#[derive(Clone, Copy, Debug)]
struct Range {
    low: u64,
    high: u64,
    /// The highest end of this one and all before it.
    reach: u64,
    unit: u64,
}

/// Ranges of addresses, each of a unit.
#[derive(Debug, Default)]
pub(super) struct Index {
    ranges: Vec<Range>,
}

/// Where each unit begins and ends.
#[derive(Debug, Default)]
pub(super) struct Units(Vec<(u64, u64)>);

impl Units {
    pub(super) fn read(debug: &Debug<'_>) -> Self {
        let mut units = Vec::new();
        let mut reader = debug.reader(Section::Info);
        while units.len() < MAX_UNITS && reader.at() < reader.size() {
            let unit = debug.work(SET).and_then(|()| Unit::header(&mut reader));
            let Some(unit) = unit else { break };
            units.push((unit.start, unit.end));
            reader.seek(unit.end);
        }
        Units(units)
    }

    /// Where the unit begins that an entry belongs to.
    pub(super) fn around(&self, at: u64) -> Option<u64> {
        let behind = self.0.partition_point(|&(start, _)| start <= at);
        let &(start, end) = self.0.get(behind.checked_sub(1)?)?;
        (at < end).then_some(start)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl Index {
    /// Of everything, if all is wanted, or of what holds an address that is.
    pub(super) fn read(debug: &Debug<'_>, mut wanted: Wanted<'_>) -> Self {
        let mut index = Index::default();
        let wanted = &mut wanted;
        // If a table cannot be read to its end, the entries before still count.
        let _ = index.by_aranges(debug, wanted);
        if !wanted.are_found() {
            let _ = index.by_first_entries(debug, wanted);
        }
        sort(&mut index.ranges, |range| range.low);
        let mut reach = 0;
        for range in &mut index.ranges {
            reach = reach.max(range.high);
            range.reach = reach;
        }
        index
    }

    /// The unit of an address.
    pub(super) fn find(&self, address: u64) -> Option<u64> {
        let behind = self.ranges.partition_point(|range| range.low <= address);
        let below = self.ranges[..behind].iter().rev();
        below
            .take_while(|range| range.reach > address)
            .find(|range| range.high > address)
            .map(|range| range.unit)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.ranges)
    }

    fn note(&mut self, wanted: &mut Wanted<'_>, unit: u64, low: u64, high: u64) {
        if low < high && self.ranges.len() < MAX_RANGES && wanted.take(low, high) {
            let reach = high;
            self.ranges.push(Range {
                low,
                high,
                reach,
                unit,
            });
        }
    }

    fn by_aranges(&mut self, debug: &Debug<'_>, wanted: &mut Wanted<'_>) -> Option<()> {
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
                        self.note(wanted, unit, low, low.saturating_add(length));
                    }
                }
            }
            reader.seek(end);
        }
        Some(())
    }

    fn by_first_entries(&mut self, debug: &Debug<'_>, wanted: &mut Wanted<'_>) -> Option<()> {
        let mut known: Vec<u64> = self.ranges.iter().map(|range| range.unit).collect();
        known.sort_unstable();
        known.dedup();
        let mut reader = debug.reader(Section::Info);
        let mut at = 0;
        for _ in 0..MAX_UNITS {
            if at >= reader.size() || wanted.are_found() {
                return Some(());
            }
            debug.work(SET)?;
            reader.seek(at);
            let end = Unit::header(&mut reader)?.end;
            if known.binary_search(&at).is_err() {
                reader.seek(at);
                if let Some(unit) = Unit::glance(debug, &mut reader) {
                    if unit.is_program() {
                        let _ = ranges::visit(debug, &unit, &unit.root, &mut |low, high| {
                            self.note(wanted, at, low, high);
                        });
                    }
                }
            }
            at = end;
        }
        None
    }
}
