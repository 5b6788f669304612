//! What every room may use, and what uses no room of ours: addresses, foreign bytes,
//! errors, the texts of /proc, and the budget that caches share.

pub mod address;
pub mod budget;
pub mod bytes;
pub mod error;
pub mod procfs;
pub mod structs;
