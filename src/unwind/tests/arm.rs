//! 32-bit ARM: what call-frame information gives, and where it ends.

use super::*;

const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 32;

fn crash(pc: u64) -> Crash {
    let mut crash = Crash::new(Arch::Arm);
    crash.words[PC] = pc;
    crash.words[SP] = STACK;
    crash
}

#[test]
fn without_call_frame_information_there_is_no_caller() {
    let mut crash = crash(at(0x1104));
    crash.words[LR] = at(0x1220);
    crash.stack_32(STACK, &[at(0x1220), at(0x1330)]);
    let (frames, stop) = crash.frames();
    assert_eq!(frames, [(0x1104, Trust::Context)]);
    assert_eq!(stop, Stop::NoCaller(ProcessAddress(at(0x1104))));
}

/// ```text
/// 1100 leaf:                        cfa = sp, lr has the return address
/// 1200 outer: push {r3, lr}         1204: cfa = sp+8, lr at cfa-4; Thumb
/// 1300 start: undefined lr
/// ```
#[cfg(feature = "dwarf")]
#[test]
fn debug_frame_is_followed() {
    use super::synth::{Frames, FRAMES};
    let mut crash = crash(at(0x1104));
    crash.words[LR] = at(0x1220) | 1;
    crash.stack_32(STACK, &[3, at(0x1310)]);
    let frames = Frames::new(CfiSection::DebugFrame, FRAMES)
        .word(4)
        // def_cfa sp, 0
        .cie("", 14, &[0x0c, 13, 0])
        .fde(0x1100, 0x20, &[])
        // advance_loc 4; def_cfa_offset 8; offset lr, cfa-4
        .fde(0x1200, 0x40, &[0x44, 0x0e, 8, 0x8e, 1])
        .fde(0x1300, 0x20, &[0x07, 14]);
    crash.section(CfiSection::DebugFrame, FRAMES, frames.bytes);
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1104, Trust::Context),
        (0x1220, Trust::DebugFrame),
        (0x1310, Trust::DebugFrame),
    ];
    assert_eq!(frames, expected);
    assert_eq!(stop, Stop::Outermost);
}
