//! The memory descriptor and the list, or the tree, of what is mapped.

use super::{adjacent, only, Search};
use crate::measure::facts::MemoryLayout;
use crate::measure::layout::What;
use crate::measure::pieces::{is_kernel_address, Pieces, PIECE};

/// No mm_struct has what is wanted further in; with its mask of CPUs it may be long.
const MM_BYTES: u32 = 2048;
const VMA_BYTES: u32 = 256;
/// start_code to env_end.
const RUN_BYTES: u32 = 88;
const AT_SYSINFO_EHDR: u64 = 33;
/// More than the children map.
const MAX_MAPPINGS: usize = 1000;

/// A child's mm_struct and where the run of values begins in it.
pub(super) struct Space {
    pub(super) mm: u64,
    pub(super) run: u32,
}

/// One mapping of one child.
pub(super) struct Mapped {
    pub(super) vma: u64,
    pub(super) child: usize,
    pub(super) line: usize,
}

/// Whether the values stand in a row at an address.
fn is_run(pieces: &mut Pieces<'_>, at: u64, layout: &MemoryLayout) -> bool {
    let mut holds = |from: u64, words: &[u64]| {
        (from..)
            .step_by(8)
            .zip(words)
            .all(|(place, word)| pieces.u64(at.saturating_add(place)) == Some(*word))
    };
    holds(0, &layout.first) && holds(48, &layout.last)
}

