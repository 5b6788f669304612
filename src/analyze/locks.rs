//! What threads wait for, who holds it, and which of them may wait for each other for ever.
//!
//! In: a thread's call of futex(2), its innermost frames, and the captured words at the
//! address. Out: the address, the variable or mapping that it lies in, and the owner, which
//! is known of locks that the kernel knows (FUTEX_LOCK_PI), and of mutexes of glibc and musl
//! if the frames show that it is one.

use super::Analyzer;
use crate::analyze::space::Captured;
use crate::base::address::ProcessAddress;
use crate::base::bytes::{find, Cursor};
use crate::crash::event::Event;
use crate::crash::futex::Futex;
use crate::crash::registers::Arch;
use crate::crash::threads::{SystemCall, Thread};
use crate::report::threads::{ReportThreads, WaitsFor};
use crate::report::StackFrame;

/// The low bits of a word that holds a thread's number: FUTEX_TID_MASK.
const TID_MASK: u32 = 0x3fff_ffff;
/// musl: a mutex without owner that is held (EBUSY).
const MUSL_HELD: u32 = 16;
/// Where glibc's pthread_mutex_t has its owner.
const GLIBC_OWNER: u64 = 8;
/// Frames that show what kind of lock it is: the wait, and what leads to it.
const FRAMES: usize = 5;
/// No thread has a larger number: `PID_MAX_LIMIT` of include/linux/threads.h.
const MAX_TID: u32 = 4 << 20;
/// arm64: the instruction of a system call.
const SVC: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// The system call in which the signal found the thread that crashed.
pub(super) fn own_call(event: &Event) -> Option<SystemCall> {
    let registers = event.registers?;
    let number = match registers.arch() {
        Arch::X86_64 | Arch::I386 => registers.system_call()?,
        // The kernel has stepped back to the instruction, to run it again.
        Arch::Aarch64 if event.code_bytes.get(registers.pc(), 4) == Some(&SVC) => {
            registers.dwarf(8)?
        }
        Arch::Aarch64 | Arch::Arm => return None,
    };
    Some(SystemCall {
        number: u32::try_from(number).ok()?,
        arguments: registers.call_arguments(),
    })
}

impl Analyzer {
    /// What a thread waits for: the crashed one, or another.
    pub(super) fn waits_for(
        &mut self,
        event: &Event,
        thread: Option<&Thread>,
        call: &SystemCall,
        frames: &[StackFrame],
    ) -> Option<WaitsFor> {
        let arch = event.registers.map_or(Arch::NATIVE, |regs| regs.arch());
        let futex = Futex::of(arch, call).filter(|futex| futex.waits)?;
        let owner = owner(event, thread, &futex, frames).filter(|_| !self.wanted.no_memory);
        let address = ProcessAddress(futex.address);
        Some(WaitsFor {
            address,
            place: self.variable(event, address),
            owner: owner.and_then(|owner| shown(event, owner)),
        })
    }

    /// `name+0xoff (/path)` of the variable at an address, or what else is there.
    fn variable(&mut self, event: &Event, address: ProcessAddress) -> Option<Vec<u8>> {
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        // A file's variables are mapped behind it, whether their mapping was captured or not.
        let after = event.mappings.partition_point(|it| it.start <= address);
        let mut below = event.mappings[..after].iter().rev();
        let file = below.find(|mapping| mapping.file.is_some());
        let opened = file.and_then(|mapping| Some((mapping, space.opened(mapping.start)?)));
        if let Some((mapping, opened)) = opened {
            let at = opened.placed().file_address(address);
            let mut loads = opened.module.elf().loads().iter();
            if loads.any(|load| at.0.wrapping_sub(load.address.0) < load.memory_size) {
                let path = space.name(mapping);
                let Some(found) = opened.module.variable(at) else {
                    return Some([&path[..], hex(at.0).as_bytes()].concat());
                };
                let offset = hex(at.0 - found.start.0);
                return Some([&found.name[..], offset.as_bytes(), b" (", &path, b")"].concat());
            }
        }
        Some(event.mapping_name(event.mapping(address)?))
    }
}

fn hex(offset: u64) -> String {
    format!("+{offset:#x}")
}

