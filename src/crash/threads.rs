//! The other threads of a process that crashed, as they were at that moment.
//!
//! In: what the capture program or a core file has of them. The registers of a thread that
//! sleeps in the kernel, or was preempted, are exact. Of one that runs on another CPU only
//! the registers of its last entry into the kernel are known: it is [`State::Running`], and
//! no stack is claimed for it.

use crate::crash::memory::MemoryWindow;
use crate::crash::registers::Registers;

/// What a thread does, by the kernel's task state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Runs user code or the kernel's on a CPU, or did until now.
    Running,
    /// Was preempted, or waits for a CPU: its registers are exact.
    Runnable,
    /// Waits, and a signal would wake it.
    Sleeping,
    /// Waits, and no signal wakes it: for a disk, as a rule.
    Uninterruptible,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Exits, or has exited.
    Exiting,
    /// Not said: of a thread of a core file.
    Unknown,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Running,
        State::Runnable,
        State::Sleeping,
        State::Uninterruptible,
        State::Stopped,
        State::Exiting,
        State::Unknown,
    ];

    /// The words of JSON, which never change.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Runnable => "runnable",
            State::Sleeping => "sleeping",
            State::Uninterruptible => "uninterruptible",
            State::Stopped => "stopped",
            State::Exiting => "exiting",
            State::Unknown => "unknown",
        }
    }
}

/// The system call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// As the thread's own architecture numbers it.
    pub number: u32,
    pub arguments: [u64; 6],
}

/// A thread other than the one that crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// As the first pid namespace sees it.
    pub host_tid: u32,
    /// As the tool's pid namespace sees it; `None` if it cannot.
    pub tid: Option<u32>,
    /// As the process sees it.
    pub ns_tid: u32,
    /// Raw bytes.
    pub name: Vec<u8>,
    pub state: State,
    pub system_call: Option<SystemCall>,
    /// `None` if they could not be read.
    pub registers: Option<Registers>,
    /// Windows of its stack, sorted by address.
    pub windows: Vec<MemoryWindow>,
}

/// All of them, as far as they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Threads {
    /// In the order of the kernel's list, which is that of their creation.
    pub list: Vec<Thread>,
    /// How many the process has, the crashed one among them; 0 if that is not known.
    pub count: u32,
}