impl Search<'_> {
    /// task -> mm, by the values that /proc/PID/stat tells.
    pub(super) fn memory(&mut self) -> Option<Vec<Space>> {
        let found = self.find_memory();
        if found.is_none() {
            self.layout.lose("memory layout");
            self.layout.lose("mappings");
            self.layout.lose("executable");
        }
        found
    }

    fn find_memory(&mut self) -> Option<Vec<Space>> {
        let children = self.children;
        let first = children.first()?;
        // A layout that may not be seen reads as zeros and ones.
        if children
            .iter()
            .any(|child| child.seen.layout.last[0] < 4096)
        {
            return None;
        }
        let pointers = self.pieces.pointers(first.task, self.limit);
        let mut found: Vec<(u32, u32)> = Vec::new();
        for (at, mm) in pointers {
            self.pieces.want(&[mm], (MM_BYTES + RUN_BYTES) as usize);
            for run in (0..MM_BYTES).step_by(8) {
                if is_run(&mut self.pieces, mm + u64::from(run), &first.seen.layout) {
                    found.push((run, at));
                }
            }
        }
        let pieces = &mut self.pieces;
        found.retain(|(run, at)| {
            children.iter().all(|child| {
                let mm = pieces.pointer(child.task + u64::from(*at));
                mm.is_some_and(|mm| is_run(pieces, mm + u64::from(*run), &child.seen.layout))
            })
        });
        // The neighbour of an mm, which something else points to, sees the run further off.
        let run = found.iter().map(|(run, _)| *run).min()?;
        let places: Vec<u32> = found
            .iter()
            .filter(|(other, _)| *other == run)
            .map(|(_, at)| *at)
            .collect();
        // mm and active_mm
        let at = adjacent(&places)?;
        self.layout.found("task_struct", "mm", at, What::Pointer);
        for (name, place) in [
            ("start_brk", 32),
            ("start_stack", 48),
            ("arg_start", 56),
            ("arg_end", 64),
            ("env_end", 80),
        ] {
            self.layout.found("mm_struct", name, run + place, What::U64);
        }
        let mut spaces = Vec::new();
        for child in children {
            let mm = self.pieces.pointer(child.task + u64::from(at))?;
            spaces.push(Space { mm, run });
        }
        self.space_values(&spaces);
        Some(spaces)
    }

    /// What stands alone in mm_struct.
    fn space_values(&mut self, spaces: &[Space]) {
        let children = self.children;
        let starts: Vec<u64> = spaces.iter().map(|space| space.mm).collect();
        let run = spaces[0].run;
        let brk = self.places(&starts, run + 40..run + 48, 8, &mut |pieces, index, at| {
            pieces.u64(at) == Some(children[index].seen.told.brk)
        });
        let what = What::U64;
        self.layout
            .note("mm_struct", "brk", only(&brk), what, "break");
        let count = self.places(&starts, 0..run, 4, &mut |pieces, index, at| {
            pieces.u32(at).map(|count| count as usize) == Some(children[index].seen.lines.len())
        });
        let what = What::U32;
        self.layout.note(
            "mm_struct",
            "map_count",
            only(&count),
            what,
            "number of mappings",
        );
        let vdso = self.places(&starts, 0..MM_BYTES, 8, &mut |pieces, index, at| {
            let lines = &children[index].seen.lines;
            let vdso = lines.iter().find(|line| line.path == b"[vdso]");
            // It stands in the copy of the auxiliary vector too, behind its tag.
            vdso.is_some_and(|line| pieces.u64(at) == Some(line.start))
                && pieces.u64(at.saturating_sub(8)) != Some(AT_SYSINFO_EHDR)
        });
        match only(&vdso) {
            Some(at) => {
                let what = What::Struct("mm_context_t");
                self.layout.found("mm_struct", "context", at, what);
                self.layout.found("mm_context_t", "vdso", 0, What::Pointer);
            }
            None => self.layout.lose("vdso"),
        }
    }

    /// mm -> each mapping -> its values, and what is mapped.
    pub(super) fn mappings_and_files(&mut self, spaces: &[Space]) {
        let Some(mapped) = self.list(spaces).or_else(|| self.tree(spaces)) else {
            self.layout.lose("mappings");
            self.layout.lose("executable");
            return;
        };
        let children = self.children;
        let starts: Vec<u64> = mapped.iter().map(|one| one.vma).collect();
        let line = |index: usize| {
            let one: &Mapped = &mapped[index];
            &children[one.child].seen.lines[one.line]
        };
        self.layout
            .found("vm_area_struct", "vm_start", 0, What::U64);
        self.layout.found("vm_area_struct", "vm_end", 8, What::U64);
        let owner = self.places(&starts, 16..VMA_BYTES, 8, &mut |pieces, index, at| {
            pieces.u64(at) == Some(spaces[mapped[index].child].mm)
        });
        let flags = self.places(&starts, 16..VMA_BYTES, 8, &mut |pieces, index, at| {
            let found = pieces.u64(at);
            found.is_some_and(|found| !is_kernel_address(found) && found & 7 == line(index).flags)
        });
        let page = self.tool.page_bytes;
        let offset = self.places(&starts, 16..VMA_BYTES, 8, &mut |pieces, index, at| {
            let line = line(index);
            line.inode == 0 || pieces.u64(at) == Some(line.file_offset / page)
        });
        let file = self.places(&starts, 16..VMA_BYTES, 8, &mut |pieces, index, at| {
            let Some(word) = pieces.u64(at) else {
                return false;
            };
            if line(index).inode == 0 {
                word == 0
            } else {
                is_kernel_address(word)
            }
        });
        let fields = [
            ("vm_mm", only(&owner), What::Pointer),
            ("vm_flags", only(&flags), What::U64),
        ];
        if fields.iter().any(|(_, at, _)| at.is_none()) {
            self.layout.forget("mm_struct", "mmap");
            self.layout.forget("mm_struct", "mm_mt");
            self.layout.lose("mappings");
            self.layout.lose("executable");
            return;
        }
        for (name, at, what) in fields {
            self.layout
                .note("vm_area_struct", name, at, what, "mappings");
        }
        let what = What::U64;
        let offset = only(&offset);
        self.layout
            .note("vm_area_struct", "vm_pgoff", offset, what, "files");
        self.files(spaces, &mapped, &file);
    }

    /// Up to 6.0: the list of mappings, from its head to its end.
    fn list(&mut self, spaces: &[Space]) -> Option<Vec<Mapped>> {
        let children = self.children;
        let starts: Vec<u64> = spaces.iter().map(|space| space.mm).collect();
        let run = spaces.first()?.run;
        let heads = self.places(&starts, 0..run, 8, &mut |pieces, index, at| {
            let Some(line) = children[index].seen.lines.first() else {
                return false;
            };
            pieces
                .pointer(at)
                .is_some_and(|vma| is_mapping(pieces, vma, line.start, line.end))
        });
        // The cache of the last mappings that were looked up may hold the first one too.
        let head = *heads.first()?;
        let mut nexts = Vec::new();
        let mut mapped = Vec::new();
        for next in (16..VMA_BYTES).step_by(8) {
            let found = spaces.iter().enumerate().map(|(child, space)| {
                let head = self.pieces.pointer(space.mm + u64::from(head))?;
                self.follow(child, head, next)
            });
            if let Some(found) = found.collect::<Option<Vec<_>>>() {
                nexts.push(next);
                mapped = found.into_iter().flatten().collect();
            }
        }
        let next = only(&nexts)?;
        let highest = self.places(&starts, 0..run, 8, &mut |pieces, index, at| {
            let end = children[index].seen.lines.last().map(|line| line.end);
            end.is_some() && pieces.u64(at) == end
        });
        let highest = only(&highest)?;
        let layout = &mut self.layout;
        layout.found("mm_struct", "mmap", head, What::Pointer);
        layout.found("mm_struct", "highest_vm_end", highest, What::U64);
        layout.found("vm_area_struct", "vm_next", next, What::Pointer);
        Some(mapped)
    }

    fn follow(&mut self, child: usize, head: u64, next: u32) -> Option<Vec<Mapped>> {
        let mut vma = head;
        let mut mapped = Vec::new();
        for (line, known) in self.children[child].seen.lines.iter().enumerate() {
            if !is_mapping(&mut self.pieces, vma, known.start, known.end) {
                return None;
            }
            mapped.push(Mapped { vma, child, line });
            vma = self.pieces.u64(vma.saturating_add(u64::from(next)))?;
        }
        // The last one's is null, or another kind of mapping that /proc shows no line of.
        (vma == 0).then_some(mapped)
    }

    /// From 6.1: the tree, whose nodes have kept their shape (include/linux/maple_tree.h).
    fn tree(&mut self, spaces: &[Space]) -> Option<Vec<Mapped>> {
        let starts: Vec<u64> = spaces.iter().map(|space| space.mm).collect();
        let run = spaces.first()?.run;
        let roots = self.places(&starts, 0..run, 8, &mut |pieces, _, at| {
            pieces.pointer(at).is_some_and(tree::is_node)
        });
        let mut found = Vec::new();
        let mut mapped = Vec::new();
        for root in roots {
            let all = spaces.iter().enumerate().map(|(child, space)| {
                let root = self.pieces.pointer(space.mm + u64::from(root))?;
                self.climb(child, root)
            });
            if let Some(all) = all.collect::<Option<Vec<_>>>() {
                found.push(root);
                mapped = all.into_iter().flatten().collect();
            }
        }
        let root = only(&found)?;
        self.layout
            .found("mm_struct", "mm_mt", root, What::Struct("maple_tree"));
        Some(mapped)
    }

    fn climb(&mut self, child: usize, root: u64) -> Option<Vec<Mapped>> {
        let mut entries = Vec::new();
        tree::entries(&mut self.pieces, root, u64::MAX, 0, &mut entries)?;
        let lines = &self.children[child].seen.lines;
        if entries.len() != lines.len() {
            return None;
        }
        self.pieces.want(&entries, PIECE);
        let mut mapped = Vec::new();
        for (line, vma) in entries.into_iter().enumerate() {
            let known = &self.children[child].seen.lines[line];
            if !is_mapping(&mut self.pieces, vma, known.start, known.end) {
                return None;
            }
            mapped.push(Mapped { vma, child, line });
        }
        Some(mapped)
    }
}

