//! The perf event ring's protocol: records out of memory that the kernel fills.
//!
//! ```text
//!   control page                            data: a power of two of pages
//!   ... [data_head u64] [data_tail u64] ... [type u32][misc u16][size u16][body] ...
//! ```
//!
//! Positions only grow; a position's place is itself modulo the size. Records are
//! a multiple of 8 bytes long and may wrap. Where BPF programs write two kinds
//! matter: a sample, whose body is a length and that many bytes of what a program
//! put out, filled up to the multiple; and a count of records that found no room,
//! which stands before the first one that did again. Other records are handed out
//! as they are. See kernel/events/ring_buffer.c.
//!
//! The protocol works on any [`PerfMemory`], so that it is tested on the heap.

use std::os::fd::BorrowedFd;

use crate::base::error::Result;
use crate::sys::mmap::{page_bytes, SharedMemory};

/// `PERF_RECORD_LOST`, `PERF_RECORD_SAMPLE`
pub const LOST: u32 = 2;
pub const SAMPLE: u32 = 9;
const HEADER_BYTES: u64 = 8;
/// Where in the control page the positions are: `struct perf_event_mmap_page`.
const HEAD_AT: usize = 1024;
const TAIL_AT: usize = 1032;

/// Where the ring's words and bytes are.
pub trait PerfMemory {
    /// Pairs with the barrier before `WRITE_ONCE(rb->user_page->data_head, head)`
    /// in `perf_output_put_handle()`.
    fn head(&self) -> u64;
    fn tail(&self) -> u64;
    /// Pairs with the control dependency on `data_tail` in `__perf_output_begin()`.
    fn set_tail(&self, position: u64);
    /// Copies data out; never past the end of the ring.
    fn copy(&self, place: usize, into: &mut [u8]);
}

/// `struct perf_event_header` without its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u32,
    /// Bits whose meaning depends on the kind.
    pub misc: u16,
}

/// What the ring gave, where BPF programs write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfRecord<'a> {
    /// What a program put out, with up to seven bytes behind it.
    Output(&'a [u8]),
    /// So many records found no room here.
    Lost(u64),
}

/// The reader's end of a ring.
#[derive(Debug)]
pub struct PerfRing<M> {
    memory: M,
    bytes: u64,
    record: Vec<u8>,
}

impl<M: PerfMemory> PerfRing<M> {
    /// Over `bytes` of data, a power of two.
    pub fn over(memory: M, bytes: u64) -> Self {
        PerfRing {
            memory,
            bytes,
            record: Vec::new(),
        }
    }

    /// Hands what a program put out next, or how much was lost before it, to `take`
    /// and frees its place; false when there is none.
    pub fn next(&mut self, take: impl FnOnce(PerfRecord<'_>)) -> bool {
        while let Some(Header { kind, .. }) = self.read() {
            let read = match kind {
                SAMPLE => output(&self.record).map(PerfRecord::Output),
                LOST => lost(&self.record).map(PerfRecord::Lost),
                _ => None,
            };
            if let Some(read) = read {
                take(read);
                return true;
            }
        }
        false
    }

    /// The next record of any kind: its header, and what follows it.
    pub fn next_record(&mut self) -> Option<(Header, &[u8])> {
        let header = self.read()?;
        Some((header, &self.record))
    }

    /// Copies the next record out and frees its place.
    fn read(&mut self) -> Option<Header> {
        let tail = self.memory.tail();
        let unread = self.memory.head().wrapping_sub(tail);
        // More than the ring holds would be a position that is not the kernel's.
        if unread < HEADER_BYTES || unread > self.bytes {
            return None;
        }
        let mut header = [0; HEADER_BYTES as usize];
        self.copy_out(tail, &mut header);
        let [a, b, c, d, e, f, low, high] = header;
        let size = u64::from(u16::from_le_bytes([low, high]));
        if size < HEADER_BYTES || size > unread {
            return None;
        }
        let mut record = std::mem::take(&mut self.record);
        record.resize((size - HEADER_BYTES) as usize, 0);
        self.copy_out(tail.wrapping_add(HEADER_BYTES), &mut record);
        self.record = record;
        // Freed before it is looked at: the copy is ours.
        self.memory.set_tail(tail.wrapping_add(size));
        Some(Header {
            kind: u32::from_le_bytes([a, b, c, d]),
            misc: u16::from_le_bytes([e, f]),
        })
    }

    /// Whether a record of `bytes` would find no room now.
    #[must_use]
    pub fn has_no_room(&self, bytes: u64) -> bool {
        let unread = self.memory.head().wrapping_sub(self.memory.tail());
        unread.saturating_add(bytes) > self.bytes
    }

    /// Whether the kernel has put nothing there that was not taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.head() == self.memory.tail()
    }

    fn copy_out(&self, position: u64, into: &mut [u8]) {
        let place = (position & (self.bytes - 1)) as usize;
        let until_wrap = (self.bytes as usize - place).min(into.len());
        let (first, rest) = into.split_at_mut(until_wrap);
        self.memory.copy(place, first);
        if !rest.is_empty() {
            self.memory.copy(0, rest);
        }
    }

