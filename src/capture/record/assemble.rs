//! Parts of records in, whole [`Event`]s out.
//!
//! The parts of one crash come in order, but parts of crashes on other CPUs may
//! lie between them. A record is complete with its end. If the end found no room in
//! the ring, the event comes out when the same CPU begins another record, or when the
//! caller says that it has waited long enough; `lost` names what is missing. Every
//! header becomes one event.

use crate::base::address::{FileOffset, ProcessAddress};
use crate::base::order;
use crate::capture::record::abi::{self, BadPart, MappingRecord, Part, RawEnd, RawRange, TextKind};
use crate::crash::event::{
    Event, FileHead, FileIdentity, Lost, MappedFile, Mapping, MemoryWindow, VmFlags,
};
use crate::crash::threads::Thread;

mod files;
mod header;
mod threads;

use header::begin;

/// An incomplete record.
#[derive(Debug)]
struct Partial {
    event: Event,
    numbers: files::Numbers,
    /// Taken of the assembler's room.
    bytes: u64,
    /// The ring reported a loss while it came.
    has_gap: bool,
    /// How often it was looked at since it began.
    looks: u32,
}

/// Incomplete records.
#[derive(Debug)]
pub struct Assembler {
    page_bytes: u64,
    /// How far `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`, the clock of old kernels'
    /// records.
    boot_ahead_ns: u64,
    partial: Vec<Partial>,
    /// The memory that optional parts of all incomplete records may take.
    max_bytes: u64,
    /// Parts without a header before them, and parts that made no sense.
    strays: u64,
    ended: Vec<Ended>,
}

/// A process whose handler had taken a fault, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub host_pid: u32,
    pub start_ns: u64,
    /// As wait(2) has it, if that is known.
    pub status: Option<u32>,
}

/// Ends that were not fetched yet.
const MAX_ENDED: usize = 1024;

impl Assembler {
    /// Parts beyond `max_bytes` are left out; their records say so.
    #[must_use]
    pub fn new(page_bytes: u64, max_bytes: u64) -> Self {
        Assembler {
            page_bytes,
            boot_ahead_ns: 0,
            partial: Vec::new(),
            max_bytes,
            strays: 0,
            ended: Vec::new(),
        }
    }

