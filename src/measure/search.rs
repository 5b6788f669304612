//! Where in the kernel's structures the known values stand.
//!
//! ```text
//! task of each child -- trap values, name, ids, times   (search/task.rs)
//!   -> mm -> its values, each mapping                    (search/memory.rs)
//!        -> file -> dentry, inode, mount                 (search/files.rs)
//! ```
//!
//! A place counts only if it is the only one that holds for both children, and
//! for every mapping and every file of theirs. What does not is left out and
//! named; nothing is guessed. Where two fields always have the same value, they
//! stand side by side, and their order is known; a kernel whose structures were
//! shuffled (`CONFIG_RANDSTRUCT`) fails that and loses those fields.
//!
//! Nothing here asks the system: [`Pieces`] answers for the kernel's memory.

use std::ops::Range;

use crate::measure::facts::{Child, Tool, REGISTERS};
use crate::measure::layout::Layout;
use crate::measure::pieces::{Memory, Pieces};

mod files;
mod memory;
mod task;

/// Why nothing at all can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchError {
    /// The children's fault address does not stand in their tasks, or not once.
    NoTrap,
    /// Their registers do not stand at the top of the kernel stack.
    NoRegisters,
}

impl std::fmt::Display for SearchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SearchError::NoTrap => "the fault address does not stand where tasks end",
            SearchError::NoRegisters => "the registers do not stand on the kernel stack",
        })
    }
}

impl std::error::Error for SearchError {}

/// Whether what stands at an address is what that structure, by number, should have there.
type Test<'a> = &'a mut dyn FnMut(&mut Pieces<'_>, usize, u64) -> bool;

/// A search under way.
struct Search<'a> {
    pieces: Pieces<'a>,
    children: &'a [Child],
    tool: &'a Tool,
    layout: Layout,
    /// Where the trap's values stand: everything else of a task stands below.
    limit: u32,
}

/// Searches all that can be found.
pub fn search(
    memory: &mut dyn Memory,
    children: &[Child],
    tool: &Tool,
) -> Result<Layout, SearchError> {
    let mut search = Search {
        pieces: Pieces::new(memory),
        children,
        tool,
        layout: Layout::default(),
        limit: 0,
    };
    search.registers()?;
    search.trap()?;
    search.task();
    if let Some(spaces) = search.memory() {
        search.mappings_and_files(&spaces);
    }
    search.layout.lose("cgroup");
    search.layout.add_constants(tool.aarch64);
    Ok(search.layout)
}

/// Where pointers lead to.
fn targets(pointers: &[(u32, u64)]) -> Vec<u64> {
    pointers.iter().map(|(_, to)| *to).collect()
}

/// The one place of a list that has one.
fn only(places: &[u32]) -> Option<u32> {
    match places {
        [place] => Some(*place),
        _ => None,
    }
}

/// The finding whose last offset is the lowest, if there is but one: what a pointer to the
/// structure's neighbour in memory sees, it sees further off.
fn nearest<T: Clone>(found: &[T], last: impl Fn(&T) -> u32) -> Option<T> {
    let lowest = found.iter().map(&last).min()?;
    let mut nearest = found.iter().filter(|one| last(one) == lowest);
    let one = nearest.next()?;
    nearest.next().is_none().then(|| one.clone())
}

/// The first of two neighbours, if there is nothing else.
fn adjacent(places: &[u32]) -> Option<u32> {
    match places {
        [_, _] => neighbours(places),
        _ => None,
    }
}

/// The first of two neighbours, whatever stands alone.
fn neighbours(places: &[u32]) -> Option<u32> {
    let pairs = places.windows(2).filter(|pair| pair[1] == pair[0] + 8);
    let firsts: Vec<u32> = pairs.map(|pair| pair[0]).collect();
    only(&firsts)
}

