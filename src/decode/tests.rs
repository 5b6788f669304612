//! Every family of opcodes by one of its kind. Whole libraries and all forms are
//! the matter of `make check-decoder`.

use super::*;
use crate::crash::registers::WORDS;

/// An instruction in words: its class if it has one, then its operands, then
/// where it goes.
///
/// ```text
/// read 4 [fs:rbx+rcx*4+0x10]     write 16 [rdi] to 16     call; write 8 [rsp-0x8]; to +21
/// ```
fn show(arch: Arch, code: &[u8]) -> String {
    show_decoded(arch, decode(arch, code))
}

pub(super) fn show_decoded(arch: Arch, decoded: Option<Decoded>) -> String {
    let Some(decoded) = decoded else {
        return "?".to_owned();
    };
    let mut parts = Vec::new();
    if decoded.class != Class::Other {
        parts.push(format!("{:?}", decoded.class).to_lowercase());
    }
    parts.extend(decoded.memory().map(|operand| show_operand(arch, operand)));
    match decoded.target {
        None => {}
        Some(Target::Near(distance)) => parts.push(format!("to {distance:+}")),
        Some(Target::Register(register)) => parts.push(format!("to {}", name(arch, register))),
        Some(Target::Loaded) => parts.push("to what is there".to_owned()),
    }
    parts.join("; ")
}

fn name(arch: Arch, register: Reg) -> &'static str {
    register.name(arch).expect("a register of a record")
}

fn show_operand(arch: Arch, operand: &Operand) -> String {
    let mut text = match operand.touch {
        Touch::Nothing => "none",
        Touch::Read => "read",
        Touch::Write => "write",
        Touch::ReadWrite => "both",
    }
    .to_owned();
    if let Some(width) = operand.width {
        text += &format!(" {width}");
    }
    text += " [";
    match operand.segment {
        None => {}
        Some(Segment::Fs) => text += "fs:",
        Some(Segment::Gs) => text += "gs:",
    }
    if let Some(base) = operand.base {
        text += name(arch, base);
    }
    if let Some(index) = operand.index {
        let extend = match index.extend {
            Extend::Whole => "",
            Extend::Byte => "byte ",
            Extend::UnsignedWord => "unsigned ",
            Extend::SignedWord => "signed ",
            Extend::Negated => "minus ",
        };
        text += &format!(
            "+{extend}{}*{}",
            name(arch, index.register),
            1 << index.shift
        );
    }
    if operand.displacement != 0 || operand.base.is_none() {
        let sign = if operand.displacement < 0 { '-' } else { '+' };
        text += &format!("{sign}{:#x}", operand.displacement.unsigned_abs());
    }
    if let Some(register) = operand.bit_offset {
        text += &format!(", bit {}", name(arch, register));
    }
    text += "]";
    if operand.alignment != 1 {
        text += &format!(" to {}", operand.alignment);
    }
    if operand.partial {
        text += " in part";
    }
    if operand.opaque {
        text += " and more";
    }
    let usual = arch.word_bytes() as u8;
    if operand.address_bytes != usual {
        text += &format!(" of {} bits", operand.address_bytes * 8);
    }
    text
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
        .collect()
}

#[track_caller]
fn x86(hex: &str, expected: &str) {
    assert_eq!(show(Arch::X86_64, &bytes(hex)), expected, "{hex}");
}

#[track_caller]
fn i386(hex: &str, expected: &str) {
    assert_eq!(show(Arch::I386, &bytes(hex)), expected, "{hex}");
}

#[track_caller]
fn arm64(word: u32, expected: &str) {
    assert_eq!(
        show(Arch::Aarch64, &word.to_le_bytes()),
        expected,
        "{word:08x}"
    );
}

