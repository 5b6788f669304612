//! The state of every process on the host, kept so that it is still known after a process
//! has died: its name, its parent, and where the code of which file is mapped.
//!
//! In: changes in the order of time, and processes as /proc showed them. Out: the state
//! of one process. A process that forks shares its mappings with its child until either
//! changes them. The memory for this has a limit: beyond it mappings are given up, and
//! the process is marked.

use std::rc::Rc;

use super::change::{Change, Name, NewMapping, NAME_BYTES};

/// Mappings with code of one process; more make it incomplete.
const MAX_MAPPINGS: usize = 2048;
/// Threads of one process that have names of their own.
const MAX_NAMES: usize = 4096;
/// Ended processes that are kept: the first thread of a process may end long
/// before the others.
const MAX_ENDED: usize = 64;
/// Recent files, whose paths are shared by the processes that map them next.
const MAX_RECENT: usize = 64;

/// The file of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownFile {
    pub inode: u64,
    /// Major << 20 | minor.
    pub device: u32,
    /// As the process saw it; empty if the kernel did not know it.
    pub path: Vec<u8>,
    pub deleted: bool,
    /// Has no place in a file system, such as a memfd.
    pub detached: bool,
}

/// A mapping that holds code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownMapping {
    pub start: u64,
    pub end: u64,
    /// As in `vm_flags`.
    pub flags: u64,
    pub file_offset: u64,
    /// When it was seen first.
    pub mapped_unix_ns: i64,
    pub file: Option<Rc<KnownFile>>,
}

/// Why some of a process's mappings may not be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Neither its beginning was seen nor could it be looked at.
    Unseen,
    /// Changes were lost.
    Lost,
    TooMany,
    Evicted,
}

/// One process. Times are `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub parent: u32,
    /// 0 if it is not known.
    pub started_ns: u64,
    /// When its program began: by fork or exec.
    pub image_ns: u64,
    /// Since when its mappings are known; 0 for never.
    pub whole_from_ns: u64,
    /// Changes up to here are in it already.
    pub seen_ns: u64,
    pub name: Name,
    /// When that was its name.
    pub named_ns: u64,
    /// The names of threads that differ from the process's.
    pub thread_names: Vec<(u32, Name)>,
    pub mnt_ns: u32,
    pub exe: Option<Rc<KnownFile>>,
    pub cmdline: Option<Rc<[u8]>>,
    /// Sorted by start, without overlaps.
    pub mappings: Rc<Vec<KnownMapping>>,
    /// The address of the vDSO.
    pub vdso: u64,
    /// The next file that it maps is its executable.
    pub awaits_exe: bool,
    pub is_cut: Option<Gap>,
    pub has_ended: bool,
    /// The last look at all processes did not find it.
    pub is_missing: bool,
}

impl Process {
    /// Whether an address is above all files that are mapped with code, as the first
    /// stack is; the kernel's own code has no file.
    #[must_use]
    pub(super) fn is_above_files(&self, address: u64) -> bool {
        let mut files = self.mappings.iter().filter(|known| known.file.is_some());
        files.all(|known| known.end <= address)
    }

    /// The name of one of its threads.
    #[must_use]
    pub(super) fn thread_name(&self, tid: u32) -> Name {
        let own = self.thread_names.iter().find(|(known, _)| *known == tid);
        own.map_or(self.name, |(_, name)| *name)
    }

    fn set_name(&mut self, pid: u32, tid: u32, name: Name) {
        self.thread_names.retain(|(known, _)| *known != tid);
        if pid == tid {
            self.name = name;
        } else if name != self.name && self.thread_names.len() < MAX_NAMES {
            self.thread_names.push((tid, name));
        }
    }

