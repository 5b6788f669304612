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
mod program;
mod ranges;
mod reader;
mod tree;
mod unit;

use super::elf::{ElfFile, Section, Sections, Source};
use crate::base::address::FileAddress;
use reader::Reader;

/// Inlined calls at one address.
const MAX_CALLS: usize = 32;

/// One of the calls at an address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Call {
    pub inlined: bool,
    /// The name of an inlined call: raw, as the linker would see it if that is known.
    pub name: Option<Vec<u8>>,
    /// The beginning of an inlined call's code.
    pub start: FileAddress,
    pub file: Option<Vec<u8>>,
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
    /// How many addresses are asked for.
    batch: u64,
}

impl<'a> Debug<'a> {
    fn reader(&self, section: Section) -> Reader<'a> {
        let range = self.sections.range(section);
        Reader::new(self.source, range)
    }

    fn reader_at(&self, section: Section, at: u64) -> Reader<'a> {
        let mut reader = self.reader(section);
        reader.seek(at);
        reader
    }

    /// Takes work, beside that of reading, and as much for each address; `None` when it
    /// is not to be done any more.
    fn work(&self, units: u64) -> Option<()> {
        self.source.work(units + self.batch).then_some(())
    }
}

/// The calls at each address, none if nothing is known.
pub fn calls(elf: &ElfFile, addresses: &[FileAddress]) -> Result<Vec<Vec<Call>>, Refused> {
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
        batch: addresses.len() as u64,
    };
    let units = index::units(&debug, addresses);
    let mut distinct: Vec<u64> = units.iter().copied().flatten().collect();
    distinct.sort_unstable();
    distinct.dedup();
    for unit in distinct {
        let indexes: Vec<usize> = (0..addresses.len())
            .filter(|&index| units[index] == Some(unit))
            .collect();
        let wanted: Vec<u64> = indexes.iter().map(|&index| addresses[index].0).collect();
        let answers = unit_calls(&debug, unit, &wanted).unwrap_or_default();
        for (&index, calls) in indexes.iter().zip(answers) {
            found[index] = calls;
        }
    }
    if elf.source().is_out() && found.iter().all(Vec::is_empty) {
        return Err(Refused::TimedOut);
    }
    Ok(found)
}

/// For addresses of one unit.
fn unit_calls(debug: &Debug<'_>, at: u64, wanted: &[u64]) -> Option<Vec<Vec<Call>>> {
    let unit = unit::Unit::read(debug, at)?;
    let program = program::Program::read(debug, &unit)?;
    let rows = program.rows(wanted);
    let mut inlined = tree::inlined(debug, &unit, wanted);
    let mut files = program::Files::new(&program);
    let calls = rows.into_iter().zip(&mut inlined).map(|(row, inlined)| {
        // From the instruction outwards: each call is on the line where the one
        // inside it was inlined.
        let mut place = row;
        let mut calls = Vec::new();
        for inner in inlined.drain(..).take(MAX_CALLS) {
            let call = Call {
                inlined: true,
                name: inner.name,
                start: FileAddress(inner.start),
                ..Call::default()
            };
            calls.push(files.call(place, call));
            place = inner.called_from;
        }
        if place.is_some() || !calls.is_empty() {
            calls.push(files.call(place, Call::default()));
        }
        calls
    });
    Some(calls.collect())
}

#[cfg(test)]
mod tests;
