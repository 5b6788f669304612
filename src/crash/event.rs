//! One crash as it was captured: plain data, whole, and independent of the
//! process, which is gone.
//!
//! [`crate::capture::record::abi`] decodes the parts that the capture program wrote into an
//! [`Event`]; everything after it works from this and from files on disk.

use std::rc::Rc;

use crate::base::address::{FileOffset, ProcessAddress};
use crate::crash::kinds::Sender;
pub use crate::crash::memory::MemoryWindow;
use crate::crash::registers::Registers;
use crate::crash::threads::Threads;

/// Permissions and kind of a mapping: the kernel's `vm_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VmFlags(pub u64);

impl VmFlags {
    // include/linux/mm.h
    const READ: u64 = 1;
    const WRITE: u64 = 2;
    const EXEC: u64 = 4;
    const SHARED: u64 = 8;
    pub const GROWS_DOWN: u64 = 0x100;

    /// As /proc/PID/maps has them: `rwxp`, `s` where it is shared.
    #[must_use]
    pub fn of_letters(letters: &[u8]) -> Self {
        let bits = [Self::READ, Self::WRITE, Self::EXEC, Self::SHARED];
        let set = letters.iter().zip(b"rwxs".iter().zip(bits));
        VmFlags(
            set.fold(0, |flags, (letter, (yes, bit))| match letter == yes {
                true => flags | bit,
                false => flags,
            }),
        )
    }

    #[must_use]
    pub fn readable(self) -> bool {
        self.0 & Self::READ != 0
    }

    #[must_use]
    pub fn writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    #[must_use]
    pub fn executable(self) -> bool {
        self.0 & Self::EXEC != 0
    }

    #[must_use]
    pub fn shared(self) -> bool {
        self.0 & Self::SHARED != 0
    }
}

/// What distinguishes a file from a later one with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FileIdentity {
    pub inode: u64,
    /// Major << 20 | minor. Only a hint: overlayfs and btrfs report another to `stat`.
    pub device: u32,
    pub size: u64,
    pub mtime_s: i64,
    pub mtime_ns: u32,
    /// If size and time were not captured: the wall-clock time at which the file was
    /// mapped. It is the same file if it has not changed since.
    pub mapped_unix_ns: Option<i64>,
    /// The wall-clock time of the crash, for a file whose size and time were captured: a file
    /// that changed later may have other content, whatever its size and time say.
    pub crashed_unix_ns: Option<i64>,
}

impl FileIdentity {
    /// The same for every process that has mapped the file.
    #[must_use]
    pub fn whenever(mut self) -> Self {
        self.mapped_unix_ns = None;
        self.crashed_unix_ns = None;
        self
    }
}

/// The file of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    pub identity: FileIdentity,
    /// The offset in the file at which the mapping begins.
    pub offset: FileOffset,
    /// The absolute path that the program saw, in its mount namespace; raw bytes.
    /// Empty when it was not captured. A path whose beginning is missing
    /// (`truncated`) begins with `.../`.
    pub path: Vec<u8>,
    /// The path from the root of its file system on, where the program saw it
    /// through an overlay or through another mount namespace.
    pub lower_path: Option<Vec<u8>>,
    /// Had been unlinked when the program crashed.
    pub deleted: bool,
    /// Has no place in a file system, such as a memfd.
    pub detached: bool,
    pub truncated: bool,
    /// As the process has it in its memory; `None` if it was not captured.
    pub head: Option<FileHead>,
}

/// The first bytes of a mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// Where they are mapped.
    pub address: ProcessAddress,
    /// None if they could not be read.
    pub bytes: Rc<[u8]>,
}

/// A mapping of the crashed process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: ProcessAddress,
    pub end: ProcessAddress,
    pub flags: VmFlags,
    pub file: Option<MappedFile>,
}

impl Mapping {
    #[must_use]
    pub fn contains(&self, address: ProcessAddress) -> bool {
        self.start <= address && address < self.end
    }

    /// The offset in the file of an address of this mapping.
    #[must_use]
    pub fn file_offset(&self, address: ProcessAddress) -> Option<FileOffset> {
        let into = address.offset_from(self.start)?;
        self.file.as_ref()?.offset.checked_add(into)
    }
}

/// What the kernel says about a signal beside its number and code, which decides which of
/// these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Siginfo {
    /// Of a fault: the address that was accessed, or that of the instruction.
    Address(ProcessAddress),
    /// Of a signal that was sent.
    Sender(Sender),
    /// This code comes with neither.
    Neither,
    /// The kernel has one of them, and the capture method does not report it.
    Unknown,
}

