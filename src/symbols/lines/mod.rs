//! Source files and lines of addresses, and the calls that a compiler inlined.
//!
//! In: an ELF file with `.debug_info` and addresses in it. Out: for each address its
//! calls ([`Call`]): the inlined ones, innermost first, and last the function itself.
//! DWARF 2 to 5, 32- and 64-bit. Information that was split off into `.dwo` files gives
//! only lines; compressed information, or that in a supplementary file, gives nothing.
//!
//! Nothing is kept and nothing is read whole: `.debug_info` of a browser has a
//! gigabyte. Units are found by `.debug_aranges` or by their first entries, and
//! everything is read through windows of some KB. When the report's allowance is used
//! up, what is not known by then stays unknown.
//!
//! ```text
//! index (address -> unit) ──> program (address -> file, line)
//!       └─> tree (address -> inlined calls) ──> their names, the lines they are on
//! reader: numbers and strings through a window; unit: headers, abbreviations,
//! attributes; ranges: lists of address ranges
//! ```
//!
//! gimli could do all of this, but it would add about 90 KB and needs whole sections in
//! memory. DWARF Debugging Information Format, version 5, and version 4 for what version
//! 5 left out.

mod index;
mod memory;
mod program;
mod ranges;
mod reader;
mod tree;
mod unit;
mod wanted;

use std::rc::Rc;

use super::elf::{ElfFile, Section, Sections, Source};
use crate::base::address::FileAddress;
pub use memory::Memory;
use reader::Reader;

/// Inlined calls at one address. Of more the innermost are left out.
const MAX_CALLS: usize = 256;

/// One of the calls at an address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Call {
    pub inlined: bool,
    /// The name of an inlined call: raw, as the linker would see it if that is known.
    pub name: Option<Rc<[u8]>>,
    /// The beginning of an inlined call's code.
    pub start: FileAddress,
    pub file: Option<Rc<[u8]>>,
    pub line: Option<u32>,
}

/// Why there are no lines though there could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Compressed,
    TimedOut,
}

impl Refused {
    /// A few words for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Compressed => "the program's debug information is compressed",
            Refused::TimedOut => "time limit: debug information not read to its end",
        }
    }
}

/// The state that all readers of one batch share.
#[derive(Debug)]
struct Debug<'a> {
    source: &'a Source,
    sections: &'a Sections,
    memory: &'a Memory,
}

impl<'a> Debug<'a> {
    fn reader(&self, section: Section) -> Reader<'a> {
        let range = self.sections.range(section);
        Reader::new(self.source, &self.memory.blocks, range)
    }

    fn reader_at(&self, section: Section, at: u64) -> Reader<'a> {
        let mut reader = self.reader(section);
        reader.seek(at);
        reader
    }

    /// Takes work, beside that of reading; `None` when it is not to be done any more.
    fn work(&self, units: u64) -> Option<()> {
        self.source.work(units).then_some(())
    }
}

/// The calls at each address, none if nothing is known.
pub fn calls(
    elf: &ElfFile,
    memory: &Memory,
    addresses: &[FileAddress],
) -> Result<Vec<Vec<Call>>, Refused> {
    let mut found = vec![Vec::new(); addresses.len()];
    let sections = elf.debug_sections();
    if !sections.exist() {
        return Ok(found);
    }
    if sections.are_compressed() {
        return Err(Refused::Compressed);
    }
    let debug = Debug {
        source: elf.source(),
        sections,
        memory,
    };
    let mut sorted: Vec<u64> = addresses.iter().map(|address| address.0).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let index = debug.index(&sorted);
    // By unit, then by address.
    let mut places: Vec<(u64, u64, usize)> = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        if let Some(unit) = index.find(address.0) {
            places.push((unit, address.0, number));
        }
    }
    places.sort_unstable();
    for places in places.chunk_by(|one, next| one.0 == next.0) {
        let wanted: Vec<u64> = places.iter().map(|place| place.1).collect();
        let Some(tables) = debug.tables(places[0].0, &wanted) else {
            continue;
        };
        for &(_, address, number) in places {
            found[number] = calls_at(&debug, &tables, address);
        }
    }
    if elf.source().is_out() && found.iter().all(Vec::is_empty) {
        return Err(Refused::TimedOut);
    }
    Ok(found)
}

/// From the instruction outwards: each call is on the line where the one inside it was
/// inlined.
fn calls_at(debug: &Debug<'_>, tables: &memory::Tables, address: u64) -> Vec<Call> {
    let show = |place, call: Call| match tables.show(debug, place) {
        Some((file, line)) => Call {
            file: Some(file),
            line: Some(line),
            ..call
        },
        None => call,
    };
    let mut calls = Vec::new();
    let inlined = tables.functions.holding(address);
    let mut place = match inlined.get(MAX_CALLS) {
        Some((left_out, _)) => left_out.called_from,
        None => tables.rows.find(address),
    };
    for (inner, start) in inlined.into_iter().take(MAX_CALLS).rev() {
        let call = Call {
            inlined: true,
            name: debug.name(tables, inner.name_at),
            start: FileAddress(start),
            ..Call::default()
        };
        calls.push(show(place, call));
        place = inner.called_from;
    }
    if place.is_some() || !calls.is_empty() {
        calls.push(show(place, Call::default()));
    }
    calls
}

#[cfg(test)]
mod tests;
