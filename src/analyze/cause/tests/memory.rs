//! Faults of accesses to memory.

use super::*;

const MAPERR: i32 = code::SEGV_MAPERR;
const ACCERR: i32 = code::SEGV_ACCERR;

/// `mov %eax, 0x18(%rbx)`
const STORE_X86: &[u8] = &[0x89, 0x43, 0x18];
/// `mov (%rax), %rax`
const LOAD_X86: &[u8] = &[0x48, 0x8b, 0x00];
/// `str w0, [x1, #0x18]`
const STORE_ARM: &[u8] = &0xb900_1820_u32.to_le_bytes();
/// `ldr x0, [x0]`
const LOAD_ARM: &[u8] = &0xf940_0000_u32.to_le_bytes();

fn x86(code: &[u8], registers: &[(&str, u64)]) -> Made {
    Made::new(Arch::X86_64).at(code, registers)
}

fn arm(code: &[u8], registers: &[(&str, u64)]) -> Made {
    Made::new(Arch::Aarch64).at(code, registers)
}

#[test]
fn null_dereference() {
    x86(STORE_X86, &[("rbx", 0)])
        .page_fault(MAPERR, 0x18, Access::Write)
        .is(
            Cause::NullDereference,
            "write of 4 bytes at 0x18: null pointer in RBX + 0x18",
        );
    arm(STORE_ARM, &[("x1", 0)])
        .page_fault(MAPERR, 0x18, Access::Write)
        .is(
            Cause::NullDereference,
            "write of 4 bytes at 0x18: null pointer in X1 + 0x18",
        );
    x86(LOAD_X86, &[("rax", 0x20)])
        .page_fault(MAPERR, 0x20, Access::Read)
        .is(
            Cause::NullDereference,
            "read of 8 bytes at 0x20: RAX (0x20), probably an offset from a null pointer",
        );
}

/// A task of 32 bits on aarch64; `cpsr` says whether its code is Thumb.
fn arm_32(cpsr: u64, code: &[u8], registers: &[(&str, u64)]) -> Made {
    let mut words = [0; WORDS];
    (words[13], words[32], words[33]) = (0xfffe_0000, 0x1_0100, cpsr);
    let mut made = Made::new(Arch::Aarch64);
    made.event.registers = Some(Registers::new(Arch::Aarch64, words));
    made.at(code, registers)
}

#[test]
fn null_dereference_of_32_bit_arm() {
    let store = "write of 4 bytes at 0x18: null pointer in R1 + 0x18";
    // str r0, [r1, #0x18]: in ARM code, in Thumb code
    for (cpsr, code) in [
        (0x10, &0xe581_0018_u32.to_le_bytes()[..]),
        (0x30, &[0x88, 0x61]),
    ] {
        arm_32(cpsr, code, &[("r1", 0)])
            .page_fault(MAPERR, 0x18, Access::Write)
            .is(Cause::NullDereference, store);
    }
    // ldr r0, [r1, -r2, lsl #2]
    arm_32(
        0x10,
        &0xe711_0102_u32.to_le_bytes(),
        &[("r1", 0x10), ("r2", 2)],
    )
    .page_fault(MAPERR, 0x8, Access::Read)
    .is(
        Cause::NullDereference,
        "read of 4 bytes at 0x8: R1 (0x10) - R2 (0x2) * 4, \
             probably an offset from a null pointer",
    );
}

#[test]
fn null_dereference_without_the_instruction() {
    let mut made = x86(LOAD_X86, &[("rax", 0x20)]).page_fault(MAPERR, 0x20, Access::Read);
    made.event.code_bytes.bytes.clear();
    made.is(
        Cause::NullDereference,
        "read at 0x20: probably a null pointer + 0x20",
    );
    made.event.registers = None;
    assert_eq!(made.verdict().cause, Cause::NullDereference);
}