#[test]
fn addresses_of_every_shape() {
    x86("8b 03", "read 4 [rbx]");
    x86("8b 43 f8", "read 4 [rbx-0x8]");
    x86("8b 83 00 01 00 00", "read 4 [rbx+0x100]");
    x86("8b 44 8b 10", "read 4 [rbx+rcx*4+0x10]");
    x86("43 8b 44 c5 00", "read 4 [r13+r8*8]");
    x86("8b 04 24", "read 4 [rsp]");
    x86("8b 04 8d 10 00 00 00", "read 4 [+rcx*4+0x10]");
    x86("8b 04 25 10 00 00 00", "read 4 [+0x10]");
    x86("42 8b 04 20", "read 4 [rax+r12*1]");
    // Seven bytes long, which count.
    x86("48 8b 05 10 00 00 00", "read 8 [rip+0x17]");
    x86("c7 05 10 00 00 00 01 02 03 04", "write 4 [rip+0x1a]");
    x86("67 8b 43 04", "read 4 [rbx+0x4] of 32 bits");
    x86("64 48 8b 04 25 28 00 00 00", "read 8 [fs:+0x28]");
    x86("65 2e 8b 03", "read 4 [gs:rbx]");
    i386("8b 05 10 00 00 00", "read 4 [+0x10]");
    i386("65 a1 14 00 00 00", "read 4 [gs:+0x14]");
    i386("64 3e 8b 03", "read 4 [ebx]");
    i386("67 8b 40 04", "read 4 [ebx+esi*1+0x4] of 16 bits");
    i386("67 8b 06 34 12", "read 4 [+0x1234] of 16 bits");
}

#[test]
fn widths_and_directions() {
    x86("88 03", "write 1 [rbx]");
    x86("66 89 03", "write 2 [rbx]");
    x86("48 01 03", "both 8 [rbx]");
    x86("48 3b 03", "read 8 [rbx]");
    x86("39 03", "read 4 [rbx]");
    x86("f0 0f b1 0b", "both 4 [rbx]");
    x86("83 3b 01", "read 4 [rbx]");
    x86("83 03 01", "both 4 [rbx]");
    x86("f7 03 01 02 03 04", "read 4 [rbx]");
    x86("f7 3b", "division; read 4 [rbx]");
    x86("0f b6 03", "read 1 [rbx]");
    x86("48 63 03", "read 4 [rbx]");
    x86("66 63 03", "read 2 [rbx]");
    x86("0f 94 03", "write 1 [rbx]");
    x86("8c 03", "write 2 [rbx]");
    x86(
        "a2 88 77 66 55 44 33 22 11",
        "write 1 [+0x1122334455667788]",
    );
    x86("0f 38 f1 03", "write 4 [rbx]");
    x86("66 f2 0f 38 f1 03", "read 2 [rbx]");
    x86("48 0f c3 03", "write 8 [rbx]");
}

#[test]
fn memory_that_is_not_touched() {
    x86("48 8d 43 08", "none [rbx+0x8]");
    x86("0f 1f 44 00 00", "none [rax+rax*1]");
    x86("66 2e 0f 1f 84 00 00 00 00 00", "none [rax+rax*1]");
    x86("0f 18 0b", "none [rbx]");
    x86("f3 0f 1e fa", "");
    x86("0f ae f8", "");
    x86("0f ae 3b", "read [rbx]");
}

#[test]
fn bits_may_lie_far_away() {
    x86("48 0f a3 0b", "read 8 [rbx, bit rcx]");
    x86("0f ab 0b", "both 4 [rbx, bit rcx]");
    x86("0f ba 23 05", "read 4 [rbx]");
    let decoded = decode(Arch::X86_64, &bytes("0f ab 0b")).expect("bts");
    let operand = decoded.operands[0].expect("memory");
    let mut words = [0; WORDS];
    words[5] = 0x1000;
    for (bit, address) in [
        (0, 0x1000),
        (33, 0x1004),
        (u64::MAX, 0xffc),
        (1 << 31, 0xf000_1000),
    ] {
        words[11] = bit;
        let registers = Registers::new(Arch::X86_64, words);
        let found = operand.address(&registers, SegmentBases::default());
        // 32 bits of it, with their sign.
        let expected = if bit == 1 << 31 {
            0x1000_u64.wrapping_sub(1 << 28)
        } else {
            address
        };
        assert_eq!(found, Some(ProcessAddress(expected)), "{bit:#x}");
    }
}