    /// Whether a record waits for its end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.partial.is_empty()
    }

    /// For later headers whose times are by `CLOCK_MONOTONIC`.
    pub fn set_boot_ahead_ns(&mut self, ahead_ns: u64) {
        self.boot_ahead_ns = ahead_ns;
    }

    /// Parts from this CPU found no room, between the last part and the next one.
    pub fn parts_lost(&mut self, cpu: u32) {
        for partial in &mut self.partial {
            partial.has_gap |= partial.event.id >> 48 == u64::from(cpu);
        }
    }

    /// Processes whose ends were reported since this was asked for.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Parts that belonged to no record.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Takes one part; gives the event that it completed, or cut off.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Event>, BadPart> {
        let (id, part) = abi::decode(bytes).inspect_err(|_| self.strays += 1)?;
        if let Part::Exit(exit) = part {
            if self.ended.len() < MAX_ENDED {
                let is_known = exit.flags & abi::EXIT_STATUS != 0;
                self.ended.push(Ended {
                    host_pid: exit.host_pid,
                    start_ns: exit.start_ns,
                    status: is_known.then_some(exit.status),
                });
            }
            return Ok(None);
        }
        if let Part::Header(header) = part {
            let same_cpu = self
                .partial
                .iter()
                .position(|partial| partial.event.id >> 48 == id >> 48);
            let cut_off = same_cpu.map(|at| without_end(self.partial.swap_remove(at)));
            self.partial.push(Partial {
                event: begin(&header, self.boot_ahead_ns),
                numbers: files::Numbers::default(),
                bytes: 0,
                has_gap: false,
                looks: 0,
            });
            return Ok(cut_off);
        }
        let Some(at) = self
            .partial
            .iter()
            .position(|partial| partial.event.id == id)
        else {
            self.strays += 1;
            return Ok(None);
        };
        if let Part::End(end) = part {
            return Ok(Some(finish(self.partial.swap_remove(at), &end)));
        }
        let taken: u64 = self.partial.iter().map(|partial| partial.bytes).sum();
        let partial = &mut self.partial[at];
        let event = &mut partial.event;
        // Half of it is for other parts: mappings may have long names.
        let room = match part {
            Part::Mappings(_) | Part::Ranges(_) => self.max_bytes / 2,
            _ => self.max_bytes,
        };
        if taken + memory_bytes(&part) > room {
            event.lost.push(Lost {
                detail: detail(&part),
                reason: "--memory-limit left no room",
            });
            return Ok(None);
        }
        partial.bytes += memory_bytes(&part);
        match part {
            Part::Header(_) | Part::End(_) | Part::Exit(_) => {}
            Part::Thread {
                raw,
                registers,
                bytes,
            } => threads::add(event, &raw, registers, bytes),
            Part::Text { kind, flags, bytes } => add_text(event, kind, flags, bytes),
            Part::Mappings(records) => {
                for record in &records {
                    let place = event.mappings.len();
                    partial.numbers.named(record.raw.flags, place);
                    event.mappings.push(mapping(record, self.page_bytes));
                }
            }
            Part::Stack { address, bytes } => add_stack(event, address, bytes),
            Part::Memory { address, bytes } => event.memory.push(MemoryWindow {
                address: ProcessAddress(address),
                bytes: bytes.to_vec(),
            }),
            Part::Code(sites) => event.compiled.extend(sites.iter().map(|site| MemoryWindow {
                address: ProcessAddress(site.address),
                bytes: site.code.to_vec(),
            })),
            Part::Ranges(ranges) => {
                for range in &ranges {
                    partial.numbers.unnamed(range.file, event.mappings.len());
                    event.mappings.push(unnamed(range, self.page_bytes));
                }
            }
        }
        Ok(None)
    }

    /// Gives up waiting: every record in the making, as far as it came.
    pub fn give_up(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.partial.drain(..).map(without_end)
    }

    /// Looks at each record once more; those looked at more than `looks` times
    /// are given up.
    pub fn overdue(&mut self, looks: u32) -> Vec<Event> {
        let mut events = Vec::new();
        let mut at = 0;
        while at < self.partial.len() {
            self.partial[at].looks += 1;
            if self.partial[at].looks > looks {
                events.push(without_end(self.partial.swap_remove(at)));
            } else {
                at += 1;
            }
        }
        events
    }
}

/// About how much memory a part takes in its event.
fn memory_bytes(part: &Part<'_>) -> u64 {
    let bytes = match part {
        Part::Header(_) | Part::End(_) | Part::Exit(_) => 0,
        Part::Text { bytes, .. } | Part::Stack { bytes, .. } | Part::Memory { bytes, .. } => {
            bytes.len()
        }
        Part::Mappings(records) => records
            .iter()
            .map(|record| {
                let texts = record.path.len() + record.lower.len() + record.head.len();
                size_of::<Mapping>() + texts
            })
            .sum(),
        Part::Thread { bytes, .. } => size_of::<Thread>() + bytes.len(),
        Part::Ranges(ranges) => ranges.len() * (size_of::<Mapping>() + files::Numbers::BYTES),
        Part::Code(sites) => sites.len() * 2 * size_of::<MemoryWindow>(),
    };
    bytes as u64
}

