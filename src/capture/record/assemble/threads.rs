//! Makes the other threads of an event from their parts.

use crate::base::address::ProcessAddress;
use crate::base::bytes::until_nul;
use crate::base::structs::bytes_of;
use crate::capture::record::abi::{thread_flags, RawThread};
use crate::crash::event::Event;
use crate::crash::memory::MemoryWindow;
use crate::crash::registers::{Arch, Registers, WORDS};
use crate::crash::threads::{State, SystemCall, Thread};

/// More than `--threads` permits.
const MAX_THREADS: usize = 1024;

/// Adds a thread, or more of the stack of the last one.
pub(super) fn add(event: &mut Event, raw: &RawThread, registers: &[u8], bytes: &[u8]) {
    let list = &mut event.threads.get_or_insert_default().list;
    let is_more = list
        .last()
        .is_some_and(|last| last.host_tid == raw.host_tid && registers.is_empty());
    if !is_more {
        if list.len() >= MAX_THREADS {
            return;
        }
        list.push(thread(raw, registers));
    }
    if let Some(thread) = list.last_mut() {
        if !bytes.is_empty() {
            thread.windows.push(window(raw.address, bytes.to_vec()));
        }
    }
}

fn window(address: u64, bytes: Vec<u8>) -> MemoryWindow {
    MemoryWindow {
        address: ProcessAddress(address),
        bytes,
    }
}

/// Notes how many threads the process has; 0 means that they were not wanted.
pub(super) fn count(event: &mut Event, count: u32) {
    if count > 0 {
        event.threads.get_or_insert_default().count = count;
    }
}

fn thread(raw: &RawThread, bytes: &[u8]) -> Thread {
    let state = state(raw);
    let registers = registers(raw, bytes);
    let system_call = match state {
        State::Running | State::Exiting => None,
        _ => registers.and_then(|registers| system_call(raw, &registers)),
    };
    // With the owner of the lock, if the thread waits for one.
    let lock = system_call.filter(|_| raw.flags & thread_flags::LOCK != 0);
    let lock = lock.map(|call| window(call.arguments[0], bytes_of(&raw.lock)));
    Thread {
        host_tid: raw.host_tid,
        tid: (raw.tid != 0).then_some(raw.tid),
        ns_tid: raw.ns_tid,
        name: until_nul(&raw.comm).to_vec(),
        state,
        system_call,
        registers,
        windows: lock.into_iter().collect(),
    }
}

/// The bits of include/linux/sched.h.
fn state(raw: &RawThread) -> State {
    const INTERRUPTIBLE: u32 = 1;
    const UNINTERRUPTIBLE: u32 = 2;
    const STOPPED_OR_TRACED: u32 = 4 | 8;
    const NEW: u32 = 0x800;
    const FROZEN: u32 = 0x8000;
    let has = |bits: u32| raw.state & bits != 0;
    match raw.state {
        _ if raw.flags & thread_flags::EXITS != 0 => State::Exiting,
        _ if raw.flags & thread_flags::RUNS != 0 => State::Running,
        0 | NEW => State::Runnable,
        _ if has(STOPPED_OR_TRACED) => State::Stopped,
        _ if has(INTERRUPTIBLE) => State::Sleeping,
        _ if has(UNINTERRUPTIBLE | FROZEN) => State::Uninterruptible,
        _ => State::Unknown,
    }
}

/// `None` if they are not there. Those of a thread of the kernel's own, such as a worker of
/// io_uring, are zeros.
fn registers(raw: &RawThread, bytes: &[u8]) -> Option<Registers> {
    let arch = match raw.flags & thread_flags::AARCH64 {
        0 => Arch::X86_64,
        _ => Arch::Aarch64,
    };
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
    }
    let registers = Registers::new(arch, words);
    (registers.pc().0 != 0).then_some(registers)
}

fn system_call(raw: &RawThread, registers: &Registers) -> Option<SystemCall> {
    let mut arguments = registers.call_arguments();
    let number = match registers.arch() {
        Arch::X86_64 | Arch::I386 => registers.system_call()? as u32,
        Arch::Aarch64 | Arch::Arm => {
            arguments[0] = raw.first_argument;
            u32::try_from(raw.system_call).ok()?
        }
    };
    Some(SystemCall { number, arguments })
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
