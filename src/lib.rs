//! Every crash on this host, named while it happens.
//!
//! This library is what the `segfault_analyzer` binary is made of; it exists so
//! that tests can reach the parts.
#![deny(unsafe_code)]

pub mod abi;
pub mod address;
pub mod analyze;
pub mod app;
pub mod assemble;
pub mod bytes;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod deaths;
pub mod error;
pub mod event;
pub mod fault;
pub mod loader;
pub mod modules;
pub mod output;
pub mod registers;
pub mod report;
pub mod ringbuf;
pub mod space;
pub mod stats;
pub mod symbols;
pub mod sys;
pub mod unwind;
