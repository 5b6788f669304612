//! The other threads of a core.
//!
//! NT_PRSTATUS has their registers, in cores of the kernel and in ours. What else was
//! captured of them is in a note of our own (`own_threads`). In: a [`Core`]. Out:
//! [`Threads`] as the capture program would have captured them. What the core does not say
//! is unknown.

use super::own_threads::{number, OwnThread};
use super::read::{self, Core};
use super::recall::{registers, RED_ZONE, WINDOW_BYTES};
use super::windows::Windows;
use crate::crash::event::{Event, Lost};
use crate::crash::futex::{self, Futex};
use crate::crash::registers::Registers;
use crate::crash::threads::{State, SystemCall, Thread, Threads};

/// Of the stacks of all other threads that are looked at, and of one.
const STACKS_BYTES: usize = 64 << 20;
const MIN_STACK_BYTES: usize = 64 << 10;

/// Adds the other threads of a core to its event, which was recalled before.
pub fn recall(core: &mut Core, event: &mut Event) {
    let mut threads = Threads {
        list: Vec::new(),
        count: 0,
    };
    let mut lack = None;
    if let Some(own) = core.own_threads.take() {
        threads.count = own.count;
        for thread in own.list {
            threads.list.push(own_thread(core, thread));
        }
    } else if core.own.is_some() {
        lack = Some("the core file has only the crashed one");
    } else {
        threads.count = core.thread_count;
        kernels(core, &mut threads.list);
    }
    let is_more = threads.count as usize > threads.list.len() + 1;
    if is_more || core.own.is_none() && threads.count == 0 {
        lack = Some("only some of them are in the core file, or are read");
    }
    event.lost.extend(lack.map(|reason| Lost {
        detail: "threads",
        reason,
    }));
    event.threads = Some(threads);
}

fn own_thread(core: &Core, own: OwnThread) -> Thread {
    let mut thread = own.thread;
    let mut others = core.others.iter();
    let saved = others.find(|other| other.tid == number(&thread));
    thread.registers = saved.map(|saved| registers(core.arch, &saved.words, own.unknown));
    let mut windows = Windows::default();
    for (start, len) in own.windows {
        add(core, &mut windows, start, len);
    }
    thread.windows = windows.0;
    thread
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
fn kernels(core: &Core, threads: &mut Vec<Thread>) {
    let share = STACKS_BYTES / core.others.len().max(1);
    let bytes = share.clamp(MIN_STACK_BYTES, WINDOW_BYTES as usize);
    for other in &core.others {
        let place = threads.partition_point(|known| known.host_tid <= other.tid);
        threads.insert(place, kernels_thread(core, other, bytes));
    }
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
