//! Records, as the BPF programs write them: the layout of their parts ([`abi`]), and
//! what puts parts together to an event ([`assemble`]).

pub mod abi;
pub mod assemble;
