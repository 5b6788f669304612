//! What a crash is, as plain data: the delivery of a signal, the registers, the frames
//! of a stack, and the numbers and names that the kernel's ABI gives them.
//!
//! Nothing here reads a file, makes a system call or decides anything that needs more
//! than its arguments.

pub mod event;
pub mod fault;
pub mod frame;
pub mod futex;
pub mod kinds;
pub mod memory;
pub mod registers;
pub mod signals;
pub mod threads;