#[test]
fn the_stack() {
    x86("55", "write 8 [rsp-0x8]");
    x86("66 55", "write 2 [rsp-0x2]");
    x86("5d", "read 8 [rsp]");
    x86("ff 33", "read 8 [rbx]; write 8 [rsp-0x8]");
    x86("8f 03", "write 8 [rbx]; read 8 [rsp]");
    // The address is computed after the pop.
    x86("8f 44 24 08", "write 8 [rsp+0x10]; read 8 [rsp]");
    x86("0f a1", "read 2 [rsp]");
    x86("c9", "read 8 [rbp]");
    x86("c8 20 00 00", "write 8 [rsp-0x8]; write 8 [rsp-0x28]");
    x86("9c", "write 8 [rsp-0x8]");
    i386("60", "write 32 [esp-0x20]");
    i386("61", "read 32 [esp]");
    i386("06", "write 4 [esp-0x4]");
}

#[test]
fn where_calls_and_jumps_go() {
    x86("e8 10 00 00 00", "call; write 8 [rsp-0x8]; to +21");
    x86("ff d0", "call; write 8 [rsp-0x8]; to rax");
    x86(
        "41 ff 54 24 08",
        "call; read 8 [r12+0x8]; write 8 [rsp-0x8]; to what is there",
    );
    x86(
        "ff 25 00 10 00 00",
        "jump; read 8 [rip+0x1006]; to what is there",
    );
    x86("ff e1", "jump; to rcx");
    x86("eb fe", "jump; to +0");
    x86("0f 84 00 01 00 00", "jump; to +262");
    x86("c3", "return; read 8 [rsp]; to what is there");
    x86("f3 c3", "return; read 8 [rsp]; to what is there");
    x86("48 cf", "return; read 40 [rsp]; to what is there");
    x86("0f 05", "systemcall");
    i386(
        "ff 13",
        "call; read 4 [ebx]; write 4 [esp-0x4]; to what is there",
    );
    i386("cd 80", "systemcall");
    // The distance was not captured, but the push is known.
    x86("e8 10", "call; write 8 [rsp-0x8]");
}

#[test]
fn strings_under_their_registers() {
    x86("a4", "read 1 [rsi]; write 1 [rdi]");
    x86("f3 48 a5", "read 8 [rsi] in part; write 8 [rdi] in part");
    x86("64 a5", "read 4 [fs:rsi]; write 4 [rdi]");
    x86("67 f3 aa", "write 1 [rdi] in part of 32 bits");
    x86("f2 ae", "read 1 [rdi] in part");
    x86("66 a7", "read 2 [rsi]; read 2 [rdi]");
    x86("ac", "read 1 [rsi]");
    x86("6d", "privileged; write 4 [rdi]");
    x86("65 d7", "read 1 [gs:rbx+byte rax*1]");
}

#[test]
fn floating_point_of_1980() {
    x86("d9 03", "read 4 [rbx]");
    x86("dd 1b", "write 8 [rbx]");
    x86("db 2b", "read 10 [rbx]");
    x86("df 33", "write 10 [rbx]");
    x86("d9 33", "write 28 [rbx]");
    x86("66 dd 23", "read 94 [rbx]");
    x86("d8 c1", "");
}

#[test]
fn vectors_and_their_alignment() {
    x86("0f 28 03", "read 16 [rbx] to 16");
    x86("0f 10 03", "read 16 [rbx]");
    x86("f3 0f 10 03", "read 4 [rbx]");
    x86("66 0f 7f 03", "write 16 [rbx] to 16");
    x86("f3 0f 7f 03", "write 16 [rbx]");
    x86("66 0f fe 03", "read 16 [rbx] to 16");
    x86("0f fe 03", "read 8 [rbx]");
    x86("0f 6f 03", "read 8 [rbx]");
    x86("66 0f 3a 63 03 00", "read 16 [rbx]");
    x86("66 0f 38 21 03", "read 4 [rbx]");
    x86("c5 fc 28 03", "read 32 [rbx] to 32");
    x86("c5 fc 58 03", "read 32 [rbx]");
    x86("c5 f9 fe 03", "read 16 [rbx]");
    x86("c4 c1 7c 28 45 00", "read 32 [r13] to 32");
    x86("c4 e2 7d 18 03", "read 4 [rbx]");
    x86("c4 e3 7d 39 03 01", "write 16 [rbx]");
    x86("c4 e2 f5 99 03", "read 8 [rbx]");
    x86("c4 e2 79 2c 03", "read 16 [rbx] in part");
    x86("66 0f f7 c1", "write 16 [rdi] in part");
    x86("0f 0f 03 9e", "read 8 [rbx]");
    x86("8f e8 78 c2 03 05", "read 16 [rbx]");
    x86("0f ae 03", "write 512 [rbx] to 16");
    x86("0f c7 63 40", "write [rbx+0x40] to 64");
    x86("48 0f c7 0b", "both 16 [rbx] to 16");
    x86(
        "66 0f 38 f8 4b 40",
        "read 64 [rbx+0x40]; write 64 [rcx] to 64",
    );
}

