//! The inlined calls of a unit.
//!
//! In: a unit. Out: its functions and the calls inlined into them ([`Functions`]), all of
//! them or those at a few addresses. One pass over the unit's entries finds them. Bodies of
//! functions that are not wanted are skipped if the compiler wrote their length. For an
//! address: the inlined calls that contain it, with the places they were called from.
//! DWARF 5, sections 3.3.8 and 2.3.

use super::abbreviation::{TAG_INLINED, TAG_SUBPROGRAM};
use super::program::Place;
use super::reader::Reader;
use super::unit::{Entry, Unit, Value};
use super::wanted::{sort, Wanted};
use super::{ranges, Debug, Section};

/// Functions that begin before an address and are looked at.
const MAX_OVERLAP: usize = 64;

/// An inlined call.
#[derive(Debug)]
pub(super) struct Inlined {
    /// The entry that has its name, or leads to it.
    pub(super) name_at: u64,
    pub(super) called_from: Option<Place>,
    /// The first of its ranges, which end where those of the next call begin.
    first_range: u32,
    /// The number of the first call after those within it.
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    low: u64,
    high: u64,
    /// Its calls.
    first: u32,
    end: u32,
}

/// The functions of a unit.
#[derive(Debug, Default)]
pub(super) struct Functions {
    functions: Vec<Function>,
    /// A call comes before those within it.
    inlined: Vec<Inlined>,
    ranges: Vec<(u64, u64)>,
    /// There may be others, which could not be read.
    cut: bool,
}

/// An entry whose children are being read.
struct Open {
    depth: u64,
    what: What,
}

enum What {
    /// From this number on.
    Functions(usize),
    Inlined(usize),
}

impl Functions {
    /// What is wanted; `None` if it would have more than so many bytes.
    pub(super) fn read(
        debug: &Debug<'_>,
        unit: &Unit,
        wanted: Wanted<'_>,
        room: usize,
    ) -> Option<Self> {
        let mut walk = Walk {
            debug,
            unit,
            wanted,
            room,
            found: Functions::default(),
            open: Vec::new(),
            depth: 0,
            doubtful: false,
        };
        let mut reader = debug.reader_at(Section::Info, unit.first_entry());
        // If a unit cannot be read to its end, the entries before still count.
        while reader.at() < unit.end && !walk.is_done() {
            if walk.step(&mut reader).is_none() {
                walk.doubt();
                break;
            }
        }
        walk.close(0);
        let mut found = walk.found;
        if found.memory() > room {
            return None;
        }
        sort(&mut found.functions, |function| function.low);
        found.functions.shrink_to_fit();
        found.inlined.shrink_to_fit();
        found.ranges.shrink_to_fit();
        Some(found)
    }

    /// The inlined calls that hold an address, outermost first, each with the start of the
    /// range that does; `None` where there may be others.
    pub(super) fn holding(&self, address: u64) -> Option<Vec<(&Inlined, u64)>> {
        let mut holding = Vec::new();
        let behind = self
            .functions
            .partition_point(|function| function.low <= address);
        let mut below = self.functions[..behind].iter().rev().take(MAX_OVERLAP);
        let Some(function) = below.find(|function| address < function.high) else {
            return (!self.cut).then_some(holding);
        };
        let (mut at, mut end) = (function.first as usize, function.end as usize);
        while at < end {
            let Some(call) = self.inlined.get(at) else {
                break;
            };
            let behind = self.inlined.get(at + 1);
            let behind = behind.map_or(self.ranges.len(), |next| next.first_range as usize);
            let ranges = self.ranges.get(call.first_range as usize..behind);
            let mut ranges = ranges.unwrap_or(&[]).iter();
            match ranges.find(|(low, high)| (*low..*high).contains(&address)) {
                Some(&(low, _)) => {
                    holding.push((call, low));
                    end = call.end as usize;
                    at += 1;
                }
                None => at = (call.end as usize).max(at + 1),
            }
        }
        Some(holding)
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        self.functions.capacity() * size_of::<Function>()
            + self.inlined.capacity() * size_of::<Inlined>()
            + self.ranges.capacity() * size_of::<(u64, u64)>()
    }
}

/// A pass over the entries of a unit.
struct Walk<'a, 'w> {
    debug: &'a Debug<'a>,
    unit: &'a Unit,
    wanted: Wanted<'w>,
    room: usize,
    found: Functions,
    open: Vec<Open>,
    depth: u64,
    /// Of the functions that are open some call is unknown.
    doubtful: bool,
}

