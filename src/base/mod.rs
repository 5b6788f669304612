//! What every component may use, and what uses none of them: addresses, foreign bytes,
//! errors, the texts of /proc, the budget that caches share, what a report may cost.

pub mod address;
pub mod allowance;
pub mod budget;
pub mod bytes;
pub mod error;
pub mod order;
pub mod procfs;
pub mod structs;
