//! i386: words of 4 bytes, signal frames, system calls, aligned stacks.

#[cfg(feature = "dwarf")]
use super::synth::{Frames, FRAMES};
use super::*;

const EIP: usize = 16;
const ESP: usize = 19;
const EBP: usize = 4;
/// Executable, in no file.
const VDSO: u64 = 0xf7fc_0000;

fn crash(pc: u64) -> Crash {
    let mut crash = Crash::new(Arch::I386);
    crash.words[EIP] = pc;
    crash.words[ESP] = STACK;
    crash
}

/// The saved registers of `struct sigcontext_32`, with this ebp, esp and eip.
fn sigcontext(ebp: u64, esp: u64, eip: u64) -> [u64; 19] {
    let mut words = [0; 19];
    (words[6], words[7], words[14]) = (ebp, esp, eip);
    words
}

#[test]
fn the_caller_of_a_bad_pc_is_on_top_of_the_stack() {
    let mut crash = crash(0);
    crash.call_through(0x1220);
    crash.stack_32(STACK, &[at(0x1220)]);
    let (frames, _) = crash.frames();
    assert_eq!(frames[..2], [(0, Trust::Context), (0x1220, Trust::Leaf)]);
}

/// The high halves of the registers do not belong to the task.
#[test]
fn frame_pointers_are_followed() {
    let mut crash = crash(at(0x1104) | 0xabcd << 32);
    crash.call_through(0x1220);
    crash.call_through(0x1330);
    crash.words[EBP] = STACK + 8;
    crash.stack_32(STACK, &[0, 0, STACK + 0x1c, at(0x1220), 0, 0, 0]);
    crash.stack_32(STACK + 0x1c, &[0, at(0x1330), 0]);
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::FramePointer),
        (0x1330, Trust::FramePointer),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(at(0x1330))));
}

/// ```text
/// 1100 main: lea 4(%esp), %ecx; and $-16, %esp; push -4(%ecx)
/// 110a       push %ebp; mov %esp, %ebp; push %ecx        no CFI
/// 1300 start: call main                                  cfa = esp+8
/// ```
#[cfg(feature = "dwarf")]
#[test]
fn an_aligned_stack_ends_where_it_was() {
    let mut crash = crash(at(0x1140));
    crash.code(
        0x1100,
        &[
            0x8d, 0x4c, 0x24, 0x04, 0x83, 0xe4, 0xf0, 0xff, 0x71, 0xfc, 0x55, 0x89, 0xe5, 0x51,
        ],
    );
    crash.call_through(0x1310);
    crash.call_through(0x1410);
    crash.module.functions = vec![(0x1100, 0x80)];
    let frames = Frames::new(CfiSection::EhFrame, FRAMES)
        .word(4)
        // def_cfa esp, 4; offset eip, cfa-4
        .cie("zR", 8, &[0x0c, 4, 4, 0x88, 1])
        .fde(0x1300, 0x20, &[0x0e, 8])
        .fde(0x1400, 0x20, &[0x07, 8]);
    crash.eh_frame(frames);
    crash.words[EBP] = STACK + 8;
    // ecx; ebp, the copy, 3 words of alignment; the return address, start's frame.
    crash.stack_32(
        STACK,
        &[
            0,
            STACK + 0x20,
            0,
            at(0x1310),
            1,
            2,
            3,
            at(0x1310),
            4,
            at(0x1410),
        ],
    );
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1140, Trust::Context),
        (0x1310, Trust::FramePointer),
        (0x1410, Trust::Cfi),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::Outermost);
}

/// ```text
/// 1180: pop %ebp; pop %edx; pop %ecx; ret       after int $0x80 in the vDSO
/// 1210: call *%gs:0x10                          in libc; push %ebp, mov %esp, %ebp
/// ```
#[test]
fn a_system_call_returns_through_what_the_vdso_saved() {
    let mut crash = crash(at(0x1180));
    crash.code(0x117e, &[0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3]);
    crash.code(0x1209, &[0x65, 0xff, 0x15, 0x10, 0, 0, 0]);
    crash.call_through(0x1330);
    crash.words[EBP] = 7;
    crash.stack_32(STACK, &[STACK + 0x18, 1, 2, at(0x1210), 3, 4]);
    crash.stack_32(STACK + 0x18, &[0, at(0x1330), 0]);
    let (frames, _) = crash.frames();
    let expected = [
        (0x1180, Trust::Context),
        (0x1210, Trust::Leaf),
        (0x1330, Trust::FramePointer),
    ];
    assert_eq!(frames, expected);
}

