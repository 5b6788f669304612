//! Prologues and epilogues as compilers write them, and what is neither.

use super::*;

fn bytes(code: &[u8]) -> Option<u64> {
    of(Mode::Bits64, code).map(|depth| depth.bytes)
}

#[test]
fn a_prologue_is_counted_between_other_instructions() {
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, // endbr64
        0x41, 0x54, // push %r12
        0x89, 0xfa, // mov %edi, %edx
        0x53, // push %rbx
        0x48, 0x8b, 0x05, 1, 2, 3, 4, // mov x(%rip), %rax
        0x48, 0x81, 0xec, 0x08, 0x01, 0, 0, // sub $264, %rsp
        0xff, 0xd7, // call *%rdi
    ];
    let depth = of(Mode::Bits64, &code).expect("all known");
    assert_eq!(depth.bytes, 8 + 8 + 264);
    assert_eq!((depth.saved[12], depth.saved[3]), (Some(8), Some(16)));
}

#[test]
fn the_body_counts_behind_a_return() {
    // sub $24, %rsp; je; add $24, %rsp; ret; call
    let code = [
        0x48, 0x83, 0xec, 24, 0x74, 5, 0x48, 0x83, 0xc4, 24, 0xc3, 0xe8, 9, 0, 0, 0,
    ];
    assert_eq!(bytes(&code), Some(24));
    assert_eq!(bytes(&code[..10]), Some(0));
}

#[test]
fn behind_a_return_the_jump_that_led_there_counts() {
    let code = [
        0x56, // push %esi
        0x83, 0xec, 20, // sub $20, %esp
        0x6a, 1, // push $1
        0xe8, 9, 0, 0, 0, // call
        0x83, 0xc4, 4, // add $4, %esp
        0x74, 5, // je
        0x83, 0xc4, 20,   // add $20, %esp
        0x5e, // pop %esi
        0xc3, // ret
        0xe8, 9, 0, 0, 0, // call
    ];
    let bytes = |code: &[u8]| of(Mode::Bits32, code).map(|depth| depth.bytes);
    assert_eq!(bytes(&code), Some(4 + 20));
    let filled = [&code[..15], &[6], &code[16..21], &[0x90], &code[21..]].concat();
    assert_eq!(bytes(&filled), Some(4 + 20), "not right behind it");
    let unreached = [&code[..15], &[7], &code[16..]].concat();
    assert_eq!(bytes(&unreached), None);
}

#[test]
fn what_is_given_back_was_taken() {
    let code = [
        0x89, 0xc2, // mov %eax, %edx
        0x74, 1,    // je
        0xcc, // int3
        0xeb, 2, // jmp over what follows
        0x0f, 0x0b, // ud2
        0x48, 0x81, 0xc4, 0x08, 0x01, 0, 0,    // add $264, %rsp
        0x5b, // pop %rbx
        0x41, 0x5c, // pop %r12
        0xc3, // ret
        0x06,
    ];
    let depth = ahead(Mode::Bits64, &code).expect("up to the return");
    assert_eq!(depth.bytes, 264 + 8 + 8);
    assert_eq!((depth.saved[12], depth.saved[3]), (Some(8), Some(16)));
    for (code, why) in [
        (&[0x50, 0xc3][..], "more is taken than given back"),
        (&[0xc9, 0xc3], "leave"),
        (&[0xeb, 0xfe], "a loop"),
        (&[0xeb, 1, 0xc3], "beyond what can be read"),
        (&[0x0f, 0x0b, 0xc3], "ud2"),
        (&[0x90; 300], "no return"),
    ] {
        assert_eq!(ahead(Mode::Bits64, code), None, "{why}");
    }
    let ret = ahead(Mode::Bits64, &[0xc2, 8, 0]).expect("a return");
    assert!(ret.bytes == 0 && ret.sure);
    // call, which may be the last of its function; ret
    let called = ahead(Mode::Bits64, &[0xff, 0xd0, 0xc3]).expect("a return");
    assert!(called.bytes == 0 && !called.sure);
}

