//! The memory descriptor and the list, or the tree, of what is mapped.

use super::{plus, Place, Rule, Search, Subject, Word, ALL, RULE};
use crate::measure::facts::{Child, Fact};
use crate::measure::layout::{field, What};
use crate::measure::pieces::{is_kernel_address, Pieces};

/// No mm_struct has what is wanted further in; with its mask of CPUs it may be long.
const MM_BYTES: i32 = 2048;
/// No mm_struct is smaller, and no vm_area_struct.
const MM_APART: i32 = 768;
const VMA_APART: i32 = 144;
/// More than the children map.
const MOST_MAPPINGS: usize = 1000;
const AT_SYSINFO_EHDR: u64 = 33;
/// `vm_next`, as long as there was a list (up to 6.0): behind the bounds.
const NEXT_AT: i32 = 16;
/// Read, write, execute; and where flags have no bits, but addresses do.
const FLAGS: u64 = 0x7f00_0000_0000_0007;

/// mm and active_mm lead to a row of values that /proc/PID/stat tells.
const MM: Rule = Rule {
    path: &[Place::Task(8)],
    paired: true,
    place: Place::Within(0, MM_BYTES, 8),
    words: &[
        Word::Same(Fact::StartCode, ALL),
        Word::Same(Fact::EndCode, ALL),
        Word::Same(Fact::StartData, ALL),
        Word::Same(Fact::EndData, ALL),
        Word::Same(Fact::StartBrk, ALL),
        Word::Same(Fact::Brk, ALL),
        Word::Same(Fact::StartStack, ALL),
        Word::Same(Fact::ArgStart, ALL),
        Word::Same(Fact::ArgEnd, ALL),
        Word::Same(Fact::EnvStart, ALL),
        Word::Same(Fact::EnvEnd, ALL),
    ],
    nearest: true,
    fields: &[
        (0, field("task_struct.mm", What::Pointer, 0)),
        (1, field("mm_struct.start_brk", What::U64, 32)),
        (1, field("mm_struct.brk", What::U64, 40)),
        (1, field("mm_struct.start_stack", What::U64, 48)),
        (1, field("mm_struct.arg_start", What::U64, 56)),
        (1, field("mm_struct.arg_end", What::U64, 64)),
        (1, field("mm_struct.env_end", What::U64, 80)),
    ],
    ..RULE
};

/// It stands in the copy of the auxiliary vector too, behind its tag.
const VDSO: Rule = Rule {
    path: &[Place::Of("task_struct.mm")],
    place: Place::Within(0, MM_BYTES, 8),
    words: &[Word::Not(AT_SYSINFO_EHDR), Word::Same(Fact::Vdso, ALL)],
    apart: MM_APART,
    fields: &[(1, field("mm_struct.context", What::MmContext, 8))],
    lost: "vdso",
    ..RULE
};

/// Up to 6.0: the list of mappings, and where it ends.
const LIST: &[Rule] = &[
    Rule {
        path: &[Place::Of("task_struct.mm"), Place::Within(0, MM_BYTES, 8)],
        place: Place::At(0),
        words: &[
            Word::Same(Fact::FirstStart, ALL),
            Word::Same(Fact::FirstEnd, ALL),
        ],
        fields: &[
            (1, field("mm_struct.mmap", What::Pointer, 0)),
            (2, field("vm_area_struct.vm_next", What::Pointer, NEXT_AT)),
        ],
        ..RULE
    },
    Rule {
        path: &[Place::Of("task_struct.mm")],
        place: Place::Within(0, MM_BYTES, 8),
        words: &[Word::Same(Fact::LastEnd, ALL)],
        apart: MM_APART,
        fields: &[(1, field("mm_struct.highest_vm_end", What::U64, 0))],
        ..RULE
    },
];

/// Of each mapping: what it belongs to, its permissions, its file.
const OF_ALL: &[Rule] = &[
    Rule {
        words: &[Word::Same(Fact::Mm, ALL)],
        fields: &[(0, field("vm_area_struct.vm_mm", What::Pointer, 0))],
        ..OF_MAPPING
    },
    Rule {
        words: &[Word::Same(Fact::Flags, FLAGS)],
        fields: &[(0, field("vm_area_struct.vm_flags", What::U64, 0))],
        ..OF_MAPPING
    },
    Rule {
        words: &[Word::Pointer(Fact::File)],
        fields: &[(0, field("vm_area_struct.vm_file", What::Pointer, 0))],
        ..OF_MAPPING
    },
];

/// Of those of files: what that means elsewhere has changed.
const OF_FILES: &[Rule] = &[Rule {
    words: &[Word::Same(Fact::PageOffset, ALL)],
    fields: &[(0, field("vm_area_struct.vm_pgoff", What::U64, 0))],
    ..OF_MAPPING
}];

