//! 32-bit ARM, each family of loads and stores by one of its kind. Whole libraries and the
//! encodings are the matter of `make check-decoder`.

use super::tests::show_decoded;
use super::*;
use crate::crash::registers::WORDS;

#[track_caller]
fn arm(word: u32, expected: &str) {
    let decoded = decode_arm(false, ProcessAddress(0x1000), &word.to_le_bytes());
    assert_eq!(show_decoded(Arch::Arm, decoded), expected, "{word:08x}");
}

/// At an address that is no multiple of four.
#[track_caller]
fn thumb(halves: &[u16], expected: &str) {
    let code: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let decoded = decode_arm(true, ProcessAddress(0x1002), &code);
    assert_eq!(show_decoded(Arch::Arm, decoded), expected, "{halves:04x?}");
    assert_eq!(decoded.map(|it| usize::from(it.length)), Some(code.len()));
}

#[test]
fn single_words_of_arm() {
    arm(0xe591_0004, "read 4 [r1+0x4]");
    arm(0xe501_0004, "write 4 [r1-0x4]");
    arm(0xe491_0004, "read 4 [r1]");
    arm(0xe5f1_0004, "read 1 [r1+0x4]");
    arm(0xe59f_0010, "read 4 [pc+0x18]");
    arm(0xe791_0102, "read 4 [r1+r2*4]");
    arm(0xe711_0102, "read 4 [r1+minus r2*4]");
    arm(0xe791_0142, "read 4 [r1] and more");
    arm(0xe1d1_00b6, "read 2 [r1+0x6]");
    arm(0xe1c1_00d8, "read 8 [r1+0x8] to 4");
    arm(0xe181_00f2, "write 8 [r1+r2*1] to 4");
    arm(0xe191_0f9f, "read 4 [r1] to 4");
    arm(0xe1c1_0f92, "write 1 [r1] in part");
    arm(0xe1a1_0e92, "write 8 [r1] to 8 in part");
    arm(0xf5d1_f004, "none [r1+0x4]");
}

#[test]
fn several_words_of_arm() {
    arm(0xe8b1_000c, "read 8 [r1] to 4");
    arm(0xe981_000c, "write 8 [r1+0x4] to 4");
    arm(0xe811_000c, "read 8 [r1-0x4] to 4");
    arm(0xe92d_4070, "write 16 [sp-0x10] to 4");
    arm(0xe8bd_8070, "return; read 16 [sp] to 4; to what is there");
    arm(0xed91_0b02, "read 8 [r1+0x8] to 4");
    arm(0xed11_0a02, "read 4 [r1-0x8] to 4");
    arm(0xed2d_8b04, "write 16 [sp-0x10] to 4");
    arm(0xecb1_0b04, "read 16 [r1] to 4");
    arm(0xf421_020f, "read 32 [r1]");
    arm(0xf421_022f, "read 32 [r1] to 16");
    arm(0xf4a1_010f, "read 2 [r1]");
    arm(0xf4a1_0f1f, "read 4 [r1] to 4");
}

#[test]
fn where_arm_goes() {
    arm(0xebff_fffe, "call; to +0");
    arm(0x0a00_0000, "jump; to +8");
    arm(0xfa00_0000, "call; to +8");
    arm(0xe12f_ff1e, "return; to lr");
    arm(0xe12f_ff33, "call; to r3");
    arm(0xe1a0_f00e, "return; to lr");
    arm(0xe59f_f004, "jump; read 4 [pc+0xc]; to what is there");
    arm(0xe7f0_00f0, "undefined");
    arm(0xe120_0070, "breakpoint");
    arm(0xef00_0000, "systemcall");
    arm(0xe080_0001, "");
}

