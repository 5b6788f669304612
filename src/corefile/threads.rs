//! The other threads of a core.
//!
//! NT_PRSTATUS has their registers, in cores of the kernel and in ours. What else was
//! captured of them is in a note of our own ([`super::own_threads`]). In: a [`Core`]. Out:
//! [`Threads`] as the capture program would have captured them. What the core does not say
//! is unknown.

use super::own_threads::{number, OwnThread, OwnThreads};
use super::read::{self, Core};
use super::recall::{registers, RED_ZONE, WINDOW_BYTES};
use super::sort_by_number;
use super::windows::Windows;
use crate::crash::event::{Event, Lost};
use crate::crash::futex::{self, Futex};
use crate::crash::registers::Registers;
use crate::crash::threads::{State, SystemCall, Thread, Threads};

/// Of the stacks of all other threads that are looked at, and of one.
const STACKS_BYTES: usize = 64 << 20;
const MIN_STACK_BYTES: usize = 64 << 10;

/// Adds the other threads of a core to its event.
pub fn recall(core: &Core, event: &mut Event) {
    let (list, count) = match &core.own_threads {
        Some(own) => {
            let list = own
                .list
                .iter()
                .map(|(thread, more)| own_thread(core, own, thread, more));
            (list.collect(), own.count)
        }
        // Without `--threads` a core of ours has the crashed one alone, whatever there were.
        None if core.own.is_some() => (Vec::new(), 0),
        None => (kernels(core), core.thread_count),
    };
    let threads = Threads { list, count };
    if count as usize > threads.list.len() + 1 {
        event.lost.push(Lost {
            detail: "threads",
            reason: "only some of them are in the core file, or are read",
        });
    }
    if core.own.is_some() && core.own_threads.is_none() {
        event.lost.push(Lost {
            detail: "threads",
            reason: "the core file has only the crashed one",
        });
    }
    event.threads = Some(threads);
}

fn own_thread(core: &Core, own: &OwnThreads, thread: &Thread, more: &OwnThread) -> Thread {
    let mut others = core.others.iter();
    let saved = others.find(|other| other.tid == number(thread));
    let mut windows = Windows::default();
    for &(start, len) in own.windows.get(more.windows.clone()).unwrap_or_default() {
        add(core, &mut windows, start, len);
    }
    Thread {
        registers: saved.map(|saved| registers(core.arch, &saved.words, more.unknown)),
        windows: windows.0,
        ..thread.clone()
    }
}

/// A window that may be in several pieces, because parts of it were captured before.
fn add(core: &Core, windows: &mut Windows, start: u64, len: u64) {
    let end = start.saturating_add(len.min(WINDOW_BYTES.into()));
    let mut at = start;
    while at < end {
        let Some(segment) = core.segment(at).filter(|it| at - it.address < it.file_size) else {
            return;
        };
        let next = (segment.address + segment.file_size).min(end);
        windows.add(core, at, (next - at) as usize);
        at = next;
    }
}

/// In the order of their numbers, which is mostly that of their creation: the kernel has none.
fn kernels(core: &Core) -> Vec<Thread> {
    let share = STACKS_BYTES / core.others.len().max(1);
    let bytes = share.clamp(MIN_STACK_BYTES, WINDOW_BYTES as usize);
    let others = core.others.iter();
    let threads = others.map(|other| kernels_thread(core, other, bytes));
    let mut threads: Vec<Thread> = threads.collect();
    sort_by_number(&mut threads, |thread| thread.host_tid.into());
    threads
}

fn kernels_thread(core: &Core, other: &read::Thread, bytes: usize) -> Thread {
    let registers = registers(core.arch, &other.words, 0);
    let system_call = system_call(&registers);
    let mut windows = Windows::default();
    let sp = registers.sp().0;
    if let Some(segment) = core.segment(sp) {
        let start = sp.saturating_sub(RED_ZONE).max(segment.address);
        windows.add(core, start, bytes);
    }
    let futex = system_call.and_then(|call| Futex::of(core.arch, &call));
    if let Some(futex) = futex {
        windows.add(core, futex.address, futex::WORD_BYTES);
    }
    Thread {
        host_tid: other.tid,
        tid: Some(other.tid),
        ns_tid: other.tid,
        name: Vec::new(),
        state: State::Unknown,
        system_call,
        registers: Some(registers),
        windows: windows.0,
    }
}

/// On x86 alone a core says that a thread is in a system call.
fn system_call(registers: &Registers) -> Option<SystemCall> {
    Some(SystemCall {
        number: u32::try_from(registers.system_call()?).ok()?,
        arguments: registers.call_arguments(),
    })
}