impl Siginfo {
    #[must_use]
    pub fn address(self) -> Option<ProcessAddress> {
        match self {
            Siginfo::Address(address) => Some(address),
            _ => None,
        }
    }

    #[must_use]
    pub fn sender(self) -> Option<Sender> {
        match self {
            Siginfo::Sender(sender) => Some(sender),
            _ => None,
        }
    }
}

/// What the processor said about the last fault of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// x86 `cr2`, arm64 fault address. Stale unless the signal's code says that
    /// this signal came of a page fault.
    pub address: u64,
    /// x86 page-fault error code, arm64 ESR.
    pub error_code: u64,
    /// x86 trap number; 0 on arm64.
    pub number: u64,
}

/// The handled fault that went before a fatal delivery to the same thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierFault {
    pub signal: i32,
    pub code: i32,
    pub siginfo: Siginfo,
    pub pc: ProcessAddress,
    /// `None` where the capture method does not report it.
    pub trap: Option<Trap>,
    /// `CLOCK_BOOTTIME` of that delivery.
    pub boot_ns: u64,
}

/// A place where a process takes faults: the capture program counts those of one
/// place that a handler takes, instead of sending each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultSite {
    pub pc: ProcessAddress,
    pub host_pid: u32,
    pub signal: i16,
    pub code: i16,
}

/// What happened to the signal, by its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Fatal,
    Handled,
    Ignored,
}

impl Disposition {
    pub const ALL: [Disposition; 3] = [
        Disposition::Fatal,
        Disposition::Handled,
        Disposition::Ignored,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Disposition::Fatal => "fatal",
            Disposition::Handled => "handled",
            Disposition::Ignored => "ignored",
        }
    }
}

/// A detail that a report lacks, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lost {
    /// Stable word for the detail: `mappings`, `stack`, `registers`, `cmdline`, …
    pub detail: &'static str,
    /// A few words, such as `no room in the ring`.
    pub reason: &'static str,
}

/// One delivery of a watched signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CPU << 48 | count: names the record among those in flight.
    pub id: u64,
    pub boot_ns: u64,
    /// `CLOCK_TAI`, if the kernel records it.
    pub tai_ns: Option<u64>,
    /// `CLOCK_BOOTTIME` at which the process started: with the pid, its identity.
    pub start_ns: u64,
    pub signal: i32,
    pub code: i32,
    pub siginfo: Siginfo,
    /// Its two words behind that: a protection key, the number of a system call.
    pub siginfo_more: Option<[u64; 2]>,
    /// Equal handled faults that were counted since the last one that was sent.
    pub repeats: u64,
    pub disposition: Disposition,
    /// `None` where the capture method does not report it.
    pub trap: Option<Trap>,
    pub first_fault: Option<EarlierFault>,

    /// As the first pid namespace sees them.
    pub host_pid: u32,
    pub host_tid: u32,
    /// As the tool's pid namespace sees them; `None` if it cannot.
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    pub ppid: Option<u32>,
    /// As the process sees itself.
    pub ns_pid: u32,
    pub ns_tid: u32,
    pub uid: Option<u32>,
    pub pid_ns: u32,
    pub mnt_ns: u32,
    pub cgroup_id: u64,

    /// The process's name: its first thread's. Raw bytes.
    pub comm: Vec<u8>,
    pub thread: Vec<u8>,
    pub exe: Option<Vec<u8>>,
    pub exe_deleted: bool,
    /// Arguments, each ended by a NUL; of a core file, which does not tell where they end,
    /// text without any.
    pub cmdline: Option<Vec<u8>>,
    pub cgroup: Option<Vec<u8>>,

    /// `None` for what could not be read.
    pub registers: Option<Registers>,
    pub fs_base: u64,
    pub gs_base: u64,
    pub code_bytes: MemoryWindow,
    /// The same at possible return addresses into code that is in no file; sorted.
    pub compiled: Vec<MemoryWindow>,
    pub start_stack: ProcessAddress,
    pub start_brk: ProcessAddress,
    pub brk: ProcessAddress,
    pub arg_start: ProcessAddress,
    pub env_end: ProcessAddress,
    pub vdso: ProcessAddress,
    pub map_count: u32,
    /// Whether exec(2) has come so far that these are this program's.
    pub is_laid_out: bool,

    /// Sorted by start, without overlaps.
    pub mappings: Vec<Mapping>,
    /// Windows of the stack, sorted by address; adjoining pieces are joined.
    pub windows: Vec<MemoryWindow>,
    /// Around the values of registers, with `--memory`; sorted, without overlaps.
    pub memory: Vec<MemoryWindow>,
    /// The other threads, with `--threads`.
    pub threads: Option<Threads>,
    /// Nanoseconds that the capture program spent.
    pub capture_ns: u64,
    pub lost: Vec<Lost>,
}

