//! Kernel memory as the search sees it: words at addresses, or nothing.
//!
//! Memory comes in aligned pieces of 256 bytes through [`Memory`] (the probe, or a
//! test's recording) and each piece is asked for once. Memory that cannot be read is not
//! an error: the address was a guess.

use crate::base::bytes::Cursor;

/// Bytes that are read at a time.
pub const PIECE: usize = 256;

/// Places in the table; as many pieces may be read as leave a quarter of it free.
const SLOTS: usize = 1 << 14;
const MOST_PIECES: usize = SLOTS / 4 * 3;

pub type Piece = Option<Box<[u8; PIECE]>>;

/// Something that can read the kernel's memory.
pub trait Memory {
    /// The pieces at these addresses, each a multiple of [`PIECE`]; in their order.
    fn read(&mut self, addresses: &[u64]) -> Vec<Piece>;
}

/// Memory, and the pieces that were read so far.
pub struct Pieces<'a> {
    memory: &'a mut dyn Memory,
    /// By the hash of the address, or at the next place that is free: 0.
    slots: Vec<(u64, Piece)>,
    used: usize,
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

/// Whether a word can be the address of a kernel structure: with five levels of page tables
/// they begin at 0xff00..., and error numbers are at the end.
#[must_use]
pub fn is_kernel_address(word: u64) -> bool {
    (0xff00_0000_0000_0000..0xffff_ffff_ffff_f000).contains(&word)
}

fn piece_of(address: u64) -> u64 {
    address & !(PIECE as u64 - 1)
}

impl<'a> Pieces<'a> {
    #[must_use]
    pub fn new(memory: &'a mut dyn Memory) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(SLOTS, || (0, None));
        Pieces {
            memory,
            slots,
            used: 0,
        }
    }

    /// Where the piece at an address is, or would be.
    fn slot(&self, address: u64) -> usize {
        let hash = (address / PIECE as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut slot = hash as usize % SLOTS;
        while self.slots[slot].0 != address && self.slots[slot].0 != 0 {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// Reads the pieces that are not known yet, from offset `from` to `to` after each address,
    /// many at once.
    pub fn want(&mut self, addresses: &[u64], from: i32, to: i32) {
        let mut missing = Vec::new();
        for address in addresses {
            let end = address.wrapping_add_signed(to.into());
            let mut at = piece_of(address.wrapping_add_signed(from.into()));
            while at < end && is_kernel_address(at) {
                let slot = self.slot(at);
                if self.slots[slot].0 == 0 && self.used < MOST_PIECES {
                    self.slots[slot].0 = at;
                    self.used += 1;
                    missing.push(at);
                }
                at += PIECE as u64;
            }
        }
        if missing.is_empty() {
            return;
        }
        let read = self.memory.read(&missing);
        for (at, piece) in missing.into_iter().zip(read) {
            let slot = self.slot(at);
            self.slots[slot].1 = piece;
        }
    }

    /// The word at a kernel address; bytes that cannot be read are zero.
    pub fn u64(&mut self, address: u64) -> Option<u64> {
        let start = piece_of(address);
        self.want(&[start], 0, 1);
        let within = (address - start) as usize;
        let piece = self.slots[self.slot(start)].1.as_deref()?;
        match Cursor::at(piece, within).u64() {
            Ok(word) => Some(word),
            Err(_) => {
                let low = Cursor::at(piece, within).u32().ok()?;
                let next = self.u64(start.checked_add(PIECE as u64)?)?;
                Some(u64::from(low) | next << 32)
            }
        }
    }

    /// The word at an address, if it can be one itself.
    pub fn pointer(&mut self, address: u64) -> Option<u64> {
        self.u64(address).filter(|word| is_kernel_address(*word))
    }
}
