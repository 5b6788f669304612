//! Damaged sections, code and stacks: a walk ends, soon, and never panics.

use super::synth::{Frames, FRAMES};
use super::*;

/// Marsaglia's xorshift: the same damage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn sound(kind: CfiSection) -> Crash {
    let mut crash = Crash::new(Arch::X86_64);
    crash.words[16] = at(0x1104);
    crash.words[19] = STACK;
    crash.words[4] = STACK + 0x40;
    for returns in [0x1220, 0x1310, 0x1410] {
        crash.code(returns - 2, &[0xff, 0xd0]);
    }
    crash.code(0x1180, &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]);
    let augmentation = if kind == CfiSection::EhFrame {
        "zR"
    } else {
        ""
    };
    let frames = Frames::new(kind, FRAMES)
        .cie(augmentation, 16, &[0x0c, 7, 8, 0x90, 1])
        .fde(
            0x1100,
            0x20,
            &[0x41, 0x0e, 16, 0x86, 2, 0x0a, 0x41, 0x0b, 0x2e, 16],
        )
        .fde(
            0x1200,
            0x40,
            &[0x0f, 5, 0x77, 8, 0x06, 0x38, 0x1c, 0x0e, 16],
        )
        .fde(
            0x1300,
            0x20,
            &[0x16, 7, 4, 0x23, 8, 0x33, 0x24, 0x0c, 6, 16],
        )
        .fde(0x1400, 0x20, &[0x07, 16]);
    match kind {
        CfiSection::EhFrame => crash.eh_frame(frames),
        _ => crash.section(kind, 0, frames.bytes),
    }
    crash.stack(STACK, &[STACK + 0x40, at(0x1220), STACK + 0x30, at(0x1180)]);
    crash.stack(
        STACK + 0x20,
        &[at(0x1310), at(0x1220), at(0x1410), STACK + 0x60],
    );
    crash.stack(STACK + 0x40, &[STACK + 0x60, at(0x1310), 0, at(0x1410)]);
    crash
}

const KINDS: [CfiSection; 2] = [CfiSection::EhFrame, CfiSection::DebugFrame];

/// Each byte of the sections once: with all bits set, the largest of lengths and offsets,
/// and with another bit flipped from one byte to the next.
#[test]
fn each_damaged_byte_ends_a_walk_at_worst() {
    let mut walks = 0;
    for kind in KINDS {
        let whole = sound(kind);
        for section in 0..whole.module.sections.len() {
            for place in 0..whole.module.sections[section].2.len() {
                for damage in [0xff, 1 << (place % 8)] {
                    let mut crash = whole.clone();
                    let byte = &mut crash.module.sections[section].2[place];
                    *byte = if damage == 0xff {
                        damage
                    } else {
                        *byte ^ damage
                    };
                    assert!(crash.walk().frames.len() <= 16);
                    walks += 1;
                }
            }
        }
    }
    assert!(walks > 500, "{walks}");
}

/// Several bytes at once, and the stack and the registers with them. A walk takes a
/// millisecond without optimization: the fuzz target `walk` has time for more of them.
#[test]
fn damage_ends_a_walk_at_worst() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..1_200 {
        let kind = match round % 2 {
            0 => CfiSection::EhFrame,
            _ => CfiSection::DebugFrame,
        };
        let mut crash = sound(kind);
        if round % 3 == 0 {
            crash.arch = Arch::Aarch64;
            crash.words[31] = STACK;
            crash.words[32] = at(0x1104);
        }
        for _ in 0..=random.below(6) {
            let section = random.below(crash.module.sections.len());
            let bytes = &mut crash.module.sections[section].2;
            let place = random.below(bytes.len());
            bytes[place] = match random.below(3) {
                0 => 0xff,
                1 => bytes[place] ^ 1 << random.below(8),
                _ => random.next() as u8,
            };
        }
        if round % 5 == 0 {
            let slot = STACK + 8 * random.below(12) as u64;
            let value = [random.next(), u64::MAX, u64::MAX - 7, STACK, at(0x1220)];
            crash.stack(slot, &[value[random.below(5)]]);
            crash.words[random.below(20)] = value[random.below(5)];
        }
        let walk = crash.walk();
        assert!(walk.frames.len() <= 16);
    }
}

#[test]
fn truncated_sections_end_a_walk_at_worst() {
    for kind in KINDS {
        let whole = sound(kind);
        for section in 0..whole.module.sections.len() {
            for len in 0..whole.module.sections[section].2.len() {
                let mut crash = whole.clone();
                crash.module.sections[section].2.truncate(len);
                crash.walk();
            }
        }
    }
}

/// Every word of the stack looks like a return address with rows that lead on.
#[test]
fn a_stack_of_return_addresses_costs_little() {
    let mut crash = sound(CfiSection::EhFrame);
    crash.words[16] = at(0x1504);
    crash.stack(STACK, &[at(0x1310); 20_000]);
    crash.words[4] = STACK + 8;
    let start = std::time::Instant::now();
    crash.walk();
    assert!(start.elapsed().as_secs() < 5);
}

/// The count says 4 billion entries; the table has room for two.
#[test]
fn a_table_is_no_longer_than_its_section() {
    let mut crash = sound(CfiSection::EhFrame);
    crash.module.sections[0].2[8..12].fill(0xff);
    assert!(crash.walk().frames.len() >= 2);
}
