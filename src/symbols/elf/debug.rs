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

/// How sections are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Zlib,
    Zstd,
    /// Sections called `.zdebug_*`.
    ZlibGnu,
    Other,
}

impl Compression {
    /// Of a section with the flag `SHF_COMPRESSED`, by the first field of its header.
    pub(crate) fn of(kind: u32) -> Self {
        match kind {
            1 => Compression::Zlib,
            2 => Compression::Zstd,
            _ => Compression::Other,
        }
    }

    /// Why it is not read, in a few words.
    #[must_use]
    pub fn refusal(self) -> &'static str {
        match self {
            Compression::Zlib => "compressed debug information (zlib)",
            Compression::Zstd => "compressed debug information (zstd)",
            Compression::ZlibGnu => "compressed debug information (zlib-gnu)",
            Compression::Other => "compressed debug information",
        }
    }
}

/// Where the sections are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections {
    ranges: [FileRange; Section::COUNT],
    compressed: Option<Compression>,
}

impl Sections {
    /// Takes a section if it is a wanted one.
    pub(crate) fn take(&mut self, name: &[u8], range: FileRange, form: Option<Compression>) {
        let (name, form) = match name.strip_prefix(b".z") {
            Some(rest) => ([b".", rest].concat(), Some(Compression::ZlibGnu)),
            None => (name.to_vec(), form),
        };
        if let Some(section) = Section::of(&name) {
            self.compressed = self.compressed.or(form);
            self.ranges[section as usize] = range;
        }
    }

    /// How one of them is compressed.
    #[must_use]
    pub fn compressed(&self) -> Option<Compression> {
        self.compressed
    }

    #[must_use]
    pub fn exist(&self) -> bool {
        self.range(Section::Info).size > 0
    }

    /// Of all sections, in the order of [`Section`]; empty if there is none.
    #[cfg(test)]
    pub(in crate::symbols) fn ranges(&self) -> &[FileRange] {
        &self.ranges
    }

    #[must_use]
    pub fn range(&self, section: Section) -> FileRange {
        self.ranges[section as usize]
    }
}
