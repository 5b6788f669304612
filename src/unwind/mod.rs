//! From registers and a copy of the stack to the calls that led there.
//!
//! Nothing here opens a file or makes a system call. The registers, the copy of the
//! stack and the sections of the modules come in through [`AddressSpace`] and
//! [`ModuleData`]. [`Frame`]s go out, innermost first, each with a [`Trust`] that says
//! how it was found. A walk that cannot go on says why ([`Stop`]); it never guesses a
//! frame to look complete.
//!
//! ```text
//! walk ──> rules in order ──> cfi ──> frames (find the entry) ──> eh_hdr
//!   │                          ├───> exidx (32-bit ARM's tables)
//!   │                          └───> rule (apply it) ──> expression
//!   ├──> bare (no call-frame information) ──> depth, arm_code (the code), scan (the stack)
//!   ├──> proof (whether a caller is certain)
//!   └──> architecture: x86_64 | i386 | aarch64 | arm (calls, signal frames, frame pointers)
//! ```
//!
//! gimli is used in `cfi` and `expression` alone; without the feature `dwarf`
//! stacks are walked by frame pointer and by scanning.
mod aarch64;
mod apply;
mod architecture;
mod arm;
mod arm_code;
mod arm_step;
mod bare;
#[cfg_attr(
    not(feature = "dwarf"),
    expect(dead_code, reason = "most of it is about call-frame information")
)]
mod cache;
#[cfg(feature = "dwarf")]
mod cfi;
mod depth;
#[cfg(feature = "dwarf")]
mod eh_hdr;
#[cfg(feature = "dwarf")]
mod exidx;
#[cfg(feature = "dwarf")]
mod expression;
mod failure;
#[cfg(feature = "dwarf")]
mod frames;
mod i386;
mod proof;
#[cfg_attr(
    not(feature = "dwarf"),
    expect(dead_code, reason = "rows come from call-frame information")
)]
mod rule;
mod scan;
mod stack;
#[cfg(test)]
mod tests;
mod walk;
mod x86_64;

use std::rc::Rc;

use crate::base::address::{FileAddress, ProcessAddress};
use crate::crash::frame::{CodeAddress, Frame, Stop, Trust};
use crate::crash::registers::{Arch, Registers};

pub use cache::Caches;
pub use walk::walk;

/// Whether 32-bit ARM programs are walked: see `walk`.
pub const WALKS_ARM: bool = walk::ARM;

/// A finished walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    pub frames: Vec<Frame>,
    pub stop: Stop,
    /// The caller of some frame is not certain: frames may be missing, or be left over
    /// from calls long done.
    pub uncertain: bool,
    /// How many frames, from the innermost on, are certain.
    pub certain: usize,
    /// Those with which the innermost handler of a signal interrupted its thread,
    /// if the kernel's copy of them was found.
    pub interrupted: Option<Registers>,
}

/// Sections that hold call-frame information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CfiSection {
    EhFrameHdr,
    EhFrame,
    DebugFrame,
    /// `.ARM.exidx`
    ArmIndex,
}

/// The place of a section and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRange {
    pub address: FileAddress,
    pub size: u64,
}

/// One ELF file, as far as a walk needs it. The file is read in windows, so a walk costs
/// only what it reads, whatever the size of the file.
pub trait ModuleData {
    /// Tells this file from every other that is walked with the same [`Caches`];
    /// equal for the same file at another place or in another process.
    fn identity(&self) -> u64;

    /// Bytes of an address in it.
    fn address_bytes(&self) -> u8 {
        8
    }

    /// The entry point in the file's header: the code there has no caller. `None` if the header
    /// has none.
    fn entry(&self) -> Option<FileAddress> {
        None
    }

    /// Whether all of its functions that have no call-frame information and call others keep
    /// frame pointers, as in Go: a search would only find leftovers.
    fn keeps_frame_pointers(&self) -> bool {
        false
    }

