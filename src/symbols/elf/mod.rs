//! One ELF file: what a stack walk and a symbol lookup need to know about it.
//!
//! Bytes come in through a [`Source`], read in windows. [`ElfFile::parse`] keeps a few
//! hundred bytes: the segments, and the places of the sections that matter. Everything
//! also works without section headers, from the program headers and the dynamic section.
//! Counts and sizes have limits, sums are checked, and malformed data gives an
//! [`ElfError`] or a missing part, never a panic.
//!
//! ELF64 and ELF32, little-endian, programs and libraries; nothing else is accepted.
//! The format: System V ABI, chapters 4 and 5; `elf(5)`.

#[cfg(feature = "lines")]
mod debug;
mod debuglink;
mod dynamic;
mod gopclntab;
mod image;
#[cfg(feature = "lines")]
mod inflate;
mod layout;
#[cfg(feature = "minidebuginfo")]
mod minidebug;
#[cfg(any(feature = "dwz", feature = "split"))]
mod other;
mod place;
mod plt;
mod source;
#[cfg(feature = "split")]
mod split;
mod starts;
#[cfg(feature = "dwz")]
mod supplement;
mod symtab;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header;
use goblin::elf::program_header::{self, ProgramHeader};
use goblin::elf::Elf;

use crate::base::address::{FileAddress, FileOffset};
use crate::unwind::{CfiSection, SectionRange, WALKS_ARM};

#[cfg(feature = "lines")]
pub use debug::{Compression, Packed, Section, Sections, Stored};
pub use debuglink::{crc32, find_debug_file, DebugDirs, DebugLink, Home};
pub use image::Image;
#[cfg(feature = "lines")]
pub use inflate::{inflate, Trouble, NS_PER_BYTE};
use layout::Layout;
#[cfg(any(feature = "dwz", feature = "split"))]
pub use other::open_other;
pub use source::{FileRange, Source, MAX_NAME};
#[cfg(feature = "split")]
pub use split::{package_places, split_places};
pub use starts::{Holder, Starts};
#[cfg(feature = "dwz")]
pub use supplement::{find_supplement, SupplementLink};
use symtab::SymbolTable;
pub use symtab::{Answer, Found};

/// Why a file was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// The first bytes are not those of an ELF file.
    NotElf,
    BigEndian,
    /// Neither a program nor a library: `e_type`.
    Kind(u16),
    /// Larger than the limit.
    TooLarge(u64),
    /// Its headers were not read to their end.
    TimeLimit,
    /// A header is cut off or says what cannot be.
    Malformed(&'static str),
}

impl ElfError {
    /// A few words for a report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ElfError::NotElf => "not an ELF file",
            ElfError::BigEndian => "big-endian ELF file",
            ElfError::Kind(_) => "not a program or library",
            ElfError::TooLarge(_) => "file too large",
            ElfError::TimeLimit => "time limit: the file's headers not read to their end",
            ElfError::Malformed(_) => "malformed ELF file",
        }
    }
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::Kind(kind) => write!(f, "{} (e_type {kind})", self.as_str()),
            ElfError::TooLarge(size) => write!(f, "{} ({size} bytes)", self.as_str()),
            ElfError::Malformed(part) => write!(f, "{}: {part}", self.as_str()),
            _ => f.write_str(self.as_str()),
        }
    }
}

impl std::error::Error for ElfError {}

/// No real program is larger; a file that claims to be is hostile.
const MAX_FILE: u64 = 16 << 30;
/// Linkers make about a dozen; the kernel itself takes 64 KB of them.
const MAX_SEGMENTS: usize = 256;

/// `.ARM.exidx` (Arm IHI 0044, section 6.1).
const PT_ARM_EXIDX: u32 = 0x7000_0001;

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub address: FileAddress,
    pub offset: FileOffset,
    pub file_size: u64,
    pub memory_size: u64,
    pub executable: bool,
    pub writable: bool,
}

/// A segment that is not loaded, or part of one: where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    address: u64,
    range: FileRange,
}

/// The segments of interest.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    loads: Vec<Load>,
    dynamic: Option<Segment>,
    eh_frame_hdr: Option<Segment>,
    arm_index: Option<Segment>,
    notes: Vec<FileRange>,
}

impl Segments {
    /// The file offset of an address, and how many bytes of the file follow it
    /// within its segment.
    fn locate(&self, address: u64) -> Option<(u64, u64)> {
        self.loads.iter().find_map(|load| {
            let within = address.checked_sub(load.address.0)?;
            let left = load
                .file_size
                .checked_sub(within)
                .filter(|&left| left > 0)?;
            Some((load.offset.0.checked_add(within)?, left))
        })
    }
}

/// The two symbol tables that a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `.symtab`: everything, unless it was stripped.
    Full,
    /// `.dynsym`: symbols that other files may refer to.
    Dynamic,
}

/// A parsed file with its bytes.
#[derive(Debug)]
pub struct ElfFile {
    source: Source,
    ctx: Ctx,
    machine: u16,
    entry: FileAddress,
    segments: Segments,
    layout: Layout,
}

