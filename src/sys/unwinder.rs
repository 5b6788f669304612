//! Stands in for libunwind in the release builds for musl.
//!
//! Those abort on panic and have no unwind tables (build.rs), so nothing could
//! be unwound. But the standard library would still link an unwinder, and with
//! it the DWARF reader that names the frames of a panic's backtrace: 260 KB on
//! 2026-11-23. These functions say that there are no frames, which is what libunwind
//! would find, and the linker drops the rest. A panic's message is printed as usual.
//!
//! Names and meanings: "Itanium C++ ABI: Exception Handling", section 1. Every function
//! that the standard library's `unwind` crate may call must be here: if one is missing,
//! libunwind is linked after all, with a second definition of the others.

use std::ffi::{c_int, c_void};

/// `_URC_FATAL_PHASE1_ERROR`: no handler can be looked for.
const FATAL: c_int = 3;
/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Calls its callback for no frame.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_callback: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_RaiseException(_exception: *mut c_void) -> c_int {
    FATAL
}

/// Continues an unwinding, which cannot have begun.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_exception: *mut c_void) -> ! {
    std::process::abort()
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_DeleteException(_exception: *mut c_void) {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_FindEnclosingFunction(_pc: *mut c_void) -> *mut c_void {
    std::ptr::null_mut()
}

// What a frame is asked for: there is none.

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetLanguageSpecificData(_frame: *mut c_void) -> *mut c_void {
    std::ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetRegionStart(_frame: *mut c_void) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetTextRelBase(_frame: *mut c_void) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetDataRelBase(_frame: *mut c_void) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetCFA(_frame: *mut c_void) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetIP(_frame: *mut c_void) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetIPInfo(_frame: *mut c_void, _before_instruction: *mut c_int) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_SetIP(_frame: *mut c_void, _pc: usize) {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_GetGR(_frame: *mut c_void, _register: c_int) -> usize {
    0
}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_SetGR(_frame: *mut c_void, _register: c_int, _value: usize) {}
