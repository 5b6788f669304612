//! A report: what is known about one crash, as plain data that can be written in any
//! format.
//!
//! Text that comes from the crashed process or its files (names, paths,
//! arguments, symbols) is kept as raw bytes here and escaped by the writers in
//! [`crate::report::output`]. What is unknown is `None`, never zero.
pub mod container;
pub mod dying;
pub mod fold;
pub mod output;
pub mod repeats;
pub mod signature;
pub mod threads;

use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use crate::base::address::{FileAddress, FileOffset, ProcessAddress};
use crate::crash::event::{Disposition, Lost, MemoryWindow, VmFlags};
use crate::crash::frame::{Stop, Trust};
use crate::crash::kinds::{Access, Sender};
use crate::crash::registers::Registers;
use crate::keyed::Key;
use crate::report::threads::ReportThreads;

/// When it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Since the Unix epoch.
    pub unix_ms: u64,
    /// Since boot, suspended time included: for boards whose clock starts in 1970.
    pub uptime_ms: u64,
}

/// Why it crashed. The words of [`Cause::as_str`] never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Data below 64 KB.
    NullDereference,
    /// The pc is below 64 KB, and nothing could be fetched there.
    NullCall,
    /// The pc is in no mapping, or no address at all.
    WildJump,
    /// The pc is in a mapping that may not be executed.
    ExecuteProtected,
    /// Near the stack pointer, at or past the low end of its stack.
    StackOverflow,
    WriteProtected,
    /// A mapping that may not be read, such as a guard page.
    AccessProtected,
    /// Data access through a value that cannot be an address on this processor.
    NonCanonical,
    /// An instruction that needs alignment did not have it.
    Misaligned,
    PrivilegedInstruction,
    /// Data at any other address in no mapping.
    Unmapped,
    /// A mapped file ends before.
    BeyondFile,
    ProtectionKey,
    MemoryTag,
    ShadowStack,
    UndefinedInstruction,
    DivisionByZero,
    /// A quotient that does not fit.
    DivisionOverflow,
    FloatingPoint,
    /// A breakpoint, a single step, a watchpoint.
    Breakpoint,
    /// Seccomp, or the program's own system call dispatch.
    ForbiddenSystemCall,
    /// No fault: a process sent the signal.
    Sent,
    StackSmashing,
    Abort,
    /// None of these; the text says why not.
    Unknown,
}

impl Cause {
    /// Each of them.
    pub const ALL: [Cause; 25] = [
        Cause::NullDereference,
        Cause::NullCall,
        Cause::WildJump,
        Cause::ExecuteProtected,
        Cause::StackOverflow,
        Cause::WriteProtected,
        Cause::AccessProtected,
        Cause::NonCanonical,
        Cause::Misaligned,
        Cause::PrivilegedInstruction,
        Cause::Unmapped,
        Cause::BeyondFile,
        Cause::ProtectionKey,
        Cause::MemoryTag,
        Cause::ShadowStack,
        Cause::UndefinedInstruction,
        Cause::DivisionByZero,
        Cause::DivisionOverflow,
        Cause::FloatingPoint,
        Cause::Breakpoint,
        Cause::ForbiddenSystemCall,
        Cause::Sent,
        Cause::StackSmashing,
        Cause::Abort,
        Cause::Unknown,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::NullDereference => "null_dereference",
            Cause::NullCall => "null_call",
            Cause::WildJump => "wild_jump",
            Cause::ExecuteProtected => "execute_protected",
            Cause::StackOverflow => "stack_overflow",
            Cause::WriteProtected => "write_protected",
            Cause::AccessProtected => "access_protected",
            Cause::NonCanonical => "non_canonical",
            Cause::Misaligned => "misaligned",
            Cause::PrivilegedInstruction => "privileged_instruction",
            Cause::Unmapped => "unmapped",
            Cause::BeyondFile => "beyond_file",
            Cause::ProtectionKey => "protection_key",
            Cause::MemoryTag => "memory_tag",
            Cause::ShadowStack => "shadow_stack",
            Cause::UndefinedInstruction => "undefined_instruction",
            Cause::DivisionByZero => "division_by_zero",
            Cause::DivisionOverflow => "division_overflow",
            Cause::FloatingPoint => "floating_point",
            Cause::Breakpoint => "breakpoint",
            Cause::ForbiddenSystemCall => "forbidden_system_call",
            Cause::Sent => "sent",
            Cause::StackSmashing => "stack_smashing",
            Cause::Abort => "abort",
            Cause::Unknown => "unknown",
        }
    }
}

