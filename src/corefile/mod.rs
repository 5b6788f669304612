//! Core files: an event as a core that debuggers open, and any core as an event.
//!
//! ```text
//! Event, Objects ──write──▶ bytes ──store──▶ DIR/core.NAME.PID.TIME
//! core of the kernel, or of ours ──read──▶ Core ──recall──▶ Event
//! ```
//!
//! A core of ours has what was captured and no more: the registers of the crashed thread and
//! of the others that were captured, windows of their stacks, code and memory around registers. What a debugger looks for in memory that
//! was not captured is made up from the files (`link_map`), at an address that the
//! process did not use. What is in files is left out. The formats: `core(5)`, the kernel's
//! fs/binfmt_elf.c, and include/linux/elfcore.h; [`layout`] has the numbers.

pub mod layout;
mod link_map;
mod own_note;
mod own_threads;
pub mod read;
pub mod recall;
pub mod store;
pub mod threads;
mod windows;
pub mod write;

use crate::base::address::ProcessAddress;

/// The first bytes of a build-id, as one number.
#[must_use]
pub fn short_id(build_id: Option<&[u8]>) -> u64 {
    let first = build_id.and_then(|id| id.first_chunk::<8>());
    first.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A file that the process had mapped, at its place.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Object {
    pub path: Vec<u8>,
    /// `process = file + bias`, wrapping.
    pub bias: u64,
    pub is_program: bool,
    pub entry: Option<ProcessAddress>,
    /// Where its program headers are, and how many there are.
    pub headers: Option<(ProcessAddress, u16)>,
    /// Where its dynamic section is, and what the file has there.
    pub dynamic: Option<(ProcessAddress, Vec<u8>)>,
    /// The path of the dynamic linker.
    pub interpreter: Option<Vec<u8>>,
}
