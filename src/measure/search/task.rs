//! What stands in task_struct itself, and in what it points to at one remove.

use super::{adjacent, nearest, neighbours, only, targets, Search, SearchError};
use crate::measure::layout::What;
use crate::measure::pieces::is_kernel_address;

/// No task is larger.
const TASK_BYTES: u32 = 24 << 10;
/// `X86_TRAP_PF`; the error code of a user's write to what is not there.
const PAGE_FAULT: u64 = 14;
const USER_WRITE: u64 = 6;
/// arm64: exception class of a data abort from user space, and the bit of a write.
const DATA_ABORT: u64 = 0x24;
const WRITE_NOT_READ: u64 = 1 << 6;
const NS_PER_TICK: u64 = 10_000_000;
/// How much older a process must be, so that none of its other times is near.
const OLDER_TICKS: u64 = 6;
const MAX_LEVEL: u32 = 32;
const MAX_REFERENCES: u32 = 1 << 16;

impl Search<'_> {
    /// The processor's account of the fault: `thread`, which ends a task.
    pub(super) fn trap(&mut self) -> Result<(), SearchError> {
        let children = self.children;
        let aarch64 = self.tool.aarch64;
        let found = self.places(&self.tasks(), 0..TASK_BYTES, 8, &mut |pieces, index, at| {
            if pieces.u64(at) != Some(children[index].seen.known.fault_address()) {
                return false;
            }
            let next = pieces.u64(at + 8);
            if aarch64 {
                next.is_some_and(|esr| esr >> 26 == DATA_ABORT && esr & WRITE_NOT_READ != 0)
            } else {
                next == Some(PAGE_FAULT) && pieces.u64(at + 16) == Some(USER_WRITE)
            }
        });
        let at = only(&found).ok_or(SearchError::NoTrap)?;
        self.limit = at;
        let layout = &mut self.layout;
        // Where thread begins does not matter: its fields are counted from the task.
        layout.found("task_struct", "thread", 0, What::Struct("thread_struct"));
        if aarch64 {
            layout.found("thread_struct", "fault_address", at, What::U64);
            layout.found("thread_struct", "fault_code", at + 8, What::U64);
        } else {
            layout.found("thread_struct", "cr2", at, What::U64);
            layout.found("thread_struct", "trap_nr", at + 8, What::U64);
            layout.found("thread_struct", "error_code", at + 16, What::U64);
        }
        Ok(())
    }

    pub(super) fn task(&mut self) {
        self.names_and_ids();
        self.stack();
        self.segment_bases();
        self.start_time();
        self.pid_structure();
        self.mount_namespace();
    }

    fn in_tasks(&mut self, test: impl Fn(usize, u64) -> bool) -> Vec<u32> {
        let (tasks, limit) = (self.tasks(), self.limit);
        self.places(&tasks, 0..limit, 8, &mut |pieces, index, at| {
            pieces.u64(at).is_some_and(|word| test(index, word))
        })
    }

    fn names_and_ids(&mut self) {
        let children = self.children;
        let (tasks, limit) = (self.tasks(), self.limit);
        let comm = self.places(&tasks, 0..limit, 8, &mut |pieces, index, at| {
            pieces.is_text(at, &children[index].seen.name)
        });
        let (comm, what) = (only(&comm), What::Bytes(16));
        self.layout.note("task_struct", "comm", comm, what, "name");

        let own = self.tool.task;
        let parents = self.in_tasks(|_, word| word == own);
        // real_parent and parent; the scheduler keeps whom a task woke last elsewhere.
        let (parent, what) = (neighbours(&parents), What::Pointer);
        self.layout
            .note("task_struct", "real_parent", parent, what, "parent");

        let ids = self.places(&tasks, 0..limit, 4, &mut |pieces, index, at| {
            let (process, thread) = children[index].host_ids;
            pieces.u32(at) == Some(thread) && pieces.u32(at + 4) == Some(process)
        });
        let Some(ids) = only(&ids) else {
            self.layout.lose("group leader");
            return;
        };
        let leader = self.places(&tasks, 0..limit, 8, &mut |pieces, index, at| {
            let (process, thread) = children[index].host_ids;
            let Some(leader) = pieces.pointer(at) else {
                return false;
            };
            if process == thread {
                return leader == children[index].task;
            }
            let at = leader.saturating_add(u64::from(ids));
            pieces.u32(at) == Some(process) && pieces.u32(at.saturating_add(4)) == Some(process)
        });
        let what = What::Pointer;
        self.layout.note(
            "task_struct",
            "group_leader",
            only(&leader),
            what,
            "group leader",
        );
    }

    /// Where the stack begins, the size with which its top is where the registers were found,
    /// and the stack for signals.
    fn stack(&mut self) {
        let children = self.children;
        let assumed = self.tool.stack_bytes;
        let mut places = Vec::new();
        for size in [8u64 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10] {
            let found = self.in_tasks(|index, word| {
                let top = (children[index].frame & !(assumed - 1)).wrapping_add(assumed);
                word == top.wrapping_sub(size)
            });
            places.extend(found.into_iter().map(|at| (at, size)));
        }
        match places.as_slice() {
            [(at, size)] => {
                self.layout.thread_size = Some(*size);
                self.layout
                    .found("task_struct", "stack", *at, What::Pointer);
            }
            _ => self.layout.lose("kernel stack"),
        }
        let (tasks, limit) = (self.tasks(), self.limit);
        let alternate = self.places(&tasks, 0..limit, 8, &mut |pieces, index, at| {
            let told = children[index].seen.told;
            pieces.u64(at) == Some(told.alternate_start)
                && pieces.u64(at + 8) == Some(told.alternate_bytes)
        });
        match only(&alternate) {
            Some(at) => {
                self.layout.found("task_struct", "sas_ss_sp", at, What::U64);
                self.layout
                    .found("task_struct", "sas_ss_size", at + 8, What::U64);
            }
            None => self.layout.lose("signal stack"),
        }
    }

    fn segment_bases(&mut self) {
        if self.tool.aarch64 {
            return;
        }
        let children = self.children;
        let fs = self.in_tasks(|index, word| word == children[index].seen.told.fs_base);
        let what = What::U64;
        self.layout
            .note("thread_struct", "fsbase", only(&fs), what, "segment bases");
        let has = children
            .iter()
            .all(|child| child.seen.told.has_gs_base != 0 && child.seen.told.fs_base != 0);
        let gs = self.in_tasks(|index, word| has && word == children[index].seen.known.gs_base());
        self.layout
            .note("thread_struct", "gsbase", only(&gs), what, "segment bases");
    }

    /// When the process began. A young task has many times in the same hundredth of a second,
    /// so an older one has to agree: an ancestor of the tool's.
    fn start_time(&mut self) {
        let mut tasks = self.tasks();
        let mut ticks: Vec<u64> = self.children.iter().map(|c| c.seen.start_ticks).collect();
        let youngest = ticks.iter().copied().min().unwrap_or(0);
        let mut is_certain = false;
        let parent = self.layout.place("task_struct", "real_parent");
        let leader = self.layout.place("task_struct", "group_leader");
        if let Some((parent, leader)) = parent.zip(leader) {
            let mut task = self.tool.task;
            for ancestor in &self.tool.ancestors {
                // A parent is a thread, and not always the first one of its process.
                let thread = self.pieces.pointer(task + u64::from(parent));
                let first =
                    thread.and_then(|thread| self.pieces.pointer(thread + u64::from(leader)));
                let Some(next) = first else { break };
                task = next;
                tasks.push(task);
                ticks.push(*ancestor);
                is_certain |= ancestor + OLDER_TICKS <= youngest;
            }
        }
        let limit = self.limit;
        let found = self.places(&tasks, 0..limit, 8, &mut |pieces, index, at| {
            pieces.u64(at).map(|ns| ns / NS_PER_TICK) == Some(ticks[index])
        });
        // By the monotonic clock, then by that of the boot; one alone if the host has slept.
        let at = adjacent(&found).map(|at| at + 8).or(only(&found));
        let at = at.filter(|_| is_certain);
        let what = What::U64;
        self.layout
            .note("task_struct", "start_boottime", at, what, "start time");
    }

    /// struct pid: how many times it is referred to, its level, and at the end a number for
    /// each level.
    fn pid_structure(&mut self) {
        let limit = self.limit;
        let mut common: Option<Vec<(u32, u32, u64)>> = None;
        for child in self.children {
            let pointers = self.pieces.pointers(child.task, limit);
            self.pieces.want(&targets(&pointers), 8);
            let mut here = Vec::new();
            for (at, to) in pointers {
                let Some(references) = self.pieces.u32(to) else {
                    continue;
                };
                let Some(level) = self.pieces.u32(to.saturating_add(4)) else {
                    continue;
                };
                if references == 0 || references > MAX_REFERENCES || level > MAX_LEVEL {
                    continue;
                }
                for numbers in (8..256).step_by(8) {
                    let first = to.saturating_add(u64::from(numbers));
                    let own = first.saturating_add(u64::from(level) * 16);
                    let holds = self.pieces.u32(first) == Some(child.host_ids.1)
                        && self.pieces.u32(own).map(u64::from) == Some(child.seen.told.tid);
                    let namespace = self.pieces.pointer(own.saturating_add(8));
                    if let (true, Some(namespace)) = (holds, namespace) {
                        here.push((at, numbers, namespace));
                    }
                }
            }
            common = Some(match common {
                None => here,
                Some(before) => before
                    .into_iter()
                    .filter(|(at, numbers, _)| here.iter().any(|(a, n, _)| a == at && n == numbers))
                    .collect(),
            });
        }
        let found = common.and_then(|found| nearest(&found, |(_, numbers, _)| *numbers));
        let Some((at, numbers, namespace)) = found else {
            self.layout.lose("pids of namespaces");
            return;
        };
        let own = self.tool.pid_namespace;
        let inode = self.places(&[namespace], 0..1024, 4, &mut |pieces, _, at| {
            pieces.u32(at) == Some(own)
        });
        let Some(inode) = only(&inode) else {
            self.layout.lose("pids of namespaces");
            return;
        };
        let layout = &mut self.layout;
        layout.found("task_struct", "thread_pid", at, What::Pointer);
        layout.found("pid", "level", 4, What::U32);
        layout.found("pid", "numbers", numbers, What::Structs("upid"));
        layout.found("pid_namespace", "ns", inode, What::Struct("ns_common"));
    }

    /// task -> nsproxy -> mnt_namespace -> inode
    fn mount_namespace(&mut self) {
        let limit = self.limit;
        let mut common: Option<Vec<(u32, u32, u32)>> = None;
        for child in self.children {
            let Some(wanted) = child.seen.mount_namespace else {
                break;
            };
            let pointers = self.pieces.pointers(child.task, limit);
            self.pieces.want(&targets(&pointers), 64);
            let mut chains = Vec::new();
            for (at, proxy) in pointers {
                // As many references as it has threads, then pointers, some of them null.
                let references = self.pieces.u64(proxy).unwrap_or(0) as u32;
                if references == 0 || references > MAX_REFERENCES {
                    continue;
                }
                for within in (8..64).step_by(8) {
                    match self.pieces.u64(proxy.saturating_add(within)) {
                        Some(to) if is_kernel_address(to) => chains.push((at, within as u32, to)),
                        Some(0) => {}
                        _ => break,
                    }
                }
            }
            let ends: Vec<u64> = chains.iter().map(|(_, _, to)| *to).collect();
            self.pieces.want(&ends, 256);
            let mut here = Vec::new();
            for (at, within, to) in chains {
                for inode in (0..256u32).step_by(4) {
                    if self.pieces.u32(to.saturating_add(u64::from(inode))) == Some(wanted) {
                        here.push((at, within, inode));
                    }
                }
            }
            common = Some(match common {
                None => here,
                Some(before) => before.into_iter().filter(|c| here.contains(c)).collect(),
            });
        }
        let found = common.and_then(|found| nearest(&found, |(_, _, inode)| *inode));
        let Some((proxy, within, inode)) = found else {
            self.layout.lose("mount namespace");
            return;
        };
        let layout = &mut self.layout;
        layout.found("task_struct", "nsproxy", proxy, What::Pointer);
        layout.found("nsproxy", "mnt_ns", within, What::Pointer);
        layout.found("mnt_namespace", "ns", inode, What::Struct("ns_common"));
    }
}