/// An array's first byte is not null where the instruction has its address.
#[test]
fn an_index_of_zero_is_no_null_pointer() {
    // mov %al, 0x8048000(%rbx)
    x86(&[0x88, 0x83, 0x00, 0x80, 0x04, 0x08], &[("rbx", 0)])
        .page_fault(MAPERR, 0x804_8000, Access::Write)
        .is(
            Cause::Unmapped,
            "write of 1 byte at 0x8048000: RBX (0x0) + 0x8048000; \
             the kernel found nothing mapped there",
        );
    // mov (%rax,%rdx), %al
    x86(&[0x8a, 0x04, 0x10], &[("rax", 0), ("rdx", 0x18)])
        .page_fault(MAPERR, 0x18, Access::Read)
        .is(
            Cause::NullDereference,
            "read of 1 byte at 0x18: RAX (0x0) + RDX (0x18)",
        );
    // mov (%rax,%rdx,4), %al
    x86(&[0x8a, 0x04, 0x90], &[("rax", 0), ("rdx", 6)])
        .page_fault(MAPERR, 0x18, Access::Read)
        .is(
            Cause::NullDereference,
            "read of 1 byte at 0x18: null pointer in RAX + RDX (0x6) * 4",
        );
}

#[test]
fn unmapped_beside_a_mapping() {
    let past = HEAP_END + 0x10;
    x86(LOAD_X86, &[("rax", past)])
        .page_fault(MAPERR, past, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0x555555591010: RAX (0x555555591010); \
             0x555555591010 is 16 bytes past the end of [heap] (rw-)",
        );
    let first = HEAP_END;
    arm(LOAD_ARM, &[("x0", first)])
        .page_fault(MAPERR, first, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0x555555591000: X0 (0x555555591000); \
             0x555555591000 is the first byte past the end of [heap] (rw-)",
        );
    let before = HEAP - 1;
    // mov %al, (%rax)
    x86(&[0x88, 0x00], &[("rax", before)])
        .page_fault(MAPERR, before, Access::Write)
        .is(
            Cause::Unmapped,
            "write of 1 byte at 0x55555556ffff: RAX (0x55555556ffff); \
             0x55555556ffff is 1 byte before [heap] (rw-)",
        );
}

/// The second page of an access is the one that is not there.
#[test]
fn unmapped_across_a_page() {
    let start = HEAP_END - 4;
    x86(LOAD_X86, &[("rax", start)])
        .page_fault(MAPERR, HEAP_END, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0x555555590ffc, of which 0x555555591000 is not accessible: \
             RAX (0x555555590ffc); \
             0x555555591000 is the first byte past the end of [heap] (rw-)",
        );
}

/// A sentence does not mention what was not captured.
#[test]
fn unmapped_without_all_mappings() {
    let past = HEAP_END + 0x10;
    let mut made = x86(LOAD_X86, &[("rax", past)]).page_fault(MAPERR, past, Access::Read);
    made.event.lost.push(crate::crash::event::Lost {
        detail: "mappings",
        reason: "too many: the walk has a limit",
    });
    made.is(
        Cause::Unmapped,
        "read of 8 bytes at 0x555555591010: RAX (0x555555591010); \
         the kernel found nothing mapped there",
    );
}

#[test]
fn unmapped_with_a_pattern() {
    x86(LOAD_X86, &[("rax", 0xdead_beef)])
        .page_fault(MAPERR, 0xdead_beef, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0xdeadbeef: RAX (0xdeadbeef); \
             RAX looks like the fill pattern 0xdeadbeef; the kernel found nothing mapped there",
        );
    let text = 0x4141_4141;
    x86(STORE_X86, &[("rbx", text)])
        .page_fault(MAPERR, text + 0x18, Access::Write)
        .is(
            Cause::Unmapped,
            "write of 4 bytes at 0x41414159: RBX (0x41414141) + 0x18; \
             RBX looks like the text \"AAAA\"; the kernel found nothing mapped there",
        );
}

#[test]
fn unmapped_in_the_kernels_half() {
    let address = u64::MAX - 7;
    // mov -8(%rax), %rax
    x86(&[0x48, 0x8b, 0x40, 0xf8], &[("rax", 0)])
        .page_fault(MAPERR, address, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0xfffffffffffffff8: null pointer in RAX - 0x8; \
             the address is in the kernel's half of the address space",
        );
}

