//! Records, as the BPF programs write them: the layout of their parts ([`abi`]), and
//! the code that assembles the parts into an event ([`assemble`]).

pub mod abi;
pub mod assemble;
