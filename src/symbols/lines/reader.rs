//! Numbers and strings of a section, through a window that moves.
//!
//! In: a section's place in its file. Out: values, or `None` where the section ends,
//! a number is too large, or the allowance is used up. No read goes beyond the section.

use crate::symbols::elf::{FileRange, Source, MAX_NAME};

const WINDOW: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: &'a Source,
    range: FileRange,
    window: Vec<u8>,
    /// Offset of the window's first byte in the section.
    start: u64,
    /// Offset of the next read.
    at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, range: FileRange) -> Self {
        Reader {
            source,
            range: range.within(source.size()),
            window: Vec::new(),
            start: 0,
            at: 0,
        }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn size(&self) -> u64 {
        self.range.size
    }

    /// Moves anywhere; reads beyond the end fail.
    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    #[inline(never)]
    pub(super) fn skip(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(bytes)?;
        (self.at <= self.range.size).then_some(())
    }

    /// The bytes available from here on, at least `wanted` of them.
    fn tail(&mut self, wanted: usize) -> Option<&[u8]> {
        let held = |reader: &Self| {
            let from = usize::try_from(reader.at.checked_sub(reader.start)?).ok()?;
            let left = reader.window.len().checked_sub(from)?;
            (left >= wanted).then_some(from)
        };
        if let Some(from) = held(self) {
            return self.window.get(from..);
        }
        self.load()?;
        let from = held(self)?;
        self.window.get(from..)
    }

    fn load(&mut self) -> Option<()> {
        let left = self.range.size.checked_sub(self.at)?;
        self.window.resize(left.min(WINDOW as u64) as usize, 0);
        let place = self.range.offset.checked_add(self.at)?;
        let read = self.source.read_at(place, &mut self.window);
        self.window.truncate(read);
        self.start = self.at;
        (!self.source.is_out()).then_some(())
    }

    /// Up to 8 bytes. The one place where numbers are made: these readers are most
    /// of this module's code.
    #[inline(never)]
    pub(super) fn sized(&mut self, size: u8) -> Option<u64> {
        let mut bytes = [0; 8];
        let size = usize::from(size);
        bytes
            .get_mut(..size)?
            .copy_from_slice(&self.tail(size)?[..size]);
        self.at += size as u64;
        Some(u64::from_le_bytes(bytes))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.sized(1).map(|value| value as u8)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.sized(2).map(|value| value as u16)
    }

    /// An offset, 8 bytes wide in the 64-bit format.
    pub(super) fn offset(&mut self, wide: bool) -> Option<u64> {
        self.sized(if wide { 8 } else { 4 })
    }

    /// The length that begins a unit, and whether the format is the 64-bit one.
    pub(super) fn initial_length(&mut self) -> Option<(u64, bool)> {
        match self.sized(4)? {
            0xffff_ffff => Some((self.sized(8)?, true)),
            0xffff_fff0.. => None,
            length => Some((length, false)),
        }
    }

    /// LEB128; bits beyond the 64th are dropped.
    #[inline(never)]
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..140).step_by(7) {
            let byte = self.u8()?;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    #[inline(never)]
    pub(super) fn signed(&mut self) -> Option<i64> {
        let mut value = 0;
        for shift in (0..140).step_by(7) {
            let byte = self.u8()?;
            if shift < 64 {
                value |= i64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                let sign = byte & 0x40 != 0 && shift + 7 < 64;
                return Some(if sign {
                    value | -1 << (shift + 7)
                } else {
                    value
                });
            }
        }
        None
    }

    /// A string and its NUL; at most [`MAX_NAME`] bytes of it are given.
    pub(super) fn string(&mut self) -> Option<Vec<u8>> {
        let mut string = Vec::new();
        loop {
            let tail = self.tail(1)?;
            let part = crate::base::bytes::until_nul(tail);
            let (len, ended) = (part.len(), part.len() < tail.len());
            let room = MAX_NAME - string.len();
            string.extend_from_slice(&part[..len.min(room)]);
            self.at += len as u64 + u64::from(ended);
            if ended {
                return Some(string);
            }
        }
    }

    pub(super) fn skip_string(&mut self) -> Option<()> {
        loop {
            let tail = self.tail(1)?;
            let len = crate::base::bytes::until_nul(tail).len();
            let ended = len < tail.len();
            self.at += len as u64 + u64::from(ended);
            if ended {
                return Some(());
            }
        }
    }
}
