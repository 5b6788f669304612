//! The kernel boundary: every system call, and all that is unsafe.
#![allow(unsafe_code)]

pub mod file;
pub mod vdso;
