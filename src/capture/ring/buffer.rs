//! The ring buffer's protocol: records out of memory that the kernel fills.
//!
//! ```text
//!   consumer page      producer page      data: a power of two of bytes
//!   [consumer_pos u64] [producer_pos u64] [len u32|flags][pgoff u32][bytes...] ...
//! ```
//!
//! A record begins with its length: bit 31 says that the writer is not done, bit 30 that
//! it was discarded. Records are 8-byte aligned and may wrap: the data is mapped
//! once, not twice as is customary, and what wraps is copied in two pieces, which
//! halves the resident memory. See kernel/bpf/ringbuf.c.

use std::os::fd::BorrowedFd;

use crate::base::error::Result;
use crate::capture::ring_memory::{Reader, RingMemory};
use crate::sys::mmap::{page_bytes, SharedMemory};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;

/// The reader's end of a ring.
#[derive(Debug)]
pub(super) struct Ring<M> {
    reader: Reader<M>,
    record: Vec<u8>,
}

impl<M: RingMemory> Ring<M> {
    /// Over `bytes` of data, a power of two.
    pub(super) fn over(memory: M, bytes: u64) -> Self {
        Ring {
            reader: Reader::over(memory, bytes),
            record: Vec::new(),
        }
    }

    /// Hands the next record to `take` and frees its place; false if none is
    /// ready.
    pub(super) fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        while let Some((position, unread)) = self.reader.unread(HEADER_BYTES) {
            let length = self.reader.word(position);
            if length & BUSY != 0 {
                return false;
            }
            let data_bytes = length & !(BUSY | DISCARDED);
            let record_bytes = (u64::from(data_bytes) + HEADER_BYTES).next_multiple_of(8);
            if record_bytes > unread {
                return false;
            }
            let next = position.wrapping_add(record_bytes);
            if length & DISCARDED != 0 {
                self.reader.free(next);
                continue;
            }
            self.record.resize(data_bytes as usize, 0);
            let data = position.wrapping_add(HEADER_BYTES);
            self.reader.copy(data, &mut self.record);
            // Freed before it is looked at: the copy is ours.
            self.reader.free(next);
            take(&self.record);
            return true;
        }
        false
    }

    /// Bytes of data that the ring holds.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.reader.bytes()
    }
}

/// A ring of the kernel's, mapped.
#[derive(Debug)]
pub(super) struct MappedRing {
    /// Read and written by us.
    consumer_page: SharedMemory,
    /// The producer's page and, after it, the data: read only.
    producer_and_data: SharedMemory,
    data_start: usize,
}

impl Ring<MappedRing> {
    /// Maps the ring behind a map's descriptor.
    pub(super) fn map(fd: BorrowedFd<'_>, bytes: u32) -> Result<Self> {
        let page = page_bytes();
        let memory = MappedRing {
            consumer_page: SharedMemory::map(fd, 0, page, true)?,
            producer_and_data: SharedMemory::map(fd, page, page + bytes as usize, false)?,
            data_start: page,
        };
        Ok(Ring::over(memory, u64::from(bytes)))
    }
}

impl RingMemory for MappedRing {
    fn head(&self) -> u64 {
        self.producer_and_data.load_u64(0)
    }

    fn tail(&self) -> u64 {
        self.consumer_page.load_u64(0)
    }

    fn set_tail(&self, position: u64) {
        self.consumer_page.store_u64(0, position);
    }

    fn word(&self, place: usize) -> u32 {
        self.producer_and_data.load_u32(self.data_start + place)
    }

    fn copy(&self, place: usize, into: &mut [u8]) {
        self.producer_and_data
            .copy_to(self.data_start + place, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::ring_memory::testing::{heap, Heap};

    fn ring_at(position: u64) -> Ring<Heap> {
        Ring::over(heap(position), 64)
    }

    fn put(ring: &Ring<Heap>, bytes: &[u8], flags: u32) {
        let mut record = (bytes.len() as u32 | flags).to_le_bytes().to_vec();
        record.extend_from_slice(&[0; 4]);
        record.extend_from_slice(bytes);
        record.resize(record.len().next_multiple_of(8), 0);
        ring.reader.put(&record);
    }

    fn drain(ring: &mut Ring<Heap>) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while ring.next(&mut |record| records.push(record.to_vec())) {}
        records
    }

    #[test]
    fn a_record_that_wraps_comes_out_whole() {
        let mut ring = ring_at(48);
        put(&ring, b"0123456789abcdef", 0);
        assert_eq!(drain(&mut ring), [b"0123456789abcdef".to_vec()]);
        assert_eq!(ring.reader.unread_bytes(), 0);
    }

    #[test]
    fn discarded_records_are_passed_over_and_unfinished_ones_waited_for() {
        let mut ring = ring_at(0);
        put(&ring, b"gone", DISCARDED);
        put(&ring, b"here", 0);
        put(&ring, b"later", BUSY);
        put(&ring, b"next", 0);
        assert_eq!(drain(&mut ring), [b"here".to_vec()]);
        assert!(
            drain(&mut ring).is_empty(),
            "an unfinished record blocks those behind it"
        );
    }

    #[test]
    fn lengths_and_positions_that_cannot_be_are_not_followed() {
        let mut ring = ring_at(0);
        put(&ring, b"x", 0);
        ring.reader.overwrite(0, &0x3fff_ffffu32.to_le_bytes());
        assert!(drain(&mut ring).is_empty(), "longer than the ring");
        ring.reader.set_head(u64::MAX);
        assert!(drain(&mut ring).is_empty(), "further than the ring");
    }
}