/// Whether a mapping of these bounds stands at an address; they have always come first.
fn is_mapping(pieces: &mut Pieces<'_>, vma: u64, start: u64, end: u64) -> bool {
    pieces.u64(vma) == Some(start) && pieces.u64(vma.saturating_add(8)) == Some(end)
}

/// Nodes of the tree: 256 bytes, their kind in the address.
mod tree {
    use super::{is_kernel_address, Pieces, MAX_MAPPINGS};

    const LEAF: u64 = 1;
    const RANGE: u64 = 2;
    const ARANGE: u64 = 3;
    const MAX_DEPTH: u32 = 8;
    const RESERVED: u64 = 4096;

    pub(super) fn is_node(entry: u64) -> bool {
        entry & 3 == 2 && matches!(entry >> 3 & 15, LEAF..=ARANGE)
    }

    /// What is stored below a node, in order of address; `max` is the last one below it.
    pub(super) fn entries(
        pieces: &mut Pieces<'_>,
        node: u64,
        max: u64,
        depth: u32,
        into: &mut Vec<u64>,
    ) -> Option<()> {
        let (start, kind) = (node & !0xff, node >> 3 & 15);
        let (pivots, slots_at) = match kind {
            LEAF | RANGE => (15u64, 128),
            ARANGE => (9, 80),
            _ => return None,
        };
        if depth > MAX_DEPTH || into.len() > MAX_MAPPINGS || !is_kernel_address(start) {
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
            if last >= max {
                break;
            }
        }
        Some(())
    }
}
