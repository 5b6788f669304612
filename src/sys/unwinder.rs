//! The standard library's own backtraces, left out.
//!
//! When a Rust program panics the library can print the calls that led there. For
//! that it links an unwinder, a reader of DWARF and one of compressed sections:
//! more than a quarter of this binary, which is stripped, so that all of it could
//! print numbers only. The functions through which it reaches the unwinder are
//! defined here instead: no frame is ever found, nobody asks for one, and the
//! linker drops the rest. The panic's message and place are printed as always.
//!
//! Only where a panic aborts; with unwinding, as in tests, these functions are
//! needed. Their names are those of the Itanium C++ ABI, Exception Handling,
//! level I.
//!
//! # Safety
//!
//! Defining a name of the C++ runtime is sound as long as all that it promises
//! can be kept: `_Unwind_Backtrace` may end at once by its contract
//! (`_URC_END_OF_STACK`), and the others never return.

use std::ffi::{c_int, c_void};

const END_OF_STACK: c_int = 5;

// SAFETY: no other function of that name is linked, or the linker would refuse.
#[no_mangle]
extern "C" fn _Unwind_Backtrace(_callback: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

macro_rules! never_called {
    ($($name:ident,)*) => {$(
        // SAFETY: no other function of that name is linked, or the linker would refuse.
        #[no_mangle]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_DeleteException,
    _Unwind_FindEnclosingFunction,
    _Unwind_GetCFA,
    _Unwind_GetDataRelBase,
    _Unwind_GetIP,
    _Unwind_GetIPInfo,
    _Unwind_GetLanguageSpecificData,
    _Unwind_GetRegionStart,
    _Unwind_GetTextRelBase,
    _Unwind_RaiseException,
    _Unwind_Resume,
    _Unwind_SetGR,
    _Unwind_SetIP,
}
