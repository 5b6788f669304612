//! An ELF core, the kernel's or ours: its notes, and a reader of its memory.
//!
//! In: any file. Out: a [`Core`], or why it is none. Nothing is held of a core but its
//! program headers and what its notes say; memory is read when it is asked for. Counts and
//! sizes have limits, because a core may have been made by anybody. ELF64 and ELF32,
//! little-endian.

use super::layout;
use super::own_note::{self, OwnNote};
use super::own_threads::{OwnThreads, MAX_THREADS};
use crate::base::bytes::Cursor;
use crate::base::order;
use crate::crash::registers::Arch;
use crate::symbols::elf::Source;

/// The kernel's own limit, `max_map_count`, is seldom set higher.
const MAX_SEGMENTS: u64 = 1 << 17;
/// Of a process with thousands of threads; the crashed one comes first.
const MAX_NOTE_BYTES: u64 = 16 << 20;
const MAX_FILES: u64 = 1 << 16;
/// More program headers than their number has room for.
const PN_XNUM: u16 = 0xffff;

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCore {
    NotElf,
    /// An ELF file of another type.
    NotCore,
    BigEndian,
    OtherMachine,
    Malformed,
    /// It has no notes about a thread.
    NoThread,
}

impl NotCore {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NotCore::NotElf => "not an ELF file",
            NotCore::NotCore => "an ELF file, but not a core file",
            NotCore::BigEndian => "a big-endian core file",
            NotCore::OtherMachine => "a core file of another machine than x86, arm64 or arm",
            NotCore::Malformed => "a malformed core file",
            NotCore::NoThread => "a core file without registers",
        }
    }
}

/// A piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    /// How much of it is in the file, from where on.
    pub file_size: u64,
    pub offset: u64,
    pub memory_size: u64,
    /// PF_R, PF_W, PF_X.
    pub flags: u32,
}

/// A mapped file, by NT_FILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub path: Vec<u8>,
}

/// A thread's registers, as NT_PRSTATUS has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub tid: u32,
    pub signal: i32,
    pub words: Vec<u64>,
}

/// What a core says of its process.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Process {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub name: Vec<u8>,
    pub arguments: Vec<u8>,
}

/// A core.
#[derive(Debug)]
pub struct Core {
    source: Source,
    pub arch: Arch,
    /// In the order of their addresses.
    pub segments: Vec<Segment>,
    /// The thread that crashed: the first one.
    pub thread: Thread,
    /// The others, as far as they are kept, and how many there are of all; 0 if that is not
    /// known, because not all notes were read.
    pub others: Vec<Thread>,
    pub thread_count: u32,
    pub process: Process,
    pub siginfo: Option<Vec<u8>>,
    /// Kinds and values.
    pub auxv: Vec<(u64, u64)>,
    /// In the order of their addresses.
    pub files: Vec<FileRange>,
    pub(super) own: Option<OwnNote>,
    pub(super) own_threads: Option<OwnThreads>,
}

impl Core {
    pub fn read(source: Source) -> Result<Core, NotCore> {
        let header = Header::read(&source)?;
        let entries = header.entries(&source).ok_or(NotCore::Malformed)?;
        let mut notes = Notes::new(header.arch);
        let mut segments = Vec::new();
        let mut room = MAX_NOTE_BYTES;
        let mut is_cut = false;
        for (kind, segment) in entries {
            match kind {
                layout::PT_LOAD => segments.push(segment),
                layout::PT_NOTE => {
                    let size = segment.file_size.min(room);
                    room -= size;
                    let left = source.size().saturating_sub(segment.offset);
                    is_cut |= size.min(left) < segment.file_size;
                    let size = usize::try_from(size.min(left)).unwrap_or(0);
                    if let Some(bytes) = source.read_vec(segment.offset, size) {
                        notes.take_all(&bytes);
                    }
                }
                _ => {}
            }
        }
        order::sort(&mut segments, |segment: &Segment| segment.address);
        order::sort(&mut notes.files, |file| file.start);
        Ok(Core {
            source,
            arch: header.arch,
            segments,
            thread: notes.thread.ok_or(NotCore::NoThread)?,
            others: notes.others,
            thread_count: if is_cut { 0 } else { notes.thread_count },
            process: notes.process,
            siginfo: notes.siginfo,
            auxv: notes.auxv,
            files: notes.files,
            own: notes.own,
            own_threads: notes.own_threads,
        })
    }

    /// The segment that holds an address.
    #[must_use]
    pub fn segment(&self, address: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|it| it.address <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (address - segment.address < segment.memory_size).then_some(segment)
    }

    /// Memory from an address on, at most `len` bytes, as far as the core has it.
    #[must_use]
    pub fn memory(&self, address: u64, len: usize) -> Vec<u8> {
        let read = || {
            let segment = self.segment(address)?;
            let within = address - segment.address;
            let left = segment.file_size.checked_sub(within)?;
            let mut bytes = vec![0; len.min(usize::try_from(left).unwrap_or(len))];
            let offset = segment.offset.checked_add(within)?;
            let len = self.source.read_at(offset, &mut bytes);
            bytes.truncate(len);
            Some(bytes)
        };
        read().unwrap_or_default()
    }

