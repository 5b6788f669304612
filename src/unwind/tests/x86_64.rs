//! x86_64 without call-frame information: bad pcs, frame pointers, scans and
//! the ends of stacks.

use super::super::CodeAddress;
use super::*;

pub(super) const RIP: usize = 16;
pub(super) const RSP: usize = 19;
pub(super) const RBP: usize = 4;

pub(super) fn crash(pc: u64) -> Crash {
    let mut crash = Crash::new(Arch::X86_64);
    crash.words[RIP] = pc;
    crash.words[RSP] = STACK;
    crash
}

impl Crash {
    /// call *%rax
    pub(super) fn call_through(&mut self, returns: u64) {
        self.code(returns - 2, &[0xff, 0xd0]);
    }
}

/// A call through a null pointer: nothing but the return address was pushed.
#[test]
fn the_caller_of_a_bad_pc_is_on_top_of_the_stack() {
    let mut crash = crash(0);
    crash.call_through(0x1220);
    crash.stack(STACK, &[at(0x1220)]);
    let (frames, _) = crash.frames();
    assert_eq!(frames[..2], [(0, Trust::Context), (0x1220, Trust::Leaf)]);
}

/// ```text
/// 121b: call data
/// ```
#[test]
fn a_call_of_a_place_without_code_is_one_if_the_pc_is_there() {
    let data = BIAS + 0x10_0000;
    let mut crash = crash(data);
    let distance = (data - at(0x1220)) as u32;
    let mut call = vec![0xe8];
    call.extend_from_slice(&distance.to_le_bytes());
    crash.code(0x121b, &call);
    crash.stack(STACK, &[at(0x1220)]);
    let walk = crash.walk();
    let caller = CodeAddress::Return(ProcessAddress(at(0x1220)));
    assert_eq!(
        (walk.frames[1].code, walk.frames[1].trust),
        (caller, Trust::Leaf)
    );
    assert!(walk.frames.len() == 2 && walk.certain == 2);
    crash.words[RIP] = data + 8;
    assert_eq!(crash.walk().frames.len(), 1);
}

#[test]
fn a_bad_pc_without_a_call_has_no_caller() {
    let mut crash = crash(0x1234);
    crash.stack(STACK, &[at(0x1220), at(0x1330), 0]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(0x1234)));
}

/// ```text
/// 1100: push %rbp; mov %rsp, %rbp      no CFI; so has its caller
/// ```
#[test]
fn frame_pointers_are_followed_upwards_only() {
    let mut crash = crash(at(0x1104));
    crash.call_through(0x1220);
    crash.call_through(0x1330);
    crash.words[RBP] = STACK + 0x10;
    crash.stack(STACK, &[0, 0, STACK + 0x40, at(0x1220), 0, 0, 0, 0]);
    crash.stack(STACK + 0x40, &[STACK + 0x10, at(0x1330), 0, 0]);
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::FramePointer),
        (0x1330, Trust::FramePointer),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(at(0x1330))));
}

#[test]
fn words_far_up_the_stack_need_evidence() {
    let mut crash = crash(at(0x1104));
    crash.call_through(0x1220);
    crash.stack(STACK, &[0; 600]);
    crash.stack(STACK + 8 * 500, &[at(0x1220)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(at(0x1104))));
}

/// ```text
/// 1100: sub $4096, %rsp; ...        its local was never written to
/// 1500: call 1100
/// ```
#[test]
fn a_scan_goes_on_above_pages_that_were_never_used() {
    let mut crash = crash(at(0x1107));
    crash.code(0x1100, &[0x48, 0x81, 0xec, 0, 0x10, 0, 0]);
    crash.code(0x1500, &[0xe8, 0xfb, 0xfb, 0xff, 0xff]);
    crash.module.functions = vec![(0x1100, 0x20)];
    // Not as deep as its code says, so that the scan has to find it.
    let slot = STACK + 0x1040;
    crash.stack(slot, &[at(0x1505), 0, 0]);
    assert_eq!(crash.frames().0.len(), 1, "the window ended there");
    crash.unused_to = Some(STACK + 0x1000);
    crash.stack(STACK + 0x1000, &[0; 8]);
    let (frames, _) = crash.frames();
    assert_eq!(frames[1..], [(0x1505, Trust::ScanDirect)]);
}

/// ```text
/// 1100: sub $8, %rsp; ...      called by code that was compiled at run time
/// ```
#[test]
fn a_return_address_in_unreadable_code_is_taken_where_the_code_says_it_lies() {
    let compiled = BIAS + 0x10_0000;
    let mut crash = crash(at(0x1106));
    crash.code(0x1100, &[0x48, 0x83, 0xec, 8]);
    crash.module.anonymous = Some(compiled);
    crash.stack(STACK, &[0, compiled + 0x20, 0]);
    assert_eq!(
        crash.frames().0.len(),
        1,
        "the function's start is not known"
    );
    crash.module.functions = vec![(0x1100, 0x20)];
    let (frames, _) = crash.frames();
    assert_eq!(frames[1..], [(compiled + 0x20 - BIAS, Trust::Scan)]);
    crash.stack(STACK, &[0, STACK]);
    assert_eq!(crash.frames().0.len(), 1, "no code");
}