    /// Takes a mapping in, in the place of what was there before.
    pub(super) fn map(&mut self, new: KnownMapping) {
        if self.mappings.len() >= MAX_MAPPINGS {
            self.is_cut = Some(Gap::TooMany);
            return;
        }
        let mappings = Rc::make_mut(&mut self.mappings);
        let first = mappings.partition_point(|known| known.end <= new.start);
        let last = mappings.partition_point(|known| known.start < new.end);
        // The remaining parts of the outermost two, on either side.
        let before = mappings.get(first).filter(|known| known.start < new.start);
        let before = before.map(|known| KnownMapping {
            end: new.start,
            ..known.clone()
        });
        let after = mappings[..last].last().filter(|known| known.end > new.end);
        let after = after.map(|known| KnownMapping {
            start: new.end,
            file_offset: known.file_offset.wrapping_add(new.end - known.start),
            ..known.clone()
        });
        let kept = [before, Some(new), after];
        mappings.splice(first..last.max(first), kept.into_iter().flatten());
    }
}

/// All processes.
#[derive(Debug)]
pub(super) struct Processes {
    /// By pid.
    known: Vec<(u32, Box<Process>)>,
    /// In the order in which they ended.
    ended: Vec<u32>,
    recent: Vec<Rc<KnownFile>>,
    /// `CLOCK_BOOTTIME` up to which changes were lost.
    gap_ns: u64,
    max_bytes: usize,
    /// Held, or more.
    at_most_bytes: usize,
    /// The index of the process whose mappings were given up last.
    hand: usize,
    evicted: u64,
}

impl Processes {
    /// Holds about `max_bytes`.
    #[must_use]
    pub(super) fn new(max_bytes: usize) -> Self {
        Processes {
            known: Vec::new(),
            ended: Vec::new(),
            recent: Vec::new(),
            gap_ns: 0,
            max_bytes,
            at_most_bytes: 0,
            hand: 0,
            evicted: 0,
        }
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Lists of mappings, and processes, that were given up.
    #[must_use]
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    #[must_use]
    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        self.place(pid).ok().map(|place| &*self.known[place].1)
    }

    /// Its parent, if that is certain: an orphan gets another one.
    #[must_use]
    pub(super) fn parent(&self, process: &Process) -> Option<u32> {
        let parent = self.get(process.parent)?;
        let is_same = !parent.has_ended && parent.started_ns <= process.started_ns;
        is_same.then_some(process.parent)
    }

    /// What may be missing among its mappings.
    #[must_use]
    pub(super) fn gap(&self, process: &Process) -> Option<Gap> {
        match process.whole_from_ns {
            0 => Some(Gap::Unseen),
            from if from <= self.gap_ns => Some(Gap::Lost),
            _ => process.is_cut,
        }
    }

    /// Whether its last name may be that of another program: its exec may be among the lost
    /// records.
    #[must_use]
    pub(super) fn may_be_renamed(&self, process: &Process) -> bool {
        process.named_ns <= self.gap_ns
    }

    /// Takes in a process as /proc shows it, unless more is known of it.
    pub(super) fn found(&mut self, pid: u32, process: Process) {
        let known = self.get(pid);
        if known.is_some_and(|known| self.gap(known).is_none() && !known.has_ended) {
            return;
        }
        self.at_most_bytes += share_of_list(&process.mappings);
        self.insert(pid, process);
    }

    /// Forgets those that two looks did not find: their end was among what was lost. At
    /// the first what they did last may still be waiting in a ring. `there` is sorted.
    pub(super) fn forget_others(&mut self, there: &[u32]) {
        self.known.retain_mut(|(pid, process)| {
            let is_there = process.has_ended || there.binary_search(pid).is_ok();
            let was_missing = std::mem::replace(&mut process.is_missing, !is_there);
            is_there || !was_missing
        });
    }

    /// Takes in what /proc shows of a process that is ending: without its memory there
    /// are no mappings any more, but the rest is true.
    pub(super) fn found_ending(&mut self, pid: u32, process: Process) {
        if process.whole_from_ns != 0 || self.get(pid).is_none() {
            self.found(pid, process);
            return;
        }
        if let Ok(place) = self.place(pid) {
            let known = &mut self.known[place].1;
            known.parent = process.parent;
            known.name = process.name;
            known.named_ns = process.seen_ns;
            if known.started_ns == 0 {
                known.started_ns = process.started_ns;
            }
        }
    }

