//! Instructions as assemblers write them, and what they do.

use super::*;

#[track_caller]
fn arm_is(word: u32, effect: Effect) {
    let step = step(Set::Arm, &word.to_le_bytes()).expect("an instruction");
    assert_eq!((step.length, step.effect), (4, effect), "{word:08x}");
}

#[track_caller]
fn thumb_is(halves: &[u16], effect: Effect) {
    let code: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let step = step(Set::Thumb, &code).expect("an instruction");
    assert_eq!(
        (step.length, step.effect),
        (code.len(), effect),
        "{halves:04x?}"
    );
}

fn push(mask: u16, bytes: i64) -> Effect {
    Effect::Push { mask, bytes }
}

fn pop(mask: u16, bytes: i64) -> Effect {
    Effect::Pop { mask, bytes }
}

#[test]
fn instructions_of_arm() {
    arm_is(0xe92d_4810, push(0x4810, 12)); // push {r4, fp, lr}
    arm_is(0xe52d_e004, push(0x4000, 4)); // push {lr}
    arm_is(0xe16d_40f8, push(0x30, 8)); // strd r4, [sp, #-8]!
    arm_is(0xe8bd_8830, pop(0x8830, 16)); // pop {r4, r5, fp, pc}
    arm_is(0xe49d_f004, pop(0x8000, 4)); // pop {pc}
    arm_is(0xe0cd_40d8, pop(0x30, 8)); // ldrd r4, [sp], #8
    arm_is(0xed2d_8b04, by(SP, SP, -16)); // vpush {d8-d9}
    arm_is(0xecbd_8b04, by(SP, SP, 16)); // vpop {d8-d9}
    arm_is(0xe24d_d008, by(SP, SP, -8)); // sub sp, sp, #8
    arm_is(0xe28d_db01, by(SP, SP, 1024)); // add sp, sp, #1024
    arm_is(0xe28d_b004, by(11, SP, 4)); // add fp, sp, #4
    arm_is(0xe1a0_c00d, by(12, SP, 0)); // mov ip, sp
    arm_is(0xe1a0_d00b, by(SP, 11, 0)); // mov sp, fp
    arm_is(
        0xe04d_d003, // sub sp, sp, r3
        Effect::AddRegister {
            to: SP,
            from: SP,
            by: 3,
            down: true,
        },
    );
    arm_is(0xe3cd_d007, Effect::Lose); // bic sp, sp, #7
    arm_is(
        0xe301_3234, // movw r3, #0x1234
        Effect::Constant {
            to: 3,
            value: 0x1234,
        },
    );
    arm_is(0xe340_3001, Effect::Upper { to: 3, value: 1 }); // movt r3, #1
    arm_is(
        0xe91b_a800, // ldmdb fp, {fp, sp, pc}
        Effect::Load {
            mask: 0xa800,
            from: 11,
            bytes: -12,
        },
    );
    arm_is(0xebff_ffff, Effect::Call); // bl .+4
    arm_is(0xfa00_0000, Effect::Call); // blx .+8
    arm_is(0xe12f_ff33, Effect::Call); // blx r3
    arm_is(0xea00_0001, Effect::Jump(12)); // b .+12
    arm_is(0x0aff_fffe, Effect::Branch(0)); // beq .
    arm_is(0xe12f_ff1e, Effect::Return); // bx lr
    arm_is(0xe12f_ff13, Effect::Leave); // bx r3
    arm_is(0xe1a0_f00e, Effect::Return); // mov pc, lr
    arm_is(0xe59f_f004, Effect::Leave); // ldr pc, [pc, #4]
    arm_is(0xe08f_f102, Effect::Leave); // add pc, pc, r2, lsl #2
    arm_is(0xe7f0_00f0, Effect::Stop); // udf #0
    arm_is(0xe59f_3004, Effect::None); // ldr r3, [pc, #4]
    arm_is(0xe35d_0000, Effect::None); // cmp sp, #0
    arm_is(0xe0d0_40d8, Effect::None); // ldrd r4, [r0], #8
    let conditional = step(Set::Arm, &0x08bd_8010_u32.to_le_bytes());
    assert!(conditional.is_some_and(|step| step.conditional), "popeq");
}

