//! Every crash on this host, named while it happens.
//!
//! This library is what the `segfault_analyzer` binary is made of; it exists so
//! that tests can reach the parts. This page is for whoever maintains them: how a
//! crash becomes a report, and why the modules are cut where they are.
//!
//! # From a signal to a line
//!
//! ```text
//! command line ──cli──▶ Config
//!
//! prebuilt object ──loader──▶ program in the kernel, attached      once, at start
//!                             │
//!                             │ parts of records                   bpf/event.h
//!                             ▼
//!          ring ──ringbuf──▶ bytes ──abi──▶ Part ──assemble──▶ Event
//!
//! Event ──space, modules──▶ mappings, and the files behind them
//!       ──unwind──────────▶ frames          registers and captured stack, no files
//!       ──symbols─────────▶ names
//!       ──cause ──────────▶ why: a token and a sentence     decode: the instruction
//!       ──signature ──────▶ what equal crashes have in common
//!       ──fault, deaths,
//!         clock───────────▶ access, one death or several, time of day
//!       ──analyze─────────▶ Report
//!
//! Report ──follow──▶ the same, with how its process ended that had handled the fault
//!        ──repeats─▶ the same, or the number of those that are alike
//! Report ──output──▶ text or JSON ──sink──▶ file or pipe
//!
//! lines from elsewhere ──desk──▶ the same with names, or a table of them
//! ```
//!
//! [`monitor`] is the loop around it: one thread, one epoll. It empties the ring into
//! a bounded queue first and analyzes afterwards, so that a burst fills our memory
//! before it fills the ring. [`capture`] is what it sees of the kernel's side: the
//! program, its ring and its books, [`stats`].
//!
//! # Three rules, and what they are for
//!
//! **Decisions are pure, effects are thin.** Relocating a program for a kernel,
//! walking a stack, wording a report are functions from bytes to values. They are
//! tested with kernels that are not running and crashes that happened elsewhere,
//! and fuzzed. What acts on the system is small and is called from few places:
//! `loader::kernel` and `loader::attach`, [`ringbuf`], [`modules`], `output::sink`,
//! [`clock`], [`start`], [`monitor`], [`app`].
//!
//! **The kernel boundary is one directory.** All system calls that the standard
//! library does not have, and all unsafe code, are in [`sys`], one wrapper for each
//! command of the kernel. Kernel spellings end there and in [`abi`].
//!
//! **A partial answer with a reason beats no answer.** By the time that we look the
//! process is usually gone; memory, files and names may be missing. What is not known
//! is `None` in the [`report::Report`] and listed in `lost`; what is dropped is
//! counted. An [`error::Error`] is only what ends the program.
//!
//! # Who may import whom
//!
//! Imports point down only; `tests/layering.rs` has the table and fails otherwise.
//!
//! ```text
//! app ─ monitor
//!  ├─ start ──── capture, measure, assemble
//!  ├─ capture ── loader, ringbuf
//!  ├─ analyze ── space ── modules ── symbols ── unwind
//!  │             cause ── decode, fault, unwind
//!  │             located, signature ── dying, clock, deaths
//!  ├─ desk ───── located, output
//!  ├─ output ─── report ── unwind (how a frame was found)
//!  ├─ assemble ─ abi, event ── registers
//!  ├─ decode ─── registers
//!  └─ cli, stats
//! anyone ── address, bytes, error, keyed   these import nothing of ours but sys
//! ```
//!
//! [`unwind`] opens no file, so that every hard stack can be laid out by hand in a
//! test: registers, a reader of captured memory and bytes of sections come in.
//! [`report`] is plain data and [`output`] alone words it, so that text and JSON
//! cannot disagree. `object`, `btf`, `relo` and `insn` of [`loader`] know no kernel:
//! the same bytes give the same plan.
//!
//! Addresses in the process, addresses in a file and offsets into it are three types
//! ([`address`]): mixing them up is the classic mistake of this trade.
//!
//! # What is hostile
//!
//! Any user can shape the process, its memory and its files, and we read them as root.
//! [`bytes`] is the only way through foreign bytes; sizes, depths and work are capped;
//! files are opened by `sys::file` and `modules::search` with care for what may have
//! taken their place; text is escaped by `output::escape` and nowhere else.
#![deny(unsafe_code)]

pub mod abi;
pub mod address;
pub mod analyze;
pub mod app;
pub mod assemble;
pub mod bytes;
pub mod capture;
pub mod cause;
pub mod check;
pub mod cli;
pub mod clock;
pub mod deaths;
pub mod decode;
pub mod desk;
pub mod dying;
pub mod error;
pub mod event;
pub mod fault;
pub mod fold;
pub mod follow;
pub mod keyed;
pub mod loader;
pub mod located;
pub mod measure;
pub mod messages;
pub mod modules;
pub mod monitor;
pub mod nearby;
pub mod output;
pub mod perfring;
pub mod procfs;
pub mod registers;
pub mod repeats;
pub mod report;
pub mod ringbuf;
pub mod signature;
pub mod space;
pub mod start;
pub mod stats;
pub mod symbols;
pub mod sys;
pub mod unwind;
