//! Numbers and strings of a section, through blocks of its file that all readers share.
//!
//! In: a section's place in its file, or its unpacked bytes ([`Unpacked`]). Out: values, or
//! `None` where the section ends, a number is too large, or the allowance is used up. No
//! read goes beyond the section.
//!
//! Blocks overlap by more than the longest number has, so that a number is always in one.

use std::cell::RefCell;
use std::rc::Rc;

use crate::symbols::elf::{FileRange, Source, MAX_NAME};

/// Bytes from the beginning of a block to that of the next one.
const BLOCK: u64 = 16 * 1024;
/// Bytes of the next block that a block has too.
const OVERLAP: u64 = 64;
/// Units of work for a turn to a block that is there.
const TURN: u64 = 32;

/// Blocks of a file. Each has one place where it can be, so that nothing is searched.
#[derive(Debug)]
pub(super) struct Blocks(RefCell<Vec<(u64, Rc<[u8]>)>>);

impl Blocks {
    /// For so many blocks, one at least.
    pub(super) fn new(count: usize) -> Self {
        Blocks(RefCell::new(vec![(u64::MAX, Rc::default()); count.max(1)]))
    }

    fn get(&self, source: &Source, number: u64) -> Option<Rc<[u8]>> {
        let mut blocks = self.0.borrow_mut();
        let count = blocks.len() as u64;
        let (held, block) = blocks.get_mut((number % count) as usize)?;
        if *held != number {
            let mut bytes = vec![0; (BLOCK + OVERLAP) as usize];
            let read = source.read_at(number * BLOCK, &mut bytes);
            *held = u64::MAX;
            *block = bytes.get(..read)?.into();
            if source.is_out() {
                return None;
            }
            *held = number;
        }
        source.work(TURN).then(|| block.clone())
    }
}

/// The blocks of a section that was compressed; all of them are held.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    blocks: Vec<Rc<[u8]>>,
    size: u64,
    /// The block that is being filled.
    last: Vec<u8>,
}

impl Unpacked {
    /// What a block takes.
    pub(super) const BLOCK_BYTES: usize = (BLOCK + OVERLAP) as usize + 32;

    /// Appends bytes; for each block that is begun `take` says whether there is room.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut() -> bool) -> Option<()> {
        while !bytes.is_empty() {
            if self.last.is_empty() && !take() {
                return None;
            }
            let room = (BLOCK + OVERLAP) as usize - self.last.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.last.extend_from_slice(now);
            self.size += now.len() as u64;
            bytes = later;
            if self.last.len() as u64 == BLOCK + OVERLAP {
                if !take() {
                    return None;
                }
                self.blocks.push(self.last.as_slice().into());
                self.last.drain(..BLOCK as usize);
            }
        }
        Some(())
    }

    /// All of it, once nothing is appended any more.
    pub(super) fn finish(mut self) -> Self {
        self.blocks.push(std::mem::take(&mut self.last).into());
        self
    }

    /// Heap bytes.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * Self::BLOCK_BYTES
    }
}

/// Where blocks come from.
#[derive(Clone, Debug)]
enum Store<'a> {
    File(&'a Blocks),
    Unpacked(Rc<Unpacked>),
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: &'a Source,
    store: Store<'a>,
    range: FileRange,
    block: Rc<[u8]>,
    /// Offset of the block's first byte in the section; negative where the section begins
    /// within the block.
    start: i64,
    /// Where the section ends in the block, if it does.
    end: usize,
    /// Offset of the next read.
    at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, blocks: &'a Blocks, range: FileRange) -> Self {
        let range = range.within(source.size());
        Reader::of(source, Store::File(blocks), range)
    }

    pub(super) fn unpacked(source: &'a Source, unpacked: Rc<Unpacked>) -> Self {
        let range = FileRange {
            offset: 0,
            size: unpacked.size,
        };
        Reader::of(source, Store::Unpacked(unpacked), range)
    }

    fn of(source: &'a Source, store: Store<'a>, range: FileRange) -> Self {
        Reader {
            source,
            store,
            range,
            block: Rc::default(),
            start: 0,
            end: 0,
            at: 0,
        }
    }

    /// The same for a part of the section.
    pub(super) fn within(mut self, window: FileRange) -> Self {
        let window = window.within(self.range.size);
        self.range.offset = self.range.offset.saturating_add(window.offset);
        self.range.size = window.size;
        self
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

    #[inline]
    pub(super) fn skip(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(bytes)?;
        (self.at <= self.range.size).then_some(())
    }

    /// The bytes at hand from here on.
    #[inline]
    fn held(&self) -> &[u8] {
        if self.at >= self.range.size {
            return &[];
        }
        let from = (self.at as i64).wrapping_sub(self.start) as usize;
        self.block.get(from..self.end).unwrap_or(&[])
    }

    /// The bytes available from here on, at least `wanted` of them.
    #[inline]
    fn tail(&mut self, wanted: usize) -> Option<&[u8]> {
        if self.held().len() < wanted {
            self.load()?;
        }
        Some(self.held()).filter(|held| held.len() >= wanted)
    }

    #[inline(never)]
    fn load(&mut self) -> Option<()> {
        if self.at >= self.range.size {
            return None;
        }
        let place = self.range.offset.checked_add(self.at)?;
        let number = place / BLOCK;
        self.block = match &self.store {
            Store::File(blocks) => blocks.get(self.source, number)?,
            Store::Unpacked(unpacked) => {
                let block = unpacked.blocks.get(usize::try_from(number).ok()?)?;
                self.source.work(TURN).then(|| block.clone())?
            }
        };
        self.start = (number * BLOCK) as i64 - self.range.offset as i64;
        let end = (self.range.size as i64).checked_sub(self.start)?;
        self.end = self.block.len().min(usize::try_from(end).ok()?);
        Some(())
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

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        let byte = *self.tail(1)?.first()?;
        self.at += 1;
        Some(byte)
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
    #[inline]
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        match self.u8()? {
            byte @ 0..0x80 => Some(byte.into()),
            byte => self.unsigned_after(byte),
        }
    }

    #[inline(never)]
    fn unsigned_after(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..140).step_by(7) {
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
