//! A captured event as an ELF core.
//!
//! In: an event, and the files that it had mapped. Out: the bytes of a file that gdb, lldb
//! and eu-stack open, or nothing where the registers are not known. Notes come first, those
//! of the crashed thread before those of the others that were captured. Then the memory that was captured, each piece once.
//! Nothing is padded to pages, so that what was not captured is not there, instead of
//! being zero. NT_FPREGSET and NT_X86_XSTATE are left out, because they are not captured.

use super::layout::{self, Writer};
use super::{link_map, own_note, own_threads, Object};
use crate::base::bytes::spaced;
use crate::crash::event::{Event, MappedFile, Mapping, MemoryWindow, VmFlags};
use crate::crash::registers::{Arch, Registers};

/// The first address that may hold the list of loaded files, and the distance to the next:
/// lower ones belong to null pointers.
const LIST_AT: u64 = 0x1_0000;
const MAX_LIST_TRIES: u64 = 4096;
/// Of each piece. Elfutils reads wrong places where it is 1, and rounds addresses down to it.
const ALIGNMENT: u64 = 2;
/// x86: its place among the registers. -1 is no system call, 0 is one.
const ORIG_AX: usize = 15;
/// Program headers are counted in 16 bits, and the last number means something else.
const MAX_PIECES: usize = 0xfff0;

/// What a core is made of.
#[derive(Debug)]
pub struct Material<'a> {
    pub event: &'a Event,
    pub objects: &'a [Object],
    /// The time of the report.
    pub unix_ms: u64,
    /// How much of a stack was to be captured.
    pub window_bytes: u32,
    pub page_bytes: u64,
    /// The first bytes of the build-id of the kernel's code in every process; 0 if it has none.
    pub vdso_id: u64,
}

