//! The memory descriptor, and the list or tree of mappings.

use super::{files, plus, same, Bits, Place, Rule, Search, Subject, Word, RULE};
use crate::measure::facts::{Child, Fact};
use crate::measure::layout::{Detail, Field};
use crate::measure::pieces::{is_kernel_address, Pieces};

/// All wanted fields of mm_struct are below this; its mask of CPUs may make it longer.
const MM_BYTES: i16 = 2048;
/// No mm_struct is smaller, and no vm_area_struct.
const MM_APART: i16 = 768;
const VMA_APART: i16 = 144;
/// More than the children map.
const MOST_MAPPINGS: usize = 1000;
/// `vm_next`, as long as there was a list (up to 6.0): after the bounds.
const NEXT_AT: i16 = 16;

const IN_MM: Place = Place::Within(0, MM_BYTES, 8);

/// mm and active_mm lead to a row of values that /proc/PID/stat has.
const MM: &[Rule] = &[
    Rule {
        path: &[Place::Task(8)],
        paired: true,
        place: IN_MM,
        words: &[
            same(Fact::StartCode),
            same(Fact::EndCode),
            same(Fact::StartData),
            same(Fact::EndData),
            same(Fact::StartBrk),
            same(Fact::Brk),
            same(Fact::StartStack),
            same(Fact::ArgStart),
            same(Fact::ArgEnd),
            same(Fact::EnvStart),
            same(Fact::EnvEnd),
        ],
        nearest: true,
        fields: &[
            (0, Field::Mm, 0),
            (1, Field::StartBrk, 32),
            (1, Field::Brk, 40),
            (1, Field::StartStack, 48),
            (1, Field::ArgStart, 56),
            (1, Field::ArgEnd, 64),
            (1, Field::EnvStart, 72),
            (1, Field::EnvEnd, 80),
        ],
        lost: Detail::MemoryLayout,
        ..RULE
    },
    // It is in the copy of the auxiliary vector too, after its tag.
    Rule {
        path: &[Place::Of(Field::Mm)],
        place: IN_MM,
        words: &[Word::Not(Fact::SysinfoTag), same(Fact::Vdso)],
        apart: MM_APART,
        fields: &[(1, Field::Context, 8)],
        lost: Detail::Vdso,
        ..RULE
    },
];

/// Up to 6.0: the list of mappings, and where it ends.
const LIST: &[Rule] = &[
    Rule {
        path: &[Place::Of(Field::Mm), IN_MM],
        place: Place::At(0),
        words: &[same(Fact::FirstStart), same(Fact::FirstEnd)],
        apart: MM_APART,
        fields: &[(1, Field::Mmap, 0), (2, Field::VmNext, NEXT_AT)],
        ..RULE
    },
    Rule {
        path: &[Place::Of(Field::Mm)],
        place: IN_MM,
        words: &[same(Fact::LastEnd)],
        apart: MM_APART,
        fields: &[(1, Field::HighestVmEnd, 0)],
        ..RULE
    },
];

/// Rules for each mapping: its mm, its permissions, its file.
const MAPPING: &[Rule] = &[
    Rule {
        words: &[same(Fact::Mm)],
        fields: &[(0, Field::VmMm, 0)],
        ..OF_MAPPING
    },
    Rule {
        words: &[Word::Same(Fact::Flags, Bits::Permissions)],
        fields: &[(0, Field::VmFlags, 0)],
        ..OF_MAPPING
    },
    Rule {
        words: &[Word::Pointer(Fact::File)],
        fields: &[(0, Field::VmFile, 0)],
        ..OF_MAPPING
    },
    // Its meaning on other kernels has changed.
    Rule {
        only: Some(Fact::File),
        words: &[same(Fact::PageOffset)],
        fields: &[(0, Field::VmPgoff, 0)],
        ..OF_MAPPING
    },
];

const OF_MAPPING: Rule = Rule {
    place: Place::Within(16, 256, 8),
    apart: VMA_APART,
    ..RULE
};

/// mm -> the file that was executed
const EXECUTABLE: &[Rule] = &[Rule {
    path: &[
        Place::Of(Field::Mm),
        IN_MM,
        Place::Of(Field::FDentry),
        Place::Of(Field::DName),
    ],
    place: Place::At(0),
    words: &[Word::Masked(Fact::Executable, Fact::ExecutableMask)],
    apart: MM_APART,
    fields: &[(1, Field::ExeFile, 0)],
    lost: Detail::Exe,
    ..RULE
}];

