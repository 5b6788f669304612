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

use crate::crash::threads::State;
use crate::report::threads::{Call, ReportThread, ReportThreads, WaitsFor};

use super::escape;

/// Ranges of numbers of threads with equal stacks that are shown.
const MAX_RANGES: usize = 8;

/// System calls whose first argument is the file descriptor on which they wait.
const OF_DESCRIPTORS: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "ioctl",
    "fcntl",
    "flock",
    "accept",
    "accept4",
    "connect",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendto",
    "sendmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "fsync",
    "fdatasync",
    "io_uring_enter",
];

/// The first line of the section.
pub(super) fn title(out: &mut String, threads: &ReportThreads) {
    out.push_str(&format!("  Other Threads ({}", threads.list.len()));
    let others = threads.count.map_or(0, |count| count.saturating_sub(1));
    if others as usize > threads.list.len() {
        out.push_str(&format!(" of {others}"));
    }
    out.push_str("):\n");
}

/// The line of one thread, or of several that are alike, without its end.
pub(super) fn heading(out: &mut String, alike: &[&ReportThread]) {
    let first = alike[0];
    if alike.len() == 1 {
        out.push_str(&format!("  Thread {}", first.tid));
    } else {
        out.push_str("  Threads ");
        numbers(out, alike);
    }
    let same_name = alike.iter().all(|thread| thread.name == first.name);
    let name: &[u8] = if same_name { &first.name } else { b"" };
    match (alike.len(), name) {
        (1, b"") => {}
        (1, _) => {
            out.push_str(" (");
            escape::text(out, name);
            out.push(')');
        }
        (count, _) => {
            out.push_str(&format!(" ({count} alike"));
            if !name.is_empty() {
                out.push_str(": ");
                escape::text(out, name);
            }
            out.push(')');
        }
    }
    if let Some(call) = &first.call {
        out.push_str(", in ");
        let same = alike.iter().all(|thread| shown(thread) == shown(first));
        called(out, call, same);
        if let (true, Some(waits)) = (same, &first.waits_for) {
            if let Some(place) = &waits.place {
                out.push_str(" on ");
                escape::text(out, place);
            }
        }
        held_by(out, first.waits_for.as_ref());
    }
    match (first.state, &first.call) {
        (State::Unknown, _) | (State::Sleeping, Some(_)) => {}
        (state, _) => {
            out.push_str(", ");
            out.push_str(state.as_str());
        }
    }
}

fn held_by(out: &mut String, waits: Option<&WaitsFor>) {
    if let Some(owner) = waits.and_then(|waits| waits.owner) {
        out.push_str(&format!(", held by thread {owner}"));
    }
}

/// What the crashed thread waited for.
pub(super) fn own_wait(waits: &WaitsFor) -> String {
    let mut out = String::new();
    match &waits.place {
        Some(place) => escape::text(&mut out, place),
        None => out.push_str(&format!("{:#x}", waits.address)),
    }
    held_by(&mut out, Some(waits));
    out
}

/// A sentence about threads that wait for each other.
pub(super) fn deadlock(circle: &[u32]) -> String {
    if let [tid] = circle {
        return format!("thread {tid} may be deadlocked: it waits for a lock that it holds itself");
    }
    let mut out = String::from("threads ");
    for (number, tid) in circle.iter().take(MAX_RANGES).enumerate() {
        out.push_str(match number {
            0 => "",
            _ if number + 1 == circle.len() => " and ",
            _ => ", ",
        });
        out.push_str(&tid.to_string());
    }
    if circle.len() > MAX_RANGES {
        out.push_str(", ...");
    }
    out.push_str(" may be deadlocked: each waits for a lock that the next one holds");
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
        out.push_str(&format!("system call {}", call.call.number));
        return;
    };
    out.push_str(name);
    if !with_arguments {
        return;
    }
    if let Some(futex) = &call.futex {
        out.push_str(&format!("({:#x}", futex.address));
        if let Some(operation) = futex.name {
            out.push_str(", ");
            out.push_str(operation);
        }
        out.push(')');
    } else if OF_DESCRIPTORS.contains(&name) {
        out.push_str(&format!("({})", call.call.arguments[0] as i32));
    }
}

/// `12 to 27, 31 and 40`
fn numbers(out: &mut String, alike: &[&ReportThread]) {
    let mut tids: Vec<u32> = alike.iter().map(|thread| thread.tid).collect();
    tids.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for tid in tids {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(tid) => *last = tid,
            _ => ranges.push((tid, tid)),
        }
    }
    let count = ranges.len();
    for (number, (first, last)) in ranges.into_iter().take(MAX_RANGES).enumerate() {
        out.push_str(match number {
            0 => "",
            _ if number + 1 == count => " and ",
            _ => ", ",
        });
        out.push_str(&first.to_string());
        if last != first {
            out.push_str(&format!(" to {last}"));
        }
    }
    if count > MAX_RANGES {
        out.push_str(", ...");
    }
}
