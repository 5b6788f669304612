//! The ring buffer's protocol: records out of memory that the kernel fills.
//!
//! ```text
//!   consumer page      producer page      data: a power of two of bytes
//!   [consumer_pos u64] [producer_pos u64] [len u32|flags][pgoff u32][bytes...] ...
//! ```
//!
//! Positions only grow; a position's place is itself modulo the size. A record
//! begins with its length: bit 31 says that the writer is not done, bit 30 that
//! it was discarded. Records are 8-byte aligned and may wrap: the data is mapped
//! once, not twice as is customary, and what wraps is copied in two pieces, which
//! halves the resident memory. See kernel/bpf/ringbuf.c.
//!
//! The protocol works on any [`RingMemory`], so that it is tested on the heap.

use std::os::fd::BorrowedFd;

use crate::base::error::Result;
use crate::sys::mmap::{page_bytes, SharedMemory};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;

/// Where the ring's words and bytes are.
pub trait RingMemory {
    /// Pairs with the kernel's `smp_store_release(&rb->producer_pos)` in
    /// `__bpf_ringbuf_reserve()`.
    fn producer(&self) -> u64;
    fn consumer(&self) -> u64;
    /// Pairs with `smp_load_acquire(&rb->consumer_pos)` in the same place.
    fn set_consumer(&self, position: u64);
    /// The length word at a place in the data. Pairs with the `xchg()` of
    /// `bpf_ringbuf_commit()`.
    fn length_at(&self, place: usize) -> u32;
    /// Copies data out; never past the end of the ring.
    fn copy(&self, place: usize, into: &mut [u8]);
}

/// The reader's end of a ring.
#[derive(Debug)]
pub struct Ring<M> {
    memory: M,
    bytes: u64,
    record: Vec<u8>,
}

impl<M: RingMemory> Ring<M> {
    /// Over `bytes` of data, a power of two.
    pub fn over(memory: M, bytes: u64) -> Self {
        Ring {
            memory,
            bytes,
            record: Vec::new(),
        }
    }

    /// Hands the next record to `take` and frees its place; false when none is
    /// ready.
    pub fn next(&mut self, take: impl FnOnce(&[u8])) -> bool {
        loop {
            let consumer = self.memory.consumer();
            let unread = self.memory.producer().wrapping_sub(consumer);
            // More than the ring holds would be a position that is not the kernel's.
            if unread < HEADER_BYTES || unread > self.bytes {
                return false;
            }
            let length = self.memory.length_at(self.place(consumer));
            if length & BUSY != 0 {
                return false;
            }
            let data_bytes = length & !(BUSY | DISCARDED);
            let record_bytes = (u64::from(data_bytes) + HEADER_BYTES).next_multiple_of(8);
            if record_bytes > unread {
                return false;
            }
            let next = consumer.wrapping_add(record_bytes);
            if length & DISCARDED != 0 {
                self.memory.set_consumer(next);
                continue;
            }
            self.record.resize(data_bytes as usize, 0);
            self.copy_out(consumer.wrapping_add(HEADER_BYTES));
            // Freed before it is looked at: the copy is ours.
            self.memory.set_consumer(next);
            take(&self.record);
            return true;
        }
    }

    fn place(&self, position: u64) -> usize {
        (position & (self.bytes - 1)) as usize
    }

    fn copy_out(&mut self, position: u64) {
        let place = self.place(position);
        let until_wrap = (self.bytes as usize - place).min(self.record.len());
        let (first, rest) = self.record.split_at_mut(until_wrap);
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

/// A ring of the kernel's, mapped.
#[derive(Debug)]
pub struct MappedRing {
    /// Read and written by us.
    consumer_page: SharedMemory,
    /// The producer's page and, behind it, the data: read only.
    producer_and_data: SharedMemory,
    data_start: usize,
}

impl Ring<MappedRing> {
    /// Maps the ring behind a map's descriptor.
    pub fn map(fd: BorrowedFd<'_>, bytes: u32) -> Result<Self> {
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
    fn producer(&self) -> u64 {
        self.producer_and_data.load_u64(0)
    }

    fn consumer(&self) -> u64 {
        self.consumer_page.load_u64(0)
    }

    fn set_consumer(&self, position: u64) {
        self.consumer_page.store_u64(0, position);
    }

    fn length_at(&self, place: usize) -> u32 {
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
    use std::cell::{Cell, RefCell};

    struct Heap {
        data: RefCell<Vec<u8>>,
        producer: Cell<u64>,
        consumer: Cell<u64>,
    }

    impl RingMemory for Heap {
        fn producer(&self) -> u64 {
            self.producer.get()
        }
        fn consumer(&self) -> u64 {
            self.consumer.get()
        }
        fn set_consumer(&self, position: u64) {
            self.consumer.set(position);
        }
        fn length_at(&self, place: usize) -> u32 {
            let data = self.data.borrow();
            u32::from_le_bytes([
                data[place],
                data[place + 1],
                data[place + 2],
                data[place + 3],
            ])
        }
        fn copy(&self, place: usize, into: &mut [u8]) {
            into.copy_from_slice(&self.data.borrow()[place..place + into.len()]);
        }
    }

    impl Heap {
        fn starting_at(position: u64) -> Self {
            Heap {
                data: RefCell::new(vec![0; 64]),
                producer: Cell::new(position),
                consumer: Cell::new(position),
            }
        }

        fn put(&self, bytes: &[u8], flags: u32) {
            let mut record = (bytes.len() as u32 | flags).to_le_bytes().to_vec();
            record.extend_from_slice(&[0; 4]);
            record.extend_from_slice(bytes);
            record.resize(record.len().next_multiple_of(8), 0);
            for (index, byte) in record.iter().enumerate() {
                let place = (self.producer.get() + index as u64) % 64;
                self.data.borrow_mut()[place as usize] = *byte;
            }
            self.producer.set(self.producer.get() + record.len() as u64);
        }
    }

    fn drain(ring: &mut Ring<Heap>) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while ring.next(|record| records.push(record.to_vec())) {}
        records
    }

    #[test]
    fn a_record_that_wraps_comes_out_whole() {
        let heap = Heap::starting_at(48);
        heap.put(b"0123456789abcdef", 0);
        let mut ring = Ring::over(heap, 64);
        assert_eq!(drain(&mut ring), [b"0123456789abcdef".to_vec()]);
        assert_eq!(ring.memory.consumer(), ring.memory.producer());
    }

    #[test]
    fn discarded_records_are_passed_over_and_unfinished_ones_waited_for() {
        let heap = Heap::starting_at(0);
        heap.put(b"gone", DISCARDED);
        heap.put(b"here", 0);
        heap.put(b"later", BUSY);
        heap.put(b"next", 0);
        let mut ring = Ring::over(heap, 64);
        assert_eq!(drain(&mut ring), [b"here".to_vec()]);
        assert!(!ring.next(|_| panic!("an unfinished record blocks those behind it")));
    }

    #[test]
    fn lengths_and_positions_that_cannot_be_are_not_followed() {
        let heap = Heap::starting_at(0);
        heap.put(b"x", 0);
        heap.data.borrow_mut()[..4].copy_from_slice(&0x3fff_ffffu32.to_le_bytes());
        let mut ring = Ring::over(heap, 64);
        assert!(!ring.next(|_| panic!("longer than the ring")));
        ring.memory.producer.set(u64::MAX);
        assert!(!ring.next(|_| panic!("further than the ring")));
    }
}
