//! Pieces of memory of a crashed process.

use crate::base::address::ProcessAddress;

/// A piece of the process's memory, copied at the crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryWindow {
    pub address: ProcessAddress,
    pub bytes: Vec<u8>,
}

impl MemoryWindow {
    /// The `len` bytes at `address`, if the window holds them all.
    #[must_use]
    pub fn get(&self, address: ProcessAddress, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.offset_from(self.address)?).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}
