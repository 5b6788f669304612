//! The probe that reads kernel memory, driven: `bpf/peek.bpf.c`.
//!
//! A request is written into one map, a signal to ourselves makes the probe
//! answer it into another. While this lives our thread bears a name by which the
//! probe knows it.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use crate::bytes::Cursor;
use crate::error::{Context, Error, Result};
use crate::loader::{self, attach, Loaded, Object, Settings};
use crate::measure::children;
use crate::measure::pieces::{Memory, PIECE};
use crate::sys::bpf;
use crate::sys::own_fault::{self, OwnSignal};

/// `bpf/peek.bpf.c`, compiled.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/peek.bpf.o"));
const PROGRAM: &str = "segfault_peek";
const ASK: &str = "segfault_ask";
const TOLD: &str = "segfault_told";

/// Pieces in one request.
const PIECES: usize = 16;
const TOP_BYTES: usize = 4096;
const ASK_BYTES: usize = 16 + 8 * PIECES;
const TOLD_BYTES: usize = 48 + 8 * PIECES + PIECE * PIECES + TOP_BYTES;

/// What the probe saw of a child's fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How many there were so far.
    pub count: u64,
    pub task: u64,
    /// Process, thread, in the first pid namespace.
    pub ids: (u32, u32),
    pub frame: u64,
    pub top: Vec<u8>,
}

/// The probe, attached.
#[derive(Debug)]
pub struct Peek {
    loaded: Loaded,
    _link: OwnedFd,
    signal: OwnSignal,
    magic: String,
    stack_bytes: u64,
    name_before: CString,
    told: Vec<u8>,
    /// Requests so far.
    pub requests: u32,
}

fn split(ids: u64) -> (u32, u32) {
    ((ids >> 32) as u32, ids as u32)
}

impl Peek {
    /// Loads and attaches the probe; `stack_bytes` is what a kernel stack is taken for.
    pub fn start(stack_bytes: u64) -> Result<Self> {
        let object = Object::parse(OBJECT).context(|| "the embedded measuring program")?;
        let settings = Settings {
            programs: &[PROGRAM],
            ..Settings::default()
        };
        let no_types: Vec<u8> = Vec::new();
        let loaded = loader::load(&object, &no_types, &settings)?;
        let program = loaded
            .program(PROGRAM)
            .ok_or_else(|| Error::failed("the measuring program is gone"))?;
        let link = attach::raw_tracepoint(program, "signal_deliver")?;
        let name_before = own_fault::name()?;
        let magic = children::magic();
        let peek = Peek {
            loaded,
            _link: link,
            signal: OwnSignal::new()?,
            magic,
            stack_bytes,
            name_before,
            told: vec![0; TOLD_BYTES],
            requests: 0,
        };
        let name = CString::new(format!("{}-tool", peek.magic))
            .map_err(|_| Error::failed("a name with a NUL"))?;
        own_fault::set_name(&name)?;
        peek.write(&[])?;
        Ok(peek)
    }

    /// What the names of threads begin with that the probe looks at.
    #[must_use]
    pub fn magic(&self) -> &str {
        &self.magic
    }

    fn write(&self, addresses: &[u64]) -> Result<()> {
        let mut bytes = Vec::with_capacity(ASK_BYTES);
        bytes.extend_from_slice(self.magic.as_bytes());
        bytes.extend_from_slice(&self.stack_bytes.to_ne_bytes());
        for address in addresses {
            bytes.extend_from_slice(&address.to_ne_bytes());
        }
        bytes.resize(ASK_BYTES, 0);
        let map = self
            .loaded
            .map(ASK)
            .ok_or_else(|| Error::failed("the measuring program has no requests"))?;
        bpf::map_update_elem(map, &0u32.to_ne_bytes(), &bytes, 0)
    }

    fn read(&mut self) -> Result<()> {
        let map = self
            .loaded
            .map(TOLD)
            .ok_or_else(|| Error::failed("the measuring program has no answers"))?;
        bpf::map_lookup_elem(map, &0u32.to_ne_bytes(), &mut self.told).map(drop)
    }

    fn word(&self, at: usize) -> u64 {
        Cursor::at(&self.told, at).u64().unwrap_or(0)
    }

    /// The last fault of a child.
    pub fn fault(&mut self) -> Result<Fault> {
        self.read()?;
        Ok(Fault {
            count: self.word(0),
            task: self.word(8),
            ids: split(self.word(16)),
            frame: self.word(24),
            top: self.told[TOLD_BYTES - TOP_BYTES..].to_vec(),
        })
    }

    /// Our own task, and our ids in the first pid namespace.
    pub fn own(&mut self) -> Result<(u64, (u32, u32))> {
        self.ask(&[])?;
        match self.word(32) {
            0 => Err(Error::failed("the measuring program does not see us")),
            task => Ok((task, split(self.word(40)))),
        }
    }

    fn ask(&mut self, addresses: &[u64]) -> Result<()> {
        self.write(addresses)?;
        self.requests += 1;
        self.signal.send()?;
        self.read()
    }
}

impl Memory for Peek {
    fn read(&mut self, addresses: &[u64]) -> Vec<Option<[u8; PIECE]>> {
        let mut pieces = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(PIECES) {
            let answered = self.ask(some).is_ok();
            for index in 0..some.len() {
                let failed = self.word(48 + 8 * index) != 0;
                let at = 48 + 8 * PIECES + PIECE * index;
                let piece = self.told[at..at + PIECE].first_chunk::<PIECE>();
                pieces.push(piece.copied().filter(|_| answered && !failed));
            }
        }
        pieces
    }
}

impl Drop for Peek {
    fn drop(&mut self) {
        let _ = own_fault::set_name(&self.name_before);
    }
}