impl Event {
    /// Notes when it happened by the wall clock, for the files that it knows by size and time.
    pub fn crashed_at(&mut self, unix_ns: i64) {
        let files = self
            .mappings
            .iter_mut()
            .filter_map(|mapping| mapping.file.as_mut());
        for file in files.filter(|file| file.identity.mapped_unix_ns.is_none()) {
            file.identity.crashed_unix_ns = Some(unix_ns);
        }
    }

    /// Where it happened; `None` if that is not known.
    #[must_use]
    pub fn site(&self) -> Option<FaultSite> {
        Some(FaultSite {
            pc: self.registers?.pc(),
            host_pid: self.host_pid,
            signal: self.signal as i16,
            code: self.code as i16,
        })
    }

    /// The captured mapping that holds an address.
    #[must_use]
    pub fn mapping(&self, address: ProcessAddress) -> Option<&Mapping> {
        self.mapping_index(address)
            .map(|index| &self.mappings[index])
    }

    /// Its place among the captured mappings.
    #[must_use]
    pub fn mapping_index(&self, address: ProcessAddress) -> Option<usize> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        let index = after.checked_sub(1)?;
        self.mappings[index].contains(address).then_some(index)
    }

    /// Whether the mapping is the kernel's own code in this process.
    #[must_use]
    pub fn is_vdso(&self, mapping: &Mapping) -> bool {
        mapping.file.is_none() && self.vdso.0 != 0 && mapping.contains(self.vdso)
    }

    /// The path of the file mapped there, or the name of a mapping without one.
    #[must_use]
    pub fn mapping_name(&self, mapping: &Mapping) -> Vec<u8> {
        match &mapping.file {
            Some(file) if file.path.is_empty() => b"[unnamed file]".to_vec(),
            // As /proc/PID/maps has it.
            Some(file) if file.deleted && !file.detached => {
                [&file.path[..], b" (deleted)"].concat()
            }
            Some(file) => file.path.clone(),
            None if self.is_vdso(mapping) => b"[vdso]".to_vec(),
            None if mapping.contains(self.start_stack) => b"[stack]".to_vec(),
            None if mapping.start < self.brk && self.start_brk < mapping.end => b"[heap]".to_vec(),
            None => b"[anon]".to_vec(),
        }
    }

    /// The `len` bytes that the process had at `address`, if they were captured.
    #[must_use]
    pub fn memory(&self, address: ProcessAddress, len: usize) -> Option<&[u8]> {
        let windows = self.windows.iter().chain(&self.memory);
        let mut windows = windows.chain([&self.code_bytes]);
        windows.find_map(|window| window.get(address, len))
    }

    /// Whether some of this detail was lost, or may have been.
    #[must_use]
    pub fn lacks(&self, detail: &str) -> bool {
        self.lost
            .iter()
            .any(|lost| lost.detail == detail || lost.detail == "end")
    }

    /// About how much of our memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let text = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::len);
        let paths = self
            .mappings
            .iter()
            .filter_map(|mapping| mapping.file.as_ref());
        let paths: usize = paths
            .map(|file| {
                let head = file.head.as_ref().map_or(0, |head| head.bytes.len());
                file.path.len() + text(&file.lower_path) + head
            })
            .sum();
        let threads = self.threads.as_ref().map_or(&[][..], |all| &all.list);
        let windows: usize = self
            .windows
            .iter()
            .chain(&self.memory)
            .chain(&self.compiled)
            .chain(threads.iter().flat_map(|thread| &thread.windows))
            .map(|window| window.bytes.capacity())
            .sum();
        let bytes = size_of::<Event>()
            + self.mappings.capacity() * size_of::<Mapping>()
            + paths
            + windows
            + size_of_val(threads)
            + text(&self.exe)
            + text(&self.cmdline)
            + text(&self.cgroup);
        bytes as u64
    }
}
