//! Crashes of Rust. Its runtime handles SIGSEGV to tell a stack overflow: other
//! faults come twice, an overflow is reported and ends in an abort.
//!
//! chain null_write: null_write inner middle outer main <start>
//! chain in_closure: null_write *in_closure*closure* ... in_closure inner middle outer main <start>
//! chain in_generic: null_write ... calls in_generic inner middle outer main <start>
//! chain in_thread: null_write threaded <thread>
//! chain in_drop: null_write *Drop*drop ... drops inner middle outer main <start>
//! chain overflow: recurse+ <depth>
//! chain in_catch_unwind: null_write ... catches inner middle outer main <start>
//! cause overflow: stack_overflow

use std::hint::black_box;

#[inline(never)]
fn null_write() {
    let nowhere = black_box(std::ptr::null_mut::<u32>());
    unsafe { nowhere.write_volatile(1) };
    black_box(());
}

#[inline(never)]
fn in_closure() {
    let number = black_box(3);
    let closure: Box<dyn Fn()> = Box::new(move || {
        null_write();
        black_box(number);
    });
    inner_most(closure);
}

// Leaves the closure as the only frame between.
#[inline(always)]
fn inner_most(closure: Box<dyn Fn()>) {
    black_box(closure)();
    black_box(());
}

#[inline(never)]
fn calls<F: Fn()>(function: F) {
    function();
    black_box(4);
}

#[inline(never)]
fn in_generic() {
    calls(black_box(null_write as fn()));
    black_box(());
}

#[inline(never)]
fn threaded() {
    null_write();
    black_box(());
}

#[inline(never)]
fn in_thread() {
    let _ = std::thread::spawn(threaded).join();
    black_box(());
}

struct Guard(u32);

impl Drop for Guard {
    #[inline(never)]
    fn drop(&mut self) {
        null_write();
        black_box(self.0);
    }
}

#[inline(never)]
fn drops() {
    drop(black_box(Guard(1)));
    black_box(());
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let locals = black_box([depth; 64]);
    recurse(depth + 1) + locals[3]
}

#[inline(never)]
fn overflow() {
    black_box(recurse(0));
}

#[inline(never)]
fn catches() {
    let _ = black_box(std::panic::catch_unwind(null_write));
    black_box(());
}

#[inline(never)]
fn inner(run: fn()) {
    run();
    black_box(1);
}

#[inline(never)]
fn middle(run: fn()) {
    inner(run);
    black_box(2);
}

#[inline(never)]
fn outer(run: fn()) {
    middle(run);
    black_box(3);
}

fn main() {
    let run = match std::env::args().nth(1).as_deref() {
        Some("null_write") => null_write,
        Some("in_closure") => in_closure,
        Some("in_generic") => in_generic,
        Some("in_thread") => in_thread,
        Some("in_drop") => drops,
        Some("overflow") => overflow,
        Some("in_catch_unwind") => catches,
        _ => std::process::exit(2),
    };
    outer(run);
    black_box(());
}