    /// Bytes of data that the ring holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The raw part of a sample that has no other.
fn output(body: &[u8]) -> Option<&[u8]> {
    let (size, rest) = body.split_first_chunk()?;
    rest.get(..u32::from_le_bytes(*size) as usize)
}

/// How many records found no room: the second word of what follows the header.
#[must_use]
pub fn lost(body: &[u8]) -> Option<u64> {
    let bytes = body.get(8..16)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A ring of the kernel's, mapped: the control page and the data behind it.
#[derive(Debug)]
pub struct MappedPerfRing {
    memory: SharedMemory,
    data_start: usize,
}

impl PerfRing<MappedPerfRing> {
    /// Maps the ring of an event, with `bytes` of data.
    pub fn map(event: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        let page = page_bytes();
        let memory = MappedPerfRing {
            memory: SharedMemory::map(event, 0, page + bytes as usize, true)?,
            data_start: page,
        };
        Ok(PerfRing::over(memory, bytes))
    }
}

impl PerfMemory for MappedPerfRing {
    fn head(&self) -> u64 {
        self.memory.load_u64(HEAD_AT)
    }

    fn tail(&self) -> u64 {
        self.memory.load_u64(TAIL_AT)
    }

    fn set_tail(&self, position: u64) {
        self.memory.store_u64(TAIL_AT, position);
    }

    fn copy(&self, place: usize, into: &mut [u8]) {
        self.memory.copy_to(self.data_start + place, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    struct Heap {
        data: RefCell<Vec<u8>>,
        head: Cell<u64>,
        tail: Cell<u64>,
    }

    impl PerfMemory for Heap {
        fn head(&self) -> u64 {
            self.head.get()
        }
        fn tail(&self) -> u64 {
            self.tail.get()
        }
        fn set_tail(&self, position: u64) {
            self.tail.set(position);
        }
        fn copy(&self, place: usize, into: &mut [u8]) {
            into.copy_from_slice(&self.data.borrow()[place..place + into.len()]);
        }
    }

    fn ring_at(position: u64) -> PerfRing<Heap> {
        let heap = Heap {
            data: RefCell::new(vec![0; 64]),
            head: Cell::new(position),
            tail: Cell::new(position),
        };
        PerfRing::over(heap, 64)
    }

    fn put(ring: &PerfRing<Heap>, kind: u32, size: u16, body: &[u8]) {
        let mut record = kind.to_le_bytes().to_vec();
        record.extend_from_slice(&[0, 0]);
        record.extend_from_slice(&size.to_le_bytes());
        record.extend_from_slice(body);
        for (index, byte) in record.iter().enumerate() {
            let place = (ring.memory.head.get() + index as u64) % 64;
            ring.memory.data.borrow_mut()[place as usize] = *byte;
        }
        let head = ring.memory.head.get() + record.len() as u64;
        ring.memory.head.set(head);
    }

    fn sample(ring: &PerfRing<Heap>, bytes: &[u8]) {
        let mut body = (bytes.len() as u32).to_le_bytes().to_vec();
        body.extend_from_slice(bytes);
        body.resize(body.len().next_multiple_of(8), 0xee);
        put(ring, SAMPLE, body.len() as u16 + 8, &body);
    }

    fn drain(ring: &mut PerfRing<Heap>) -> Vec<String> {
        let mut records = Vec::new();
        while ring.next(|record| {
            records.push(match record {
                PerfRecord::Output(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                PerfRecord::Lost(count) => format!("{count} lost"),
            });
        }) {}
        records
    }

    #[test]
    fn a_record_that_wraps_comes_out_whole() {
        for position in [0, 24, 40, 48, 56] {
            let mut ring = ring_at(position);
            sample(&ring, b"0123456789abcdef");
            assert_eq!(drain(&mut ring), ["0123456789abcdef"], "at {position}");
            assert_eq!(ring.memory.tail(), ring.memory.head());
        }
    }

    #[test]
    fn losses_stand_where_they_happened_and_other_records_are_passed_over() {
        let mut ring = ring_at(8);
        sample(&ring, b"one");
        put(&ring, 1, 8, &[]);
        put(
            &ring,
            LOST,
            24,
            &[[7; 8], [3, 0, 0, 0, 0, 0, 0, 0]].concat(),
        );
        sample(&ring, b"two");
        assert_eq!(drain(&mut ring), ["one", "3 lost", "two"]);
    }

    #[test]
    fn lengths_and_positions_that_cannot_be_are_not_followed() {
        for size in [0, 7, 32, u16::MAX] {
            let mut ring = ring_at(0);
            put(&ring, SAMPLE, size, &[0; 8]);
            assert!(drain(&mut ring).is_empty(), "{size}");
        }
        let mut ring = ring_at(0);
        put(&ring, SAMPLE, 16, &u64::MAX.to_le_bytes());
        assert!(drain(&mut ring).is_empty(), "longer than its record");
        ring.memory.head.set(u64::MAX);
        assert!(drain(&mut ring).is_empty(), "further than the ring");
    }
}
