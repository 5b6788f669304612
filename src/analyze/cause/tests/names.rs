//! What the names on the stack tell.

use super::*;

fn aborted(functions: &[&'static str]) -> Made {
    let mut made = Made::new(Arch::X86_64).signal(signal::SIGABRT, code::SI_TKILL, 0);
    made.says(77);
    made.named(functions)
}

#[test]
fn reasons_to_abort() {
    let libc = ["__pthread_kill_implementation", "raise", "abort"];
    let with = |more: &[&'static str]| aborted(&[&libc, more].concat());
    with(&[
        "__libc_message",
        "__fortify_fail",
        "__stack_chk_fail",
        "copy",
        "main",
    ])
    .is(
        Cause::StackSmashing,
        "the stack protector found an overwritten canary, in copy",
    );
    with(&[
        "__libc_message",
        "__fortify_fail",
        "__chk_fail",
        "__strcpy_chk",
        "copy",
    ])
    .is(
        Cause::Abort,
        "_FORTIFY_SOURCE found a buffer overflow, in __strcpy_chk, called by copy",
    );
    with(&["__assert_fail_base", "__assert_fail", "check", "main"])
        .is(Cause::Abort, "an assertion failed, in check");
    with(&[
        "__libc_message",
        "malloc_printerr",
        "_int_free",
        "free",
        "drop",
        "main",
    ])
    .is(
        Cause::Abort,
        "the C library's heap check failed, in free, called by drop",
    );
    with(&["", "", "", "free", "drop", "main"]).is(
        Cause::Abort,
        "probably the C library's heap check failed, in free, called by drop",
    );
    with(&[
        "_ZN9__gnu_cxx27__verbose_terminate_handlerEv",
        "_ZN10__cxxabiv111__terminateEPFvvE",
        "_ZSt9terminatev",
        "__cxa_throw",
        "parse",
    ])
    .is(
        Cause::Abort,
        "a C++ exception that nothing caught was thrown, in parse",
    );
    with(&[
        "__gnu_cxx::__verbose_terminate_handler",
        "__cxxabiv1::__terminate",
        "std::terminate",
        "join",
    ])
    .is(Cause::Abort, "C++ code called std::terminate, in join");
    with(&[
        "std::sys::pal::unix::abort_internal",
        "__rustc::__rust_abort",
        "__rust_start_panic",
        "rust_panic",
        "std::panicking::rust_panic_with_hook",
        "core::panicking::panic_fmt",
        "core::panicking::panic_bounds_check",
        "app::parse",
    ])
    .is(
        Cause::Abort,
        "Rust code panicked or aborted, in core::panicking::panic_bounds_check, \
         called by app::parse",
    );
    aborted(&[
        "runtime.raise.abi0",
        "runtime.dieFromSignal",
        "runtime.crash",
        "main.main",
    ])
    .is(
        Cause::Abort,
        "Go's runtime ended the program, in runtime.crash, called by main.main",
    );
    with(&["give_up", "main"]).is(Cause::Abort, "abort was called by give_up");
    aborted(&[]).is(
        Cause::Abort,
        "the program aborted, or raised the signal itself",
    );
}

/// As before Linux 4.17, and by perf events.
#[test]
fn an_abort_of_an_unknown_sender() {
    let mut made = aborted(&["raise", "abort", "give_up"]);
    made.event.siginfo = Siginfo::Unknown;
    made.is(Cause::Abort, "abort was called by give_up");
    made.functions.clear();
    made.is(
        Cause::Abort,
        "probably the program aborted, or raised the signal itself",
    );
    made.event.code = code::SI_USER;
    assert_eq!(made.verdict().cause, Cause::Sent);
}

/// Signatures use the causes that hosts without symbols would give.
#[test]
fn names_do_not_change_the_nameless_cause() {
    let smashed = aborted(&["raise", "abort", "__stack_chk_fail", "copy"]).verdict();
    assert_eq!(smashed.cause, Cause::StackSmashing);
    assert_eq!(smashed.nameless, aborted(&[]).verdict().cause);
    let musl = Made::new(Arch::X86_64)
        .at(&[0xf4], &[])
        .protection()
        .named(&["__stack_chk_fail", "copy"]);
    musl.is(
        Cause::StackSmashing,
        "hlt, which is for the kernel only: musl's stack protector found an overwritten canary \
         in copy",
    );
    assert_eq!(musl.verdict().nameless, Cause::PrivilegedInstruction);
}

#[test]
fn an_abort_that_another_sent_is_none() {
    let mut made = aborted(&["read", "main"]);
    made.event.code = code::SI_USER;
    made.says(5);
    made.is(
        Cause::Sent,
        "no fault: sent by process 5 of user 0, with kill",
    );
}

#[test]
fn musls_heap_check() {
    Made::new(Arch::X86_64)
        .at(&[0xf4], &[])
        .protection()
        .named(&["get_meta", "free", "main"])
        .is(
            Cause::PrivilegedInstruction,
            "hlt, which is for the kernel only: probably musl's heap check, which crashes on \
             purpose, in get_meta",
        );
}
