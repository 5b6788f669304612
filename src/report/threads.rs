//! The other threads in a report, and which of them are alike.

use crate::base::address::ProcessAddress;
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
    fn frames(&self) -> &[StackFrame] {
        self.stack.as_ref().map_or(&[], |stack| &stack.frames)
    }

    /// Whether both were in the same calls, by the names of functions; without names, by their
    /// places in files.
    fn is_like(&self, other: &ReportThread) -> bool {
        let number = |thread: &ReportThread| thread.call.map(|call| call.call.number);
        let owner = |thread: &ReportThread| thread.waits_for.as_ref().and_then(|it| it.owner);
        let (own, others) = (self.frames(), other.frames());
        let same_frame = |(one, other): (&StackFrame, &StackFrame)| {
            let (a, b) = (&one.location, &other.location);
            let same_name = match (&a.symbol, &b.symbol) {
                (Some(a), Some(b)) => a.name == b.name,
                (None, None) => a.module_offset == b.module_offset,
                _ => false,
            };
            same_name && a.module == b.module && one.inlined == other.inlined
        };
        self.state == other.state
            && number(self) == number(other)
            && owner(self) == owner(other)
            && own.len() == others.len()
            && own.iter().zip(others).all(same_frame)
    }
}

impl ReportThreads {
    /// The threads by their numbers in the list: those with equal stacks together, each group
    /// where its first one is.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (number, thread) in self.list.iter().enumerate() {
            let alike = |group: &&mut Vec<usize>| self.list[group[0]].is_like(thread);
            match groups.iter_mut().find(alike) {
                Some(group) => group.push(number),
                None => groups.push(vec![number]),
            }
        }
        groups
    }
}
