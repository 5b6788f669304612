//! Builds `.eh_frame`, its search table and `.debug_frame`; shares nothing with
//! what reads them.

use super::{CfiSection, Crash};

/// Builds `.eh_frame` and `.debug_frame`.
pub(super) struct Frames {
    kind: CfiSection,
    address: u64,
    word: u8,
    pub(super) bytes: Vec<u8>,
    cie: usize,
    /// Start of the code, offset of the entry.
    pub(super) entries: Vec<(u64, u64)>,
}

impl Frames {
    pub(super) fn new(kind: CfiSection, address: u64) -> Self {
        Frames {
            kind,
            address,
            word: 8,
            bytes: Vec::new(),
            cie: 0,
            entries: Vec::new(),
        }
    }

    /// For a file with addresses of this many bytes.
    pub(super) fn word(mut self, bytes: u8) -> Self {
        self.word = bytes;
        self
    }

    /// Code factor 1, data factor minus a word's bytes.
    pub(super) fn cie(
        mut self,
        augmentation: &str,
        return_column: u8,
        instructions: &[u8],
    ) -> Self {
        let own = match self.kind {
            CfiSection::DebugFrame => u32::MAX,
            _ => 0,
        };
        let mut body = own.to_le_bytes().to_vec();
        body.push(1);
        body.extend_from_slice(augmentation.as_bytes());
        body.extend_from_slice(&[0, 1, 0x80 - self.word, return_column]);
        if augmentation.contains('R') {
            // One byte of data: pc-relative, signed, 4 bytes.
            body.extend_from_slice(&[1, 0x1b]);
        }
        body.extend_from_slice(instructions);
        self.cie = self.push(body);
        self
    }

    pub(super) fn fde(mut self, start: u64, len: u64, instructions: &[u8]) -> Self {
        let offset = self.bytes.len();
        let pointer = match self.kind {
            CfiSection::DebugFrame => self.cie,
            _ => offset + 4 - self.cie,
        };
        let mut body = (pointer as u32).to_le_bytes().to_vec();
        if self.kind == CfiSection::DebugFrame {
            let word = usize::from(self.word);
            body.extend_from_slice(&start.to_le_bytes()[..word]);
            body.extend_from_slice(&len.to_le_bytes()[..word]);
        } else {
            let here = self.address + offset as u64 + 8;
            body.extend_from_slice(&(start.wrapping_sub(here) as u32).to_le_bytes());
            body.extend_from_slice(&(len as u32).to_le_bytes());
            body.push(0);
        }
        body.extend_from_slice(instructions);
        self.push(body);
        self.entries.push((start, offset as u64));
        self
    }

    fn push(&mut self, mut body: Vec<u8>) -> usize {
        let offset = self.bytes.len();
        body.resize(body.len().next_multiple_of(8) + 4, 0);
        self.bytes
            .extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&body);
        offset
    }

    /// The search table for `address`.
    fn table(&self, address: u64) -> Vec<u8> {
        let relative = |to: u64| (to.wrapping_sub(address) as u32).to_le_bytes();
        let mut bytes = vec![1, 0x1b, 0x03, 0x3b];
        bytes.extend_from_slice(&relative(self.address - 4));
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        let mut entries = self.entries.clone();
        entries.sort_unstable();
        for (start, offset) in entries {
            bytes.extend_from_slice(&relative(start));
            bytes.extend_from_slice(&relative(self.address + offset));
        }
        bytes
    }
}

/// Where the builder's sections are.
const HEADER: u64 = 0x3000;
pub(super) const FRAMES: u64 = 0x4000;

impl Crash {
    pub(super) fn section(&mut self, kind: CfiSection, address: u64, bytes: Vec<u8>) {
        self.module.sections.push((kind, address, bytes));
    }

    /// `.eh_frame` with its search table.
    pub(super) fn eh_frame(&mut self, frames: Frames) {
        self.section(CfiSection::EhFrameHdr, HEADER, frames.table(HEADER));
        self.section(CfiSection::EhFrame, FRAMES, frames.bytes);
    }
}
