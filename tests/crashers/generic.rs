//! A null pointer write in Rust, below a generic function and a closure, so that
//! the names on its stack are mangled ones.
//!
//! Dies by SIGSEGV (SEGV_MAPERR, address 0) after two deliveries: Rust's runtime has
//! a handler, which restores the default action and returns into the fault.
//! Chain: generic::poke, generic::main's closure, generic::call_it, generic::main,
//! then Rust's runtime, main, libc.

use std::hint::black_box;
use std::ptr;

#[inline(never)]
fn poke<T: Copy>(target: *mut T, value: T) -> usize {
    // SAFETY: none; this is the crash.
    unsafe { ptr::write_volatile(black_box(target), value) };
    black_box(1)
}

#[inline(never)]
fn call_it(job: &dyn Fn(u64) -> usize) -> usize {
    let got = job(black_box(7));
    black_box(got) + 1
}

fn main() {
    let target: *mut u64 = black_box(ptr::null_mut());
    let job = move |value: u64| {
        let got = poke(target, value);
        black_box(got) + 1
    };
    let got = call_it(black_box(&job));
    black_box(got);
}
