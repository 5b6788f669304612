//! The other threads in a report, and which of them are alike.

use crate::base::address::{FileAddress, ProcessAddress};
use crate::crash::registers::Registers;
use crate::crash::threads::{State, SystemCall};
use crate::report::{StackFrame, StackTrace};

/// The system call that a thread was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub call: SystemCall,
    /// By the table of its architecture.
    pub name: Option<&'static str>,
    /// What it says about a futex, if it is about one.
    pub futex: Option<Operation>,
}

/// A call of futex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub address: ProcessAddress,
    pub name: Option<&'static str>,
}

/// What a thread waits for, if that lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    pub address: ProcessAddress,
    /// `name+0xoff (/path)`, or the mapping.
    pub place: Option<Vec<u8>>,
    /// The thread that holds the lock.
    pub owner: Option<u32>,
}

/// A thread other than the one that crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportThread {
    pub tid: u32,
    pub name: Vec<u8>,
    pub state: State,
    pub call: Option<Call>,
    pub waits_for: Option<WaitsFor>,
    /// With `-r`.
    pub registers: Option<Registers>,
    /// With `-t`; `None` also if no stack is claimed.
    pub stack: Option<StackTrace>,
}

/// All other threads that were captured.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReportThreads {
    pub list: Vec<ReportThread>,
    /// How many the process had, the crashed one among them.
    pub count: Option<u32>,
    /// What the crashed thread itself waited for.
    pub own: Option<WaitsFor>,
    /// Threads each of which waits for a lock that the next one holds, and the last one for one
    /// of the first.
    pub deadlock: Vec<u32>,
}

impl ReportThread {
    /// Whether both were in the same calls, by the names of functions; without names, by their
    /// places in files.
    fn is_like(&self, other: &ReportThread) -> bool {
        let head = |thread: &ReportThread| {
            let number = thread.call.map(|call| call.call.number);
            let owner = thread.waits_for.as_ref().and_then(|it| it.owner);
            (thread.state, number, owner, thread.frames().len())
        };
        let mut frames = self.frames().iter().zip(other.frames());
        head(self) == head(other) && frames.all(|(own, other)| named(own) == named(other))
    }

    fn frames(&self) -> &[StackFrame] {
        self.stack.as_ref().map_or(&[], |stack| &stack.frames)
    }
}

/// A function's name, or else its place.
fn named(frame: &StackFrame) -> (&[u8], Option<FileAddress>) {
    match &frame.location.symbol {
        Some(symbol) => (&symbol.name, None),
        None => (b"", frame.location.module_offset),
    }
}

impl ReportThreads {
    /// For each thread the first one in the list that was in the same calls: itself, if there
    /// is none before it.
    #[must_use]
    pub fn alike(&self) -> Vec<usize> {
        let mut firsts: Vec<usize> = Vec::new();
        for (number, thread) in self.list.iter().enumerate() {
            let is_like = |first: &usize| self.list[*first].is_like(thread);
            let first = (0..number).find(|at| firsts[*at] == *at && is_like(at));
            firsts.push(first.unwrap_or(number));
        }
        firsts
    }
}
