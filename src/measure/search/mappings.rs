//! The memory descriptor and the list, or the tree, of what is mapped.

use super::{Place, Rule, Search, Subject, Word, ALL, LOW, RULE};
use crate::measure::facts::{Child, Fact, Known};
use crate::measure::layout::{field, What};
use crate::measure::pieces::{is_kernel_address, Pieces};
use crate::procfs::Line;

/// No mm_struct has what is wanted further in; with its mask of CPUs it may be long.
const MM_BYTES: u32 = 2048;
/// No mm_struct is smaller, and no vm_area_struct.
const MM_APART: u32 = 768;
const VMA_APART: u32 = 144;
/// More than the children map.
const MOST_MAPPINGS: usize = 1000;
const AT_SYSINFO_EHDR: u64 = 33;
/// `vm_next`, as long as there was a list (up to 6.0): behind the bounds.
const NEXT_AT: u32 = 16;
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
    fields: &[
        (0, field("task_struct.mm", What::Pointer, 0)),
        (1, field("mm_struct.start_code", What::U64, 0)),
        (1, field("mm_struct.start_brk", What::U64, 32)),
        (1, field("mm_struct.brk", What::U64, 40)),
        (1, field("mm_struct.start_stack", What::U64, 48)),
        (1, field("mm_struct.arg_start", What::U64, 56)),
        (1, field("mm_struct.arg_end", What::U64, 64)),
        (1, field("mm_struct.env_end", What::U64, 80)),
    ],
    ..RULE
};

const MM_VALUES: &[Rule] = &[
    Rule {
        place: Place::Before("mm_struct.start_code", 4),
        words: &[Word::Same(Fact::MapCount, LOW)],
        fields: &[(0, field("mm_struct.map_count", What::U32, 0))],
        ..RULE
    },
    // It stands in the copy of the auxiliary vector too, behind its tag.
    Rule {
        place: Place::Within(0, MM_BYTES, 8),
        words: &[Word::Not(AT_SYSINFO_EHDR), Word::Same(Fact::Vdso, ALL)],
        apart: MM_APART,
        fields: &[(0, field("mm_struct.context", What::MmContext, 8))],
        lost: "vdso",
        ..RULE
    },
];

/// Up to 6.0: the list of mappings, and where it ends.
const LIST: &[Rule] = &[
    Rule {
        path: &[Place::Before("mm_struct.start_code", 8)],
        place: Place::At(0),
        words: &[
            Word::Same(Fact::FirstStart, ALL),
            Word::Same(Fact::FirstEnd, ALL),
        ],
        fields: &[(0, field("mm_struct.mmap", What::Pointer, 0))],
        ..RULE
    },
    Rule {
        place: Place::Before("mm_struct.start_code", 8),
        words: &[Word::Same(Fact::LastEnd, ALL)],
        fields: &[(0, field("mm_struct.highest_vm_end", What::U64, 0))],
        ..RULE
    },
];

const MAPPING: &[Rule] = &[
    Rule {
        place: Place::Within(16, 256, 8),
        words: &[Word::Same(Fact::Mm, ALL)],
        apart: VMA_APART,
        fields: &[(0, field("vm_area_struct.vm_mm", What::Pointer, 0))],
        lost: "mappings",
        ..RULE
    },
    Rule {
        place: Place::Within(16, 256, 8),
        words: &[Word::Same(Fact::Flags, FLAGS)],
        apart: VMA_APART,
        fields: &[(0, field("vm_area_struct.vm_flags", What::U64, 0))],
        lost: "mappings",
        ..RULE
    },
];

const FILE: Rule = Rule {
    place: Place::Within(16, 256, 8),
    words: &[Word::Pointer(Fact::File)],
    apart: VMA_APART,
    fields: &[(0, field("vm_area_struct.vm_file", What::Pointer, 0))],
    ..RULE
};

/// Only of files: what it means elsewhere has changed.
const PAGE_OFFSET: Rule = Rule {
    place: Place::Within(16, 256, 8),
    words: &[Word::Same(Fact::PageOffset, ALL)],
    fields: &[(0, field("vm_area_struct.vm_pgoff", What::U64, 0))],
    ..RULE
};

/// mm -> the file that was executed
const EXECUTABLE: Rule = Rule {
    path: &[
        Place::Within(0, MM_BYTES, 8),
        Place::Of("file.dentry"),
        Place::Of("dentry.d_name"),
    ],
    place: Place::At(0),
    words: &[
        Word::Masked(Fact::Executable, Fact::ExecutableMask),
        Word::Masked(Fact::ExecutableEnd, Fact::ExecutableMaskEnd),
    ],
    apart: MM_APART,
    fields: &[(0, field("mm_struct.exe_file", What::Pointer, 0))],
    ..RULE
};

/// One mapping of one child.
pub(super) struct Mapped<'a> {
    pub vma: u64,
    /// The child's mm_struct.
    pub space: &'a Subject,
    pub known: Known,
    pub line: &'a Line,
}

