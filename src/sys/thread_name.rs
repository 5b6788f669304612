//! Stands in for musl's `pthread_setname_np` in the release builds for musl.
//!
//! The standard library names each thread from within. musl can also name other threads,
//! by a file whose path it prints with `snprintf`; nothing else here needs C's formatted
//! output, floating point included, so that the linker drops it all.

use std::ffi::{c_char, c_int, CStr};

use nix::errno::Errno;

/// The kernel's `TASK_COMM_LEN`, with the NUL.
const MOST_BYTES: usize = 16;

/// Names the calling thread: see pthread_setname_np(3). Returns an error number.
///
/// # Safety
/// `name` is a C string. `_thread` must be the calling thread.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(_thread: libc::pthread_t, name: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    if name.count_bytes() >= MOST_BYTES {
        return Errno::ERANGE as c_int;
    }
    match nix::sys::prctl::set_name(name) {
        Ok(()) => 0,
        Err(error) => error as c_int,
    }
}