#[test]
fn displacements_of_evex_count_by_the_operand() {
    x86("62 f1 7c 48 28 43 01", "read 64 [rbx+0x40] to 64");
    x86("62 f1 7c 08 10 43 ff", "read 16 [rbx-0x10]");
    x86("62 f1 7e 08 10 43 01", "read 4 [rbx+0x4]");
    x86("62 f1 7c 58 58 43 01", "read 4 [rbx+0x4]");
    x86("62 f1 fd 58 58 43 01", "read 8 [rbx+0x8]");
    x86("62 f5 7c 58 58 43 01", "read 2 [rbx+0x2]");
    x86("62 f2 7d 48 31 43 01", "read 16 [rbx+0x10]");
    x86("62 f1 7c 49 10 03", "read 64 [rbx] in part");
    // Packed: only as many elements as the mask has.
    x86("62 f2 7d 49 8a 43 01", "write 64 [rbx+0x4] in part");
    x86("62 f2 7d 49 63 43 01", "write 64 [rbx+0x1] in part");
    // No such length.
    x86("62 f1 7c 68 10 03", "?");
}

#[test]
fn addresses_with_vectors_are_not_decoded() {
    x86("c4 e2 71 92 04 90", "read 4 [rax] in part and more");
    x86(
        "62 f2 7d 49 a2 44 90 01",
        "write 4 [rax+0x4] in part and more",
    );
    x86("c4 e2 7b 4b 0c 18", "read [rax] in part and more");
    let decoded = decode(Arch::X86_64, &bytes("c4 e2 71 92 04 90")).expect("a gather");
    let registers = Registers::new(Arch::X86_64, [0; WORDS]);
    let operand = decoded.operands[0].expect("memory");
    assert_eq!(operand.address(&registers, SegmentBases::default()), None);
}

#[test]
fn what_crashes_without_memory() {
    x86("0f 0b", "undefined");
    x86("0f b9 c0", "undefined");
    x86("cc", "breakpoint");
    x86("cd 03", "breakpoint");
    x86("cd 29", "privileged");
    x86("cd", "?");
    x86("48 f7 f9", "division");
    for hex in [
        "f4", "fa", "e4 60", "ee", "0f 30", "0f 31", "0f 20 c0", "0f 01 f8", "0f 01 d1",
        "48 0f 07", "0f 00 d8",
    ] {
        x86(hex, "privileged");
    }
    x86("0f 01 13", "privileged; read 10 [rbx]");
    // xgetbv, rdfsbase
    x86("0f 01 d0", "");
    x86("f3 48 0f ae c0", "");
    i386("d4 00", "division");
}

#[test]
fn loads_and_stores_of_aarch64() {
    arm64(0xf940_0420, "read 8 [x1+0x8]");
    arm64(0xb81f_f041, "write 4 [x2-0x1]");
    arm64(0x3840_1441, "read 1 [x2]");
    arm64(0xf81f_0ffe, "write 8 [sp-0x10]");
    arm64(0xb862_d820, "read 4 [x1+signed x2*4]");
    arm64(0x3864_4861, "read 1 [x3+unsigned x4*1]");
    arm64(0xf87f_6820, "read 8 [x1]");
    arm64(0x5800_0081, "read 8 [pc+0x10]");
    arm64(0xd800_0080, "none [pc+0x10]");
    arm64(0xa9bf_7bfd, "write 16 [sp-0x10]");
    arm64(0xa8c1_7bfd, "read 16 [sp]");
    arm64(0xad40_0440, "read 32 [x2]");
    arm64(0x6940_8440, "read 8 [x2+0x4]");
    arm64(0x3dc0_0441, "read 16 [x2+0x10]");
    arm64(0xf980_0020, "none [x1]");
    arm64(0xd503_201f, "");
    arm64(0x9100_0421, "");
}