impl Search<'_> {
    /// task -> mm -> each mapping -> its values, and its file.
    pub(super) fn memory(&mut self, tasks: &[Subject], children: &[Child]) {
        self.find_all(tasks, MM);
        let mapped = self.list_or_tree(tasks, children).unwrap_or_default();
        // A mapping whose file has no name would look like one without a file.
        if self.find_all(&mapped, MAPPING) && self.files(&mapped) {
            self.find_all(tasks, EXECUTABLE);
        } else {
            self.layout.forget(Field::Mmap);
            self.layout.forget(Field::MmMt);
            // The path to a name must be complete.
            self.layout.forget(Field::FPath);
            self.layout.lose(Detail::Mappings);
            self.layout.lose(Detail::Exe);
        }
    }

    fn list_or_tree(&mut self, tasks: &[Subject], children: &[Child]) -> Option<Vec<Subject>> {
        if self.find_all(tasks, LIST) {
            return self.mapped(tasks, children);
        }
        self.layout.forget(Field::Mmap);
        // From 6.1: the field of mm_struct that leads to the tree of all mappings.
        let mut at = 0;
        while at < MM_BYTES.into() {
            self.layout.found(Field::MmMt, at);
            let mapped = self.mapped(tasks, children);
            if mapped.is_some() {
                return mapped;
            }
            at += 8;
        }
        None
    }

    /// The mappings, if they are those that /proc/PID/maps has.
    fn mapped(&mut self, tasks: &[Subject], children: &[Child]) -> Option<Vec<Subject>> {
        let mut mapped = Vec::new();
        for (task, child) in tasks.iter().zip(children) {
            let mm = self.word_of(task.at, Field::Mm)?;
            let mut vmas = Vec::new();
            match self.word_of(mm, Field::Mmap) {
                Some(first) => self.list(first, &mut vmas)?,
                None => self.tree(mm, &mut vmas)?,
            }
            if vmas.len() != child.seen.lines.len() {
                return None;
            }
            for (at, line) in vmas.into_iter().zip(&child.seen.lines) {
                if self.pieces.u64(at)? != line.start || self.pieces.u64(plus(at, 8))? != line.end {
                    return None;
                }
                let mut facts = task.facts.clone();
                facts.set(Fact::Mm, mm);
                facts.set(Fact::Flags, line.flags);
                facts.set(Fact::PageOffset, line.file_offset / self.tool.page_bytes);
                facts.set(Fact::File, line.inode);
                files::know(&mut facts, child.seen.known, line, self.tool.page_bytes);
                mapped.push(Subject { at, facts });
            }
        }
        Some(mapped)
    }

    /// From the first mapping on: include/linux/mm_types.h.
    fn list(&mut self, mut vma: u64, into: &mut Vec<u64>) -> Option<()> {
        while vma != 0 && into.len() < MOST_MAPPINGS {
            into.push(vma);
            vma = self.word_of(vma, Field::VmNext)?;
        }
        Some(())
    }

    fn tree(&mut self, mm: u64, into: &mut Vec<u64>) -> Option<()> {
        // An address with this mark, which makes it no address of another structure's.
        const MARK: u64 = 2;
        let root = self.word_of(mm, Field::MmMt)?;
        if root & 3 != MARK {
            return None;
        }
        entries(&mut self.pieces, root, u64::MAX, 0, into)
    }
}

/// The entries below a node of the tree, in order of address; `max` is the last address below
/// it. Nodes have 256 bytes, their type is in the address: include/linux/maple_tree.h.
fn entries(
    pieces: &mut Pieces<'_>,
    node: u64,
    max: u64,
    depth: u32,
    into: &mut Vec<u64>,
) -> Option<()> {
    const LEAF: u64 = 1;
    const RANGE: u64 = 2;
    const ARANGE: u64 = 3;
    const MAX_DEPTH: u32 = 8;
    const RESERVED: u64 = 4096;
    let (start, kind) = (node & !0xff, node >> 3 & 15);
    let (pivots, slots_at) = match kind {
        LEAF | RANGE => (15, 128),
        ARANGE => (9, 80),
        _ => return None,
    };
    if !is_kernel_address(start) || depth > MAX_DEPTH {
        return None;
    }
    for slot in 0..=pivots {
        let mut last = max;
        if slot < pivots {
            let pivot = pieces.u64(start + 8 + slot * 8)?;
            if pivot != 0 || slot == 0 {
                last = pivot;
            }
        }
        let entry = pieces.u64(start + slots_at + slot * 8)?;
        if kind != LEAF {
            entries(pieces, entry, last, depth + 1, into)?;
        } else if entry & 3 != 2 && entry > RESERVED {
            into.push(entry);
        }
        if last >= max || into.len() > MOST_MAPPINGS {
            break;
        }
    }
    Some(())
}