#[test]
fn code_that_leaves_by_the_frame_pointer() {
    for (code, leaves, why) in [
        (&[0x90, 0xc9, 0xc3][..], true, "leave"),
        (&[0x48, 0x89, 0xec, 0x5d, 0xc3], true, "mov %rbp, %rsp"),
        (
            &[0x48, 0x8b, 0xe5, 0x5d, 0xc3],
            true,
            "the same, encoded otherwise",
        ),
        (&[0x48, 0x8d, 0x65, 0xd8, 0x5b], true, "lea -40(%rbp), %rsp"),
        (&[0x41, 0x5c, 0xc3], false, "pop %r12; ret"),
        (&[0x55, 0x48, 0x89, 0xe5, 0xc9], false, "another function"),
        (&[0x48, 0x89, 0xc4, 0xc9], false, "mov %rax, %rsp"),
        (&[0xeb, 0xfe], false, "a loop"),
    ] {
        assert_eq!(leaves_by_frame(Mode::Bits64, code), leaves, "{why}");
    }
}

#[test]
fn functions_that_only_jump_on() {
    for (code, jumps, why) in [
        (
            &[0x48, 0x8b, 0x07, 0xff, 0xe0][..],
            true,
            "mov (%rdi), %rax; jmp *%rax",
        ),
        (
            &[0x53, 0x5b, 0xff, 0x60, 8],
            true,
            "push, pop, jmp *8(%rax)",
        ),
        (&[0x53, 0xff, 0xe0], false, "push %rbx; jmp *%rax"),
        (&[0xff, 0xd0, 0xff, 0xe0], false, "call *%rax"),
        (&[0xc3], false, "ret"),
    ] {
        assert_eq!(jumps_on(Mode::Bits64, code), jumps, "{why}");
    }
}

#[test]
fn words_of_32_bits_are_counted_in_fours() {
    let code = [
        0x55, // push %ebp
        0x53, // push %ebx
        0x83, 0xec, 12,   // sub $12, %esp
        0x40, // inc %eax
        0xa1, 1, 2, 3, 4, // mov x, %eax
        0x6a, 1, // push $1
        0xe8, 9, 0, 0, 0, // call
    ];
    let depth = of(Mode::Bits32, &code).expect("all known");
    assert_eq!(depth.bytes, 4 + 4 + 12 + 4);
    assert_eq!((depth.saved[5], depth.saved[3]), (Some(4), Some(8)));
    let code = [
        0x83, 0xc4, 16,   // add $16, %esp
        0x5b, // pop %ebx
        0x5d, // pop %ebp
        0xc3, // ret
    ];
    let ahead = ahead(Mode::Bits32, &code).expect("all known");
    assert_eq!((ahead.bytes, ahead.saved), (depth.bytes, depth.saved));
    assert!(depth.sure && ahead.sure);
}

/// How 32-bit code learns where it is: `call` to the next instruction leaves its word.
#[test]
fn a_call_to_the_next_instruction_pushes() {
    let code = [0xe8, 0, 0, 0, 0, 0x83, 0xec, 12, 0x5b, 0x90];
    let bytes = |code: &[u8]| of(Mode::Bits32, code).map(|depth| depth.bytes);
    assert_eq!(bytes(&code[..8]), Some(4 + 12));
    assert_eq!(bytes(&code), Some(12), "pop %ebx");
}

#[test]
fn registers_that_hold_the_stack_pointer_for_a_while() {
    for (code, why) in [
        (&[0x48, 0x94][..], "xchg %rax, %rsp"),
        (&[0x48, 0x0f, 0x44, 0xe0], "cmove %rax, %rsp"),
        (&[0x48, 0x6b, 0xe0, 8], "imul $8, %rax, %rsp"),
        (&[0xc8, 8, 0, 0], "enter $8, $0"),
    ] {
        assert_eq!(bytes(code), None, "{why}");
    }
}

#[test]
fn what_is_not_known_gives_nothing() {
    for (code, why) in [
        (&[0x48, 0x29, 0xc4][..], "sub %rax, %rsp"),
        (&[0x48, 0x83, 0xe4, 0xe0], "and $-32, %rsp"),
        (&[0x48, 0x8d, 0x65, 0xf0], "lea -16(%rbp), %rsp"),
        (&[0x58], "pop without push"),
        (&[0x06], "no instruction"),
        (&[0x48, 0x81, 0xec, 8], "half an instruction"),
    ] {
        assert_eq!(bytes(code), None, "{why}");
    }
    // lea -32(%rsp), %rsp
    assert_eq!(bytes(&[0x48, 0x8d, 0x64, 0x24, 0xe0]), Some(32));
}
