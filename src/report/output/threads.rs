//! The other threads in a report as text.
//!
//! ```text
//!   Other Threads (17 of 40):
//!   Thread 4711 (reader), in read(3):
//!     #0  0x7f65aadba24a read+0xd (/usr/lib/libc.so.6)
//!   Threads 12 to 27 (16 alike: worker), in futex(0x55d0c0a8, FUTEX_WAIT):
//!     #0  ...
//! ```
//!
//! The section has no empty line in it, so that a reader of a stream knows its end.

use crate::base::address::ProcessAddress;
use crate::crash::threads::State;
use crate::report::threads::{Call, ReportThread, ReportThreads, WaitsFor};

use super::escape;

/// Threads, or ranges of their numbers, that a line names.
const MAX_NAMED: usize = 8;

/// System calls whose first argument is the file descriptor on which they wait.
const OF_DESCRIPTORS: &str = "read write readv writev pread64 pwrite64 ioctl fcntl flock accept \
     accept4 connect recv recvfrom recvmsg recvmmsg send sendto sendmsg epoll_wait epoll_pwait \
     epoll_pwait2 fsync fdatasync io_uring_enter";

// The lines are made of many small pieces: inlined they would take most of the room.
#[inline(never)]
fn add(out: &mut String, pieces: &[&str]) {
    for piece in pieces {
        out.push_str(piece);
    }
}

#[inline(never)]
fn decimal(number: u32) -> String {
    number.to_string()
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    escape::text(&mut out, bytes);
    out
}

/// The first line of the section.
pub(super) fn title(out: &mut String, threads: &ReportThreads) {
    let captured = threads.list.len() as u32;
    add(out, &["  Other Threads (", &decimal(captured)]);
    let others = threads.count.map_or(0, |count| count.saturating_sub(1));
    if others > captured {
        add(out, &[" of ", &decimal(others)]);
    }
    add(out, &["):\n"]);
}

/// The line of one thread, or of several that are alike, without its end.
pub(super) fn heading(out: &mut String, alike: &[&ReportThread]) {
    let first = alike[0];
    let same_name = alike.iter().all(|thread| thread.name == first.name);
    let mut name = escaped(if same_name { &first.name } else { b"" });
    let mut word = "  Thread ";
    if alike.len() > 1 {
        word = "  Threads ";
        let colon = if name.is_empty() { "" } else { ": " };
        let mut about = decimal(alike.len() as u32);
        add(&mut about, &[" alike", colon, &name]);
        name = about;
    }
    add(out, &[word, &ranges(alike)]);
    if !name.is_empty() {
        add(out, &[" (", &name, ")"]);
    }
    if let Some(call) = &first.call {
        add(out, &[", in "]);
        let same = alike.iter().all(|thread| shown(thread) == shown(first));
        called(out, call, same);
        if let Some(waits) = &first.waits_for {
            if let (true, Some(place)) = (same, &waits.place) {
                add(out, &[" on ", &escaped(place)]);
            }
            held_by(out, waits);
        }
    }
    let is_known = first.call.is_some() && first.state == State::Sleeping;
    if !is_known && first.state != State::Unknown {
        add(out, &[", ", first.state.as_str()]);
    }
}

fn held_by(out: &mut String, waits: &WaitsFor) {
    if let Some(owner) = waits.owner {
        add(out, &[", held by thread ", &decimal(owner)]);
    }
}

/// What the crashed thread waited for.
pub(super) fn own_wait(waits: &WaitsFor) -> String {
    let mut out = match &waits.place {
        Some(place) => escaped(place),
        None => hex(waits.address),
    };
    held_by(&mut out, waits);
    out
}

fn hex(address: ProcessAddress) -> String {
    format!("{address:#x}")
}

/// A sentence about threads that wait for each other.
pub(super) fn deadlock(circle: &[u32]) -> String {
    let mut tids = Vec::new();
    for tid in circle {
        tids.push(decimal(*tid));
    }
    let (word, what) = match circle.len() {
        1 => ("thread ", "it waits for a lock that it holds itself"),
        _ => ("threads ", "each waits for a lock that the next one holds"),
    };
    let mut out = String::new();
    add(
        &mut out,
        &[word, &listed(&tids), " may be deadlocked: ", what],
    );
    out
}

/// The arguments that a heading shows.
fn shown(thread: &ReportThread) -> Option<[u64; 2]> {
    let Call { call, futex, .. } = thread.call?;
    let [first, second, ..] = call.arguments;
    Some([first, futex.map_or(0, |_| second)])
}

fn called(out: &mut String, call: &Call, with_arguments: bool) {
    let Some(name) = call.name else {
        return add(out, &["system call ", &decimal(call.call.number)]);
    };
    add(out, &[name]);
    if !with_arguments {
        return;
    }
    if let Some(futex) = &call.futex {
        let comma = if futex.name.is_some() { ", " } else { "" };
        let operation = futex.name.unwrap_or_default();
        add(out, &["(", &hex(futex.address), comma, operation, ")"]);
    } else if OF_DESCRIPTORS.split(' ').any(|known| known == name) {
        let descriptor = call.call.arguments[0] as i32;
        add(out, &["(", &descriptor.to_string(), ")"]);
    }
}

/// `12 to 27, 31 and 40`
fn ranges(alike: &[&ReportThread]) -> String {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(first) = alike.get(at) {
        let begin = at;
        let is_next = |at: usize| {
            let thread = alike.get(at);
            thread.is_some_and(|it| it.tid == first.tid.wrapping_add((at - begin) as u32))
        };
        while is_next(at) {
            at += 1;
        }
        let mut range = decimal(first.tid);
        if at - begin > 1 {
            add(&mut range, &[" to ", &decimal(alike[at - 1].tid)]);
        }
        ranges.push(range);
    }
    listed(&ranges)
}

/// `a, b and c`
fn listed(items: &[String]) -> String {
    let mut out = String::new();
    for (number, item) in items.iter().enumerate() {
        if number == MAX_NAMED {
            add(&mut out, &[", ..."]);
            break;
        }
        let comma = match number {
            0 => "",
            _ if number + 1 == items.len() => " and ",
            _ => ", ",
        };
        add(&mut out, &[comma, item]);
    }
    out
}