impl Material<'_> {
    /// The file, whole.
    #[must_use]
    pub fn core(&self) -> Option<Vec<u8>> {
        let registers = self.event.registers?;
        let arch = registers.arch();
        let made_up = self.made_up(arch);
        let mut memory = Memory::default();
        for (address, bytes) in &made_up {
            memory.add(*address, bytes);
        }
        self.add_captured(&mut memory);
        let notes = self.notes(&registers);
        Some(file(arch, &notes, &memory.pieces, self.event))
    }

    /// What debuggers look for and nobody captured: the list of loaded files, and the dynamic
    /// section that leads to it.
    fn made_up(&self, arch: Arch) -> Vec<(u64, Vec<u8>)> {
        let mut made_up = Vec::new();
        let program = self.objects.iter().find(|object| object.is_program);
        let others = self.objects.iter().filter(|object| !object.is_program);
        let all: Vec<&Object> = program.into_iter().chain(others).collect();
        let found = program.and_then(|program| {
            let (address, bytes) = program.dynamic.as_ref()?;
            let size = link_map::list(arch, &all, 0).len() as u64;
            let list = self.unused(size)?;
            Some((address.0, link_map::dynamic(arch, bytes, list)?, list))
        });
        if let Some((address, dynamic, list)) = found {
            made_up.push((address, dynamic));
            made_up.push((list, link_map::list(arch, &all, list)));
        }
        made_up
    }

    /// An address that no mapping has.
    fn unused(&self, size: u64) -> Option<u64> {
        let mut candidates = (1..=MAX_LIST_TRIES).map(|number| number * LIST_AT);
        candidates.find(|&start| {
            let end = start + size;
            let mut mappings = self.event.mappings.iter();
            !mappings.any(|mapping| mapping.start.0 < end && start < mapping.end.0)
        })
    }

    fn add_captured<'b>(&'b self, memory: &mut Memory<'b>) {
        let event = self.event;
        let windows = event.windows.iter().chain(&event.memory);
        let code = std::iter::once(&event.code_bytes).chain(&event.compiled);
        for MemoryWindow { address, bytes } in windows.chain(code) {
            memory.add(address.0, bytes);
        }
        let files = event.mappings.iter().filter_map(|it| it.file.as_ref());
        for head in files.filter_map(|file| file.head.as_ref()) {
            memory.add(head.address.0, &head.bytes);
        }
        let others = event.threads.iter().flat_map(|threads| &threads.list);
        for MemoryWindow { address, bytes } in others.flat_map(|thread| &thread.windows) {
            memory.add(address.0, bytes);
        }
    }

    fn notes(&self, registers: &Registers) -> Vec<u8> {
        let arch = registers.arch();
        let mut notes = Vec::new();
        let mut add = |name: &[u8], kind: u32, bytes: &[u8]| {
            let mut out = Writer::new(arch);
            out.u32(name.len() as u32);
            out.u32(bytes.len() as u32);
            out.u32(kind);
            out.bytes.extend_from_slice(name);
            out.align(4);
            out.bytes.extend_from_slice(bytes);
            out.align(4);
            notes.extend_from_slice(&out.bytes);
        };
        const CORE: &[u8] = b"CORE\0";
        let status = self.prstatus(
            registers,
            self.event.tid.unwrap_or(self.event.host_tid),
            true,
        );
        add(CORE, layout::NT_PRSTATUS, &status);
        add(CORE, layout::NT_PRPSINFO, &self.prpsinfo(arch));
        add(CORE, layout::NT_SIGINFO, &self.siginfo(arch));
        add(CORE, layout::NT_AUXV, &self.auxv(arch));
        add(CORE, layout::NT_FILE, &self.files(arch));
        let own = own_note::words(
            self.event,
            self.unix_ms,
            self.vdso_id,
            self.window_bytes.into(),
        );
        add(own_note::NAME, own_note::KIND, &bytes(own));
        if let Some(others) = &self.event.threads {
            for thread in &others.list {
                let registers = thread.registers.as_ref().filter(|it| it.arch() == arch);
                let tid = own_threads::number(thread);
                if let Some(registers) = registers {
                    let status = self.prstatus(registers, tid, false);
                    add(CORE, layout::NT_PRSTATUS, &status);
                }
            }
            let words = own_threads::words(others);
            add(own_note::NAME, own_note::THREADS, &bytes(words));
        }
        notes
    }

    fn pid(&self) -> u32 {
        self.event.pid.unwrap_or(self.event.host_pid)
    }

    /// Of the thread that crashed, or of another one.
    fn prstatus(&self, registers: &Registers, tid: u32, crashed: bool) -> Vec<u8> {
        let (event, arch) = (self.event, registers.arch());
        let (thread_at, registers_at) = layout::prstatus(arch);
        let (signal, code) = if crashed {
            (event.signal, event.code)
        } else {
            (0, 0)
        };
        let mut out = Writer::new(arch);
        out.u32(signal as u32);
        out.u32(code as u32);
        out.u32(0);
        out.u16(signal as u16);
        out.fill(thread_at);
        out.u32(tid);
        out.u32(event.ppid.unwrap_or(0));
        out.fill(registers_at);
        let mut words = registers.words();
        if matches!(arch, Arch::X86_64 | Arch::I386) && registers.unknown() >> ORIG_AX & 1 != 0 {
            words[ORIG_AX] = u64::MAX;
        }
        for &slot in layout::slots(arch) {
            out.word(match slot {
                layout::FS_BASE if crashed => event.fs_base,
                layout::GS_BASE if crashed => event.gs_base,
                slot => words.get(slot).copied().unwrap_or(0),
            });
        }
        // Whether there are floating-point registers, as large as a register here.
        out.word(0);
        out.bytes
    }

    fn prpsinfo(&self, arch: Arch) -> Vec<u8> {
        let event = self.event;
        let places = layout::prpsinfo(arch);
        let mut out = Writer::new(arch);
        // Running.
        out.bytes.extend_from_slice(b"\0R\0\0");
        out.fill(places.uid);
        let uid = event.uid.unwrap_or(0);
        match arch.word_bytes() {
            8 => out.u32(uid),
            // As the kernel has it for numbers that do not fit.
            _ => out.u16(u16::try_from(uid).unwrap_or(65_534)),
        }
        out.fill(places.pid);
        out.u32(self.pid());
        out.u32(event.ppid.unwrap_or(0));
        out.fill(places.name);
        out.text(&event.comm, layout::NAME_BYTES);
        let arguments = spaced(event.cmdline.as_deref().unwrap_or(b""));
        out.text(&arguments, layout::ARGUMENT_BYTES);
        out.bytes
    }

    fn siginfo(&self, arch: Arch) -> Vec<u8> {
        let event = self.event;
        let mut out = Writer::new(arch);
        out.u32(event.signal as u32);
        out.u32(0);
        out.u32(event.code as u32);
        out.fill(layout::siginfo_fields(arch));
        let word = own_note::siginfo_word(event.siginfo);
        match event.siginfo.address() {
            Some(_) => out.word(word),
            None => out.bytes.extend_from_slice(&word.to_le_bytes()),
        }
        if let (Some(more), 8) = (event.siginfo_more, arch.word_bytes()) {
            more.into_iter().for_each(|word| out.word(word));
        }
        out.fill(layout::SIGINFO_BYTES);
        out.bytes
    }

    /// The entries that debuggers ask for, out of the mappings and the files; the kernel's own
    /// are not captured.
    fn auxv(&self, arch: Arch) -> Vec<u8> {
        let mut entries = vec![(layout::AT_PAGESZ, self.page_bytes)];
        if let Some(uid) = self.event.uid {
            entries.push((layout::AT_UID, uid.into()));
        }
        let program = self.objects.iter().find(|object| object.is_program);
        if let Some((address, count)) = program.and_then(|program| program.headers) {
            let entry_bytes = if arch.word_bytes() == 8 { 56 } else { 32 };
            entries.push((layout::AT_PHDR, address.0));
            entries.push((layout::AT_PHENT, entry_bytes));
            entries.push((layout::AT_PHNUM, count.into()));
        }
        if let Some(entry) = program.and_then(|program| program.entry) {
            entries.push((layout::AT_ENTRY, entry.0));
        }
        if let Some(base) = program.and_then(|program| self.linker(program)) {
            entries.push((layout::AT_BASE, base));
        }
        entries.push((0, 0));
        let mut out = Writer::new(arch);
        for (kind, value) in entries {
            out.word(kind);
            out.word(value);
        }
        out.bytes
    }

    /// Where the dynamic linker is: the file with the name that the program asks for.
    fn linker(&self, program: &Object) -> Option<u64> {
        let wanted = name(program.interpreter.as_deref()?);
        let mut others = self.objects.iter().filter(|object| !object.is_program);
        let linker = others.find(|object| name(&object.path) == wanted)?;
        Some(linker.bias)
    }

    fn files(&self, arch: Arch) -> Vec<u8> {
        let named: Vec<(&Mapping, &MappedFile)> = self
            .event
            .mappings
            .iter()
            .filter_map(|it| {
                let file = it.file.as_ref().filter(|file| !file.path.is_empty())?;
                Some((it, file))
            })
            .collect();
        let mut out = Writer::new(arch);
        out.word(named.len() as u64);
        out.word(self.page_bytes);
        for (mapping, file) in &named {
            out.word(mapping.start.0);
            out.word(mapping.end.0);
            out.word(file.offset.0 / self.page_bytes);
        }
        for (mapping, _) in &named {
            out.bytes.extend(self.event.mapping_name(mapping));
            out.bytes.push(0);
        }
        out.bytes
    }
}

