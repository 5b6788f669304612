//! The event of a core: what the capture program would have captured.
//!
//! In: a [`Core`]. Out: an [`Event`] with the same pieces of memory as one from the kernel:
//! windows of the stack, of a stack that a handler has interrupted, code, memory around
//! registers. What a core does not say is `None` and named in `lost`. Files of mappings are
//! named here, and identified by the caller ([`identify`]), who may look at them.

use std::rc::Rc;

use super::layout;
use super::own_note::OwnNote;
use super::read::{Core, FileRange};
use super::windows::Windows;
use crate::base::address::{FileOffset, ProcessAddress};
use crate::base::order;
use crate::crash::event::{
    Disposition, Event, FileHead, FileIdentity, Lost, MappedFile, Mapping, MemoryWindow, Siginfo,
    VmFlags,
};
use crate::crash::fault;
use crate::crash::registers::{Arch, Registers, WORDS};
use crate::symbols::elf::{ElfFile, Source};

/// What is looked at of a stack, from its pointer on: for an analysis.
pub const WINDOW_BYTES: u32 = 1 << 20;
pub(super) const RED_ZONE: u64 = 128;
/// As in the capture program: bpf/head.h, bpf/task.h.
const HEAD_BYTES: usize = 1024;
const CODE_BEFORE: u64 = 16;
const CODE_BYTES: usize = 64;
const MEMORY_BYTES: usize = 128;
/// A signal's frame, with all registers that a processor has.
const SIGNAL_FRAME_BYTES: usize = 12 << 10;
const OTHER_STACK_BYTES: usize = 64 << 10;
const MAX_OTHER_STACKS: usize = 16;
/// Of code that is in no file.
const MAX_COMPILED: usize = 64;
const COMPILED_BYTES: usize = 64 << 10;

/// The event, and when it happened, if the core says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    pub event: Event,
    pub unix_ms: Option<u64>,
    /// The first bytes of the vDSO's build-id; 0 if that is not known.
    pub vdso_id: u64,
    /// How much of a stack was to be captured.
    pub window_bytes: u32,
}

#[must_use]
pub fn recall(core: &Core) -> Recalled {
    let unknown = core.own.as_ref().map_or(0, |own| own.unknown);
    let registers = registers(core.arch, &core.thread.words, unknown);
    let own = core.own.clone().unwrap_or_default();
    let mut event = begin(core, &own, registers);
    event.mappings = mappings(core, &own);
    event.exe = program(core, &event);
    if core.own.is_none() {
        event.start_stack = ProcessAddress(start_stack(core).unwrap_or(0));
        event.vdso = ProcessAddress(core.auxv(layout::AT_SYSINFO_EHDR).unwrap_or(0));
    }
    add_memory(core, &mut event, &registers);
    let window_bytes = u32::try_from(own.window_bytes).unwrap_or(WINDOW_BYTES);
    Recalled {
        vdso_id: match core.own {
            Some(_) => own.vdso_id,
            None => vdso_id(core, event.vdso.0),
        },
        unix_ms: core.own.as_ref().map(|own| own.unix_ms),
        window_bytes: match core.own {
            Some(_) => window_bytes.min(WINDOW_BYTES),
            None => WINDOW_BYTES,
        },
        event,
    }
}

fn vdso_id(core: &Core, start: u64) -> u64 {
    const VDSO_BYTES: usize = 64 << 10;
    let image = core.memory(start, VDSO_BYTES);
    let elf = ElfFile::parse(Source::memory(image)).ok();
    super::short_id(elf.as_ref().and_then(ElfFile::build_id))
}

/// Those of a thread, by its words in NT_PRSTATUS.
pub(super) fn registers(arch: Arch, saved: &[u64], unknown: u64) -> Registers {
    let mut words = [0; WORDS];
    for (&slot, &word) in layout::slots(arch).iter().zip(saved) {
        if let Some(place) = words.get_mut(slot) {
            *place = word;
        }
    }
    let kernel = match arch {
        Arch::X86_64 | Arch::I386 => Arch::X86_64,
        Arch::Aarch64 | Arch::Arm => Arch::Aarch64,
    };
    // What shows a task of 32 bits, which a kernel of 32 bits has otherwise.
    match arch {
        Arch::I386 => {
            words[17] = 0x23;
            // None is -1.
            words[15] = (words[15] as i32) as u64;
        }
        Arch::X86_64 => words[17] = 0x33,
        Arch::Arm => words[33] |= 0x10,
        Arch::Aarch64 => words[33] &= !0x10,
    }
    // Neither pc nor sp can be unknown.
    let needed: u64 = match arch {
        Arch::X86_64 | Arch::I386 => 1 << 16 | 1 << 19,
        Arch::Aarch64 => 1 << 32 | 1 << 31,
        Arch::Arm => 1 << 32 | 1 << 13,
    };
    Registers::new(kernel, words).without(unknown & !needed)
}