/// ```text
/// 1200: sub $8, %rsp; ...; call *%rax      calls what is in a file that is gone
/// ```
#[test]
fn records_alone_are_believed_where_nothing_speaks_against_them() {
    let gone = BIAS + 0x10_0000;
    let mut crash = crash(gone + 0x10);
    crash.module.gone = Some(gone);
    crash.code(0x1200, &[0x48, 0x83, 0xec, 8]);
    crash.module.functions = vec![(0x1200, 0x100)];
    crash.call_through(0x1220);
    crash.call_through(0x1330);
    crash.words[RBP] = STACK + 0x10;
    crash.stack(STACK, &[1, 2, STACK + 0x40, gone + 0x50, 3, 4, 5, 6]);
    crash.stack(STACK + 0x40, &[1, at(0x1220), 7, at(0x1330), 0, 0]);
    let (frames, _) = crash.frames();
    let expected = [
        (gone + 0x10 - BIAS, Trust::Context),
        (gone + 0x50 - BIAS, Trust::FramePointer),
        (0x1220, Trust::FramePointer),
    ];
    assert_eq!(frames[..3], expected);

    // The return address of a function that has no record.
    let mut skipped = crash.clone();
    skipped.stack(STACK + 8, &[gone + 0x70]);
    let (frames, stop) = skipped.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(gone + 0x10)));

    // A chain that leads nowhere.
    crash.stack(STACK + 0x48, &[0x1220]);
    assert_eq!(crash.frames().0.len(), 1);
}

