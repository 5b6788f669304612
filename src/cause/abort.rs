//! Why a program ended itself, by the names of the functions on its stack.
//!
//! Libraries abort through functions of well-known names. Where these are found
//! the sentence says what they stand for, and the function that came to them;
//! where there are none it says no more than that the program aborted.

use super::choose::sent;
use super::words::Words;
use super::{Scene, Verdict};
use crate::fault;
use crate::report::Cause;

/// A way to abort.
struct Way {
    /// One of them on the stack tells this way; a name that ends in `*` stands for
    /// all that begin so, one that begins with `*` for all that it is a part of.
    signs: &'static [&'static str],
    /// More functions of the same library between the sign and the one that used it.
    inside: &'static [&'static str],
    /// What it means; the function's name, if known, follows.
    meaning: &'static str,
    cause: Cause,
}

const HEAP: &[&str] = &[
    "_int_free*",
    "_int_malloc",
    "_int_realloc",
    "_int_memalign",
    "free",
    "cfree",
    "__libc_free",
    "malloc",
    "__libc_malloc",
    "malloc_consolidate",
    "realloc",
    "__libc_realloc",
    "calloc",
    "__libc_calloc",
    "tcache_*",
    "unlink_chunk*",
    "sysmalloc",
    "munmap_chunk",
];

/// The first that has a sign on the stack counts.
const WAYS: [Way; 9] = [
    Way {
        signs: &["__stack_chk_fail*"],
        inside: &[],
        meaning: "the stack protector found an overwritten canary",
        cause: Cause::StackSmashing,
    },
    Way {
        signs: &["__chk_fail", "__fortify_fail*"],
        inside: &["__*_chk", "__chk_fail"],
        meaning: "_FORTIFY_SOURCE found a buffer overflow",
        cause: Cause::Abort,
    },
    Way {
        signs: &[
            "__assert_fail*",
            "__assert_perror_fail",
            "__assert",
            "g_assertion_message*",
        ],
        inside: &[],
        meaning: "an assertion failed",
        cause: Cause::Abort,
    },
    Way {
        signs: &["malloc_printerr"],
        inside: HEAP,
        meaning: "the C library's heap check failed",
        cause: Cause::Abort,
    },
    Way {
        signs: &["__cxa_throw", "__cxa_rethrow"],
        inside: &["_ZSt*"],
        meaning: "a C++ exception that nothing caught was thrown",
        cause: Cause::Abort,
    },
    Way {
        signs: &[
            "*__verbose_terminate_handler",
            "_ZSt9terminatev",
            "std::terminate*",
        ],
        inside: &[
            "__cxa_*",
            "__cxxabiv1*",
            "_ZN10__cxxabiv1*",
            "_Unwind_*",
            "__gxx_*",
        ],
        meaning: "C++ code called std::terminate",
        cause: Cause::Abort,
    },
    Way {
        signs: &[
            "*rust_panic",
            "*rust_begin_unwind",
            "*__rust_start_panic",
            "std::process::abort",
        ],
        inside: &[
            "core::*",
            "std::*",
            "alloc::*",
            "<core::*",
            "<std::*",
            "<alloc::*",
            "*rust_*",
        ],
        meaning: "Rust code panicked or aborted",
        cause: Cause::Abort,
    },
    Way {
        signs: &["runtime.*"],
        inside: &["runtime.*"],
        meaning: "Go's runtime ended the program",
        cause: Cause::Abort,
    },
    // Without a symbol table malloc_printerr has no name, but free has.
    Way {
        signs: HEAP,
        inside: HEAP,
        meaning: "probably the C library's heap check failed",
        cause: Cause::Abort,
    },
];

/// Frames that are looked at for a sign: deeper ones may be of an older affair.
const SIGN_FRAMES: usize = 12;

/// The verdict on a SIGABRT.
pub(super) fn verdict(scene: &Scene<'_>) -> Verdict {
    let fault = &scene.fault;
    let sender = fault::sender(fault.code, fault.siginfo);
    if sender.is_none_or(|sender| sender.pid != Some(scene.event.ns_pid)) {
        return sent(scene);
    }
    let mut words = Words::default();
    let cause = match reason(scene.evidence.functions, &mut words) {
        Some(cause) => cause,
        None => {
            words.text("the program aborted, or raised the signal itself");
            Cause::Abort
        }
    };
    let mut verdict = Verdict::new(cause, words);
    verdict.nameless = Cause::Abort;
    verdict
}

/// What the names say, if anything.
pub(super) fn reason(functions: &[&[u8]], words: &mut Words) -> Option<Cause> {
    let near = &functions[..functions.len().min(SIGN_FRAMES)];
    let is = |name: &[u8], patterns: &[&str]| patterns.iter().any(|it| matches(name, it));
    for way in &WAYS {
        let Some(first) = near.iter().position(|name| is(name, way.signs)) else {
            continue;
        };
        // The outermost function of the library's is what was called.
        let own = functions[first + 1..]
            .iter()
            .take_while(|name| is(name, way.signs) || is(name, way.inside))
            .count();
        let called = functions[first + own];
        let shown = own > 0 || is(called, way.inside);
        words.text(way.meaning);
        if shown {
            words.text(", in ").bytes(called);
        }
        if let Some(user) = functions
            .get(first + own + 1)
            .filter(|name| !name.is_empty())
        {
            words
                .text(if shown { ", called by " } else { ", in " })
                .bytes(user);
        }
        return Some(way.cause);
    }
    let aborts = near
        .iter()
        .position(|name| matches!(*name, b"abort" | b"__GI_abort"));
    let caller = functions.get(aborts? + 1).filter(|name| !name.is_empty())?;
    words.text("abort was called by ").bytes(caller);
    Some(Cause::Abort)
}

/// Whether a name is what a pattern of [`Way`] says.
fn matches(name: &[u8], pattern: &str) -> bool {
    let pattern = pattern.as_bytes();
    let Some(star) = pattern.iter().position(|&byte| byte == b'*') else {
        return name == pattern;
    };
    let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
    match (head, tail) {
        ([], part) => name.windows(part.len()).any(|window| window == part),
        (head, tail) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}
