//! Reports every crash on this host while it happens.
//!
//! The `segfault_analyzer` binary is made of this library, which exists so that tests can
//! reach the parts. This page is for maintainers: how a crash becomes a report, and why the
//! code is divided into these components (the modules at this level). `docs/design.md` has
//! recipes for common changes, `docs/performance.md` the budgets.
//!
//! # From a signal to a line
//!
//! ```text
//! command line ──cli──▶ Config                                     config
//!
//! Config ──start()──▶ StartConfig, CaptureConfig                   each component gets a piece
//!        ──monitor()▶ MonitorConfig, AnalysisConfig, ...
//!
//! StartConfig ──start──▶ Capture which capture method; proved on a child of ours
//!                     │
//!                     │ parts of records                           bpf/event.h
//!                     ▼
//!          ring ──capture::{ring, chain, perf}──▶ bytes ──capture::record──▶ Event
//!
//! Event ──analyze::space, modules──▶ mappings, and their files
//!       ──unwind──────────▶ frames          registers and captured stack, no files
//!       ──symbols─────────▶ names
//!       ──analyze::cause──▶ why: a word and a sentence      decode: the instruction
//!       ──analyze─────────▶ Report
//!
//! Report ──report::signature──▶ what equal crashes have in common
//!        ──report::repeats────▶ folded, limited, or passed on
//!        ──report::output─────▶ text or JSON ──sink──▶ file or pipe
//!
//! reports from elsewhere ──desk──▶ the same with names, or a table of them
//! ```
//!
//! [`monitor`] is the loop around it: one thread, one epoll. It first empties the rings into
//! a bounded queue and then analyzes, so that a burst fills our memory before it fills the
//! ring.
//!
//! # Three rules, and what they are for
//!
//! **Decisions are pure, effects are thin.** Relocating a program for a kernel, walking a
//! stack, wording a report are functions from bytes to values. They are tested with kernels
//! that are not running and crashes that happened elsewhere, and they are fuzzed. Few places
//! act on the system: `loader::kernel` and `loader::attach`, [`capture`], [`modules`],
//! `report::output::sink`, `analyze::clock`, [`start`], [`monitor`], [`app`].
//!
//! **The kernel boundary is one directory.** All system calls that the standard library
//! lacks, and all unsafe code, are in [`sys`], one wrapper for each command of the kernel.
//! The layout of records is in [`capture::record::abi`] alone.
//!
//! **A partial answer with a reason beats no answer.** The process is usually gone when we
//! look; memory, files and names may be missing. What is unknown is `None` in the
//! [`report::Report`] and named in `lost`; what is dropped is counted. Only what ends the
//! program is an [`base::error::Error`].
//!
//! # Who may import whom
//!
//! Imports point down only. `GRAPH` in tests/layering.rs is the whole table;
//! docs/design.md has a picture.
//!
//! [`unwind`] opens no file, so that a test can lay out every hard stack by hand. It gets
//! registers, a reader of captured memory and the bytes of sections. [`report`] is plain data,
//! and only `report::output` turns it into words, so that text and JSON cannot disagree.
//! `object`, `btf`, `relo` and `insn` of [`loader`] depend on no running kernel: the same
//! bytes give the same result.
//!
//! Addresses in the process, addresses in a file and offsets into it are three types
//! ([`base::address`]): mixing them up is the classic mistake in this field.
//!
//! # What is hostile
//!
//! Any user can shape a process, its memory and its files, and we read them as root.
//! [`base::bytes`] is the only way to read foreign bytes; sizes, depths and work are bounded;
//! `sys::file` and `modules::search` check that nothing else has taken the place of a file
//! that they open; only `report::output::escape` escapes text.
#![deny(unsafe_code)]
#![warn(unreachable_pub)]

pub mod analyze;
pub mod app;
pub mod base;
pub mod capture;
pub mod check;
pub mod cli;
pub mod config;
pub mod corefile;
pub mod crash;
pub mod decode;
pub mod desk;
pub mod keyed;
pub mod loader;
pub mod measure;
pub mod modules;
pub mod monitor;
pub mod report;
pub mod start;
pub mod symbols;
pub mod sys;
pub mod unwind;

/// What tests need from the host, in one file for all of them.
#[cfg(test)]
#[path = "../tests/host/mod.rs"]
pub(crate) mod host;