const OF_MAPPING: Rule = Rule {
    place: Place::Within(16, 256, 8),
    apart: VMA_APART,
    ..RULE
};

/// mm -> the file that was executed
const EXECUTABLE: Rule = Rule {
    path: &[
        Place::Of("task_struct.mm"),
        Place::Within(0, MM_BYTES, 8),
        Place::Of("file.dentry"),
        Place::Of("dentry.d_name"),
    ],
    place: Place::At(0),
    words: &[Word::Masked(Fact::Executable, Fact::ExecutableMask)],
    apart: MM_APART,
    fields: &[(1, field("mm_struct.exe_file", What::Pointer, 0))],
    lost: "exe",
    ..RULE
};

/// The mappings of both children, with what is known of each.
#[derive(Default)]
pub(super) struct Mapped {
    pub all: Vec<Subject>,
    pub of_files: Vec<Subject>,
    /// Of files that the child has made: on the inner file system, on the outer one.
    pub inner: Vec<Subject>,
    pub outer: Vec<Subject>,
}

impl Search<'_> {
    /// task -> mm -> each mapping -> its values, and what is mapped.
    pub(super) fn memory(&mut self, tasks: &[Subject], children: &[Child]) {
        if !self.find(tasks, &MM) {
            self.layout.lose("memory_layout");
        }
        self.find_all(tasks, &[VDSO]);
        let mapped = self.list_or_tree(tasks, children);
        // A mapping of a file whose name is not to be had would pass for one of none.
        let found = mapped.is_some_and(|mut mapped| {
            self.find_all(&mapped.all, OF_ALL)
                && self.find_all(&mapped.of_files, OF_FILES)
                && self.files(&mut mapped)
        });
        if found {
            self.find_all(tasks, &[EXECUTABLE]);
        } else {
            self.layout.forget("mm_struct.mmap");
            self.layout.forget("mm_struct.mm_mt");
            self.layout.lose("mappings");
            self.layout.lose("exe");
        }
    }

    fn list_or_tree(&mut self, tasks: &[Subject], children: &[Child]) -> Option<Mapped> {
        if self.find_all(tasks, LIST) {
            return self.mapped(tasks, children);
        }
        self.layout.forget("mm_struct.mmap");
        // From 6.1: the place in mm_struct from which a tree hangs that holds all mappings.
        for at in (0..MM_BYTES).step_by(8) {
            let root = field("mm_struct.mm_mt", What::MapleTree, at);
            self.layout.fields.push(root);
            let mapped = self.mapped(tasks, children);
            if mapped.is_some() {
                return mapped;
            }
            self.layout.fields.pop();
        }
        None
    }

    /// The mappings, if they are those that /proc/PID/maps has.
    fn mapped(&mut self, tasks: &[Subject], children: &[Child]) -> Option<Mapped> {
        let mut mapped = Mapped::default();
        for (task, child) in tasks.iter().zip(children) {
            let mm = self.word_of(task.at, "task_struct.mm")?;
            let mut vmas = Vec::new();
            match self.layout.place("mm_struct.mmap") {
                Some(head) => self.list(plus(mm, head), &mut vmas)?,
                None => self.tree(mm, &mut vmas)?,
            }
            if vmas.len() != child.seen.lines.len() {
                return None;
            }
            for (at, line) in vmas.into_iter().zip(&child.seen.lines) {
                let bounds = (self.pieces.u64(at)?, self.pieces.u64(plus(at, 8))?);
                if bounds != (line.start, line.end) {
                    return None;
                }
                let mut facts = task.facts.clone();
                facts.set(Fact::Mm, mm);
                facts.set(Fact::Flags, line.flags);
                facts.set(Fact::PageOffset, line.file_offset / self.tool.page_bytes);
                facts.set(Fact::File, line.inode);
                mapped.add(
                    Subject { at, facts },
                    child.seen.known,
                    line,
                    self.tool.page_bytes,
                );
            }
        }
        Some(mapped)
    }

    /// From the pointer to the first mapping on: include/linux/mm_types.h.
    fn list(&mut self, head: u64, into: &mut Vec<u64>) -> Option<()> {
        let mut vma = self.pieces.u64(head)?;
        while vma != 0 && into.len() < MOST_MAPPINGS {
            into.push(vma);
            vma = self.pieces.u64(plus(vma, NEXT_AT))?;
        }
        Some(())
    }

    fn tree(&mut self, mm: u64, into: &mut Vec<u64>) -> Option<()> {
        // An address with this mark, which makes it no address of another structure's.
        const MARK: u64 = 2;
        let root = self.word_of(mm, "mm_struct.mm_mt")?;
        if root & 3 != MARK {
            return None;
        }
        entries(&mut self.pieces, root, u64::MAX, 0, into)
    }
}

/// What is stored below a node of the tree, in order of address; `max` is the last one below
/// it. Nodes have 256 bytes, their kind stands in the address: include/linux/maple_tree.h.
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
