//! Prologues and epilogues as compilers write them.

use super::*;

fn arm(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn thumb(halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

/// The frame's end and where registers are below it.
#[track_caller]
fn is(shown: Option<Shown>, cfa: (u16, i64), saved: &[(u16, i64)], sure: bool) {
    let shown = shown.expect("a rule");
    assert_eq!(shown.rule.cfa, Cfa::Register(cfa.0, cfa.1));
    let columns = saved.iter().map(|&(number, at)| (number, Column::At(at)));
    let expected: Vec<_> = columns.collect();
    assert_eq!(shown.rule.columns.to_vec(), expected);
    assert_eq!(shown.sure, sure);
}

/// push {r4, r5, lr}; sub sp, #12; bl
const PROLOGUE: [u16; 4] = [0xb530, 0xb083, 0xf000, 0xf800];

#[test]
fn a_prologue_is_read_at_each_of_its_instructions() {
    let code = thumb(&PROLOGUE);
    let saved = [(4, -12), (5, -8), (14, -4)];
    is(behind(Set::Thumb, &code[..0]), (13, 0), &[], true);
    is(behind(Set::Thumb, &code[..2]), (13, 12), &saved, true);
    is(behind(Set::Thumb, &code[..4]), (13, 24), &saved, true);
    is(behind(Set::Thumb, &code), (13, 24), &saved, true);
}

/// Behind the return there is data, and then code to which a branch has led:
///
/// ```text
///  0 push {r4, lr}; cbz r0, 12; pop {r4, pc}; .word; 10 nop; 12 bl
/// ```
#[test]
fn a_branch_takes_its_frame_along() {
    let code = thumb(&[
        0xb510, 0xb118, 0xbd10, 0xe92d, 0x4ff0, 0xbf00, 0xf000, 0xf800,
    ]);
    is(
        behind(Set::Thumb, &code),
        (13, 8),
        &[(4, -8), (14, -4)],
        true,
    );
    // Nothing is known to lead to what stands before.
    is(
        behind(Set::Thumb, &code[..10]),
        (13, 8),
        &[(4, -8), (14, -4)],
        false,
    );
}

/// In a Thumb function: `it ne; popne {r4, pc}`, which ends it for some only.
#[test]
fn what_depends_on_a_condition_may_not_have_run() {
    let code = thumb(&[0xb510, 0xbf18, 0xbd10, 0xbf00]);
    is(
        behind(Set::Thumb, &code),
        (13, 8),
        &[(4, -8), (14, -4)],
        true,
    );
    // popne {r4}: who knows.
    let code = thumb(&[0xb510, 0xbf18, 0xbc10, 0xbf00]);
    assert!(behind(Set::Thumb, &code).is_none());
}

/// mov ip, sp; push {fp, ip, lr, pc}; sub fp, ip, #4; sub sp, sp, r0
#[test]
fn a_lost_stack_pointer_is_found_by_the_frame_pointer() {
    let code = arm(&[0xe1a0_c00d, 0xe92d_d800, 0xe24c_b004, 0xe04d_d000]);
    let saved = [(11, -16), (14, -8)];
    is(behind(Set::Arm, &code[..12]), (13, 16), &saved, true);
    is(behind(Set::Arm, &code), (11, 4), &saved, true);
    // Without one it is not.
    let code = arm(&[0xe92d_4010, 0xe04d_d000]);
    assert!(behind(Set::Arm, &code).is_none());
}

/// movw r3, #0x1000; sub sp, sp, r3; and the same with a register of unknown value
#[test]
fn constants_count_that_are_put_into_registers() {
    let code = arm(&[0xe92d_4010, 0xe301_3000, 0xe04d_d003]);
    is(
        behind(Set::Arm, &code),
        (13, 0x1008),
        &[(4, -8), (14, -4)],
        true,
    );
}

#[test]
fn behind_a_call_the_link_register_is_not_the_return_address() {
    // bl, and no push of lr: a call that does not return.
    assert!(behind(Set::Arm, &arm(&[0xeb00_0000])).is_none());
    assert!(ahead(Set::Arm, &arm(&[0xeb00_0000, 0xe12f_ff1e])).is_none());
}

#[test]
fn an_epilogue_shows_what_was_saved() {
    // add sp, #12; pop {r4, r5, pc}
    let code = thumb(&[0xb003, 0xbd30]);
    let saved = [(4, -12), (5, -8), (14, -4)];
    is(ahead(Set::Thumb, &code), (13, 24), &saved, true);
    // bl before it: perhaps it does not return.
    let code = thumb(&[0xf000, 0xf800, 0xb003, 0xbd30]);
    is(ahead(Set::Thumb, &code), (13, 24), &saved, false);
    // pop {r4, lr}; add sp, sp, #16; bx lr
    let code = arm(&[0xe8bd_4010, 0xe28d_d010, 0xe12f_ff1e]);
    is(
        ahead(Set::Arm, &code),
        (13, 24),
        &[(4, -24), (14, -20)],
        true,
    );
    // bx lr
    is(ahead(Set::Thumb, &thumb(&[0x4770])), (13, 0), &[], true);
}

#[test]
fn an_epilogue_may_go_by_the_frame_pointer() {
    // sub sp, fp, #4; pop {fp, pc}
    let code = arm(&[0xe24b_d004, 0xe8bd_8800]);
    is(ahead(Set::Arm, &code), (11, 4), &[(11, -8), (14, -4)], true);
    // adds r7, #8; mov sp, r7; pop {r7, pc}
    let code = thumb(&[0x3708, 0x46bd, 0xbd80]);
    is(
        ahead(Set::Thumb, &code),
        (7, 16),
        &[(7, -8), (14, -4)],
        true,
    );
    // ldmdb fp, {fp, sp, pc}
    let code = arm(&[0xe91b_a800]);
    let saved = [(11, -12), (13, -8), (14, -4)];
    is(ahead(Set::Arm, &code), (11, 0), &saved, true);
}

/// Whatever the bytes are: no panic, and an end.
#[test]
fn hostile_code_is_survived() {
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    for length in 0..600 {
        let code: Vec<u8> = (0..length).map(|_| random()).collect();
        for set in [Set::Arm, Set::Thumb] {
            let _ = behind(set, &code);
            let _ = ahead(set, &code);
        }
    }
    // A jump to itself.
    assert!(ahead(Set::Thumb, &thumb(&[0xe7fe])).is_none());
}
