//! Faults whose address is not known: what the instruction leaves possible.

use super::*;

const MAPERR: i32 = code::SEGV_MAPERR;
const ACCERR: i32 = code::SEGV_ACCERR;

/// `call *0x10(%rax)`: reads there, and writes to the stack.
const CALL_X86: &[u8] = &[0xff, 0x50, 0x10];
/// `mov %rax, (%rbx)`
const STORE_X86: &[u8] = &[0x48, 0x89, 0x03];
/// `mov (%rax), %rax`
const LOAD_X86: &[u8] = &[0x48, 0x8b, 0x00];
/// `mov %fs:0x28, %rax`
const LOAD_FS_X86: &[u8] = &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0];
/// `str w0, [x1, #0x18]`
const STORE_ARM: &[u8] = &0xb900_1820_u32.to_le_bytes();
/// `ldadd x0, x0, [x1]`
const ADD_ARM: &[u8] = &0xf820_0020_u32.to_le_bytes();

/// A SIGSEGV of which perf events tell the registers and no more.
fn without_fault(arch: Arch, code: i32, instruction: &[u8], registers: &[(&str, u64)]) -> Made {
    let mut made = Made::new(arch).at(instruction, registers);
    made.event.code = code;
    (made.event.trap, made.event.siginfo) = (None, Siginfo::Unknown);
    made.event.fs_base = 0;
    made.event.windows = vec![MemoryWindow {
        address: ProcessAddress(STACK + 0x1_ff00),
        bytes: vec![0; 0x300],
    }];
    made
}

fn inferred(made: &Made) -> Option<(u64, Option<Access>)> {
    let event = &made.event;
    let registers = event.registers.expect("set by new");
    let code = &event.code_bytes.bytes[16..];
    let (siginfo, trap) = infer(event, &Fault::of(event), &registers, code)?;
    let access = fault::access(made.arch(), siginfo, Some(trap));
    Some((siginfo.address().unwrap_or_default().0, access))
}

#[test]
fn one_operand_tells_address_and_access() {
    let made = without_fault(Arch::X86_64, MAPERR, STORE_X86, &[("rbx", 0x18)]);
    assert_eq!(inferred(&made), Some((0x18, Some(Access::Write))));
    let made = without_fault(Arch::X86_64, ACCERR, LOAD_X86, &[("rax", GUARD + 8)]);
    assert_eq!(inferred(&made), Some((GUARD + 8, Some(Access::Read))));
    let made = without_fault(Arch::Aarch64, MAPERR, STORE_ARM, &[("x1", 0)]);
    assert_eq!(inferred(&made), Some((0x18, Some(Access::Write))));
}

#[test]
fn what_the_stack_holds_is_ruled_out() {
    let made = without_fault(Arch::X86_64, MAPERR, CALL_X86, &[("rax", 0)]);
    assert_eq!(inferred(&made), Some((0x10, Some(Access::Read))));
    let mut made = made;
    made.event.windows.clear();
    // In the mapping of the stack, and so is what it pushes.
    assert_eq!(inferred(&made), Some((0x10, Some(Access::Read))));
    made.event
        .mappings
        .retain(|mapping| mapping.start.0 != STACK);
    assert_eq!(inferred(&made), None, "or the stack has overflowed");
}

#[test]
fn nothing_is_said_where_it_may_be_another_address() {
    let across = without_fault(Arch::X86_64, MAPERR, LOAD_X86, &[("rax", 0x5000_0ffc)]);
    assert_eq!(inferred(&across), None, "across two pages");
    let fs = without_fault(Arch::X86_64, MAPERR, LOAD_FS_X86, &[]);
    assert_eq!(inferred(&fs), None, "a segment whose base is not known");
    let mapped = without_fault(Arch::X86_64, MAPERR, LOAD_X86, &[("rax", HEAP)]);
    assert_eq!(inferred(&mapped), None, "what is mapped is no fault");
    let none = without_fault(Arch::X86_64, MAPERR, &[0x48, 0x3d, 1, 0, 0, 0], &[]);
    assert_eq!(
        inferred(&none),
        None,
        "a cmp after the system call that made the signal"
    );
    let copy = without_fault(
        Arch::X86_64,
        MAPERR,
        &[0x48, 0xa5],
        &[("rsi", 8), ("rdi", 16)],
    );
    assert_eq!(inferred(&copy), None, "a copy from and to");
}