/// The number of the owner as the process has it.
fn owner(
    event: &Event,
    thread: Option<&Thread>,
    futex: &Futex,
    frames: &[StackFrame],
) -> Option<u32> {
    let word = |offset: u64| {
        let at = ProcessAddress(futex.address.checked_add(offset)?);
        let own = thread.map_or(&[][..], |thread| &thread.windows);
        let own = own.iter().find_map(|window| window.get(at, 4));
        Cursor::new(own.or_else(|| event.memory(at, 4))?).u32().ok()
    };
    let number = if futex.inherits {
        word(0)? & TID_MASK
    } else {
        match mutex(frames)? {
            // A mutex that is not held is not waited for: it is some other futex.
            Library::Glibc if word(0)? == 0 => return None,
            Library::Glibc => word(GLIBC_OWNER)?,
            Library::Musl => match word(0)? & TID_MASK {
                MUSL_HELD => return None,
                number => number,
            },
        }
    };
    (number != 0).then_some(number)
}

/// Whose mutex it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Glibc,
    Musl,
}

/// `None` if the frames do not show a wait for a mutex.
fn mutex(frames: &[StackFrame]) -> Option<Library> {
    let mut is_mutex = false;
    let mut library = None;
    for StackFrame {
        location: place, ..
    } in frames.iter().take(FRAMES)
    {
        let name = place
            .symbol
            .as_ref()
            .map_or(&b""[..], |symbol| &symbol.name);
        let file = place.module.as_deref().unwrap_or_default();
        is_mutex |= find(name, b"pthread_mutex_").is_some();
        if find(name, b"lll_lock_wait").is_some() || find(file, b"/libc.so.6").is_some() {
            library = library.or(Some(Library::Glibc));
        }
        if find(name, b"__timedwait").is_some() || find(file, b"musl").is_some() {
            library = library.or(Some(Library::Musl));
        }
    }
    library.filter(|_| is_mutex)
}

/// The number by which a report calls the thread.
fn shown(event: &Event, owner: u32) -> Option<u32> {
    if owner == event.ns_tid {
        return Some(event.tid.unwrap_or(event.host_tid));
    }
    let mut others = event.threads.iter().flat_map(|threads| &threads.list);
    match others.find(|thread| thread.ns_tid == owner) {
        Some(thread) => Some(thread.tid.unwrap_or(thread.host_tid)),
        // One that was not captured, where its numbers are the same everywhere.
        None => {
            let captured = event.threads.as_ref().map_or(0, |it| it.list.len() + 1);
            let count = event.threads.as_ref().map_or(0, |it| it.count as usize);
            let is_other = captured < count && owner <= MAX_TID;
            (is_other && event.pid == Some(event.ns_pid)).then_some(owner)
        }
    }
}

/// The first circle of threads each of which waits for a lock that the next one holds.
pub(super) fn circle(own: u32, threads: &ReportThreads) -> Vec<u32> {
    let owner = |waits: &Option<WaitsFor>| waits.as_ref().and_then(|waits| waits.owner);
    let list = threads.list.iter();
    let mut all: Vec<(u32, Option<u32>)> = list
        .map(|thread| (thread.tid, owner(&thread.waits_for)))
        .collect();
    all.push((own, owner(&threads.own)));
    let mut order: Vec<(u64, usize)> = all.iter().map(|it| it.0.into()).zip(0..).collect();
    order.sort_unstable();
    let next = |at: usize| {
        let owner = u64::from(all[at].1?);
        let found = order.get(order.partition_point(|it| it.0 < owner))?;
        (found.0 == owner).then_some(found.1)
    };
    // The program chooses the owners: each thread is looked at once, however they wait.
    let mut rounds = vec![0; all.len()];
    for first in 0..all.len() {
        let mut at = Some(first);
        while let Some(here) = at.filter(|&here| rounds[here] == 0) {
            rounds[here] = first + 1;
            at = next(here);
        }
        let Some(begin) = at.filter(|&here| rounds[here] == first + 1) else {
            continue;
        };
        let mut circle = vec![begin];
        let mut at = next(begin);
        while let Some(here) = at.filter(|&here| here != begin) {
            circle.push(here);
            at = next(here);
        }
        let least = (0..circle.len()).min_by_key(|&place| circle[place]);
        circle.rotate_left(least.unwrap_or(0));
        return circle.iter().map(|&at| all[at].0).collect();
    }
    Vec::new()
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
