//! Finds the parts of an ELF file that names and stack walks need.
//!
//! The section headers are the first choice. What they lack (a program cut by `sstrip`
//! has none) comes from the segments: build-id from the notes,
//! `.eh_frame` through the header that `PT_GNU_EH_FRAME` points to, symbols from
//! the dynamic section. Sections without bytes in the file (a debug file's
//! `.eh_frame`) or with compressed ones count as missing.

use goblin::container::Ctx;
use goblin::elf::header::{self, Header};
use goblin::elf::section_header::{self, SectionHeader};

use super::debuglink::DebugLink;
use super::dynamic;
use super::gopclntab::GoTable;
use super::place::{CodeSection, Place};
use super::plt::Plt;
use super::source::{FileRange, Source};
#[cfg(feature = "dwz")]
use super::supplement::SupplementLink;
use super::symtab::SymbolTable;
use super::{Segment, Segments};
use crate::base::bytes::{string_at, Cursor};
use crate::unwind::{CfiSection, WALKS_ARM};

/// `ld` makes some forty; `-ffunction-sections` without a linker script thousands.
const MAX_SECTIONS: usize = 4096;
const MAX_SECTION_NAMES: u64 = 64 * 1024;
/// The same of an object: each function may have sections of its own, and LLVM keeps their
/// names with those of symbols.
const MAX_OBJECT_SECTIONS: usize = 64 * 1024;
const MAX_OBJECT_NAMES: u64 = 16 << 20;
/// What is longer is not the name of a section that is wanted.
const MAX_SECTION_NAME: usize = 256;
/// Code sections whose ends are remembered.
const MAX_CODE_SECTIONS: usize = 64;
const MAX_NOTES: u64 = 64 * 1024;
/// Units of work for a section.
const SECTION: u64 = 128;
/// SHA-1 has 20 bytes, the longest that linkers make 32.
const MAX_BUILD_ID: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) eh_frame_hdr: Option<Place>,
    pub(crate) eh_frame: Option<Place>,
    pub(crate) debug_frame: Option<Place>,
    pub(crate) arm_index: Option<Place>,
    pub(crate) symtab: Option<SymbolTable>,
    pub(crate) dynsym: Option<SymbolTable>,
    pub(crate) build_id: Option<Box<[u8]>>,
    pub(crate) debug_link: Option<DebugLink>,
    pub(crate) go: Option<GoTable>,
    pub(crate) plt: Plt,
    #[cfg(feature = "minidebuginfo")]
    pub(crate) packed: Option<FileRange>,
    #[cfg(feature = "lines")]
    pub(crate) debug: super::debug::Sections,
    /// Those of split units.
    #[cfg(feature = "split")]
    pub(crate) split: super::debug::Sections,
    #[cfg(feature = "dwz")]
    pub(crate) supplement: Option<super::supplement::SupplementLink>,
}

impl Layout {
    /// What the section headers say; `None` if there are none.
    pub(crate) fn from_sections(source: &Source, header: &Header, ctx: Ctx) -> Option<Self> {
        let sections = read_sections(source, header, ctx)?;
        let names_index = match header.e_shstrndx {
            // SHN_XINDEX: it did not fit.
            0xffff => usize::try_from(sections.first()?.sh_link).ok()?,
            index => usize::from(index),
        };
        let names = sections
            .get(names_index)
            .map(|section| range(section).within(source.size()))
            .filter(|range| match header.e_type {
                header::ET_REL => range.size <= MAX_OBJECT_NAMES,
                _ => range.size <= MAX_SECTION_NAMES,
            })
            .and_then(|range| source.read_vec(range.offset, usize::try_from(range.size).ok()?))
            .unwrap_or_default();

        let code: Box<[CodeSection]> = sections
            .iter()
            .enumerate()
            .filter(|(_, section)| section.is_executable())
            .take(MAX_CODE_SECTIONS)
            .map(|(index, section)| CodeSection {
                index,
                end: section.sh_addr.saturating_add(section.sh_size),
            })
            .collect();

        let mut layout = Layout::default();
        for section in &sections {
            if !source.work(SECTION) {
                break;
            }
            layout.take(source, ctx, section, &names, &sections);
            let name = name(&names, section);
            #[cfg(feature = "lines")]
            if section.sh_type != section_header::SHT_NOBITS {
                let range = range(section).within(source.size());
                let compressed = is_compressed(section).then_some(ctx.container);
                layout.debug.take(source, name, range, compressed);
                #[cfg(feature = "split")]
                if name.ends_with(b"_index") {
                    layout.split.take(source, name, range, compressed);
                } else if let Some(name) = name.strip_suffix(b".dwo") {
                    layout.split.take(source, name, range, compressed);
                }
            }
            if let Some(place) = place(source, section) {
                layout
                    .plt
                    .take(name, place, section.sh_entsize, header.e_machine);
            }
        }
        for table in [&mut layout.symtab, &mut layout.dynsym]
            .into_iter()
            .flatten()
        {
            table.code.clone_from(&code);
        }
        Some(layout)
    }

