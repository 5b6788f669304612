//! The kernel boundary: every `unsafe` block of the program is in this directory.
//!
//! What is here speaks the kernel's spellings and returns safe things: owned
//! descriptors, slices, numbers. Nothing here decides anything; one function is
//! one system call, or the few that only make sense together.
//!
//! # Safety
//!
//! The modules are allowed to write `unsafe`, and each block says which fact
//! makes it sound and where that fact was established. No function of this
//! directory asks its callers for more than its signature does.

pub mod bpf;
