//! The crashed process as a stack walk sees it: its captured memory, and the files that
//! it had mapped.
//!
//! One [`Captured`] lives as long as the analysis of one event. The file of a mapping is
//! searched at most once; if it is not found, the reason is kept for the report.

use std::cell::RefCell;

use crate::base::address::{FileAddress, ProcessAddress};
use crate::crash::event::{Event, Mapping, MemoryWindow};
use crate::crash::registers::Registers;
use crate::crash::threads::Thread;
use crate::modules::{Missing, Modules, Opened, ProcessHint};
use crate::sys::mmap::page_bytes;
use crate::unwind::{AddressSpace, Placed};

/// Bytes below the stack pointer in the window of a stack: `RED_ZONE` of
/// bpf/frame_chain.h.
const RED_ZONE: u64 = 128;
/// Mappings of code that was moved: huge pages and the rest around them.
const MAX_PIECES: usize = 4;
/// The largest alignment of a stack's top.
const STACK_ALIGNMENT: u64 = 64;

const VDSO_REASON: &str = "our own vDSO, which stands for every process's, was not found";
const OTHER_VDSO_REASON: &str = "the vDSO of 32-bit programs is in no file";

/// What is known of a mapping's file.
#[derive(Clone, Debug)]
enum Behind {
    NotLooked,
    File(Opened),
    Nothing(Option<Missing>),
}

/// An event's memory and modules.
#[derive(Debug)]
pub struct Captured<'a> {
    event: &'a Event,
    modules: RefCell<&'a mut Modules>,
    /// Of the thread whose stack is walked.
    windows: &'a [MemoryWindow],
    registers: Option<Registers>,
    /// Size of a stack's first window.
    window_bytes: u64,
    /// In step with the event's mappings.
    behind: RefCell<Vec<Behind>>,
}

impl<'a> Captured<'a> {
    /// `window_bytes`: how much of a stack was to be captured from its pointer on.
    pub fn new(event: &'a Event, modules: &'a mut Modules, window_bytes: u32) -> Self {
        let behind = vec![Behind::NotLooked; event.mappings.len()];
        Captured {
            event,
            modules: RefCell::new(modules),
            windows: &event.windows,
            registers: event.registers,
            window_bytes: window_bytes.into(),
            behind: RefCell::new(behind),
        }
    }

    /// From here on the stack of another thread is walked. Of it a page that is missing may have
    /// been left out, whatever is captured around it.
    pub fn turn_to(&mut self, thread: &'a Thread) {
        self.windows = &thread.windows;
        self.registers = thread.registers;
        self.window_bytes = 0;
    }

    /// The captured mapping that holds an address.
    #[must_use]
    pub fn mapping(&self, address: ProcessAddress) -> Option<&'a Mapping> {
        self.event.mapping(address)
    }

    /// The file mapped at an address.
    #[must_use]
    pub fn opened(&self, address: ProcessAddress) -> Option<Opened> {
        let index = self.event.mapping_index(address)?;
        let known = self.behind.borrow()[index].clone();
        match known {
            Behind::File(opened) => Some(opened),
            Behind::Nothing(_) => None,
            Behind::NotLooked => {
                let found = self.look(&self.event.mappings[index]);
                let opened = match &found {
                    Behind::File(opened) => Some(opened.clone()),
                    _ => None,
                };
                self.behind.borrow_mut()[index] = found;
                opened
            }
        }
    }

    fn look(&self, mapping: &Mapping) -> Behind {
        let mut modules = self.modules.borrow_mut();
        if self.event.is_vdso(mapping) {
            let missing = |reason| Behind::Nothing(Some(Missing { reason }));
            // Ours has the code of 64-bit programs.
            if self.event.registers.is_some_and(|regs| regs.is_32_bit()) {
                return missing(OTHER_VDSO_REASON);
            }
            return match modules.vdso(self.event.vdso) {
                Some(opened) => Behind::File(opened),
                None => missing(VDSO_REASON),
            };
        }
        if mapping.file.is_none() {
            return match self.moved(&mut modules, mapping) {
                Some(opened) => Behind::File(opened),
                None => Behind::Nothing(None),
            };
        }
        match modules.open(mapping, ProcessHint::from(self.event)) {
            Ok(opened) => Behind::File(opened),
            Err(missing) => Behind::Nothing(Some(missing)),
        }
    }

    /// The file whose code is in a mapping without a file, because the program has moved its
    /// own code there to get huge pages. The mappings next to it show where the code was; the
    /// captured code must equal that in the file.
    fn moved(&self, modules: &mut Modules, mapping: &Mapping) -> Option<Opened> {
        if !mapping.flags.executable() {
            return None;
        }
        let beside = self.beside(mapping)?;
        let opened = modules.open(beside, ProcessHint::from(self.event)).ok()?;
        let into = |address: ProcessAddress| FileAddress(address.0.wrapping_sub(opened.bias));
        let mut loads = opened.module.elf().loads().iter();
        loads.find(|load| {
            let start = into(mapping.start).0 & !(page_bytes() as u64 - 1);
            let end = load.address.0.saturating_add(load.memory_size);
            load.executable && start >= load.address.0 & !(page_bytes() as u64 - 1) && start < end
        })?;
        let (mut same, mut seen) = (true, false);
        for window in self.event.compiled.iter().chain([&self.event.code_bytes]) {
            if !mapping.contains(window.address) {
                continue;
            }
            let mut bytes = vec![0; window.bytes.len()];
            let len = opened.placed().data.read(into(window.address), &mut bytes);
            // A word that reaches past the end of the code says nothing.
            seen |= len > 0;
            same &= bytes[..len] == window.bytes[..len];
        }
        (seen && same).then_some(opened)
    }

    /// The nearest mapping with a file, if only mappings of moved code lie between.
    fn beside(&self, mapping: &Mapping) -> Option<&'a Mapping> {
        let all = &self.event.mappings;
        let index = self.event.mapping_index(mapping.start)?;
        let is_code = |mapping: &Mapping| mapping.flags.executable() && mapping.file.is_none();
        let near = |ahead: bool| {
            let mut from = index;
            for _ in 0..MAX_PIECES {
                let next = if ahead {
                    from + 1
                } else {
                    from.checked_sub(1)?
                };
                let (low, high) = (all.get(from.min(next))?, all.get(from.max(next))?);
                if low.end != high.start {
                    return None;
                }
                let found = &all[next];
                if found.file.is_some() {
                    return Some(found);
                }
                if !is_code(found) {
                    return None;
                }
                from = next;
            }
            None
        };
        near(false).or_else(|| near(true))
    }

    /// The name of the mapping at an address: that of the file whose code it holds.
    #[must_use]
    pub fn name(&self, mapping: &Mapping) -> Vec<u8> {
        let moved = mapping.file.is_none() && !self.event.is_vdso(mapping);
        let opened = moved.then(|| self.opened(mapping.start)).flatten();
        let beside = opened.and_then(|_| self.beside(mapping));
        self.event.mapping_name(beside.unwrap_or(mapping))
    }

    /// Why files that were asked for were not available.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let behind = self.behind.borrow();
        let reasons = behind.iter().filter_map(|behind| match behind {
            Behind::Nothing(missing) => *missing,
            _ => None,
        });
        reasons.collect()
    }
}

