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
/// A `bl` in Thumb code whose return address is `returns`.
fn thumb_call(crash: &mut Crash, returns: u64, target: u64) {
    let distance = (target.wrapping_sub(returns) as i64 >> 1) as u32;
    let sign = distance >> 23 & 1;
    let (j1, j2) = (
        1 ^ (distance >> 22 & 1) ^ sign,
        1 ^ (distance >> 21 & 1) ^ sign,
    );
    let first = 0xf000 | sign << 10 | distance >> 11 & 0x3ff;
    let second = 0xd000 | j1 << 13 | j2 << 11 | distance & 0x7ff;
    crash.code(returns - 4, &[first as u8, (first >> 8) as u8]);
    crash.code(returns - 2, &[second as u8, (second >> 8) as u8]);
}

fn thumb(mut crash: Crash) -> Crash {
    crash.words[33] |= 0x20;
    crash
}

/// The link register and the code alone:
///
/// ```text
/// 1100 leaf:   str r0, [r0]
/// 1200 middle: push {r4, lr}; sub sp, #8; bl leaf
/// 1300 outer:  push {lr}; sub sp, sp, #4; bl middle         (ARM code)
/// ```
#[test]
fn code_of_both_kinds_is_read() {
    let mut crash = thumb(crash(at(0x1100)));
    thumb_call(&mut crash, 0x1208, 0x1100);
    crash.code(0x1100, &[0x00, 0x60]);
    crash.code(0x1200, &[0x10, 0xb5, 0x82, 0xb0]);
    crash.code(0x1300, &0xe52d_e004_u32.to_le_bytes());
    crash.code(0x1304, &0xe24d_d004_u32.to_le_bytes());
    // blx 1200
    let distance = (0x1200_i64 - 0x1310) >> 2;
    let call = 0xfa00_0000 | distance as u32 & 0x00ff_ffff;
    crash.code(0x1308, &call.to_le_bytes());
    crash.module.functions = vec![(0x1100, 0x10), (0x1200, 0x20), (0x1300, 0x20)];
    crash.words[LR] = at(0x1208) | 1;
    crash.stack_32(STACK, &[0, 0, 4, at(0x130c), 0, 0]);
    let walk = crash.walk();
    let (frames, stop) = crash.frames();
    let expected = [
        (0x1100, Trust::Context),
        (0x1208, Trust::Leaf),
        (0x130c, Trust::ScanDirect),
    ];
    assert_eq!(frames, expected);
    // The return address of the last one is zero.
    assert_ne!(stop, Stop::Outermost);
    assert_eq!(walk.certain, 3);
}

/// The kernel's registers, in both kinds of frame, behind both kinds of code.
#[test]
fn handlers_lead_to_what_they_interrupted() {
    let thumb_code = |number: u8| vec![0x4f, 0xf0, number, 0x07, 0x00, 0xdf];
    let arm_code = |number: u8| vec![number, 0x70, 0xa0, 0xe3, 0, 0, 0, 0xef];
    let short_code = |number: u8| vec![number, 0x27, number, 0xdf];
    for (number, registers) in [(119, 32), (173, 160)] {
        for code in [thumb_code(number), arm_code(number), short_code(number)] {
            for into in [0, code.len() as u64] {
                let mut crash = crash(at(0x1180) + into);
                crash.code(0x1180, &code);
                // bx lr, in Thumb code.
                crash.code(0x1204, &[0x70, 0x47]);
                thumb_call(&mut crash, 0x1330, 0x1200);
                crash.module.functions = vec![(0x1200, 0x10), (0x1300, 0x40)];
                crash.stack_32(STACK, &[0; 80]);
                let saved = STACK + registers;
                crash.stack_32(
                    saved + 13 * 4,
                    &[STACK + 0x800, at(0x1330) | 1, at(0x1204), 0x30],
                );
                crash.stack_32(STACK + 0x800, &[0; 4]);
                let (frames, _) = crash.frames();
                let expected = [
                    (0x1180 + into, Trust::Context),
                    (0x1204, Trust::Signal),
                    (0x1330, Trust::Leaf),
                ];
                assert_eq!(frames, expected, "{number} {code:02x?}");
            }
        }
    }
}

