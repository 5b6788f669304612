//! Finds the file, the function and the line of code addresses.
//!
//! One pass over each file's symbols serves all addresses in it. What cannot be
//! named is left without a name, and the reason goes to the report's `lost`.

use super::Analyzer;
use crate::analyze::cause;
use crate::analyze::located::Located;
use crate::analyze::space::Captured;
use crate::base::address::{FileAddress, ProcessAddress};
use crate::crash::event::{Event, Lost, Mapping};
use crate::crash::frame::CodeAddress;
use crate::crash::registers::Arch;
use crate::modules::{Head, Missing, Opened};
use crate::report::{Location, Symbol};
use crate::symbols::demangle::demangle;
#[cfg(feature = "lines")]
use crate::symbols::lines::Refused;
use crate::unwind;

impl Analyzer {
    /// What each address lies in. The first of them are the stack's `frames`, with
    /// lines and inlined calls; others after them are named only if they lie in
    /// code.
    pub(super) fn locate(
        &mut self,
        event: &Event,
        codes: &[CodeAddress],
        frames: usize,
        lost: &mut Vec<Lost>,
    ) -> Vec<Located> {
        let space = Captured::new(event, &mut self.modules, self.window_bytes);
        let mut located = vec![Located::default(); codes.len()];
        let arch = event.registers.map_or(Arch::NATIVE, |regs| regs.arch());
        let mut compiled = Vec::new();
        let mut by_module: Vec<InModule> = Vec::new();
        let mut missing = Vec::new();
        for (index, code) in codes.iter().enumerate() {
            if index == frames {
                // The names of other addresses are not needed.
                missing = space.missing();
            }
            let address = code.lookup();
            let Some(mapping) = space.mapping(address) else {
                located[index].location = outside(event, code.address());
                continue;
            };
            if index >= frames && !mapping.flags.executable() {
                continue;
            }
            let location = &mut located[index].location;
            location.module = Some(space.name(mapping));
            let Some(opened) = space.opened(address) else {
                if is_compiled(mapping) && !event.is_vdso(mapping) {
                    compiled.push(index);
                }
                located[index].place_without_file(event, mapping, code.address());
                continue;
            };
            let placed = opened.placed();
            location.module_offset = Some(placed.file_address(code.address()));
            location.build_id = opened.module.build_id().map(<[u8]>::to_vec);
            located[index].keeps_frame_pointers = opened.module.elf().is_go();
            if index < frames && self.wanted.stack_trace {
                let caches = &mut self.caches;
                located[index].function = unwind::entry_start(&placed, address, arch, caches);
            }
            let same = |known: &&mut InModule| known.mapping.start == mapping.start;
            match by_module.iter_mut().find(same) {
                Some(known) => known.indexes.push(index),
                None => by_module.push(InModule {
                    opened,
                    mapping,
                    indexes: vec![index],
                }),
            }
        }
        if codes.len() == frames {
            missing = space.missing();
        }
        for in_module in &by_module {
            let InModule {
                opened, indexes, ..
            } = in_module;
            let placed = opened.placed();
            let lookup = |&index: &usize| (index, placed.file_address(codes[index].lookup()));
            let which: Vec<(usize, FileAddress)> = indexes.iter().map(lookup).collect();
            let file = opened.module.as_ref();
            self.namer.add_names(file, &mut located, &which);
            #[cfg(feature = "lines")]
            if self.wanted.stack_trace && indexes[0] < frames {
                let count = indexes.partition_point(|&index| index < frames);
                match self.namer.add_lines(file, &mut located, &which[..count]) {
                    Some(lack) if is_worth_saying(event, in_module, lack.reason) => {
                        lost.push(Lost {
                            detail: "lines",
                            reason: lack.reason.as_str(),
                        });
                    }
                    _ => {}
                }
            }
        }
        missing.extend(self.name_compiled(event, codes, &compiled, &mut located));
        lost.extend(missing.iter().map(|missing| Lost {
            detail: "symbols",
            reason: missing.reason,
        }));
        located
    }

