//! The files with split units that stay open, a few of them.

use std::cell::RefCell;
use std::rc::Rc;

use super::files::FileMemory;
use crate::base::budget::MemoryBudget;
use crate::symbols::elf::ElfFile;

/// Files that are open.
const MAX_OPEN: usize = 16;
/// Blocks of each, and of a package at a desk.
const BLOCKS: (usize, usize) = (12, 96);

/// A file with split units.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) elf: ElfFile,
    pub(super) memory: FileMemory,
}

/// What is known of a file's split units.
#[derive(Debug)]
pub(super) struct SplitFiles {
    /// The file with all of them.
    pub(super) package: FileMemory,
    /// By the identification of a unit in each.
    open: RefCell<Vec<(u64, Rc<Opened>)>>,
    limit: Rc<MemoryBudget>,
}

impl SplitFiles {
    pub(super) fn new(limit: &Rc<MemoryBudget>) -> Self {
        SplitFiles {
            package: FileMemory::new(BLOCKS.1, limit.clone()),
            open: RefCell::default(),
            limit: limit.clone(),
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<Rc<Opened>> {
        let files = self.open.borrow();
        let (_, file) = files.iter().find(|(known, _)| *known == id)?;
        Some(file.clone())
    }

    pub(super) fn put(&self, id: u64, elf: ElfFile) -> Rc<Opened> {
        let memory = FileMemory::new(BLOCKS.0, self.limit.clone());
        let file = Rc::new(Opened { elf, memory });
        let mut files = self.open.borrow_mut();
        if files.len() >= MAX_OPEN {
            files.remove(0);
        }
        files.push((id, file.clone()));
        file
    }

    /// Closes them, and forgets what was unpacked.
    pub(super) fn clear(&self) {
        self.open.take();
        self.package.clear();
    }
}