    fn take(
        &mut self,
        source: &Source,
        ctx: Ctx,
        section: &SectionHeader,
        names: &[u8],
        all: &[SectionHeader],
    ) {
        let Some(place) = place(source, section) else {
            return;
        };
        match section.sh_type {
            section_header::SHT_SYMTAB => self.symtab = table(source, ctx, section, all),
            section_header::SHT_DYNSYM => self.dynsym = table(source, ctx, section, all),
            _ => {}
        }
        match name(names, section) {
            b".eh_frame_hdr" => self.eh_frame_hdr = Some(place),
            b".eh_frame" => self.eh_frame = Some(place),
            b".ARM.exidx" if WALKS_ARM => self.arm_index = Some(place),
            b".debug_frame" => self.debug_frame = Some(place),
            b".gnu_debuglink" => self.debug_link = DebugLink::read(source, place.range),
            #[cfg(feature = "dwz")]
            b".gnu_debugaltlink" => {
                self.supplement = SupplementLink::read_gnu(source, place.range);
            }
            #[cfg(feature = "dwz")]
            b".debug_sup" if self.supplement.is_none() => {
                self.supplement = SupplementLink::read(source, place.range);
            }
            #[cfg(feature = "minidebuginfo")]
            b".gnu_debugdata" => self.packed = Some(place.range),
            b".gopclntab" => self.go = GoTable::read(source, place.range),
            b".note.gnu.build-id" if self.build_id.is_none() => {
                self.build_id = read_build_id(source, place.range);
            }
            _ => {}
        }
    }

    /// Adds from the segments what the section headers lack.
    pub(crate) fn complete(&mut self, source: &Source, ctx: Ctx, segments: &Segments) {
        if self.build_id.is_none() {
            let notes = segments.notes.iter().take(16);
            self.build_id = notes
                .into_iter()
                .find_map(|&note| read_build_id(source, note));
        }
        if self.eh_frame_hdr.is_none() {
            self.eh_frame_hdr = segments
                .eh_frame_hdr
                .map(|Segment { address, range }| Place {
                    address,
                    range: range.within(source.size()),
                });
        }
        if self.arm_index.is_none() {
            self.arm_index = segments.arm_index.map(|Segment { address, range }| Place {
                address,
                range: range.within(source.size()),
            });
        }
        if self.eh_frame.is_none() {
            self.eh_frame = self
                .eh_frame_hdr
                .and_then(|header| eh_frame_from_header(source, ctx, segments, header));
        }
        if self.dynsym.is_none() {
            self.dynsym = dynamic::symbol_table(source, ctx, segments);
        }
    }

    pub(crate) fn cfi(&self, section: CfiSection) -> Option<Place> {
        match section {
            CfiSection::EhFrameHdr => self.eh_frame_hdr,
            CfiSection::EhFrame => self.eh_frame,
            CfiSection::DebugFrame => self.debug_frame,
            CfiSection::ArmIndex => self.arm_index,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        let code = self.symtab.as_ref().map_or(0, |table| table.code.len());
        code * size_of::<CodeSection>()
            + self.plt.memory()
            + self.build_id.as_ref().map_or(0, |id| id.len())
            + self.debug_link.as_ref().map_or(0, |link| link.name.len())
    }
}

fn name<'n>(names: &'n [u8], section: &SectionHeader) -> &'n [u8] {
    let end = section.sh_name.saturating_add(MAX_SECTION_NAME);
    let names = names.get(..end).unwrap_or(names);
    string_at(names, section.sh_name).unwrap_or(b"")
}

/// Where a section is, if it has bytes that can be read as they are.
fn place(source: &Source, section: &SectionHeader) -> Option<Place> {
    let readable = section.sh_type != section_header::SHT_NOBITS && !is_compressed(section);
    readable.then(|| Place {
        address: section.sh_addr,
        range: range(section).within(source.size()),
    })
}