impl ElfFile {
    pub fn parse(source: Source) -> Result<Self, ElfError> {
        let (header, ctx) = parse_header(&source)?;
        match header.e_type {
            header::ET_EXEC | header::ET_DYN => ElfFile::with_header(source, &header, ctx),
            kind => Err(ElfError::Kind(kind)),
        }
    }

    /// The same of a file that has nothing but debug information, and may be an object.
    #[cfg(any(feature = "dwz", feature = "split"))]
    pub fn parse_debug(source: Source) -> Result<Self, ElfError> {
        let (header, ctx) = parse_header(&source)?;
        ElfFile::with_header(source, &header, ctx)
    }

    fn with_header(source: Source, header: &header::Header, ctx: Ctx) -> Result<Self, ElfError> {
        let segments = parse_segments(&source, header, ctx)?;
        let mut layout = Layout::from_sections(&source, header, ctx).unwrap_or_default();
        layout.complete(&source, ctx, &segments);
        if source.is_out() {
            return Err(ElfError::TimeLimit);
        }
        Ok(ElfFile {
            source,
            ctx,
            machine: header.e_machine,
            entry: FileAddress(match header.e_machine {
                // Bit 0 marks Thumb code.
                header::EM_ARM => header.e_entry & !1,
                _ => header.e_entry,
            }),
            segments,
            layout,
        })
    }

    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where execution begins; `None` for a library that is not run itself.
    #[must_use]
    pub fn entry(&self) -> Option<FileAddress> {
        (self.entry.0 != 0).then_some(self.entry)
    }

    #[must_use]
    pub fn is_64_bit(&self) -> bool {
        self.ctx.is_big()
    }

    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.layout.build_id.as_deref()
    }

    #[must_use]
    pub fn debug_link(&self) -> Option<&DebugLink> {
        self.layout.debug_link.as_ref()
    }

    #[must_use]
    pub fn loads(&self) -> &[Load] {
        &self.segments.loads
    }

    /// Whether Go's compiler made it: its code keeps frame pointers everywhere.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.layout.go.is_some()
    }

    /// Whether it has a full symbol table, not only that of the dynamic linker.
    #[must_use]
    pub fn has_symtab(&self) -> bool {
        self.layout.symtab.is_some()
    }

    /// The place of a section of call-frame information.
    #[must_use]
    pub fn section(&self, section: CfiSection) -> Option<SectionRange> {
        let place = self.layout.cfi(section)?;
        Some(SectionRange {
            address: FileAddress(place.address),
            size: place.range.size,
        })
    }

    /// The file offset of a section of call-frame information.
    #[must_use]
    pub fn section_range(&self, section: CfiSection) -> Option<FileRange> {
        Some(self.layout.cfi(section)?.range)
    }

    /// The file offset of an address, and how many bytes of the file follow it
    /// within its segment.
    #[must_use]
    pub fn file_offset(&self, address: FileAddress) -> Option<(FileOffset, u64)> {
        let (offset, left) = self.segments.locate(address.0)?;
        Some((FileOffset(offset), left))
    }

    /// The function that holds each address, by all tables of this file.
    /// `addresses` may come in any order; the answers come in theirs. `None` when
    /// the allowance is used up.
    #[must_use]
    pub fn functions(&self, addresses: &[FileAddress]) -> Option<Vec<Answer>> {
        let mut answers = vec![Answer::unknown(); addresses.len()];
        self.add_functions(Table::Full, addresses, &mut answers)?;
        self.add_functions(Table::Dynamic, addresses, &mut answers)?;
        self.add_go_functions(addresses, &mut answers);
        self.add_stubs(addresses, &mut answers);
        Some(answers)
    }

    /// Adds what one table knows to `answers`, of which there is one for each
    /// address; an answer that has a symbol keeps it. `None` when the allowance
    /// is used up.
    #[must_use]
    pub fn add_functions(
        &self,
        table: Table,
        addresses: &[FileAddress],
        answers: &mut [Answer],
    ) -> Option<()> {
        match self.table(table) {
            Some(table) => {
                table.functions(&self.source, self.ctx, self.machine, addresses, answers)
            }
            None => Some(()),
        }
    }

    /// Where the function of that name begins that other files may call.
    #[cfg(feature = "desk")]
    #[must_use]
    pub fn function_named(&self, name: &[u8]) -> Option<FileAddress> {
        let tables = [Table::Full, Table::Dynamic].into_iter();
        let mut tables = tables.filter_map(|table| self.table(table));
        tables.find_map(|table| table.function_named(&self.source, self.ctx, self.machine, name))
    }

    /// The variable that holds an address, by one table.
    #[must_use]
    pub fn variable(&self, table: Table, address: FileAddress) -> Option<Found> {
        self.table(table)?.variable(&self.source, self.ctx, address)
    }

    /// An index of a table's functions; an empty one where there is no such table, and
    /// none where it has too many.
    #[must_use]
    pub fn starts(&self, table: Table) -> Option<Starts> {
        let base = self.segments.loads.iter().map(|load| load.address.0).min();
        match self.table(table) {
            Some(table) => table.starts(&self.source, self.ctx, self.machine, base?),
            None => Some(Starts::default()),
        }
    }

    /// The same from the table that every Go program has.
    pub fn add_go_functions(&self, addresses: &[FileAddress], answers: &mut [Answer]) {
        if let Some(table) = &self.layout.go {
            table.functions(&self.source, addresses, answers);
        }
    }

    /// The same from the stubs through which the file calls others: `puts@plt`.
    pub fn add_stubs(&self, addresses: &[FileAddress], answers: &mut [Answer]) {
        if let Some(dynsym) = &self.layout.dynsym {
            let (plt, machine) = (&self.layout.plt, self.machine);
            plt.functions(&self.source, self.ctx, machine, dynsym, addresses, answers);
        }
    }

    /// The file with the symbols that were packed into this one.
    #[cfg(feature = "minidebuginfo")]
    #[must_use]
    pub fn packed_symbols(&self) -> Option<ElfFile> {
        minidebug::unpack(&self.source, self.layout.packed?)
    }

    /// The sections with lines and inlined calls.
    #[cfg(feature = "lines")]
    #[must_use]
    pub fn debug_sections(&self) -> &Sections {
        &self.layout.debug
    }

    /// The same of split units.
    #[must_use]
    #[cfg(feature = "split")]
    pub fn split_sections(&self) -> &Sections {
        &self.layout.split
    }

    /// There are none in this build.
    #[must_use]
    #[cfg(all(feature = "lines", not(feature = "split")))]
    pub fn split_sections(&self) -> &Sections {
        &self.layout.debug
    }

    /// What leads to the file with what it has in common with others.
    #[cfg(feature = "dwz")]
    #[must_use]
    pub fn supplement_link(&self) -> Option<&SupplementLink> {
        self.layout.supplement.as_ref()
    }

    fn table(&self, table: Table) -> Option<&SymbolTable> {
        match table {
            Table::Full => self.layout.symtab.as_ref(),
            Table::Dynamic => self.layout.dynsym.as_ref(),
        }
    }

    /// Heap bytes that this holds, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.source.memory_bytes()
            + self.layout.memory()
            + self.segments.loads.capacity() * size_of::<Load>()
            + self.segments.notes.capacity() * size_of::<FileRange>()
    }
}