fn begin(core: &Core, own: &OwnNote, registers: Registers) -> Event {
    let signal = Signal::of(core, own);
    let process = &core.process;
    let known = |number: u32| (number != 0).then_some(number);
    let base = |wanted: usize| {
        let place = layout::slots(core.arch).iter().position(|&it| it == wanted);
        place.and_then(|at| core.thread.words.get(at).copied())
    };
    let [start_stack, start_brk, brk, vdso] = own.places.map(ProcessAddress);
    let is_cut = process.arguments.len() + 1 >= layout::ARGUMENT_BYTES - 1;
    Event {
        id: 0,
        boot_ns: own.boot_ns,
        tai_ns: None,
        start_ns: own.start_ns,
        signal: signal.number,
        code: signal.code,
        siginfo: signal.siginfo,
        siginfo_more: signal.more,
        repeats: 0,
        disposition: Disposition::Fatal,
        trap: own.trap,
        first_fault: own.first_fault,
        host_pid: process.pid,
        host_tid: core.thread.tid,
        pid: known(process.pid),
        tid: known(core.thread.tid),
        ppid: known(process.ppid),
        ns_pid: process.pid,
        ns_tid: core.thread.tid,
        uid: Some(process.uid),
        pid_ns: 0,
        mnt_ns: 0,
        cgroup_id: 0,
        comm: process.name.clone(),
        thread: process.name.clone(),
        exe: None,
        exe_deleted: false,
        cmdline: (!process.arguments.is_empty()).then(|| process.arguments.clone()),
        cgroup: None,
        registers: Some(registers),
        fs_base: base(layout::FS_BASE).unwrap_or(0),
        gs_base: base(layout::GS_BASE).unwrap_or(0),
        code_bytes: MemoryWindow {
            address: registers.pc(),
            bytes: Vec::new(),
        },
        compiled: Vec::new(),
        start_stack,
        start_brk,
        brk,
        arg_start: ProcessAddress(0),
        env_end: ProcessAddress(0),
        vdso,
        map_count: core.segments.len() as u32,
        is_laid_out: true,
        mappings: Vec::new(),
        windows: Vec::new(),
        memory: Vec::new(),
        threads: None,
        capture_ns: 0,
        lost: [
            is_cut.then_some(Lost {
                detail: "cmdline",
                reason: "cut off: a core file has only the beginning",
            }),
            own.has_only_code.then_some(Lost {
                detail: "data_mappings",
                reason: "the core file has only mappings with code",
            }),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// What the core says of the signal.
struct Signal {
    number: i32,
    code: i32,
    siginfo: Siginfo,
    more: Option<[u64; 2]>,
}

impl Signal {
    fn of(core: &Core, own: &OwnNote) -> Signal {
        let read = || {
            let bytes = core.siginfo.as_ref()?;
            let at = |offset| crate::base::bytes::Cursor::at(bytes, offset);
            let fields = layout::siginfo_fields(core.arch);
            let (number, code) = (at(0).i32().ok()?, at(8).i32().ok()?);
            let wide = core.arch.word_bytes() == 8;
            let word = match fault::has_address(code) && !wide {
                true => at(fields).u32().ok()?.into(),
                false => at(fields).u64().ok()?,
            };
            let mut more = at(fields + 8);
            let more = wide
                .then(|| Some([more.u64().ok()?, more.u64().ok()?]))
                .flatten();
            let is_known = core.own.is_none() || own.has_siginfo;
            Some(Signal {
                number,
                code,
                siginfo: match is_known {
                    true => fault::siginfo(code, word),
                    false => Siginfo::Unknown,
                },
                more,
            })
        };
        read().unwrap_or(Signal {
            number: core.thread.signal,
            code: 0,
            siginfo: Siginfo::Unknown,
            more: None,
        })
    }
}

/// Ours are in its own note; the kernel's are the segments.
fn mappings(core: &Core, own: &OwnNote) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = match core.own {
        Some(_) => own.mappings.clone(),
        None => [segments(core), left_out(core)].concat(),
    };
    mappings.retain(|mapping| mapping.start < mapping.end);
    order::sort(&mut mappings, |mapping| mapping.start.0);
    let mut end = ProcessAddress(0);
    mappings.retain(|mapping| {
        let is_beyond = mapping.start >= end;
        if is_beyond {
            end = mapping.end;
        }
        is_beyond
    });
    // Mappings of one file lie next to each other, the one with its first bytes first.
    let mut last: Option<(&[u8], Option<FileHead>)> = None;
    for mapping in &mut mappings {
        let after = core
            .files
            .partition_point(|file| file.start <= mapping.start.0);
        let file = after.checked_sub(1).and_then(|index| core.files.get(index));
        let Some(file) = file.filter(|file| mapping.start.0 < file.end) else {
            continue;
        };
        if file.offset == 0 {
            last = Some((&file.path, head(core, file)));
        }
        let own = last.as_ref().filter(|(path, _)| *path == file.path);
        let head = own.and_then(|(_, head)| head.clone());
        mapping.file = Some(mapped(file, mapping.start.0 - file.start, head));
    }
    mappings
}

fn segments(core: &Core) -> Vec<Mapping> {
    // PF_R, PF_W and PF_X are the other way round.
    let flags = |flags: u32| u64::from(flags >> 2 & 1 | flags & 2 | (flags & 1) << 2);
    let segments = core.segments.iter().map(|segment| Mapping {
        start: ProcessAddress(segment.address),
        end: ProcessAddress(segment.address + segment.memory_size),
        flags: VmFlags(flags(segment.flags)),
        file: None,
    });
    segments.collect()
}

/// Files of which gdb's gcore has no segment, because all of it is in the file: code, and data
/// that is only read. Which of both it is, the core does not say.
fn left_out(core: &Core) -> Vec<Mapping> {
    let files = core.files.iter();
    let files = files.filter(|file| core.segment(file.start).is_none());
    let mappings = files.map(|file| Mapping {
        start: ProcessAddress(file.start),
        end: ProcessAddress(file.end),
        flags: VmFlags(5),
        file: None,
    });
    mappings.collect()
}

fn mapped(file: &FileRange, into: u64, head: Option<FileHead>) -> MappedFile {
    let path = file.path.strip_suffix(b" (deleted)");
    MappedFile {
        identity: FileIdentity::default(),
        offset: FileOffset(file.offset.saturating_add(into)),
        deleted: path.is_some(),
        path: path.unwrap_or(&file.path).to_vec(),
        lower_path: None,
        detached: file.path.starts_with(b"/memfd:"),
        truncated: false,
        head,
    }
}

/// The first bytes of a file, if the core has them.
fn head(core: &Core, file: &FileRange) -> Option<FileHead> {
    let bytes = core.memory(file.start, HEAD_BYTES);
    bytes.starts_with(b"\x7fELF").then(|| FileHead {
        address: ProcessAddress(file.start),
        bytes: Rc::from(bytes),
    })
}

/// The path of the file that has the program's entry.
fn program(core: &Core, event: &Event) -> Option<Vec<u8>> {
    let places = [layout::AT_ENTRY, layout::AT_PHDR];
    let mut mappings = places
        .into_iter()
        .filter_map(|kind| event.mapping(ProcessAddress(core.auxv(kind)?)));
    let file = mappings.find_map(|mapping| mapping.file.as_ref())?;
    Some(file.path.clone())
}

/// Where the kernel put the number of arguments: below their addresses, those of the
/// environment, and the auxiliary vector, which the core has too.
fn start_stack(core: &Core) -> Option<u64> {
    const AT_RANDOM: u64 = 25;
    const LOOK_BELOW: u64 = 64 << 10;
    let word_bytes = core.arch.word_bytes();
    let above = core.auxv(AT_RANDOM)?;
    let segment = core.segment(above)?;
    let start = above.saturating_sub(LOOK_BELOW).max(segment.address) & !15;
    let bytes = core.memory(start, usize::try_from(above - start).ok()?);
    let words: Vec<u64> = bytes
        .chunks_exact(word_bytes)
        .map(|bytes| {
            let mut word = [0; 8];
            word[..word_bytes].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        })
        .collect();
    let vector: Vec<u64> = core
        .auxv
        .iter()
        .take(2)
        .flat_map(|&(kind, value)| [kind, value])
        .collect();
    let at = words
        .windows(vector.len())
        .rposition(|part| part == vector)?;
    // Two lists, each with a zero behind it; the first has as many as the word before says.
    let arguments_end = words[..at.checked_sub(1)?]
        .iter()
        .rposition(|&word| word == 0)?;
    let first = (0..arguments_end)
        .rev()
        .find(|&place| words[place] == (arguments_end - place - 1) as u64)?;
    Some(start + (first * word_bytes) as u64)
}

fn add_memory(core: &Core, event: &mut Event, registers: &Registers) {
    let pc = registers.pc().0;
    // What is not code was not executed.
    let mapping = event.mapping(registers.pc());
    if core.own.is_some() || mapping.is_some_and(|mapping| mapping.flags.executable()) {
        event.code_bytes = around(core, pc, CODE_BEFORE, CODE_BYTES);
    }
    let sp = registers.sp().0;
    let mut windows = Windows::default();
    match core.own {
        // Whatever was captured; it is not much. Without mappings of data the stack is told by
        // its pointer.
        Some(_) => core.segments.iter().for_each(|segment| {
            let mapping = event.mapping(ProcessAddress(segment.address));
            let is_stack = match mapping {
                Some(mapping) => mapping.flags.writable(),
                None => core
                    .segment(sp)
                    .is_some_and(|it| it.address == segment.address),
            };
            if is_stack && !core.is_of_other_thread(segment) {
                windows.add(core, segment.address, WINDOW_BYTES as usize);
            }
        }),
        None => kernels_windows(core, event, sp, &mut windows),
    }
    event.windows = windows.0;
    if event.windows.is_empty() {
        event.lost.push(Lost {
            detail: "stack",
            reason: "the core file has none of it",
        });
    }
    let mut last = ProcessAddress(0);
    let mut values: Vec<u64> = registers.named().map(|(_, value)| value).collect();
    values.sort_unstable();
    for value in values {
        let window = around(core, value, MEMORY_BYTES as u64 / 2, MEMORY_BYTES);
        if window.address >= last && !window.bytes.is_empty() {
            last = ProcessAddress(window.address.0.saturating_add(window.bytes.len() as u64));
            event.memory.push(window);
        }
    }
    let compiled = event.mappings.iter().filter(|mapping| {
        mapping.flags.executable() && mapping.file.is_none() && !event.is_vdso(mapping)
    });
    let compiled = compiled.take(MAX_COMPILED).map(|mapping| MemoryWindow {
        address: mapping.start,
        bytes: core.memory(mapping.start.0, COMPILED_BYTES),
    });
    let compiled = compiled.filter(|window| !window.bytes.is_empty()).collect();
    event.compiled = compiled;
}

/// The stack from its pointer on, the calls next to main, and the stacks to which words near
/// the stack pointer lead: a handler may have interrupted one of them.
fn kernels_windows(core: &Core, event: &Event, sp: u64, windows: &mut Windows) {
    // A stack overflow leaves the pointer below the stack.
    let start = match core.segment(sp) {
        Some(segment) => sp.saturating_sub(RED_ZONE).max(segment.address),
        None => {
            let next = core.segments.iter().find(|segment| segment.address > sp);
            next.map_or(sp, |segment| segment.address)
        }
    };
    windows.add(core, start, WINDOW_BYTES as usize);
    let top = event.start_stack.0;
    if top != 0 {
        windows.add(
            core,
            top.saturating_sub(OTHER_STACK_BYTES as u64),
            OTHER_STACK_BYTES,
        );
    }
    let own = core.segment(start).map(|segment| segment.address);
    let frame = core.memory(start, SIGNAL_FRAME_BYTES);
    let mut found = 0;
    for bytes in frame.chunks_exact(core.arch.word_bytes()) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let at = u64::from_le_bytes(word);
        let segment = core.segment(at);
        let Some(segment) = segment.filter(|it| it.flags & 2 != 0 && Some(it.address) != own)
        else {
            continue;
        };
        let in_file = event
            .mapping(ProcessAddress(at))
            .is_none_or(|it| it.file.is_some());
        if in_file || windows.holds(at) {
            continue;
        }
        found += 1;
        if found > MAX_OTHER_STACKS {
            break;
        }
        let start = at.saturating_sub(RED_ZONE).max(segment.address);
        windows.add(core, start, OTHER_STACK_BYTES);
    }
}

fn around(core: &Core, address: u64, before: u64, len: usize) -> MemoryWindow {
    let start = match core.segment(address) {
        Some(segment) => address.saturating_sub(before).max(segment.address),
        None => address,
    };
    MemoryWindow {
        address: ProcessAddress(start),
        bytes: core.memory(start, len),
    }
}

/// Gives each mapped file its identity. `look` says what a file has now, by its path. A file
/// whose first bytes the core has is recognized by its build-id; any other must not have
/// changed since `made_unix_ns`, when the core was made.
pub fn identify(
    event: &mut Event,
    made_unix_ns: i64,
    has_build_id: &dyn Fn(&Mapping) -> bool,
    look: &dyn Fn(&[u8]) -> Option<FileIdentity>,
) {
    // Mappings of one file lie next to each other.
    let mut last: Option<(Vec<u8>, Option<FileIdentity>)> = None;
    for mapping in &mut event.mappings {
        let is_recognized = has_build_id(mapping);
        let Some(file) = &mut mapping.file else {
            continue;
        };
        let known = last.take().filter(|(path, _)| *path == file.path);
        let known = known.unwrap_or_else(|| (file.path.clone(), look(&file.path)));
        if let Some(identity) = known.1 {
            file.identity = identity;
            if !is_recognized {
                file.identity.mapped_unix_ns = Some(made_unix_ns);
            }
        }
        last = Some(known);
    }
}
