//! How libraries end the program that they are in: the files and functions between abort(3)
//! and the code that found an error.
//!
//! In: the name of a file or of a function. Out: whether every death of the same kind has
//! it on its stack, so that it does not distinguish one death from another.

/// Files of the C library and of the runtimes of C++, Rust and the sanitizers. A name that
/// ends in `*` means all that begin so.
const FILES: &str = "libc.so* libc-2.* libc-0.* ld-linux* ld-2.* ld-musl-* ld.so* ld64.so* \
    libpthread.so* libpthread-2.* libuClibc-* ld-uClibc* libstdc++.so* libc++.so* libc++abi.so* \
    libsupc++.so* libgcc_s.so* libgcc_s-* libunwind.so* libstd-* libasan.so* libubsan.so* \
    libtsan.so* liblsan.so* libhwasan.so* libclang_rt.*";

/// Functions of the same, for when they are part of the executable, and other functions that
/// end programs. As above; and a name that begins with `*` means all that contain it.
const FUNCTIONS: [&str; 5] = [
    // Of C libraries.
    "abort __GI_abort __libc_abort __restore_sigs __block_all_sigs __block_app_sigs raise __GI_raise gsignal pthread_kill __pthread_kill* tkill \
     tgkill kill __libc_message* __libc_fatal __assert __assert_fail* __assert_perror_fail \
     __assert_c99 __stack_chk_fail* __chk_fail __fortify_fail* __fortify_chk_fail* __fdelt_chk \
     __longjmp_chk g_assertion_message* g_log* g_abort",
    // Of their heap checks.
    "malloc_printerr* _int_free* _int_malloc* _int_realloc* _int_memalign* free cfree __libc_free \
     malloc __libc_malloc malloc_consolidate* realloc __libc_realloc calloc __libc_calloc tcache_* \
     unlink_chunk* sysmalloc* munmap_chunk* _ZdlPv* _ZdaPv* _Znwm* _Znam*",
    // Of C++.
    "*__verbose_terminate_handler *__terminate *9terminatev std::terminate* __cxa_* \
     __cxxabiv1* _ZN10__cxxabiv1* _Unwind_* __gxx_personality* __clang_call_terminate *__throw_ \
     *demangling_terminate_handler",
    // Of Rust.
    "core::* std::* alloc::* <core::* <std::* <alloc::* __rustc::* rust_panic* rust_begin_unwind \
     __rust_*",
    // Of Go, of sanitizers and of node.
    "runtime.* __sanitizer::* __asan* __asan::* __ubsan* __ubsan::* __tsan* __hwasan* node::Abort* \
     node::Assert* _ZN4node5Abort* _ZN4node6Assert*",
];

/// Whether a file, without directories, is part of a language's runtime.
#[must_use]
pub fn is_runtime(file: &[u8]) -> bool {
    is_one_of(file, FILES)
}

/// Whether a function is on the way of a program that ends itself.
#[must_use]
pub fn is_function(name: &[u8]) -> bool {
    FUNCTIONS.iter().any(|names| is_one_of(name, names))
}

/// Whether a name is in a list that is separated by spaces. An entry that ends in `*` means
/// all names that begin so; one that begins with `*` means all that contain it.
#[must_use]
pub fn is_one_of(name: &[u8], names: &str) -> bool {
    let mut patterns = names.as_bytes().split(|&byte| byte == b' ');
    patterns.any(|pattern| {
        let Some(star) = pattern.iter().position(|&byte| byte == b'*') else {
            return name == pattern && !name.is_empty();
        };
        let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
        match head {
            [] => name.windows(tail.len()).any(|window| window == tail),
            _ => {
                let longer = name.len() >= head.len() + tail.len();
                longer && name.starts_with(head) && name.ends_with(tail)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_runtimes_are_known_by_their_names() {
        for file in [
            "libc.so.6",
            "libc-2.31.so",
            "ld-musl-x86_64.so.1",
            "ld-linux-x86-64.so.2",
            "libc.so",
            "libstdc++.so.6.0.33",
            "libgcc_s.so.1",
            "libstd-0123456789abcdef.so",
            "libasan.so.8",
        ] {
            assert!(is_runtime(file.as_bytes()), "{file}");
        }
        for file in [
            "",
            "?",
            "libcrypto.so.3",
            "libcairo.so.2",
            "libxml2.so.2",
            "ld",
            "bill",
        ] {
            assert!(!is_runtime(file.as_bytes()), "{file}");
        }
    }

    #[test]
    fn functions_that_end_programs_are_known_by_theirs() {
        for name in [
            "abort",
            "__assert_fail_base",
            "__pthread_kill_implementation",
            "malloc_printerr",
            "std::panicking::begin_panic_handler::{{closure}}",
            "core::panicking::panic_fmt",
            "__gnu_cxx::__verbose_terminate_handler",
            "_ZN9__gnu_cxx27__verbose_terminate_handlerEv",
            "__cxa_throw",
            "_ZSt24__throw_out_of_range_fmtPKcz",
            "runtime.gopanic",
            "rust_panic",
            "_ZSt9terminatev",
            "__rustc::rust_begin_unwind",
        ] {
            assert!(is_function(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "main",
            "check",
            "die",
            "bill::total",
            "my_rust_thing",
            "aborted",
        ] {
            assert!(!is_function(name.as_bytes()), "{name}");
        }
    }
}