impl Search<'_> {
    /// task -> mm -> each mapping -> its values, and what is mapped.
    pub(super) fn memory(&mut self, tasks: &[Subject], children: &[Child]) {
        let Some([at, ..]) = self.find(tasks, &MM) else {
            self.layout.lose("memory_layout");
            self.layout.lose("mappings");
            self.layout.lose("exe");
            return;
        };
        let mut spaces = tasks.to_vec();
        for space in &mut spaces {
            space.at = self.pieces.u64(space.at + u64::from(at)).unwrap_or(0);
            space.facts.set(Fact::Mm, space.at);
        }
        self.find_all(&spaces, MM_VALUES);
        if self.list_or_tree(&spaces, children).is_none() {
            self.layout.forget("mm_struct.mmap");
            self.layout.forget("mm_struct.mm_mt");
            self.layout.lose("mappings");
            self.layout.lose("exe");
        } else if self.find(&spaces, &EXECUTABLE).is_none() {
            self.layout.lose("exe");
        }
    }

    fn list_or_tree(&mut self, spaces: &[Subject], children: &[Child]) -> Option<()> {
        if self.find_list(spaces).is_none() {
            self.find_tree(spaces, children)?;
        }
        let head = self.layout.place("mm_struct.mmap");
        let root = self.layout.place("mm_struct.mm_mt");
        let mut mapped = Vec::new();
        for (space, child) in spaces.iter().zip(children) {
            let mut entries = Vec::new();
            match (head, root) {
                (Some(head), _) => self.list(space.at + u64::from(head), &mut entries)?,
                (_, Some(root)) => self.tree(space.at + u64::from(root), &mut entries)?,
                _ => return None,
            }
            if !self.are_lines(&entries, &child.seen.lines) {
                return None;
            }
            let known = child.seen.known;
            for (vma, line) in entries.into_iter().zip(&child.seen.lines) {
                mapped.push(Mapped {
                    vma,
                    space,
                    known,
                    line,
                });
            }
        }
        if head.is_some() {
            let next = field("vm_area_struct.vm_next", What::Pointer, NEXT_AT);
            self.layout.fields.push(next);
        }
        self.mapping_values(children.len(), &mapped)
    }

    fn mapping_values(&mut self, children: usize, mapped: &[Mapped<'_>]) -> Option<()> {
        let mut all = Vec::new();
        let mut of_files = Vec::new();
        for one in mapped {
            let mut facts = one.space.facts.clone();
            facts.set(Fact::Flags, one.line.flags);
            facts.set(
                Fact::PageOffset,
                one.line.file_offset / self.tool.page_bytes,
            );
            facts.set(Fact::File, one.line.inode);
            let at = one.vma;
            let subject = Subject { at, facts };
            if one.line.inode != 0 {
                of_files.push(subject.clone());
            }
            all.push(subject);
        }
        if !self.find_all(&all, MAPPING) {
            return None;
        }
        // A mapping of a file whose name is not to be had would pass for one of none.
        self.find(&all, &FILE)?;
        self.find(&of_files, &PAGE_OFFSET)?;
        self.files(children, mapped)
    }

    fn find_list(&mut self, spaces: &[Subject]) -> Option<()> {
        for rule in LIST {
            self.find(spaces, rule)?;
        }
        Some(())
    }

    /// From the pointer to the first mapping on: include/linux/mm_types.h.
    fn list(&mut self, head: u64, into: &mut Vec<u64>) -> Option<()> {
        let mut vma = self.pieces.u64(head)?;
        while vma != 0 && into.len() < MOST_MAPPINGS {
            into.push(vma);
            vma = self.pieces.u64(vma.checked_add(NEXT_AT.into())?)?;
        }
        Some(())
    }

    /// Whether these are the mappings that /proc/PID/maps has.
    fn are_lines(&mut self, entries: &[u64], lines: &[Line]) -> bool {
        let mut are = entries.len() == lines.len();
        for (vma, line) in entries.iter().zip(lines) {
            let end = self.pieces.u64(vma.saturating_add(8));
            are &= self.pieces.u64(*vma) == Some(line.start) && end == Some(line.end);
        }
        are
    }

    /// From 6.1: the one place in mm_struct from which a tree hangs that holds all mappings.
    fn find_tree(&mut self, spaces: &[Subject], children: &[Child]) -> Option<()> {
        let run = self.layout.place("mm_struct.start_code")?;
        let mut found = None;
        for at in (0..run).step_by(8) {
            let mut holds = true;
            for (space, child) in spaces.iter().zip(children) {
                let mut entries = Vec::new();
                holds = holds
                    && self.tree(space.at + u64::from(at), &mut entries).is_some()
                    && self.are_lines(&entries, &child.seen.lines);
            }
            if holds && found.replace(at).is_some() {
                return None;
            }
        }
        let root = field("mm_struct.mm_mt", What::MapleTree, found?);
        self.layout.fields.push(root);
        Some(())
    }

    fn tree(&mut self, root: u64, into: &mut Vec<u64>) -> Option<()> {
        // An address with this mark, which makes it no address of another structure's.
        const MARK: u64 = 2;
        let root = self.pieces.u64(root)?;
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
