//! Standard streams that are closed when the program starts.
//!
//! Files that are opened later would get their numbers, and messages would end up in them.
//! Rust's runtime opens /dev/null in their place, and aborts if there is none. So this
//! puts something there first that needs no file system: the read end of a pipe without a
//! writer. A read from it is at the end, and a write to it fails with EBADF, as if the
//! stream were still closed.
//!
//! # Safety
//!
//! The code that runs before `main` makes system calls by number and stores to an atomic:
//! it relies on nothing that Rust's runtime sets up.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each stream that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// The function that the C library calls before `main`, in which Rust's runtime begins.
#[used]
#[link_section = ".init_array"]
static BEFORE_MAIN: extern "C" fn() = stand_in;

extern "C" fn stand_in() {
    for stream in 0..3 {
        // SAFETY: F_GETFD touches no memory; of a number that is not open it gives -1.
        let is_open = unsafe { libc::fcntl(stream, libc::F_GETFD) } >= 0;
        if !is_open {
            CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
            let mut ends = [-1; 2];
            // The lowest numbers that are free: this one is the reader's.
            // SAFETY: room for two descriptors.
            if unsafe { libc::pipe(ends.as_mut_ptr()) } == 0 {
                // SAFETY: the call above has just made it, and nothing else uses it.
                unsafe { libc::close(ends[1]) };
            }
        }
    }
}

/// Whether a standard stream was closed when the program started.
#[must_use]
pub fn was_closed(stream: RawFd) -> bool {
    (0..3).contains(&stream) && CLOSED.load(Ordering::Relaxed) & 1 << stream != 0
}
