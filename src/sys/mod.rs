//! The boundary to the kernel: every system call that the standard
//! library lacks, and all of the `unsafe` code.
//!
//! Outside this directory descriptors are owned or borrowed types, memory is
//! slices, and numbers have names. Each module wraps one part of the kernel's
//! interface and decides nothing.
//!
//! # Safety
//!
//! `unsafe` is allowed here and nowhere else (`lib.rs` denies it). Each block
//! holds one operation and says which fact makes it sound and where that fact
//! was established. All functions are safe: none has conditions beyond its signature.

#![allow(unsafe_code)]

pub mod bpf;
pub mod chance;
pub mod command;
pub mod confine;
pub mod events;
pub mod file;
pub mod hotplug;
mod look_up;
pub mod messages;
pub mod mmap;
pub mod opener;
pub mod output_file;
pub mod own_crash;
pub mod own_fault;
pub mod own_files;
pub mod perf;
pub mod process;
mod seccomp;
pub mod streams;
#[cfg(all(target_env = "musl", panic = "abort"))]
mod thread_name;
pub mod time;
pub mod tracefs;
pub mod unmounted;
#[cfg(all(target_env = "musl", panic = "abort"))]
mod unwinder;
pub mod vdso;
