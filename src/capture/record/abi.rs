//! The mirror of `bpf/event.h`: bytes of the ring in, parts of a record out.
//!
//! Each struct of the header is repeated here, field by field in the same order.
//! Values are read through the cursor, never by a pointer cast, so a
//! part that is too short is an error that names the offset. `tests/abi.rs`
//! compares [`layout`] with the type information in the compiled object.

use crate::base::bytes::{Cursor, ShortRead};
use crate::base::structs::{record, Field, FieldLayout};

record! {
    /// `struct part`: what every part begins with.
    RawPart {
        kind: u32,
        size: u32,
        id: u64,
    }
}

record! {
    /// `struct event_fault`
    RawFault {
        address: u64,
        pc: u64,
        error_code: u64,
        trap: u64,
        thread_address: u64,
        boot_ns: u64,
        identity: u64,
        signal: i32,
        code: i32,
    }
}

record! {
    /// `struct event_header`
    RawHeader {
        part: RawPart,
        boot_ns: u64,
        tai_ns: u64,
        start_ns: u64,
        siginfo: u64,
        siginfo_more: [u64; 2],
        handler: u64,
        handler_flags: u64,
        repeats: u64,
        cgroup_id: u64,
        thread_address: u64,
        error_code: u64,
        trap: u64,
        fs_base: u64,
        gs_base: u64,
        start_stack: u64,
        start_brk: u64,
        brk: u64,
        arg_start: u64,
        env_end: u64,
        vdso: u64,
        code_address: u64,
        signal: i32,
        code: i32,
        host_pid: u32,
        host_tid: u32,
        pid: u32,
        tid: u32,
        ppid: u32,
        ns_pid: u32,
        ns_tid: u32,
        uid: u32,
        pid_ns: u32,
        mnt_ns: u32,
        map_count: u32,
        code_bytes: u32,
        flags: u32,
        pad: u32,
        regs: [u64; 34],
        first: RawFault,
        comm: [u8; 16],
        thread: [u8; 16],
        code_at: [u8; 64],
        arg_end: u64,
        env_start: u64,
    }
}

record! {
    /// `struct event_text`, before its bytes
    RawText {
        part: RawPart,
        kind: u32,
        flags: u32,
    }
}

record! {
    /// `struct event_mapping`, before its paths
    RawMapping {
        start: u64,
        end: u64,
        vm_flags: u64,
        page_offset: u64,
        inode: u64,
        file_size: u64,
        mtime_s: i64,
        mtime_ns: u32,
        device: u32,
        flags: u32,
        path_bytes: u16,
        lower_bytes: u16,
        head: u64,
        head_bytes: u32,
        pad: u32,
    }
}

record! {
    /// `struct event_stack`, before its bytes
    RawStack {
        part: RawPart,
        address: u64,
    }
}

record! {
    /// `struct event_end`
    RawEnd {
        part: RawPart,
        duration_ns: u64,
        mappings_seen: u32,
        mappings_sent: u32,
        stack_bytes: u32,
        retries: u32,
        lost: u32,
        threads: u32,
    }
}

record! {
    /// `struct event_thread`, before its registers and the bytes of its stack
    RawThread {
        part: RawPart,
        address: u64,
        first_argument: u64,
        host_tid: u32,
        tid: u32,
        ns_tid: u32,
        system_call: i32,
        state: u32,
        regs_bytes: u16,
        flags: u16,
        comm: [u8; 16],
        lock: [u64; 2],
    }
}

record! {
    /// `struct counters` of the capture program
    RawCounters {
        detected: u64,
        filtered: u64,
        folded: u64,
        captured: u64,
        submitted: u64,
        dropped: u64,
        dropped_busy: u64,
        dropped_ring: u64,
        fault_info_captured: u64,
        fault_info_missed: u64,
        register_failures: u64,
        stack_failures: u64,
        parts_lost: u64,
        wake_pending: u64,
        followed_until_ns: u64,
        only_thread: u64,
    }
}