#[test]
fn atomics_of_aarch64_must_be_aligned() {
    arm64(0xc85f_7c20, "read 8 [x1] to 8");
    arm64(0x8802_fc20, "write 4 [x1] to 4 in part");
    arm64(0xc87f_0440, "read 16 [x2] to 16");
    arm64(0x08df_fc20, "read 1 [x1]");
    arm64(0xc89f_fc20, "write 8 [x1] to 8");
    arm64(0x88a0_7c41, "both 4 [x2] to 4");
    arm64(0x4860_fc82, "both 16 [x4] to 16");
    arm64(0xf820_0041, "both 8 [x2] to 8");
    arm64(0xb8a0_8041, "both 4 [x2] to 4");
    arm64(0xf8bf_c041, "read 8 [x2] to 8");
    arm64(0xd940_8041, "read 8 [x2+0x8] to 8");
    arm64(0x1920_8041, "both 16 [x2] to 16");
    arm64(0xf83f_d041, "read 64 [x2] to 64");
}

#[test]
fn structures_caches_tags_and_copies_of_aarch64() {
    arm64(0x4c40_7020, "read 16 [x1]");
    arm64(0x0c9f_0020, "write 32 [x1]");
    arm64(0x0d40_0020, "read 1 [x1]");
    arm64(0x4ddf_cc20, "read 8 [x1]");
    arm64(0xd50b_7420, "write [x0]");
    arm64(0xd50b_7b20, "read [x0]");
    arm64(0xd920_0821, "write 16 [x1] to 16");
    arm64(0xd960_0041, "read [x2]");
    arm64(0xf820_0441, "read 8 [x2] and more");
    arm64(
        0x1901_0440,
        "read [x1] in part and more; write [x0] in part and more",
    );
    arm64(0xa400_a041, "read [x2] in part");
    arm64(0xa401_a041, "read [x2] in part and more");
    arm64(0xa563_4041, "read [x2+x3*4] in part");
    arm64(0xa5e3_4041, "read [x2+x3*8] in part");
    arm64(0xe4c3_4041, "write [x2+x3*2] in part");
    arm64(0xc420_0041, "none [+0x0] in part and more");
    arm64(0x8540_4041, "read [+0x0] in part and more");
    arm64(0xe11f_8041, "read [x2] in part and more");
}

#[test]
fn branches_and_exceptions_of_aarch64() {
    arm64(0x97ff_ffff, "call; to -4");
    arm64(0x1400_0002, "jump; to +8");
    arm64(0x5400_0041, "jump; to +8");
    arm64(0xb400_0040, "jump; to +8");
    arm64(0x3700_0040, "jump; to +8");
    arm64(0xd63f_0100, "call; to x8");
    arm64(0xd71f_0a09, "jump; to x16");
    arm64(0xd65f_03c0, "return; to x30");
    arm64(0xd65f_0bff, "return; to x30");
    arm64(0xd61f_03e0, "jump");
    arm64(0xd400_0001, "systemcall");
    arm64(0xd420_0020, "breakpoint");
    arm64(0xd440_0000, "breakpoint");
    arm64(0x0000_1234, "undefined");
    arm64(0xd400_0002, "privileged");
    arm64(0xd69f_03e0, "privileged");
    arm64(0xd538_4240, "privileged");
    arm64(0xd53b_d040, "");
    arm64(0xd50b_7e20, "read [x0]");
    arm64(0xd508_871f, "privileged");
    arm64(0x0100_0000, "?");
    arm64(0x4830_fd60, "both 16 [x11] to 16");
    arm64(0x4831_fd60, "?");
}

#[test]
fn an_address_is_the_sum_cut_to_its_size() {
    let address = |hex: &str, bases: SegmentBases| {
        let mut words = [0; WORDS];
        words[5] = 0xffff_ffff_ffff_fff8;
        words[11] = 4;
        words[16] = 0x1000;
        let registers = Registers::new(Arch::X86_64, words);
        let decoded = decode(Arch::X86_64, &bytes(hex)).expect("an instruction");
        let operand = decoded.operands[0].expect("memory");
        operand.address(&registers, bases).map(|address| address.0)
    };
    let none = SegmentBases::default();
    assert_eq!(address("8b 44 8b 10", none), Some(0x18));
    assert_eq!(address("8b 43 fc", none), Some(0xffff_ffff_ffff_fff4));
    assert_eq!(address("67 8b 43 fc", none), Some(0xffff_fff4));
    assert_eq!(address("8b 05 fa ff ff ff", none), Some(0x1000));
    assert_eq!(address("64 8b 03", none), None, "a base that nobody knows");
    let bases = SegmentBases {
        fs: Some(0x10_0000),
        gs: None,
    };
    assert_eq!(address("64 8b 03", bases), Some(0xf_fff8));
    assert_eq!(address("64 67 8b 03", bases), Some(0x1_000f_fff8));
    assert_eq!(address("65 8b 03", bases), None);
}