impl Search<'_> {
    /// The offsets at which a test holds for each of several structures of one kind; the test
    /// gets the number of the structure and the address.
    #[inline(never)]
    fn places(
        &mut self,
        starts: &[u64],
        range: Range<u32>,
        step: usize,
        test: Test<'_>,
    ) -> Vec<u32> {
        if starts.is_empty() {
            return Vec::new();
        }
        let bytes = range.end as usize + 8;
        self.pieces.want(starts, bytes);
        let mut found = Vec::new();
        for at in range.step_by(step) {
            let holds = starts
                .iter()
                .enumerate()
                .all(|(index, start)| test(&mut self.pieces, index, start + u64::from(at)));
            if holds {
                found.push(at);
            }
        }
        found
    }

    fn tasks(&self) -> Vec<u64> {
        self.children.iter().map(|child| child.task).collect()
    }

    /// The user's registers, counted from the top of the kernel's stack.
    fn registers(&mut self) -> Result<(), SearchError> {
        // struct pt_regs: arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h
        let (numbers, sp_at): ([usize; REGISTERS], usize) = if self.tool.aarch64 {
            ([19, 20, 21, 22, 23, 24], 248)
        } else {
            ([5, 4, 3, 2, 1, 0], 152)
        };
        let mut found: Option<Vec<usize>> = None;
        for child in self.children {
            let word = |at: usize| {
                let bytes = child.top.get(at..)?.first_chunk::<8>()?;
                Some(u64::from_le_bytes(*bytes))
            };
            let wanted = child.seen.known.registers();
            let here: Vec<usize> = (0..child.top.len())
                .step_by(8)
                .filter(|start| {
                    word(start + sp_at) == Some(child.seen.told.sp)
                        && numbers
                            .iter()
                            .zip(wanted)
                            .all(|(number, value)| word(start + number * 8) == Some(value))
                })
                .map(|start| child.top.len() - start)
                .collect();
            found = Some(match found {
                None => here,
                Some(before) => before.into_iter().filter(|at| here.contains(at)).collect(),
            });
        }
        match found.as_deref() {
            Some([from_top]) => {
                self.layout.regs_from_top = *from_top as u32;
                Ok(())
            }
            _ => Err(SearchError::NoRegisters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::measure::facts::{Known, MemoryLayout, Seen, Told};
    use crate::measure::pieces::PIECE;

    /// Memory of which each piece is noise, a pointer into itself, or not there; always the
    /// same for the same seed.
    struct Noise(u64);

    impl Memory for Noise {
        fn read(&mut self, addresses: &[u64]) -> Vec<Option<[u8; PIECE]>> {
            let mix = |word: u64| {
                let word = (word ^ word >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                word ^ word >> 29
            };
            let piece = |address: u64| {
                let mut bytes = [0; PIECE];
                for (at, word) in (address..).step_by(8).zip(bytes.chunks_exact_mut(8)) {
                    let noise = mix(at ^ self.0);
                    let value = match noise % 8 {
                        0 => 0,
                        1..=3 => 0xffff_8880_0000_0000 | noise >> 8 & 0xffff_fff8,
                        4 => 0xffff_8880_0000_001e | noise >> 8 & 0xffff_ff00,
                        5 => noise >> 8 & 7,
                        6 => u64::MAX - (noise & 0xffff),
                        _ => noise,
                    };
                    word.copy_from_slice(&value.to_le_bytes());
                }
                mix(!address ^ self.0)
                    .is_multiple_of(9)
                    .then_some(bytes)
                    .xor(Some(bytes))
            };
            addresses.iter().map(|address| piece(*address)).collect()
        }
    }

    fn child(number: u32) -> Child {
        let known = Known(number);
        let mut top = vec![0; 4096];
        let sp = 0x7f00_1234_0000;
        for (at, value) in [5usize, 4, 3, 2, 1, 0].iter().zip(known.registers()) {
            let place = 4096 - 168 + at * 8;
            top[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
        top[4096 - 16..4096 - 8].copy_from_slice(&u64::to_le_bytes(sp));
        Child {
            host_ids: (7, 7 + number),
            task: 0xffff_8880_0001_0000 + u64::from(number) * 0x8000,
            frame: 0xffff_c900_0000_3f00,
            top,
            seen: Seen {
                known,
                name: b"noise".to_vec(),
                told: Told {
                    sp,
                    ..Told::default()
                },
                pid: 7,
                parent: 1,
                lines: Vec::new(),
                layout: MemoryLayout {
                    first: [0; 5],
                    last: [1 << 20; 5],
                },
                start_ticks: 0,
                mount_namespace: Some(3),
                executable: Vec::new(),
            },
        }
    }

    fn tool() -> Tool {
        Tool {
            task: 0xffff_8880_0002_0000,
            host_ids: (1, 1),
            pid_namespace: 5,
            ancestors: vec![0; 8],
            executable: b"x".to_vec(),
            page_bytes: 4096,
            stack_bytes: 16384,
            aarch64: false,
        }
    }

    #[test]
    fn noise_is_taken_for_nothing() {
        let children = [child(0), child(1)];
        for seed in 0..20 {
            let mut noise = Noise(seed);
            assert_eq!(
                search(&mut noise, &children, &tool()).err(),
                Some(SearchError::NoTrap)
            );
            let mut search = Search {
                pieces: Pieces::new(&mut noise),
                children: &children,
                tool: &tool(),
                layout: Layout::default(),
                limit: 4096,
            };
            assert_eq!(search.registers(), Ok(()));
            assert_eq!(search.layout.regs_from_top, 168);
            search.task();
            assert!(search.memory().is_none());
            let names = ["comm", "thread_pid", "group_leader", "nsproxy", "mm"];
            for name in names {
                assert_eq!(search.layout.place("task_struct", name), None, "{name}");
            }
        }
    }

    #[test]
    fn without_registers_there_is_nothing() {
        let mut children = [child(0), child(1)];
        children[1].top.truncate(100);
        let answer = search(&mut Noise(1), &children, &tool());
        assert_eq!(answer.err(), Some(SearchError::NoRegisters));
    }

    #[test]
    fn one_place_is_certain_and_two_are_not() {
        assert_eq!(only(&[8]), Some(8));
        assert_eq!(only(&[8, 16]), None);
        assert_eq!(only(&[]), None);
        assert_eq!(
            nearest(&[(24, 40), (88, 176), (96, 176)], |f| f.1),
            Some((24, 40))
        );
        assert_eq!(nearest(&[(24, 40), (88, 40)], |f| f.1), None);
        assert_eq!(adjacent(&[8, 16]), Some(8));
        assert_eq!(adjacent(&[8, 24]), None);
        assert_eq!(adjacent(&[8, 16, 24]), None);
        assert_eq!(adjacent(&[8, 16, 80]), None);
        assert_eq!(neighbours(&[8, 16, 80]), Some(8));
        assert_eq!(neighbours(&[8, 16, 24]), None);
        assert_eq!(neighbours(&[8, 16, 80, 88]), None);
        assert_eq!(neighbours(&[8, 24]), None);
    }
}