/// The detail that a report lacks without this part.
fn detail(part: &Part<'_>) -> &'static str {
    match part {
        Part::Mappings(_) | Part::Ranges(_) => "mappings",
        Part::Stack { .. } | Part::Code(_) => "stack",
        Part::Memory { .. } => "memory",
        Part::Thread { .. } => "threads",
        Part::Text { .. } | Part::Header(_) | Part::End(_) | Part::Exit(_) => "context",
    }
}

fn add_text(event: &mut Event, kind: TextKind, flags: u32, bytes: &[u8]) {
    match kind {
        TextKind::Exe => {
            event.exe = Some(path(bytes, flags));
            event.exe_deleted = flags & abi::path_flags::DELETED != 0;
        }
        TextKind::Cgroup => event.cgroup = Some(path(bytes, flags)),
        TextKind::Cmdline => {
            if flags & abi::path_flags::TRUNCATED != 0 {
                event.lost.push(Lost {
                    detail: "cmdline",
                    reason: "cut off: only the beginning was captured",
                });
            }
            event.cmdline = Some(bytes.to_vec());
        }
    }
}

/// Components from the last to the first, each with its NUL, as a path.
fn path(bytes: &[u8], flags: u32) -> Vec<u8> {
    let mut path = Vec::with_capacity(bytes.len() + 4);
    if flags & abi::path_flags::TRUNCATED != 0 {
        path.extend_from_slice(b"...");
    }
    let components = bytes
        .strip_suffix(b"\0")
        .unwrap_or(bytes)
        .rsplit(|&byte| byte == 0);
    for component in components.filter(|component| !component.is_empty() && *component != b"/") {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

fn mapping(record: &MappingRecord<'_>, page_bytes: u64) -> Mapping {
    let raw = &record.raw;
    // The mapping's flags are the path's, one bit up.
    let flags = raw.flags >> 1;
    let file = (raw.flags & abi::MAPPING_FILE != 0).then(|| MappedFile {
        identity: FileIdentity {
            inode: raw.inode,
            device: raw.device,
            size: raw.file_size,
            mtime_s: raw.mtime_s,
            mtime_ns: raw.mtime_ns,
            mapped_unix_ns: None,
            crashed_unix_ns: None,
        },
        offset: FileOffset(raw.page_offset.wrapping_mul(page_bytes)),
        path: if record.path.is_empty() {
            Vec::new()
        } else {
            path(record.path, flags)
        },
        lower_path: (!record.lower.is_empty()).then(|| path(record.lower, 0)),
        deleted: flags & abi::path_flags::DELETED != 0,
        detached: flags & abi::path_flags::DETACHED != 0,
        truncated: flags & abi::path_flags::TRUNCATED != 0,
        head: (raw.head != 0).then(|| FileHead {
            address: ProcessAddress(raw.head),
            bytes: record.head.into(),
        }),
    });
    Mapping {
        start: ProcessAddress(raw.start),
        end: ProcessAddress(raw.end),
        flags: VmFlags(raw.vm_flags),
        file,
    }
}

/// A mapping for which only its addresses are known, and whether it has a file.
fn unnamed(range: &RawRange, page_bytes: u64) -> Mapping {
    let file = (range.file != 0).then(|| MappedFile {
        identity: FileIdentity::default(),
        offset: FileOffset(range.page_offset.wrapping_mul(page_bytes)),
        path: Vec::new(),
        lower_path: None,
        deleted: false,
        detached: false,
        truncated: false,
        head: None,
    });
    Mapping {
        start: ProcessAddress(range.start),
        end: ProcessAddress(range.end),
        flags: VmFlags(range.vm_flags),
        file,
    }
}

/// Joins a piece to the one before it, where the two adjoin.
fn add_stack(event: &mut Event, address: u64, bytes: &[u8]) {
    if let Some(last) = event.windows.last_mut() {
        if last.address.0.checked_add(last.bytes.len() as u64) == Some(address) {
            last.bytes.extend_from_slice(bytes);
            return;
        }
    }
    event.windows.push(MemoryWindow {
        address: ProcessAddress(address),
        bytes: bytes.to_vec(),
    });
}

const UNKNOWN_BOUNDS: &str = "not copied: where arguments and environment are is not known";

fn finish(partial: Partial, end: &RawEnd) -> Event {
    let Partial {
        mut event,
        numbers,
        has_gap,
        ..
    } = partial;
    numbers.share(&mut event);
    event.capture_ns = end.duration_ns;
    threads::count(&mut event, end.threads);
    // A call to an address without code has no code to lose.
    let lost = if at_code(&event) {
        end.lost
    } else {
        end.lost & !abi::LOST_CODE
    };
    for (bit, detail, reason) in abi::LOST {
        let reason = match detail {
            "stack" | "cmdline" | "code" if !event.is_laid_out => UNKNOWN_BOUNDS,
            _ => reason,
        };
        if lost & bit != 0 {
            event.lost.push(Lost { detail, reason });
        }
    }
    // Only newer kernels report to the program which part it was.
    if has_gap && end.lost & abi::LOST_FOR_ROOM == 0 {
        event.lost.push(Lost {
            detail: "parts",
            reason: "no room in the ring",
        });
    }
    in_order(event)
}

/// Whether the instruction pointer is in a mapping that may be executed.
fn at_code(event: &Event) -> bool {
    event.registers.is_some_and(|registers| {
        let mut code = event
            .mappings
            .iter()
            .filter(|mapping| mapping.flags.executable());
        code.any(|mapping| mapping.contains(registers.pc()))
    })
}

fn without_end(partial: Partial) -> Event {
    let Partial {
        mut event, numbers, ..
    } = partial;
    numbers.share(&mut event);
    event.lost.push(Lost {
        detail: "end",
        reason: "the ring had no room for the last parts of the record",
    });
    in_order(event)
}

/// Sorts the mappings that a cut walk sent out of order.
fn in_order(mut event: Event) -> Event {
    // A mapping that came with its file's name goes before the same one without.
    let unnamed = |mapping: &Mapping| {
        let file = mapping.file.as_ref();
        file.is_none_or(|file| file.path.is_empty())
    };
    order::sort(&mut event.mappings, |mapping| unnamed(mapping).into());
    order::sort(&mut event.mappings, |mapping| mapping.start.0);
    event.mappings.dedup_by_key(|mapping| mapping.start);
    share_heads(&mut event.mappings);
    event.windows = in_order_of_address(std::mem::take(&mut event.windows));
    for thread in event.threads.iter_mut().flat_map(|all| &mut all.list) {
        thread.windows = joined(std::mem::take(&mut thread.windows));
    }
    event.memory = joined(std::mem::take(&mut event.memory));
    event.compiled = joined(std::mem::take(&mut event.compiled));
    event.lost.sort_unstable();
    event.lost.dedup();
    event
}

/// The bytes came with one of the mappings of a file, and are all of these's.
fn share_heads(mappings: &mut [Mapping]) {
    fn head(mapping: &mut Mapping) -> Option<&mut FileHead> {
        mapping.file.as_mut()?.head.as_mut()
    }
    let mut last: Option<FileHead> = None;
    for head in mappings.iter_mut().filter_map(head) {
        match &last {
            Some(last) if last.address == head.address && head.bytes.is_empty() => {
                *head = last.clone();
            }
            _ => last = Some(head.clone()),
        }
    }
}

fn in_order_of_address(mut windows: Vec<MemoryWindow>) -> Vec<MemoryWindow> {
    order::sort(&mut windows, |window| window.address.0);
    windows
}

/// Windows in the order of their addresses; those that overlap or adjoin as one.
fn joined(windows: Vec<MemoryWindow>) -> Vec<MemoryWindow> {
    let mut out: Vec<MemoryWindow> = Vec::new();
    for window in in_order_of_address(windows) {
        let known = out.last_mut().and_then(|last| {
            let known = window.address.offset_from(last.address)? as usize;
            (known <= last.bytes.len()).then_some((last, known))
        });
        match known {
            Some((last, known)) => {
                let new = window.bytes.get(last.bytes.len() - known..);
                last.bytes.extend_from_slice(new.unwrap_or_default());
            }
            None => out.push(window),
        }
    }
    out
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