record! {
    /// `struct event_range`
    RawRange {
        start: u64,
        end: u64,
        vm_flags: u64,
        page_offset: u64,
        file: u64,
        head: u64,
    }
}

record! {
    /// `struct event_code`
    RawCode {
        address: u64,
        code: [u8; 32],
    }
}

record! {
    /// `struct fold_key`
    RawFoldKey {
        pc: u64,
        pid: u32,
        signal: i16,
        code: i16,
    }
}

record! {
    /// `struct fold`
    RawFold {
        since_ns: u64,
        last_ns: u64,
        count: u64,
        reported: u64,
    }
}

record! {
    /// `struct event_exit`
    RawExit {
        part: RawPart,
        start_ns: u64,
        host_pid: u32,
        status: u32,
        flags: u32,
        pad: u32,
    }
}

/// `EXIT_STATUS` of `enum exit_flags`
pub const EXIT_STATUS: u32 = 1;

record! {
    /// `struct chain_config` of bpf/chain.h: what the tool writes before it attaches
    RawChainConfig {
        watched_signals: u64,
        name_last: u64,
        name_masks: [u64; 256],
        thread_size: u64,
        stack_bytes: u64,
        fold_ns: u64,
        thread_stack_bytes: u64,
        thread_bytes: u64,
        aarch64: u32,
        own_pid: u32,
        own_pid_ns: u32,
        own_mnt_ns: u32,
        only_pid: u32,
        all_mappings: u32,
        memory: u32,
        passes: u32,
        threads: u32,
        thread_passes: u32,
    }
}

/// Every struct of `event.h` with its size and fields.
#[must_use]
pub fn layout() -> Vec<(&'static str, usize, Vec<FieldLayout>)> {
    vec![
        ("part", RawPart::SIZE, RawPart::fields()),
        ("event_fault", RawFault::SIZE, RawFault::fields()),
        ("event_header", RawHeader::SIZE, RawHeader::fields()),
        ("event_text", RawText::SIZE, RawText::fields()),
        ("event_mapping", RawMapping::SIZE, RawMapping::fields()),
        ("event_range", RawRange::SIZE, RawRange::fields()),
        ("event_code", RawCode::SIZE, RawCode::fields()),
        ("event_stack", RawStack::SIZE, RawStack::fields()),
        ("event_end", RawEnd::SIZE, RawEnd::fields()),
        ("event_thread", RawThread::SIZE, RawThread::fields()),
        ("event_exit", RawExit::SIZE, RawExit::fields()),
        ("counters", RawCounters::SIZE, RawCounters::fields()),
        ("fold_key", RawFoldKey::SIZE, RawFoldKey::fields()),
        ("fold", RawFold::SIZE, RawFold::fields()),
    ]
}

/// The fields of `struct chain_config`.
#[must_use]
pub fn chain_config() -> Vec<FieldLayout> {
    RawChainConfig::fields()
}

/// Bytes that a header and an end take in the ring, with the ring's own eight each.
pub const HEADER_IN_RING: usize = RawHeader::SIZE + 8;
pub const END_IN_RING: usize = RawEnd::SIZE + 8;

/// `enum header_flags`
pub mod header_flags {
    pub const REGISTERS: u32 = 1;
    pub const AARCH64: u32 = 1 << 1;
    pub const FIRST_FAULT: u32 = 1 << 2;
    pub const MONOTONIC: u32 = 1 << 4;
    pub const NO_SENDER: u32 = 1 << 5;
}

/// `enum thread_flags`
pub mod thread_flags {
    pub const RUNS: u16 = 1;
    pub const EXITS: u16 = 1 << 1;
    pub const AARCH64: u16 = 1 << 2;
    pub const LOCK: u16 = 1 << 3;
}