fn is_compressed(section: &SectionHeader) -> bool {
    section.sh_flags & u64::from(section_header::SHF_COMPRESSED) != 0
}

fn range(section: &SectionHeader) -> FileRange {
    FileRange {
        offset: section.sh_offset,
        size: section.sh_size,
    }
}

fn read_sections(source: &Source, header: &Header, ctx: Ctx) -> Option<Vec<SectionHeader>> {
    let entry = SectionHeader::size(ctx);
    if header.e_shoff == 0 || usize::from(header.e_shentsize) != entry {
        return None;
    }
    let parse = |count: usize| {
        let bytes = source.read_vec(header.e_shoff, count.checked_mul(entry)?)?;
        SectionHeader::parse_from(&bytes, 0, count, ctx).ok()
    };
    let count = match usize::from(header.e_shnum) {
        // More than fit there: section 0 has the number.
        0 => usize::try_from(parse(1)?.first()?.sh_size).ok()?,
        count => count,
    };
    let most = match header.e_type {
        header::ET_REL => MAX_OBJECT_SECTIONS,
        _ => MAX_SECTIONS,
    };
    (1..=most).contains(&count).then(|| parse(count))?
}

fn table(
    source: &Source,
    ctx: Ctx,
    section: &SectionHeader,
    all: &[SectionHeader],
) -> Option<SymbolTable> {
    let strings = all.get(usize::try_from(section.sh_link).ok()?)?;
    if strings.sh_type != section_header::SHT_STRTAB {
        return None;
    }
    let symbols = range(section).within(source.size());
    let dynamic = section.sh_type == section_header::SHT_DYNSYM;
    SymbolTable::new(ctx, symbols, range(strings), dynamic)
}

/// The descriptor of the first `NT_GNU_BUILD_ID` among these notes.
fn read_build_id(source: &Source, notes: FileRange) -> Option<Box<[u8]>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let notes = notes.within(source.size());
    let size = usize::try_from(notes.size.min(MAX_NOTES)).ok()?;
    let bytes = source.read_vec(notes.offset, size)?;
    let mut cursor = Cursor::new(&bytes);
    loop {
        let name_len = usize::try_from(cursor.u32().ok()?).ok()?;
        let len = usize::try_from(cursor.u32().ok()?).ok()?;
        let kind = cursor.u32().ok()?;
        let name = cursor.take(name_len).ok()?;
        cursor.skip(name_len.wrapping_neg() % 4).ok()?;
        let value = cursor.take(len).ok()?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=MAX_BUILD_ID).contains(&len).then(|| value.into());
        }
        cursor.skip(len.wrapping_neg() % 4).ok()?;
    }
}

/// `.eh_frame` by way of its search table: from the address that its header
/// holds to the end of the segment. A walk of it ends at its terminator.
fn eh_frame_from_header(
    source: &Source,
    ctx: Ctx,
    segments: &Segments,
    header: Place,
) -> Option<Place> {
    // LSB, "DWARF Exception Header Encoding".
    const ABSOLUTE: u8 = 0x00;
    const PC_RELATIVE: u8 = 0x10;
    const DATA_RELATIVE: u8 = 0x30;
    let mut bytes = [0; 12];
    let len = source.read_at(header.range.offset, &mut bytes);
    let mut cursor = Cursor::new(&bytes[..len]);
    let [version, encoding, _, _] = cursor.array().ok()?;
    if version != 1 {
        return None;
    }
    let value = match encoding & 0x0f {
        0x00 if ctx.is_big() => cursor.u64().ok()?,
        0x04 | 0x0c => cursor.u64().ok()?,
        0x00 | 0x03 => u64::from(cursor.u32().ok()?),
        0x0b => i64::from(cursor.i32().ok()?).cast_unsigned(),
        _ => return None,
    };
    let base = match encoding & 0xf0 {
        ABSOLUTE => 0,
        PC_RELATIVE => header.address.wrapping_add(4),
        DATA_RELATIVE => header.address,
        _ => return None,
    };
    let address = base.wrapping_add(value);
    let address = if ctx.is_big() {
        address
    } else {
        address & 0xffff_ffff
    };
    let (offset, size) = segments.locate(address)?;
    let range = FileRange { offset, size }.within(source.size());
    Some(Place { address, range })
}