    /// Whether this was captured as a part of another thread's stack.
    #[must_use]
    pub(super) fn is_of_other_thread(&self, segment: &Segment) -> bool {
        let threads = self.own_threads.iter().flat_map(|it| &it.list);
        let mut windows = threads.flat_map(|thread| &thread.windows);
        windows.any(|(start, len)| segment.address.wrapping_sub(*start) < *len)
    }

    #[must_use]
    pub fn auxv(&self, kind: u64) -> Option<u64> {
        let entry = self.auxv.iter().find(|entry| entry.0 == kind)?;
        Some(entry.1)
    }
}

/// What the header says.
struct Header {
    arch: Arch,
    table: u64,
    count: u64,
    entry_bytes: usize,
}

impl Header {
    fn read(source: &Source) -> Result<Header, NotCore> {
        let mut bytes = [0; 64];
        let len = source.read_at(0, &mut bytes);
        let bytes = &bytes[..len];
        let is_64_bit = match bytes {
            [0x7f, b'E', b'L', b'F', 2, 1, ..] => true,
            [0x7f, b'E', b'L', b'F', 1, 1, ..] => false,
            [0x7f, b'E', b'L', b'F', 1 | 2, 2, ..] => return Err(NotCore::BigEndian),
            _ => return Err(NotCore::NotElf),
        };
        let at = |offset| Cursor::at(bytes, offset);
        let half = |offset| at(offset).u16().map_err(|_| NotCore::Malformed);
        if half(16)? != layout::ET_CORE {
            return Err(NotCore::NotCore);
        }
        let arch = layout::arch(half(18)?, is_64_bit).ok_or(NotCore::OtherMachine)?;
        let word = |wide: usize, narrow: usize| {
            let read = match is_64_bit {
                true => at(wide).u64(),
                false => at(narrow).u32().map(u64::from),
            };
            read.map_err(|_| NotCore::Malformed)
        };
        let (table, sections) = (word(32, 28)?, word(40, 32)?);
        let (size_at, entry_bytes) = if is_64_bit { (54, 56) } else { (42, 32) };
        if usize::from(half(size_at)?) != entry_bytes {
            return Err(NotCore::Malformed);
        }
        let count = match half(size_at + 2)? {
            // The first section has the number: sh_info.
            PN_XNUM => {
                let at = sections.checked_add(if is_64_bit { 44 } else { 28 });
                let mut info = [0; 4];
                at.and_then(|at| source.read_exact(at, &mut info))
                    .ok_or(NotCore::Malformed)?;
                u32::from_le_bytes(info).into()
            }
            count => count.into(),
        };
        Ok(Header {
            arch,
            table,
            count,
            entry_bytes,
        })
    }

    fn entries(&self, source: &Source) -> Option<Vec<(u32, Segment)>> {
        let left = source.size().saturating_sub(self.table) / self.entry_bytes as u64;
        // A core that was cut off has its headers first.
        let count = usize::try_from(self.count.min(MAX_SEGMENTS).min(left)).ok()?;
        let bytes = source.read_vec(self.table, count * self.entry_bytes)?;
        let entries = bytes.chunks_exact(self.entry_bytes);
        entries.map(|entry| self.entry(entry)).collect()
    }

    fn entry(&self, bytes: &[u8]) -> Option<(u32, Segment)> {
        let is_64_bit = self.entry_bytes == 56;
        let mut cursor = Cursor::new(bytes);
        let kind = cursor.u32().ok()?;
        let flags = if is_64_bit { cursor.u32().ok()? } else { 0 };
        let mut word = || match is_64_bit {
            true => cursor.u64().ok(),
            false => cursor.u32().ok().map(u64::from),
        };
        let (offset, address, _, file_size, memory_size) =
            (word()?, word()?, word()?, word()?, word()?);
        let segment = Segment {
            address,
            // What wraps around is cut off.
            memory_size: memory_size.min(u64::MAX - address),
            file_size: file_size
                .min(u64::MAX - address)
                .min(memory_size.max(if kind == layout::PT_NOTE { u64::MAX } else { 0 })),
            offset,
            flags: if is_64_bit { flags } else { cursor.u32().ok()? },
        };
        Some((kind, segment))
    }
}

/// What the notes say; of each kind but threads, the first one.
struct Notes {
    arch: Arch,
    thread: Option<Thread>,
    others: Vec<Thread>,
    thread_count: u32,
    process: Process,
    siginfo: Option<Vec<u8>>,
    auxv: Vec<(u64, u64)>,
    files: Vec<FileRange>,
    own: Option<OwnNote>,
    own_threads: Option<OwnThreads>,
}

impl Notes {
    fn new(arch: Arch) -> Self {
        Notes {
            arch,
            thread: None,
            others: Vec::new(),
            thread_count: 0,
            process: Process::default(),
            siginfo: None,
            auxv: Vec::new(),
            files: Vec::new(),
            own: None,
            own_threads: None,
        }
    }

    fn take_all(&mut self, bytes: &[u8]) {
        let mut cursor = Cursor::new(bytes);
        while let Some((name, kind, value)) = note(&mut cursor) {
            self.take(name, kind, value);
        }
    }