/// `enum path_flags`; those of `enum mapping_flags` are the same, one bit up.
pub mod path_flags {
    pub const TRUNCATED: u32 = 1;
    pub const DELETED: u32 = 1 << 1;
    pub const DETACHED: u32 = 1 << 2;
}

/// `MAPPING_FILE` of `enum mapping_flags`
pub const MAPPING_FILE: u32 = 1;

/// `LOST_CODE` of `enum lost_bits`
pub const LOST_CODE: u32 = 1 << 8;

/// `enum lost_bits`: each with the detail that a report then lacks, and why.
pub const LOST: [(u32, &str, &str); 16] = [
    (1 << 0, "mappings", "the ring had no room for all of them"),
    (1 << 1, "stack", "no room in the ring for all of it"),
    (
        1 << 2,
        "context",
        "the ring had no room for a path or the command line",
    ),
    (1 << 3, "mappings", "too many: the walk has a limit"),
    (1 << 4, "mappings", "they changed faster than the walk"),
    (
        1 << 5,
        "stack",
        "the memory at the stack pointer could not be read",
    ),
    (1 << 6, "cmdline", "its memory could not be read"),
    (1 << 7, "exe", "the process has no executable"),
    (
        LOST_CODE,
        "code",
        "the memory at the instruction pointer could not be read",
    ),
    (1 << 9, "mappings", "the files of some have no name"),
    (1 << 10, "memory", "no room in the ring for all of it"),
    (1 << 11, "threads", "the ring had no room for all of them"),
    (1 << 12, "threads", "they changed faster than the walk"),
    (1 << 13, "threads", "more than --threads asks for"),
    (1 << 14, "threads", "too many for this capture method"),
    (
        1 << 15,
        "threads",
        "not found in this kernel, which has no BTF",
    ),
];

/// Those of them that say that a part found no room.
pub const LOST_FOR_ROOM: u32 = 7 | 1 << 10 | 1 << 11;

/// `enum text_kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    Exe,
    Cmdline,
    Cgroup,
}

/// One mapping, with the first bytes of its file, and its paths as they were gathered:
/// leaf first.
#[derive(Clone, Copy, Debug)]
pub struct MappingRecord<'a> {
    pub raw: RawMapping,
    pub head: &'a [u8],
    pub path: &'a [u8],
    pub lower: &'a [u8],
}

/// One part of a record.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    Header(Box<RawHeader>),
    Text {
        kind: TextKind,
        flags: u32,
        bytes: &'a [u8],
    },
    Mappings(Vec<MappingRecord<'a>>),
    Stack {
        address: u64,
        bytes: &'a [u8],
    },
    /// Around a register's value.
    Memory {
        address: u64,
        bytes: &'a [u8],
    },
    /// Code at possible return addresses, if it is in no file.
    Code(Vec<RawCode>),
    /// Mappings that have no names of their own.
    Ranges(Vec<RawRange>),
    End(RawEnd),
    /// Another thread; or, without registers, more of the stack of the one before it.
    Thread {
        raw: RawThread,
        registers: &'a [u8],
        bytes: &'a [u8],
    },
    /// Of a process, and part of no record.
    Exit(RawExit),
}

/// Why bytes of the ring are not part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPart {
    Short(ShortRead),
    /// A kind of part, or of text, that this tool does not know.
    Kind(u32),
    /// The size in the part is not the size that the ring has.
    Size {
        said: u32,
        came: usize,
    },
}

impl From<ShortRead> for BadPart {
    fn from(short: ShortRead) -> Self {
        BadPart::Short(short)
    }
}

impl std::fmt::Display for BadPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadPart::Short(short) => write!(f, "record part: {short}"),
            BadPart::Kind(kind) => write!(f, "record part of unknown kind {kind}"),
            BadPart::Size { said, came } => {
                write!(f, "record part of {came} bytes says that it has {said}")
            }
        }
    }
}