#[test]
fn short_instructions_of_thumb() {
    // Four bytes ahead, rounded down.
    thumb(&[0x4801], "read 4 [pc+0x6]");
    thumb(&[0x5888], "read 4 [r1+r2*1]");
    thumb(&[0x5688], "read 1 [r1+r2*1]");
    thumb(&[0x6048], "write 4 [r1+0x4]");
    thumb(&[0x7848], "read 1 [r1+0x1]");
    thumb(&[0x8848], "read 2 [r1+0x2]");
    thumb(&[0x9001], "write 4 [sp+0x4]");
    thumb(&[0xb510], "write 8 [sp-0x8] to 4");
    thumb(&[0xbd10], "return; read 8 [sp] to 4; to what is there");
    thumb(&[0xc903], "read 8 [r1] to 4");
    thumb(&[0x4770], "return; to lr");
    thumb(&[0x4798], "call; to r3");
    thumb(&[0xb108], "jump; to +6");
    thumb(&[0xde00], "undefined");
    thumb(&[0xbe00], "breakpoint");
    thumb(&[0xdf00], "systemcall");
}

#[test]
fn long_instructions_of_thumb() {
    thumb(&[0xf8d1, 0x0004], "read 4 [r1+0x4]");
    thumb(&[0xf851, 0x0c04], "read 4 [r1-0x4]");
    thumb(&[0xf851, 0x0b04], "read 4 [r1]");
    thumb(&[0xf801, 0x0d04], "write 1 [r1-0x4]");
    thumb(&[0xf851, 0x0022], "read 4 [r1+r2*4]");
    thumb(&[0xf8df, 0x0008], "read 4 [pc+0xa]");
    thumb(&[0xf891, 0xf004], "none [r1+0x4]");
    thumb(&[0xe9d1, 0x0102], "read 8 [r1+0x8] to 4");
    thumb(&[0xe851, 0x0f01], "read 4 [r1+0x4] to 4");
    thumb(&[0xe8d1, 0xf002], "jump; read 1 [r1+r2*1]");
    thumb(
        &[0xe8bd, 0x8070],
        "return; read 16 [sp] to 4; to what is there",
    );
    thumb(&[0xe921, 0x000c], "write 8 [r1-0x8] to 4");
    thumb(&[0xed91, 0x0b02], "read 8 [r1+0x8] to 4");
    thumb(&[0xf921, 0x020f], "read 32 [r1]");
    thumb(&[0xf7ff, 0xfffe], "call; to +0");
    thumb(&[0xf000, 0xe800], "call; to +2");
    thumb(&[0xf7f0, 0xa000], "undefined");
}

fn registers(cpsr: u64) -> Registers {
    let mut words = [0; WORDS];
    (words[1], words[2], words[32], words[33]) = (0x1000, 3, 0x2000, cpsr);
    Registers::new(Arch::Aarch64, words)
}

/// The same four bytes in both modes; and with registers that lack the mode.
#[test]
fn the_mode_is_that_of_the_registers() {
    let code = 0xe711_0102_u32.to_le_bytes();
    let arm = decode_at_pc(&registers(0x10), &code).expect("an instruction");
    let operand = arm.operands[0].expect("memory");
    let address = operand.address(&registers(0x10), SegmentBases::default());
    assert_eq!(address, Some(ProcessAddress(0x1000 - 12)));
    let thumb = decode_at_pc(&registers(0x30), &code).expect("an instruction");
    assert_eq!((thumb.length, thumb.operands[0]), (2, None));
    assert_eq!(decode_at_pc(&registers(0x30).without(1 << 33), &code), None);
    assert_eq!(decode(Arch::Arm, &code), None);
}

#[test]
fn no_bytes_make_it_panic() {
    for first in 0..=u16::MAX {
        for second in [0_u16, 0x0f00, 0x8f0f, 0xffff, 0x5a5a] {
            let code = (u32::from(first) << 16 | u32::from(second)).to_le_bytes();
            let halves = (u32::from(second) << 16 | u32::from(first)).to_le_bytes();
            let _ = decode_arm(false, ProcessAddress(0), &code);
            let _ = decode_arm(true, ProcessAddress(2), &halves);
        }
        assert_eq!(
            decode_arm(false, ProcessAddress(0), &first.to_le_bytes()),
            None
        );
    }
    assert_eq!(decode_arm(true, ProcessAddress(0), &[0x70]), None);
}
