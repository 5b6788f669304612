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
mod files;
mod index;
mod memory;
#[cfg(feature = "split")]
mod open;
mod program;
mod ranges;
mod reader;
#[cfg(feature = "desk")]
mod sites;
#[cfg(feature = "split")]
mod split;
#[cfg(feature = "desk")]
mod tail;
mod tree;
mod unit;
mod wanted;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use super::elf::{Compression, ElfFile, FileRange, Section, Sections, Source, NS_PER_BYTE};
use crate::base::address::FileAddress;
use files::FileMemory;
pub use memory::Memory;
use reader::Reader;
#[cfg(feature = "desk")]
pub use tail::{tail_calls, TailCall};

/// Whether this build unpacks compressed sections.
const UNPACKS: bool = cfg!(any(feature = "zlib", feature = "zstd"));
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
    /// To unpack it would take longer than there is time.
    TooLong(Compression),
    /// dwz: names are in a file that several have in common, and that is not there.
    Supplement,
    /// Split DWARF: inlined calls and names are in files of their own, which this build does
    /// not read, which are not there, or which are of another build.
    Split,
    NoObject,
    OtherObject,
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
            Refused::TooLong(form) => match form {
                Compression::Zstd => "debug information (zstd) too large to be unpacked in time",
                _ => "debug information (zlib) too large to be unpacked in time",
            },
            Refused::Supplement => {
                "no supplementary file (dwz): names of inlined calls are missing"
            }
            Refused::Split => "split DWARF: .dwo and .dwp files are not read",
            Refused::NoObject => "split DWARF: no .dwp file, and a .dwo file is missing",
            Refused::OtherObject => "split DWARF: a .dwo file is of another build",
            Refused::TimedOut => "time limit: debug information not read to its end",
        }
    }
}

/// What is known of a batch of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Lines {
    /// For each address, none if nothing is known.
    pub calls: Vec<Vec<Call>>,
    pub lack: Option<Lack>,
}

impl Lines {
    /// Nothing of so many addresses, for a reason.
    #[must_use]
    pub fn none(count: usize, reason: Option<Refused>) -> Self {
        Lines {
            calls: vec![Vec::new(); count],
            lack: reason.map(Lack::from),
        }
    }
}

/// Why not all is known that could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub reason: Refused,
    /// The file that it is about, if it is another one.
    pub file: Option<Rc<[u8]>>,
}

impl From<Refused> for Lack {
    fn from(reason: Refused) -> Self {
        Lack { reason, file: None }
    }
}

/// Where other files come from that have a part of a file's debug information.
pub trait Others {
    /// The supplementary file; why there is none.
    fn supplement(&self) -> Result<&ElfFile, Lack>;

    /// The file with all split units.
    fn package(&self) -> Option<&ElfFile> {
        None
    }

    /// A file with a split unit.
    fn object(&self, _path: &Path) -> Option<ElfFile> {
        None
    }
}

/// For a file that is alone.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Others for Alone {
    fn supplement(&self) -> Result<&ElfFile, Lack> {
        Err(Refused::Supplement.into())
    }
}

/// What all files of one batch share.
struct Batch<'a> {
    memory: &'a Memory,
    #[cfg_attr(
        not(any(feature = "dwz", feature = "split")),
        expect(dead_code, reason = "no other file is read")
    )]
    others: &'a dyn Others,
    /// Why something was not read, which makes all answers doubtful.
    refused: Cell<Option<Refused>>,
    /// Why some names are missing.
    lack: RefCell<Option<Lack>>,
}

/// One of the files that have debug information.
struct Debug<'a> {
    batch: &'a Batch<'a>,
    source: &'a Source,
    sections: &'a Sections,
    memory: &'a FileMemory,
    role: Role,
    /// Of a split unit: the file with its skeleton, and its part of a package.
    main: Option<&'a Debug<'a>>,
    windows: Option<&'a Windows>,
}

/// The part of each section that belongs to one unit of a package.
type Windows = [Option<FileRange>; Section::COUNT];

/// What a file is for the one that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Itself,
    #[cfg(feature = "dwz")]
    Supplement,
    Split,
}