#[test]
fn protected_mappings() {
    let address = RODATA + 0x28;
    x86(STORE_X86, &[("rbx", address - 0x18)])
        .page_fault(ACCERR, address, Access::Write)
        .is(
            Cause::WriteProtected,
            "write of 4 bytes at 0x555555556028: RBX (0x555555556010) + 0x18; \
             the address is in /bin/prog (r--) at file offset 0x1028, which is not writable",
        );
    arm(LOAD_ARM, &[("x0", GUARD + 0x800)])
        .page_fault(ACCERR, GUARD + 0x800, Access::Read)
        .is(
            Cause::AccessProtected,
            "read of 8 bytes at 0x7f0000000800: X0 (0x7f0000000800); \
             the address is in [anon] (---), which forbids every access: \
             a guard page or reserved memory",
        );
    x86(LOAD_X86, &[("rax", HEAP)])
        .page_fault(ACCERR, HEAP, Access::Read)
        .is(
            Cause::Unknown,
            "read of 8 bytes at 0x555555570000: RAX (0x555555570000); \
             the address is in [heap] (rw-), which permits it: perhaps another thread has changed the mapping since",
        );
    // MADV_GUARD_INSTALL leaves the mapping as it is.
    assert_eq!(
        x86(LOAD_X86, &[("rax", HEAP)])
            .page_fault(MAPERR, HEAP, Access::Read)
            .verdict()
            .cause,
        Cause::AccessProtected
    );
}

#[test]
fn protected_code_has_its_name() {
    let address = PROGRAM + 0x40;
    let mut made =
        x86(STORE_X86, &[("rbx", address - 0x18)]).page_fault(ACCERR, address, Access::Write);
    made.place = Location {
        symbol: Some(crate::report::Symbol {
            name: b"main".to_vec(),
            offset: 4,
        }),
        ..Location::default()
    };
    made.is(
        Cause::WriteProtected,
        "write of 4 bytes at 0x555555554040: RBX (0x555555554028) + 0x18; \
         the address is in /bin/prog (r-x), at main+0x4, which is not writable",
    );
}

#[test]
fn jumps() {
    let jump = |arch: Arch, target: u64| Made::new(arch).at(&[], &[(pc_name(arch), target)]);
    for arch in [Arch::X86_64, Arch::Aarch64] {
        jump(arch, 0).page_fault(MAPERR, 0, Access::Execute).is(
            Cause::NullCall,
            "jump to 0x0: probably through a null function pointer",
        );
        jump(arch, 0x30)
            .page_fault(MAPERR, 0x30, Access::Execute)
            .is(
                Cause::NullCall,
                "jump to 0x30: probably through a function pointer of a null object",
            );
        jump(arch, HEAP + 8)
            .page_fault(ACCERR, HEAP + 8, Access::Execute)
            .is(
                Cause::ExecuteProtected,
                "jump to 0x555555570008, which is in [heap] (rw-) and is not executable",
            );
        jump(arch, 0x4242_4242)
            .page_fault(MAPERR, 0x4242_4242, Access::Execute)
            .is(
                Cause::WildJump,
                "jump to 0x42424242, where the kernel found nothing mapped; \
                 it looks like the text \"BBBB\"",
            );
    }
}

#[test]
fn code_that_goes_on_past_its_mapping() {
    let pc = RODATA - 2;
    Made::new(Arch::X86_64)
        .at(&[], &[("rip", pc)])
        .page_fault(ACCERR, RODATA, Access::Execute)
        .is(
            Cause::ExecuteProtected,
            "the instruction at 0x555555555ffe continues at 0x555555556000, \
             which is not executable: the program ran past the end of its code",
        );
}