/// A restorer in a page that is in no file: by the kernel's mark, or by what it leaves zero.
#[test]
fn the_kernels_own_restorer_is_known_by_its_frame() {
    const PAGE: u64 = 0x7000_0000;
    for (mark, registers) in [(0x5ac3_c35a, 32), (0, 160)] {
        let mut crash = crash(PAGE + 4);
        crash.module.anonymous = Some(PAGE);
        thumb_call(&mut crash, 0x1330, 0x1200);
        crash.code(0x1204, &[0x70, 0x47]);
        crash.module.functions = vec![(0x1200, 0x10)];
        crash.stack_32(STACK, &[0; 80]);
        crash.stack_32(STACK, &[mark]);
        let saved = STACK + registers;
        crash.stack_32(
            saved + 13 * 4,
            &[STACK + 0x800, at(0x1330) | 1, at(0x1204), 0x30],
        );
        crash.stack_32(STACK + 0x800, &[0; 4]);
        let (frames, _) = crash.frames();
        assert_eq!(frames[1], (0x1204, Trust::Signal), "{mark:x}");
        // Not the mode of a user's code.
        crash.stack_32(saved + 16 * 4, &[0x13]);
        let (frames, _) = crash.frames();
        assert!(frames.iter().all(|(_, trust)| *trust != Trust::Signal));
    }
}

/// `.ARM.exidx` holds at calls; in a prologue the code is right.
///
/// ```text
/// 1200 push {r4, lr}; 1202 str r0, [r0]; 1204 bl 1100       vsp = vsp + 8; pop {r4, lr}
/// 1300 push {r4, lr}; 130c bl 1200                             the same
/// ```
#[cfg(feature = "dwarf")]
#[test]
fn tables_are_for_calls() {
    for (pc, pushed) in [(0x1200, false), (0x1202, true)] {
        let mut crash = thumb(crash(at(pc)));
        crash.code(0x1200, &[0x10, 0xb5, 0x00, 0x60]);
        crash.code(0x1300, &[0x10, 0xb5]);
        thumb_call(&mut crash, 0x1310, 0x1200);
        thumb_call(&mut crash, 0x1410, 0x1300);
        crash.module.functions = vec![(0x1200, 0x20), (0x1300, 0x20)];
        let table = 0x1800;
        let word =
            |place: u64, to: u64| (to.wrapping_sub(place) as u32 & 0x7fff_ffff).to_le_bytes();
        let inline = 0x80a8_b0b0_u32.to_le_bytes();
        let index = [
            word(table, 0x1200),
            inline,
            word(table + 8, 0x1300),
            inline,
            word(table + 16, 0x1400),
            1_u32.to_le_bytes(),
        ];
        crash.section(CfiSection::ArmIndex, table, index.concat());
        crash.words[LR] = at(0x1310) | 1;
        let from = if pushed { STACK } else { STACK + 8 };
        crash.words[SP] = from;
        crash.stack_32(STACK, &[4, at(0x1310) | 1, 4, at(0x1410) | 1, 0, 0]);
        let (frames, _) = crash.frames();
        let first = if pushed {
            Trust::ScanDirect
        } else {
            Trust::Leaf
        };
        let expected = [(pc, Trust::Context), (0x1310, first), (0x1410, Trust::Cfi)];
        assert_eq!(frames[..3], expected);
    }
}

/// Without symbols and tables: of the words on the stack the one is right whose call leads to
/// code that has put it there.
#[test]
fn a_call_finds_the_start_of_a_stripped_function() {
    let mut crash = thumb(crash(at(0x120a)));
    // push {r4, r5, r6, lr}; sub sp, #8; nop; beyond it: a jump back.
    crash.code(0x1200, &[0x70, 0xb5, 0x82, 0xb0, 0x00, 0xbf]);
    crash.code(0x120a, &[0xfc, 0xe7]);
    thumb_call(&mut crash, 0x1310, 0x1200);
    // Left over: it calls something else.
    thumb_call(&mut crash, 0x1440, 0x1500);
    let words = [0, at(0x1440) | 1, 4, 5, 6, at(0x1310) | 1, 0, 0];
    crash.stack_32(STACK, &words);
    let (frames, _) = crash.frames();
    assert_eq!(frames[1], (0x1310, Trust::ScanDirect));
}
