//! Three kinds of number that are easily mistaken for one another.
//!
//! A [`ProcessAddress`] is what the crashed program saw: a register's value, a
//! return address. A [`FileAddress`] is the same place as the linker numbered it
//! (`p_vaddr`, `st_value`): symbol tables and call-frame information use it. A
//! [`FileOffset`] counts bytes from the start of the ELF file. A mapping turns the
//! first into the third, a program header the third into the second.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// This many bytes further on, if there is such a place.
            #[must_use]
            pub fn checked_add(self, bytes: u64) -> Option<Self> {
                self.0.checked_add(bytes).map($name)
            }

            /// This many bytes back, if there is such a place.
            #[must_use]
            pub fn checked_sub(self, bytes: u64) -> Option<Self> {
                self.0.checked_sub(bytes).map($name)
            }

            /// The distance from `start` up to here, if this lies not below it.
            #[must_use]
            pub fn offset_from(self, start: Self) -> Option<u64> {
                self.0.checked_sub(start.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// An address in the crashed process.
    ProcessAddress
}
address! {
    /// A virtual address as the ELF file numbers it, before any load bias.
    FileAddress
}
address! {
    /// Bytes from the start of a file.
    FileOffset
}
