//! x86_64 with call-frame information: rows, expressions, signal frames, and
//! what a scan makes of it.

use super::super::CodeAddress;
use super::synth::{Frames, FRAMES};
use super::x86_64::{crash, RBP, RIP, RSP};
use super::*;

const RBX: usize = 5;

/// def_cfa rsp, 8; offset rip, cfa-8
const INITIAL: [u8; 5] = [0x0c, 7, 8, 0x90, 1];
/// undefined rip
const OUTERMOST: [u8; 2] = [0x07, 16];

/// mov $15, %rax; syscall
const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

impl Crash {
    /// A `call` of `target` whose return address is `returns`.
    fn call(&mut self, returns: u64, target: u64) {
        let mut code = vec![0xe8];
        code.extend_from_slice(&(target.wrapping_sub(returns) as u32).to_le_bytes());
        self.code(returns - 5, &code);
    }
}

fn eh_frame() -> Frames {
    Frames::new(CfiSection::EhFrame, FRAMES).cie("zR", 16, &INITIAL)
}

/// ```text
/// 1100 inner:  mov (%rax), %eax        cfa = rsp+8, rip = [cfa-8]
/// 1200 outer:  sub $24, %rsp           1204: cfa = rsp+32
/// 121b         call inner              returns to 1220
/// 1300 _start: call outer              returns to 1310; rip undefined
/// ```
fn three_frames() -> Crash {
    let mut crash = crash(at(0x1104));
    crash.call(0x1220, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            // advance_loc 4; def_cfa_offset 32
            .fde(0x1200, 0x40, &[0x44, 0x0e, 32])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.stack(STACK, &[at(0x1220), 1, 2, 3, at(0x1310)]);
    crash
}

/// ```text
/// compiled+0x90                    the record at the frame pointer returns to 1320
/// 1200 left over: sub $24, %rsp    its frame would end where that record does
/// 1300 caller: call *%rax          1320
/// ```
#[test]
fn a_record_is_not_that_of_a_function_which_never_sets_the_frame_pointer() {
    let compiled = 0x7f00_0000_0000;
    let frames = || {
        eh_frame()
            .fde(0x1200, 0x40, &[0x44, 0x0e, 32])
            .fde(0x1300, 0x40, &OUTERMOST)
    };
    let mut crash = crash(compiled + 0x90);
    crash.module.anonymous = Some(compiled);
    crash.module.captured = vec![(compiled + 0x90, vec![0x90; 4])];
    crash.call_through(0x1220);
    crash.call_through(0x1320);
    crash.eh_frame(frames());
    crash.words[RBP] = STACK + 0x20;
    crash.stack(STACK, &[0, at(0x1220), 0, 0, STACK + 0x80, at(0x1320), 0]);
    assert_eq!(crash.frames().0[1..], [(0x1320, Trust::FramePointer)]);
    // push %rbp; mov %rsp, %rbp
    crash.code(0x1200, &[0x55, 0x48, 0x89, 0xe5]);
    assert_eq!(crash.frames().0[1].0, 0x1220);
}

/// ```text
/// compiled+0x180 and +0x280: what an interpreter returns to, behind jumps
/// 1220: call *%rax             begins the interpreter
/// ```
#[test]
fn records_of_an_interpreter_that_jumps_are_taken_if_they_lead_to_a_call() {
    let compiled = 0x7f00_0000_0000;
    let mut crash = crash(compiled + 0x90);
    crash.module.anonymous = Some(compiled);
    crash.call_through(0x1220);
    crash.words[RBP] = STACK + 0x10;
    crash.stack(
        STACK,
        &[
            0,
            0,
            STACK + 0x30,
            compiled + 0x180,
            0,
            0,
            STACK + 0x50,
            compiled + 0x280,
            0,
            0,
            STACK + 0x70,
            at(0x1220),
        ],
    );
    let jump = vec![0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0, 0x90];
    crash.module.captured = vec![
        (compiled + 0x90, vec![0x90; 4]),
        (compiled + 0x178, jump.clone()),
        (compiled + 0x278, jump),
    ];
    crash.eh_frame(eh_frame().fde(0x1200, 0x40, &OUTERMOST));
    let walk = crash.walk();
    let frames: Vec<_> = walk.frames.iter().map(|f| (f.code, f.trust)).collect();
    let record = |address| {
        let code = CodeAddress::Return(ProcessAddress(address));
        (code, Trust::FramePointer)
    };
    let expected = [compiled + 0x180, compiled + 0x280, at(0x1220)].map(record);
    assert_eq!(frames[1..4], expected);
    assert!(walk.uncertain);
    // The chain leads nowhere.
    crash.stack(STACK + 0x58, &[0]);
    assert_eq!(crash.walk().frames.len(), 1);
}

#[test]
fn rows_lead_to_an_undefined_return_address() {
    let (frames, stop) = three_frames().frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::Cfi),
        (0x1310, Trust::Cfi),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn a_zero_return_address_is_an_end_where_the_stack_ends() {
    let mut crash = three_frames();
    crash.stack(STACK + 32, &[0]);
    let (frames, stop) = crash.frames();
    let overwritten = Stop::BadReturn(ProcessAddress(0));
    assert_eq!((frames.len(), stop), (2, overwritten));
    crash.stack_start = Some(STACK + 40);
    let (frames, stop) = crash.frames();
    assert_eq!((frames.len(), stop), (2, Stop::Outermost));
}

#[test]
fn a_stack_that_was_not_captured_says_where() {
    let mut crash = three_frames();
    crash.memory.remove(&(STACK + 32));
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(stop, Stop::StackNotCaptured(ProcessAddress(STACK + 32)));
}

#[test]
fn depth_is_what_was_asked_for() {
    let crash = three_frames();
    let space = Space::of(&crash);
    let registers = Registers::new(crash.arch, crash.words);
    let walk = walk(&registers, &space, 2, &mut Caches::new(10, 10_000));
    assert_eq!((walk.frames.len(), walk.stop), (2, Stop::Depth));
}

#[test]
fn a_return_address_that_was_overwritten_is_said() {
    let mut crash = three_frames();
    crash.stack(STACK + 32, &[0x4141_4141_4141_4141]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(stop, Stop::BadReturn(ProcessAddress(0x4141_4141_4141_4141)));
}

/// The stack that `switch` came from, below the one that it led to.
const OTHER: u64 = STACK - 0x10000;

/// ```text
/// 1100 inner:  mov (%rax), %eax        cfa = rsp+8, rip = [cfa-8]
/// 1200 switch: push %rbp; mov %rsp, %rbp; mov %rdi, %rsp
/// 121e         call *%rsi              cfa = rbp+16, rbp = [cfa-16]
/// 1300 _start: call switch             returns to 1310; rip undefined
/// ```
fn switched_down() -> Crash {
    let mut crash = crash(at(0x1104));
    crash.code(0x121e, &[0xff, 0xd6]);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            // def_cfa rbp, 16; offset rbp, cfa-16
            .fde(0x1200, 0x40, &[0x0c, 6, 16, 0x86, 2])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.words[RBP] = OTHER;
    crash.stack(STACK, &[at(0x1220), 1, 2, 3]);
    crash.stack(OTHER, &[0, at(0x1310), 4]);
    crash.other_to = STACK - 128;
    crash
}

#[test]
fn rows_lead_down_to_the_stack_that_was_switched_from() {
    let (frames, stop) = switched_down().frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::Cfi),
        (0x1310, Trust::Cfi),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn rows_lead_down_once_behind_a_call_and_to_another_stack() {
    let stopped = |crash: Crash| {
        let (frames, stop) = crash.frames();
        assert!(matches!(stop, Stop::NoProgress(_)), "{stop:?}");
        frames.len()
    };
    let mut same = switched_down();
    same.other_to = 0;
    assert_eq!(stopped(same), 2, "what lies below is no other stack");
    let mut uncalled = switched_down();
    uncalled.code(0x130b, &[0x90; 5]);
    assert_eq!(stopped(uncalled), 2, "no call is before the return address");
    let mut circle = switched_down();
    circle.stack(OTHER, &[OTHER - 32, at(0x1220), 0, 0]);
    circle.stack(OTHER - 32, &[OTHER, at(0x1220), 0, 0]);
    assert_eq!(stopped(circle), 3, "a second time");
}

/// ```text
/// 1200 last:  sub $8, %rsp             1204: cfa = rsp+16
/// 120b        call dies                its last instruction: returns to 1210
/// 1210 next:                           cfa = rsp+8
/// ```
#[test]
fn a_call_may_be_the_last_instruction_of_its_function() {
    let mut crash = crash(at(0x1104));
    crash.call(0x1210, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            .fde(0x1200, 0x10, &[0x44, 0x0e, 16])
            .fde(0x1210, 0x10, &[])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.stack(STACK, &[at(0x1210), 7, at(0x1310)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames[2], (0x1310, Trust::Cfi));
    assert_eq!(stop, Stop::Outermost);
}

/// The function's own row has rbp as its base; its callee saved rbp.
///
/// ```text
/// 1100 inner:  push %rbp               1101: cfa = rsp+16, rbp = [cfa-16]
/// 1200 outer:  mov %rsp, %rbp          cfa = rbp+16, rbp = [cfa-16]
/// ```
#[test]
fn saved_registers_come_back() {
    let mut crash = crash(at(0x1104));
    crash.call(0x1220, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[0x41, 0x0e, 16, 0x86, 2])
            .fde(0x1200, 0x40, &[0x0c, 6, 16, 0x86, 2])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.words[RBP] = 0xdead;
    crash.stack(STACK, &[STACK + 0x80, at(0x1220)]);
    crash.stack(STACK + 0x80, &[0, at(0x1310)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 3);
    assert_eq!(stop, Stop::Outermost);
}

/// A row that needs a register which calls do not preserve: only where the callee has
/// left it alone it leads on to a call.
#[test]
fn stale_registers_are_used_where_they_lead_to_a_call() {
    let mut crash = three_frames();
    crash.module.sections.clear();
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            // def_cfa rax, 8
            .fde(0x1200, 0x40, &[0x0c, 0, 8]),
    );
    crash.words[10] = STACK + 0x20;
    let walk = crash.walk();
    assert_eq!(
        walk.frames.get(2).map(|frame| frame.trust),
        Some(Trust::Cfi)
    );
    assert!(!walk.uncertain, "the call is one of 1200");
    // Onward, but to no call; and back.
    crash.words[10] = STACK + 0x18;
    let trusts = |crash: &Crash| crash.frames().0.iter().map(|frame| frame.1).collect();
    let scanned: Vec<Trust> = trusts(&crash);
    assert_eq!(scanned.get(2), Some(&Trust::ScanDirect));
    assert!(crash.walk().uncertain);
    crash.words[10] = STACK - 0x20;
    let (frames, stop) = crash.frames();
    assert_eq!(
        frames[..2],
        [(0x1104, Trust::Context), (0x1220, Trust::Cfi)]
    );
    // Rows that lead nowhere leave the scan, which has 1310's direct call.
    assert_eq!(frames.get(2).map(|frame| frame.1), Some(Trust::ScanDirect));
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(at(0x1310))));
}

/// ```text
/// 1020 stub: jmp *slot(%rip); push $1; jmp 1000
///            cfa = rsp + 8 + ((rip & 15) >= 11) * 8
/// ```
#[test]
fn expressions_see_the_pc() {
    let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
    let mut row = vec![0x0f, plt.len() as u8];
    row.extend_from_slice(&plt);
    for (pc, pushed) in [(0x1020, 0), (0x102b, 1)] {
        let mut crash = crash(at(pc));
        crash.call(0x1310, 0x1020);
        crash.eh_frame(
            eh_frame()
                .fde(0x1020, 0x10, &row)
                .fde(0x1300, 0x20, &OUTERMOST),
        );
        crash.stack(STACK, &[1, 1]);
        crash.stack(STACK + 8 * pushed, &[at(0x1310)]);
        let (frames, stop) = crash.frames();
        assert_eq!(frames[1..], [(0x1310, Trust::Cfi)], "{pc:x}");
        assert_eq!(stop, Stop::Outermost);
    }
}

/// What gcc writes for a realigned stack:
///
/// ```text
/// cfa = [rbp-8]          def_cfa_expression: breg6 -8; deref
/// rbp = [rbp]            expression: breg6 0
/// rbx = [cfa-24]         expression on the cfa: plus_uconst ...
/// ```
#[test]
fn expressions_read_memory_and_begin_with_the_cfa() {
    let mut crash = crash(at(0x1110));
    crash.call(0x1220, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(
                0x1100,
                0x20,
                &[
                    0x0f, 3, 0x76, 0x78, 0x06, // cfa
                    0x10, 6, 2, 0x76, 0, // rbp
                    0x10, 3, 2, 0x48, 0x1c, // rbx: lit24; minus
                ],
            )
            // def_cfa rbx, 16
            .fde(0x1200, 0x40, &[0x0c, 3, 16])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.words[RBP] = STACK + 0x40;
    crash.words[RBX] = 0xdead;
    crash.stack(STACK + 0x38, &[STACK + 0x100, 0]);
    // [cfa-24] = rbx, [cfa-8] = rip
    crash.stack(STACK + 0xe8, &[STACK + 0x200, 0, at(0x1220)]);
    crash.stack(STACK + 0x208, &[at(0x1310)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames[1..], [(0x1220, Trust::Cfi), (0x1310, Trust::Cfi)]);
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn a_row_that_does_not_move_on_is_an_end() {
    let mut crash = three_frames();
    crash.module.sections.clear();
    // val_expression rsp: breg7 0, in a frame that is not the crash's.
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            .fde(0x1200, 0x40, &[0x16, 7, 2, 0x77, 0]),
    );
    crash.stack(STACK + 8, &[at(0x1310)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(stop, Stop::NoProgress(ProcessAddress(STACK + 8)));
}

/// The handler (1100) returns to the restorer (1180); the signal came at the
/// first instruction of 1200, whose row holds only there.
///
/// ```text
/// 11f0 before: cfa = rsp+1008 at its end
/// 1200 first:  movl $1, (%rdi)         cfa = rsp+8
/// ```
fn handled() -> Crash {
    let mut crash = crash(at(0x1104));
    crash.code(0x1180, &RESTORER);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1100, 0x20, &[])
            .fde(0x11f0, 0x10, &[0x0e, 0xf0, 7])
            .fde(0x1200, 0x10, &[])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    let context = STACK + 8;
    crash.stack(STACK, &[at(0x1180)]);
    crash.stack(context + 40, &[0; 15]);
    crash.stack(context + 160, &[STACK - 0x1000, at(0x1200)]);
    crash.stack(STACK - 0x1000, &[at(0x1310)]);
    crash
}

#[test]
fn a_handler_leads_to_what_it_interrupted_exactly() {
    let walk = handled().walk();
    let code: Vec<_> = walk.frames.iter().map(|frame| frame.code).collect();
    let exact = |file| CodeAddress::Exact(ProcessAddress(at(file)));
    let expected = [
        exact(0x1104),
        exact(0x1180),
        exact(0x1200),
        CodeAddress::Return(ProcessAddress(at(0x1310))),
    ];
    assert_eq!(code, expected);
    assert_eq!(walk.frames[2].trust, Trust::Signal);
    assert_eq!(walk.stop, Stop::Outermost);
}

/// A crash in the restorer's own system call: its instruction comes after the bytes by
/// which it is recognized.
#[test]
fn a_restorer_is_known_from_within() {
    let mut crash = handled();
    crash.words[RIP] = at(0x1187);
    crash.words[RSP] = STACK + 8;
    let (frames, stop) = crash.frames();
    assert_eq!(frames[1], (0x1200, Trust::Signal));
    assert_eq!(stop, Stop::Outermost);
}

#[test]
fn a_signal_frame_that_was_not_captured_says_where() {
    let mut crash = handled();
    crash.memory.remove(&(STACK + 8 + 168));
    let (frames, stop) = crash.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!(
        stop,
        Stop::StackNotCaptured(ProcessAddress(STACK + 8 + 168))
    );
}

/// A signal frame whose stack pointer is its own: handlers without end.
#[test]
fn signal_frames_do_not_loop() {
    let mut crash = handled();
    crash.stack(STACK + 8 + 160, &[STACK + 8, at(0x1180)]);
    let crash_walk = crash.walk();
    assert!(crash_walk.frames.len() <= 16);
}

/// rbp is that of an outer function, whose frame lies beyond the caller's.
///
/// ```text
/// 1100 bare:    sub $32, %rsp          no CFI, no frame pointer
/// 1200 caller:  call bare              cfa = rsp+16
/// 1300 _start:  call caller            rip undefined
/// ```
#[test]
fn an_outer_frame_pointer_does_not_hide_callers() {
    let mut crash = crash(at(0x1104));
    crash.module.functions = vec![(0x1100, 0x20), (0x1200, 0x40), (0x1300, 0x20)];
    crash.call(0x1220, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.call_through(0x1410);
    crash.eh_frame(
        eh_frame()
            .fde(0x1200, 0x40, &[0x0e, 16])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.words[RBP] = STACK + 0x80;
    crash.stack(STACK, &[1, 2, 3, 4, at(0x1220), 0, at(0x1310)]);
    crash.stack(STACK + 0x80, &[0, at(0x1410)]);
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::ScanDirect),
        (0x1310, Trust::Cfi),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::Outermost);
}

/// The same without symbols: leftovers of an earlier call, below the true caller, have rows
/// that lead on, but that call went to a function with a row.
#[test]
fn leftovers_come_after_callers() {
    let mut crash = crash(at(0x1104));
    crash.call(0x1220, 0x1100);
    crash.call(0x1230, 0x1400);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1200, 0x40, &[0x0e, 16])
            .fde(0x1300, 0x20, &OUTERMOST)
            .fde(0x1400, 0x20, &[]),
    );
    let leftover = [at(0x1230), 0, at(0x1310)];
    crash.stack(
        STACK,
        &[
            0,
            leftover[0],
            leftover[1],
            leftover[2],
            at(0x1220),
            0,
            at(0x1310),
        ],
    );
    let (frames, _) = crash.frames();
    assert_eq!(frames[1], (0x1220, Trust::ScanCfi));
}

/// The callee (no CFI) saved rbp and used it for something else; the caller's
/// row hangs on it.
#[test]
fn a_scanned_caller_gets_its_frame_pointer_back() {
    let mut crash = crash(at(0x1104));
    crash.module.functions = vec![(0x1100, 0x20)];
    crash.call(0x1220, 0x1100);
    crash.call(0x1310, 0x1200);
    crash.eh_frame(
        eh_frame()
            .fde(0x1200, 0x40, &[0x0c, 6, 16])
            .fde(0x1300, 0x20, &OUTERMOST),
    );
    crash.words[RBP] = 3;
    crash.stack(STACK, &[0, STACK + 0x40, 0, at(0x1220)]);
    crash.stack(STACK + 0x40, &[0, at(0x1310)]);
    let (frames, stop) = crash.frames();
    assert_eq!(
        frames[1..],
        [(0x1220, Trust::ScanDirect), (0x1310, Trust::Cfi)]
    );
    assert_eq!(stop, Stop::Outermost);
}

/// A coroutine's last frame: its address was pushed by hand, and the value that its row
/// takes for a return address is not code.
#[test]
fn a_coroutine_ends_at_its_trampoline() {
    let mut crash = crash(at(0x1104));
    crash.eh_frame(eh_frame().fde(0x1100, 0x20, &[]).fde(0x1200, 0x20, &[]));
    crash.stack(STACK, &[at(0x1200), STACK]);
    let walk = crash.walk();
    let trampoline = CodeAddress::Exact(ProcessAddress(at(0x1200)));
    assert_eq!(walk.frames[1].code, trampoline);
    assert_eq!(walk.stop, Stop::Outermost);
}
