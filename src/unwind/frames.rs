//! Entries of `.eh_frame` and `.debug_frame`: their place, the code that they describe,
//! and their bytes.
//!
//! ```text
//! u32 length (0xffffffff: u64 length follows)  | the rest counts from here
//! u32 or u64 id: a CIE's own mark, else the place of the FDE's CIE
//! CIE: version, augmentation, ...  FDE: start of its code, length, ...
//! ```
//!
//! (LSB "Exception Frames"; DWARF 5, 6.4.1.) Sections are read in windows. The
//! instructions in them are not decoded here, and hostile lengths end a pass early.

use super::cache::{Caches, Index, IndexEntry};
use super::eh_hdr::{encoding, uleb128, value};
use super::{CfiSection, ModuleData, SectionRange};
use crate::base::address::FileAddress;
use crate::base::bytes::Cursor;
use crate::keyed::Map;

/// Longest entry that is read. The longest in Debian's libraries has 12 KB.
const MAX_ENTRY: u64 = 64 << 10;
/// Bytes of a section that a pass goes over.
pub(super) const MAX_PASS: u64 = 16 << 20;
/// Entries of an index: 2 MB.
const MAX_INDEX: usize = 1 << 17;
/// CIEs that a pass remembers.
const MAX_CIES: usize = 4096;
const WINDOW: u64 = 32 << 10;
/// Units of work for an entry that a pass goes over.
const PER_ENTRY: u64 = 32;
/// Enough of an entry for its head and the addresses of its code.
const HEAD: u64 = 4 + 8 + 8 + 2 * 10;
/// The bytes of an entry that are read first: most entries are shorter.
const FIRST_READ: u64 = 256;

/// One section of one file.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) data: &'a dyn ModuleData,
    pub(super) kind: CfiSection,
    pub(super) range: SectionRange,
}

/// An entry's bytes, length field included.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) head: Head,
}

impl Entry {
    /// The offset of the bytes after its id.
    pub(super) fn body_at(&self) -> usize {
        self.head.id_at + self.head.id_len
    }

    pub(super) fn body(&self) -> Option<&[u8]> {
        self.bytes.get(self.body_at()..)
    }
}

/// An entry's first fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the whole entry.
    pub(super) len: u64,
    /// The offset of the id in the entry, and its size.
    pub(super) id_at: usize,
    pub(super) id_len: usize,
    /// Section offset of its CIE; `None` for a CIE.
    pub(super) cie: Option<u64>,
}

/// What a pass over a section found.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Offset of the entry that holds the address.
    pub(super) found: Option<u64>,
    /// How many entries there are for code.
    pub(super) count: u64,
    /// All of them, unless they are too many.
    pub(super) index: Option<Index>,
}

impl<'a> Section<'a> {
    pub(super) fn new(data: &'a dyn ModuleData, kind: CfiSection) -> Option<Self> {
        let range = data.section(kind)?;
        Some(Section { data, kind, range })
    }

    /// Reads the entry at an offset.
    pub(super) fn entry(&self, offset: u64) -> Option<Entry> {
        let left = self.range.size.checked_sub(offset)?;
        let mut bytes = vec![0; usize::try_from(left.min(FIRST_READ)).ok()?];
        self.data.read_section(self.kind, offset, &mut bytes)?;
        let head = self.head(offset, &bytes)?;
        if head.len > left.min(MAX_ENTRY) {
            return None;
        }
        let had = bytes.len();
        bytes.resize(usize::try_from(head.len).ok()?, 0);
        if let Some(rest) = bytes.get_mut(had..).filter(|rest| !rest.is_empty()) {
            let offset = offset.checked_add(had as u64)?;
            self.data.read_section(self.kind, offset, rest)?;
        }
        Some(Entry {
            offset,
            bytes,
            head,
        })
    }

    /// Reads the first fields of the entry at an offset; `None` for a length of
    /// zero, which ends `.eh_frame`.
    fn head(&self, offset: u64, bytes: &[u8]) -> Option<Head> {
        let mut cursor = Cursor::new(bytes);
        let short = cursor.u32().ok()?;
        let long = short == u32::MAX;
        let rest = if long {
            cursor.u64().ok()?
        } else {
            u64::from(short)
        };
        let id_at = cursor.offset();
        // The id of .eh_frame keeps its 4 bytes even after a long length.
        let wide = long && self.kind == CfiSection::DebugFrame;
        let (id, own, id_len) = if wide {
            (cursor.u64().ok()?, u64::MAX, 8)
        } else if self.kind == CfiSection::DebugFrame {
            (u64::from(cursor.u32().ok()?), u64::from(u32::MAX), 4)
        } else {
            (u64::from(cursor.u32().ok()?), 0, 4)
        };
        if rest < id_len as u64 {
            return None;
        }
        let cie = match self.kind {
            _ if id == own => None,
            CfiSection::DebugFrame => Some(id),
            // Counted back from the id itself.
            _ => Some((offset.checked_add(id_at as u64)?).checked_sub(id)?),
        };
        Some(Head {
            len: rest.checked_add(id_at as u64)?,
            id_at,
            id_len,
            cie,
        })
    }