#[test]
fn atomics_of_aarch64_read_before_they_write() {
    let made = without_fault(Arch::Aarch64, MAPERR, ADD_ARM, &[("x1", 8)]);
    assert_eq!(inferred(&made), Some((8, Some(Access::Read))));
    let made = without_fault(Arch::Aarch64, ACCERR, ADD_ARM, &[("x1", GUARD)]);
    assert_eq!(inferred(&made), None);
}

#[test]
fn protection_faults_are_seen_in_the_operands() {
    let made = |code: &[u8], registers: &[(&str, u64)]| {
        let made = without_fault(Arch::X86_64, code::SI_KERNEL, code, registers);
        inferred(&made).is_some()
    };
    assert!(made(LOAD_X86, &[("rax", 0x4141_4141_4141_4141)]));
    assert!(!made(LOAD_X86, &[("rax", 8)]), "a page fault's address");
    // movaps %xmm0, 8(%rsp)
    assert!(made(
        &[0x0f, 0x29, 0x44, 0x24, 8],
        &[("rsp", STACK + 0x2_0000)]
    ));
    // hlt; call *%rax
    assert!(made(&[0xf4], &[]));
    assert!(made(&[0xff, 0xd0], &[("rax", 0x4040_4040_4040_4040)]));
}

/// What is inferred leads to the same sentence as what is known.
#[test]
fn causes_are_those_of_faults_that_are_known() {
    let registers = [("rbx", HEAP_END + 0x10)];
    let mut without = without_fault(Arch::X86_64, MAPERR, STORE_X86, &registers);
    let known = Made::new(Arch::X86_64)
        .at(STORE_X86, &registers)
        .page_fault(MAPERR, HEAP_END + 0x10, Access::Write);
    let event = &without.event;
    let own = event.registers.expect("set by new");
    let code = &event.code_bytes.bytes[16..];
    let (siginfo, trap) = infer(event, &Fault::of(event), &own, code).expect("one operand");
    (without.event.siginfo, without.event.trap) = (siginfo, Some(trap));
    assert_eq!(without.verdict(), known.verdict());
}

/// Which mapping is the stack's is not known then.
#[test]
fn a_stack_that_cannot_be_read_has_probably_overflowed() {
    let sp = STACK - 0x10;
    let mut made = Made::new(Arch::X86_64)
        .at(&[0x50], &[("rsp", sp)])
        .page_fault(MAPERR, sp - 8, Access::Write);
    made.event.mappings.truncate(1);
    made.event.lost = ["data_mappings", "stack"]
        .map(|detail| crate::crash::event::Lost { detail, reason: "" })
        .to_vec();
    made.is(
        Cause::StackOverflow,
        "probably stack overflow: write of 8 bytes at 0x7ffcffffffe8, 8 bytes below the stack \
         pointer 0x7ffcfffffff0, where nothing can be read",
    );
    made.event.lost.truncate(1);
    assert_ne!(made.verdict().cause, Cause::StackOverflow);
}

/// Whether a file is mapped there is not known then, nor how long it is.
#[test]
fn a_bus_error_is_not_explained_by_mappings_that_are_not_known() {
    let mut made = Made::new(Arch::X86_64)
        .at(LOAD_X86, &[("rax", 0x7f00_4000_0000)])
        .page_fault(code::BUS_ADRERR, 0x7f00_4000_0000, Access::Read);
    made.event.signal = signal::SIGBUS;
    made.event.lost = vec![crate::crash::event::Lost {
        detail: "data_mappings",
        reason: "",
    }];
    made.is(
        Cause::Unknown,
        "read of 8 bytes at 0x7f0040000000, for which the kernel had no page; what is mapped there is not known, perhaps a file that ends before it",
    );
}
