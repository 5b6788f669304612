//! The memory of a ring that the kernel fills, whatever its records look like.
//!
//! The kernel's ring buffer for BPF ([`super::ring::buffer`]) and the rings of perf events
//! ([`super::perf::buffer`]) differ in their records and agree in the rest: the kernel
//! moves the head, the reader moves the tail, both only grow, and the place of a position
//! is itself modulo the size, a power of two. Records may wrap.
//!
//! The protocols work on any [`RingMemory`], so that they are tested on the heap.

/// Where a ring's positions and bytes are.
pub(super) trait RingMemory {
    /// Up to where the kernel has written. Pairs with its release of that position:
    /// `smp_store_release(&rb->producer_pos)` in `__bpf_ringbuf_reserve()`, and the barrier
    /// before `WRITE_ONCE(rb->user_page->data_head, head)` in `perf_output_put_handle()`.
    fn head(&self) -> u64;
    /// Up to where records were taken.
    fn tail(&self) -> u64;
    /// Frees what lies before a position. Pairs with the kernel's
    /// `smp_load_acquire(&rb->consumer_pos)` in `__bpf_ringbuf_reserve()`, and its control
    /// dependency on `data_tail` in `__perf_output_begin()`.
    fn set_tail(&self, position: u64);
    /// An aligned word of the data. Pairs with the `xchg()` of `bpf_ringbuf_commit()`.
    fn word(&self, place: usize) -> u32;
    /// Copies data out; never past the end of the ring.
    fn copy(&self, place: usize, into: &mut [u8]);
}

/// The reader's end of a ring: positions in, bytes out.
#[derive(Debug)]
pub(super) struct Reader<M> {
    memory: M,
    bytes: u64,
}

impl<M: RingMemory> Reader<M> {
    /// Over `bytes` of data, a power of two.
    pub(super) fn over(memory: M, bytes: u64) -> Self {
        Reader { memory, bytes }
    }

    /// Bytes of data that the ring holds.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the next record begins, and how many bytes from there on were not taken;
    /// `None` if these cannot hold a header of `least` bytes.
    #[must_use]
    pub(super) fn unread(&self, least: u64) -> Option<(u64, u64)> {
        let tail = self.memory.tail();
        let unread = self.memory.head().wrapping_sub(tail);
        // More than the ring holds would be a position that is not the kernel's.
        (least..=self.bytes)
            .contains(&unread)
            .then_some((tail, unread))
    }

    /// How many bytes were not taken, as the positions say.
    #[must_use]
    pub(super) fn unread_bytes(&self) -> u64 {
        self.memory.head().wrapping_sub(self.memory.tail())
    }

    /// The aligned word at a position.
    #[must_use]
    pub(super) fn word(&self, position: u64) -> u32 {
        self.memory.word(self.place(position))
    }

    /// Copies what begins at a position, in two pieces if it wraps.
    pub(super) fn copy(&self, position: u64, into: &mut [u8]) {
        let place = self.place(position);
        let until_wrap = (self.bytes as usize - place).min(into.len());
        let (first, rest) = into.split_at_mut(until_wrap);
        self.memory.copy(place, first);
        if !rest.is_empty() {
            self.memory.copy(0, rest);
        }
    }

    /// Frees what lies before a position.
    pub(super) fn free(&self, position: u64) {
        self.memory.set_tail(position);
    }

    fn place(&self, position: u64) -> usize {
        (position & (self.bytes - 1)) as usize
    }
}

/// A ring on the heap, for tests of both protocols.
#[cfg(test)]
pub(super) mod testing {
    use super::{Reader, RingMemory};
    use std::cell::{Cell, RefCell};

    #[derive(Debug)]
    pub(in crate::capture) struct Heap {
        data: RefCell<Vec<u8>>,
        head: Cell<u64>,
        tail: Cell<u64>,
    }

    impl RingMemory for Heap {
        fn head(&self) -> u64 {
            self.head.get()
        }
        fn tail(&self) -> u64 {
            self.tail.get()
        }
        fn set_tail(&self, position: u64) {
            self.tail.set(position);
        }
        fn word(&self, place: usize) -> u32 {
            let data = self.data.borrow();
            let bytes = data[place..place + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        }
        fn copy(&self, place: usize, into: &mut [u8]) {
            into.copy_from_slice(&self.data.borrow()[place..place + into.len()]);
        }
    }

    /// An empty ring of 64 bytes whose next record begins at a position.
    pub(in crate::capture) fn heap(position: u64) -> Heap {
        Heap {
            data: RefCell::new(vec![0; 64]),
            head: Cell::new(position),
            tail: Cell::new(position),
        }
    }

    /// What a test does in the kernel's place.
    impl Reader<Heap> {
        pub(in crate::capture) fn put(&self, record: &[u8]) {
            let head = self.memory.head();
            for (position, byte) in (head..).zip(record) {
                self.memory.data.borrow_mut()[(position % 64) as usize] = *byte;
            }
            self.set_head(head + record.len() as u64);
        }

        pub(in crate::capture) fn set_head(&self, position: u64) {
            self.memory.head.set(position);
        }

        pub(in crate::capture) fn overwrite(&self, place: usize, bytes: &[u8]) {
            self.memory.data.borrow_mut()[place..place + bytes.len()].copy_from_slice(bytes);
        }
    }
}
