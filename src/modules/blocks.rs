//! Blocks of files, kept because stack walks read the same ones again and again.
//!
//! In: a file's id, its bytes and an offset. Out: the bytes there, from a cache of 4 KB
//! blocks that all files share. If the cache is full, the clock algorithm evicts a block
//! that was not read lately. Large reads are not kept.

use std::rc::Rc;

use crate::base::budget::MemoryBudget;
use crate::keyed::Map;
use crate::symbols::elf::Source;

const BLOCK: usize = 4096;
/// A read of more is made once and not again.
const LARGE: usize = 4 * BLOCK;

#[derive(Debug)]
struct Slot {
    key: (u64, u64),
    /// Shorter than a block at the end of a file.
    bytes: Box<[u8]>,
    /// Read since the hand came by.
    used: bool,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Blocks {
    slots: Vec<Slot>,
    /// By file and block number.
    index: Map<(u64, u64), usize>,
    hand: usize,
    max: usize,
    budget: Rc<MemoryBudget>,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

impl Blocks {
    pub(super) fn new(max_bytes: usize, budget: Rc<MemoryBudget>) -> Self {
        Blocks {
            slots: Vec::new(),
            index: Map::default(),
            hand: 0,
            max: max_bytes / BLOCK,
            budget,
            hits: 0,
            misses: 0,
        }
    }

    /// Fills `buf` as far as the file goes; how many bytes.
    pub(super) fn read(&mut self, id: u64, source: &Source, offset: u64, buf: &mut [u8]) -> usize {
        if buf.len() > LARGE || source.is_memory() {
            return source.read_at(offset, buf);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let Some(at) = offset.checked_add(filled as u64) else {
                break;
            };
            let within = (at % BLOCK as u64) as usize;
            let rest = &mut buf[filled..];
            let Some(slot) = self.slot(id, source, at / BLOCK as u64) else {
                let wanted = rest.len().min(BLOCK - within);
                let read = source.read_at(at, &mut rest[..wanted]);
                filled += read;
                if read < wanted {
                    break;
                }
                continue;
            };
            let bytes = self.slots[slot].bytes.get(within..).unwrap_or(&[]);
            let len = bytes.len().min(rest.len());
            if len == 0 {
                break;
            }
            rest[..len].copy_from_slice(&bytes[..len]);
            filled += len;
        }
        filled
    }

    /// The slot that holds a block, filled if need be; `None` if there is no
    /// room for any.
    fn slot(&mut self, id: u64, source: &Source, block: u64) -> Option<usize> {
        let key = (id, block);
        if let Some(&slot) = self.index.get(&key) {
            self.hits += 1;
            self.slots[slot].used = true;
            return Some(slot);
        }
        self.misses += 1;
        let mut bytes = [0; BLOCK];
        let read = source.read_at(block.saturating_mul(BLOCK as u64), &mut bytes);
        if read < BLOCK && source.is_out() {
            return None;
        }
        let slot = self.free_slot(key)?;
        self.slots[slot].bytes = bytes[..read].into();
        self.index.insert(key, slot);
        Some(slot)
    }

    fn free_slot(&mut self, key: (u64, u64)) -> Option<usize> {
        if self.slots.len() < self.max && self.budget.fits(BLOCK) {
            self.budget.take(BLOCK);
            self.slots.push(Slot {
                key,
                bytes: Box::default(),
                used: true,
            });
            return Some(self.slots.len() - 1);
        }
        // Twice around: the first clears the marks.
        for _ in 0..self.slots.len() * 2 {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if std::mem::take(&mut slot.used) {
                continue;
            }
            self.index.remove(&slot.key);
            slot.key = key;
            slot.used = true;
            return Some(at);
        }
        None
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.budget.give_back(self.slots.len() * BLOCK);
        self.slots = Vec::new();
        self.index = Map::default();
        self.hand = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::RegularFile;

    #[test]
    fn blocks_are_read_once_and_room_is_kept() {
        let path = std::env::temp_dir().join(format!("sa-blocks-{}", std::process::id()));
        let content: Vec<u8> = (0..40_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let source = Source::file(RegularFile::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();

        let budget = Rc::new(MemoryBudget::new(1 << 20));
        let mut blocks = Blocks::new(2 * BLOCK, budget.clone());
        for (offset, len) in [(0, 8), (4090, 20), (39_990, 20), (50_000, 4), (8000, 9000)] {
            let mut buf = vec![0; len];
            let read = blocks.read(1, &source, offset as u64, &mut buf);
            let end = (offset + len).min(content.len()).max(offset);
            let expected = content.get(offset..end).unwrap_or(&[]);
            assert_eq!(&buf[..read], expected, "{offset}");
        }
        assert!(budget.used() <= 2 * BLOCK);
        let misses = blocks.misses;
        let mut buf = [0; 4];
        for _ in 0..10 {
            blocks.read(1, &source, 16_500, &mut buf);
        }
        assert!(blocks.misses <= misses + 1);
        blocks.clear();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_room_bytes_are_read_all_the_same() {
        let path = std::env::current_exe().unwrap();
        let source = Source::file(RegularFile::open(&path).unwrap()).unwrap();
        let mut blocks = Blocks::new(1 << 20, Rc::new(MemoryBudget::new(0)));
        let mut buf = [0; 4];
        assert_eq!(blocks.read(1, &source, 0, &mut buf), 4);
        assert_eq!(&buf, b"\x7fELF");
    }
}