#[test]
fn instructions_of_thumb() {
    thumb_is(&[0xb470], push(0x70, 12)); // push {r4-r6}
    thumb_is(&[0xb580], push(0x4080, 8)); // push {r7, lr}
    thumb_is(&[0xbd10], pop(0x8010, 8)); // pop {r4, pc}
    thumb_is(&[0xb082], by(SP, SP, -8)); // sub sp, #8
    thumb_is(&[0xb002], by(SP, SP, 8)); // add sp, #8
    thumb_is(&[0xaf02], by(7, SP, 8)); // add r7, sp, #8
    thumb_is(&[0x46bd], by(SP, 7, 0)); // mov sp, r7
    thumb_is(&[0x3710], by(7, 7, 16)); // adds r7, #16
    thumb_is(&[0x4770], Effect::Return); // bx lr
    thumb_is(&[0x4718], Effect::Leave); // bx r3
    thumb_is(&[0x4798], Effect::Call); // blx r3
    thumb_is(&[0x46f7], Effect::Return); // mov pc, lr
    thumb_is(&[0xbf08], Effect::Conditions(1)); // it eq
    thumb_is(&[0xbf01], Effect::Conditions(4)); // itttt eq
    thumb_is(&[0xbf00], Effect::None); // nop
    thumb_is(&[0xd0fe], Effect::Branch(0)); // beq .
    thumb_is(&[0xe001], Effect::Jump(6)); // b .+6
    thumb_is(&[0xb10b], Effect::Branch(6)); // cbz r3, .+6
    thumb_is(&[0xbb0b], Effect::Branch(70)); // cbnz r3, .+70
    thumb_is(&[0xde00], Effect::Stop); // udf #0
    thumb_is(&[0xe92d, 0x41f0], push(0x41f0, 24)); // push.w {r4-r8, lr}
    thumb_is(&[0xe8bd, 0x81f0], pop(0x81f0, 24)); // pop.w {r4-r8, pc}
    thumb_is(&[0xf84d, 0x7d04], push(0x80, 4)); // str r7, [sp, #-4]!
    thumb_is(&[0xf85d, 0xfb04], pop(0x8000, 4)); // ldr pc, [sp], #4
    thumb_is(&[0xe96d, 0x4502], push(0x30, 8)); // strd r4, r5, [sp, #-8]!
    thumb_is(&[0xed2d, 0x8b04], by(SP, SP, -16)); // vpush {d8-d9}
    thumb_is(&[0xecbd, 0x8b04], by(SP, SP, 16)); // vpop {d8-d9}
    thumb_is(&[0xf5ad, 0x7d00], by(SP, SP, -512)); // sub.w sp, sp, #512
    thumb_is(&[0xf20d, 0x4d04], by(SP, SP, 0x404)); // addw sp, sp, #1028
    thumb_is(&[0xf1ad, 0x6d80], by(SP, SP, -(64 << 20))); // sub.w sp, sp, #64 MB
    thumb_is(
        &[0xebad, 0x0d03], // sub.w sp, sp, r3
        Effect::AddRegister {
            to: SP,
            from: SP,
            by: 3,
            down: true,
        },
    );
    thumb_is(
        &[0xf241, 0x2334], // movw r3, #0x1234
        Effect::Constant {
            to: 3,
            value: 0x1234,
        },
    );
    thumb_is(&[0xf7ff, 0xffe7], Effect::Call); // bl
    thumb_is(&[0xf7ff, 0xb8e6], Effect::Jump(-0xe30)); // b.w
    thumb_is(&[0xf43f, 0xaf7e], Effect::Branch(-256)); // beq.w
    thumb_is(&[0xe8df, 0xf003], Effect::Leave); // tbb [pc, r3]
    thumb_is(&[0xf8df, 0xf004], Effect::Leave); // ldr.w pc, [pc, #4]
    thumb_is(&[0xf8df, 0xc044], Effect::None); // ldr.w ip, [pc, #68]
    thumb_is(&[0xf7f0, 0xa000], Effect::Stop); // udf.w #0
    thumb_is(&[0xee1d, 0x2f70], Effect::None); // mrc
}

#[test]
fn what_is_cut_off_is_no_instruction() {
    assert_eq!(step(Set::Arm, &[0, 0, 0]), None);
    assert_eq!(step(Set::Thumb, &[0]), None);
    assert_eq!(step(Set::Thumb, &0xe92d_u16.to_le_bytes()), None);
    assert_eq!(step(Set::Thumb, &[]), None);
}