/// Both kinds of frame, their restorers in a file (musl, and kernels without a vDSO).
#[test]
fn restorers_are_known_by_their_code() {
    for (restorer, at_words) in [
        (&[0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80][..], 1),
        (&[0xb8, 0xad, 0, 0, 0, 0xcd, 0x80][..], 40),
    ] {
        let mut crash = crash(at(0x1104));
        crash.code(0x1180, restorer);
        crash.call_through(0x1330);
        crash.stack_32(STACK, &[at(0x1180); 1]);
        crash.stack_32(STACK + 4, &[0; 64]);
        crash.stack_32(
            STACK + 4 + at_words * 4,
            &sigcontext(5, STACK + 0x400, at(0x1204)),
        );
        crash.stack_32(STACK + 0x400, &[at(0x1330), 0]);
        let (frames, _) = crash.frames();
        let expected = [
            (0x1104, Trust::Context),
            (0x1180, Trust::Leaf),
            (0x1204, Trust::Signal),
            (0x1330, Trust::Leaf),
        ];
        assert_eq!(frames, expected, "{restorer:x?}");
    }
}

/// sigreturn was refused: the frame is bad, but it is there.
#[test]
fn a_restorer_may_be_left_half_way() {
    let mut crash = crash(at(0x1188));
    crash.code(0x1180, &[0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80]);
    crash.stack_32(STACK, &sigcontext(5, STACK + 0x100, at(0x1204)));
    let (frames, _) = crash.frames();
    assert_eq!(frames, [(0x1188, Trust::Context), (0x1204, Trust::Signal)]);
}

/// glibc's handlers return to the vDSO, whose code is not available: the signal frame is
/// recognized by the code that the kernel puts after the registers.
#[test]
fn signal_frames_are_known_by_the_kernels_mark() {
    for (mark_at, mark, at_words) in [
        (720, [0x0077_b858, 0x80cd_0000], 1),
        (256, [0x0000_adb8, 0x0080_cd00], 40),
    ] {
        let mut crash = crash(at(0x1104));
        crash.module.anonymous = Some(VDSO);
        crash.call_through(0x1330);
        crash.words[EBP] = STACK;
        crash.stack_32(STACK, &[0, VDSO + 0x600]);
        crash.stack_32(STACK + 8, &[0; 200]);
        crash.stack_32(STACK + 8 + mark_at, &mark);
        crash.stack_32(
            STACK + 8 + at_words * 4,
            &sigcontext(5, STACK + 0x400, at(0x1204)),
        );
        crash.stack_32(STACK + 0x400, &[at(0x1330), 0]);
        let (frames, _) = crash.frames();
        let expected = [
            (0x1104, Trust::Context),
            (VDSO + 0x600 - BIAS, Trust::FramePointer),
            (0x1204, Trust::Signal),
            (0x1330, Trust::Leaf),
        ];
        assert_eq!(frames, expected, "{mark_at}");
    }
}

/// DW_OP_deref reads 4 bytes, and addresses in .debug_frame have 4.
#[cfg(feature = "dwarf")]
#[test]
fn expressions_and_debug_frame_have_words_of_4_bytes() {
    for kind in [CfiSection::EhFrame, CfiSection::DebugFrame] {
        let mut crash = crash(at(0x1104));
        crash.call_through(0x1220);
        crash.words[EBP] = STACK + 8;
        crash.stack_32(STACK, &[5, STACK + 0x20, 9, 9, 9, 9, 9, at(0x1220), 1]);
        let augmentation = if kind == CfiSection::EhFrame {
            "zR"
        } else {
            ""
        };
        let frames = Frames::new(kind, FRAMES)
            .word(4)
            .cie(augmentation, 8, &[0x0c, 4, 4, 0x88, 1])
            // def_cfa_expression: breg5 -4; deref
            .fde(0x1100, 0x20, &[0x0f, 3, 0x75, 0x7c, 0x06])
            .fde(0x1200, 0x40, &[0x07, 8]);
        match kind {
            CfiSection::EhFrame => crash.eh_frame(frames),
            _ => crash.section(kind, FRAMES, frames.bytes),
        }
        let (frames, stop) = crash.frames();
        let trust = match kind {
            CfiSection::DebugFrame => Trust::DebugFrame,
            _ => Trust::Cfi,
        };
        assert_eq!(frames, [(0x1104, Trust::Context), (0x1220, trust)]);
        assert_eq!(stop, Stop::Outermost, "{kind:?}");
    }
}

/// The stub's code: endbr32; jmp *0x10(%ebx).
#[test]
fn a_stub_of_the_linkage_table_has_no_frame() {
    let mut crash = crash(at(0x1180));
    crash.code(0x1180, &[0xf3, 0x0f, 0x1e, 0xfb, 0xff, 0xa3, 0x10, 0, 0, 0]);
    crash.call_through(0x1220);
    crash.stack_32(STACK, &[at(0x1220), 0]);
    let (frames, _) = crash.frames();
    assert_eq!(
        frames[..2],
        [(0x1180, Trust::Context), (0x1220, Trust::Leaf)]
    );
}
