//! What this kernel can do: each feature is probed once and remembered.
//!
//! A probe creates the smallest object that needs the feature and closes it. If the
//! kernel's types show a feature, a CO-RE relocation in the program tests it better.
//! Probes are for earlier decisions: which maps to create, which variant of a program to
//! load.

use std::cell::OnceCell;

use crate::base::bytes;
use crate::base::error::{Error, Result};
use crate::loader::explain;
use crate::loader::insn::{self, Instruction};
use crate::sys::bpf;

/// `BPF_FUNC_loop` (5.17).
pub const HELPER_LOOP: i32 = 181;

const RINGBUF: u32 = 27;
const RAW_TRACEPOINT: u32 = 17;
const TRACEPOINT: u32 = bpf::PROG_TYPE_TRACEPOINT;
const PROBE_LOG: usize = 4096;
const LOAD: &str = "bpf(BPF_PROG_LOAD)";
const SMALLEST_RING: u32 = 4096;

/// Answers of this kernel; each is asked for at most once.
#[derive(Debug, Default)]
pub struct Features {
    ring_buffer: OnceCell<bool>,
    callbacks: OnceCell<bool>,
    raw_tracepoints: OnceCell<bool>,
    tracepoints: OnceCell<bool>,
}

impl Features {
    /// No answer yet.
    #[must_use]
    pub fn new() -> Self {
        Features::default()
    }

    /// `BPF_MAP_TYPE_RINGBUF` (5.8). The page size is at most 64 KB.
    pub fn ring_buffer(&self) -> Result<bool> {
        if let Some(known) = self.ring_buffer.get() {
            return Ok(*known);
        }
        let known = match create_ring(SMALLEST_RING) {
            Ok(()) => true,
            Err(error) if error.errno() == Some(bpf::EINVAL) => {
                // A ring is a multiple of the page size, which arm64 may have at 64 KB.
                create_ring(SMALLEST_RING * 16).is_ok()
            }
            Err(error) => return Err(explain::refused(error)),
        };
        Ok(*self.ring_buffer.get_or_init(|| known))
    }

    /// `BPF_PROG_TYPE_RAW_TRACEPOINT` (4.17).
    pub fn raw_tracepoints(&self) -> Result<bool> {
        if let Some(known) = self.raw_tracepoints.get() {
            return Ok(*known);
        }
        let known = has_program_type(RAW_TRACEPOINT)?;
        Ok(*self.raw_tracepoints.get_or_init(|| known))
    }

    /// `BPF_PROG_TYPE_TRACEPOINT` (4.7), which needs CONFIG_BPF_EVENTS.
    pub fn tracepoints(&self) -> Result<bool> {
        if let Some(known) = self.tracepoints.get() {
            return Ok(*known);
        }
        let known = has_program_type(TRACEPOINT)?;
        Ok(*self.tracepoints.get_or_init(|| known))
    }

    /// `bpf_loop` with its callbacks (5.17).
    pub fn callbacks(&self) -> Result<bool> {
        if let Some(known) = self.callbacks.get() {
            return Ok(*known);
        }
        let known = match has_helper(HELPER_LOOP)? {
            Some(known) => known,
            // Before 4.17 there are no programs of this type, and the error does not say so.
            None if !self.raw_tracepoints()? => false,
            None => return Err(explain::refused(Error::syscall(LOAD, bpf::EINVAL))),
        };
        Ok(*self.callbacks.get_or_init(|| known))
    }
}

/// Words for a kernel that has programs at neither kind of tracepoint.
#[must_use]
pub fn no_tracepoints() -> Error {
    Error::unsupported("this kernel runs no BPF programs at tracepoints")
        .with_hint("the kernel must be built with CONFIG_BPF_EVENTS")
}

/// Whether the kernel takes the smallest program of this type.
fn has_program_type(prog_type: u32) -> Result<bool> {
    let clear = Instruction {
        code: 0xb7,
        ..Instruction::default()
    };
    let exit = Instruction {
        code: 0x95,
        ..Instruction::default()
    };
    let instructions = insn::encode(&[clear, exit]);
    let program = bpf::NewProgram {
        prog_type,
        instructions: &instructions,
        license: c"GPL",
        name: "segfault_probe",
        types: None,
    };
    let load = || bpf::prog_load(&program, &mut []).map(drop);
    let answer = match load() {
        Err(error) if error.errno() == Some(bpf::EPERM) && bpf::raise_memlock_limit().is_ok() => {
            // Before 5.11 this may be the limit on locked memory.
            load()
        }
        other => other,
    };
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(bpf::EINVAL) => Ok(false),
        Err(error) => Err(explain::refused(error)),
    }
}

/// Whether tracing programs can call the helper of this number.
///
/// A program that calls it with nothing set up is always refused; a kernel without the helper
/// says so, one with it finds fault with the arguments; `None` if it says nothing.
fn has_helper(number: i32) -> Result<Option<bool>> {
    let call = Instruction {
        code: 0x85,
        immediate: number,
        ..Instruction::default()
    };
    let exit = Instruction {
        code: 0x95,
        ..Instruction::default()
    };
    let instructions = insn::encode(&[call, exit]);
    let program = bpf::NewProgram {
        prog_type: RAW_TRACEPOINT,
        instructions: &instructions,
        license: c"GPL",
        name: "segfault_probe",
        types: None,
    };
    let mut log = [0; PROBE_LOG];
    match bpf::prog_load(&program, &mut log) {
        Ok(_) => Ok(Some(true)),
        Err(error) if matches!(error.errno(), Some(bpf::EINVAL | bpf::EACCES)) && log[0] != 0 => {
            // "invalid func unknown#181", or "program of this type cannot use helper ...".
            let is_unknown = [
                &b"invalid func "[..],
                b"unknown func ",
                b"cannot use helper",
            ]
            .iter()
            .any(|phrase| bytes::find(&log, phrase).is_some());
            Ok(Some(!is_unknown))
        }
        Err(error) if error.errno() == Some(bpf::EINVAL) => Ok(None),
        Err(error) => Err(explain::refused(error)),
    }
}

fn create_ring(bytes: u32) -> Result<(), Error> {
    let ring = bpf::NewMap {
        map_type: RINGBUF,
        key_size: 0,
        value_size: 0,
        max_entries: bytes,
        flags: 0,
        name: "segfault_probe",
    };
    match bpf::map_create(&ring) {
        Err(error) if error.errno() == Some(bpf::EPERM) => {
            // Before 5.11 this may be the limit on locked memory.
            bpf::raise_memlock_limit()?;
            bpf::map_create(&ring).map(drop)
        }
        other => other.map(drop),
    }
}
