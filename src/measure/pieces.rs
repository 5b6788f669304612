//! Kernel memory as the search sees it: words at addresses, or nothing.
//!
//! Memory comes in aligned pieces of 256 bytes through [`Memory`] (the probe, or a
//! test's recording) and each piece is asked for once. What cannot be read is no
//! error: a guess led there.

use std::collections::HashMap;

/// Bytes that are read at a time.
pub const PIECE: usize = 256;
/// Longest name of a file, and its NUL.
const NAME_BYTES: usize = 256;

/// Something that can read the kernel's memory.
pub trait Memory {
    /// The pieces at these addresses, each a multiple of [`PIECE`]; in their order.
    fn read(&mut self, addresses: &[u64]) -> Vec<Option<[u8; PIECE]>>;
}

/// Memory with what was read of it so far.
pub struct Pieces<'a> {
    memory: &'a mut dyn Memory,
    known: HashMap<u64, Option<Box<[u8; PIECE]>>>,
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces")
            .field("known", &self.known.len())
            .finish_non_exhaustive()
    }
}

/// Whether a word can be the address of a kernel structure: with five levels of page tables
/// they begin at 0xff00..., and error numbers stand at the end.
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
        Pieces {
            memory,
            known: HashMap::new(),
        }
    }

    /// Lets go of all that was read.
    pub fn forget(&mut self) {
        self.known = HashMap::new();
    }

    /// Reads what is not known yet of `bytes` at each address, many at once.
    pub fn want(&mut self, addresses: &[u64], bytes: usize) {
        let mut missing = Vec::new();
        for &address in addresses {
            if !is_kernel_address(address) {
                continue;
            }
            let mut at = piece_of(address);
            let end = address.saturating_add(bytes as u64);
            while at < end {
                if !self.known.contains_key(&at) && !missing.contains(&at) {
                    missing.push(at);
                }
                at = at.saturating_add(PIECE as u64);
            }
        }
        let read = self.memory.read(&missing);
        for (at, piece) in missing.into_iter().zip(read) {
            self.known.insert(at, piece.map(Box::new));
        }
    }

    fn piece(&mut self, at: u64) -> Option<&[u8; PIECE]> {
        if !self.known.contains_key(&at) {
            self.want(&[at], PIECE);
        }
        self.known.get(&at)?.as_deref()
    }

    /// `N` bytes at an address of the kernel's.
    pub fn bytes<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        let mut found = [0; N];
        self.fill(address, &mut found).then_some(found)
    }

    fn fill(&mut self, address: u64, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            let Some(here) = address.checked_add(done as u64) else {
                return false;
            };
            if !is_kernel_address(here) {
                return false;
            }
            let within = (here - piece_of(here)) as usize;
            let Some(piece) = self.piece(piece_of(here)) else {
                return false;
            };
            let part = &piece[within..];
            let len = part.len().min(into.len() - done);
            into[done..done + len].copy_from_slice(&part[..len]);
            done += len;
        }
        true
    }

    pub fn u32(&mut self, address: u64) -> Option<u32> {
        self.bytes(address).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, address: u64) -> Option<u64> {
        self.bytes(address).map(u64::from_le_bytes)
    }

    /// The word at an address, if it can be one itself.
    pub fn pointer(&mut self, address: u64) -> Option<u64> {
        self.u64(address).filter(|word| is_kernel_address(*word))
    }

    /// Whether exactly this text and a NUL stand at an address.
    pub fn is_text(&mut self, address: u64, text: &[u8]) -> bool {
        let mut found = [0xff; NAME_BYTES];
        let Some(found) = found.get_mut(..=text.len()) else {
            return false;
        };
        self.fill(address, found) && found.ends_with(&[0]) && found.starts_with(text)
    }

    /// What can be addresses among the words of a structure, and where each stands.
    pub fn pointers(&mut self, start: u64, bytes: u32) -> Vec<(u32, u64)> {
        self.want(&[start], bytes as usize);
        (0..bytes)
            .step_by(8)
            .filter_map(|at| Some((at, self.pointer(start + u64::from(at))?)))
            .collect()
    }
}