    fn take(&mut self, name: &[u8], kind: u32, bytes: &[u8]) {
        if name == own_note::NAME && kind == own_note::KIND && self.own.is_none() {
            self.own = own_note::read(bytes);
        }
        if name == own_note::NAME && kind == own_note::THREADS && self.own_threads.is_none() {
            self.own_threads = OwnThreads::read(bytes);
        }
        if name != b"CORE\0" {
            return;
        }
        match kind {
            layout::NT_PRSTATUS => {
                let found = thread(self.arch, bytes);
                self.thread_count += u32::from(found.is_some());
                if self.thread.is_none() {
                    self.thread = found;
                } else if self.others.len() < MAX_THREADS {
                    self.others.extend(found);
                }
            }
            layout::NT_PRPSINFO => {
                if let Some(process) = process(self.arch, bytes) {
                    self.process = process;
                }
            }
            layout::NT_SIGINFO if self.siginfo.is_none() => self.siginfo = Some(bytes.to_vec()),
            layout::NT_AUXV if self.auxv.is_empty() => self.auxv = auxv(self.arch, bytes),
            layout::NT_FILE if self.files.is_empty() => {
                self.files = files(self.arch, bytes).unwrap_or_default();
            }
            _ => {}
        }
    }
}

/// Name with its NUL, kind, content.
fn note<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], u32, &'a [u8])> {
    let name_len = usize::try_from(cursor.u32().ok()?).ok()?;
    let len = usize::try_from(cursor.u32().ok()?).ok()?;
    let kind = cursor.u32().ok()?;
    let name = cursor.take(name_len).ok()?;
    cursor.skip(name_len.wrapping_neg() % 4).ok()?;
    let value = cursor.take(len).ok()?;
    // The last one may end without its padding.
    let padding = (len.wrapping_neg() % 4).min(cursor.left());
    cursor.skip(padding).ok()?;
    Some((name, kind, value))
}

fn word(arch: Arch, cursor: &mut Cursor<'_>) -> Option<u64> {
    match arch.word_bytes() {
        8 => cursor.u64().ok(),
        _ => cursor.u32().ok().map(u64::from),
    }
}

fn thread(arch: Arch, bytes: &[u8]) -> Option<Thread> {
    let (thread_at, registers_at) = layout::prstatus(arch);
    let mut cursor = Cursor::at(bytes, registers_at);
    let count = layout::slots(arch).len();
    let words: Option<Vec<u64>> = (0..count).map(|_| word(arch, &mut cursor)).collect();
    Some(Thread {
        tid: Cursor::at(bytes, thread_at).u32().ok()?,
        signal: Cursor::at(bytes, 12).u16().ok()?.into(),
        words: words?,
    })
}

fn process(arch: Arch, bytes: &[u8]) -> Option<Process> {
    let places = layout::prpsinfo(arch);
    let number = |at: usize| Cursor::at(bytes, at).u32().ok();
    let text = |at: usize, len: usize| {
        let bytes = Cursor::at(bytes, at).take(len).ok()?;
        Some(crate::base::bytes::until_nul(bytes).to_vec())
    };
    let uid = match arch.word_bytes() {
        8 => number(places.uid)?,
        _ => Cursor::at(bytes, places.uid).u16().ok()?.into(),
    };
    let mut arguments = text(places.name + layout::NAME_BYTES, layout::ARGUMENT_BYTES)?;
    // The kernel ends them with a space.
    while arguments.last() == Some(&b' ') {
        arguments.pop();
    }
    Some(Process {
        pid: number(places.pid)?,
        ppid: number(places.ppid)?,
        uid,
        name: text(places.name, layout::NAME_BYTES)?,
        arguments,
    })
}

fn auxv(arch: Arch, bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut cursor = Cursor::new(bytes);
    // Far more than any kernel has.
    let pairs = (0..256).map_while(|_| Some((word(arch, &mut cursor)?, word(arch, &mut cursor)?)));
    pairs.take_while(|(kind, _)| *kind != 0).collect()
}

fn files(arch: Arch, bytes: &[u8]) -> Option<Vec<FileRange>> {
    let mut cursor = Cursor::new(bytes);
    let count = word(arch, &mut cursor)?;
    let page_bytes = word(arch, &mut cursor)?;
    let left = cursor.left() / (3 * arch.word_bytes());
    if count > MAX_FILES || count > left as u64 {
        return None;
    }
    let mut names = Cursor::at(
        bytes,
        cursor.offset() + count as usize * 3 * arch.word_bytes(),
    );
    let names = names.take(names.left()).ok()?;
    let mut names = names.split(|&byte| byte == 0);
    let mut files = Vec::new();
    for _ in 0..count {
        let (start, end) = (word(arch, &mut cursor)?, word(arch, &mut cursor)?);
        let offset = word(arch, &mut cursor)?.checked_mul(page_bytes);
        let path = names.next()?.to_vec();
        if let Some(offset) = offset.filter(|_| start < end) {
            files.push(FileRange {
                start,
                end,
                offset,
                path,
            });
        }
    }
    Some(files)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