/// 64-bit words, as they are in notes of our own.
fn bytes(words: Vec<u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The last component of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Pieces of memory without overlaps, in the order of their addresses. What came first stays.
#[derive(Debug, Default)]
struct Memory<'a> {
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Memory<'a> {
    fn add(&mut self, address: u64, bytes: &'a [u8]) {
        // One more: starts are rounded up.
        let Some(end) = address
            .checked_add(bytes.len() as u64)
            .filter(|end| *end < u64::MAX)
        else {
            return;
        };
        let mut at = address;
        let mut parts = Vec::new();
        let first = self
            .pieces
            .partition_point(|(start, known)| start + known.len() as u64 <= at);
        for (start, known) in &self.pieces[first..] {
            if *start >= end {
                break;
            }
            if *start > at {
                parts.push((at, *start));
            }
            at = start + known.len() as u64;
        }
        if at < end {
            parts.push((at, end));
        }
        for (start, end) in parts {
            let start = start.next_multiple_of(ALIGNMENT);
            if start >= end {
                continue;
            }
            if self.pieces.len() >= MAX_PIECES {
                return;
            }
            let part = &bytes[(start - address) as usize..(end - address) as usize];
            let place = self.pieces.partition_point(|(other, _)| *other < start);
            self.pieces.insert(place, (start, part));
        }
    }
}

/// Header, program headers, notes, memory.
fn file(arch: Arch, notes: &[u8], pieces: &[(u64, &[u8])], event: &Event) -> Vec<u8> {
    let is_64_bit = arch.word_bytes() == 8;
    let (header_bytes, entry_bytes) = if is_64_bit { (64, 56) } else { (52, 32) };
    let mut out = Writer::new(arch);
    let class = if is_64_bit { 2 } else { 1 };
    // Little-endian, version 1.
    out.bytes
        .extend_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
    out.fill(16);
    out.u16(layout::ET_CORE);
    out.u16(layout::machine(arch));
    out.u32(1);
    out.word(0);
    out.word(header_bytes);
    out.word(0);
    out.u32(0);
    out.u16(header_bytes as u16);
    out.u16(entry_bytes as u16);
    out.u16(pieces.len() as u16 + 1);
    out.fill(header_bytes as usize);
    let mut offset = header_bytes + entry_bytes * (pieces.len() as u64 + 1);
    let mut header = |kind: u32, flags: u32, address: u64, bytes: &[u8]| {
        let size = bytes.len() as u64;
        let (in_memory, align) = if kind == layout::PT_NOTE {
            (0, 4)
        } else {
            (size, ALIGNMENT)
        };
        out.u32(kind);
        if is_64_bit {
            out.u32(flags);
        }
        for word in [offset, address, 0, size, in_memory] {
            out.word(word);
        }
        if !is_64_bit {
            out.u32(flags);
        }
        out.word(align);
        offset += size.next_multiple_of(ALIGNMENT);
    };
    header(layout::PT_NOTE, 0, 0, notes);
    for (address, bytes) in pieces {
        header(layout::PT_LOAD, flags(event, *address), *address, bytes);
    }
    out.bytes.extend_from_slice(notes);
    for (_, bytes) in pieces {
        out.bytes.extend_from_slice(bytes);
        out.align(ALIGNMENT as usize);
    }
    out.bytes
}

/// PF_R, PF_W and PF_X of the mapping there; readable where there is none.
fn flags(event: &Event, address: u64) -> u32 {
    let mapping = event.mapping(crate::base::address::ProcessAddress(address));
    let flags = mapping.map_or(VmFlags(1), |mapping| mapping.flags);
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    4 | bit(flags.writable(), 2) | bit(flags.executable(), 1)
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