#[test]
fn protection_faults_by_the_instruction() {
    x86(LOAD_X86, &[("rax", 0x4141_4141_4141_4141)])
        .protection()
        .is(
            Cause::NonCanonical,
            "read of 8 bytes at 0x4141414141414141, which is not a canonical address: \
             RAX (0x4141414141414141); RAX looks like the text \"AAAAAAAA\"",
        );
    // movaps 8(%rsp), %xmm0
    let made = x86(
        &[0x0f, 0x28, 0x44, 0x24, 0x08],
        &[("rsp", STACK + 0x2_0000)],
    )
    .protection();
    made.is(
        Cause::Misaligned,
        "read of 16 bytes at 0x7ffd00020008, which is not a multiple of 16: \
         RSP (0x7ffd00020000) + 0x8",
    );
    assert_eq!(made.verdict().access, Some(Access::Read));
    // call *%rax
    x86(&[0xff, 0xd0], &[("rax", 0xdead_beef_dead_beef)])
        .protection()
        .is(
            Cause::WildJump,
            "jump to 0xdeadbeefdeadbeef, which is not a canonical address, from RAX; \
             it looks like the fill pattern 0xdeadbeef",
        );
    x86(&[0xf4], &[]).protection().is(
        Cause::PrivilegedInstruction,
        "hlt, which is for the kernel only: C libraries use it to end a program that cannot continue",
    );
    // cli
    x86(&[0xfa], &[]).protection().is(
        Cause::PrivilegedInstruction,
        "the instruction fa is for the kernel only",
    );
    x86(LOAD_X86, &[("rax", HEAP)]).protection().is(
        Cause::Unknown,
        "general-protection fault that the instruction's operands do not explain",
    );
}

#[test]
fn a_return_to_no_address() {
    let sp = STACK + 0x1_0000;
    let mut made = x86(&[0xc3], &[("rsp", sp)]).protection();
    made.is(
        Cause::WildJump,
        "jump to not a canonical address, from the stack: a return address was overwritten",
    );
    made.event.windows.push(MemoryWindow {
        address: ProcessAddress(sp),
        bytes: b"AAAABBBB".to_vec(),
    });
    made.is(
        Cause::WildJump,
        "jump to 0x4242424241414141, which is not a canonical address, \
         from the stack: a return address was overwritten; it looks like the text \"AAAABBBB\"",
    );
}

/// A far return, call or jump may be refused for its segment.
#[test]
fn far_transfers_and_good_targets_are_no_wild_jumps() {
    let sp = STACK + 0x1_0000;
    let unknown = "general-protection fault that the instruction's operands do not explain";
    // lret, lretq, iretq, ljmp *(%rax)
    for code in [&[0xcb][..], &[0x48, 0xcb], &[0x48, 0xcf], &[0xff, 0x28]] {
        x86(code, &[("rsp", sp), ("rax", HEAP)])
            .protection()
            .is(Cause::Unknown, unknown);
    }
    let mut made = x86(&[0xc3], &[("rsp", sp)]).protection();
    made.event.windows.push(MemoryWindow {
        address: ProcessAddress(sp),
        bytes: PC.to_le_bytes().to_vec(),
    });
    made.is(Cause::Unknown, unknown);
}

/// It begins at an address, and ends at none.
#[test]
fn an_operand_that_reaches_past_all_addresses() {
    x86(LOAD_X86, &[("rax", 0x7fff_ffff_fffc)]).protection().is(
        Cause::NonCanonical,
        "read of 8 bytes at 0x7ffffffffffc, of which 0x800000000003 is not a canonical \
             address: RAX (0x7ffffffffffc)",
    );
}

/// A processor names the first byte that it could not have of a masked or repeated one.
#[test]
fn an_address_inside_of_an_operand_that_is_used_in_part() {
    // rep stosq
    x86(&[0xf3, 0x48, 0xab], &[("rdi", HEAP_END - 4), ("rcx", 9)])
        .page_fault(MAPERR, HEAP_END, Access::Write)
        .is(
            Cause::Unmapped,
            "write of up to 8 bytes at 0x555555590ffc, of which 0x555555591000 is not \
             accessible: RDI (0x555555590ffc); 0x555555591000 is the first byte past the end \
             of [heap] (rw-)",
        );
}

