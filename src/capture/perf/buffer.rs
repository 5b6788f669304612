//! The perf event ring's protocol: records out of memory that the kernel fills.
//!
//! ```text
//!   control page                            data: a power of two of pages
//!   ... [data_head u64] [data_tail u64] ... [type u32][misc u16][size u16][body] ...
//! ```
//!
//! Records are a multiple of 8 bytes long and may wrap. In the rings that BPF programs
//! write to, two kinds matter: a sample, whose body is a length and that many bytes of
//! what a program put out, filled up to the multiple; and a count of records that found
//! no room, which stands before the first one that did again. Other records are handed
//! out as they are. See kernel/events/ring_buffer.c.

use std::os::fd::BorrowedFd;

use crate::base::error::Result;
use crate::capture::ring_memory::{Reader, RingMemory};
use crate::sys::mmap::{page_bytes, SharedMemory};

/// `PERF_RECORD_LOST`, `PERF_RECORD_SAMPLE`
pub(in crate::capture) const LOST: u32 = 2;
pub(in crate::capture) const SAMPLE: u32 = 9;
const HEADER_BYTES: u64 = 8;
/// Where in the control page the positions are: `struct perf_event_mmap_page`.
const HEAD_AT: usize = 1024;
const TAIL_AT: usize = 1032;

/// `struct perf_event_header` without its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Header {
    pub kind: u32,
    /// Bits whose meaning depends on the kind.
    pub misc: u16,
}

/// A record of a ring that BPF programs write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::capture) enum PerfRecord<'a> {
    /// What a program put out, with up to seven bytes behind it.
    Output(&'a [u8]),
    /// So many records found no room here.
    Lost(u64),
}

/// The reader's end of a ring.
#[derive(Debug)]
pub(in crate::capture) struct PerfRing<M> {
    reader: Reader<M>,
    record: Vec<u8>,
}

impl<M: RingMemory> PerfRing<M> {
    /// Over `bytes` of data, a power of two.
    pub(in crate::capture) fn over(memory: M, bytes: u64) -> Self {
        PerfRing {
            reader: Reader::over(memory, bytes),
            record: Vec::new(),
        }
    }

    /// Hands what a program put out next, or how much was lost before it, to `take`
    /// and frees its place; false when there is none.
    pub(in crate::capture) fn next(&mut self, take: impl FnOnce(PerfRecord<'_>)) -> bool {
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
    pub(in crate::capture) fn next_record(&mut self) -> Option<(Header, &[u8])> {
        let header = self.read()?;
        Some((header, &self.record))
    }

    /// Copies the next record out and frees its place.
    fn read(&mut self) -> Option<Header> {
        let (position, unread) = self.reader.unread(HEADER_BYTES)?;
        let mut header = [0; HEADER_BYTES as usize];
        self.reader.copy(position, &mut header);
        let [a, b, c, d, e, f, low, high] = header;
        let size = u64::from(u16::from_le_bytes([low, high]));
        if size < HEADER_BYTES || size > unread {
            return None;
        }
        self.record.resize((size - HEADER_BYTES) as usize, 0);
        let body = position.wrapping_add(HEADER_BYTES);
        self.reader.copy(body, &mut self.record);
        // Freed before it is looked at: the copy is ours.
        self.reader.free(position.wrapping_add(size));
        Some(Header {
            kind: u32::from_le_bytes([a, b, c, d]),
            misc: u16::from_le_bytes([e, f]),
        })
    }

    /// Whether a record of `bytes` would find no room now.
    #[must_use]
    pub(in crate::capture) fn has_no_room(&self, bytes: u64) -> bool {
        self.reader.unread_bytes().saturating_add(bytes) > self.reader.bytes()
    }

    /// Whether the kernel has put nothing there that was not taken.
    #[must_use]
    pub(in crate::capture) fn is_empty(&self) -> bool {
        self.reader.unread_bytes() == 0
    }

    /// Bytes of data that the ring holds.
    #[must_use]
    pub(in crate::capture) fn bytes(&self) -> u64 {
        self.reader.bytes()
    }
}

/// The raw part of a sample that has no other.
fn output(body: &[u8]) -> Option<&[u8]> {
    let (size, rest) = body.split_first_chunk()?;
    rest.get(..u32::from_le_bytes(*size) as usize)
}

/// How many records found no room: the second word of what follows the header.
#[must_use]
pub(in crate::capture) fn lost(body: &[u8]) -> Option<u64> {
    let bytes = body.get(8..16)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// A ring of the kernel's, mapped: the control page and the data after it.
#[derive(Debug)]
pub(in crate::capture) struct MappedPerfRing {
    memory: SharedMemory,
    data_start: usize,
}

impl PerfRing<MappedPerfRing> {
    /// Maps the ring of an event, with `bytes` of data.
    pub(in crate::capture) fn map(event: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        let page = page_bytes();
        let memory = MappedPerfRing {
            memory: SharedMemory::map(event, 0, page + bytes as usize, true)?,
            data_start: page,
        };
        Ok(PerfRing::over(memory, bytes))
    }
}

impl RingMemory for MappedPerfRing {
    fn head(&self) -> u64 {
        self.memory.load_u64(HEAD_AT)
    }

    fn tail(&self) -> u64 {
        self.memory.load_u64(TAIL_AT)
    }

    fn set_tail(&self, position: u64) {
        self.memory.store_u64(TAIL_AT, position);
    }

    fn word(&self, place: usize) -> u32 {
        self.memory.load_u32(self.data_start + place)
    }

    fn copy(&self, place: usize, into: &mut [u8]) {
        self.memory.copy_to(self.data_start + place, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::ring_memory::testing::{heap, Heap};

    fn ring_at(position: u64) -> PerfRing<Heap> {
        PerfRing::over(heap(position), 64)
    }

    fn put(ring: &PerfRing<Heap>, kind: u32, size: u16, body: &[u8]) {
        let mut record = kind.to_le_bytes().to_vec();
        record.extend_from_slice(&[0, 0]);
        record.extend_from_slice(&size.to_le_bytes());
        record.extend_from_slice(body);
        ring.reader.put(&record);
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
            assert!(ring.is_empty());
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
        ring.reader.set_head(u64::MAX);
        assert!(drain(&mut ring).is_empty(), "further than the ring");
    }
}
