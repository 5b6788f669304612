//! Any bytes as an instruction: a meaning or none, the same whatever follows, and
//! of a cut instruction nothing that the whole one does not say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segfault_analyzer::decode::{decode, SegmentBases, MAX_LENGTH};
use segfault_analyzer::crash::registers::{Arch, Registers, WORDS};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, code)) = bytes.split_first() else {
        return;
    };
    let arch = match first % 3 {
        0 => Arch::X86_64,
        1 => Arch::I386,
        _ => Arch::Aarch64,
    };
    let Some(whole) = decode(arch, code) else {
        return;
    };
    let length = usize::from(whole.length);
    assert!((1..=MAX_LENGTH).contains(&length));
    if let Some(itself) = code.get(..length) {
        assert_eq!(decode(arch, itself), Some(whole));
    }
    for end in 0..code.len().min(length) {
        if let Some(cut) = decode(arch, &code[..end]) {
            assert_eq!(cut.length, whole.length);
            for (cut, whole) in cut.operands.iter().zip(whole.operands) {
                assert!(cut.is_none() || *cut == whole);
            }
        }
    }
    let registers = Registers::new(arch, [u64::from_le_bytes([*first; 8]); WORDS]);
    for operand in whole.memory() {
        assert!(operand.alignment.is_power_of_two());
        assert!(operand.width != Some(0));
        let _ = operand.address(&registers, SegmentBases::default());
    }
});