#[test]
fn addresses_of_segments() {
    // mov %gs:0x10, %rax
    x86(&[0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0], &[])
        .page_fault(MAPERR, 0x10, Access::Read)
        .is(
            Cause::NullDereference,
            "read of 8 bytes at 0x10: GS (0x0) + 0x10",
        );
    // mov %fs:-8, %rax
    let mut made = x86(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff], &[]);
    made.event.fs_base = HEAP_END + 8;
    made.page_fault(MAPERR, HEAP_END, Access::Read).is(
        Cause::Unmapped,
        "read of 8 bytes at 0x555555591000: FS (0x555555591008) - 0x8; \
         0x555555591000 is the first byte past the end of [heap] (rw-)",
    );
}

/// The top byte is a tag there; the rest may still not be an address.
#[test]
fn non_canonical_on_aarch64() {
    arm(LOAD_ARM, &[("x0", 0x4141_4141_4141_4141)])
        .page_fault(MAPERR, 0x4141_4141_4141_4141, Access::Read)
        .is(
            Cause::NonCanonical,
            "read of 8 bytes at 0x4141414141414141, which is not a canonical address: \
             X0 (0x4141414141414141); X0 looks like the text \"AAAAAAAA\"",
        );
    let tagged = 0x0b00_0000_0000_0000 | (HEAP_END + 8);
    arm(LOAD_ARM, &[("x0", tagged)])
        .page_fault(MAPERR, HEAP_END + 8, Access::Read)
        .is(
            Cause::Unmapped,
            "read of 8 bytes at 0xb00555555591008: X0 (0xb00555555591008); \
             0x555555591008 is 8 bytes past the end of [heap] (rw-)",
        );
}

/// `push %rbp`, `stp x29, x30, [sp, #-32]!`
#[test]
fn overflow_of_the_first_stack() {
    let sp = STACK + 4;
    x86(&[0x55], &[("rsp", sp)])
        .named(&["f", "f", "f", "main"])
        .page_fault(MAPERR, sp - 8, Access::Write)
        .is(
            Cause::StackOverflow,
            "stack overflow: write of 8 bytes at 0x7ffcfffffffc, \
             8 bytes below the stack pointer 0x7ffd00000004; its stack, [stack] (rw-), \
             ends at 0x7ffd00000000 and has 132 KB; f calls itself",
        );
    // A function that it calls may be the one that finds the stack full.
    for (functions, says) in [
        (&["write", "write", "f", "f", "f", "main"][..], true),
        (&["", "", "", "", "f", "f", "f"], true),
        (&["", "", "", "f", "g", "f", "g"], false),
    ] {
        let made = x86(&[0x55], &[("rsp", sp)]).named(functions);
        let text = made
            .page_fault(MAPERR, sp - 8, Access::Write)
            .verdict()
            .text;
        assert_eq!(text.ends_with(b"; f calls itself"), says, "{functions:?}");
    }
    let made = arm(&0xa9be_7bfd_u32.to_le_bytes(), &[("sp", STACK + 0x10)]).page_fault(
        MAPERR,
        STACK - 0x10,
        Access::Write,
    );
    assert_eq!(made.verdict().cause, Cause::StackOverflow);
}

/// A frame of 64 MB: the stack pointer is far below, the access is to the frame.
#[test]
fn overflow_by_a_large_frame() {
    let sp = STACK - (64 << 20);
    // mov %rax, 0x100(%rsp)
    let code = [0x48, 0x89, 0x84, 0x24, 0x00, 0x01, 0x00, 0x00];
    x86(&code, &[("rsp", sp)])
        .page_fault(MAPERR, sp + 0x100, Access::Write)
        .is(
            Cause::StackOverflow,
            "stack overflow: write of 8 bytes at 0x7ffcfc000100, \
             256 bytes above the stack pointer 0x7ffcfc000000, which is more than 63 MB \
             below [stack] (rw-) of 132 KB",
        );
}

