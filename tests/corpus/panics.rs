//! Crashes of Rust while it panics, through C, and in code that is not quite its own.
//!
//! chain in_drop_of_panic: null_write *Drop*drop ... guarded ... in_drop_of_panic inner middle outer main <start>
//! chain in_hook: null_write hook [*in_hook*closure*] ... in_hook inner middle outer main <start>
//! chain after_panic: null_write after_panic inner middle outer main <start>
//! chain through_c: null_write compare ... through_c inner middle outer main <start>
//! chain panic_through_c: null_write compare ... through_c ... panic_through_c inner middle outer main <start>
//! chain in_dyn: null_write *Circle*area in_dyn inner middle outer main <start>
//! chain in_iterator: null_write doubled ... in_iterator inner middle outer main <start>
//! chain in_future: null_write [*waits*] ... in_future inner middle outer main <start>
//! chain in_scope: null_write scoped <thread>
//! chain in_once: null_write ... in_once inner middle outer main <start>
//! chain in_thread_local: null_write *Drop*drop ... <thread>

use std::ffi::{c_int, c_void};
use std::future::Future;
use std::hint::black_box;
use std::panic::{catch_unwind, set_hook};

#[inline(never)]
fn null_write() {
    let nowhere = black_box(std::ptr::null_mut::<u32>());
    unsafe { nowhere.write_volatile(1) };
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
fn guarded() {
    let guard = Guard(black_box(1));
    if black_box(true) {
        panic!("on its way");
    }
    black_box(guard.0);
}

#[inline(never)]
fn in_drop_of_panic() {
    set_hook(Box::new(|_| ()));
    let _ = catch_unwind(guarded);
    black_box(());
}

#[inline(never)]
fn hook() {
    null_write();
    black_box(());
}

#[inline(never)]
fn in_hook() {
    set_hook(Box::new(|_| hook()));
    if black_box(true) {
        panic!("reported to the hook");
    }
    black_box(());
}

#[inline(never)]
fn panics() {
    if black_box(true) {
        panic!("to be caught");
    }
    black_box(());
}

#[inline(never)]
fn after_panic() {
    set_hook(Box::new(|_| ()));
    let _ = catch_unwind(panics);
    null_write();
    black_box(());
}

extern "C" {
    fn qsort(
        base: *mut c_void,
        count: usize,
        size: usize,
        compare: extern "C" fn(*const c_void, *const c_void) -> c_int,
    );
}

#[inline(never)]
extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
    null_write();
    black_box(0)
}

#[inline(never)]
fn through_c() {
    let mut numbers = black_box([3_u32, 1, 2, 0]);
    unsafe { qsort(numbers.as_mut_ptr().cast(), 4, 4, compare) };
    black_box(numbers);
}

#[inline(never)]
fn panic_through_c() {
    set_hook(Box::new(|_| ()));
    let _ = catch_unwind(through_c);
    black_box(());
}

trait Shape {
    fn area(&self) -> u32;
}

struct Circle(u32);

impl Shape for Circle {
    #[inline(never)]
    fn area(&self) -> u32 {
        null_write();
        black_box(self.0)
    }
}

#[inline(never)]
fn in_dyn() {
    let shape: Box<dyn Shape> = black_box(Box::new(Circle(black_box(1))));
    black_box(shape.area());
}

#[inline(never)]
fn doubled(number: &u32) -> u32 {
    null_write();
    black_box(*number * 2)
}

#[inline(never)]
fn in_iterator() {
    let function = black_box(doubled as fn(&u32) -> u32);
    let numbers: Vec<u32> = black_box(vec![1, 2, 3]).iter().map(function).collect();
    black_box(numbers);
}

#[inline(never)]
async fn waits() {
    null_write();
    black_box(());
}

#[inline(never)]
fn in_future() {
    use std::task::{Context, Waker};
    let mut future = Box::pin(waits());
    let mut context = Context::from_waker(Waker::noop());
    let _ = black_box(future.as_mut().poll(&mut context));
    black_box(());
}

#[inline(never)]
fn scoped() {
    null_write();
    black_box(());
}

#[inline(never)]
fn in_scope() {
    std::thread::scope(|scope| {
        scope.spawn(scoped);
    });
    black_box(());
}

#[inline(never)]
fn in_once() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(null_write);
    black_box(());
}

std::thread_local! {
    static LOCAL: Guard = Guard(black_box(1));
}

#[inline(never)]
fn in_thread_local() {
    let _ = std::thread::spawn(|| LOCAL.with(|guard| black_box(guard.0))).join();
    black_box(());
}

#[inline(never)]
fn inner(run: fn()) {
    run();
    black_box(());
}

#[inline(never)]
fn middle(run: fn()) {
    inner(run);
    black_box(());
}

#[inline(never)]
fn outer(run: fn()) {
    middle(run);
    black_box(());
}

fn main() {
    let run: fn() = match std::env::args().nth(1).as_deref() {
        Some("in_drop_of_panic") => in_drop_of_panic,
        Some("in_hook") => in_hook,
        Some("after_panic") => after_panic,
        Some("through_c") => through_c,
        Some("panic_through_c") => panic_through_c,
        Some("in_dyn") => in_dyn,
        Some("in_iterator") => in_iterator,
        Some("in_future") => in_future,
        Some("in_scope") => in_scope,
        Some("in_once") => in_once,
        Some("in_thread_local") => in_thread_local,
        _ => panic!("no such scenario"),
    };
    outer(black_box(run));
    black_box(());
}
