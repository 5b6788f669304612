//! Source files and lines of addresses, and the calls that a compiler inlined.
//!
//! In: an ELF file with `.debug_info` and addresses in it. Out: for each address its
//! calls ([`Call`]): the inlined ones, innermost first, and last the function itself.
//! DWARF 2 to 5, 32- and 64-bit. Information that was split off into `.dwo` files gives
//! nothing but a reason, as does compressed information that is too large or in a form whose
//! feature is not in the build; names in a supplementary file are missing.
//!
//! Nothing is read whole: `.debug_info` of a browser has a gigabyte. Units are found by `.debug_aranges` or by their first entries, and
//! everything is read through windows of some KB. Compressed sections alone are unpacked
//! whole, as far as the memory limit permits. When the report's allowance is used
//! up, what is not known by then stays unknown.
//!
//! ```text
//! index (address -> unit) ──> program (address -> file, line)
//!       └─> tree (address -> inlined calls) ──> their names, the lines they are on
//! reader: numbers and strings through a window; unit, abbreviation: headers, shapes,
//! attributes; ranges: lists of address ranges
//! ```
//!
//! gimli could do all of this, but it would add about 90 KB and needs whole sections in
//! memory. DWARF Debugging Information Format, version 5, and version 4 for what version
//! 5 left out.

mod abbreviation;
mod index;
mod memory;
mod program;
mod ranges;
mod reader;
mod tree;
mod unit;
mod wanted;

use std::cell::Cell;
use std::rc::Rc;

use super::elf::{Compression, ElfFile, FileRange, Section, Sections, Source};
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
    /// Not a form that this build reads.
    Compressed(Compression),
    /// Unpacked it would be larger than what is left of the memory limit.
    TooLarge(Compression),
    Damaged(Compression),
    /// Split DWARF: inlined calls and names are in files of their own.
    Split,
    TimedOut,
}

impl Refused {
    /// A few words for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Compressed(form) => match form {
                Compression::Zlib => "compressed debug information (zlib)",
                Compression::Zstd => "compressed debug information (zstd)",
                Compression::ZlibGnu => "compressed debug information (zlib-gnu)",
                Compression::Other => "compressed debug information",
            },
            Refused::TooLarge(form) => match form {
                Compression::Zstd => "debug information (zstd) larger than --memory-limit allows",
                _ => "debug information (zlib) larger than --memory-limit allows",
            },
            Refused::Damaged(form) => match form {
                Compression::Zstd => "compressed debug information (zstd) is damaged",
                _ => "compressed debug information (zlib) is damaged",
            },
            Refused::Split => "split DWARF: .dwo and .dwp files are not read",
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
    /// Why something was not read, which makes all answers doubtful.
    refused: Cell<Option<Refused>>,
}

impl<'a> Debug<'a> {
    fn reader(&self, section: Section) -> Reader<'a> {
        let stored = self.sections.get(section);
        let range = match (stored.packed, self.refused.get()) {
            (None, _) => stored.range,
            (Some(_), Some(_)) => FileRange::default(),
            (Some(packed), None) => {
                match self
                    .memory
                    .unpacked(self.source, section, stored.range, packed)
                {
                    Ok(unpacked) => return Reader::unpacked(self.source, unpacked),
                    Err(refused) => self.refused.set(Some(refused)),
                }
                FileRange::default()
            }
        };
        Reader::new(self.source, &self.memory.blocks, range)
    }

    fn reader_at(&self, section: Section, at: u64) -> Reader<'a> {
        let mut reader = self.reader(section);
        reader.seek(at);
        reader
    }

    /// Whether what was read last may not be all that there is.
    fn is_cut(&self) -> bool {
        self.source.is_out() || self.refused.get().is_some()
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
    let debug = Debug {
        source: elf.source(),
        sections,
        memory,
        refused: Cell::new(None),
    };
    let mut sorted: Vec<u64> = addresses.iter().map(|address| address.0).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let index = debug.index(&sorted);
    // By unit.
    let unit_of = |address: &FileAddress| index.find(address.0);
    let mut places: Vec<(u64, usize)> = addresses
        .iter()
        .enumerate()
        .filter_map(|(number, address)| Some((unit_of(address)?, number)))
        .collect();
    places.sort_unstable();
    let mut refused = None;
    for places in places.chunk_by(|one, next| one.0 == next.0) {
        let mut wanted: Vec<u64> = places.iter().map(|place| addresses[place.1].0).collect();
        wanted.sort_unstable();
        let Some(tables) = debug.tables(places[0].0, &wanted) else {
            continue;
        };
        // Its lines alone would stand beside the names of outer functions.
        if tables.is_split() {
            refused = Some(Refused::Split);
            continue;
        }
        for &(_, number) in places {
            found[number] = calls_at(&debug, &tables, addresses[number].0);
        }
    }
    // Without one of the sections an inlined line could stand under an outer name.
    if let Some(refused) = debug.refused.get() {
        return Err(refused);
    }
    if elf.source().is_out() && found.iter().all(Vec::is_empty) {
        return Err(Refused::TimedOut);
    }
    if let Some(refused) = refused.filter(|_| found.iter().all(Vec::is_empty)) {
        return Err(refused);
    }
    Ok(found)
}

/// From the instruction outwards: each call is on the line where the one inside it was
/// inlined.
fn calls_at(debug: &Debug<'_>, tables: &memory::Tables, address: u64) -> Vec<Call> {
    let show = |place, call: Call| match debug.show(tables, place) {
        Some((file, line)) => Call {
            file: Some(file),
            line: Some(line),
            ..call
        },
        None => call,
    };
    let inlined = tables.functions.holding(address);
    let mut calls = Vec::with_capacity(inlined.len() + 1);
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