    /// Names the addresses, by their numbers, whose code is in no file.
    fn name_compiled(
        &mut self,
        event: &Event,
        codes: &[CodeAddress],
        compiled: &[usize],
        located: &mut [Located],
    ) -> Option<Missing> {
        if compiled.is_empty() {
            return None;
        }
        let lookup = |&index: &usize| codes[index].lookup();
        let addresses: Vec<ProcessAddress> = compiled.iter().map(lookup).collect();
        match self.modules.compiled(event.into(), &addresses) {
            Ok(functions) => {
                for (&index, function) in compiled.iter().zip(functions) {
                    let at = codes[index].address();
                    located[index].location.symbol = function.and_then(|function| {
                        Some(Symbol {
                            name: demangle(&function.name).into_owned(),
                            offset: at.offset_from(function.start)?,
                        })
                    });
                }
                None
            }
            Err(missing) => Some(missing),
        }
    }
}

impl Located {
    /// As far as the process's memory shows it, if the file was not found.
    fn place_without_file(&mut self, event: &Event, mapping: &Mapping, at: ProcessAddress) {
        let location = &mut self.location;
        let head = Head::of(mapping);
        let bias = head.as_ref().and_then(|head| head.bias(mapping));
        let linked = is_where_linked(event, mapping).then_some(0);
        location.module_offset = bias
            .or(linked)
            .map(|bias| FileAddress(at.0.wrapping_sub(bias)));
        if location.module_offset.is_none() {
            location.file_offset = mapping.file_offset(at);
        } else if let Some(head) = &head {
            location.build_id = head.build_id().map(<[u8]>::to_vec);
        }
        // Code that was compiled into a memfd is in a file without names.
        let is_made = is_compiled(mapping) && head.is_none() && !is_program(event, mapping);
        self.unread = mapping.file.is_some() && !is_made;
    }
}

/// The kernel's page for old programs, which is not a mapping of the process.
fn outside(event: &Event, address: ProcessAddress) -> Location {
    let wide = event
        .registers
        .is_some_and(|regs| regs.arch() == Arch::X86_64);
    let is_there = wide && cause::is_vsyscall(address.0);
    Location {
        module: is_there.then(|| b"[vsyscall]".to_vec()),
        module_offset: is_there.then_some(FileAddress(address.0 & 0xfff)),
        ..Location::default()
    }
}

/// The addresses, by their numbers, in one file.
struct InModule<'a> {
    opened: Opened,
    mapping: &'a Mapping,
    indexes: Vec<usize>,
}

/// Whether code there may have been made while the program ran: in memory without a file,
/// or with a file that has no name, such as a memfd.
fn is_compiled(mapping: &Mapping) -> bool {
    mapping.flags.executable() && mapping.file.as_ref().is_none_or(|file| file.detached)
}

/// Whether lines that could not be had are worth a word. Where it crashed they
/// would have shown something. Debug files of libraries are compressed on whole
/// distributions, and only those of the program itself are the user's own.
#[cfg(feature = "lines")]
fn is_worth_saying(event: &Event, module: &InModule<'_>, refused: Refused) -> bool {
    match refused {
        Refused::TimedOut => module.indexes.contains(&0),
        _ => {
            let path = module.mapping.file.as_ref().map(|file| &file.path);
            path.is_some() && path == event.exe.as_ref()
        }
    }
}

/// Whether a program without its file is known to be mapped at its linker's addresses: a
/// position-independent one is never mapped so low, nor is its heap. load_elf_binary() in
/// fs/binfmt_elf.c, ELF_ET_DYN_BASE of both architectures.
fn is_where_linked(event: &Event, mapping: &Mapping) -> bool {
    const LOW: u64 = 1 << 32;
    // At most 1 GB after the program.
    const LOW_HEAP: u64 = 2 * LOW;
    let wide = event.registers.is_some_and(|regs| !regs.is_32_bit());
    let low = mapping.end.0 <= LOW && (1..LOW_HEAP).contains(&event.start_brk.0);
    wide && is_program(event, mapping) && low
}

/// Whether the executable's own file is mapped there.
fn is_program(event: &Event, mapping: &Mapping) -> bool {
    let file = mapping.file.as_ref();
    file.is_some_and(|file| Some(&file.path) == event.exe.as_ref())
}
