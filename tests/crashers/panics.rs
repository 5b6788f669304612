//! Rust that ends itself, built with panic=abort: panics index | unwrap | abort.
//!
//! Each dies by SIGABRT (SI_TKILL). Chain: ... do_KIND main.

use std::hint::black_box;

#[inline(never)]
fn do_index(numbers: &[u32]) -> u32 {
    numbers[black_box(7)] + 1
}

#[inline(never)]
fn do_unwrap() -> u32 {
    black_box(None::<u32>).unwrap() + 1
}

#[inline(never)]
fn do_abort() -> u32 {
    if black_box(true) {
        std::process::abort();
    }
    1
}

fn main() {
    let value = match std::env::args().nth(1).as_deref() {
        Some("index") => do_index(&[1, 2, 3]),
        Some("unwrap") => do_unwrap(),
        Some("abort") => do_abort(),
        _ => 0,
    };
    black_box(value);
}
