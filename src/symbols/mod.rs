//! Names for addresses, from the symbol tables of ELF files.
//!
//! In come bytes of files that anybody may have written, and addresses as their
//! linker numbered them; out go raw names with the start of what they name.
//! Names are not indexed: a batch of addresses is answered by one pass over a symbol
//! table in windows, so that a file of any size costs the same memory, and
//! [`resolver::Resolver`] remembers the answers.
//!
//! [`elf`] reads the files, `lines` their lines and inlined calls, [`perf_map`] the map
//! that a just-in-time compiler writes of its code. [`demangle`] makes names of Rust and
//! C++ readable. [`crate::base::budget`] limits the memory of all caches together.

pub mod demangle;
pub mod elf;
#[cfg(feature = "lines")]
pub mod lines;
pub mod perf_map;
#[cfg(feature = "lines")]
pub mod places;
pub mod resolver;