    /// Goes over all entries for the one that holds an address; `None` when the
    /// allowance is used up.
    pub(super) fn pass(&self, wanted: FileAddress, caches: &Caches) -> Option<Pass> {
        let mut pass = Pass {
            index: Some(Index {
                entries: Vec::new(),
            }),
            ..Pass::default()
        };
        let mut window = Window::new(*self);
        let mut encodings = Map::default();
        let end = self.range.size.min(MAX_PASS);
        let mut offset = 0;
        while offset < end {
            caches.work(PER_ENTRY)?;
            let Some(bytes) = window.at(offset) else {
                break;
            };
            // A linker may leave a length of zero between entries of .debug_frame.
            if self.kind == CfiSection::DebugFrame && bytes.starts_with(&[0; 4]) {
                offset += 4;
                continue;
            }
            let Some(head) = self.head(offset, bytes) else {
                break;
            };
            if let Some(cie) = head.cie {
                if encodings.len() >= MAX_CIES {
                    encodings.clear();
                }
                let read = || {
                    let entry = self.entry(cie)?;
                    caches.work(entry.bytes.len() as u64)?;
                    code_encoding(self, &entry)
                };
                let encoding = *encodings.entry(cie).or_insert_with(read);
                if let Some((start, len)) =
                    encoding.and_then(|encoding| self.code(offset, &head, bytes, encoding))
                {
                    pass.add(wanted, offset, start, len);
                }
            }
            let Some(next) = offset.checked_add(head.len) else {
                break;
            };
            offset = next;
        }
        if let Some(index) = &mut pass.index {
            index.entries.sort_unstable_by_key(|entry| entry.start);
            index.entries.shrink_to_fit();
        }
        (!caches.is_out()).then_some(pass)
    }

    /// The default encoding of addresses.
    fn absolute(&self) -> u8 {
        self.sized(encoding::ABSOLUTE)
    }

    /// For an encoding whose value has the size of an address, the same with an explicit size.
    fn sized(&self, encoding: u8) -> u8 {
        match encoding & 0x0f {
            0 if self.data.address_bytes() == 4 => encoding | 0x03,
            _ => encoding,
        }
    }

    /// The start and length of the code that an FDE is for.
    fn code(
        &self,
        offset: u64,
        head: &Head,
        bytes: &[u8],
        encoding: u8,
    ) -> Option<(FileAddress, u64)> {
        let at = head.id_at + head.id_len;
        let mut cursor = Cursor::at(bytes, at);
        let start = value(&mut cursor, encoding)?;
        let base = match encoding::base(encoding) {
            encoding::ABSOLUTE => 0,
            encoding::PC_RELATIVE => self
                .range
                .address
                .0
                .wrapping_add(offset)
                .wrapping_add(at as u64),
            _ => return None,
        };
        let len = value(&mut cursor, encoding & 0x0f)?;
        Some((FileAddress(base.wrapping_add(start)), len))
    }
}

impl Pass {
    fn add(&mut self, wanted: FileAddress, offset: u64, start: FileAddress, len: u64) {
        self.count += 1;
        // The linker leaves entries of dropped functions at address 0.
        if start.0 == 0 || len == 0 {
            return;
        }
        if self.found.is_none() && wanted.offset_from(start).is_some_and(|into| into < len) {
            self.found = Some(offset);
        }
        let Some(index) = &mut self.index else {
            return;
        };
        match (u32::try_from(len), u32::try_from(offset)) {
            (Ok(len), Ok(offset)) if index.entries.len() < MAX_INDEX => {
                index.entries.push(IndexEntry { start, len, offset });
            }
            _ => self.index = None,
        }
    }
}

/// How a CIE's FDEs encode the addresses of their code.
fn code_encoding(section: &Section<'_>, cie: &Entry) -> Option<u8> {
    if cie.head.cie.is_some() {
        return None;
    }
    let mut cursor = Cursor::at(&cie.bytes, cie.body_at());
    let version = cursor.u8().ok()?;
    let augmentation = crate::base::bytes::string_at(&cie.bytes, cursor.offset())?;
    cursor.skip(augmentation.len() + 1).ok()?;
    if section.kind == CfiSection::DebugFrame && version >= 4 {
        let sizes: [u8; 2] = cursor.array().ok()?;
        (sizes == [section.data.address_bytes(), 0]).then_some(())?;
    }
    // Factors of code and data, and the return address column.
    uleb128(&mut cursor)?;
    uleb128(&mut cursor)?;
    if version == 1 {
        cursor.u8().ok()?;
    } else {
        uleb128(&mut cursor)?;
    }
    let Some((b'z', letters)) = augmentation.split_first() else {
        return Some(section.absolute()).filter(|_| matches!(augmentation, b"" | b"S"));
    };
    uleb128(&mut cursor)?;
    for letter in letters {
        match letter {
            b'R' => return cursor.u8().ok().map(|encoding| section.sized(encoding)),
            b'L' => cursor.skip(1).ok()?,
            b'P' => {
                let encoding = section.sized(cursor.u8().ok()?);
                value(&mut cursor, encoding)?;
            }
            b'S' | b'B' | b'G' => {}
            _ => return None,
        }
    }
    Some(section.absolute())
}

/// A piece of a section that moves forward.
struct Window<'a> {
    section: Section<'a>,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(section: Section<'a>) -> Self {
        Window {
            section,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes from an offset on: at least a head's, up to the section's end.
    fn at(&mut self, offset: u64) -> Option<&[u8]> {
        let wanted = self.section.range.size.checked_sub(offset)?.min(HEAD);
        let end = offset.checked_add(wanted)?;
        let have = self.start <= offset && end <= self.start + self.bytes.len() as u64;
        if !have {
            let len = (self.section.range.size - offset).min(WINDOW);
            self.start = offset;
            self.bytes.resize(usize::try_from(len).ok()?, 0);
            let Section { data, kind, .. } = self.section;
            if data.read_section(kind, offset, &mut self.bytes).is_none() {
                self.bytes.clear();
                return None;
            }
        }
        self.bytes.get(usize::try_from(offset - self.start).ok()?..)
    }
}