/// Reads one part, and the id of the record that it belongs to.
pub fn decode(bytes: &[u8]) -> Result<(u64, Part<'_>), BadPart> {
    let part = RawPart::read(&mut Cursor::new(bytes))?;
    if part.size as usize != bytes.len() {
        return Err(BadPart::Size {
            said: part.size,
            came: bytes.len(),
        });
    }
    let mut cursor = Cursor::new(bytes);
    let decoded = match part.kind {
        1 => Part::Header(Box::new(RawHeader::read(&mut cursor)?)),
        2 => {
            let text = RawText::read(&mut cursor)?;
            let kind = match text.kind {
                1 => TextKind::Exe,
                2 => TextKind::Cmdline,
                3 => TextKind::Cgroup,
                kind => return Err(BadPart::Kind(kind)),
            };
            Part::Text {
                kind,
                flags: text.flags,
                bytes: cursor.take(cursor.left())?,
            }
        }
        3 => Part::Mappings(decode_mappings(bytes)?),
        4 | 7 => {
            let address = RawStack::read(&mut cursor)?.address;
            let bytes = cursor.take(cursor.left())?;
            match part.kind {
                4 => Part::Stack { address, bytes },
                _ => Part::Memory { address, bytes },
            }
        }
        5 => Part::End(RawEnd::read(&mut cursor)?),
        6 => {
            let mut cursor = Cursor::at(bytes, RawPart::SIZE);
            let mut ranges = Vec::new();
            while cursor.left() > 0 {
                ranges.push(RawRange::read(&mut cursor)?);
            }
            Part::Ranges(ranges)
        }
        8 => {
            let mut cursor = Cursor::at(bytes, RawPart::SIZE);
            let mut sites = Vec::new();
            while cursor.left() > 0 {
                sites.push(RawCode::read(&mut cursor)?);
            }
            Part::Code(sites)
        }
        9 => Part::Exit(RawExit::read(&mut cursor)?),
        10 => {
            let raw = RawThread::read(&mut cursor)?;
            Part::Thread {
                raw,
                registers: cursor.take(usize::from(raw.regs_bytes))?,
                bytes: cursor.take(cursor.left())?,
            }
        }
        kind => return Err(BadPart::Kind(kind)),
    };
    Ok((part.id, decoded))
}

fn decode_mappings(bytes: &[u8]) -> Result<Vec<MappingRecord<'_>>, ShortRead> {
    let mut cursor = Cursor::at(bytes, RawPart::SIZE);
    let mut mappings = Vec::new();
    while cursor.left() > 0 {
        let raw = RawMapping::read(&mut cursor)?;
        let head = cursor.take(raw.head_bytes as usize)?;
        let path = cursor.take(usize::from(raw.path_bytes))?;
        let lower = cursor.take(usize::from(raw.lower_bytes))?;
        let misaligned = cursor.offset() % 8;
        if misaligned != 0 {
            cursor.skip((8 - misaligned).min(cursor.left()))?;
        }
        mappings.push(MappingRecord {
            raw,
            head,
            path,
            lower,
        });
    }
    Ok(mappings)
}

/// The kind of part that these bytes begin, if they do.
#[must_use]
pub fn is_header(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|kind| u32::from_ne_bytes(*kind) == 1)
}

/// A part without further bytes that may follow it.
#[must_use]
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let size = bytes.get(4..8).and_then(|size| size.try_into().ok());
    let size = size.map_or(bytes.len(), |size| u32::from_ne_bytes(size) as usize);
    bytes.get(..size).unwrap_or(bytes)
}

/// Reads the counters, which the capture program keeps in its global data.
pub fn decode_counters(bytes: &[u8]) -> Result<RawCounters, ShortRead> {
    RawCounters::read(&mut Cursor::new(bytes))
}

/// Reads the capture program's entry for one site.
pub fn decode_fold(bytes: &[u8]) -> Result<RawFold, ShortRead> {
    RawFold::read(&mut Cursor::new(bytes))
}

#[cfg(test)]
#[path = "abi_tests.rs"]
mod tests;
