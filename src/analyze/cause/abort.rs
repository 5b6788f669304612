//! Why a program ended itself, by the names of the functions on its stack.
//!
//! Libraries abort through functions with well-known names. If the stack has one, the
//! sentence says what it means, and which function called it. If it has none, the
//! sentence says only that the program aborted.

use super::choose::sent;
use super::words::Words;
use super::{Scene, Verdict};
use crate::crash::event::Siginfo;
use crate::crash::signals::code;
use crate::report::dying::is_one_of;
use crate::report::Cause;

/// A way to abort. Names are separated by spaces. A name that ends in `*` means all that
/// begin so; one that begins with `*` means all that contain it.
struct Way {
    /// One of these functions on the stack means this way of ending.
    signs: &'static str,
    /// Further functions of the same library, between the sign and its caller.
    inside: &'static str,
    /// What it means; the function's name, if known, follows.
    meaning: &'static str,
}

const HEAP: &str = "_int_free* _int_malloc _int_realloc _int_memalign free cfree __libc_free \
    malloc __libc_malloc malloc_consolidate realloc __libc_realloc calloc __libc_calloc tcache_* \
    unlink_chunk* sysmalloc munmap_chunk";

/// Functions in which musl looks after its heap, and crashes if it is broken
/// (src/malloc/mallocng, src/malloc/oldmalloc).
pub(super) const MUSL_HEAP: &str = "get_meta free __libc_free realloc __libc_realloc \
    nontrivial_free free_group enframe alloc_slot alloc_group get_nominal_size \
    malloc_usable_size __malloc_allzerop unbin __bin_chunk unmap_chunk a_crash";

/// The first one that has a sign on the stack counts. Only the first in the list is more
/// than an abort.
const WAYS: [Way; 9] = [
    Way {
        signs: "__stack_chk_fail*",
        inside: "",
        meaning: "the stack protector found an overwritten canary",
    },
    Way {
        signs: "__chk_fail __fortify_fail*",
        inside: "__*_chk __chk_fail",
        meaning: "_FORTIFY_SOURCE found a buffer overflow",
    },
    Way {
        signs: "__assert_fail* __assert_perror_fail __assert g_assertion_message*",
        inside: "",
        meaning: "an assertion failed",
    },
    Way {
        signs: "malloc_printerr",
        inside: HEAP,
        meaning: "the C library's heap check failed",
    },
    Way {
        signs: "__cxa_throw __cxa_rethrow",
        inside: "_ZSt*",
        meaning: "a C++ exception that nothing caught was thrown",
    },
    Way {
        signs: "*__verbose_terminate_handler _ZSt9terminatev std::terminate*",
        inside: "__cxa_* __cxxabiv1* _ZN10__cxxabiv1* _Unwind_* __gxx_*",
        meaning: "C++ code called std::terminate",
    },
    Way {
        signs: "*rust_panic *rust_begin_unwind *__rust_start_panic *process::abort",
        inside: "core::* std::* alloc::* <core::* <std::* <alloc::* __rustc::* *rust_",
        meaning: "Rust code panicked or aborted",
    },
    Way {
        signs: "runtime.*",
        inside: "runtime.*",
        meaning: "Go's runtime ended the program",
    },
    // Without a symbol table malloc_printerr has no name, but free has.
    Way {
        signs: HEAP,
        inside: HEAP,
        meaning: "probably the C library's heap check failed",
    },
];

/// Frames that are searched for a sign: deeper ones may belong to an earlier problem.
const SIGN_FRAMES: usize = 12;

/// The verdict on a SIGABRT.
pub(super) fn verdict(scene: &Scene<'_>) -> Verdict {
    let fault = &scene.fault;
    let is_known = fault.siginfo != Siginfo::Unknown;
    let is_own = match fault.siginfo {
        Siginfo::Sender(sender) => sender.pid == Some(scene.event.ns_pid),
        // Others send by kill.
        Siginfo::Unknown => fault.code == code::SI_TKILL,
        Siginfo::Address(_) | Siginfo::Neither => false,
    };
    if !is_own {
        return sent(scene);
    }
    let mut words = Words::default();
    let cause = match reason(scene.evidence.functions, &mut words) {
        Some(cause) => cause,
        None => {
            words.text(match is_known {
                true => "the program aborted, or raised the signal itself",
                false => "probably the program aborted, or raised the signal itself",
            });
            Cause::Abort
        }
    };
    let mut verdict = Verdict::new(cause, words);
    verdict.nameless = Cause::Abort;
    verdict
}

/// What the names say, if anything.
fn reason(functions: &[&[u8]], words: &mut Words) -> Option<Cause> {
    let near = &functions[..functions.len().min(SIGN_FRAMES)];
    for (index, way) in WAYS.iter().enumerate() {
        let Some(first) = near.iter().position(|name| is_one_of(name, way.signs)) else {
            continue;
        };
        // The program called the outermost function of the library.
        let mut last = first;
        let own = |name: &[u8]| is_one_of(name, way.signs) || is_one_of(name, way.inside);
        while functions.get(last + 1).is_some_and(|name| own(name)) {
            last += 1;
        }
        let shown = is_one_of(functions[last], way.inside);
        words.text(way.meaning);
        if shown {
            words.text(", in ").name(functions[last]);
        }
        let user = functions.get(last + 1).copied().unwrap_or_default();
        if !user.is_empty() {
            words
                .text(if shown { ", called by " } else { ", in " })
                .name(user);
        }
        return Some(match index {
            0 => Cause::StackSmashing,
            _ => Cause::Abort,
        });
    }
    let aborts = near.iter().position(|name| *name == b"abort")?;
    let caller = functions.get(aborts + 1).filter(|name| !name.is_empty())?;
    words.text("abort was called by ").name(caller);
    Some(Cause::Abort)
}

/// Says so if a fault is one of the C library's own, in looking after the heap.
pub(super) fn in_allocator(scene: &Scene<'_>, text: &mut Vec<u8>) {
    let function = scene.function();
    if is_one_of(function, HEAP) || is_one_of(function, MUSL_HEAP) {
        text.extend_from_slice(b"; in ");
        text.extend_from_slice(function);
        text.extend_from_slice(
            b" of the C library: probably the heap was overwritten or a bad pointer was freed",
        );
    }
}