impl AddressSpace for Captured<'_> {
    fn read_memory(&self, address: ProcessAddress, buf: &mut [u8]) -> Option<()> {
        let bytes = self
            .windows
            .iter()
            .find_map(|window| window.get(address, buf.len()))?;
        buf.copy_from_slice(bytes);
        Some(())
    }

    /// Inside the first window only pages are missing that could not be read: those that
    /// were never written to (or are swapped out, which the pages of a running function
    /// seldom are).
    fn above_unused(&self, address: ProcessAddress) -> Option<ProcessAddress> {
        let sp = self.registers?.sp();
        let end = sp.0.checked_add(self.window_bytes.checked_sub(RED_ZONE)?)?;
        let mut starts = self.windows.iter().map(|window| window.address);
        let next = starts.find(|start| *start > address)?;
        let same = match self.mapping(address) {
            Some(mapping) => mapping.contains(next),
            // An overflow leaves the stack pointer below the stack.
            None => self.mapping(sp).is_none(),
        };
        let inside = sp <= address && next.0 < end && same;
        inside.then_some(next)
    }

    fn is_other_stack(&self, address: ProcessAddress, top: ProcessAddress) -> bool {
        let mut windows = self.windows.iter();
        let window = windows.find(|window| window.get(address, 1).is_some());
        let last = ProcessAddress(top.0.wrapping_sub(1));
        window.is_some_and(|window| window.get(last, 1).is_none())
    }

    fn read_code(&self, address: ProcessAddress, buf: &mut [u8]) -> usize {
        if let Some(bytes) = self.event.code_bytes.get(address, buf.len()) {
            buf.copy_from_slice(bytes);
            return buf.len();
        }
        let compiled = &self.event.compiled;
        let behind = compiled.partition_point(|window| window.address <= address);
        let window = behind.checked_sub(1).map(|index| &compiled[index]);
        if let Some(bytes) = window.and_then(|window| window.get(address, buf.len())) {
            buf.copy_from_slice(bytes);
            return buf.len();
        }
        let Some(opened) = self.opened(address) else {
            return 0;
        };
        let placed = opened.placed();
        placed.data.read(placed.file_address(address), buf)
    }

    fn is_executable(&self, address: ProcessAddress) -> bool {
        self.mapping(address)
            .is_some_and(|mapping| mapping.flags.executable())
    }

    fn module(&self, address: ProcessAddress) -> Option<Placed> {
        self.opened(address).map(|opened| opened.placed())
    }

    fn lacks_file(&self, address: ProcessAddress) -> bool {
        self.mapping(address)
            .is_some_and(|mapping| mapping.flags.executable() && mapping.file.is_some())
            && self.opened(address).is_none()
    }

    fn is_compiled(&self, address: ProcessAddress) -> bool {
        let mapping = self.mapping(address);
        let unnamed = mapping.is_some_and(|mapping| {
            let file = mapping.file.as_ref();
            // A library may come out of a memfd, too, but is not shared then.
            let shared = mapping.flags.shared();
            mapping.flags.executable() && file.is_none_or(|file| file.detached && shared)
        });
        unnamed && self.opened(address).is_none()
    }

    fn is_stack_top(&self, address: ProcessAddress) -> bool {
        let below = ProcessAddress(address.0.wrapping_sub(1));
        let first = self.stack_start().is_some_and(|start| {
            let same = self
                .mapping(below)
                .is_none_or(|mapping| mapping.contains(start));
            same && address >= start
        });
        first
            || self.mapping(below).is_some_and(|mapping| {
                mapping
                    .end
                    .offset_from(address)
                    .is_some_and(|left| left <= STACK_ALIGNMENT)
            })
    }

    fn stack_start(&self) -> Option<ProcessAddress> {
        let start = self.event.start_stack;
        (start.0 >= page_bytes() as u64).then_some(start)
    }
}
