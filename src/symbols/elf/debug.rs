//! Finds the sections of source-line information: DWARF's `.debug_*`.

use super::source::FileRange;

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
}

impl Section {
    const COUNT: usize = Section::Addr as usize + 1;

    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b".debug_info" => Section::Info,
            b".debug_abbrev" => Section::Abbrev,
            b".debug_line" => Section::Line,
            b".debug_aranges" => Section::Aranges,
            b".debug_ranges" => Section::Ranges,
            b".debug_rnglists" => Section::Rnglists,
            b".debug_str" => Section::Str,
            b".debug_line_str" => Section::LineStr,
            b".debug_str_offsets" => Section::StrOffsets,
            b".debug_addr" => Section::Addr,
            _ => return None,
        })
    }
}

/// Where the sections are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections {
    ranges: [FileRange; Section::COUNT],
    compressed: bool,
}

impl Sections {
    /// Takes a section if it is a wanted one.
    pub(crate) fn take(&mut self, name: &[u8], range: FileRange, compressed: bool) {
        if let Some(section) = Section::of(name) {
            self.compressed |= compressed;
            self.ranges[section as usize] = range;
        }
    }

    /// Whether one of them is compressed.
    #[must_use]
    pub fn are_compressed(&self) -> bool {
        self.compressed
    }

    #[must_use]
    pub fn exist(&self) -> bool {
        self.range(Section::Info).size > 0
    }

    /// Bytes that a search may have to read.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range(Section::Info)
            .size
            .saturating_add(self.range(Section::Line).size)
    }

    /// Of all sections, in the order of [`Section`]; empty if there is none.
    #[must_use]
    pub fn ranges(&self) -> &[FileRange] {
        &self.ranges
    }

    #[must_use]
    pub fn range(&self, section: Section) -> FileRange {
        self.ranges[section as usize]
    }
}