/// Whatever is cut off an instruction: what is still known is what the whole one
/// says, and without its operands nothing is.
#[test]
fn cut_instructions_say_nothing_wrong() {
    for hex in [
        "64 48 8b 84 8b 78 56 34 12",
        "c7 84 24 10 00 00 00 01 02 03 04",
        "62 f1 7c 58 58 84 8b 78 56 34 12",
        "66 0f 3a 0f 44 24 10 08",
        "48 c7 05 10 00 00 00 01 02 03 04",
        "e8 10 00 00 00",
        "a2 88 77 66 55 44 33 22 11",
    ] {
        let whole = bytes(hex);
        let expected = decode(Arch::X86_64, &whole).expect("an instruction");
        assert_eq!(usize::from(expected.length), whole.len(), "{hex}");
        assert_eq!(decode(Arch::X86_64, &[]), None);
        for length in 1..whole.len() {
            let Some(cut) = decode(Arch::X86_64, &whole[..length]) else {
                continue;
            };
            assert_eq!(cut.operands, expected.operands, "{hex} cut to {length}");
            assert_eq!(cut.length, expected.length, "{hex} cut to {length}");
        }
        let short = decode(Arch::X86_64, &whole[..1]);
        assert_eq!(short.is_some(), whole[0] == 0xe8, "{hex}");
    }
    assert_eq!(decode(Arch::Aarch64, &[0x20, 0x04, 0x40]), None);
}

#[test]
fn no_instruction_has_more_than_15_bytes() {
    x86("66 66 66 66 66 66 66 66 66 66 66 66 66 90", "");
    x86(
        "66 66 66 66 66 66 66 66 66 66 66 66 66 8b 03",
        "read 2 [rbx]",
    );
    x86("66 66 66 66 66 66 66 66 66 66 66 66 66 8b 43 10", "?");
    x86("2e 2e 2e 2e 2e 2e 2e 2e 2e 2e c7 03 01 02 03 04", "?");
    x86("66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", "?");
}

#[test]
fn what_is_none_is_not_taken_for_one() {
    // A prefix that an encoding forbids, APX, a map that does not exist.
    for hex in [
        "66 c5 fc 28 03",
        "48 c5 fc 28 03",
        "d5 00 8b 03",
        "62 f9 7c 48 28 03",
        "c4 e7 7c 28 03",
        "06",
        "0f ff",
        "8d c0",
        "f3 0f 28 03",
        "0f 38 10 03",
        "0f c7 03",
    ] {
        x86(hex, "?");
    }
    assert_eq!(decode(Arch::Arm, &[0, 0, 0, 0]), None);
}

/// Any bytes: no panic, no operand that cannot be, no more than the longest
/// length.
#[test]
fn any_bytes_have_a_meaning_or_none() {
    let mut state = 1_u64;
    let mut known = 0;
    for _ in 0..200_000 {
        let mut code = [0; 16];
        for half in code.chunks_mut(4) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            half.copy_from_slice(&((state >> 32) as u32).to_le_bytes());
        }
        let registers = Registers::new(Arch::X86_64, [state; WORDS]);
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            let Some(decoded) = decode(arch, &code) else {
                continue;
            };
            known += 1;
            assert!((1..=MAX_LENGTH).contains(&usize::from(decoded.length)));
            for operand in decoded.memory() {
                assert!(operand.alignment.is_power_of_two());
                assert!(operand.width != Some(0));
                assert!(operand.base.is_none_or(|base| base.name(arch).is_some()));
                let _ = operand.address(&registers, SegmentBases::default());
            }
        }
    }
    assert!(known > 100_000);
}
