//! Finds the sections of source-line information: DWARF's `.debug_*`.

use goblin::container::Container;

use super::source::{FileRange, Source};
use crate::base::bytes::Cursor;

/// The sections that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Info,
    Abbrev,
    Line,
    Aranges,
    Ranges,
    Rnglists,
    Str,
    LineStr,
    StrOffsets,
    Addr,
    /// Of a package of split units.
    CuIndex,
}

impl Section {
    pub const COUNT: usize = Section::CuIndex as usize + 1;

    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"debug_info" => Section::Info,
            b"debug_abbrev" => Section::Abbrev,
            b"debug_line" => Section::Line,
            b"debug_aranges" => Section::Aranges,
            b"debug_ranges" => Section::Ranges,
            b"debug_rnglists" => Section::Rnglists,
            b"debug_str" => Section::Str,
            b"debug_line_str" => Section::LineStr,
            b"debug_str_offsets" => Section::StrOffsets,
            b"debug_addr" => Section::Addr,
            b"debug_cu_index" => Section::CuIndex,
            _ => return None,
        })
    }
}

/// How a section is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Zlib,
    Zstd,
    /// Sections called `.zdebug_*`.
    ZlibGnu,
    Other,
}

/// A compressed section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    pub form: Compression,
    /// The bytes that it unpacks to, as its header says.
    pub size: u64,
}

/// Where a section is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Without the header of a compressed one.
    pub range: FileRange,
    pub packed: Option<Packed>,
}

impl Stored {
    /// A section with the flag `SHF_COMPRESSED`. System V ABI, "Section Compression".
    fn compressed(source: &Source, range: FileRange, wide: bool) -> Self {
        let mut header = [0; 24];
        let header = &mut header[..if wide { 24 } else { 12 }];
        let is_read = header.len() as u64 <= range.size;
        let is_read = is_read && source.read_exact(range.offset, header).is_some();
        let mut cursor = Cursor::new(header);
        let form = match cursor.u32() {
            Ok(1) if is_read => Compression::Zlib,
            Ok(2) if is_read => Compression::Zstd,
            _ => Compression::Other,
        };
        let size = match wide {
            true => cursor.skip(4).and_then(|()| cursor.u64()),
            false => cursor.u32().map(u64::from),
        };
        Stored::behind(range, header.len(), form, size.unwrap_or(0))
    }

    /// A section called `.zdebug_*`: `ZLIB` and the size, its most significant byte first.
    fn called_compressed(source: &Source, range: FileRange) -> Self {
        let mut header = [0; 12];
        let is_read = source.read_exact(range.offset, &mut header).is_some();
        let [magic @ .., _, _, _, _, _, _, _, _] = header;
        let [_, _, _, _, size @ ..] = header;
        let form = match is_read && range.size >= 12 && magic == *b"ZLIB" {
            true => Compression::ZlibGnu,
            false => Compression::Other,
        };
        Stored::behind(range, header.len(), form, u64::from_be_bytes(size))
    }

    fn behind(range: FileRange, header: usize, form: Compression, size: u64) -> Self {
        Stored {
            range: FileRange {
                offset: range.offset.saturating_add(header as u64),
                size: range.size.saturating_sub(header as u64),
            },
            packed: Some(Packed { form, size }),
        }
    }
}

/// Where the sections are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections([Stored; Section::COUNT]);

impl Sections {
    /// Takes a section if it is a wanted one.
    pub(crate) fn take(
        &mut self,
        source: &Source,
        name: &[u8],
        range: FileRange,
        compressed: Option<Container>,
    ) {
        let is_called_so = name.starts_with(b".z");
        let section = match name.split_at_checked(2) {
            Some((b".z", rest)) => Section::of(rest),
            Some((b".d", _)) => Section::of(&name[1..]),
            _ => None,
        };
        let Some(section) = section else { return };
        self.0[section as usize] = match compressed {
            _ if is_called_so => Stored::called_compressed(source, range),
            Some(container) => Stored::compressed(source, range, container == Container::Big),
            None => Stored {
                range,
                packed: None,
            },
        };
    }

    /// A compressed one, and how many bytes all of them have when they are unpacked.
    #[must_use]
    pub fn packed(&self) -> Option<(Compression, u64)> {
        let packed = self.0.iter().filter_map(|stored| stored.packed);
        let sizes = packed.map(|packed| (packed.form, packed.size));
        sizes.reduce(|sum, next| (sum.0, sum.1.saturating_add(next.1)))
    }

    #[must_use]
    pub fn exist(&self) -> bool {
        self.get(Section::Info).range.size > 0
    }

    /// All of them, in the order of [`Section`]; empty if there is none.
    #[cfg(test)]
    pub(in crate::symbols) fn all(&self) -> &[Stored] {
        &self.0
    }

    #[must_use]
    pub fn get(&self, section: Section) -> Stored {
        self.0[section as usize]
    }
}