    /// The place of a section, `None` if the file does not have it.
    fn section(&self, section: CfiSection) -> Option<SectionRange>;

    /// Fills `buf` from `offset` bytes into the section; `None` if it does not
    /// hold as many, or the file cannot be read.
    fn read_section(&self, section: CfiSection, offset: u64, buf: &mut [u8]) -> Option<()>;

    /// Reads code or read-only data at a file address; how many bytes there were.
    fn read(&self, address: FileAddress, buf: &mut [u8]) -> usize;

    /// The start of the function that holds `address`, by the symbol table.
    fn function_start(&self, address: FileAddress) -> Option<FileAddress>;
}

/// Where the function that holds an address begins, by call-frame information that cannot be
/// taken off; `None` if there is none.
#[must_use]
#[cfg_attr(
    not(feature = "dwarf"),
    expect(unused_variables, reason = "none of it is read")
)]
pub fn entry_start(
    module: &Placed,
    lookup: ProcessAddress,
    arch: Arch,
    caches: &mut Caches,
) -> Option<FileAddress> {
    #[cfg(feature = "dwarf")]
    return cfi::rule(module, lookup, arch, caches)
        .filter(|rule| !rule.debug)
        .map(|rule| rule.start);
    #[cfg(not(feature = "dwarf"))]
    None
}

/// A module at its place in the process: `process = file + bias`, wrapping.
#[derive(Clone)]
pub struct Placed {
    pub data: Rc<dyn ModuleData>,
    pub bias: u64,
}

impl std::fmt::Debug for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Placed {{ bias: {:#x} }}", self.bias)
    }
}

impl Placed {
    #[must_use]
    pub fn file_address(&self, address: ProcessAddress) -> FileAddress {
        FileAddress(address.0.wrapping_sub(self.bias))
    }

    #[must_use]
    pub fn process_address(&self, address: FileAddress) -> ProcessAddress {
        ProcessAddress(address.0.wrapping_add(self.bias))
    }
}

/// The crashed process, as far as it was captured.
pub trait AddressSpace {
    /// Fills `buf` from the captured stack (or other captured memory); `None`
    /// when any byte of it was not captured.
    fn read_memory(&self, address: ProcessAddress, buf: &mut [u8]) -> Option<()>;

    /// The first captured address above one that was not captured, if the pages between were
    /// never written to, so that they hold no frame. `None` if that is not certain.
    fn above_unused(&self, _address: ProcessAddress) -> Option<ProcessAddress> {
        None
    }

    /// Whether an address was captured, and lies in another window of memory than the bytes
    /// right below `top`.
    fn is_other_stack(&self, _address: ProcessAddress, _top: ProcessAddress) -> bool {
        false
    }

    /// Reads code: from the bytes captured around the pc, else from the file
    /// mapped there. How many bytes there were, counted from `address`.
    fn read_code(&self, address: ProcessAddress, buf: &mut [u8]) -> usize;

    /// Whether an executable mapping holds the address.
    fn is_executable(&self, address: ProcessAddress) -> bool;

    /// The module mapped there; `None` for anonymous code and files that could
    /// not be had.
    fn module(&self, address: ProcessAddress) -> Option<Placed>;

    /// Whether the code there is of a file that was not available.
    fn lacks_file(&self, _address: ProcessAddress) -> bool {
        false
    }

    /// Whether code there was made while the program ran: it is in no file, or in one
    /// without a name.
    fn is_compiled(&self, address: ProcessAddress) -> bool {
        self.is_executable(address) && self.module(address).is_none() && !self.lacks_file(address)
    }

    /// The stack pointer that the process began with (`mm->start_stack`):
    /// nothing above it is a frame. `None` if it is not known.
    fn stack_start(&self) -> Option<ProcessAddress> {
        None
    }

    /// Whether a stack begins at an address, apart from alignment: the process's first stack, or
    /// one that fills its mapping.
    fn is_stack_top(&self, _address: ProcessAddress) -> bool {
        false
    }
}
