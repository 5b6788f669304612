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
/// A name's words.
const NAME_WORDS: usize = layout::NAME_BYTES / 8;
/// Pieces of memory of one thread.
const MAX_WINDOWS: u64 = 64;
/// The note, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct OwnThreads {
    pub(super) count: u32,
    /// Without registers and memory.
    pub(super) list: Vec<(Thread, OwnThread)>,
    /// Addresses and lengths, those of one thread after those of another.
    pub(super) windows: Vec<(u64, u64)>,
}

/// What a thread has elsewhere in the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnThread {
    pub(super) unknown: u64,
    /// Among all windows.
    pub(super) windows: std::ops::Range<usize>,
}

impl OwnThreads {
    /// `None` if it is of a version that this tool does not know.
    pub(super) fn read(bytes: &[u8]) -> Option<OwnThreads> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u64().ok()? != VERSION {
            return None;
        }
        let mut threads = OwnThreads {
            count: cursor.u64().ok()? as u32,
            ..OwnThreads::default()
        };
        while threads.list.len() < MAX_THREADS && threads.read_thread(&mut cursor).is_some() {}
        Some(threads)
    }

    fn read_thread(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let (numbers, tid) = (cursor.u64().ok()?, cursor.u64().ok()? as u32);
        let state = usize::try_from(cursor.u64().ok()?).ok()?;
        let number = cursor.u64().ok()?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = cursor.u64().ok()?;
        }
        let name = cursor.take(8 * NAME_WORDS).ok()?;
        let unknown = cursor.u64().ok()?;
        let begin = self.windows.len();
        for _ in 0..cursor.u64().ok()?.min(MAX_WINDOWS) {
            self.windows.push((cursor.u64().ok()?, cursor.u64().ok()?));
        }
        let thread = Thread {
            host_tid: numbers as u32,
            tid: (tid != 0).then_some(tid),
            ns_tid: (numbers >> 32) as u32,
            name: until_nul(name).to_vec(),
            state: STATES.get(state).copied().unwrap_or(State::Unknown),
            system_call: (number != NONE).then_some(SystemCall {
                number: number as u32,
                arguments,
            }),
            registers: None,
            windows: Vec::new(),
        };
        let windows = begin..self.windows.len();
        self.list.push((thread, OwnThread { unknown, windows }));
        Some(())
    }
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
        let (number, arguments) = match &thread.system_call {
            Some(call) => (call.number.into(), call.arguments),
            None => (NONE, [0; 6]),
        };
        words.extend([
            u64::from(thread.host_tid) | u64::from(thread.ns_tid) << 32,
            thread.tid.unwrap_or(0).into(),
            state.unwrap_or(0) as u64,
            number,
        ]);
        words.extend(arguments);
        let mut name = [0; 8 * NAME_WORDS];
        let len = thread.name.len().min(name.len() - 1);
        name[..len].copy_from_slice(&thread.name[..len]);
        let name = name.as_chunks::<8>().0;
        words.extend(name.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        words.push(thread.registers.map_or(0, |registers| registers.unknown()));
        let windows = &thread.windows[..thread.windows.len().min(MAX_WINDOWS as usize)];
        words.push(windows.len() as u64);
        for window in windows {
            words.extend([window.address.0, window.bytes.len() as u64]);
        }
    }
    words
}

#[cfg(test)]
#[path = "own_threads_tests.rs"]
mod tests;
