//! Drives the probe that reads kernel memory, `bpf/peek.bpf.c`.
//!
//! A request is written into one map; a signal to ourselves makes the probe write the
//! answer into another. While a probe exists, our thread has a name by which the probe
//! recognizes it.

use std::os::fd::OwnedFd;

use crate::base::bytes::Cursor;
use crate::base::error::{Error, Result};
use crate::base::structs::{bytes_of, record, Field, FieldLayout};
use crate::loader::probe::{self, Features};
use crate::loader::{self, attach, packed, Loaded, Settings};
use crate::measure::pieces::{Memory, Piece, PIECE};
use crate::sys::bpf;
use crate::sys::own_fault::{self, OwnSignal, NAME_BYTES};

/// `bpf/peek.bpf.c`, compiled and packed.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/peek.bpf.o"));
const PROGRAM: &str = "segfault_peek";
const ASK: &str = "segfault_ask";
const ANSWER: &str = "segfault_answer";

/// Pieces in one request.
pub const PIECES: usize = 16;
/// Of a child's kernel stack.
pub const TOP_BYTES: usize = 4096;
/// The offset of the pieces in the answer.
const PIECES_AT: usize = RawAnswer::SIZE;
const TOP_AT: usize = PIECES_AT + PIECE * PIECES;
const ANSWER_BYTES: usize = TOP_AT + TOP_BYTES;

record! {
    /// `struct peek_request` of bpf/peek.bpf.c
    RawRequest {
        magic: [u8; 8],
        stack_bytes: u64,
        address: [u64; PIECES],
    }
}

record! {
    /// `struct peek_answer`, before its pieces and the top of the stack
    RawAnswer {
        task: u64,
        ids: u64,
        stack_top: u64,
        own_task: u64,
        frame: u64,
        failed: [u64; PIECES],
    }
}

/// Both structs with their fields; of the answer only the part before the pieces.
#[must_use]
pub fn layout() -> Vec<(&'static str, Vec<FieldLayout>)> {
    vec![
        ("peek_request", RawRequest::fields()),
        ("peek_answer", RawAnswer::fields()),
    ]
}

/// What the probe saw of a child's fault.
#[derive(Clone, Debug)]
pub struct Fault {
    pub task: u64,
    /// Process << 32 | thread, in the first pid namespace.
    pub ids: u64,
    /// The end of the kernel stack, and the bytes there.
    pub stack_top: u64,
    pub top: Vec<u8>,
}

/// The probe, attached.
#[derive(Debug)]
pub struct Peek {
    loaded: Loaded,
    _link: OwnedFd,
    signal: OwnSignal,
    magic: [u8; 8],
    stack_bytes: u64,
    name_before: [u8; NAME_BYTES],
    answer: Vec<u8>,
    /// Nothing below this is read.
    lowest: u64,
}

impl Peek {
    /// Loads and attaches the probe; `stack_bytes` is the assumed size of a kernel stack.
    /// Without `allows_raw` it attaches as kernels before 4.17 require. The probe looks at
    /// threads whose names begin with `magic`.
    pub fn start(stack_bytes: u64, allows_raw: bool, magic: [u8; 8]) -> Result<Self> {
        let object = packed::object(OBJECT)?;
        let features = Features::new();
        let is_raw = allows_raw && features.raw_tracepoints()?;
        if !is_raw && !features.tracepoints()? {
            return Err(probe::no_tracepoints());
        }
        let settings = Settings {
            programs: &[PROGRAM],
            program_type: (!is_raw).then_some(bpf::PROG_TYPE_TRACEPOINT),
            ..Settings::default()
        };
        let no_types: Vec<u8> = Vec::new();
        let loaded = loader::load(&object, &no_types, &settings)?;
        let failed = || Error::failed("cannot run the program that measures offsets");
        let program = loaded.program(PROGRAM).ok_or_else(failed)?;
        let link = attach::signal_deliver(program, is_raw)?;
        let mut peek = Peek {
            loaded,
            _link: link,
            signal: OwnSignal::new().ok_or_else(failed)?,
            magic,
            stack_bytes,
            name_before: own_fault::thread_name(),
            answer: vec![0; ANSWER_BYTES],
            lowest: 0,
        };
        let mut name = *b"________-tool\0\0\0";
        name[..8].copy_from_slice(&peek.magic);
        own_fault::set_thread_name(&name);
        peek.lowest = lowest(peek.own_task().ok_or_else(failed)?);
        Ok(peek)
    }

    /// The beginning of the names of threads that the probe looks at.
    #[must_use]
    pub fn magic(&self) -> [u8; 8] {
        self.magic
    }

    fn write(&self, address: [u64; PIECES]) -> Option<()> {
        let request = RawRequest {
            magic: self.magic,
            stack_bytes: self.stack_bytes,
            address,
        };
        let bytes = bytes_of(&request);
        bpf::map_update_elem(self.loaded.map(ASK)?, &[0; 4], &bytes, 0).ok()
    }

    fn read(&mut self) -> Option<RawAnswer> {
        let map = self.loaded.map(ANSWER)?;
        bpf::map_lookup_elem(map, &[0; 4], &mut self.answer).ok()?;
        RawAnswer::read(&mut Cursor::new(&self.answer)).ok()
    }

    /// The last fault of a child.
    pub fn fault(&mut self) -> Option<Fault> {
        let answer = self.read()?;
        Some(Fault {
            task: answer.task,
            ids: answer.ids,
            stack_top: answer.stack_top,
            top: self.answer[TOP_AT..].to_vec(),
        })
    }

    /// Our own task.
    pub fn own_task(&mut self) -> Option<u64> {
        Some(self.ask([0; PIECES])?.own_task)
    }

    fn ask(&mut self, address: [u64; PIECES]) -> Option<RawAnswer> {
        self.write(address)?;
        self.signal.send();
        self.read()
    }
}

/// The beginning of the kernel's addresses, as far as one of them shows it. Values below are
/// not addresses for x86; some kernels warn when a program reads from there.
fn lowest(known: u64) -> u64 {
    const FOUR_LEVELS: u64 = 0xffff_8000_0000_0000;
    if known < FOUR_LEVELS {
        0
    } else {
        FOUR_LEVELS
    }
}

impl Memory for Peek {
    fn read(&mut self, addresses: &[u64]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(PIECES) {
            let mut asked = [0; PIECES];
            for (asked, &address) in asked.iter_mut().zip(some) {
                if address >= self.lowest {
                    *asked = address;
                }
            }
            let failures = self.ask(asked).map_or([1; PIECES], |answer| answer.failed);
            for (index, asked) in asked[..some.len()].iter().enumerate() {
                let failed = *asked == 0 || failures[index] != 0;
                let piece = self.answer[PIECES_AT + PIECE * index..].first_chunk::<PIECE>();
                pieces.push(piece.filter(|_| !failed).map(|piece| Box::new(*piece)));
            }
        }
        pieces
    }
}

impl Drop for Peek {
    fn drop(&mut self) {
        own_fault::set_thread_name(&self.name_before);
    }
}