/// musl's `__clone`: call *%r9; mov %eax, %edi; xor %eax, %eax; mov $60, %al; syscall
#[test]
fn code_that_ends_the_thread_is_outermost() {
    let mut crash = crash(at(0x1104));
    crash.code(0x121d, &[0x41, 0xff, 0xd1]);
    crash.code(0x1220, &[0x89, 0xc7, 0x31, 0xc0, 0xb0, 0x3c, 0x0f, 0x05]);
    crash.stack(STACK, &[at(0x1220)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames[1..], [(0x1220, Trust::Leaf)]);
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn entry_points_and_the_first_stack_pointer_are_outermost() {
    let mut crash = crash(at(0x1104));
    crash.call_through(0x1220);
    crash.stack(STACK, &[at(0x1220)]);
    crash.module.entry = Some(0x1210);
    assert_ne!(
        crash.frames().1,
        Stop::Outermost,
        "something may have called it"
    );
    crash.module.functions = vec![(0x1218, 0x40)];
    assert_ne!(
        crash.frames().1,
        Stop::Outermost,
        "a function behind the entry point"
    );
    crash.module.functions = vec![(0x1210, 0x40)];
    assert_eq!(crash.frames().1, Stop::Outermost);
    crash.module.functions.clear();
    crash.stack_start = Some(STACK + 0x20);
    crash.stack(STACK + 8, &[1, 2, 3]);
    assert_eq!(crash.frames().1, Stop::Outermost, "nothing has called it");
    crash.stack(STACK + 8, &[1, at(0x1220), 3]);
    assert_eq!(crash.frames().0.len(), 3, "one that was called goes before");
    crash.stack_start = None;
    crash.module.entry = None;
    assert_ne!(crash.frames().1, Stop::Outermost);
    crash.stack_start = Some(STACK + 8);
    assert_eq!(crash.frames().1, Stop::Outermost);
}

/// ```text
/// compiled+0x80 and +0x180: call *%rax; leave; ret     in no file
/// 1220: call *%rax                                      CFI lacks; so has 1104
/// ```
/// The compiled code's locals hold a word that follows a call, too.
#[test]
fn records_of_compiled_code_are_taken_before_what_is_left_over() {
    let compiled = 0x7f00_0000_0000;
    let mut crash = crash(compiled + 0x90);
    crash.module.anonymous = Some(compiled);
    crash.call_through(0x1220);
    crash.call_through(0x1330);
    crash.words[RBP] = STACK + 0x20;
    crash.stack(
        STACK,
        &[0, at(0x1330), 0, 0, STACK + 0x50, compiled + 0x180],
    );
    crash.stack(STACK + 0x30, &[at(0x1330), 0, 0, 0, 0, at(0x1220), 0, 0]);
    let here = (compiled + 0x90, vec![0x90, 0xc9, 0xc3]);
    let above = (
        compiled + 0x178,
        vec![0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0, 0xc9, 0xc3],
    );
    crash.module.captured = vec![here, above];
    crash.stack(STACK + 0x20, &[STACK + 0x50, compiled + 0x180]);
    crash.stack(STACK + 0x50, &[0, at(0x1220)]);
    let walk = crash.walk();
    let frames: Vec<_> = walk
        .frames
        .iter()
        .map(|f| (f.code.address().0, f.trust))
        .collect();
    let expected = [
        (compiled + 0x90, Trust::Context),
        (compiled + 0x180, Trust::FramePointer),
        (at(0x1220), Trust::FramePointer),
    ];
    assert_eq!(frames[..3], expected);
    // Without the code a record cannot be believed.
    crash.module.captured.clear();
    assert_ne!(
        crash.frames().0.get(1),
        Some(&(compiled + 0x180, Trust::FramePointer))
    );
    assert!(crash.walk().uncertain || crash.walk().stop != Stop::Outermost);
}

/// ```text
/// 1200 sigpanic: put between the instruction that faulted and its stack
/// 1300 leaf:     without a frame, faults at 1308
/// 1400 mid:      call leaf
/// 1501 goexit+1
/// ```
#[test]
fn go_puts_sigpanic_behind_an_instruction_that_faulted() {
    let mut crash = crash(at(0x1210));
    crash.module.keeps_frame_pointers = true;
    let functions = [
        (0x1200, 0x40),
        (0x1300, 0x40),
        (0x1400, 0x40),
        (0x1500, 0x20),
    ];
    crash.module.functions = functions.to_vec();
    // push %rbp; mov %rsp, %rbp
    crash.code(0x1200, &[0x55, 0x48, 0x89, 0xe5]);
    crash.code(0x1400, &[0x55, 0x48, 0x89, 0xe5]);
    // call leaf
    crash.code(0x1410, &[0xe8, 0xeb, 0xfe, 0xff, 0xff]);
    let frame = STACK + 0x18;
    crash.stack(STACK, &[frame, at(0x1308), at(0x1415), 0, at(0x1501), 0]);
    crash.words[RBP] = STACK;
    let walk = crash.walk();
    let frames: Vec<_> = walk.frames.iter().map(|f| f.code.address().0).collect();
    assert_eq!(frames, [at(0x1210), at(0x1308), at(0x1415), at(0x1501)]);
    assert_eq!(walk.stop, Stop::Outermost);
    assert!(!walk.uncertain);
    assert_eq!(walk.certain, 4);
    // Go up to 1.20: sub $16, %rsp; mov %rbp, 8(%rsp); lea 8(%rsp), %rbp
    let older = [
        0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0x6c, 0x24, 8, 0x48, 0x8d, 0x6c, 0x24, 8,
    ];
    let mut old = crash.clone();
    old.code(0x1200, &older);
    old.code(0x1400, &older);
    let record = STACK + 8;
    let caller = STACK + 0x28;
    old.stack(
        STACK,
        &[0, caller, at(0x1308), at(0x1415), 0, 0, at(0x1501), 0],
    );
    old.words[RBP] = record;
    let walk = old.walk();
    let frames: Vec<_> = walk.frames.iter().map(|f| f.code.address().0).collect();
    assert_eq!(frames, [at(0x1210), at(0x1308), at(0x1415), at(0x1501)]);
    assert_eq!((walk.stop, walk.uncertain), (Stop::Outermost, false));
    // In code of other languages such an address was put there to be returned to.
    crash.module.keeps_frame_pointers = false;
    assert_ne!(crash.walk().stop, Stop::Outermost);
}

/// ```text
/// 1200 asmcgocall: on g0's stack, without a frame; rbp is the goroutine's
/// 1300 cgocall:    call asmcgocall; its frame lies below the record
/// 1401 goexit+1
/// ```
#[test]
fn go_goes_back_to_the_stack_that_the_frame_pointer_leads_to() {
    const GOROUTINE: u64 = 0x4000_0000;
    let mut crash = crash(at(0x1210));
    crash.module.keeps_frame_pointers = true;
    crash.module.functions = vec![(0x1200, 0x40), (0x1300, 0x40), (0x1400, 0x20)];
    // mov (%rsp), %rsp: how deep it is its code does not say.
    crash.code(0x1200, &[0x48, 0x8b, 0x24, 0x24]);
    // sub $0x28, %rsp; lea 0x20(%rsp), %rbp
    crash.code(
        0x1300,
        &[0x48, 0x83, 0xec, 0x28, 0x48, 0x8d, 0x6c, 0x24, 0x20],
    );
    // call asmcgocall
    crash.code(0x131b, &[0xe8, 0xe0, 0xfe, 0xff, 0xff]);
    crash.call_through(0x1110);
    // Left over.
    crash.stack(STACK, &[0, 0, at(0x1110), 0]);
    crash.stack(GOROUTINE, &[at(0x1320), 0, 0, 0, 0, 0, at(0x1401), 0]);
    crash.words[RBP] = GOROUTINE + 0x28;
    let walk = crash.walk();
    let frames: Vec<_> = walk.frames.iter().map(|f| f.code.address().0).collect();
    assert_eq!(frames, [at(0x1210), at(0x1320), at(0x1401)]);
    assert_eq!(walk.stop, Stop::Outermost);
    assert!(!walk.uncertain);
    // Nothing leads back: leftovers are not shown.
    crash.words[RBP] = 0;
    assert_eq!(crash.frames().0.len(), 1);
}
