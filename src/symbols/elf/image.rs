//! What a debugger expects of a file in the memory of a process that runs it: where the
//! program headers are, the dynamic section, the name of the interpreter.
//!
//! In: a parsed file. Out: addresses as its linker numbered them, and bytes; a part that is
//! missing or too large is left out. System V ABI, chapter 5.

use super::ElfFile;
use crate::base::address::FileAddress;
use crate::base::bytes::{until_nul, Cursor};

/// A dynamic section has some forty entries.
const MAX_DYNAMIC: u64 = 16 << 10;
const MAX_INTERPRETER: u64 = 4096;
const PT_INTERP: u32 = 3;

/// Parts of a loaded file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Image {
    /// Program headers, and how many there are.
    pub headers: Option<(FileAddress, u16)>,
    pub dynamic: Option<(FileAddress, Vec<u8>)>,
    /// The path of the dynamic linker.
    pub interpreter: Option<Vec<u8>>,
}

impl ElfFile {
    #[must_use]
    pub fn image(&self) -> Image {
        let dynamic = self.segments.dynamic.and_then(|segment| {
            let len = segment.range.size.min(MAX_DYNAMIC) as usize;
            let bytes = self.source.read_vec(segment.range.offset, len)?;
            Some((FileAddress(segment.address), bytes))
        });
        let table = self.header_table();
        Image {
            headers: table.and_then(|(offset, count)| Some((self.address_of(offset)?, count))),
            dynamic,
            interpreter: table.and_then(|(offset, count)| self.interpreter(offset, count)),
        }
    }

    /// The offset of the program headers, and their number.
    fn header_table(&self) -> Option<(u64, u16)> {
        let mut bytes = [0; 64];
        let len = self.source.read_at(0, &mut bytes);
        let at = |offset| Cursor::at(&bytes[..len], offset);
        Some(match self.is_64_bit() {
            true => (at(32).u64().ok()?, at(56).u16().ok()?),
            false => (at(28).u32().ok()?.into(), at(44).u16().ok()?),
        })
    }

    fn address_of(&self, offset: u64) -> Option<FileAddress> {
        self.segments.loads.iter().find_map(|load| {
            let within = offset.checked_sub(load.offset.0)?;
            let address = load.address.0.checked_add(within)?;
            (within < load.file_size).then_some(FileAddress(address))
        })
    }

    fn interpreter(&self, table: u64, count: u16) -> Option<Vec<u8>> {
        let entry = if self.is_64_bit() { 56 } else { 32 };
        let bytes = self.source.read_vec(table, usize::from(count) * entry)?;
        let header = bytes
            .chunks_exact(entry)
            .find(|header| header[..4] == PT_INTERP.to_le_bytes())?;
        let at = |offset| Cursor::at(header, offset);
        let (offset, size) = match self.is_64_bit() {
            true => (at(8).u64().ok()?, at(32).u64().ok()?),
            false => (at(4).u32().ok()?.into(), at(16).u32().ok()?.into()),
        };
        let path = self
            .source
            .read_vec(offset, size.min(MAX_INTERPRETER) as usize)?;
        Some(until_nul(&path).to_vec())
    }
}