    /// Takes in a change. Its time is also given by the wall clock, for files.
    pub(super) fn apply(&mut self, time_ns: u64, unix_ns: i64, change: Change) {
        match change {
            Change::Lost(_) => self.gap_ns = self.gap_ns.max(time_ns),
            Change::Forked {
                pid,
                tid,
                parent,
                parent_tid,
            } => self.forked(time_ns, (pid, tid), (parent, parent_tid)),
            Change::Exited { pid, tid } => self.exited(time_ns, pid, tid),
            Change::Named {
                pid,
                tid,
                name,
                is_exec,
            } => {
                let Some(process) = self.changing(pid, time_ns) else {
                    return;
                };
                if is_exec {
                    *process = Process {
                        parent: process.parent,
                        started_ns: process.started_ns,
                        image_ns: time_ns,
                        whole_from_ns: time_ns,
                        mnt_ns: process.mnt_ns,
                        awaits_exe: true,
                        ..Process::default()
                    };
                }
                process.set_name(pid, tid, name);
                if pid == tid {
                    process.named_ns = time_ns;
                }
                self.at_most_bytes += size_of::<(u32, Name)>();
            }
            Change::Mapped { pid, mapping } => self.mapped(time_ns, unix_ns, pid, mapping),
            Change::Moved { pid, mnt_ns } => {
                if let Some(process) = self.changing(pid, time_ns) {
                    process.mnt_ns = mnt_ns;
                }
            }
        }
    }

    fn forked(&mut self, time_ns: u64, child: (u32, u32), parent: (u32, u32)) {
        let ((pid, tid), (parent, parent_tid)) = (child, parent);
        if pid == parent {
            let Some(process) = self.changing(pid, time_ns) else {
                return;
            };
            let name = process.thread_name(parent_tid);
            process.set_name(pid, tid, name);
            self.at_most_bytes += size_of::<(u32, Name)>();
            return;
        }
        if self.get(pid).is_some_and(|known| time_ns <= known.seen_ns) {
            return;
        }
        let mut process = match self.get(parent) {
            Some(known) => Process {
                name: known.thread_name(parent_tid),
                thread_names: Vec::new(),
                seen_ns: 0,
                has_ended: false,
                is_missing: false,
                ..known.clone()
            },
            None => Process::default(),
        };
        process.parent = parent;
        process.started_ns = time_ns;
        process.image_ns = time_ns;
        self.insert(pid, process);
    }

    fn exited(&mut self, time_ns: u64, pid: u32, tid: u32) {
        let Ok(place) = self.place(pid) else {
            return;
        };
        let process = &mut self.known[place].1;
        if time_ns <= process.seen_ns {
            return;
        }
        process.thread_names.retain(|(known, _)| *known != tid);
        if tid != pid {
            return;
        }
        process.has_ended = true;
        self.ended.push(pid);
        if self.ended.len() > MAX_ENDED {
            let oldest = self.ended.remove(0);
            if let Ok(place) = self.place(oldest) {
                // It may be another's number by now.
                if self.known[place].1.has_ended {
                    self.known.remove(place);
                }
            }
        }
    }

    fn mapped(&mut self, time_ns: u64, unix_ns: i64, pid: u32, new: NewMapping) {
        let file = self.file(&new);
        let gap_ns = self.gap_ns;
        let Some(process) = self.changing(pid, time_ns) else {
            return;
        };
        if new.path == b"[vdso]" {
            process.vdso = new.start;
        }
        if process.awaits_exe && file.is_some() {
            process.awaits_exe = false;
            // Else that may have been lost, and this be a library.
            if process.image_ns > gap_ns {
                process.exe.clone_from(&file);
            }
        }
        // A list that is shared is copied now.
        let before = match Rc::strong_count(&process.mappings) {
            1 => process.mappings.capacity(),
            _ => 0,
        };
        process.map(KnownMapping {
            start: new.start,
            end: new.end,
            flags: new.flags,
            file_offset: new.file_offset,
            mapped_unix_ns: unix_ns,
            file,
        });
        let grown = process.mappings.capacity().saturating_sub(before);
        self.at_most_bytes += grown * size_of::<KnownMapping>();
        self.keep_below_limit();
    }

