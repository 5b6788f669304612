//! Words of captured memory, and words in pieces of it.

use super::AddressSpace;
use crate::address::ProcessAddress;

/// A word of both processors.
pub(super) const WORD: u64 = 8;

/// The word at an address; the address itself when it was not captured.
pub(super) fn word(
    space: &dyn AddressSpace,
    address: ProcessAddress,
) -> Result<u64, ProcessAddress> {
    let mut bytes = [0; WORD as usize];
    match space.read_memory(address, &mut bytes) {
        Some(()) => Ok(u64::from_le_bytes(bytes)),
        None => Err(address),
    }
}

/// The little-endian value of 1 to 8 bytes; `None` for another size or memory
/// that was not captured.
#[cfg(feature = "dwarf")]
pub(super) fn sized(space: &dyn AddressSpace, address: ProcessAddress, size: u8) -> Option<u64> {
    let mut bytes = [0; WORD as usize];
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
