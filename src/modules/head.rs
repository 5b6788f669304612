//! Reads the headers of a file from the memory of the process that had it mapped.
//!
//! In: a mapping with the first bytes of its file. Out: the build-id, and the load bias of
//! the mapping, even if the file cannot be opened any more or has been replaced. A
//! process can write anything into its own memory: these bytes count only for that
//! process, and are parsed like any foreign file.

use super::module::bias;
use crate::crash::event::Mapping;
use crate::symbols::elf::{ElfFile, Source};

/// The file as its beginning shows it.
#[derive(Debug)]
pub struct Head {
    elf: ElfFile,
}

impl Head {
    /// `None` if the bytes are missing or are not those of an ELF file.
    #[must_use]
    pub fn of(mapping: &Mapping) -> Option<Head> {
        let head = mapping.file.as_ref()?.head.as_ref()?;
        if head.bytes.is_empty() {
            return None;
        }
        let elf = ElfFile::parse(Source::memory(head.bytes.to_vec())).ok()?;
        Some(Head { elf })
    }

    /// `None` if the note is missing, or is after these bytes.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.elf.build_id()
    }

    /// `process = file + bias`.
    #[must_use]
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        bias(self.elf.loads(), mapping)
    }

    /// Whether a file with that build-id is certainly another.
    #[must_use]
    pub fn contradicts(&self, build_id: Option<&[u8]>) -> bool {
        self.build_id().is_some_and(|own| build_id != Some(own))
    }
}