/// The handled fault that went before a fatal delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstFault {
    pub signal: i32,
    pub code: i32,
    pub address: Option<ProcessAddress>,
    pub pc: ProcessAddress,
    pub access: Option<Access>,
    /// Before the delivery that this report is about.
    pub age_ms: u64,
}

/// How a process ended whose handler had taken a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Status(u8),
    Signal(i32),
    /// It has ended, and nothing shows how.
    Unknown,
}

impl Exit {
    /// Whether a process that ends so within a second has died of its fault: not if it reports
    /// success, nor if it was asked to end (shells and virtual machines then exit with 128 plus
    /// the signal).
    #[must_use]
    pub fn is_death(self) -> bool {
        match self {
            Exit::Unknown => true,
            Exit::Status(status) => !matches!(status, 0 | 129 | 130 | 143),
            // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS
            Exit::Signal(number) => matches!(number, 4..=8 | 11 | 31),
        }
    }
}

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Demangled if that is possible.
    pub name: Vec<u8>,
    pub offset: u64,
}

/// The place of a code address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Location {
    pub symbol: Option<Symbol>,
    /// Path of the file mapped there, or `[vdso]`, `[heap]`, `[anon]`.
    pub module: Option<Vec<u8>>,
    /// The address as the file's linker numbered it: what `addr2line -e` takes.
    pub module_offset: Option<FileAddress>,
    /// The offset in the file, if the file itself was not available.
    pub file_offset: Option<FileOffset>,
    pub build_id: Option<Vec<u8>>,
    pub file: Option<Vec<u8>>,
    pub line: Option<u32>,
}

/// The code around the instruction pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The address of the first byte.
    pub address: ProcessAddress,
    pub bytes: Vec<u8>,
    /// The index of the byte at which the crashed instruction begins.
    pub instruction: usize,
    /// The memory that it names or implies, in words; empty if it has none.
    /// `None` if it could not be read.
    pub operands: Option<Vec<u8>>,
}

/// One call of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrame {
    pub address: ProcessAddress,
    /// An instruction's own address, not the one after a call: of the crash, of code that a
    /// signal interrupted, of code that was returned to but never called.
    pub exact: bool,
    pub trust: Trust,
    /// Has no frame on the stack: the compiler put its code into the next call
    /// that is not inlined, which has the same address and trust.
    pub inlined: bool,
    pub location: Location,
}

/// The calls, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackTrace {
    pub frames: Vec<StackFrame>,
    pub stop: Stop,
    /// Not every mapping was known, and a frame came from a search: a frame in an unknown
    /// mapping would have been missed.
    pub gaps: bool,
}

impl StackTrace {
    /// Whether the walk reached the outermost frame, and left none out.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.stop == Stop::Outermost && !self.gaps
    }
}

/// An address that is interesting in a list of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    Fault,
    Pc,
    Sp,
}

impl Near {
    pub const ALL: [Near; 3] = [Near::Fault, Near::Pc, Near::Sp];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Near::Fault => "fault address",
            Near::Pc => "instruction",
            Near::Sp => "stack pointer",
        }
    }
}

/// A mapping that holds an interesting address, or lies next to one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearbyMapping {
    pub start: ProcessAddress,
    pub end: ProcessAddress,
    pub flags: VmFlags,
    /// The offset in the file at which it begins; `None` if no file is mapped.
    pub file_offset: Option<FileOffset>,
    /// A path, or a name such as `[heap]`.
    pub name: Vec<u8>,
    pub holds: Vec<Near>,
}

