//! Every crash on this host, named while it happens.
//!
//! This library is what the `segfault_analyzer` binary is made of; it exists so
//! that tests can reach the parts.
#![deny(unsafe_code)]

pub mod address;
pub mod bytes;
pub mod error;
pub mod event;
pub mod modules;
pub mod registers;
pub mod report;
pub mod symbols;
pub mod sys;
pub mod unwind;
