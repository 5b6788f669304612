//! Words of captured memory, and words in pieces of it.

use super::architecture::Architecture;
use super::AddressSpace;
use crate::base::address::ProcessAddress;

/// The longest word.
const MAX_WORD: usize = 8;

/// The word at an address; the address itself when it was not captured.
pub(super) fn word<A: Architecture>(
    space: &dyn AddressSpace,
    address: ProcessAddress,
) -> Result<u64, ProcessAddress> {
    sized(space, address, A::WORD as u8).ok_or(address)
}

/// The little-endian value of 1 to 8 bytes; `None` for another size or memory
/// that was not captured.
pub(super) fn sized(space: &dyn AddressSpace, address: ProcessAddress, size: u8) -> Option<u64> {
    let mut bytes = [0; MAX_WORD];
    let wanted = bytes.get_mut(..usize::from(size))?;
    if wanted.is_empty() {
        return None;
    }
    space.read_memory(address, wanted)?;
    Some(u64::from_le_bytes(bytes))
}

/// An address some bytes further on, around the end of the address space.
pub(super) fn offset(address: ProcessAddress, bytes: u64) -> ProcessAddress {
    ProcessAddress(address.0.wrapping_add(bytes))
}

/// Words of a stack that point further up, as saved frame pointers do.
#[derive(Debug, Default)]
pub(super) struct Upward {
    /// What lies between was gone over.
    pub(super) floor: ProcessAddress,
    pub(super) end: ProcessAddress,
    pub(super) words: Vec<(ProcessAddress, u64)>,
}

impl Upward {
    /// The one before the one with that number, which it counts down.
    pub(super) fn next_below(&self, number: &mut usize) -> Option<(ProcessAddress, u64)> {
        *number = number.checked_sub(1)?;
        self.words.get(*number).copied()
    }
}
