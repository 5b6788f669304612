//! What this kernel can do, asked once and remembered.
//!
//! A probe makes the smallest object that needs the feature and lets go of it.
//! Whatever can be read from the kernel's types is better asked there, by a
//! CO-RE relocation in the program itself; these are for decisions that come
//! before: which maps to make, which variant of a program to load.

use std::cell::OnceCell;

use crate::error::{Error, Result};
use crate::loader::explain;
use crate::sys::bpf;

const RINGBUF: u32 = 27;
const SMALLEST_RING: u32 = 4096;

/// Answers of this kernel; each is asked for at most once.
#[derive(Debug, Default)]
pub struct Features {
    ring_buffer: OnceCell<bool>,
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