impl<'a> Debug<'a> {
    /// Refuses everything if there is no time to unpack the file's sections: time that is
    /// used up for some of them would be lost.
    fn new(batch: &'a Batch<'a>, elf: &'a ElfFile, role: Role, memory: &'a FileMemory) -> Self {
        let sections = match role {
            Role::Split => elf.split_sections(),
            _ => elf.debug_sections(),
        };
        let source = elf.source();
        if let (true, Some((form, size)), Some(left)) =
            (UNPACKS, sections.packed(), source.allowance())
        {
            if memory.is_empty() && !left.has(size.saturating_mul(NS_PER_BYTE)) {
                batch.refused.set(Some(Refused::TooLong(form)));
            }
        }
        Debug {
            batch,
            source,
            sections,
            memory,
            role,
            main: None,
            windows: None,
        }
    }

    fn reader(&self, section: Section) -> Reader<'a> {
        if !cfg!(feature = "split") {
            return self.whole_reader(section);
        }
        match (self.main, section) {
            // What split units share with their skeletons.
            (Some(main), Section::Addr | Section::Ranges | Section::Line) => main.reader(section),
            _ => {
                let reader = self.whole_reader(section);
                match self.windows.and_then(|windows| windows[section as usize]) {
                    Some(window) => reader.within(window),
                    None => reader,
                }
            }
        }
    }

    fn whole_reader(&self, section: Section) -> Reader<'a> {
        let stored = self.sections.get(section);
        let range = match (stored.packed, self.batch.refused.get()) {
            (None, _) => stored.range,
            (Some(_), Some(_)) => FileRange::default(),
            (Some(packed), None) => {
                match self.unpacked(section, stored.range, packed) {
                    Ok(unpacked) => return Reader::unpacked(self.source, unpacked),
                    Err(refused) => self.batch.refused.set(Some(refused)),
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
        self.source.is_out() || self.batch.refused.get().is_some()
    }

    /// The file with what this one has in common with others.
    fn supplement(&self) -> Option<Debug<'a>> {
        if self.role != Role::Itself {
            return None;
        }
        #[cfg(feature = "dwz")]
        let lack = match self.batch.others.supplement() {
            Ok(elf) => {
                let memory = &self.batch.memory.supplement;
                return Some(Debug::new(self.batch, elf, Role::Supplement, memory));
            }
            Err(lack) => lack,
        };
        #[cfg(not(feature = "dwz"))]
        let lack = Refused::Supplement.into();
        self.batch.lack.replace(Some(lack));
        None
    }

    /// Takes work, beside that of reading; `None` when it is not to be done any more.
    fn work(&self, units: u64) -> Option<()> {
        self.source.work(units).then_some(())
    }
}

/// The calls at each address.
pub fn calls(
    elf: &ElfFile,
    memory: &Memory,
    others: &dyn Others,
    addresses: &[FileAddress],
) -> Lines {
    let mut found = vec![Vec::new(); addresses.len()];
    if !elf.debug_sections().exist() {
        return Lines::none(addresses.len(), None);
    }
    let batch = Batch {
        memory,
        others,
        refused: Cell::new(None),
        lack: RefCell::default(),
    };
    let debug = Debug::new(&batch, elf, Role::Itself, &memory.itself);
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
    for places in places.chunk_by(|one, next| one.0 == next.0) {
        let mut wanted: Vec<u64> = places.iter().map(|place| addresses[place.1].0).collect();
        wanted.sort_unstable();
        let Some(tables) = debug.tables(places[0].0, &wanted) else {
            continue;
        };
        if tables.lack.is_some() {
            batch.lack.replace(tables.lack.clone());
        }
        for &(_, number) in places {
            found[number] = calls_at(&debug, &tables, addresses[number].0);
        }
    }
    // Without one of the sections an inlined line could stand under an outer name.
    let refused = match batch.refused.get() {
        None if elf.source().is_out() && found.iter().all(Vec::is_empty) => Some(Refused::TimedOut),
        refused => refused,
    };
    if refused.is_some() {
        return Lines::none(addresses.len(), refused);
    }
    Lines {
        calls: found,
        lack: batch.lack.take(),
    }
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
    let Some(inlined) = tables.functions.holding(address) else {
        return Vec::new();
    };
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

#[cfg(all(test, feature = "dwz", feature = "split"))]
mod others_tests;
#[cfg(test)]
mod tests;