#[test]
fn overflow_of_a_threads_stack() {
    for sp in [THREAD, THREAD - 0x100] {
        let made = x86(&[0x55], &[("rsp", sp)]).page_fault(ACCERR, sp - 8, Access::Write);
        let verdict = made.verdict();
        assert_eq!(verdict.cause, Cause::StackOverflow, "{sp:#x}");
        assert!(verdict.text.starts_with(b"stack overflow: "), "{sp:#x}");
    }
    // A frame larger than the guard: mov %al, 0x2000(%rsp)
    let sp = GUARD - 0x1800;
    let made = x86(&[0x88, 0x84, 0x24, 0x00, 0x20, 0x00, 0x00], &[("rsp", sp)]).page_fault(
        ACCERR,
        sp + 0x2000,
        Access::Write,
    );
    assert_eq!(made.verdict().cause, Cause::StackOverflow);
    // Pages marked by MADV_GUARD_INSTALL belong to a mapping like any other.
    let sp = THREAD + 0x800;
    let made = x86(&[0x55], &[("rsp", sp)]).page_fault(MAPERR, sp - 8, Access::Write);
    let verdict = made.verdict();
    assert_eq!(verdict.cause, Cause::StackOverflow);
    assert!(verdict.text.starts_with(b"probably "));
}

/// Near the stack pointer is not enough.
#[test]
fn what_is_no_overflow() {
    // A buffer's underrun from the middle of the stack down to the guard.
    let sp = THREAD + 0x4_0000;
    x86(STORE_X86, &[("rbx", THREAD - 1 - 0x18), ("rsp", sp)])
        .page_fault(ACCERR, THREAD - 1, Access::Write)
        .is(
            Cause::AccessProtected,
            "write of 4 bytes at 0x7f0000000fff: RBX (0x7f0000000fe7) + 0x18; \
             the address is in [anon] (---), which forbids every access: \
             a guard page or reserved memory",
        );
    // A stack pointer that leads to a page of constants.
    let sp = RODATA + 0x100;
    let made = x86(&[0x55], &[("rsp", sp)]).page_fault(ACCERR, sp - 8, Access::Write);
    assert_eq!(made.verdict().cause, Cause::WriteProtected);
    // One that leads nowhere, in a return.
    let sp = 0x7000_0000_0000;
    let made = x86(&[0xc3], &[("rsp", sp)]).page_fault(MAPERR, sp, Access::Read);
    assert_eq!(made.verdict().cause, Cause::Unmapped);
    // One that is null.
    let made = x86(&[0x55], &[("rsp", 0x100)]).page_fault(MAPERR, 0xf8, Access::Write);
    assert_eq!(made.verdict().cause, Cause::NullDereference);
}

#[test]
fn rare_codes() {
    let at = |code| x86(LOAD_X86, &[("rax", HEAP)]).page_fault(code, HEAP, Access::Read);
    let mut keyed = at(code::SEGV_PKUERR);
    keyed.event.siginfo_more = Some([0, 3]);
    keyed.is(
        Cause::ProtectionKey,
        "read of 8 bytes at 0x555555570000, which the thread's rights for protection key 3 \
         forbid: RAX (0x555555570000)",
    );
    assert_eq!(at(77).verdict().cause, Cause::Unknown);
    let tag = arm(LOAD_ARM, &[("x0", HEAP)]);
    let tag = tag.page_fault(code::SEGV_MTESERR, HEAP, Access::Read);
    assert_eq!(tag.verdict().cause, Cause::MemoryTag);
    let shadow = x86(&[0xc3], &[]).signal(signal::SIGSEGV, code::SEGV_CPERR, 21);
    assert_eq!(shadow.verdict().cause, Cause::ShadowStack);
}

/// musl has no instruction to crash with on aarch64, and writes to null.
#[test]
fn faults_of_the_allocator() {
    // strb wzr, [x0]
    let made = arm(&0x3900_001f_u32.to_le_bytes(), &[("x0", 0)])
        .page_fault(MAPERR, 0, Access::Write)
        .named(&["get_meta", "free", "main"]);
    made.is(
        Cause::NullDereference,
        "write of 1 byte at 0x0: null pointer in X0; in get_meta of the C library: \
         probably the heap was overwritten or a bad pointer was freed",
    );
    let text = 0x4141_4141_4141_4141;
    let made = x86(LOAD_X86, &[("rax", text)])
        .protection()
        .named(&["unlink_chunk.constprop.0", "_int_free"]);
    let verdict = made.verdict();
    assert_eq!(verdict.cause, Cause::NonCanonical);
    assert!(verdict.text.ends_with(b" or a bad pointer was freed"));
}