impl Walk<'_, '_> {
    fn is_done(&self) -> bool {
        self.open.is_empty() && self.wanted.are_found() || self.found.memory() > self.room
    }

    fn step(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let at = reader.at();
        let Some(shape) = self.unit.shape(self.debug, reader)? else {
            self.depth = self.depth.saturating_sub(1);
            self.close(self.depth + 1);
            return Some(());
        };
        if !matches!(shape.tag, TAG_INLINED | TAG_SUBPROGRAM) {
            self.unit.sibling(reader, shape)?;
            self.depth += u64::from(shape.children);
            return Some(());
        }
        let entry = self.unit.attributes(reader, shape, at)?;
        let taken = match shape.tag {
            TAG_SUBPROGRAM => self.function(&entry),
            _ if self.open.is_empty() => None,
            _ => self.inlined(&entry),
        };
        // One without code may have local classes, whose functions have some.
        let has_code = entry.low.is_some() || entry.ranges.is_some();
        let next = match (taken.is_none() && has_code, entry.sibling) {
            (true, Some(Value::Entry(next))) if at < next && next < self.unit.end => Some(next),
            _ => None,
        };
        if let Some(next) = next {
            reader.seek(next);
            return Some(());
        }
        self.depth += u64::from(shape.children);
        if let Some(what) = taken.filter(|_| shape.children) {
            let depth = self.depth;
            self.open.push(Open { depth, what });
        }
        Some(())
    }

    /// Something could not be read: a line of a call that is unknown must not stand under the
    /// name of the function around it.
    fn doubt(&mut self) {
        self.doubtful = true;
        self.found.cut = true;
    }

    /// Ends the entries whose children are at that depth, or deeper.
    fn close(&mut self, depth: u64) {
        let end = self.found.inlined.len() as u32;
        while let Some(open) = self.open.pop_if(|open| open.depth >= depth) {
            match open.what {
                What::Inlined(number) => self.found.inlined[number].end = end,
                What::Functions(first) => {
                    let opened_at = self.found.functions[first].first;
                    let functions = self.found.functions[first..].iter_mut();
                    for function in functions.take_while(|function| function.first == opened_at) {
                        function.end = end;
                        if self.doubtful {
                            function.high = function.low;
                        }
                    }
                }
            }
        }
        self.doubtful &= !self.open.is_empty();
    }

    fn function(&mut self, entry: &Entry) -> Option<What> {
        let first = self.found.functions.len();
        let call = self.found.inlined.len() as u32;
        let Walk {
            debug,
            unit,
            wanted,
            found,
            room,
            ..
        } = self;
        let most = *room / size_of::<Function>();
        let all = ranges::visit(debug, unit, entry, &mut |low, high| {
            if found.functions.len() <= most && wanted.take(low, high) {
                found.functions.push(Function {
                    low,
                    high,
                    first: call,
                    end: call,
                });
            }
        });
        if all.is_none() {
            self.found.cut = true;
        }
        (self.found.functions.len() > first).then_some(What::Functions(first))
    }

    fn inlined(&mut self, entry: &Entry) -> Option<What> {
        let first = self.found.ranges.len();
        let Walk {
            debug,
            unit,
            wanted,
            found,
            room,
            ..
        } = self;
        let most = *room / size_of::<(u64, u64)>();
        let all = ranges::visit(debug, unit, entry, &mut |low, high| {
            if found.ranges.len() <= most && wanted.are_in(low, high) {
                found.ranges.push((low, high));
            }
        });
        let is_empty = found.ranges.len() == first;
        if all.is_none() {
            self.doubt();
        }
        if is_empty {
            return None;
        }
        let found = &mut self.found;
        let number = found.inlined.len();
        let name_at = match entry.origin.or(entry.specification) {
            Some(Value::Entry(at)) if entry.name.is_none() && entry.linkage_name.is_none() => at,
            _ => entry.at,
        };
        let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
        let (file, line) = entry.call_site();
        found.inlined.push(Inlined {
            name_at,
            called_from: small(file).zip(small(line)),
            first_range: u32::try_from(first).ok()?,
            end: number as u32 + 1,
        });
        Some(What::Inlined(number))
    }
}
