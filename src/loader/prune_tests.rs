use super::*;
use crate::loader::insn::POISON_HELPER;

const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const LOAD_BYTE: u8 = 0x71;
const LOAD_WORD: u8 = 0x61;
const WIDE: u8 = 0x18;
const IF_EQUAL: u8 = 0x15;
const IF_NOT_EQUAL: u8 = 0x55;

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        destination,
        source,
        offset,
        immediate,
    }
}

fn exit() -> Instruction {
    op(EXIT, 0, 0, 0, 0)
}

fn origins(program: &[Instruction], addresses: &[Address<'_>]) -> Vec<usize> {
    prune(program, addresses).1
}

/// `if (settings[1]) r0 = 1` with the settings at instruction 0.
fn by_setting() -> Vec<Instruction> {
    vec![
        op(WIDE, 1, 0, 0, 0),
        op(0, 0, 0, 0, 0),
        op(MOVE, 0, 0, 0, 0),
        op(LOAD_BYTE, 2, 1, 1, 0),
        op(IF_EQUAL, 2, 0, 1, 0),
        op(MOVE, 0, 0, 0, 1),
        exit(),
    ]
}

fn settings(constants: &[u8]) -> [Address<'_>; 1] {
    [Address {
        instruction: 0,
        constants,
    }]
}

#[test]
fn what_a_setting_switches_off_is_left_out() {
    let program = by_setting();
    assert_eq!(origins(&program, &settings(&[9, 0])), [0, 1, 2, 3, 6]);
    assert_eq!(origins(&program, &settings(&[0, 9])), [0, 1, 2, 3, 5, 6]);
}

#[test]
fn what_is_not_known_stays() {
    let program = by_setting();
    for constants in [&[][..], &[0]] {
        assert_eq!(prune(&program, &settings(constants)).0, program);
    }
    // A setting on one way and its opposite on the other.
    let joined = [
        op(MOVE, 2, 0, 0, 0),
        op(IF_EQUAL, 1, 0, 1, 0),
        op(MOVE, 2, 0, 0, 1),
        op(IF_EQUAL, 2, 0, 1, 0),
        op(MOVE, 0, 0, 0, 1),
        exit(),
    ];
    assert_eq!(origins(&joined, &[]), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_call_changes_r0_to_r5_only() {
    for (register, expected) in [(5, vec![0, 1, 2, 3, 4]), (6, vec![0, 1, 4])] {
        let program = [
            op(MOVE, register, 0, 0, 0),
            op(CALL, 0, 0, 0, 14),
            op(IF_EQUAL, register, 0, 1, 0),
            op(MOVE, 0, 0, 0, 1),
            exit(),
        ];
        assert_eq!(origins(&program, &[]), expected, "r{register}");
    }
}

#[test]
fn a_loop_that_counts_is_not_taken_for_its_first_round() {
    let program = [
        op(MOVE, 1, 0, 0, 0),
        op(0x07, 1, 0, 0, 1),
        op(IF_NOT_EQUAL, 1, 0, -2, 8),
        op(MOVE_REGISTER, 0, 1, 0, 0),
        exit(),
    ];
    assert_eq!(prune(&program, &[]).0, program);
}

#[test]
fn functions_go_with_their_calls_and_calls_lead_to_where_they_are_now() {
    let program = [
        op(MOVE, 1, 0, 0, 0),
        op(IF_EQUAL, 1, 0, 1, 0),
        op(CALL, 0, PSEUDO_CALL, 0, 3),
        op(CALL, 0, PSEUDO_CALL, 0, 4),
        exit(),
        op(0, 0, 0, 0, 0),
        op(CALL, 0, 0, 0, POISON_HELPER),
        exit(),
        op(MOVE, 0, 0, 0, 8),
        exit(),
    ];
    let (kept, origins) = prune(&program, &[]);
    assert_eq!(origins, [0, 3, 4, 8, 9]);
    assert_eq!(kept[1], op(CALL, 0, PSEUDO_CALL, 0, 1));
}

#[test]
fn jumps_lead_to_what_is_left() {
    let program = [
        op(LOAD_WORD, 1, 1, 0, 0),
        op(IF_EQUAL, 1, 0, 4, 7),
        op(MOVE, 2, 0, 0, 3),
        op(0x65, 2, 0, 1, -1),
        op(MOVE, 0, 0, 0, 1),
        op(JA, 0, 0, 1, 0),
        op(MOVE, 0, 0, 0, 2),
        exit(),
    ];
    let (kept, origins) = prune(&program, &[]);
    assert_eq!(origins, [0, 1, 2, 5, 6, 7]);
    assert_eq!(kept[1].offset, 2);
    assert_eq!(kept[3], op(JA, 0, 0, 1, 0));
}

#[test]
fn comparisons_are_those_of_the_instruction_set() {
    let minus_one = i64::from(-1).cast_unsigned();
    for (code, left, right, expected) in [
        (0x25, 1, minus_one, false),
        (0x65, 1, minus_one, true),
        (0x26, u32::MAX, 1, true),
        (0x66, u32::MAX, 1, false),
        (0x16, u32::MAX, minus_one, true),
        (0x15, u32::MAX, minus_one, false),
        (0x45, 6, 4, true),
        (0x45, 6, 1, false),
        (0xa5, 3, 4, true),
        (0xb5, 4, 4, true),
        (0xc5, 3, minus_one, false),
        (0xd6, u32::MAX, 0, true),
    ] {
        assert_eq!(is_taken(code, left, right), Some(expected), "{code:#x}");
    }
}

#[test]
fn a_program_with_something_unknown_stays_as_it_is() {
    let jump_of_32_bits = op(0x06, 0, 0, 0, 1);
    let call_by_register = op(0x8d, 1, 0, 0, 0);
    for unknown in [jump_of_32_bits, call_by_register, op(0x20, 0, 0, 0, 0)] {
        let mut program = by_setting();
        program.insert(2, unknown);
        assert_eq!(prune(&program, &settings(&[0, 0])).0, program);
    }
    let outside = [op(JA, 0, 0, 7, 0), exit()];
    assert_eq!(prune(&outside, &[]).0, outside);
}
