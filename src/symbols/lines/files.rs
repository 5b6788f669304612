//! The bytes of the files that have debug information.
//!
//! In: a section. Out: the blocks of its file, or its unpacked bytes if it was compressed.
//! Unpacked bytes count towards the memory limit as long as they are held.

use std::cell::RefCell;
use std::rc::Rc;

use super::reader::{Blocks, Unpacked};
use super::{Debug, Refused, Section, UNPACKS};
use crate::base::budget::MemoryBudget;
use crate::symbols::elf::{inflate, FileRange, Packed, Trouble};

/// The bytes of a file that are at hand.
#[derive(Debug)]
pub(super) struct FileMemory {
    pub(super) blocks: Blocks,
    /// Sections that were compressed.
    unpacked: RefCell<Vec<(Section, Rc<Unpacked>)>>,
    /// Of what is unpacked.
    limit: Rc<MemoryBudget>,
}

impl FileMemory {
    pub(super) fn new(blocks: usize, limit: Rc<MemoryBudget>) -> Self {
        FileMemory {
            blocks: Blocks::new(blocks),
            unpacked: RefCell::default(),
            limit,
        }
    }

    /// Whether nothing has been unpacked.
    pub(super) fn is_empty(&self) -> bool {
        self.unpacked.borrow().is_empty()
    }

    /// Forgets what was unpacked.
    pub(super) fn clear(&self) {
        for (_, unpacked) in self.unpacked.take() {
            self.limit.give_back(unpacked.memory());
        }
    }
}

impl Drop for FileMemory {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Debug<'_> {
    /// The bytes of a compressed section, which is unpacked once.
    pub(super) fn unpacked(
        &self,
        section: Section,
        range: FileRange,
        packed: Packed,
    ) -> Result<Rc<Unpacked>, Refused> {
        if !UNPACKS {
            return Err(Refused::Compressed(packed.form));
        }
        let known = self.memory.unpacked.borrow();
        if let Some((_, unpacked)) = known.iter().find(|(known, _)| *known == section) {
            return Ok(unpacked.clone());
        }
        drop(known);
        // The header may promise more than there is, but never less.
        let size = usize::try_from(packed.size).unwrap_or(usize::MAX);
        let limit = &self.memory.limit;
        if !limit.fits(size) {
            self.batch.memory.forget();
        }
        let mut unpacked = Unpacked::default();
        let mut taken = 0;
        let mut take = || {
            let fits = limit.fits(Unpacked::BLOCK_BYTES);
            if fits {
                limit.take(Unpacked::BLOCK_BYTES);
                taken += Unpacked::BLOCK_BYTES;
            }
            fits
        };
        let done = match limit.fits(size) {
            true => inflate(self.source, range, packed, &mut |bytes| {
                unpacked.push(bytes, &mut take).ok_or(Trouble::TooLarge)
            }),
            false => Err(Trouble::TooLarge),
        };
        limit.give_back(taken);
        done.map_err(|trouble| match trouble {
            Trouble::Unknown => Refused::Compressed(packed.form),
            Trouble::TooLarge => Refused::TooLarge(packed.form),
            Trouble::Damaged => Refused::Damaged(packed.form),
            Trouble::TimedOut => Refused::TimedOut,
        })?;
        let unpacked = Rc::new(unpacked.finish());
        limit.take(unpacked.memory());
        let mut known = self.memory.unpacked.borrow_mut();
        known.push((section, unpacked.clone()));
        Ok(unpacked)
    }
}
