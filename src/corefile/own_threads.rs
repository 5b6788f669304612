//! The note with which a core of ours says what NT_PRSTATUS does not of the other threads:
//! names, states, system calls, and which memory is theirs.
//!
//! Like [`super::own_note`] it is made of 64-bit words, and foreign: counts have limits, and
//! what it lacks is unknown.

use super::layout;
use crate::base::bytes::{until_nul, Cursor};
use crate::crash::threads::{State, SystemCall, Thread, Threads};

/// Threads beside the crashed one that are kept.
pub(super) const MAX_THREADS: usize = 1024;
const VERSION: u64 = 1;
/// No system call.
const NONE: u64 = u64::MAX;
const STATES: [State; 7] = [
    State::Unknown,
    State::Running,
    State::Runnable,
    State::Sleeping,
    State::Uninterruptible,
    State::Stopped,
    State::Exiting,
];
/// Words of a thread before its windows.
const WORDS: usize = 15;
/// Pieces of memory of one thread.
const MAX_WINDOWS: u64 = 64;
/// The note, as it was read.
#[derive(Debug)]
pub(super) struct OwnThreads {
    pub(super) count: u32,
    pub(super) list: Vec<OwnThread>,
}

/// A thread without its registers and its memory.
#[derive(Debug)]
pub(super) struct OwnThread {
    pub(super) thread: Thread,
    /// Registers whose values are not known.
    pub(super) unknown: u64,
    /// Where its memory is, and how much there is.
    pub(super) windows: Vec<(u64, u64)>,
}

impl OwnThreads {
    /// `None` if it is of a version that this tool does not know.
    pub(super) fn read(bytes: &[u8]) -> Option<OwnThreads> {
        let mut cursor = Cursor::new(bytes);
        let mut next = || cursor.u64().ok();
        if next()? != VERSION {
            return None;
        }
        let count = next()? as u32;
        let mut list = Vec::new();
        while list.len() < MAX_THREADS {
            let Some(thread) = read_thread(&mut cursor) else {
                break;
            };
            list.push(thread);
        }
        Some(OwnThreads { count, list })
    }
}

fn read_thread(cursor: &mut Cursor<'_>) -> Option<OwnThread> {
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = cursor.u64().ok()?;
    }
    let [host_tid, ns_tid, tid, state, number, arguments @ .., first, second, unknown, count] =
        words;
    let mut windows = Vec::new();
    for _ in 0..count.min(MAX_WINDOWS) {
        windows.push((cursor.u64().ok()?, cursor.u64().ok()?));
    }
    let mut name = [0; layout::NAME_BYTES];
    name[..8].copy_from_slice(&first.to_le_bytes());
    name[8..].copy_from_slice(&second.to_le_bytes());
    let thread = Thread {
        host_tid: host_tid as u32,
        tid: (tid != 0).then_some(tid as u32),
        ns_tid: ns_tid as u32,
        name: until_nul(&name).to_vec(),
        state: STATES
            .get(state as usize)
            .copied()
            .unwrap_or(State::Unknown),
        system_call: (number != NONE).then_some(SystemCall {
            number: number as u32,
            arguments,
        }),
        registers: None,
        windows: Vec::new(),
    };
    Some(OwnThread {
        thread,
        unknown,
        windows,
    })
}

/// The number that a core has for a thread.
pub(super) fn number(thread: &Thread) -> u32 {
    thread.tid.unwrap_or(thread.host_tid)
}

/// The words of the note.
pub(super) fn words(threads: &Threads) -> Vec<u64> {
    let mut words = vec![VERSION, threads.count.into()];
    for thread in threads.list.iter().take(MAX_THREADS) {
        let state = STATES.iter().position(|state| *state == thread.state);
        let mut name = [0; layout::NAME_BYTES];
        let len = thread.name.len().min(name.len() - 1);
        name[..len].copy_from_slice(&thread.name[..len]);
        let name = u128::from_le_bytes(name);
        let windows = &thread.windows[..thread.windows.len().min(MAX_WINDOWS as usize)];
        let call = thread.system_call;
        let arguments = call.map_or([0; 6], |call| call.arguments);
        words.extend_from_slice(&[
            thread.host_tid.into(),
            thread.ns_tid.into(),
            thread.tid.unwrap_or(0).into(),
            state.unwrap_or(0) as u64,
            call.map_or(NONE, |call| call.number.into()),
            arguments[0],
            arguments[1],
            arguments[2],
            arguments[3],
            arguments[4],
            arguments[5],
            name as u64,
            (name >> 64) as u64,
            thread.registers.map_or(0, |registers| registers.unknown()),
            windows.len() as u64,
        ]);
        for window in windows {
            words.extend_from_slice(&[window.address.0, window.bytes.len() as u64]);
        }
    }
    words
}

#[cfg(test)]
#[path = "own_threads_tests.rs"]
mod tests;