    /// The file that a mapping is of, shared with earlier ones.
    pub(super) fn file(&mut self, mapping: &NewMapping) -> Option<Rc<KnownFile>> {
        let file = file(mapping)?;
        let known = self.recent.iter().position(|known| **known == file);
        let shared = match known {
            Some(place) => self.recent.remove(place),
            None => {
                self.at_most_bytes += size_of::<KnownFile>() + file.path.len();
                Rc::new(file)
            }
        };
        if self.recent.len() >= MAX_RECENT {
            self.recent.remove(0);
        }
        self.recent.push(shared.clone());
        Some(shared)
    }

    /// The process that a change is of, made known if it is not; `None` if the
    /// change is in it already.
    fn changing(&mut self, pid: u32, time_ns: u64) -> Option<&mut Process> {
        if self.place(pid).is_err() {
            self.insert(pid, Process::default());
        }
        let place = self.place(pid).ok()?;
        let process = &mut *self.known[place].1;
        (process.seen_ns < time_ns).then_some(process)
    }

    fn place(&self, pid: u32) -> Result<usize, usize> {
        self.known.binary_search_by_key(&pid, |(known, _)| *known)
    }

    fn insert(&mut self, pid: u32, process: Process) {
        // Pid 0 means a process outside our namespace; half of the memory is for mappings.
        let is_full = self.known.len() * ENTRY_BYTES > self.max_bytes / 2;
        if pid == 0 || is_full && self.place(pid).is_err() {
            self.evicted += u64::from(pid != 0);
            return;
        }
        self.at_most_bytes += ENTRY_BYTES + held_alone(&process);
        match self.place(pid) {
            Ok(place) => *self.known[place].1 = process,
            Err(place) => self.known.insert(place, (pid, Box::new(process))),
        }
        self.keep_below_limit();
    }

    /// The memory in use, counted again.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        let share = |(_, process): &(u32, Box<Process>)| {
            ENTRY_BYTES + held_alone(process) + share_of_list(&process.mappings)
        };
        self.known.iter().map(share).sum()
    }

    /// Gives up mappings of one process after the other, if there are too many.
    fn keep_below_limit(&mut self) {
        if self.at_most_bytes <= self.max_bytes {
            return;
        }
        let mut bytes = self.bytes();
        for _ in 0..self.known.len() {
            if bytes <= self.max_bytes / 4 * 3 {
                break;
            }
            self.hand = (self.hand + 1) % self.known.len();
            let process = &mut self.known[self.hand].1;
            let freed = share_of_list(&process.mappings) + held_alone(process);
            bytes = bytes.saturating_sub(freed);
            process.mappings = Rc::default();
            process.thread_names = Vec::new();
            process.cmdline = None;
            process.is_cut = Some(Gap::Evicted);
            self.evicted += 1;
        }
        self.at_most_bytes = self.bytes();
    }
}

/// A process without what it points to.
const ENTRY_BYTES: usize = size_of::<(u32, Box<Process>)>() + size_of::<Process>();

/// The memory of a process that it does not share with others.
fn held_alone(process: &Process) -> usize {
    process.thread_names.capacity() * (4 + NAME_BYTES)
        + process.cmdline.as_ref().map_or(0, |cmdline| cmdline.len())
}

/// A process's share of a list of mappings, and of the paths in it.
fn share_of_list(mappings: &Rc<Vec<KnownMapping>>) -> usize {
    let paths = mappings.iter().filter_map(|mapping| {
        let file = mapping.file.as_ref()?;
        Some((size_of::<KnownFile>() + file.path.len()) / Rc::strong_count(file))
    });
    let list = mappings.capacity() * size_of::<KnownMapping>() + paths.sum::<usize>();
    list / Rc::strong_count(mappings)
}

/// The file of a mapping: a name that begins with a slash, except those that the kernel
/// writes if there is no file.
fn file(mapping: &NewMapping) -> Option<KnownFile> {
    if mapping.inode == 0 || !mapping.path.starts_with(b"/") {
        return None;
    }
    let (path, deleted) = match mapping.path.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (&mapping.path[..], false),
    };
    // "//toolong", "//enomem"
    let is_known = !path.starts_with(b"//");
    Some(KnownFile {
        inode: mapping.inode,
        device: mapping.device,
        path: if is_known { path.to_vec() } else { Vec::new() },
        deleted,
        detached: deleted && path.starts_with(b"/memfd:"),
    })
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