/// The process, and where it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub tid: u32,
    /// Only if it differs from `pid`.
    pub host_pid: Option<u32>,
    /// As the process sees itself, where that differs from `pid`.
    pub ns_pid: Option<u32>,
    pub comm: Vec<u8>,
    pub thread: Vec<u8>,
    pub ppid: Option<u32>,
    pub uid: Option<u32>,
    pub exe: Option<Vec<u8>>,
    /// As [`crate::crash::event::Event::cmdline`].
    pub cmdline: Option<Vec<u8>>,
    pub cgroup: Option<Vec<u8>>,
}

/// The signal, and what the kernel says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    pub fault_address: Option<ProcessAddress>,
    pub access: Option<Access>,
    pub disposition: Disposition,
    pub first_fault: Option<FirstFault>,
    pub sender: Option<Sender>,
}

/// The processor and the memory at the signal.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    pub instruction_pointer: Option<ProcessAddress>,
    /// The place of the instruction pointer; with or without `-t`.
    pub instruction: Location,
    /// With `-r` or `--memory`.
    pub registers: Option<Registers>,
    /// What each register points at, by its name; with `-r`.
    pub register_notes: Vec<(&'static str, Vec<u8>)>,
    /// With `-r`.
    pub instruction_code: Option<Code>,
    /// With `--maps`.
    pub maps: Option<Vec<NearbyMapping>>,
    /// Around the values of registers; with `--memory`.
    pub memory: Option<Vec<MemoryWindow>>,
}

/// Why it crashed, and what equal crashes have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub cause: Cause,
    /// A sentence; raw bytes, because names are in it.
    pub text: Vec<u8>,
    /// Equal for equal crashes of one build; with `-t`.
    pub signature: Option<u64>,
    /// Equal for equal crashes, by the names of functions; with `-t`.
    pub group: Option<u64>,
}

/// How many deliveries a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// How many equal ones this one stands for beside itself; `None` where none
    /// would have been folded.
    pub repeats: Option<u64>,
    /// Processes that died in all crashes that this report stands for; `None` as in `repeats`.
    pub deaths: Option<u64>,
    /// How many more crashes, of any kind, `--max-per-minute` held back; `None` if none.
    pub suppressed: Option<u64>,
    /// For reports that stand for held ones: the time of the full report, in Unix time.
    pub since_ms: Option<u64>,
}

/// Everything that a report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub time: Timestamp,
    pub process: Process,
    pub delivery: Delivery,
    pub state: State,
    /// With `-t`.
    pub stack: Option<StackTrace>,
    /// With `--threads`.
    pub threads: Option<Rc<ReportThreads>>,
    pub why: Why,
    pub counts: Counts,
    /// The process had a fatal delivery before, which counts as its death.
    pub same_death: bool,
    /// Where a handler took the fault, and the process ended within a second: how.
    pub exit: Option<Exit>,
    /// The path of the crash's core file; with `--core`.
    pub core: Option<Vec<u8>>,
    /// What this report lacks, with the reason.
    pub lost: Vec<Lost>,
}

impl Report {
    /// Equal for reports that are folded: the signature, or without one the place of the
    /// crash's own frame.
    #[must_use]
    pub fn fold_key(&self) -> u64 {
        if let Some(signature) = self.why.signature {
            return signature;
        }
        let mut hasher = Key::default().build_hasher();
        self.program_key().hash(&mut hasher);
        (self.delivery.signal, self.delivery.code).hash(&mut hasher);
        self.state.instruction.module.hash(&mut hasher);
        match (
            self.state.instruction.module_offset,
            self.state.instruction_pointer,
        ) {
            (Some(offset), _) => offset.hash(&mut hasher),
            (None, pc) => pc.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Equal for reports of one executable.
    #[must_use]
    pub fn program_key(&self) -> u64 {
        Key::default().hash_one(self.process.exe.as_ref().unwrap_or(&self.process.comm))
    }
}
