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
use crate::crash::event::{Event, MemoryWindow};
use crate::crash::futex::Futex;
use crate::crash::registers::Arch;
use crate::crash::threads::{SystemCall, Thread};
use crate::report::threads::{ReportThreads, WaitsFor};
use crate::report::Location;

/// The low bits of a word that holds a thread's number: FUTEX_TID_MASK.
const TID_MASK: u32 = 0x3fff_ffff;
/// musl: a mutex without owner that is held (EBUSY).
const MUSL_HELD: u32 = 16;
/// Where glibc's pthread_mutex_t has its owner.
const GLIBC_OWNER: usize = 8;
/// Frames that show what kind of lock it is: the wait, and what leads to it.
const FRAMES: usize = 5;
/// No thread has a larger number: `PID_MAX_LIMIT` of include/linux/threads.h.
const MAX_TID: u32 = 4 << 20;
/// arm64: the instruction of a system call.
const SVC: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// A thread that may wait.
pub(super) struct Waiter<'a> {
    /// The other thread; `None` for the one that crashed.
    pub(super) thread: Option<&'a Thread>,
    pub(super) call: Option<SystemCall>,
    /// Of its innermost frames.
    pub(super) places: Vec<&'a Location>,
}

/// The system call in which the signal found the thread that crashed.
pub(super) fn own_call(event: &Event, code: &MemoryWindow) -> Option<SystemCall> {
    let registers = event.registers?;
    let number = match registers.arch() {
        Arch::X86_64 | Arch::I386 => registers.system_call()?,
        // The kernel has stepped back to the instruction, to run it again.
        Arch::Aarch64 if code.get(registers.pc(), 4) == Some(&SVC) => registers.dwarf(8)?,
        Arch::Aarch64 | Arch::Arm => return None,
    };
    Some(SystemCall {
        number: u32::try_from(number).ok()?,
        arguments: registers.call_arguments(),
    })
}

impl Analyzer {
    /// What each of them waits for.
    pub(super) fn waits(&mut self, event: &Event, waiters: &[Waiter<'_>]) -> Vec<Option<WaitsFor>> {
        let arch = event.registers.map_or(Arch::NATIVE, |regs| regs.arch());
        let futex = |waiter: &Waiter<'_>| {
            let futex = Futex::of(arch, waiter.call.as_ref()?)?;
            futex.waits.then_some(futex)
        };
        let mut known: Vec<(u64, Option<Vec<u8>>)> = Vec::new();
        let mut waits = Vec::new();
        for waiter in waiters {
            let Some(futex) = futex(waiter) else {
                waits.push(None);
                continue;
            };
            let place = match known.iter().find(|known| known.0 == futex.address) {
                Some((_, place)) => place.clone(),
                None => {
                    let place = self.variable(event, ProcessAddress(futex.address));
                    known.push((futex.address, place.clone()));
                    place
                }
            };
            let owner = owner(event, waiter, &futex).filter(|_| !self.wanted.no_memory);
            waits.push(Some(WaitsFor {
                address: ProcessAddress(futex.address),
                place,
                owner: owner.and_then(|owner| shown(event, owner)),
            }));
        }
        waits
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
                return Some(match opened.module.variable(at) {
                    Some(found) => {
                        let offset = at.0 - found.start.0;
                        let offset = format!("+{offset:#x} (");
                        [&found.name[..], offset.as_bytes(), &path, b")"].concat()
                    }
                    None => [&path[..], format!("+{:#x}", at.0).as_bytes()].concat(),
                });
            }
        }
        Some(event.mapping_name(event.mapping(address)?))
    }
}

/// The number of the owner as the process has it.
fn owner(event: &Event, waiter: &Waiter<'_>, futex: &Futex) -> Option<u32> {
    let word = |offset: usize| {
        let at = ProcessAddress(futex.address.checked_add(offset as u64)?);
        let own = waiter.thread.iter().flat_map(|thread| &thread.windows);
        let own = own.into_iter().find_map(|window| window.get(at, 4));
        Cursor::new(own.or_else(|| event.memory(at, 4))?).u32().ok()
    };
    let number = if futex.inherits {
        word(0)? & TID_MASK
    } else {
        match mutex(&waiter.places)? {
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
fn mutex(places: &[&Location]) -> Option<Library> {
    let mut is_mutex = false;
    let mut library = None;
    for place in places.iter().take(FRAMES) {
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
    let waits = threads.list.iter().map(|it| (it.tid, &it.waits_for));
    let all: Vec<(u32, u32)> = std::iter::once((own, &threads.own))
        .chain(waits)
        .filter_map(|(tid, waits)| Some((tid, waits.as_ref()?.owner?)))
        .collect();
    for &(first, _) in &all {
        let mut circle = vec![first];
        let mut at = first;
        while let Some(&(_, next)) = all.iter().find(|(tid, _)| *tid == at) {
            if next == first {
                return circle;
            }
            // It leads into a circle that does not have the first one.
            if circle.contains(&next) {
                break;
            }
            circle.push(next);
            at = next;
        }
    }
    Vec::new()
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