fn parse_header(source: &Source) -> Result<(header::Header, Ctx), ElfError> {
    if source.size() > MAX_FILE {
        return Err(ElfError::TooLarge(source.size()));
    }
    let mut bytes = [0; header::header64::SIZEOF_EHDR];
    let len = source.read_at(0, &mut bytes);
    let bytes = &bytes[..len];
    if !bytes.starts_with(header::ELFMAG) {
        return Err(ElfError::NotElf);
    }
    let container = match bytes.get(header::EI_CLASS) {
        Some(&header::ELFCLASS64) => Container::Big,
        Some(&header::ELFCLASS32) => Container::Little,
        _ => return Err(ElfError::Malformed("class")),
    };
    match bytes.get(header::EI_DATA) {
        Some(&header::ELFDATA2LSB) => {}
        Some(&header::ELFDATA2MSB) => return Err(ElfError::BigEndian),
        _ => return Err(ElfError::Malformed("byte order")),
    }
    let header = Elf::parse_header(bytes).map_err(|_| ElfError::Malformed("header"))?;
    Ok((header, Ctx::new(container, Endian::Little)))
}

fn parse_segments(
    source: &Source,
    header: &header::Header,
    ctx: Ctx,
) -> Result<Segments, ElfError> {
    let count = usize::from(header.e_phnum);
    let entry = ProgramHeader::size(ctx);
    if count > MAX_SEGMENTS || (count > 0 && usize::from(header.e_phentsize) != entry) {
        return Err(ElfError::Malformed("program headers"));
    }
    let headers = source
        .read_vec(header.e_phoff, count * entry)
        .and_then(|bytes| ProgramHeader::parse(&bytes, 0, count, ctx).ok())
        .ok_or(ElfError::Malformed("program headers"))?;

    let is_arm = WALKS_ARM && header.e_machine == header::EM_ARM;
    let mut segments = Segments::default();
    for header in &headers {
        let segment = Segment {
            address: header.p_vaddr,
            range: FileRange {
                offset: header.p_offset,
                size: header.p_filesz,
            },
        };
        match header.p_type {
            program_header::PT_LOAD => segments.loads.push(Load {
                address: FileAddress(header.p_vaddr),
                offset: FileOffset(header.p_offset),
                file_size: header.p_filesz,
                memory_size: header.p_memsz,
                executable: header.is_executable(),
                writable: header.is_write(),
            }),
            program_header::PT_DYNAMIC => segments.dynamic = Some(segment),
            PT_ARM_EXIDX if is_arm => segments.arm_index = Some(segment),
            program_header::PT_GNU_EH_FRAME => segments.eh_frame_hdr = Some(segment),
            program_header::PT_NOTE => segments.notes.push(segment.range),
            _ => {}
        }
    }
    Ok(segments)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
